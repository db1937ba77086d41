"""The inbox: commands and reports that wait for the writer, in the order they came. Bounded by `limits.inbox_count`.

A full inbox refuses commands (Unavailable: safe to retry, names the limit) and makes reporters wait: the watcher then
stops reading, and the runtime holds on to what it saw. Filled by the engine, the watcher and the timers; emptied by the
controller alone. Never here: what an input means.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ffd.core.commands import Answer, AnyCommand, Command
from ffd.core.reports import AnyReport, Poke
from ffd.daemon.barrier import copy_of
from ffd.daemon.failpoints import Failpoints
from ffd.errors import FfdError, Unavailable

Waiter = asyncio.Future[Answer | None]


class Entry(NamedTuple):
    """One input, and who waits for its answer (None: nobody)."""

    given: AnyCommand | AnyReport
    waiter: Waiter | None


class Inbox:
    """One per reign: what was not taken when it closes is answered with the reason."""

    def __init__(self, limit_count: int, failpoints: Failpoints) -> None:
        self._limit_count = limit_count
        self._failpoints = failpoints
        self._entries: deque[Entry] = deque()
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._is_poked = False
        self._refusal: FfdError | None = None
        self._closed: FfdError | None = None

    def __len__(self) -> int:
        return len(self._entries)

    # ---------------------------------------------------------------------------------------------- who fills it

    async def ask(self, command: AnyCommand) -> Answer:
        """The answer, once durable. A caller that goes away meanwhile changes nothing: the command is carried out.
        Raises what the core refused with; Unavailable when full or closed; the reason given to `refuse_commands`."""
        reason = self._closed or self._refusal
        if reason is not None:
            raise copy_of(reason)
        if len(self._entries) >= self._limit_count:
            raise Unavailable(
                f"{len(self._entries)} commands and reports wait for the daemon (limits.inbox_count)",
                field="limits.inbox_count", hint="call again in a moment",
            )  # fmt: skip
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._put(Entry(command, waiter))
        await self._failpoints.reach("inbox.accepted")
        answer = await waiter
        assert answer is not None
        return answer

    async def tell(self, report: AnyReport) -> None:
        """Hand over a fact of the SDK, waiting for room; returns once durable, raises what the core refused with."""
        await self._wait_for_room()
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._put(Entry(report, waiter))
        await waiter

    async def report(self, reports: Sequence[AnyReport]) -> None:
        """Hand over facts, waiting for room as often as needed. Returns when all are in; nobody waits for them."""
        start = 0
        while start < len(reports):
            await self._wait_for_room()
            room = self._limit_count - len(self._entries)
            self._entries.extend(Entry(report, None) for report in reports[start : start + room])
            self._filled.set()
            start += room

    def poke(self) -> None:
        """Ask for one more step, behind what waits now. Never refused, and never more than one waits."""
        if not self._is_poked:
            self._is_poked = True
            self._put(Entry(Poke(), None))

    def _put(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._filled.set()

    async def _wait_for_room(self) -> None:
        while len(self._entries) >= self._limit_count and not self._closed:
            self._room.clear()
            await self._room.wait()
        if self._closed:
            raise copy_of(self._closed)

    # --------------------------------------------------------------------------------------------- who empties it

    async def take(self, most: int, gather: int = 1, is_free: Callable[[], bool] = lambda: True) -> list[Entry]:
        """Up to `most` entries, oldest first; waits for one, and for `gather` while what they are for is not free
        (`wake` tells when it may be)."""
        while not self._entries or (len(self._entries) < gather and not is_free()):
            self._filled.clear()
            await self._filled.wait()
        entries = self._entries
        taken = [entries.popleft() for _ in range(min(most, len(entries)))]
        if self._is_poked and any(type(entry.given) is Poke for entry in taken):
            self._is_poked = False
        self._room.set()
        return taken

    def wake(self) -> None:
        """Have `take` ask again whether it is free."""
        self._filled.set()

    def refuse_commands(self, reason: FfdError | None) -> None:
        """While `reason` is set no command gets in, and those that wait are answered with it. Reports go on."""
        self._refusal = reason
        if reason is not None:
            waiting, self._entries = self._entries, deque()
            for entry in waiting:
                if isinstance(entry.given, Command):
                    settle(entry.waiter, reason)
                else:
                    self._entries.append(entry)
            self._room.set()

    def close(self, reason: FfdError) -> None:
        """The reign is over: nothing gets in any more; who waits gets the reason."""
        self._closed = reason
        self._room.set()
        while self._entries:
            settle(self._entries.popleft().waiter, reason)


def settle(waiter: Waiter | None, answer: Answer | FfdError | None) -> None:
    """Give the answer, if somebody waits for it and is still there."""
    if waiter is None or waiter.done():
        return
    if isinstance(answer, FfdError):
        waiter.set_exception(copy_of(answer))
    else:
        waiter.set_result(answer)
