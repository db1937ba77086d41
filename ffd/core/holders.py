"""Who holds a reservation now: all attempts from their admission to their end, oldest first, and those of each tenant.

An index of State: filled by `State.apply` and loading, read by the scheduler. Never here: what they hold (their rows).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ffd.core.live import LiveWorkflow
from ffd.core.model import AttemptId

End = tuple[int, int, AttemptId]  # when, sequence, who
Held = tuple[int, AttemptId, LiveWorkflow]  # sequence, who, of which workflow


class Holders:
    """`sequence` of an attempt: its place in the order of admission (after a restart: in the order of workflows).
    `with_gpus`: those that hold GPUs or slices of some. `stamp` grows with each change, `gpu_stamp` with each among
    those. `stopping`: those that are told to stop. `ends` belongs to `core.schedule.ends`; `_fresh`: attempts that are
    not in it yet, or whose end is another now."""

    __slots__ = (
        "_by_tenant", "_count", "_fresh", "_gpus_by_tenant", "_live", "_lowest", "ends", "gpu_stamp", "stamp",
        "stopping", "with_gpus",
    )  # fmt: skip

    def __init__(self) -> None:
        self._live: dict[AttemptId, Held] = {}
        self._by_tenant: dict[str, dict[AttemptId, Held]] = {}
        self._gpus_by_tenant: dict[str, dict[AttemptId, Held]] = {}
        self._lowest: dict[str, int] = {}  # by tenant: none of its attempts has a lower priority
        self._count = 0
        self._fresh: dict[AttemptId, None] = {}
        self.ends: list[End] = []
        self.with_gpus: set[AttemptId] = set()  # only asked
        self.stopping: dict[AttemptId, None] = {}
        self.stamp = 0
        self.gpu_stamp = 0

    def add(self, attempt: AttemptId, live: LiveWorkflow) -> None:
        self._count += 1
        self._live[attempt] = held = (self._count, attempt, live)
        self._by_tenant.setdefault(live.tenant.path, {})[attempt] = held
        self._fresh[attempt] = None
        self.has_priority(live)
        self.stamp += 1
        ask = live.dag.tasks[attempt.task].resources
        if ask.gpu_count or ask.mig_count:
            self._gpus_by_tenant.setdefault(live.tenant.path, {})[attempt] = held
            self.with_gpus.add(attempt)
            self.gpu_stamp += 1

    def has_priority(self, live: LiveWorkflow) -> None:
        """An attempt of it holds something, or it has another priority now."""
        path, priority = live.tenant.path, live.row.priority
        if path in self._by_tenant:
            self._lowest[path] = min(priority, self._lowest.get(path, priority))

    def are_below(self, priority: int, tenant: str) -> bool:
        """Does this tenant hold something for a workflow of a lower priority? Walked only where that may be so."""
        held = self._by_tenant.get(tenant)
        if not held or self._lowest[tenant] >= priority:
            return False
        return any(live.row.priority < priority for _, _, live in held.values())

    def changed(self, attempt: AttemptId) -> None:
        """What it is to others is another thing now: it can be stopped."""
        self.stamp += 1
        self.gpu_stamp += attempt in self.with_gpus

    def remove(self, attempt: AttemptId) -> None:
        """Raises KeyError for one that holds nothing (our bug)."""
        tenant = self._live.pop(attempt)[2].tenant.path
        self._fresh.pop(attempt, None)
        self.stopping.pop(attempt, None)
        self.stamp += 1
        _drop(self._by_tenant, tenant, attempt)
        if tenant not in self._by_tenant:
            del self._lowest[tenant]
        if attempt in self.with_gpus:
            _drop(self._gpus_by_tenant, tenant, attempt)
            self.with_gpus.remove(attempt)
            self.gpu_stamp += 1

    def stop(self, attempt: AttemptId) -> None:
        """It is being stopped, and will end at another time than was thought."""
        self.stopping[attempt] = self._fresh[attempt] = None
        self.stamp += 1
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
        for index in (self._live, self._by_tenant, self._gpus_by_tenant, self._lowest, self.with_gpus, self.stopping):
            index.clear()

    def __contains__(self, attempt: AttemptId) -> bool:
        return attempt in self._live

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[AttemptId]:
        return iter(self._live)

    def items(self) -> Iterator[tuple[AttemptId, LiveWorkflow]]:
        return ((attempt, live) for _, attempt, live in self._live.values())

    def tenants(self) -> Iterator[str]:
        """Paths of those that hold something."""
        return iter(self._by_tenant)

    def of(self, tenant: str, *, with_gpus: bool = False) -> Iterable[Held]:
        """Those of one tenant, oldest first; `with_gpus`: only who holds some."""
        return (self._gpus_by_tenant if with_gpus else self._by_tenant).get(tenant, {}).values()


def _drop(index: dict[str, dict[AttemptId, Held]], tenant: str, attempt: AttemptId) -> None:
    mine = index[tenant]
    del mine[attempt]
    if not mine:
        del index[tenant]
