"""How long tasks take: what they declare (`timeout.run`), else what was learnt from those of their name before.

An index of State, kept in rows: each name keeps its count and a mean that forgets slowly. Bounded: the name that was
learnt first makes room. Never here: deciding anything; a forecast only ever moves who may go ahead of whom.
"""

from __future__ import annotations

from ffd.core.spec import Task

LEARN_FROM_MS = 1_000  # shorter attempts teach nothing that matters, and would cost a row each
SLOW_COUNT = 10  # samples after which a new one counts for a tenth

Learnt = tuple[int, str, int, int]  # sequence (its slot is sequence % bound), name, attempts, mean_ms


class Forecast:
    """Learnt durations by `project/workflow name/task`. Slots name the rows."""

    __slots__ = ("_bound_count", "_slots", "found", "names", "next_sequence")

    def __init__(self, bound_count: int) -> None:
        self._bound_count = bound_count
        self._slots: dict[int, str] = {}
        self.next_sequence = 0
        self.found: dict[str, Learnt] = {}
        self.names: dict[str, int] = {}  # `project/workflow name` -> tasks with something learnt

    def learn(self, name: str, duration_ms: int) -> tuple[int, Learnt]:
        """One more attempt succeeded. Returns the slot and what its row holds now."""
        sequence, _, count, mean_ms = self.found.get(name) or (self.next_sequence, name, 0, 0)
        count += 1
        mean_ms += (duration_ms - mean_ms) // min(count, SLOW_COUNT)
        return self.keep((sequence, name, count, mean_ms)), self.found[name]

    def keep(self, learnt: Learnt) -> int:
        """Take in a row, new or as stored. Returns its slot; the name that had it is forgotten."""
        sequence, name = learnt[:2]
        slot = sequence % self._bound_count
        old = self._slots.get(slot)
        if old is not None and old != name:
            del self.found[old]
            self._count(old, -1)
        if name not in self.found:
            self._count(name, 1)
        self._slots[slot] = name
        self.found[name] = learnt
        self.next_sequence = max(self.next_sequence, sequence + 1)
        return slot

    def _count(self, name: str, by: int) -> None:
        whose = name.rpartition("/")[0]
        self.names[whose] = self.names.get(whose, 0) + by
        if not self.names[whose]:
            del self.names[whose]

    def duration_ms(self, project: str, workflow: str, task: Task) -> int:
        """How long an attempt of this task takes, about; 0 = nobody knows."""
        if task.timeouts.run_ms:
            return task.timeouts.run_ms
        found = self.found.get(f"{project}/{workflow}/{task.name}") if self.found else None
        return found[3] if found else 0

    def basis(self, project: str, workflow: str, task: Task) -> str:
        """Where `duration_ms` comes from, in words; "" when nobody knows."""
        if task.timeouts.run_ms:
            return "its timeout.run"
        found = self.found.get(f"{project}/{workflow}/{task.name}")
        return f"the mean of {found[2]} attempts before" if found else ""
