"""Timers: one heap, one sleeper. What came due becomes TimerFired reports; the core knows whether it still matters.

A timer's instant is given by the wall clock and turned into monotonic time when it is set, so that a jump of the wall
clock moves none that is set already (S18). Timers live in memory: a new reign sets them again. Their number is bounded
by the live tasks (`limits.live_tasks_count`); cleared ones leave the heap lazily, at the latest when they are the most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from heapq import heapify, heappop, heappush

import msgspec

from ffd.core.effects import ClearTimers, SetTimer
from ffd.core.model import AttemptId, Timer
from ffd.core.reports import TimerFired
from ffd.daemon.clock import Alarm, Clock
from ffd.daemon.inbox import Inbox

CLOCK_JUMP_MS = 1_000  # the wall clock moved against the monotonic one by more than this: a jump
LEAST_CLEARED_COUNT = 1_000  # in the heap before a clean-up is worth it

LastSign = Callable[[AttemptId], Awaitable[int]]


class Setting(msgspec.Struct, eq=False):
    """One set timer. `is_set` False: cleared or moved. `wall_offset_ms`: wall minus monotonic time when it was set."""

    timer: Timer
    wall_offset_ms: float
    is_set: bool = True


class Timers:
    """Of one reign. `last_sign` tells the wall-clock instant of an attempt's last sign of life."""

    def __init__(self, clock: Clock, inbox: Inbox, last_sign: LastSign) -> None:
        self._clock = clock
        self._inbox = inbox
        self._last_sign = last_sign
        self._heap: list[tuple[float, int, Setting]] = []
        self._set: dict[int, dict[AttemptId, dict[str, Setting]]] = {}  # by workflow, attempt and kind
        self._count = 0
        self._sequence = 0  # keeps heap entries of one instant in the order they were set
        self._idle: deque[Setting] = deque()  # came due, their signs of life not yet looked at
        self._woken = asyncio.Event()
        self._idle_woken = asyncio.Event()

    def __len__(self) -> int:
        return self._count

    # ------------------------------------------------------------------------------------------------------ effects

    def set(self, effect: SetTimer) -> None:
        """Set it, or move it."""
        timer, wall_ms, now_ms = effect.timer, self._clock.wall_ms(), self._clock.monotonic_ms()
        kinds = self._set.setdefault(timer.attempt.workflow, {}).setdefault(timer.attempt, {})
        self._unset(kinds.pop(timer.kind, None))
        kinds[timer.kind] = setting = Setting(timer, wall_ms - now_ms)
        self._count += 1
        self._sequence += 1
        due_ms = now_ms + max(0, effect.at_ms - wall_ms)
        is_first = not self._heap or due_ms < self._heap[0][0]
        heappush(self._heap, (due_ms, self._sequence, setting))
        if is_first:
            self._woken.set()
        elif len(self._heap) > 2 * self._count + LEAST_CLEARED_COUNT:
            self._heap = [entry for entry in self._heap if entry[2].is_set]
            heapify(self._heap)

    def clear(self, effect: ClearTimers) -> None:
        attempt = effect.attempt
        if attempt.item < 0:
            self.forget(attempt.workflow)
            return
        attempts = self._set.get(attempt.workflow)
        if attempts is not None:
            for setting in attempts.pop(attempt, {}).values():
                self._unset(setting)
            if not attempts:
                del self._set[attempt.workflow]

    def forget(self, workflow: int) -> None:
        """All timers of a workflow."""
        for kinds in self._set.pop(workflow, {}).values():
            for setting in kinds.values():
                self._unset(setting)

    def _unset(self, setting: Setting | None) -> None:
        if setting is not None:
            setting.is_set = False
            self._count -= 1

    # -------------------------------------------------------------------------------------------------------- firing

    async def fire_all(self) -> None:
        """Sleep until the first comes due, report what did, and again. Until cancelled."""
        while True:
            alarm = self._alarm()
            try:
                await self._woken.wait()
            finally:
                if alarm is not None:
                    alarm.cancel()
            self._woken.clear()
            await self._inbox.report(self._due())

    def _alarm(self) -> Alarm | None:
        return self._clock.call_at(self._heap[0][0], self._woken.set) if self._heap else None

    def _due(self) -> list[TimerFired]:
        """Take what came due out of the heap. Idle timers wait for their signs of life elsewhere."""
        now_ms, fired = self._clock.monotonic_ms(), []
        while self._heap and (self._heap[0][0] <= now_ms or not self._heap[0][2].is_set):
            setting = heappop(self._heap)[2]
            if not setting.is_set:
                continue
            self._drop(setting)
            if setting.timer.kind == "idle":
                self._idle.append(setting)
                self._idle_woken.set()
            else:
                fired.append(TimerFired(setting.timer))
        return fired

    def _drop(self, setting: Setting) -> None:
        attempt = setting.timer.attempt
        attempts = self._set[attempt.workflow]
        del attempts[attempt][setting.timer.kind]
        if not attempts[attempt]:
            del attempts[attempt]
        if not attempts:
            del self._set[attempt.workflow]
        self._unset(setting)

    async def fire_idle(self) -> None:
        """Report idle timers with the last sign of life: looking at a log takes a while. Until cancelled."""
        while True:
            while not self._idle:
                self._idle_woken.clear()
                await self._idle_woken.wait()
            setting = self._idle.popleft()
            active_at_ms = await self._last_sign(setting.timer.attempt)
            wall_ms = self._clock.wall_ms()
            if abs(wall_ms - self._clock.monotonic_ms() - setting.wall_offset_ms) > CLOCK_JUMP_MS:
                active_at_ms = wall_ms  # the wall clock jumped: older instants mean nothing, so it waits once more
            await self._inbox.report([TimerFired(setting.timer, active_at_ms)])
