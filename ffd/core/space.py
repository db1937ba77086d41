"""What is free on each node: an index over nodes and reservations, exact at all times (S7).

Taken and given back by `State.apply` only; read by `core.schedule`. Never here: where to place something.
"""

from __future__ import annotations

from ffd.core.model import Node, Place
from ffd.core.spec import Resources


class NodeSpace:
    """One node and what is free on it; less than nothing when it shrank under what is reserved there."""

    __slots__ = ("cpu_millis", "disk_bytes", "gpus", "memory_bytes", "node", "slots")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.slots = node.slot_count
        self.cpu_millis = node.cpu_millis
        self.memory_bytes = node.memory_bytes
        self.disk_bytes = node.disk_bytes
        self.gpus: list[int] = list(range(node.gpu_count))  # free indices, ascending

    def copy(self) -> NodeSpace:
        """A copy that can be taken from without touching this one (the node itself is shared)."""
        twin = NodeSpace.__new__(NodeSpace)
        twin.node, twin.slots, twin.cpu_millis = self.node, self.slots, self.cpu_millis
        twin.memory_bytes, twin.disk_bytes, twin.gpus = self.memory_bytes, self.disk_bytes, self.gpus
        return twin

    def room(self, ask: Resources) -> int:
        """How many replicas of `ask` fit beside what is there now."""
        count = self.slots
        if ask.cpu_millis:
            count = min(count, self.cpu_millis // ask.cpu_millis)
        if ask.memory_bytes:
            count = min(count, self.memory_bytes // ask.memory_bytes)
        if ask.disk_bytes:
            count = min(count, self.disk_bytes // ask.disk_bytes)
        if ask.gpu_count:
            count = min(count, len(self.gpus) // ask.gpu_count)
        return max(count, 0)

    def take(self, place: Place, ask: Resources) -> None:
        """Reserve; the indices of `place.gpus` must be free."""
        self._shift(ask, -1)
        if place.gpus:
            taken = place.gpus
            self.gpus = [index for index in self.gpus if index not in taken]

    def give(self, place: Place, ask: Resources) -> None:
        self._shift(ask, 1)
        if place.gpus:  # the node may have come back with fewer
            there = [index for index in place.gpus if index < self.node.gpu_count]
            self.gpus = sorted((*self.gpus, *there))

    def _shift(self, ask: Resources, sign: int) -> None:
        self.slots += sign
        self.cpu_millis += sign * ask.cpu_millis
        self.memory_bytes += sign * ask.memory_bytes
        self.disk_bytes += sign * ask.disk_bytes


def could_host(node: Node, ask: Resources) -> bool:
    """Would `node`, empty, take one replica of `ask`? Static: model, GPU memory, rdma, MIG and sizes."""
    return misfit(node, ask) == ""


def misfit(node: Node, ask: Resources) -> str:
    """The first static reason why `node` can never host a replica of `ask`; "" when it can."""
    if ask.mig_profile:
        return "offers no MIG profiles"
    if ask.rdma and not node.rdma:
        return "has no rdma"
    if ask.gpu_count and ask.gpu_types and node.gpu_type not in ask.gpu_types:
        return f"has {node.gpu_type or 'no GPUs'}"
    if ask.gpu_memory_bytes and node.gpu_memory_bytes < ask.gpu_memory_bytes:
        return "has GPUs with less memory"
    for wanted, there, what in (
        (ask.gpu_count, node.gpu_count, "GPUs"),
        (ask.cpu_millis, node.cpu_millis, "cpu"),
        (ask.memory_bytes, node.memory_bytes, "memory"),
        (ask.disk_bytes, node.disk_bytes, "disk"),
        (1, node.slot_count, "slots"),
    ):
        if wanted > there:
            return f"has too few {what}" if what in ("GPUs", "slots") else f"has too little {what}"
    return ""


class Space:
    """All nodes by name, in name order. `version` grows whenever something may have become free."""

    __slots__ = ("nodes", "version")

    def __init__(self) -> None:
        self.nodes: dict[str, NodeSpace] = {}
        self.version = 0

    def take(self, places: tuple[Place, ...], ask: Resources) -> None:
        for place in places:
            space = self.nodes.get(place.node)
            if space is not None:
                space.take(place, ask)

    def give(self, places: tuple[Place, ...], ask: Resources) -> None:
        for place in places:
            space = self.nodes.get(place.node)
            if space is not None:
                space.give(place, ask)
        self.version += 1

    def replace(self, nodes: tuple[Node, ...]) -> None:
        """A new inventory, everything free: the caller takes what is reserved again."""
        self.nodes = {node.name: NodeSpace(node) for node in nodes}
        self.version += 1
