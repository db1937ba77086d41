"""Which GPUs of one node a replica gets: whole ones near each other, the fullest shared one, the first MIG slices.

Pure functions over what is free on a node. Called by `core.schedule` for the node that was chosen. Never here: which
node, and the books themselves (`core.nodespace`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ffd.core.model import Place
from ffd.core.nodespace import NodeSpace
from ffd.core.spec import WHOLE_MILLIS, Resources

ChooseShared = Callable[[NodeSpace, Sequence[int], Resources], int]  # (node, free millis by GPU, ask) -> GPU index


def tightest_shared(space: NodeSpace, free_millis: Sequence[int], ask: Resources) -> int:
    """The GPU with the least room that holds the fraction, the first of them."""
    return min(
        (free, index) for index, free in enumerate(free_millis) if free >= ask.gpu_millis
    )[1]  # fmt: skip


def assign(space: NodeSpace, ask: Resources, replicas: int, shared: ChooseShared = tightest_shared) -> list[Place]:
    """Places for so many replicas on this node; they must fit (`NodeSpace.room`)."""
    name = space.node.name
    if ask.gpu_count:
        if ask.gpu_millis < WHOLE_MILLIS:
            return _shared_places(space, ask, replicas, shared)
        free, places = space.gpus, []
        for _ in range(replicas):
            chosen = near(free, space.node.numa, ask.gpu_count)
            places.append(Place(name, chosen))
            if len(places) < replicas:
                free = [index for index in free if index not in chosen]
        return places
    if ask.mig_count:
        slices = space.mig[ask.mig_profile]
        size = ask.mig_count
        return [Place(name, mig=tuple(slices[k * size : (k + 1) * size])) for k in range(replicas)]
    return [Place(name)] * replicas


def _shared_places(space: NodeSpace, ask: Resources, replicas: int, shared: ChooseShared) -> list[Place]:
    free, places = list(space.gpu_millis), []
    for _ in range(replicas):
        index = shared(space, free, ask)
        free[index] -= ask.gpu_millis
        places.append(Place(space.node.name, (index,), ask.gpu_millis))
    return places


def near(free: Sequence[int], numa: Sequence[int], count: int) -> tuple[int, ...]:
    """`count` of the free indices from as few NUMA nodes as can be: from the fullest one that has enough, else from
    the emptiest ones together. Ascending."""
    if not numa or count == len(free):
        return tuple(free[:count])
    groups: dict[int, list[int]] = {}
    for index in free:
        groups.setdefault(numa[index] if index < len(numa) else -1, []).append(index)
    enough = [(len(group), key) for key, group in groups.items() if len(group) >= count]
    if enough:
        return tuple(groups[min(enough)[1]][:count])
    chosen: list[int] = []
    for _, key in sorted((-len(group), key) for key, group in groups.items()):
        chosen += groups[key][: count - len(chosen)]
    return tuple(sorted(chosen))
