"""The scheduling cycle, on request: read state, propose, verify. `verify(plan(state), state)` always holds.

1. Take the head of each class that is not blocked (nothing became free since this head did not fit).
2. Most urgent head first (priority, submit order): is its tenant open, does quota allow the gang, and of which GPU
   models; then find room for it, on trial.
3. Fits: propose it, go on with the class's next. Does not fit: the class is blocked, everything behind it alike.
4. Stop when no head is left or the work budget is used up (then the caller asks for another cycle).
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heapreplace

import msgspec

from ffd.core.admit.quota import allowed_models, check_gang, check_quota
from ffd.core.live import LiveWorkflow
from ffd.core.model import AttemptId, Place
from ffd.core.ready import Entry
from ffd.core.schedule.place import find_places
from ffd.core.space import Trial
from ffd.core.spec import Task
from ffd.core.state import State
from ffd.core.tenancy import Tenant, amounts_on


class Proposal(msgspec.Struct, frozen=True, gc=False):
    """One gang, and where each of its replicas would go."""

    entry: Entry
    key: Hashable
    attempt: AttemptId
    places: tuple[Place, ...]


Chosen = dict[tuple[int, int], list[Place]]  # (workflow, order of the task) -> where this plan puts it


class Plan(msgspec.Struct, frozen=True):
    """Proposals in the order in which they must be applied. `blocked`: classes and their heads that do not fit now.
    `done` False: the budget ran out first."""

    proposals: list[Proposal]
    blocked: list[tuple[Hashable, Entry]]
    done: bool


def plan(state: State, now_ms: int) -> Plan:
    """What should start now. Takes the entries it proposes (and stale ones) out of the queue; a caller that does not
    apply a proposal gives its entry back. Changes nothing else."""
    with state.tenancy.trial(), state.space.trial() as trial:
        return _plan(state, trial, now_ms)


def _plan(state: State, trial: Trial, now_ms: int) -> Plan:
    proposals, blocked, chosen = list[Proposal](), list[tuple[Hashable, Entry]](), Chosen()
    work_left = state.limits.cycle_work_count
    heads = _heads(state)
    while heads and work_left > 0:
        entry, order, key = heads[0]
        work_left -= 1
        proposal = _propose(state, trial, entry, key, now_ms, chosen)
        ready = state.ready.classes[key]
        if proposal is None:
            blocked.append((key, entry))
            head = None
        else:
            proposals.append(proposal)
            chosen.setdefault((entry[1], entry[2]), []).extend(proposal.places)
            ready.pop()
            head = ready.head(state.is_eligible)
        if head is None:
            heappop(heads)
        else:
            heapreplace(heads, (head, order, key))
    return Plan(proposals, blocked, not heads)


def _heads(state: State) -> list[tuple[Entry, int, Hashable]]:
    """A heap of the heads of all classes that are worth a look: (entry, order of the class, its key)."""
    heads = []
    for order, (key, ready) in enumerate(state.ready.classes.items()):
        head = ready.head(state.is_eligible)
        if head is not None and not ready.is_blocked(head, state.space.version):
            heads.append((head, order, key))
    heapify(heads)
    return heads


def _propose(state: State, trial: Trial, entry: Entry, key: Hashable, now_ms: int, chosen: Chosen) -> Proposal | None:
    live = state.workflows[entry[1]]
    name = live.dag.names[entry[2]]
    task, item = live.dag.tasks[name], live.tasks[name].items[entry[3]]
    domains = followed_domains(state, live, task, chosen)
    for replicas in sizes(task, item.since_at_ms or live.tasks[name].row.opened_at_ms, now_ms):
        places = find(state, live.tenant, task, replicas, domains)
        if places is not None:
            trial.take(places, task.resources)
            held = amounts_on(task.resources, replicas, state.models_of(places, task.resources))
            state.tenancy.charge(live.tenant, held)
            return Proposal(entry, key, AttemptId(entry[1], name, entry[3], item.number + 1), places)
    return None


def find(state: State, tenant: Tenant, task: Task, replicas: int, domains: frozenset[str]) -> tuple[Place, ...] | None:
    """Places for the gang that its tenant may have; None when it is disabled, quota forbids it, or there is no room."""
    ask = task.resources
    if not tenant.is_open or check_gang(state.tenancy, tenant, ask, replicas) is not None:
        return None
    return find_places(
        state.space, ask, task.gang, replicas, domains, allowed_models(state.tenancy, tenant, ask, replicas)
    )


def sizes(task: Task, ready_at_ms: int, now_ms: int) -> range:
    """Gang sizes to try, largest first: below the full size only for an elastic gang that waited long enough."""
    gang = task.gang
    waited = gang.min_replicas and now_ms >= ready_at_ms + gang.wait_ms
    return range(gang.replicas, (gang.min_replicas if waited else gang.replicas) - 1, -1)


def followed_domains(state: State, live: LiveWorkflow, task: Task, chosen: Chosen | None = None) -> frozenset[str]:
    """Domains that the tasks named in `with` occupy now, or will by this plan. Only asked for membership, never
    walked; empty = they run nowhere, so anywhere is near them."""
    places: list[Place] = []
    for name in task.gang.topology_with:
        for item in live.tasks[name].items:
            if item.live is not None:
                places += item.live.places
        places += (chosen or {}).get((live.row.id, live.dag.order[name]), ())
    return frozenset(
        state.space.domain(place.node, task.gang.topology) for place in places if place.node in state.space.nodes
    )


def verify(state: State, proposal: Proposal) -> bool:
    """Is this proposal right against the state as it is now: item still ready, every replica fits where it says, its
    tenant may hold it?"""
    if not state.is_eligible(proposal.entry):
        return False
    attempt = proposal.attempt
    live = state.workflows[attempt.workflow]
    ask = live.dag.tasks[attempt.task].resources
    if state.space.fits(proposal.places, ask) or not live.tenant.is_open:
        return False
    held = amounts_on(ask, len(proposal.places), state.models_of(proposal.places, ask))
    if check_quota(live.tenant, held) is not None:
        return False
    return live.tasks[attempt.task].items[attempt.item].number + 1 == attempt.attempt
