"""How long tasks take: what they declare (`timeout.run`), else what was learnt from those of their name before.

An index of State, kept in rows: each name keeps its count and a mean that forgets slowly. Bounded: the name that was
learnt first makes room. Never here: deciding anything; a forecast only ever moves who may go ahead of whom.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ffd.core.model import Learnt
from ffd.core.spec import Task

LEARN_FROM_MS: Final = 1_000  # shorter attempts teach nothing that matters, and would cost a row each
SLOW_COUNT: Final = 10  # samples after which a new one counts for a tenth

NOTHING: Final[dict[str, Learnt]] = {}


class Forecast:
    """Learnt durations by series (`project/workflow name`) and task; their names are `project/workflow name/task`.
    Slots name the rows."""

    __slots__ = ("_bound_count", "_found", "_slots", "next_sequence")

    def __init__(self, bound_count: int) -> None:
        self._bound_count = bound_count
        self._slots: dict[int, tuple[str, str]] = {}  # -> series, task
        self._found: dict[str, dict[str, Learnt]] = {}
        self.next_sequence = 0

    def learn(self, series: str, task: str, duration_ms: int) -> tuple[int, Learnt]:
        """One more attempt succeeded. Returns the slot and what its row holds now."""
        known = self.learnt(series, task)
        if known is None:
            learnt = (self.next_sequence, f"{series}/{task}", 1, duration_ms)
            return self._take(series, task, learnt), learnt
        sequence, name, count, mean_ms = known
        count += 1
        learnt = (sequence, name, count, mean_ms + (duration_ms - mean_ms) // min(count, SLOW_COUNT))
        self._found[series][task] = learnt
        return sequence % self._bound_count, learnt

    def keep(self, learnt: Learnt) -> None:
        """Take in a row as stored; the name that had its slot is forgotten."""
        series, _, task = learnt[1].rpartition("/")
        self._take(series, task, learnt)

    def _take(self, series: str, task: str, learnt: Learnt) -> int:
        sequence = learnt[0]
        slot = sequence % self._bound_count
        old = self._slots.get(slot)
        if old is not None:
            self._forget(*old, slot)
        self._slots[slot] = (series, task)
        self._found.setdefault(series, {})[task] = learnt
        self.next_sequence = max(self.next_sequence, sequence + 1)
        return slot

    def _forget(self, series: str, task: str, slot: int) -> None:
        """Unless it has another slot by now (rows may be of a time when there were more)."""
        known = self.learnt(series, task)
        if known is not None and known[0] % self._bound_count == slot:
            del self._found[series][task]
            if not self._found[series]:
                del self._found[series]

    def of(self, series: str) -> dict[str, Learnt]:
        """What is learnt of its tasks. Read-only."""
        return self._found.get(series, NOTHING)

    def learnt(self, series: str, task: str) -> Learnt | None:
        return self.of(series).get(task)

    def duration_ms(self, series: str, task: Task) -> int:
        """How long an attempt of this task takes, about; 0 = nobody knows."""
        declared_ms = task.timeouts.run_ms
        if declared_ms:
            return declared_ms
        found = self.learnt(series, task.name)
        return found[3] if found is not None else 0

    def __iter__(self) -> Iterator[Learnt]:
        """All that is learnt."""
        for tasks in self._found.values():
            yield from tasks.values()
