"""Views of the cluster: state -> pages of nodes, GPU models, what waits, and what a drain would do. On demand.

Called by the daemon's engine; shown by API, CLI and TUI. Never here: the shapes (pages), workflows (views), who may see
which names (api.access), or any change of state.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from functools import partial

from ffd.core.admit.order import Candidate, head_of, in_order
from ffd.core.health import NodeMark, closed_text, failures_text
from ffd.core.model import Node
from ffd.core.nodes import Victim, select, victims
from ffd.core.nodespace import NodeSpace
from ffd.core.pages import DrainPage, GpuPage, HoldPage, NodeDetail, NodePage, QueuePage, StopPage
from ffd.core.schedule.admissible import lane_text
from ffd.core.schedule.ends import FOREVER_MS
from ffd.core.schedule.place import find_places
from ffd.core.schedule.subject import gang_text
from ffd.core.space import Trial
from ffd.core.spec import Gang, Resources
from ffd.core.state import State
from ffd.errors import Refusal

QUEUE_MOST_COUNT = 1_000  # lanes that are shown one by one

# ------------------------------------------------------------------------------------------------------------- nodes


def node_pages(state: State, after: str = "", limit: int = 1000) -> list[NodePage]:
    """Nodes in name order, from the one after `after`; also those that are lost, as long as they are closed."""
    order, marks = state.space.order, state.health.marks
    first = bisect_right(order, after, key=lambda space: space.node.name) if after else 0
    pages = [_node_page(state, space) for space in order[first : first + limit]]
    lost = [name for name in marks if name > after and name not in state.space.nodes and marks[name].is_closed]
    return sorted((*pages, *(_lost_page(state, name) for name in lost)), key=lambda page: page.name)[:limit]


def node_detail(state: State, name: str) -> NodeDetail:
    """One node and who holds room there. Refusal (not_found) names a near one."""
    found = select(state, (name,), {})
    if isinstance(found, Refusal):
        raise found
    space = state.space.nodes.get(name)
    page = _node_page(state, space) if space is not None else _lost_page(state, name)
    holds = []
    for attempt, running, live in state.reserved():
        places = [place for place in running.places if place.node == name]
        if places:
            holds.append(
                HoldPage(
                    workflow=live.row.handle, project=live.row.project, task=attempt.task, item=attempt.item,
                    attempt=attempt.attempt, state=live.tasks[attempt.task].items[attempt.item].state,
                    replica_count=len(places), gpus=tuple(sorted(gpu for place in places for gpu in place.gpus)),
                    since_at_ms=running.admitted_at_ms,
                )
            )  # fmt: skip
    return NodeDetail(node=page, holds=tuple(sorted(holds, key=lambda hold: hold.since_at_ms)))


def _node_page(state: State, space: NodeSpace) -> NodePage:
    node, mark = space.node, state.health.mark(space.node.name)
    used_slots = node.slot_count - space.slots
    return NodePage(
        name=node.name, gpu_type=node.gpu_type, gpu_count=node.gpu_count,
        gpu_used_count=node.gpu_count - space.whole_count, cpu_millis=node.cpu_millis,
        cpu_used_millis=node.cpu_millis - space.cpu_millis, memory_bytes=node.memory_bytes,
        memory_used_bytes=node.memory_bytes - space.memory_bytes, slot_count=node.slot_count,
        slot_used_count=used_slots, labels=node.labels, state=_state_word(mark, used_slots > 0), why=_why(mark),
        until_at_ms=mark.until_at_ms, gpu_free_millis=tuple(space.gpu_millis), mig=node.mig,
        mig_free={profile: len(slices) for profile, slices in sorted(space.mig.items())}, numa=node.numa,
        taints=node.taints,
    )  # fmt: skip


def _lost_page(state: State, name: str) -> NodePage:
    mark = state.health.mark(name)
    return NodePage(name=name, state="lost", why=_why(mark), until_at_ms=mark.until_at_ms)


def _state_word(mark: NodeMark, is_used: bool) -> str:
    if mark.cordoned:
        return "draining" if mark.draining and is_used else "cordoned"
    if mark.quarantine:
        return "quarantined" if mark.quarantine == "closed" else "probation"
    return "ready"


def _why(mark: NodeMark) -> str:
    if mark.quarantine == "probation" and not mark.cordoned:
        return f"was quarantined after {failures_text(mark)}"
    return closed_text(mark)


# -------------------------------------------------------------------------------------------------------------- GPUs


def gpu_pages(state: State) -> list[GpuPage]:
    """One page for each GPU model, by name. Costs one look at each node."""
    by_model: dict[str, list[NodeSpace]] = {}
    for space in state.space.order:
        if space.node.gpu_count:
            by_model.setdefault(space.node.gpu_type, []).append(space)
    return [_gpu_page(state, model, by_model[model]) for model in sorted(by_model)]


def _gpu_page(state: State, model: str, spaces: list[NodeSpace]) -> GpuPage:
    total = free = fragmented = cordoned = quarantined = 0
    empty: dict[int, list[Node]] = {}  # open nodes with all their GPUs free, by how many they have
    for space in spaces:
        count, whole = space.node.gpu_count, max(space.whole_count, 0)
        total += count
        mark = state.health.mark(space.node.name)
        if mark.cordoned:
            cordoned += whole
        elif mark.is_closed:
            quarantined += whole
        else:
            free += whole
            fragmented += whole if whole < count else 0
            if whole == count and space.slots > 0:
                empty.setdefault(count, []).append(space.node)
    size = max(empty, key=lambda count: (count * len(empty[count]), count), default=0)
    nodes = empty.get(size, [])
    return GpuPage(
        model=model, node_count=len(spaces), total_count=total, used_count=total - free - cordoned - quarantined,
        free_count=free, fragmented_count=fragmented, cordoned_count=cordoned, quarantined_count=quarantined,
        gang_replicas=len(nodes), gang_gpus_count=size, domains=_largest_domains(state, nodes),
    )  # fmt: skip


def _largest_domains(state: State, nodes: list[Node]) -> dict[str, int]:
    """How many of these nodes one domain holds at most, by topology level; levels that part nothing are left out."""
    found: dict[str, int] = {}
    for level in state.space.topology.useful():
        counts: dict[int, int] = {}
        for node in nodes:
            domain = int(level.ids[state.space.nodes[node.name].index])
            counts[domain] = counts.get(domain, 0) + 1
        found[level.word] = max(counts.values(), default=0)
    return found


# ------------------------------------------------------------------------------------------------------------- queue


def queue_pages(state: State, project: str = "") -> list[QueuePage]:
    """Lanes of waiting gangs, of one project or of all, in scheduling order of their heads: the first QUEUE_MOST_COUNT,
    and how many gangs wait in those behind them. Costs what these cost, not what waits in them, or behind them."""
    pages: list[QueuePage] = []
    position = shown_count = 0
    for lanes in in_order(state):
        if project and lanes[0].project not in ("", project):  # "": lanes of all projects (fifo, sjf)
            position += len(lanes)
            continue
        heads = (head_of(state, lane) for lane in lanes)
        for candidate in sorted((head for head in heads if head is not None), key=lambda one: one.urgency):
            position += 1
            page = _queue_page(state, candidate, position)
            if not project or page.project == project:
                pages.append(page)
                shown_count += page.waiting_count
            if len(pages) == QUEUE_MOST_COUNT:
                return [*pages, *_behind(state, project, position, shown_count)]
    return pages


def _behind(state: State, project: str, position: int, shown_count: int) -> list[QueuePage]:
    """One page for all that is not shown; none when that is nothing."""
    lanes = state.lanes.lanes.values()
    count = sum(lane.count for lane in lanes if not project or lane.project in ("", project)) - shown_count
    reason = "not shown: these come later" + ("" if project else "; ask for one project to see its own")
    rest = QueuePage(position=position + 1, project=project, gang="", waiting_count=count, head="", reason=reason)
    return [rest] if count > 0 else []


def _queue_page(state: State, candidate: Candidate, position: int) -> QueuePage:
    lane, entry = candidate.lane, candidate.entry
    live = state.workflows[entry[1]]
    name = live.dag.names[entry[3]]
    return QueuePage(
        position=position, project=live.row.project, gang=gang_text(live.dag.tasks[name]),
        waiting_count=lane.count, head=f"{live.row.handle}/{name}[{entry[4]}]",
        reason=lane_text(state, lane, live, name), expected_at_ms=_expected_at_ms(state, candidate),
    )  # fmt: skip


def _expected_at_ms(state: State, candidate: Candidate) -> int:
    """The start that the head's reservation promises; 0 = it has none, or nobody knows."""
    found = state.reservations.get(candidate.lane.kind.shape)
    if found is None or found.entry != candidate.entry or found.start_at_ms >= FOREVER_MS:
        return 0
    start_at_ms: int = found.start_at_ms
    return start_at_ms


# ------------------------------------------------------------------------------------------------- preview of a drain


def drain_page(
    state: State, nodes: Iterable[str], labels: Mapping[str, str], grace_ms: int | None, now_ms: int
) -> DrainPage:
    """What `nodes.drain` would stop now (it asks the same function), and where that could go. Where is found one after
    the other in the order of the queue, as if nothing else waited. Refusal as of the drain itself."""
    names = select(state, nodes, labels)
    if isinstance(names, Refusal):
        raise names
    closed = frozenset(names)  # only asked
    found = sorted(victims(state, names), key=lambda one: (-one.live.row.priority, one.attempt))
    with state.space.trial() as trial:
        for name in names:
            trial.close(name, "drained")
        for victim in found:
            beside = tuple(place for place in victim.running.places if place.node not in closed)
            trial.give(beside, victim.live.dag.tasks[victim.attempt.task].resources)
        elsewhere = _elsewhere(state, trial, found)
    stops = tuple(map(partial(_stop_page, state, grace_ms, now_ms), found, elsewhere))
    return DrainPage(
        nodes=names, stops=stops, replica_count=sum(stop.replica_count for stop in stops),
        gpu_millis=sum(stop.gpu_millis for stop in stops),
        lost_gpu_ms=sum(stop.lost_ms * stop.gpu_millis for stop in stops) // 1000,
        waiting_count=sum(not stop.elsewhere for stop in stops),
    )  # fmt: skip


def _elsewhere(state: State, trial: Trial, found: list[Victim]) -> list[tuple[str, ...]]:
    """The nodes where each could go once those before it have gone there; () = none. There is less room for each next
    one, so what did not fit once is not looked for again."""
    nodes: list[tuple[str, ...]] = []
    hopeless: set[tuple[Resources, Gang]] = set()  # only asked
    for victim in found:
        task = victim.live.dag.tasks[victim.attempt.task]
        places = None
        if (task.resources, task.gang) not in hopeless:
            places = find_places(state.space, task.resources, task.gang, task.gang.replicas)
        if places is None:
            hopeless.add((task.resources, task.gang))
        else:
            trial.take(places, task.resources)
        nodes.append(tuple(dict.fromkeys(place.node for place in places or ())))
    return nodes


def _stop_page(state: State, grace_ms: int | None, now_ms: int, victim: Victim, elsewhere: tuple[str, ...]) -> StopPage:
    attempt, running, live = victim.attempt, victim.running, victim.live
    task = live.dag.tasks[attempt.task]
    began_at_ms = max(running.running_at_ms, running.saved_at_ms)
    default_ms = task.checkpoint.grace_ms if task.checkpoint else state.limits.stop_grace_ms
    return StopPage(
        workflow=live.row.handle, project=live.row.project, task=attempt.task, item=attempt.item,
        attempt=attempt.attempt, replica_count=len(running.places),
        gpu_millis=task.resources.held_gpu_millis * len(running.places),
        lost_ms=max(now_ms - began_at_ms, 0) if running.running_at_ms else 0, has_checkpoint=running.saved_at_ms > 0,
        grace_ms=default_ms if grace_ms is None else grace_ms,
        elsewhere=elsewhere,
    )  # fmt: skip
