"""Inputs that hit a bug of ours: found one by one, dropped, and kept from coming back, so that one bad object never
stops another (R6).

A step that raises has spoilt the state, so the reign ends and the next one loads again. It takes the inputs of that
step one at a time; the one that raises alone is dropped: its caller gets an internal error, and a report of the same
fact is dropped when the runtime tells it again. Used by `leader`, `reign` and `watcher`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from ffd.core.commands import AnyCommand
from ffd.core.reports import AnyReport
from ffd.daemon.inbox import Entry, settle
from ffd.errors import FfdError

DROPPED_COUNT = 1_000  # facts remembered; the oldest go first

INTERNAL = FfdError(
    "the daemon hit a bug of its own with this request and dropped it; nothing has changed",
    hint="the daemon's log has the details; please report it",
)


class Poison:
    """What this daemon knows of bad inputs; outlives its reigns. `suspects` are to be taken one at a time."""

    def __init__(self) -> None:
        self.suspects: list[Entry] = []
        self._dropped: dict[Hashable, None] = {}

    def step_failed(self, entries: list[Entry]) -> bool:
        """A step over `entries` raised. True when the culprit is known, and dropped now."""
        if len(entries) > 1:
            self.suspects = [*entries, *self.suspects]
            return False
        for entry in entries:
            settle(entry.waiter, INTERNAL)
            fact = _fact(entry.given)
            if fact is not None:
                self._dropped[fact] = None
            if len(self._dropped) > DROPPED_COUNT:
                del self._dropped[next(iter(self._dropped))]
        return True

    def without(self, reports: Sequence[AnyReport]) -> Sequence[AnyReport]:
        """These reports but the dropped ones."""
        if not self._dropped:
            return reports
        return [report for report in reports if _fact(report) not in self._dropped]

    def close(self, reason: FfdError) -> None:
        """No reign follows."""
        while self.suspects:
            settle(self.suspects.pop().waiter, reason)


def _fact(given: AnyCommand | AnyReport) -> Hashable | None:
    """What a report speaks of, however often and whenever it is told. None: nothing that could come back."""
    if hasattr(given, "attempt"):
        return type(given).__name__, given.attempt, getattr(given, "rank", -1)
    if hasattr(given, "timer"):
        return type(given).__name__, given.timer
    return None
