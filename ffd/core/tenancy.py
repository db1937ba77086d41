"""The tenant tree: who may hold how much, and who holds how much now. An index of State, exact at all times (S7).

Each prefix of a project's path is a node (`research/llm` -> `research/llm`, `research`, the root ""): declared by
SetTenant or SetQuota, or made when first needed. A moved node keeps its path and hangs under another parent.

Changed by `State.apply` and by trials only; read by `core.admit` and `core.schedule`. Never here: units (amounts),
whether something may be admitted (admit.quota), or who goes first (admit.share, admit.order).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

from ffd.core.amounts import Amounts, capacity_of, shift
from ffd.core.model import Node, TenantRow
from ffd.core.past import TICKS, settled, tick_of

NOTED_TICKS = TICKS // 4  # a restart forgets at most a quarter of a half-life
UNDECLARED = TenantRow()
UNKNOWN: Final = -1
ONE_WORKFLOW: Amounts = {"workflows": 1}


class Tenant:
    """One node. `usage`: what it and all below it hold (no zeros). `reserve`: what its children keep back from others
    beyond what they use. `lent`: what its children hold above their own, of what anybody has a quota. `excused`: usage
    that was above a bound when the bound was set; it only ever falls. `served_at_count`: admissions of all before its
    last one. `is_open`: it and all above it are enabled. `has_quota`: it or one above it has a quota; `quoted`: of
    which resources. `past`: its decayed usage (core.past) at `past_tick`; empty where that is off.
    `known_share` belongs to `admit.order`."""

    __slots__ = (
        "children", "declared", "excused", "has_quota", "is_marked", "is_open", "known_share", "lent", "parent", "past",
        "past_tick", "path", "quoted", "reserve", "row", "served_at_count", "usage",
    )  # fmt: skip

    def __init__(self, path: str, parent: Tenant | None) -> None:
        self.path = path
        self.parent = parent
        self.children: dict[str, Tenant] = {}
        self.row = UNDECLARED
        self.declared = False
        self.usage: dict[str, int] = {}
        self.reserve: dict[str, int] = {}
        self.excused: dict[str, int] = {}
        self.lent: dict[str, int] = {}
        self.is_open: bool = parent.is_open if parent else True
        self.has_quota: bool = parent.has_quota if parent else False
        self.quoted: frozenset[str] = parent.quoted if parent else frozenset()  # only asked
        self.is_marked = False
        self.known_share = UNKNOWN
        self.served_at_count = 0
        self.past: dict[str, int] = {}
        self.past_tick = 0

    @property
    def label(self) -> str:
        """Its path for people; the root is `/`."""
        return self.path or "/"

    def chain(self) -> Iterator[Tenant]:
        """Itself, its parent, ..., the root."""
        node: Tenant | None = self
        while node is not None:
            yield node
            node = node.parent

    def may_bound(self, resources: frozenset[str]) -> bool:
        """May a quota matter to who asks for these? One of a GPU model may, wherever GPUs are asked for."""
        return self.has_quota and ("gpus" in resources or not self.quoted.isdisjoint(resources))

    def kept_back(self, resource: str) -> int:
        """What others do not get although this subtree does not use it: its own unlent part, or its children's."""
        reserve, quota = self.reserve.get(resource, 0), self.row.quotas.get(resource)
        if quota is None or quota.lend_max is None:
            return reserve
        return max(reserve, quota.unlent - self.usage.get(resource, 0))

    def has_own(self, resource: str) -> bool:
        """Is some of this its own, or kept for its members, which it does not use?"""
        quota = self.row.quotas.get(resource)
        return self.kept_back(resource) > 0 or (quota is not None and self.usage.get(resource, 0) < quota.nominal)

    def above_own(self, resource: str) -> int:
        """What it holds above its nominal quota; without one nothing is its own."""
        quota = self.row.quotas.get(resource)
        return max(0, self.usage.get(resource, 0) - (quota.nominal if quota else 0))

    def borrowed(self, resource: str) -> int:
        """What it holds above its nominal. Without a quota of its own it lives wholly from what is above: all of its
        usage when a level above has a quota, else nothing is borrowed."""
        used, quota = self.usage.get(resource, 0), self.row.quotas.get(resource)
        if quota is not None:
            return max(0, used - quota.nominal)
        node = self.parent
        while node is not None:
            if resource in node.row.quotas:
                return used
            node = node.parent
        return 0


class Tenancy:
    """The tree, by path. `capacity`: what all nodes of the cluster have together; `models`: its GPU models, sorted.
    `half_life_ms`: of decayed usage; 0 = none is kept."""

    def __init__(self, half_life_ms: int = 0) -> None:
        self.half_life_ms = half_life_ms
        self.tick = 0  # of the latest instant: it never goes back
        self.noted_tick = 0
        self.root = Tenant("", None)
        self.nodes: dict[str, Tenant] = {"": self.root}
        self.capacity: dict[str, int] = {}
        self.models: tuple[str, ...] = ()
        self._unlent: dict[str, int] = {}  # resource -> nodes that do not lend all they have of it
        self._bounded: dict[str, int] = {}  # resource -> nodes that have a quota of it
        self.rules_count = 0  # how often rules changed
        self._over: dict[str, Tenant] = {}  # nodes with an excuse
        self._changed: list[Tenant] = []
        self._trial: list[Callable[[], None]] | None = None  # how to undo what a trial did, oldest first

    @property
    def has_quotas(self) -> bool:
        """Does anybody have one?"""
        return bool(self._bounded)

    # ------------------------------------------------------------------------------------------------------ the tree

    def tenant(self, path: str) -> Tenant:
        """The node of a path; it and the levels above it are made when they are not there yet."""
        found = self.nodes.get(path)
        if found is None:
            parent = self.tenant(path.rpartition("/")[0])
            found = self.nodes[path] = parent.children[path] = Tenant(path, parent)
        return found

    def new_count(self, *paths: str) -> int:
        """How many nodes would have to be made for these paths."""
        return len(_missing(paths, self.nodes))

    def least_count(self, *paths: str) -> int:
        """How many nodes there would be with these paths, were all idle ones dropped first."""
        idle = self._idle()
        kept = {path: node for path, node in self.nodes.items() if path not in idle}
        return len(kept) + len(_missing(paths, kept))

    def drop_idle(self) -> None:
        """Forget undeclared nodes that hold nothing: as if they had never been seen."""
        for path, node in self._idle().items():
            assert node.parent is not None
            del self.nodes[path], node.parent.children[path]

    def _idle(self) -> dict[str, Tenant]:
        """Nodes that nothing needs, children before their parents."""
        needed: dict[str, None] = {"": None}
        for node in self.nodes.values():
            if node.declared or node.usage:
                needed.update((above.path, None) for above in node.chain())
        order = reversed(self._parents_first(self.root))
        return {node.path: node for node in order if node.path not in needed}

    def declare(self, rows: Mapping[str, TenantRow]) -> None:
        """This is what is declared of these tenants from now on; they are moved when their rows say so. The caller made
        sure that there is no loop in the end; nor is there one on the way, whatever the order: who moves goes to the
        root first."""
        moves: list[tuple[Tenant, Tenant]] = []
        bounded = set(self._bounded)  # only compared
        for path, row in rows.items():
            node = self.tenant(path)
            node.declared = True
            self._take_row(node, row)
            self._hand_down(node)
            self._excuse(node)
            parent = self.tenant(path.rpartition("/")[0] if row.parent is None else row.parent)
            if path and node.parent is not parent:
                moves.append((node, parent))
                self._move(node, self.root)
        for node, parent in moves:
            self._move(node, parent)
        if moves or bounded != self._bounded.keys():
            self._derive()
        self.rules_count += 1

    def _move(self, node: Tenant, parent: Tenant) -> None:
        old = node.parent
        if old is parent or old is None:
            return
        for above in (*old.chain(), *parent.chain()):
            self.past_of(above)  # the past stays where it was, and is forgotten there
        for above in old.chain():
            shift(above.usage, node.usage, -1)
        for above in parent.chain():
            shift(above.usage, node.usage, 1)
        del old.children[node.path]
        parent.children[node.path] = node
        node.parent = parent

    def _derive(self) -> None:
        """Derive anew, for all nodes, what follows from rows and usage: when one moved, or another resource is bounded
        than before. Rare: one by one, rules change little."""
        order = self._hand_down(self.root)
        for node in order:
            node.reserve, node.lent = {}, {}
            self._excuse(node)
        for node in reversed(order):
            if node.parent is not None:
                shift(node.parent.reserve, {r: node.kept_back(r) for r in self._unlent}, 1)
                shift(node.parent.lent, {r: node.above_own(r) for r in node.usage if r in self._bounded}, 1)

    def _hand_down(self, top: Tenant) -> list[Tenant]:
        """What follows from its row for it and all below. Returns those, parents first."""
        order = self._parents_first(top)
        for node in order:
            above = node.parent
            node.is_open = node.row.enabled and (above is None or above.is_open)
            node.quoted = frozenset((*node.row.quotas, *(above.quoted if above else ())))
            node.has_quota = bool(node.quoted)
            self._mark(node)
        return order

    def _excuse(self, node: Tenant) -> None:
        """What it holds above a bound now may stay."""
        node.excused = {
            resource: node.usage[resource]
            for resource, quota in node.row.quotas.items()
            if quota.bound is not None and node.usage.get(resource, 0) > quota.bound
        }
        if node.excused:
            self._over[node.path] = node
        else:
            self._over.pop(node.path, None)

    @staticmethod
    def _parents_first(top: Tenant) -> list[Tenant]:
        order = [top]
        for node in order:  # it grows while it is walked
            order.extend(node.children.values())
        return order

    def is_below(self, path: str, above: str) -> bool:
        """Is `path` (which may not exist yet) `above` itself, or charged to it?"""
        while path not in self.nodes:
            if path == above:
                return True
            path = path.rpartition("/")[0]
        return any(node.path == above for node in self.nodes[path].chain())

    # -------------------------------------------------------------------------------------------------------- charges

    def charge(self, tenant: Tenant, amounts: Amounts) -> None:
        """It holds this much more, and so do all above it."""
        self._add(tenant, amounts, 1)

    def discharge(self, tenant: Tenant, amounts: Amounts) -> None:
        """It gives this much back."""
        self._add(tenant, amounts, -1)
        if self._over:
            for node in tenant.chain():
                for resource in node.excused:
                    node.excused[resource] = min(node.excused[resource], node.usage.get(resource, 0))

    def _add(self, tenant: Tenant, amounts: Amounts, sign: int) -> None:
        if self._trial is not None:
            self._trial.append(partial(self._add, tenant, amounts, -sign))
        if self.half_life_ms:
            for level in tenant.chain():
                self.past_of(level)  # what was held until now
        if self._unlent and not self._unlent.keys().isdisjoint(amounts):
            self._add_with_reserves(tenant, amounts, sign)
            return
        is_bounded = not self._bounded.keys().isdisjoint(amounts)
        node: Tenant | None = tenant
        while node is not None:
            if is_bounded:
                self._hold(node, amounts, sign)
            else:
                shift(node.usage, amounts, sign)
            if not node.is_marked:
                self._mark(node)
            node = node.parent

    def _hold(self, node: Tenant, amounts: Amounts, sign: int) -> None:
        """Add to its usage; what it holds above its own is lent by the level above."""
        before = {resource: node.above_own(resource) for resource in amounts if resource in self._bounded}
        shift(node.usage, amounts, sign)
        if node.parent is not None:
            changes = {resource: node.above_own(resource) - had for resource, had in before.items()}
            shift(node.parent.lent, {resource: change for resource, change in changes.items() if change}, 1)

    def _add_with_reserves(self, tenant: Tenant, amounts: Amounts, sign: int) -> None:
        for resource, amount in amounts.items():
            change = 0  # of what the node below keeps back
            for node in tenant.chain():
                before = node.kept_back(resource)
                self._hold(node, {resource: amount}, sign)
                if change:
                    shift(node.reserve, {resource: change}, 1)
                change = node.kept_back(resource) - before
                self._mark(node)

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Charges, discharges and rules that are supposed within it are made on the real books and undone, exactly, at
        its end. Trials nest. Unless somebody took what changed within one, it then counts as nothing having changed."""
        outer, self._trial = self._trial, []
        changed, count = self._changed, len(self._changed)
        excuses = [(node, dict(node.excused)) for node in self._over.values()]
        try:
            yield
        finally:
            done, self._trial = self._trial, None
            for undo in reversed(done):
                undo()
            for node, excused in excuses:
                node.excused = excused
            self._trial = outer
            if self._changed is changed:
                for node in changed[count:]:
                    node.is_marked = False
                del changed[count:]

    def suppose(self, tenant: Tenant, row: TenantRow) -> None:
        """Within a trial: this is declared of it. It stays where it is, and has quotas of the same resources."""
        assert self._trial is not None and row.quotas.keys() == tenant.row.quotas.keys()
        self._trial.append(partial(self._take_row, tenant, tenant.row))
        self._take_row(tenant, row)

    def _take_row(self, tenant: Tenant, row: TenantRow) -> None:
        """This is its row from now on; what it and those above it keep back and have lent is exact again."""
        old, resources = tenant.row.quotas, {**tenant.row.quotas, **row.quotas}
        before = {resource: tenant.kept_back(resource) for resource in resources}
        had = {resource: tenant.above_own(resource) for resource in resources}
        tenant.row = row
        for quotas, sign in ((old, -1), (row.quotas, 1)):
            shift(self._bounded, dict.fromkeys(quotas, 1), sign)
            shift(self._unlent, {resource: 1 for resource, quota in quotas.items() if quota.unlent}, sign)
        for node in tenant.chain():
            self._mark(node)
        if tenant.parent is not None:
            shift(tenant.parent.lent, {resource: tenant.above_own(resource) - own for resource, own in had.items()}, 1)
        for resource in resources:
            change, above = tenant.kept_back(resource) - before[resource], tenant.parent
            while change and above is not None:
                kept = above.kept_back(resource)
                shift(above.reserve, {resource: change}, 1)
                change, above = above.kept_back(resource) - kept, above.parent

    def suppose_nodes(self, nodes: tuple[Node, ...]) -> None:
        """Within a trial: the cluster has these nodes."""
        assert self._trial is not None
        before = self.capacity, self.models

        def undo() -> None:
            self.capacity, self.models = before
            for tenant in self.nodes.values():
                self._mark(tenant)

        self._trial.append(undo)
        self.set_nodes(nodes)

    # -------------------------------------------------------------------------------------------------- decayed usage

    def advance(self, now_ms: int) -> None:
        """It is `now_ms`, or later. When a tick has passed, every share may be another."""
        tick = tick_of(now_ms, self.half_life_ms) if self.half_life_ms else 0
        if tick > self.tick:
            self.tick = tick
            for node in self.nodes.values():
                if node.past or node.usage:
                    self._mark(node)

    def past_of(self, node: Tenant) -> dict[str, int]:
        """Its decayed usage now; {} where none is kept."""
        if node.past_tick != self.tick:
            if node.past or node.usage:
                node.past = settled(node.past, node.usage, self.tick - node.past_tick)
            node.past_tick = self.tick
        return node.past

    def past_to_note(self) -> dict[str, dict[str, int]] | None:
        """What a restart should know of the past, by path; None when it was noted not long ago."""
        if not self.half_life_ms or self.tick - self.noted_tick < NOTED_TICKS:
            return None
        return {path: self.past_of(node) for path, node in sorted(self.nodes.items()) if self.past_of(node)}

    def set_past(self, now_ms: int, past: Mapping[str, dict[str, int]]) -> None:
        """This was noted at `now_ms`; who is not named had nothing."""
        if not self.half_life_ms:
            return
        self.advance(now_ms)
        self.noted_tick = self.tick
        for path in past:
            self.tenant(path)
        for path, node in self.nodes.items():
            node.past, node.past_tick = past.get(path, {}), self.tick

    # ---------------------------------------------------------------------------------------------------- for readers

    def books(self) -> dict[str, tuple[TenantRow, dict[str, int], str]]:
        """What is declared and held, and by whom it is charged, of all nodes that are not made of thin air."""
        return {
            path: (node.row, node.usage, node.parent.path if node.parent else "")
            for path, node in sorted(self.nodes.items())
            if node.declared or node.usage
        }

    def _mark(self, node: Tenant) -> None:
        if not node.is_marked:
            node.is_marked = True
            self._changed.append(node)

    def touch(self, path: str) -> None:
        """Others may get more, or less, beside this tenant than before, although its books are the same."""
        for level in self.tenant(path).chain():
            self._mark(level)

    def take_changed(self) -> list[Tenant]:
        """Nodes whose usage or rules may have changed since this was last asked, each once. After a change of rules or
        of the cluster these are all. A hint for whoever keeps an order of tenants."""
        changed, self._changed = self._changed, []
        for node in changed:
            node.is_marked = False
        return changed

    def set_nodes(self, nodes: tuple[Node, ...]) -> None:
        """The cluster has these nodes from now on."""
        self.capacity = capacity_of(nodes)
        self.models = tuple(sorted({node.gpu_type for node in nodes if node.gpu_count and node.gpu_type}))
        for tenant in self.nodes.values():
            self._mark(tenant)


def _missing(paths: tuple[str, ...], nodes: Mapping[str, Tenant]) -> dict[str, None]:
    missing: dict[str, None] = {}
    for path in paths:
        while path not in nodes:
            missing[path] = None
            path = path.rpartition("/")[0]
    return missing
