"""Would a document's gangs fit the nodes: answered with the scheduler's own placement, on nodes as a client sees them.

A page of a node tells less than the daemon knows (no GPU memory, rdma, disk), so these are taken as there. Called by
`ffd explain FILE`. What waits or runs already is `ffd why`'s to explain.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from ffd.core.model import Node
from ffd.core.pages import NodePage
from ffd.core.schedule.place import find_places
from ffd.core.space import Space
from ffd.core.spec import WHOLE_MILLIS, Spec, Task

PLENTY = sys.maxsize
CLOSED = ("cordoned", "draining", "quarantined")


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
    """The nodes as they are, or as if nothing ran and none were closed."""
    space = Space()
    there = [page for page in nodes if page.state != "lost"]
    space.replace(
        tuple(
            Node(
                name=page.name, gpu_type=page.gpu_type, gpu_count=page.gpu_count, cpu_millis=page.cpu_millis,
                memory_bytes=page.memory_bytes, slot_count=page.slot_count, disk_bytes=PLENTY, labels=page.labels,
                mig=page.mig, numa=page.numa, taints=page.taints,
            )
            for page in there
        )
    )  # fmt: skip
    for page in () if is_empty else there:
        gpus = page.gpu_free_millis
        slices = {profile: tuple(range(count)) for profile, count in page.mig_free.items()}
        space.nodes[page.name].restore(
            (
                page.slot_count - page.slot_used_count, page.cpu_millis - page.cpu_used_millis,
                page.memory_bytes - page.memory_used_bytes, PLENTY, gpus, gpus.count(WHOLE_MILLIS), slices,
                page.state in CLOSED, 0,
            )
        )  # fmt: skip
    return space
