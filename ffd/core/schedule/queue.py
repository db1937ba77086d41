"""Who goes before a waiting gang, and why: tenants by their shares, level by level; inside its project by priority,
what waiting earned, and submit order. Bounded: it looks at so many tenants and gangs, not at all that wait.

Called by `explain`. Never here: the order itself (admit.order).
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from ffd.core.admit.order import bonus_of, key_of
from ffd.core.admit.share import BILLION
from ffd.core.kinds import Branch, Entry, Key, Lane
from ffd.core.schedule.subject import Sight, Subject, counted, entry_of, some
from ffd.core.state import State

TENANTS_LOOKED_COUNT = 1_000  # at each level
GANGS_LOOKED_COUNT = 1_000  # of its own project


class Before(NamedTuple):
    """A tenant beside it, at some level, that goes first. `tenant` "" = not to be named; shares in billionths."""

    tenant: str
    has_lower_share: bool
    is_within: bool  # within what is guaranteed to it, while the other would borrow
    share: int
    own_share: int


class Ahead(NamedTuple):
    """`tenants` go first; of its own project the gangs counted here. `is_exact` False: there are more."""

    tenants: tuple[Before, ...]
    hidden_count: int  # tenants that the reader may not see
    urgent: int  # gangs of a higher priority
    older: int  # of the same priority
    aged: int  # of a lower one, which waited longer
    is_exact: bool

    @property
    def before_count(self) -> int:
        return len(self.tenants) + self.hidden_count + self.urgent + self.older + self.aged

    @property
    def position(self) -> int:
        """1 = next; a tenant that goes first counts as one."""
        return self.before_count + 1 if self.is_exact else 0

    def facts(self) -> dict[str, object]:
        return {
            "tenants": [{"tenant": one.tenant, "share": one.share / BILLION, "own_share": one.own_share / BILLION}
                        for one in self.tenants[:20]],
            "tenant_count": len(self.tenants) + self.hidden_count, "higher_priority_count": self.urgent,
            "submitted_before_count": self.older, "waited_longer_count": self.aged, "is_exact": self.is_exact,
        }  # fmt: skip


def ahead_of(state: State, lane: Lane, it: Subject, sight: Sight) -> Ahead:
    """Whoever goes before this item, as shares are now."""
    tenants, hidden, is_all_tenants = _tenants(state, lane, sight)
    urgent, older, aged, is_all = _own(state, lane, it)
    return Ahead(tuple(tenants), hidden, urgent, older, aged, is_all and is_all_tenants)


def _tenants(state: State, lane: Lane, sight: Sight) -> tuple[list[Before], int, bool]:
    found: list[Before] = []
    hidden, is_exact = 0, True
    at = lane.branch
    while at.parent is not None:
        mine = key_of(state, at)
        beside = islice(at.parent.tenant.children.values(), TENANTS_LOOKED_COUNT)
        is_exact = is_exact and len(at.parent.tenant.children) <= TENANTS_LOOKED_COUNT
        for tenant in beside:
            branches = state.lanes.branches.get(tenant.path)
            if tenant is at.tenant or not branches or not tenant.is_open:
                continue
            key = min(key_of(state, branch) for branch in branches.values())
            if key < mine and any(_has_work(state, branch) for branch in branches.values()):
                if sight.tenant(tenant.path):
                    found.append(_before(tenant.label, key, mine))
                else:
                    hidden += 1
        at = at.parent
    return found, hidden, is_exact


def _before(tenant: str, key: Key, mine: Key) -> Before:
    return Before(tenant, key[1] < mine[1], mine[0] and not key[0], key[1], mine[1])


def _has_work(state: State, branch: Branch) -> bool:
    if branch.lane is not None and branch.lane.head(state, None) is not None:
        return True
    return any(_has_work(state, child) for child in branch.children.values())


def _own(state: State, lane: Lane, it: Subject) -> tuple[int, int, int, bool]:
    """Gangs of its own project that are more urgent: by priority, by submit order, by what waiting earned."""
    entry = entry_of(state, it, lane)
    bonus = bonus_of(state, lane)
    stands = _stands(lane, entry, it.key)
    if stands is None:
        return 0, GANGS_LOOKED_COUNT, 0, False
    mine = (stands[0] - bonus.of(stands) if bonus else stands[0], stands)
    counts = [0, 0, 0]
    left = GANGS_LOOKED_COUNT
    for branch in state.lanes.branches.get(lane.branch.tenant.path, {}).values():
        own = branch.lane
        for other in own.ahead(mine, bonus, left) if own is not None and left else ():
            left -= 1
            if own is not None and state.is_eligible(other, own):
                counts[0 if other[0] < mine[1][0] else 1 if other[0] == mine[1][0] else 2] += 1
    return counts[0], counts[1], counts[2], left > 0


def _stands(lane: Lane, entry: Entry, key: tuple[int, int, int]) -> Entry | None:
    """Its entry as it is in the lane, found among the first; None = too far behind. One that is not there yet stands
    as it would."""
    behind = (entry[0], (*entry[:5], 1 << 62, 0))
    count = 0
    for other in lane.ahead(behind, None, GANGS_LOOKED_COUNT):
        count += 1
        if (other[1], other[3], other[4]) == key and other[0] == entry[0]:
            return other
    return entry if count < GANGS_LOOKED_COUNT else None


def ahead_text(ahead: Ahead) -> str:
    """Who goes first, in words."""
    if not ahead.is_exact and not ahead.tenants:
        return f"more than {GANGS_LOOKED_COUNT} gangs go first"
    parts = [_tenant_text(one) for one in ahead.tenants[:3]]
    if len(ahead.tenants) > 3:
        parts.append(f"{len(ahead.tenants) - 3} more tenants")
    if ahead.hidden_count:
        parts.append(f"{counted(ahead.hidden_count, 'other tenant')} with a lower share, or less borrowed")
    for count, why in (
        (ahead.urgent, "of a higher priority"), (ahead.older, "of the same priority, which stood there before"),
        (ahead.aged, "which waited longer"),
    ):  # fmt: skip
        if count:
            parts.append(f"{counted(count, 'gang')} of its project {why}")
    return "first go " + some(parts, most=6) if parts else "it is next"


def _tenant_text(one: Before) -> str:
    if one.is_within:
        return f"tenant {one.tenant} (within what is guaranteed to it, here it would be borrowed)"
    if not one.has_lower_share:
        return f"tenant {one.tenant} (it has as much, {one.share / BILLION:.1%}, and was served longer ago)"
    shares = f"{one.share / BILLION:.1%} of the cluster for its weight, here {one.own_share / BILLION:.1%}"
    return f"tenant {one.tenant} (has {shares})"
