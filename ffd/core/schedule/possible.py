"""Could the cluster take a gang at all, were it empty? Worked out once for each request and inventory.

Called by submit (which warns), `explain` and `ffd simulate`. Never here: what is free now (nearest).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import msgspec
import numpy as np

from ffd.core.health import closed_text
from ffd.core.schedule.place import find_places
from ffd.core.schedule.rooms import finder_of
from ffd.core.space import NodeSpace, could_host, misfit
from ffd.core.spec import Resources, Task
from ffd.core.state import State

WHERE = {"any": "", "compact": " on whole nodes"}
VERDICTS_MOST_COUNT = 1_024  # requests whose verdict on the empty cluster is remembered


def never_fits(state: State, task: Task) -> str:
    """Why the gang would not fit even if every node were empty and open; "" when it would."""
    return _remembered(state, task, (task.resources, task.gang), ())


def never_fits_open(state: State, task: Task) -> str:
    """The same, of the nodes that take work now."""
    closed = tuple(name for name in state.space.closed if name in state.space.nodes)
    return _remembered(state, task, (task.resources, task.gang, closed), closed) if closed else never_fits(state, task)


def _remembered(state: State, task: Task, key: Hashable, closed: tuple[str, ...]) -> str:
    known = state.space.verdicts
    found = known.get(key)
    if found is None:
        if len(known) >= VERDICTS_MOST_COUNT:
            known.clear()
        with state.space.emptied().trial() as trial:
            for name in closed:
                trial.close(name, "closed")
            found = known[key] = _never_fits(state, task)
    return found


def _never_fits(state: State, task: Task) -> str:
    """Tried on the empty twin of the inventory, as it is now."""
    ask, empty = task.resources, state.space.emptied()
    least = task.gang.min_replicas or task.gang.replicas
    if find_places(empty, ask, task.gang, least) is not None:
        return ""
    hosts = [one for one in empty.order if could_host(one.node, ask)]
    if not hosts:
        reasons = Counter(misfit(node, ask) for node in state.nodes)
        words = "; ".join(f"{count} of {len(state.nodes)} nodes: {why}" for why, count in sorted(reasons.items()))
        return words or "there are no nodes"
    at_once = sum(one.room(ask) for one in hosts)
    where = WHERE.get(task.gang.topology, f" in one {task.gang.topology} domain")
    return f"{least} replicas are asked{where}, all nodes together hold {at_once}"


def unfit_counts(state: State, ask: Resources) -> dict[str, int]:
    """Why nodes cannot host a replica, though they were empty: reason -> nodes. Static reasons, then how they are."""
    space = state.space
    mirror = finder_of(space).mirror
    rest = msgspec.structs.replace(ask, node_labels=())
    by_kind = [misfit(node, rest) for node in mirror.kind_nodes]
    sizes = np.bincount(mirror.kinds, minlength=len(by_kind)).tolist() if by_kind else []
    counts: dict[str, int] = {}
    for reason, size in zip(by_kind, sizes, strict=True):
        if reason:
            counts[reason] = counts.get(reason, 0) + size
    if ask.node_labels:
        for one in space.order:
            reason = misfit(one.node, ask)
            if reason.startswith("has no label"):
                counts[reason] = counts.get(reason, 0) + 1
    for name in space.closed:
        shut = space.nodes.get(name)
        if shut is not None and not misfit(shut.node, ask):
            word = _closed_word(state, shut)
            counts[word] = counts.get(word, 0) + 1
    return dict(sorted(counts.items()))


def _closed_word(state: State, one: NodeSpace) -> str:
    """In one word: who closed it, and why, is for `ffd nodes`."""
    return f"is {closed_text(state.health.mark(one.node.name)).partition(' ')[0].rstrip(':;') or 'closed'}"


def closed_hosts(state: State, ask: Resources) -> list[str]:
    """Closed nodes that could host a replica, each with why it is closed."""
    nodes, closed = state.space.nodes, state.space.closed
    return [f"{name} {why}" for name, why in closed.items() if name in nodes and could_host(nodes[name].node, ask)]
