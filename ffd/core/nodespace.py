"""The books of one node: what is free on it, exactly; and why a node can never host a request.

Kept by `core.space`, read by everyone who looks for room. Never here: more than one node, or which GPU is the best.
"""

from __future__ import annotations

from typing import Any

from ffd.core.model import Node, Place
from ffd.core.spec import WHOLE_MILLIS, Resources


class NodeSpace:
    """One node and what is free on it; less than nothing when it shrank under what is reserved there. `index` is its
    place in the inventory. `kind`: nodes of one kind are alike in all that is static, but for labels. A closed node
    takes nothing new and keeps what it holds."""

    __slots__ = (
        "cpu_millis", "disk_bytes", "gpu_millis", "gpu_slots", "index", "is_closed", "kind", "memory_bytes", "mig",
        "node", "slots", "whole_count",
    )  # fmt: skip

    def __init__(self, node: Node, index: int = 0) -> None:
        self.node = node
        self.index = index
        self.kind = (
            node.gpu_type, node.gpu_count, node.gpu_memory_bytes, node.cpu_millis, node.memory_bytes, node.disk_bytes,
            node.slot_count, node.rdma, node.taints, tuple(sorted(node.mig.items())) if node.mig else (),
        )  # fmt: skip
        self.is_closed = False
        self.slots = node.slot_count
        self.gpu_slots = 0
        self.cpu_millis = node.cpu_millis
        self.memory_bytes = node.memory_bytes
        self.disk_bytes = node.disk_bytes
        self.gpu_millis = [WHOLE_MILLIS] * node.gpu_count  # free thousandths of each GPU
        self.whole_count = node.gpu_count  # GPUs that are wholly free
        self.mig = {profile: list(range(count)) for profile, count in node.mig.items()}  # free slices, ascending

    @property
    def gpus(self) -> list[int]:
        """Indices of the GPUs that are wholly free, ascending."""
        return [index for index, free in enumerate(self.gpu_millis) if free == WHOLE_MILLIS]

    @property
    def has_gpus(self) -> bool:
        return bool(self.gpu_millis or self.mig)

    def room(self, ask: Resources) -> int:
        """How many replicas of `ask` fit beside what is there now; 0 on a closed node. Static demands: `misfit`."""
        if self.is_closed:
            return 0
        count = self.slots
        if ask.cpu_millis:
            count = min(count, self.cpu_millis // ask.cpu_millis)
        if ask.memory_bytes or ask.shm_bytes:
            count = min(count, self.memory_bytes // ask.held_memory_bytes)
        if ask.disk_bytes:
            count = min(count, self.disk_bytes // ask.disk_bytes)
        if ask.gpu_count:
            count = min(count, self._gpu_room(ask))
        if ask.mig_count:
            count = min(count, len(self.mig.get(ask.mig_profile, ())) // ask.mig_count)
        return max(count, 0)

    def _gpu_room(self, ask: Resources) -> int:
        if ask.gpu_millis == WHOLE_MILLIS:
            return self.whole_count // ask.gpu_count
        return sum(free // ask.gpu_millis for free in self.gpu_millis if free > 0)

    def take(self, place: Place, ask: Resources) -> None:
        """Reserve; what `place` names must be free."""
        self._shift(ask, -1)
        if ask.gpu_count or ask.mig_count:
            self.gpu_slots += 1
        if place.gpus:
            self._shift_gpus(place, -place.gpu_millis)
        if place.mig:
            free, taken = self.mig.get(ask.mig_profile, []), place.mig
            self.mig[ask.mig_profile] = [index for index in free if index not in taken]

    def give(self, place: Place, ask: Resources) -> None:
        self._shift(ask, 1)
        if ask.gpu_count or ask.mig_count:
            self.gpu_slots -= 1
        if place.gpus:
            self._shift_gpus(place, place.gpu_millis)
        if place.mig:  # the node may have come back with fewer
            there = [index for index in place.mig if index < self.node.mig.get(ask.mig_profile, 0)]
            self.mig[ask.mig_profile] = sorted((*self.mig.get(ask.mig_profile, ()), *there))

    def _shift(self, ask: Resources, sign: int) -> None:
        self.slots += sign
        self.cpu_millis += sign * ask.cpu_millis
        self.memory_bytes += sign * (ask.memory_bytes + ask.shm_bytes)
        self.disk_bytes += sign * ask.disk_bytes

    def _shift_gpus(self, place: Place, millis: int) -> None:
        free = self.gpu_millis
        is_whole = len(place.gpus) == len(free) and place.gpus[-1] < len(free)  # the node may have come back with fewer
        if is_whole and abs(millis) == WHOLE_MILLIS and self._is_all_alike(millis < 0):
            self.whole_count = 0 if millis < 0 else len(free)  # a whole node: what the loop below comes to
            self.gpu_millis = [0 if millis < 0 else WHOLE_MILLIS] * len(free)
            return
        for index in place.gpus:
            if index < len(free):
                before = free[index]
                free[index] = before + millis
                self.whole_count += (before + millis == WHOLE_MILLIS) - (before == WHOLE_MILLIS)

    def _is_all_alike(self, is_free: bool) -> bool:
        return self.whole_count == len(self.gpu_millis) if is_free else not any(self.gpu_millis)

    def free(self) -> tuple[Any, ...]:
        """All that is free, as one value: to compare, and to `restore` later."""
        mig = {profile: tuple(slices) for profile, slices in self.mig.items()} if self.mig else {}
        return (
            self.slots, self.cpu_millis, self.memory_bytes, self.disk_bytes, tuple(self.gpu_millis), self.whole_count,
            mig, self.is_closed, self.gpu_slots,
        )  # fmt: skip

    def restore(self, free: tuple[Any, ...]) -> None:
        """Exactly as it was when `free` was asked."""
        (
            self.slots, self.cpu_millis, self.memory_bytes, self.disk_bytes, millis, self.whole_count,
            mig, self.is_closed, self.gpu_slots,
        ) = free  # fmt: skip
        self.gpu_millis = list(millis)
        self.mig = {profile: list(slices) for profile, slices in mig.items()}

    def lacks(self, places: list[Place], ask: Resources) -> str:
        """Why these replicas do not fit on this node now; "" when they do."""
        if self.is_closed:
            return "takes nothing new"
        reason = unsuited(self.node, ask)
        if reason:
            return reason
        if self.room(ask) < len(places):
            reason = self._short_of(len(places), ask)
            if reason:
                return reason
        names_gpus = ask.gpu_count or ask.mig_count or any(place.gpus or place.mig for place in places)
        return self._lacks_gpus(places, ask) if names_gpus else ""

    def _short_of(self, count: int, ask: Resources) -> str:
        for wanted, there, what in (
            (count, self.slots, "slots"),
            (count * ask.cpu_millis, self.cpu_millis, "cpu"),
            (count * ask.held_memory_bytes, self.memory_bytes, "memory"),
            (count * ask.disk_bytes, self.disk_bytes, "disk"),
        ):
            if wanted > max(there, 0):
                return f"has {max(there, 0)} of {what} free, {wanted} are asked"
        return ""

    def _lacks_gpus(self, places: list[Place], ask: Resources) -> str:
        free, slices = list(self.gpu_millis), list(self.mig.get(ask.mig_profile, ()))
        for place in places:
            if len(set(place.gpus)) != ask.gpu_count or len(set(place.mig)) != ask.mig_count:
                return f"is asked for GPUs {place.gpus} and slices {place.mig}: not what a replica gets"
            if ask.gpu_count and place.gpu_millis != ask.gpu_millis:
                return f"is asked for {place.gpu_millis} thousandths of a GPU where a replica gets {ask.gpu_millis}"
            for index in place.gpus:
                if not 0 <= index < len(free) or free[index] < place.gpu_millis:
                    return f"has GPU {index} in use"
                free[index] -= place.gpu_millis
            for index in place.mig:
                if index not in slices:
                    return f"has slice {index} of {ask.mig_profile} in use"
                slices.remove(index)
        return ""


def could_host(node: Node, ask: Resources) -> bool:
    """Would `node`, empty, take one replica of `ask`? Static: model, GPU memory, rdma, MIG, labels, taints, sizes."""
    return misfit(node, ask) == ""


def unsuited(node: Node, ask: Resources) -> str:
    """What about the kind of `node`, whatever its size, keeps a replica of `ask` away; "" when nothing does."""
    for key, value in ask.node_labels:
        if node.labels.get(key) != value:
            return f"has no label {key}={value}"
    for taint in node.taints:
        if taint not in ask.tolerate:
            return f"has the taint {taint}"
    if ask.rdma and not node.rdma:
        return "has no rdma"
    if (ask.gpu_count or ask.mig_count) and ask.gpu_types and node.gpu_type not in ask.gpu_types:
        return f"has {node.gpu_type or 'no GPUs'}"
    if ask.gpu_memory_bytes and node.gpu_memory_bytes < ask.gpu_memory_bytes:
        return "has GPUs with less memory"
    return ""


def misfit(node: Node, ask: Resources) -> str:
    """The first static reason why `node` can never host a replica of `ask`; "" when it can."""
    reason = unsuited(node, ask)
    if reason:
        return reason
    if ask.mig_count and node.mig.get(ask.mig_profile, 0) < ask.mig_count:
        return f"offers too few slices {ask.mig_profile}" if node.mig else "offers no MIG profiles"
    for wanted, there, what in (
        (ask.gpu_count, node.gpu_count, "GPUs"),
        (ask.cpu_millis, node.cpu_millis, "cpu"),
        (ask.held_memory_bytes, node.memory_bytes, "memory"),
        (ask.disk_bytes, node.disk_bytes, "disk"),
        (1, node.slot_count, "slots"),
    ):
        if wanted > there:
            return f"has too few {what}" if what in ("GPUs", "slots") else f"has too little {what}"
    return ""
