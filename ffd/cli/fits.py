"""Would a document's gangs fit the nodes: answered with the scheduler's own placement, on nodes as a client sees them.

A page of a node tells less than the daemon knows (no GPU memory, rdma, disk), so these are taken as there. Called by
`ffd explain FILE`. What waits or runs already is `ffd why`'s to explain.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from ffd.core.model import Node, Place
from ffd.core.pages import NodePage
from ffd.core.schedule.place import find_places
from ffd.core.space import Space
from ffd.core.spec import Resources, Spec, Task

PLENTY = sys.maxsize


def verdict(spec: Spec, nodes: Sequence[NodePage] | None) -> str:
    """One sentence: now, later, or never; each gang for itself. `nodes` None: nobody to ask."""
    if nodes is None:
        return "not known: no daemon at hand"
    tasks = spec.tasks + spec.finally_tasks
    empty, now = _space(nodes, is_empty=True), _space(nodes, is_empty=False)
    never = [task.name for task in tasks if not _fits(task, empty)]
    if never:
        return f"never here: no set of nodes is large enough for {', '.join(never)}"
    later = [task.name for task in tasks if not _fits(task, now)]
    return f"yes, but now there is no room for {', '.join(later)}" if later else "yes, now"


def _fits(task: Task, space: Space) -> bool:
    """Whether one item of the task can be placed; an elastic gang at its floor."""
    known = msgspec.structs.replace(task.resources, gpu_memory_bytes=0, disk_bytes=0, rdma=False)
    replicas = task.gang.min_replicas or task.gang.replicas
    return find_places(space, known, task.gang, replicas) is not None


def _space(nodes: Sequence[NodePage], is_empty: bool) -> Space:
    space = Space()
    space.replace(
        tuple(
            Node(
                name=page.name, gpu_type=page.gpu_type, gpu_count=page.gpu_count, cpu_millis=page.cpu_millis,
                memory_bytes=page.memory_bytes, slot_count=page.slot_count, disk_bytes=PLENTY, labels=page.labels,
            )
            for page in nodes
        )
    )  # fmt: skip
    for page in () if is_empty else nodes:
        used = Resources(
            gpu_count=page.gpu_used_count, cpu_millis=page.cpu_used_millis, memory_bytes=page.memory_used_bytes
        )
        space.take((Place(page.name, tuple(range(page.gpu_used_count))),), used)
        space.nodes[page.name].slots = page.slot_count - page.slot_used_count
    return space
