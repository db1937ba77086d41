"""Who is next: the most urgent gang of the tenant with the lowest share, level by level down the tenant tree.

Hierarchical dominant resource fairness: at each level the child with the lowest weighted dominant share goes first
(Ghodsi et al., NSDI 2011; Bhattacharya et al., SoCC 2013), a child within its nominal quota before one that would
borrow; inside a project by priority with what waiting earned, then submit order, then the longest remaining path of the
workflow. Called by `core.schedule.cycle`. Never here: whether it fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

from ffd.core.admit.quota import QuotaBlock
from ffd.core.admit.share import own_share_billionths, share_billionths
from ffd.core.kinds import Bonus, Branch, Entry, Key, Kind, Lane, Shape
from ffd.core.state import State
from ffd.core.tenancy import UNKNOWN, Tenant

SPARE_COUNT: Final = 16  # old items that a heap may hold before it is rid of them

# Keys along the path in the tenant tree, rank less what waiting earned, entry, order of the kind (no two are equal).
Urgency = tuple[object, ...]


class Candidate:
    """The next one of its kind. `urgency`: the smallest goes first."""

    __slots__ = ("entry", "lane", "order", "urgency")

    def __init__(self, path: tuple[Key, ...], rank: int, entry: Entry, order: int, lane: Lane) -> None:
        self.entry = entry
        self.order = order
        self.lane = lane
        self.urgency: Urgency = (path, rank, entry, order)


def peek(state: State, kind: Kind, order: int) -> Candidate | None:
    """The next gang of this kind; None when nothing of it may go. Drops what does not hold any more."""
    if _is_alone(state):
        for lane in kind.lanes.values():
            head = _head(state, lane)
            return None if head is None else Candidate((), *head, order, lane)
    return _best(state, kind.root, (), order)


def head_of(state: State, lane: Lane) -> Candidate | None:
    """The next gang of one lane, whoever's turn it is; None when it has none that may go."""
    head = _head(state, lane, is_all=True)
    return None if head is None else Candidate((), *head, 0, lane)


def _is_alone(state: State) -> bool:
    """Does only one project wait, which no quota bounds? Then there is nothing to compare between tenants."""
    projects = state.lanes.projects
    return len(projects) == 1 and not state.tenancy.has_quotas


def _best(state: State, branch: Branch, path: tuple[Key, ...], order: int) -> Candidate | None:
    """The next gang below `branch`, to which these keys lead."""
    if branch.is_closed:
        return None
    if branch.fresh:
        _sort_in(state, branch)
    tenant, lane = branch.tenant, branch.lane
    head = _head(state, lane) if lane is not None and not branch.is_own_closed else None
    own = _own_key(state, tenant) if head is not None and tenant.children else None
    heap = branch.heap
    while heap:
        key, child = heap[0]
        if key != child.key or not child.is_queued:
            heappop(heap)
            continue
        if (own is not None and own < key) or (key[0] and branch.closed_pool):
            break  # the others would borrow as well
        found = _best(state, child, (*path, key), order)
        if found is not None:
            return found
        state.lanes.journal.shuts(child)
        heappop(heap)
        child.is_queued = False  # until something comes, or changes, below it
    if head is None or lane is None:
        return None
    return Candidate(path if own is None else (*path, own), *head, order, lane)


def _head(state: State, lane: Lane, *, is_all: bool = False) -> tuple[int, Entry] | None:
    if lane.blocked_at == state.space.version and not is_all:
        is_seen = lane.looked_in_cycle == state.lanes.cycle_count
        if is_seen or lane.kind.shape not in state.reservations:
            return None
    return lane.head(state, bonus_of(state, lane))


def bonus_of(state: State, lane: Lane) -> Bonus | None:
    """What waiting earned the entries of this lane; None = nothing."""
    policy = state.policy
    most = policy.aging_points_count if policy.order == "fair" else 0
    return state.lanes.bonus(lane, policy.aging_admissions_count, most) if most else None


def _sort_in(state: State, branch: Branch) -> None:
    """Give the fresh children their keys. A heap with many old items is made anew."""
    for child in branch.fresh:
        key = _key(child, _known_share(state, child.tenant))
        is_there = child.is_stale and key == child.key
        child.is_stale = False
        if is_there:
            continue
        child.key = key
        heappush(branch.heap, (key, child))
        if branch.closed_pool and key[0] and child.tenant.has_own(branch.closed_pool):
            branch.closed_pool = ""  # it need not borrow this
    branch.fresh = []
    if len(branch.heap) > SPARE_COUNT + 2 * len(branch.children):
        branch.heap = [(child.key, child) for child in branch.children.values() if child.is_queued and child.key]
        heapify(branch.heap)


def _known_share(state: State, tenant: Tenant) -> int:
    """Its share as it was when `refresh` was called last: worked out once, whatever number of kinds compare it."""
    if tenant.known_share < 0:
        tenant.known_share = share_billionths(state.tenancy, tenant)
    return tenant.known_share


def key_of(state: State, branch: Branch) -> Key:
    """What orders a branch among its siblings, as it is now."""
    return _key(branch, share_billionths(state.tenancy, branch.tenant))


def _key(branch: Branch, share: int) -> Key:
    tenant = branch.tenant
    return borrows(tenant, branch.kind.shape.resources), share, tenant.served_at_count, tenant.path


def _own_key(state: State, tenant: Tenant) -> Key:
    """The tenant's own lane among its children, which it has rarely."""
    return True, own_share_billionths(state.tenancy, tenant), tenant.served_at_count, ""


def borrows(tenant: Tenant, asked: frozenset[str]) -> bool:
    """Has it nothing left of its own of something that is asked? Then it would get what it may have to give back at
    once. One that has some left goes by its share, however much it asks: if not, a tenant of large gangs would come
    last although it holds less than is guaranteed to it (decision 12). Without a quota of it, nothing is its own."""
    quotas = tenant.row.quotas
    known = [tenant.usage.get(name, 0) >= quota.nominal for name, quota in quotas.items() if name in asked]
    return not known or any(known)


def refresh(state: State) -> None:
    """Take in what changed in the tenant tree since the last time: usage, weights, quotas, the size of the cluster."""
    if _is_alone(state):
        return  # what changed is kept until it matters
    if state.lanes.passed:
        state.lanes.offer_passed(state.space.version)
    for tenant in state.tenancy.take_changed():
        tenant.known_share = UNKNOWN
        branches = state.lanes.branches.get(tenant.path)
        if branches is not None:
            for branch in branches.values():
                branch.renew()


def close(state: State, lane: Lane, block: QuotaBlock) -> bool:
    """Quota said no: nothing of this kind is tried again in this part of the tree until something changes there. False:
    there is no such part, because all projects stand in one line (`fifo`, `sjf`)."""
    below: Branch | None = None
    branch: Branch | None = lane.branch
    while branch is not None and branch.tenant.path != block.tenant:
        below, branch = branch, branch.parent
    if branch is None:
        return False
    state.lanes.journal.shuts(branch)
    if block.is_full:
        branch.is_closed = True
    elif below is None:
        branch.is_own_closed = True
    elif below.tenant.reserve.get(block.resource):
        lane.branch.is_own_closed = True  # its members keep some of it for themselves, which it may not have
        branch.refused.append(lane.branch)
    else:
        below.is_closed = True
        branch.refused.append(below)
        if below.key and below.key[0]:  # then those behind it borrow as well; this very resource, if they own none
            behind = (child for child in branch.children.values() if child.key and child.key[0])
            if not any(child.tenant.has_own(block.resource) for child in behind):
                branch.closed_pool = block.resource
    return True


def in_order(state: State) -> Iterator[list[Lane]]:
    """The lanes of one tenant after the other, as they would be looked at now if none of them changed a share. Those of
    one list stand side by side: their heads decide. Found as they are asked for: the first cost little."""
    refresh(state)
    roots = [kind.root for kind in state.lanes.kinds.values()]
    waiting: list[tuple[tuple[Key, ...], bool, list[Branch]]] = [((), False, roots)] if roots else []
    while waiting:
        path, is_own, branches = heappop(waiting)
        if is_own:
            yield [branch.lane for branch in branches if branch.lane is not None]
            continue
        own = [branch for branch in branches if branch.lane is not None]
        if own:
            tenant = own[0].tenant
            heappush(waiting, ((*path, _own_key(state, tenant)) if tenant.children else path, True, own))
        for key, below in _children(state, branches).items():
            heappush(waiting, ((*path, key), False, below))


def _children(state: State, branches: list[Branch]) -> dict[Key, list[Branch]]:
    """What is right below these branches of one tenant, by its key."""
    by_tenant: dict[str, list[Branch]] = {}
    for branch in branches:
        for path, child in branch.children.items():
            by_tenant.setdefault(path, []).append(child)
    found: dict[Key, list[Branch]] = {}
    for children in by_tenant.values():
        share = share_billionths(state.tenancy, children[0].tenant)
        for child in children:
            found.setdefault(_key(child, share), []).append(child)
    return found


def path_of(state: State, branch: Branch) -> tuple[Key, ...]:
    """The keys that lead from the root to this branch, as they are now."""
    path: list[Key] = []
    if branch.tenant.children:
        path.append(_own_key(state, branch.tenant))
    at: Branch | None = branch
    while at is not None and at.parent is not None:
        path.append(key_of(state, at))
        at = at.parent
    return tuple(reversed(path))


class Heads:
    """The next gang of each kind, the most urgent first. Shares only grow within a cycle, so a head that was looked at
    again and did not change is the next one."""

    def __init__(self, state: State, kinds: list[Kind]) -> None:
        self._state = state
        self._kinds = kinds
        refresh(state)
        found = (peek(state, kind, order) for order, kind in enumerate(kinds))
        self._heap = [(candidate.urgency, candidate) for candidate in found if candidate is not None]
        heapify(self._heap)

    def next(self, done: set[Shape]) -> Candidate | None:
        """The most urgent one; it stays until something about it changes, or `drop`. Shapes that are `done` are left
        out."""
        heap = self._heap
        while heap:
            seen, candidate = heap[0]
            kind = self._kinds[candidate.order]
            if kind.shape in done:
                heappop(heap)
                continue
            refresh(self._state)
            fresh = peek(self._state, kind, candidate.order)
            if fresh is None:
                heappop(heap)
                continue
            urgency = fresh.urgency
            if urgency != seen:
                heapreplace(heap, (urgency, fresh))
            if heap[0][0] == urgency:
                return fresh
        return None

    def drop(self) -> None:
        """No more of the kind that `next` gave, in this cycle."""
        heappop(self._heap)
