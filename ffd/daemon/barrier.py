"""The durable barrier: what was decided is shown only when it is durable. The controller moves it, readers wait at it.

Never here: what is read.
"""

from __future__ import annotations

import asyncio
from collections import deque

from ffd.errors import FfdError


class Barrier:
    """`stepped` is the number of the last commit that was decided, `durable` of the last that is durable."""

    def __init__(self, number: int) -> None:
        self.stepped = number
        self.durable = number
        self._stuck = False
        self._closed: FfdError | None = None
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()  # ascending by number

    async def settled(self) -> bool:
        """Wait until everything decided so far is durable: True. False at once while the storage is full: what is in
        memory then is ahead of the store, for nobody knows how long. Raises the reason when the reign ends first."""
        number = self.stepped
        while self.durable < number:
            if self._closed is not None:
                raise copy_of(self._closed)
            if self._stuck:
                return False
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((number, waiter))
            await waiter
        return True

    def reach(self, number: int) -> None:
        """Commit `number` is durable."""
        self.durable = number
        self._stuck = False
        while self._waiting and self._waiting[0][0] <= number:
            _wake(self._waiting.popleft()[1])

    def stick(self) -> None:
        """The storage is full: nobody waits until the next commit is durable."""
        self._stuck = True
        self._wake_all()

    def close(self, reason: FfdError) -> None:
        """The reign is over."""
        self._closed = reason
        self._wake_all()

    def _wake_all(self) -> None:
        while self._waiting:
            _wake(self._waiting.popleft()[1])


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def copy_of(error: FfdError) -> FfdError:
    """The same error again: one exception object must not be raised in several tasks."""
    return type(error)(error.message, code=error.code, hint=error.hint, field=error.field)
