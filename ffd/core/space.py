"""What is free on each node: an index over nodes and reservations, exact at all times (S7), and trials on it.

Taken and given back by `State.apply` only; read by `core.schedule`. A *trial* (a plan, a what-if) takes and gives on
the same books and leaves no trace. Never here: where to place something.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from types import TracebackType
from typing import Any, Self

from ffd.core.mix import Mix
from ffd.core.model import Node, Place
from ffd.core.nodespace import NodeSpace, could_host, misfit
from ffd.core.policy import Policy
from ffd.core.spec import Resources
from ffd.core.topology import Topology, domain_of

__all__ = ["NodeSpace", "Space", "Trial", "could_host", "misfit"]

CHANGES_LEAST_COUNT = 1024  # changes that are remembered for those who follow, at least


class Space:
    """All nodes by name, in the order of the inventory. `version` grows whenever something may have become free.

    `closed` says why a node takes nothing new; it may name nodes that are not there (yet). `memo` belongs to the finder
    of places: what it keeps from one search to the next. `mix`: what is asked for these days. `verdicts`: of this
    inventory, empty, by request (explain)."""

    __slots__ = (
        "_changes", "_changes_most_count", "_dropped_count", "_emptied", "_trials", "closed", "inventory_version",
        "memo", "mix", "nodes", "order", "policy", "topology", "verdicts", "version",
    )  # fmt: skip

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.nodes: dict[str, NodeSpace] = {}
        self.order: list[NodeSpace] = []  # the same, by index
        self.closed: dict[str, str] = {}
        self.topology = Topology((), self.policy.levels)
        self.version = 0
        self.inventory_version = 0  # grows when other nodes may be used than before
        self.memo: Any = None
        self.mix = Mix()
        self.verdicts: dict[Hashable, str] = {}
        self._emptied: Space | None = None
        self._trials: list[Trial] = []
        self._changes: list[int] = []  # indices of nodes, oldest change first
        self._dropped_count = 0
        self._changes_most_count = CHANGES_LEAST_COUNT

    # ------------------------------------------------------------------------------------------------------ writing

    def take(self, places: tuple[Place, ...], ask: Resources) -> None:
        for place in places:
            space = self.nodes.get(place.node)
            if space is not None:
                self._touch(space)
                space.take(place, ask)

    def give(self, places: tuple[Place, ...], ask: Resources) -> None:
        for place in places:
            space = self.nodes.get(place.node)
            if space is not None:
                self._touch(space)
                space.give(place, ask)
        self.version += 1

    def close(self, name: str, why: str) -> None:
        """The node takes nothing new; what is there stays."""
        self._keep_closed()
        self.closed[name] = why
        self._mark([name])

    def open(self, name: str) -> None:
        self._keep_closed()
        if self.closed.pop(name, None) is not None:
            self._mark([name])
            self.version += 1
            self.inventory_version += 1

    def replace(self, nodes: tuple[Node, ...]) -> frozenset[str]:
        """A new inventory. A node that is as it was keeps its books. Returns those (only to be asked) that are new or
        otherwise: everything is free there, and the caller takes what is reserved again. Not within a trial."""
        assert not self._trials, "the inventory changed within a trial"
        before = self.nodes
        self.order = [self._books(before.get(node.name), node, index) for index, node in enumerate(nodes)]
        self.nodes = {one.node.name: one for one in self.order}
        self.topology = Topology(nodes, self.policy.levels)
        self.memo = None
        self.verdicts = {}
        if self._emptied is not None:
            self._emptied.replace(nodes)
        self._dropped_count += len(self._changes)
        self._changes = []
        self._changes_most_count = CHANGES_LEAST_COUNT + 4 * len(nodes)
        self.version += 1
        self.inventory_version += 1
        return frozenset(one.node.name for one in self.order if before.get(one.node.name) is not one)

    def _books(self, known: NodeSpace | None, node: Node, index: int) -> NodeSpace:
        if known is None or (known.node is not node and known.node != node):
            known = NodeSpace(node, index)
            known.is_closed = node.name in self.closed
        known.node, known.index = node, index
        return known

    def with_more(self, nodes: tuple[Node, ...]) -> Space:
        """The same books for a larger cluster, for a what-if: to be written in a trial of its own only."""
        larger = Space(self.policy)
        larger.closed, larger.mix = dict(self.closed), self.mix
        more = [larger._books(None, node, len(self.order) + k) for k, node in enumerate(nodes)]
        larger.order = [*self.order, *more]
        larger.nodes = {**self.nodes, **{one.node.name: one for one in more}}
        larger.topology = Topology([one.node for one in larger.order], self.policy.levels)
        larger.verdicts = {request: why for request, why in self.verdicts.items() if not why}  # they fit still
        larger._emptied = self._emptied and self._emptied.with_more(nodes)
        larger._changes_most_count = CHANGES_LEAST_COUNT + 4 * len(larger.order)
        larger.version, larger.inventory_version = self.version + 1, self.inventory_version + 1
        return larger

    def _touch(self, space: NodeSpace) -> None:
        """What is free on this node is about to change."""
        if self._trials:
            self._trials[-1].keep(space)
        changes = self._changes
        changes.append(space.index)
        if len(changes) > self._changes_most_count:
            self._dropped_count += len(changes)
            self._changes = []

    def _touch_again(self, indices: list[int]) -> None:
        """These are again as they were: also a change for those who follow, but nothing for a trial to keep."""
        self._changes += indices

    def _mark(self, names: Iterable[str]) -> None:
        """Whether these are closed is another now."""
        for name in names:
            space = self.nodes.get(name)
            if space is not None:
                space.is_closed = name in self.closed
                self._changes.append(space.index)

    def _keep_closed(self) -> None:
        if self._trials:
            self._trials[-1].keep_closed()

    # ------------------------------------------------------------------------------------------------------ reading

    @property
    def change_count(self) -> int:
        """How often a node changed so far: where one who follows the changes stands."""
        return self._dropped_count + len(self._changes)

    def changed_since(self, count: int) -> list[int] | None:
        """Indices of the nodes that changed after `change_count` was `count` (some more than once); None = not known
        any more: any may have."""
        at = count - self._dropped_count
        return self._changes[at:] if at >= 0 else None

    def domain(self, name: str, word: str) -> str:
        """The domain of a node at a topology level; see `topology.domain_of`."""
        return domain_of(self.nodes[name].node, word, self.policy.levels)

    def emptied(self) -> Space:
        """The same inventory with everything free and open: for what could ever fit. Made once; not to be written."""
        if self._emptied is None:
            self._emptied = Space(self.policy)
            self._emptied.replace(tuple(one.node for one in self.order))
        return self._emptied

    def fits(self, places: tuple[Place, ...], ask: Resources) -> str:
        """Why these replicas do not fit now, where they say; "" when they do. Exact: closed nodes, taints, indices,
        fractions."""
        if len(places) == 1:
            return self._fits_there(places[0].node, list(places), ask)
        by_node: dict[str, list[Place]] = {}
        for place in places:
            by_node.setdefault(place.node, []).append(place)
        return next(filter(None, (self._fits_there(name, there, ask) for name, there in by_node.items())), "")

    def _fits_there(self, name: str, places: list[Place], ask: Resources) -> str:
        space = self.nodes.get(name)
        reason = "is not in the inventory" if space is None else space.lacks(places, ask)
        return f"{name} {reason}" if reason else ""

    def trial(self) -> Trial:
        """`with space.trial() as trial:` what is taken, given, closed and opened inside is undone at its end."""
        return Trial(self)


class Trial:
    """Changes that are undone, exactly; trials nest. Books are remembered as they were when first touched; which nodes
    were closed, once for all."""

    __slots__ = ("_closed", "_saved", "_space", "_versions", "close", "give", "open", "take")

    def __init__(self, space: Space) -> None:
        self._space = space
        self.take, self.give, self.close, self.open = space.take, space.give, space.close, space.open

    def __enter__(self) -> Self:
        self._saved: dict[int, tuple[Any, ...]] = {}
        self._closed: dict[str, str] | None = None
        self._versions = self._space.version, self._space.inventory_version
        self._space._trials.append(self)
        return self

    def keep(self, space: NodeSpace) -> None:
        if space.index not in self._saved:
            self._saved[space.index] = space.free()

    def keep_closed(self) -> None:
        if self._closed is None:
            self._closed = dict(self._space.closed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        space = self._space
        innermost = space._trials.pop()
        assert innermost is self, "trials end in the reverse order of their beginning"
        for index, free in self._saved.items():
            space.order[index].restore(free)
        space._touch_again(list(self._saved))
        if self._closed is not None:
            inside, space.closed = space.closed, self._closed
            space._mark(name for name in {**inside, **space.closed} if (name in inside) != (name in space.closed))
        space.version, space.inventory_version = self._versions
