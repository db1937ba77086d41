"""What tasks say that is never stored: signs of life, progress, barriers. Lost with the daemon, and told again.

Kept per live attempt, dropped when it is settled or its workflow leaves memory; so bounded by what is live. Filled and
read by the engine. Never here: whether an attempt is the live one.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ffd.api.engine import BarrierState
from ffd.core.model import AttemptId
from ffd.daemon.barrier import copy_of
from ffd.errors import FfdError, Refusal

PROGRESS_COUNT = 100  # names a replica may tell progress of, kept together


class Meeting:
    """One barrier: who arrived, and the others that wait. `broken`: nobody else will come."""

    __slots__ = ("_over", "arrived", "broken", "replicas")

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        self.arrived: dict[int, None] = {}
        self.broken: FfdError | None = None
        self._over = asyncio.Event()

    @property
    def is_passed(self) -> bool:
        return len(self.arrived) >= self.replicas

    def arrive(self, rank: int) -> bool:
        """True the first time."""
        is_new = rank not in self.arrived
        self.arrived[rank] = None
        if self.is_passed:
            self._over.set()
        return is_new

    def break_up(self, reason: FfdError) -> None:
        if not self.is_passed:
            self.broken = reason
            self._over.set()

    async def passed(self) -> BarrierState:
        """Wait until all are there. Raises the reason when that cannot be any more."""
        await self._over.wait()
        if self.broken is not None:
            raise copy_of(self.broken)
        return BarrierState(len(self.arrived), self.replicas, self.is_passed)


class Signs:
    """Of one attempt."""

    __slots__ = ("active_at_ms", "meetings", "progress")

    def __init__(self) -> None:
        self.active_at_ms = 0
        self.progress: dict[int, dict[str, Any]] = {}  # by rank, the latest
        self.meetings: dict[str, Meeting] = {}


class Ephemeral:
    """Of one reign. `barriers_count`: kept of one attempt (`limits.barriers_count`)."""

    def __init__(self, barriers_count: int) -> None:
        self._barriers_count = barriers_count
        self._workflows: dict[int, dict[AttemptId, Signs]] = {}

    def __len__(self) -> int:
        return sum(len(attempts) for attempts in self._workflows.values())

    def _of(self, attempt: AttemptId) -> Signs:
        attempts = self._workflows.setdefault(attempt.workflow, {})
        found = attempts.get(attempt)
        if found is None:
            found = attempts[attempt] = Signs()
        return found

    def alive(self, attempt: AttemptId, at_ms: int) -> None:
        self._of(attempt).active_at_ms = at_ms

    def progressed(self, attempt: AttemptId, rank: int, values: dict[str, Any], at_ms: int) -> None:
        signs = self._of(attempt)
        signs.active_at_ms = at_ms
        merged = {**signs.progress.get(rank, {}), **values}
        signs.progress[rank] = merged if len(merged) <= PROGRESS_COUNT else values

    def active_at_ms(self, attempt: AttemptId) -> int:
        """The last sign of life; 0 = none."""
        found = self._workflows.get(attempt.workflow, {}).get(attempt)
        return found.active_at_ms if found else 0

    def progress(self, workflow: int) -> dict[AttemptId, dict[str, Any]]:
        """What each live attempt of a workflow told last: its lowest rank speaks for the gang."""
        attempts = self._workflows.get(workflow, {})
        return {attempt: signs.progress[min(signs.progress)] for attempt, signs in attempts.items() if signs.progress}

    def arrive(self, attempt: AttemptId, rank: int, name: str, replicas: int) -> tuple[Meeting, bool]:
        """Rank `rank` is at the barrier `name` (idempotent); True the first time. Refusal (limit): too many."""
        meetings = self._of(attempt).meetings
        found = meetings.get(name)
        if found is None:
            if len(meetings) >= self._barriers_count:
                _make_room(meetings)
            found = meetings[name] = Meeting(replicas)
        return found, found.arrive(rank)

    def settle(self, attempt: AttemptId) -> None:
        """The attempt is over."""
        attempts = self._workflows.get(attempt.workflow, {})
        signs = attempts.pop(attempt, None)
        if signs is not None:
            _break_up(signs, Refusal(f"{attempt.label()} is not the live attempt any more", code="superseded"))
            if not attempts:
                del self._workflows[attempt.workflow]

    def forget(self, workflow: int) -> None:
        for attempt in list(self._workflows.get(workflow, ())):
            self.settle(attempt)

    def close(self, reason: FfdError) -> None:
        """The reign is over: who waits at a barrier arrives again at the next one's."""
        for attempts in self._workflows.values():
            for signs in attempts.values():
                _break_up(signs, reason)


def _break_up(signs: Signs, reason: FfdError) -> None:
    for meeting in signs.meetings.values():
        meeting.break_up(reason)


def _make_room(meetings: dict[str, Meeting]) -> None:
    """Drop the oldest barrier that everybody passed."""
    for name, meeting in meetings.items():
        if meeting.is_passed:
            del meetings[name]
            return
    raise Refusal(
        f"{len(meetings)} barriers of this attempt are waited at, more are not kept", code="limit",
        field="limits.barriers_count", hint="use fewer names",
    )  # fmt: skip
