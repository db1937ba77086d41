"""An event loop for deterministic simulation: virtual time, seeded order of ready tasks, no sockets, no threads.

Time stands still while anything is ready, then jumps to the next timer: a simulated day costs what its events cost,
and two runs with one seed are equal. Used by `ffd.testing.simulation` and by tests of the shell; never by the product.

Facts learnt on a prototype: only task wake-ups may be shuffled (plain callbacks rely on FIFO); anyio's retry of a
cancellation spins under a clock that does not move, so its handle is parked until time moves.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any, TypeVar

from anyio._backends._asyncio import CancelScope

T = TypeVar("T")

SPIN_LIMIT = 200_000  # callbacks at one instant: more is a busy loop (R2)


class BusyLoop(AssertionError):
    """Something spins: many callbacks ran and virtual time did not move."""


class Deadlock(AssertionError):
    """Nothing is ready and no timer is set, yet the simulation is not over."""


class _NoSelector(selectors.BaseSelector):
    """Stands where the selector would be; a simulation has no file descriptors to wait for."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return []

    def get_map(self) -> Any:
        return {}


class SimLoop(asyncio.SelectorEventLoop):
    """`run(main)` drives a coroutine to its end in virtual time. `now_ms` is the virtual wall clock too."""

    def __init__(self, seed: int = 0, start_at_ms: int = 1_700_000_000_000) -> None:
        super().__init__(_NoSelector())
        self.random = Random(f"loop-{seed}")
        self._virtual_s = 0.0
        self._start_at_ms = start_at_ms
        self._spins = 0

    def time(self) -> float:
        return self._virtual_s

    def now_ms(self) -> int:
        return self._start_at_ms + round(self._virtual_s * 1000)

    def _run_once(self) -> None:
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        parked = [handle for handle in ready if _is_cancel_retry(handle)]
        if len(parked) == len(ready):
            self._advance(scheduled, bool(parked))
        while scheduled and scheduled[0].when() <= self._virtual_s:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            ready.append(timer)
        self._shuffle(ready)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                self._spins += 1
                handle._run()
        if self._spins > SPIN_LIMIT:
            raise BusyLoop(f"more than {SPIN_LIMIT} callbacks at {self._virtual_s:.3f} s")

    def _advance(self, scheduled: list[asyncio.TimerHandle], is_parked: bool) -> None:
        """Nothing but parked retries is ready: let time move."""
        before_s = self._virtual_s
        if scheduled:
            self._virtual_s = max(self._virtual_s, scheduled[0].when())
        elif is_parked:
            self._virtual_s += 0.001
        elif not self._stopping:  # type: ignore[attr-defined]
            raise Deadlock(f"nothing can happen any more at {self._virtual_s:.3f} s")
        if self._virtual_s > before_s:
            self._spins = 0

    def _shuffle(self, ready: deque[asyncio.Handle]) -> None:
        """Swap task wake-ups among the places that task wake-ups hold."""
        places = [k for k, handle in enumerate(ready) if _is_wakeup(handle)]
        if len(places) < 2:
            return
        handles = [ready[k] for k in places]
        self.random.shuffle(handles)
        for k, handle in zip(places, handles, strict=True):
            ready[k] = handle


def _is_wakeup(handle: asyncio.Handle) -> bool:
    return isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)  # type: ignore[attr-defined]


def _is_cancel_retry(handle: asyncio.Handle) -> bool:
    return getattr(handle._callback, "__name__", "") == "_deliver_cancellation"  # type: ignore[attr-defined]


class SimTask(asyncio.Task[Any]):
    """A task that hashes by its number: anyio walks sets of tasks when it cancels; their order must not be chance."""

    numbers = count()  # only their order matters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._number = next(SimTask.numbers)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


@contextmanager
def ordered_scopes() -> Iterator[None]:
    """Gives anyio's cancel scopes an order for the same reason, for the length of one simulation."""
    numbers: dict[int, tuple[int, Any]] = {}  # by id; holds on to the scope, so that no id is used twice

    def number(scope: Any) -> int:
        return numbers.setdefault(id(scope), (len(numbers), scope))[0]

    before = CancelScope.__hash__
    CancelScope.__hash__ = number  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        CancelScope.__hash__ = before  # type: ignore[method-assign]


def simulate(main: Coroutine[Any, Any, T], seed: int = 0) -> T:
    """Run one simulation to its end and close its loop."""

    def make_loop() -> SimLoop:
        loop = SimLoop(seed)
        loop.set_task_factory(lambda loop, coro, **more: SimTask(coro, loop=loop, **more))
        return loop

    with ordered_scopes(), asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(main)
