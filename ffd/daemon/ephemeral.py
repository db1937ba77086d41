"""What tasks say that is never stored: signs of life, progress, barriers. Lost with the daemon, and told again.

Kept per live attempt, dropped when it is settled or its workflow leaves memory; so bounded by what is live. Filled and
read by the engine. Never here: whether an attempt is the live one.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ffd.api.engine import BarrierState
from ffd.core.model import AttemptId
from ffd.errors import Refusal

BARRIERS_COUNT = 1_000  # of one attempt; passed ones make room


class Meeting:
    """One barrier: who arrived, and the others that wait."""

    __slots__ = ("arrived", "passed", "replicas")

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        self.arrived: dict[int, None] = {}
        self.passed = asyncio.Event()

    def state(self) -> BarrierState:
        return BarrierState(len(self.arrived), self.replicas, self.passed.is_set())


class Signs:
    """Of one attempt."""

    __slots__ = ("active_at_ms", "meetings", "progress")

    def __init__(self) -> None:
        self.active_at_ms = 0
        self.progress: dict[int, dict[str, Any]] = {}  # by rank, the latest
        self.meetings: dict[str, Meeting] = {}


class Ephemeral:
    """Of one reign."""

    def __init__(self) -> None:
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
        signs.progress[rank] = values

    def active_at_ms(self, attempt: AttemptId) -> int:
        """The last sign of life; 0 = none."""
        found = self._workflows.get(attempt.workflow, {}).get(attempt)
        return found.active_at_ms if found else 0

    def progress(self, workflow: int) -> dict[AttemptId, dict[str, Any]]:
        """What each live attempt of a workflow told last: its lowest rank speaks for the gang."""
        attempts = self._workflows.get(workflow, {})
        return {attempt: signs.progress[min(signs.progress)] for attempt, signs in attempts.items() if signs.progress}

    def arrive(self, attempt: AttemptId, rank: int, name: str, replicas: int) -> Meeting:
        """Rank `rank` is at the barrier `name` (idempotent). Refusal (limit): too many are open."""
        meetings = self._of(attempt).meetings
        found = meetings.get(name)
        if found is None:
            if len(meetings) >= BARRIERS_COUNT:
                _make_room(meetings)
            found = meetings[name] = Meeting(replicas)
        found.arrived[rank] = None
        if len(found.arrived) >= replicas:
            found.passed.set()
        return found

    def settle(self, attempt: AttemptId) -> None:
        """The attempt is over."""
        attempts = self._workflows.get(attempt.workflow)
        if attempts is not None:
            attempts.pop(attempt, None)
            if not attempts:
                del self._workflows[attempt.workflow]

    def forget(self, workflow: int) -> None:
        self._workflows.pop(workflow, None)


def _make_room(meetings: dict[str, Meeting]) -> None:
    """Drop the oldest barrier that everybody passed."""
    for name, meeting in meetings.items():
        if meeting.passed.is_set():
            del meetings[name]
            return
    raise Refusal(
        f"{len(meetings)} barriers of this attempt are waited at, more are not kept", code="limit",
        field="limits.barriers_count", hint="use fewer names",
    )  # fmt: skip
