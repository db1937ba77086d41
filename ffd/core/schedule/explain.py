"""Why a ready item is not running: the checks of admission and placement in their order, with numbers, computed on
demand by the functions that decide (`find_places`, `misfit`, `sizes`). Nothing is stored for it.
"""

from __future__ import annotations

from collections import Counter

from ffd.core.admit.order import in_order
from ffd.core.admit.quota import check_gang, closed_by, hopeless
from ffd.core.lanes import Lane
from ffd.core.live import LiveWorkflow
from ffd.core.model import Item
from ffd.core.pages import Check
from ffd.core.schedule.cycle import followed_domains
from ffd.core.schedule.place import find_places
from ffd.core.space import NodeSpace, could_host, misfit
from ffd.core.spec import WHOLE_MILLIS, Resources, Task
from ffd.core.state import State

CLOSED_NAMED = 3  # closed nodes that an explanation names
VERDICTS_MOST_COUNT = 1_024  # requests whose verdict on the empty cluster is remembered


def gang_text(task: Task) -> str:
    """`2 x (8 H100, 4 cpus, 16.0 GiB)`: what is asked, for people."""
    ask = task.resources
    parts = []
    if ask.gpu_count:
        parts.append(f"{ask.held_gpu_millis / 1000:g} {'|'.join(ask.gpu_types) or 'GPUs'}")
    if ask.mig_count:
        parts.append(f"{ask.mig_count} {ask.mig_profile}")
    if ask.cpu_millis:
        parts.append(f"{ask.cpu_millis / 1000:g} cpus")
    if ask.memory_bytes:
        parts.append(f"{ask.memory_bytes / 2**30:.1f} GiB")
    inner = ", ".join(parts) or "1 slot"
    return f"{task.gang.replicas} x ({inner})" if task.gang.replicas > 1 else inner


def checks(state: State, live: LiveWorkflow, name: str, number: int, now_ms: int) -> list[Check]:
    """Checks of a ready item, in the scheduler's order; the first that is not `pass` is the reason."""
    task, item = live.dag.tasks[name], live.tasks[name].items[number]
    found = [_suspended(live), _parallel(live, name, number)]
    found.append(_quota(state, live, task, sizes(task, item.since_at_ms or live.tasks[name].row.opened_at_ms, now_ms)))
    found.append(_possible(state, task))
    found.append(_fits(state, live, task, item, live.tasks[name].row.opened_at_ms, now_ms))
    return found


def _suspended(live: LiveWorkflow) -> Check:
    if live.row.state == "suspended":
        return Check(name="workflow", verdict="wait", detail="the workflow is suspended: `ffd resume` lets it go on")
    return Check(name="workflow", verdict="pass", detail=f"the workflow is {live.row.state}")


def _parallel(live: LiveWorkflow, name: str, number: int) -> Check:
    own, whole = live.dag.tasks[name].max_parallel, live.dag.spec.max_parallel
    if live.holds_place(name, number):
        bound = " and ".join(
            words for words, is_set in ((f"{own} of the task", own), (f"{whole} of the workflow", whole)) if is_set
        )
        return Check(name="max_parallel", verdict="pass", detail=f"at most {bound} at once" if bound else "no bound")
    if live.is_full(name):
        detail = f"all {own} places of the task are taken, by items that run or wait for room"
    else:
        detail = f"all {whole} places of the workflow are taken, by items that run or wait for room"
    return Check(name="max_parallel", verdict="wait", detail=detail)


def lane_text(state: State, lane: Lane, live: LiveWorkflow, name: str) -> str:
    """Why the head of a lane does not start now, in a few words."""
    task = live.dag.tasks[name]
    least = task.gang.min_replicas or task.gang.replicas
    check = _quota(state, live, task, range(least, least + 1))
    if check.verdict != "pass":
        return check.detail
    is_blocked = state.space.version in (lane.kind.shape.blocked_at, lane.blocked_at)
    return "no room now" if is_blocked else "next cycle"


def _quota(state: State, live: LiveWorkflow, task: Task, replicas: range) -> Check:
    """May its tenant hold it, in any size that is tried now?"""
    tenant, ask = live.tenant, task.resources
    closed = closed_by(tenant)
    if closed is not None:
        return Check(name="quota", verdict="wait", detail=f"tenant {closed.label} is disabled")
    block = hopeless(state.tenancy, tenant, ask, replicas[-1])
    if block is not None:
        return Check(name="quota", verdict="fail", detail=f"will never run here: {block.text()}")
    block = check_gang(state.tenancy, tenant, ask, replicas[-1])
    if block is not None:
        return Check(name="quota", verdict="wait", detail=block.text())
    words = "the quotas of its tenant allow it" if tenant.has_quota else "no quota bounds its tenant"
    return Check(name="quota", verdict="pass", detail=words)


def _possible(state: State, task: Task) -> Check:
    """Could an empty cluster take it at all?"""
    reason = never_fits(state, task)
    if reason:
        return Check(name="cluster", verdict="fail", detail=f"will never run here: {reason}")
    return Check(name="cluster", verdict="pass", detail=f"{len(state.nodes)} nodes, an empty cluster could take it")


WHERE = {"any": "", "compact": " on whole nodes"}


def never_fits(state: State, task: Task) -> str:
    """Why the gang would not fit even if every node were empty; "" when it would. Worked out once for each request and
    inventory: every submit asks."""
    request, known = (task.resources, task.gang), state.space.verdicts
    found = known.get(request)
    if found is None:
        if len(known) >= VERDICTS_MOST_COUNT:
            known.clear()
        found = known[request] = _never_fits(state, task)
    return found


def _never_fits(state: State, task: Task) -> str:
    ask, empty = task.resources, state.space.emptied()
    least = task.gang.min_replicas or task.gang.replicas
    if find_places(empty, ask, task.gang, least) is not None:
        return ""
    hosts = [space for space in empty.order if could_host(space.node, ask)]
    if not hosts:
        reasons = Counter(misfit(node, ask) for node in state.nodes)
        words = "; ".join(f"{count} of {len(state.nodes)} nodes: {why}" for why, count in sorted(reasons.items()))
        return words or "there are no nodes"
    at_once = sum(space.room(ask) for space in hosts)
    where = WHERE.get(task.gang.topology, f" in one {task.gang.topology} domain")
    return f"{least} replicas are asked{where}, all nodes together hold {at_once}"


def _fits(state: State, live: LiveWorkflow, task: Task, item: Item, opened_at_ms: int, now_ms: int) -> Check:
    domains = followed_domains(state, live, task)
    for replicas in sizes(task, item.since_at_ms or opened_at_ms, now_ms):
        if find_places(state.space, task.resources, task.gang, replicas, domains) is not None:
            return Check(name="space", verdict="pass", detail="fits now: the next cycle places it")
    return Check(name="space", verdict="wait", detail=nearest_fit(state, task))


def nearest_fit(state: State, task: Task) -> str:
    """How far the gang is from fitting: replicas that fit now, and what is free."""
    ask = task.resources
    hosts = _hosts(state, ask)
    room = sum(space.room(ask) for space in hosts)
    nearest = f"asks {gang_text(task)}: {room} of {task.gang.replicas} replicas fit now"
    taking = [space for space in hosts if not space.is_closed]
    text = f"{nearest}; free on the {len(taking)} nodes that qualify: {_free(taking, ask)}"
    closed = [f"{space.node.name} {state.space.closed[space.node.name]}" for space in hosts if space.is_closed]
    if closed:
        more = f"; and {len(closed) - CLOSED_NAMED} more" if len(closed) > CLOSED_NAMED else ""
        text += f"; closed to new work: {'; '.join(closed[:CLOSED_NAMED])}{more}"
    return text


def _hosts(state: State, ask: Resources) -> list[NodeSpace]:
    """Nodes that could host a replica when empty."""
    return [space for space in state.space.order if could_host(space.node, ask)]


def _free(spaces: list[NodeSpace], ask: Resources) -> str:
    parts = [f"{sum(space.slots for space in spaces)} slots"]
    if ask.gpu_count:
        whole = sum(space.whole_count for space in spaces)
        parted = sum(sum(space.gpu_millis) for space in spaces) / WHOLE_MILLIS - whole
        is_part = ask.gpu_millis < WHOLE_MILLIS
        parts.append(f"{whole} GPUs" + (f" and {parted:g} in parts" if is_part and parted > 0 else ""))
    if ask.mig_count:
        parts.append(f"{sum(len(space.mig.get(ask.mig_profile, ())) for space in spaces)} {ask.mig_profile}")
    if ask.cpu_millis:
        parts.append(f"{sum(space.cpu_millis for space in spaces) / 1000:g} cpus")
    if ask.memory_bytes:
        parts.append(f"{sum(space.memory_bytes for space in spaces) / 2**30:.1f} GiB")
    return ", ".join(parts)


def sizes(task: Task, ready_at_ms: int, now_ms: int) -> range:
    """Gang sizes to try, largest first: below the full size only for an elastic gang that waited long enough."""
    gang = task.gang
    waited = gang.min_replicas and now_ms >= ready_at_ms + gang.wait_ms
    return range(gang.replicas, (gang.min_replicas if waited else gang.replicas) - 1, -1)


def position(state: State, live: LiveWorkflow, name: str, number: int) -> int:
    """How many lanes of waiting gangs are ahead of it, and items in its own; 0 when it is not queued."""
    for place, candidate in enumerate(in_order(state), start=1):
        if candidate.lane is state.lane_of(live, name):
            own = [e for e in candidate.lane.entries() if state.is_eligible(e, candidate.lane)]
            mine = [e for e in own if e[1] == live.row.id and e[3] == live.dag.order[name] and e[4] == number]
            return place + sum(entry < mine[0] for entry in own) if mine else 0
    return 0


def holders(state: State, task: Task, limit: int = 5) -> list[str]:
    """Who holds what this gang would use: attempts on the nodes that qualify, oldest admission first."""
    hosts = frozenset(space.node.name for space in _hosts(state, task.resources))
    found = [
        (attempt.admitted_at_ms, attempt_id, live.row.handle)
        for attempt_id, attempt, live in state.reserved()
        if any(place.node in hosts for place in attempt.places)
    ]
    return [f"{handle}/{attempt_id.task}[{attempt_id.item}]" for _, attempt_id, handle in sorted(found)[:limit]]
