"""What must always hold of a `State` between two steps. `check(state)` looks at everything: in tests, the simulation
and `ffd fsck`; each fault begins with the name of its invariant (S7, S9, ...) as docs and tests use it.

Never here: what must hold between states (histories): see `ffd.testing.ledger`. Changes nothing, decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ffd.core.amounts import amounts_on
from ffd.core.dag import is_met
from ffd.core.health import closed_text
from ffd.core.live import LiveTask, LiveWorkflow
from ffd.core.model import HOLDS_RESERVATION, TERMINAL, Attempt, AttemptId, Item
from ffd.core.schedule.cycle import plan
from ffd.core.space import Space
from ffd.core.spec import WHOLE_MILLIS, Task
from ffd.core.state import State
from ffd.core.tenancy import ONE_WORKFLOW, Tenancy, Tenant


class Broken(AssertionError):
    """An invariant does not hold: raised by whoever checks as it goes."""


def check(state: State) -> list[str]:
    """Every invariant that is broken, in words; empty = all hold. To be called between steps, not within one."""
    faults = [*_space(state), *_marks(state), *_counts(state), *_tenants(state), *_queue(state)]
    for live in state.workflows.values():
        faults.extend(_workflow(live))
        faults.extend(_tasks(live))
        faults.extend(_places(live))
    return faults


# ------------------------------------------------------------------------------------------- reservations, counters


def _space(state: State) -> Iterator[str]:
    """S7: what is free is what there is minus what is reserved. S3: no GPU has two owners."""
    fresh = Space(state.policy)
    fresh.closed = state.space.closed
    fresh.replace(state.nodes)
    owners: Counter[tuple[str, str, int]] = Counter()  # thousandths of GPUs, and slices
    for attempt, running, live in state.reserved():
        fresh.take(running.places, live.dag.tasks[attempt.task].resources)
        profile = live.dag.tasks[attempt.task].resources.mig_profile
        for place in running.places:
            owners.update({(place.node, "GPU", gpu): place.gpu_millis for gpu in place.gpus})
            owners.update({(place.node, profile, index): WHOLE_MILLIS for index in place.mig})
    for (node, what, index), millis in owners.items():
        if millis > WHOLE_MILLIS:
            yield f"S3 {what} {index} of {node} is given out {millis / WHOLE_MILLIS:g} times"
    if list(fresh.nodes) != list(state.space.nodes):
        yield f"S7 space has nodes {list(state.space.nodes)}, the inventory {list(fresh.nodes)}"
        return
    for name, wanted in fresh.nodes.items():
        if state.space.nodes[name].free() != wanted.free():
            yield f"S7 free on {name}: {state.space.nodes[name].free()}, by its reservations {wanted.free()}"


def _marks(state: State) -> Iterator[str]:
    """S7: the books know which nodes are closed, and why. L6: no quarantine is without an end."""
    closed = {name: closed_text(mark) for name, mark in state.health.marks.items() if mark.is_closed}
    if closed != state.space.closed:
        yield f"S7 closed nodes are {state.space.closed}, by their marks {closed}"
    for name, mark in state.health.marks.items():
        if (mark.quarantine == "closed") != bool(mark.until_at_ms):
            yield f"L6 {name} is {mark.quarantine or 'not'} quarantined until {mark.until_at_ms}"
        if mark.draining and not mark.cordoned:
            yield f"S7 {name} is drained and not cordoned"


def _counts(state: State) -> Iterator[str]:
    """S7: each cached counter equals the recomputed sum."""
    items = sum(max(1, len(task.items)) for live in state.workflows.values() for task in live.tasks.values())
    users = Counter(live.row.spec for live in state.workflows.values())
    for what, counted, wanted in (
        ("item_count", state.item_count, items),
        ("holders", sorted(state.holders), sorted(_holders(state))),
        ("dag_users", {digest: n for digest, n in state.dag_users.items() if n}, dict(users)),
        ("documents in memory", sorted(state.dags), sorted(users)),
        ("keys in the ring", sorted(state.key_ring.values()), sorted(state.keys)),
    ):
        if counted != wanted:
            yield f"S7 {what} is {counted}, by the rows {wanted}"
    for tenant in state.holders.tenants():
        lowest = min(live.row.priority for _, _, live in state.holders.of(tenant))
        if not state.holders.are_below(lowest + 1, tenant):
            yield f"S7 an attempt of {tenant} with priority {lowest} is not counted"


def _holders(state: State) -> Iterator[AttemptId]:
    for live in state.workflows.values():
        for name, task in live.tasks.items():
            for number, item in enumerate(task.items):
                if item.live is not None:
                    yield AttemptId(live.row.id, name, number, item.number)


def _tenants(state: State) -> Iterator[str]:
    """S7: what each tenant holds, and what its members keep back, is the recomputed sum. S6: it is within its bound, or
    within what it held when the bound was set below it."""
    fresh = Tenancy()
    for live in state.workflows.values():
        fresh.charge(fresh.tenant(live.row.project), ONE_WORKFLOW)
    for attempt, running, live in state.reserved():
        ask = live.dag.tasks[attempt.task].resources
        fresh.charge(fresh.tenant(live.row.project), amounts_on(ask, len(running.places), running.models))
    fresh.declare({path: node.row for path, node in state.tenancy.nodes.items()})
    for path, node in state.tenancy.nodes.items():
        wanted = fresh.nodes[path]
        if _books(node) != _books(wanted):
            yield f"S7 tenant {node.label} has {_books(node)}, by the rows {_books(wanted)}"
        for resource, quota in node.row.quotas.items():
            used, excused = node.usage.get(resource, 0), node.excused.get(resource, 0)
            if quota.bound is not None and used > max(quota.bound, excused):
                yield f"S6 {node.label} holds {used} of {quota.bound} {resource}, {excused} when that was set"


def _books(node: Tenant) -> tuple[object, ...]:
    return node.usage, node.reserve, node.lent, node.is_open, node.has_quota, node.parent.path if node.parent else None


# ------------------------------------------------------------------------------------------------------- workflows


def _workflow(live: LiveWorkflow) -> Iterator[str]:
    row, who = live.row, live.row.handle
    left = Counter(live.is_finally(name) for name, task in live.tasks.items() if task.row.state not in TERMINAL)
    if (live.main_left, live.finally_left) != (left[False], left[True]):
        yield f"S7 {who} has {left[False]} and {left[True]} tasks left, counted {live.main_left}, {live.finally_left}"
    if row.state in TERMINAL:
        yield f"S10 {who} is {row.state} and still in memory"
    elif not left[False] and not left[True]:
        yield f"L2 {who} has nothing left to do and did not end"
    if row.finalizing != (not left[False]):
        yield f"L2 {who} has {left[False]} main tasks left and finalizing is {row.finalizing}"
    if row.verdict and row.cause is None:
        yield f"S10 {who} will be {row.verdict} and has no cause"


def _tasks(live: LiveWorkflow) -> Iterator[str]:
    for name, task in live.tasks.items():
        who = f"{live.row.handle}/{name}"
        parents = [(need, live.tasks[need.task].row.state) for need in live.dag.tasks[name].needs]
        unmet = sum(not (state in TERMINAL and is_met(need, state)) for need, state in parents)
        if task.unmet != unmet:
            yield f"S7 {who} has {unmet} needs that are not met, counted {task.unmet}"
        if task.row.state == "open":
            yield from _open_task(live, name, task, who)
        elif task.row.state == "waiting":
            yield from _waiting_task(live, name, task, who)
        else:
            yield from _ended_task(task, who)
        for number, item in enumerate(task.items):
            yield from _item(live, name, item, AttemptId(live.row.id, name, number, item.number))


def _open_task(live: LiveWorkflow, name: str, task: LiveTask, who: str) -> Iterator[str]:
    states = Counter(item.state for item in task.items)
    left = sum(count for state, count in states.items() if state not in TERMINAL)
    if (task.left, task.failed, task.cancelled) != (left, states["failed"], states["cancelled"]):
        yield f"S7 {who} counts {task.left}, {task.failed}, {task.cancelled}; its items are {dict(states)}"
    if not left:
        yield f"L2 {who} is open and all its items are settled"
    if task.unmet:
        yield f"S21 {who} is open and {task.unmet} of its needs are not met"
    if (task.row.cause is None) != (not states["failed"]):
        yield f"S10 {who} has {states['failed']} failed items and the cause {task.row.cause}"
    if live.is_doomed(name):
        loose = [state for state in states if state not in TERMINAL and state != "stopping"]
        if loose:
            yield f"S16 {live.row.handle} will be {live.row.verdict} and {who} has items {loose}"


def _waiting_task(live: LiveWorkflow, name: str, task: LiveTask, who: str) -> Iterator[str]:
    if task.items:
        yield f"S21 {who} is waiting and has {len(task.items)} items"
    if live.is_doomed(name):
        yield f"S16 {live.row.handle} will be {live.row.verdict} and {who} is waiting"
    elif not live.is_finally(name) or live.row.finalizing:
        settled = [need for need in live.dag.tasks[name].needs if live.tasks[need.task].row.state in TERMINAL]
        if not task.unmet or not all(is_met(need, live.tasks[need.task].row.state) for need in settled):
            yield f"L2 {who} is waiting and all it waits for is decided"


def _ended_task(task: LiveTask, who: str) -> Iterator[str]:
    states = Counter(item.state for item in task.items)
    want = "failed" if states["failed"] else "cancelled" if states["cancelled"] else "succeeded"
    if any(state not in TERMINAL for state in states):
        yield f"S10 {who} is {task.row.state} and has items {dict(states)}"
    elif task.items and task.row.state != want:
        yield f"S10 {who} is {task.row.state}, by its items {want}"
    elif task.row.state == "failed" and task.row.cause is None:
        yield f"S10 {who} failed without a cause"


# ----------------------------------------------------------------------------------------------- items and attempts


def _item(live: LiveWorkflow, name: str, item: Item, attempt: AttemptId) -> Iterator[str]:
    task, who = live.dag.tasks[name], attempt.label()
    if item.state in ("admitted", "ended"):
        yield f"S9 {who} is {item.state} between two steps"
    if (item.live is not None) != (item.state in HOLDS_RESERVATION):
        yield f"S9 {who} is {item.state} and its reservation is {item.live}"
    if item.live is not None:
        yield from _attempt(task, item, item.live, who)
    if (item.outputs is not None) != (item.state == "succeeded"):
        yield f"S20 {who} is {item.state} and gives outputs {item.outputs}"
    if any(output not in task.outputs for output in item.outputs or ()):
        yield f"S20 {who} gives outputs that are not declared: {item.outputs}"
    if item.user_failures > task.retry.max_count:
        yield f"S26 {who} used {item.user_failures} of {task.retry.max_count} retries"
    if item.state == "backoff" and item.cause is None:
        yield f"S26 {who} is tried again without a cause"
    if item.number < live.tasks[name].row.attempts_before + item.user_failures + item.infra_failures:
        yield f"S26 {who} failed {item.user_failures} and {item.infra_failures} times: more often than it was tried"


def _attempt(task: Task, item: Item, attempt: Attempt, who: str) -> Iterator[str]:
    size, ranks = len(attempt.places), range(len(attempt.places))
    least = task.gang.min_replicas or task.gang.replicas
    if not least <= size <= task.gang.replicas:
        yield f"S8 {who} has places for {size} of {task.gang.replicas} replicas"
    ask = task.resources
    if any((len(place.gpus), len(place.mig)) != (ask.gpu_count, ask.mig_count) for place in attempt.places):
        yield f"S8 {who} asks {ask.gpu_count} GPUs, {ask.mig_count} slices for each replica and has {attempt.places}"
    if len(attempt.exited) >= size or any(rank not in ranks for rank in (*attempt.exited, *attempt.started)):
        yield f"S9 {who} of {size} replicas goes on and {attempt.exited} exited, {attempt.started} started"
    if item.state == "stopping":
        if attempt.stop_cause is None:
            yield f"S8 {who} is stopping without a cause"
    elif any(attempt.exited.values()):
        yield f"S8 {who} is {item.state} although replicas failed: {attempt.exited}"
    elif task.gang.success == "leader" and 0 in attempt.exited:
        yield f"S8 {who} is {item.state} although its leader is done"


# ---------------------------------------------------------------------------------------- max_parallel and the queue


def _places(live: LiveWorkflow) -> Iterator[str]:
    """S7: who holds a place under `max_parallel` is who is queued or reserved; nobody waits while there is room."""
    who = live.row.handle
    held = 0
    for name, task in live.tasks.items():
        if not live.is_bounded(name):
            continue
        own, order = live.dag.tasks[name].max_parallel, live.dag.vertices[name].order
        numbers = [number for number in range(len(task.items)) if (order, number) in live.placed]
        held += len(numbers)
        if task.active != len(numbers):
            yield f"S7 {who}/{name} counts {task.active} places, {len(numbers)} are held"
        wrong = [number for number in numbers if task.items[number].state not in ("ready", *HOLDS_RESERVATION)]
        loose = [n for n, item in enumerate(task.items) if item.live and (order, n) not in live.placed]
        if wrong or loose:
            yield f"S7 {who}/{name}: items {wrong} hold a place and do not use it, {loose} run without one"
        waiting = [n for n, item in enumerate(task.items) if item.state == "ready" and (order, n) not in live.placed]
        if sorted(waiting) != sorted(n for n in task.backlog or () if task.items[n].state == "ready"):
            yield f"S7 {who}/{name}: {waiting} have no place, the backlog is {task.backlog}"
        whole = live.dag.spec.max_parallel
        if waiting and not live.is_full(name) and not (whole and len(live.placed) >= whole):
            yield f"L2 {who}/{name}: {waiting} wait for a place while there is room (at most {own} and {whole})"
    if held != len(live.placed):
        yield f"S7 {who} counts {len(live.placed)} places, {held} are held"


def _queue(state: State) -> Iterator[str]:
    """L2: whatever may be scheduled is in the queue once; when no cycle is due, a cycle would do nothing."""
    queued: Counter[tuple[int, ...]] = Counter()
    for lane in state.lanes.lanes.values():
        queued.update(entry[1:2] + entry[3:5] for entry in lane.entries() if state.is_eligible(entry, lane))
        if lane.count != sum(1 for _ in lane.entries()):
            yield f"S7 a lane of {lane.project} counts {lane.count} entries"
    for live in state.workflows.values():
        for name, task in live.tasks.items():
            for number, item in enumerate(task.items):
                if item.state == "ready" and live.holds_place(name, number) and _may_be_queued(live, name):
                    count = queued[live.row.id, live.dag.vertices[name].order, number]
                    if count != 1:
                        yield f"L2 {live.row.handle}/{name}[{number}] is ready and in the queue {count} times"
    if not state.wants_cycle():
        proposal = plan(state, state.now_ms)
        if proposal is not None and not (proposal.victims and _is_any_ending(state)):
            victims = [victim.label() for victim in proposal.victims]
            what = f"stop {victims} for" if victims else "admit"
            yield f"L2 a cycle would {what} {proposal.attempt.label()} and none is due"


def _is_any_ending(state: State) -> bool:
    """Then a cycle comes with its end; until then it may already help to stop others beside it."""
    return any(running.stop_cause is not None for _, running, _ in state.reserved())


def _may_be_queued(live: LiveWorkflow, name: str) -> bool:
    return live.row.state == "running" and not live.is_doomed(name) and live.tenant.is_open
