"""How far a gang that does not fit is from fitting: where it comes nearest, what is missing there, who holds it.

By the vectors that placement uses (`rooms`): no walk over nodes. Called by `explain`. Never here: whether it fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np

from ffd.core.model import Attempt, AttemptId
from ffd.core.pages import HolderPage
from ffd.core.schedule.ends import FOREVER_MS, end_at_ms
from ffd.core.schedule.place import ANY, COMPACT
from ffd.core.schedule.possible import closed_hosts
from ffd.core.schedule.reserve import Reservation
from ffd.core.schedule.rooms import Ints, Models, Rooms, finder_of
from ffd.core.schedule.subject import Sight, Subject, ask_text, counted, some
from ffd.core.space import NodeSpace
from ffd.core.spec import Resources
from ffd.core.state import State
from ffd.core.topology import SAME_NODE

HOLDERS_LOOKED_COUNT = 4_096  # attempts that are looked at for who holds what is missing
HOLDERS_SHOWN_COUNT = 5


class Nearest(NamedTuple):
    """`detail`, `facts`: as in Check. `nodes`: those that matter, by index; what they lack keeps the gang waiting."""

    detail: str
    facts: dict[str, object]
    nodes: Ints


def nearest(state: State, it: Subject, domains: frozenset[str], models: Models) -> Nearest:
    """The nearest fit of a gang that does not fit now. With several models, that of which most replicas fit."""
    ask, gang, finder = it.ask, it.task.gang, finder_of(state.space)
    finder.mirror.follow()
    choices = [(model,) for model in ask.gpu_types if models is None or model in models] if ask.gpu_types else [models]
    found = [finder.rooms(ask, choice) for choice in choices or [()]]
    rooms = max(found, key=lambda one: one.total)  # the first of equals: the order of preference
    hosts = np.flatnonzero(rooms.hosts & ~finder.mirror.closed)
    where, there = _best_domain(rooms, gang.topology, domains, hosts)
    size = it.sizes()[-1]
    fit = min(int(rooms.room[there].sum()), size)
    together = min(rooms.total, size)
    facts: dict[str, object] = {"replicas": size, "fit_count": fit, "node_count": int(hosts.size), "where": where}
    words = [
        f"asks {gang_words(it, size)}: {fit} of {counted(size, 'replica')} fit now" + (f" {where}" if where else "")
    ]
    if where and together > fit:
        words.append(f"{together} fit on all nodes together, but not in one {gang.topology} domain")
        facts["fit_anywhere_count"] = together
    if fit < size:
        words.append(_missing(state, rooms, size - fit, there, facts))
    closest = _closest(state, rooms, there)
    if closest is not None:
        words.append(f"closest: {closest.node.name} {short_text(closest, ask)}")
        facts["closest"] = closest.node.name
    shut = closed_hosts(state, ask) if state.space.closed else []
    if shut:
        words.append(f"closed to new work: {some(shut)}")
        facts["closed_count"] = len(shut)
    return Nearest("; ".join(words), facts, there)


def gang_words(it: Subject, size: int) -> str:
    return f"{size} x ({ask_text(it.ask)})" if size > 1 else ask_text(it.ask)


def _best_domain(rooms: Rooms, word: str, domains: frozenset[str], hosts: Ints) -> tuple[str, Ints]:
    """Where most replicas fit, in words and as nodes; everywhere when the topology does not matter."""
    if word in (ANY, COMPACT) or not hosts.size:
        return "", hosts
    if word == SAME_NODE:
        one = int(hosts[rooms.room[hosts].argmax()])
        return f"on {rooms.space.order[one].node.name}", np.array([one])
    level = rooms.space.topology.level(word)
    there = np.bincount(level.ids[hosts], weights=rooms.room[hosts], minlength=level.count)
    having = np.bincount(level.ids[hosts], minlength=level.count) > 0
    if domains:
        having &= np.array([name in domains for name in level.names], bool)
    if not having.any():
        return f"in no {word} domain", hosts[:0]
    capacity = np.bincount(level.ids[hosts], weights=rooms.capacity[hosts], minlength=level.count)
    best = int(np.lexsort((capacity, np.where(having, there, -1)))[-1])
    name = level.names[best]
    text = f"in {word} {name}" if not name.startswith("node:") else f"on {name.removeprefix('node:')}"
    return text, hosts[level.ids[hosts] == best]


def _missing(state: State, rooms: Rooms, replicas: int, there: Ints, facts: dict[str, object]) -> str:
    """What the rest of the gang asks for, and what is idle and of no use to it."""
    ask = rooms.ask
    facts["missing_replicas"] = replicas
    text = f"room is missing for {replicas}"
    if not ask.gpu_count:
        return text
    facts["missing_gpu_millis"] = replicas * ask.held_gpu_millis
    full = there[rooms.room[there] == 0]
    idle = int(np.maximum(finder_of(state.space).mirror.gpu_millis[full], 0).sum())
    facts["idle_gpu_millis"] = idle
    parts = f"; {idle / 1000:g} GPUs are idle in parts too small for one" if idle else ""
    return f"{text} ({replicas * ask.held_gpu_millis / 1000:g} GPUs){parts}"


def _closest(state: State, rooms: Rooms, there: Ints) -> NodeSpace | None:
    """The node without room that lacks least: of those with most free GPUs (else cpu) the first."""
    full = there[rooms.room[there] == 0]
    if not full.size:
        return None
    mirror = finder_of(state.space).mirror
    ask = rooms.ask
    free = mirror.whole[full] if ask.gpu_count else np.minimum(mirror.cpu[full], ask.cpu_millis)
    return state.space.order[int(full[free.argmax()])]


def short_text(one: NodeSpace, ask: Resources) -> str:
    """`has 6 of 8 GPUs free`: what one replica lacks on this node now."""
    return "; ".join(
        f"has {there:g} of {wanted:g}{unit} free" for there, wanted, unit in _shortages(one, ask)
    ) or "has no room"  # fmt: skip


def _shortages(one: NodeSpace, ask: Resources) -> Iterator[tuple[float, float, str]]:
    if one.slots < 1:
        yield 0, 1, " slots"
    if ask.gpu_count and ask.gpu_millis == 1_000 and one.whole_count < ask.gpu_count:
        yield one.whole_count, ask.gpu_count, " GPUs"
    elif ask.gpu_count and max(one.gpu_millis, default=0) < ask.gpu_millis:
        yield max(0, *one.gpu_millis) / 1000, ask.gpu_millis / 1000, " of one GPU"
    if ask.mig_count and len(one.mig.get(ask.mig_profile, ())) < ask.mig_count:
        yield len(one.mig.get(ask.mig_profile, ())), ask.mig_count, f" slices {ask.mig_profile}"
    if one.cpu_millis < ask.cpu_millis:
        yield max(0, one.cpu_millis) / 1000, ask.cpu_millis / 1000, " cpus"
    if one.memory_bytes < ask.held_memory_bytes:
        yield max(0, one.memory_bytes) // 2**20, ask.held_memory_bytes // 2**20, " MiB"
    if one.disk_bytes < ask.disk_bytes:
        yield max(0, one.disk_bytes) // 2**20, ask.disk_bytes // 2**20, " MiB of disk"


# ----------------------------------------------------------------------------------------------------------- holders


def holders_on(state: State, nodes: Ints, sight: Sight, now_ms: int) -> tuple[HolderPage, ...]:
    """Who holds room on these nodes (by index), the first to end first; some of them."""
    wanted = {state.space.order[index].node.name for index in nodes.tolist()}  # only asked
    looked = islice(state.reserved(), HOLDERS_LOOKED_COUNT)
    there = [found for found in looked if any(place.node in wanted for place in found[1].places)]
    return holder_pages(state, [attempt for attempt, _, _ in there], sight, now_ms)


def holders_for(state: State, reservation: Reservation, sight: Sight, now_ms: int) -> tuple[HolderPage, ...]:
    """Whose end a reservation waits for."""
    return holder_pages(state, [who for who in reservation.counts_on if state.is_live(who)], sight, now_ms)


def holder_pages(state: State, attempts: list[AttemptId], sight: Sight, now_ms: int) -> tuple[HolderPage, ...]:
    """The first to end first; what the reader may not see as one at the end."""
    ends = sorted((end_at_ms(state, who, now_ms), order, who) for order, who in enumerate(attempts))
    own = [(at_ms, who) for at_ms, _, who in ends if sight.project(state.workflows[who.workflow].row.project)]
    pages = [_holder(state, who, at_ms) for at_ms, who in own[:HOLDERS_SHOWN_COUNT]]
    left = [who for _, who in own[HOLDERS_SHOWN_COUNT:]] if sight.is_full else []
    hidden = [who for _, _, who in ends if not sight.project(state.workflows[who.workflow].row.project)] or left
    if hidden:
        pages.append(HolderPage(gang_count=len(hidden)))
    return tuple(pages)


def _holder(state: State, who: AttemptId, at_ms: int) -> HolderPage:
    found = state.current(who)
    assert found is not None
    live, _, item, running = found
    ask, places = live.dag.tasks[who.task].resources, running.places
    return HolderPage(
        workflow=live.row.handle, project=live.row.project, task=who.task,
        item=who.item if live.dag.tasks[who.task].is_fanout else -1, replica_count=len(places),
        gpu_millis=ask.held_gpu_millis * len(places), nodes=_nodes(running), since_at_ms=running.admitted_at_ms,
        ends_at_ms=at_ms if at_ms < FOREVER_MS else 0,
        basis="stopping" if item.state == "stopping" else basis_of(state, who),
    )  # fmt: skip


def _nodes(running: Attempt) -> tuple[str, ...]:
    return tuple(dict.fromkeys(place.node for place in running.places))


def basis_of(state: State, who: AttemptId) -> Literal["", "declared", "learnt"]:
    """Where the forecast of its end comes from: declared, learnt, or "" when there is none."""
    live = state.workflows[who.workflow]
    task = live.dag.tasks[who.task]
    if task.timeouts.run_ms:
        return "declared"
    return "learnt" if state.forecast.duration_ms(live.series, task) else ""
