"""Who holds a reservation now: all attempts from their admission to their end, oldest first, and those of each tenant.

An index of State: filled by `State.apply` and loading, read by the scheduler. Never here: what they hold (their rows).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ffd.core.live import LiveWorkflow
from ffd.core.model import AttemptId

End = tuple[int, int, AttemptId]  # when, sequence, who


class Holders:
    """`sequence` of an attempt: its place in the order of admission (after a restart: in the order of workflows).
    `gpu_stamp` grows with each change among those that hold GPUs. `ends` belongs to `core.schedule.ends`; `_fresh`:
    attempts that are not in it yet, or whose end is another now."""

    __slots__ = ("_by_tenant", "_count", "_fresh", "_live", "ends", "gpu_stamp")

    def __init__(self) -> None:
        self._live: dict[AttemptId, tuple[int, LiveWorkflow]] = {}
        self._by_tenant: dict[str, dict[AttemptId, tuple[int, LiveWorkflow]]] = {}
        self._count = 0
        self._fresh: dict[AttemptId, None] = {}
        self.ends: list[End] = []
        self.gpu_stamp = 0

    def add(self, attempt: AttemptId, live: LiveWorkflow) -> None:
        self._count += 1
        self._live[attempt] = found = (self._count, live)
        self._by_tenant.setdefault(live.tenant.path, {})[attempt] = found
        self._fresh[attempt] = None
        self.changed(attempt, live)

    def changed(self, attempt: AttemptId, live: LiveWorkflow) -> None:
        """It holds something, or no more, or in another way."""
        if live.dag.tasks[attempt.task].resources.gpu_count:
            self.gpu_stamp += 1

    def remove(self, attempt: AttemptId) -> None:
        """Raises KeyError for one that holds nothing (our bug)."""
        live = self._live.pop(attempt)[1]
        tenant = live.tenant.path
        self.changed(attempt, live)
        self._fresh.pop(attempt, None)
        mine = self._by_tenant[tenant]
        del mine[attempt]
        if not mine:
            del self._by_tenant[tenant]

    def renew(self, attempt: AttemptId) -> None:
        """It will end at another time than was thought: it is being stopped."""
        self._fresh[attempt] = None
        self.gpu_stamp += 1

    def take_fresh(self) -> list[tuple[int, AttemptId]]:
        """(sequence, attempt) of those whose ends are to be worked out."""
        fresh, self._fresh = self._fresh, {}
        return [(self._live[attempt][0], attempt) for attempt in fresh if attempt in self._live]

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Attempts that come within it, and go again, and ends that are worked out for them, leave no trace."""
        before = self.ends, dict(self._fresh), self._count
        self.ends = list(self.ends)
        try:
            yield
        finally:
            self.ends, self._fresh, self._count = before

    def forget_ends(self) -> None:
        """All ends are to be worked out anew."""
        self.ends = []
        self._fresh = dict.fromkeys(self._live)

    def clear(self) -> None:
        self._live.clear()
        self._by_tenant.clear()

    def __contains__(self, attempt: AttemptId) -> bool:
        return attempt in self._live

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[AttemptId]:
        return iter(self._live)

    def items(self) -> Iterator[tuple[AttemptId, LiveWorkflow]]:
        return ((attempt, live) for attempt, (_, live) in self._live.items())

    def tenants(self) -> Iterator[str]:
        """Paths of those that hold something."""
        return iter(self._by_tenant)

    def of(self, tenant: str) -> Iterator[tuple[int, AttemptId, LiveWorkflow]]:
        """(sequence, attempt, its workflow) of one tenant, oldest first."""
        return ((sequence, attempt, live) for attempt, (sequence, live) in self._by_tenant.get(tenant, {}).items())
