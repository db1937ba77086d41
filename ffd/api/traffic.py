"""What is under way on one server, gRPC and HTTP together: streams are limited, and a stopping server ends all of it.

A stream that the server ends fails with Unavailable, so that its client resumes elsewhere with its last token. Calls
get a grace to finish first.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import anyio

from ffd.api.limits import ApiLimits, over
from ffd.errors import Unavailable

T = TypeVar("T")


class Traffic:
    """The calls and open streams of one server."""

    def __init__(self, limits: ApiLimits) -> None:
        self._limits = limits
        self._streams: set[anyio.CancelScope] = set()
        self._counted = 0
        self._calls_count = 0
        self._stopped = False
        self._quiet = anyio.Event()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around one call. Unavailable when the server stops."""
        if self._stopped:
            raise _stopping()
        self._calls_count += 1
        try:
            yield
        finally:
            self._calls_count -= 1
            if self._stopped and not self._calls_count:
                self._quiet.set()

    @contextmanager
    def stream(self, *, counted: bool = True) -> Iterator[None]:
        """Around the life of one stream, within `call`. Unavailable as soon as the server stops. Refusal (limit) when
        there are too many; one that is not `counted` is always admitted."""
        if counted and self._counted >= self._limits.watchers_count:
            hint = "close a stream that nobody reads"
            raise over("watchers_count", "there are already", self._limits.watchers_count, hint)
        scope = anyio.CancelScope()
        self._streams.add(scope)
        self._counted += counted
        try:
            with scope:
                yield
        finally:
            self._streams.discard(scope)
            self._counted -= counted
        if scope.cancelled_caught:
            raise _stopping()

    async def stop(self, grace_ms: int) -> None:
        """Take no more calls, end the streams, and wait until all is quiet or the grace is over. Idempotent."""
        self._stopped = True
        for scope in self._streams:
            scope.cancel()
        if self._calls_count:
            with anyio.move_on_after(grace_ms / 1000):
                await self._quiet.wait()


def _stopping() -> Unavailable:
    return Unavailable("the daemon is stopping", hint="call again when it is back")


@asynccontextmanager
async def closing(pages: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """The iterator, closed at the end also when it was left half-way (an engine gives up its subscription then)."""
    try:
        yield pages
    finally:
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()


def only_error(errors: BaseException) -> BaseException:
    """A task group wraps even a single error; the caller is to see that one as it was raised."""
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return errors
