"""Who holds a reservation now: all attempts from their admission to their end, oldest first, and those of each tenant.

An index of State: filled by `State.apply` and loading, read by the scheduler. Never here: what they hold (their rows).
"""

from __future__ import annotations

from collections.abc import Iterator

from ffd.core.live import LiveWorkflow
from ffd.core.model import AttemptId


class Holders:
    """`sequence` of an attempt: its place in the order of admission (after a restart: in the order of workflows)."""

    __slots__ = ("_by_tenant", "_count", "_live")

    def __init__(self) -> None:
        self._live: dict[AttemptId, tuple[int, LiveWorkflow]] = {}
        self._by_tenant: dict[str, dict[AttemptId, tuple[int, LiveWorkflow]]] = {}
        self._count = 0

    def add(self, attempt: AttemptId, live: LiveWorkflow) -> None:
        self._count += 1
        self._live[attempt] = found = (self._count, live)
        self._by_tenant.setdefault(live.tenant.path, {})[attempt] = found

    def remove(self, attempt: AttemptId) -> None:
        """Raises KeyError for one that holds nothing (our bug)."""
        tenant = self._live.pop(attempt)[1].tenant.path
        mine = self._by_tenant[tenant]
        del mine[attempt]
        if not mine:
            del self._by_tenant[tenant]

    def clear(self) -> None:
        self._live.clear()
        self._by_tenant.clear()

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
