"""Preemption and reclaim: which running gangs stop so that a gang gets what it is due. Whole gangs, never uselessly.

Lent capacity comes back first: a tenant within its nominal quota takes from those beside it that hold more than their
own. Then, inside one project, a higher priority takes from a lower one. The victims are those with the least work to
lose (GPU time, else processor time, since the start or the last checkpoint); none is stopped unless the gang then fits,
and none that turns out to be unneeded. Rules as in Kueue's preemption; least lost work is ours.

Called by `schedule.cycle` and `schedule.explain`. Never here: stopping anything (step), grace (finish).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from heapq import nsmallest
from itertools import takewhile
from typing import Any

from ffd.core.admit.order import Candidate
from ffd.core.admit.quota import QuotaBlock, allowed_models, check_gang, is_due
from ffd.core.amounts import Amounts, amounts, amounts_on
from ffd.core.kinds import Shape
from ffd.core.live import LiveWorkflow
from ffd.core.model import Attempt, AttemptId, Place
from ffd.core.schedule.ends import ends_of
from ffd.core.schedule.place import COMPACT, find_places
from ffd.core.schedule.relief import Relief, fewest, held
from ffd.core.schedule.reserve import Reservation, promised, promised_places
from ffd.core.spec import WHOLE_MILLIS, Resources
from ffd.core.state import State
from ffd.core.tenancy import Tenant
from ffd.core.topology import SAME_NODE

LENT, LOWER_PRIORITY = 0, 1
LOOKED_MOST_COUNT = 256  # victims that are tried at most: more would hold the loop up
SPARED_COUNT = 256  # of those, how many one gang may take at first, of which some are not needed after all
Victim = tuple[int, int, int, AttemptId]  # why, work lost, order of admission, who


def choose_victims(
    state: State,
    candidate: Candidate,
    live: LiveWorkflow,
    domains: frozenset[str],
    block: QuotaBlock | None,
    now_ms: int,
) -> Reservation | None:
    """Who must stop, and where the gang then goes; None when nobody may be stopped for it, or it would not help."""
    shape = candidate.lane.kind.shape
    victims = _victims(state, shape, live, block, now_ms)
    if not victims or (block is None and _is_hopeless(state, shape, victims)):
        return None
    with Attempted(state, shape, live.tenant, domains) as attempted:
        if attempted.fits() is not None:
            return None  # what is ending anyway will do
        chosen = _fewest(state, attempted, victims)
        if not 0 < len(chosen) <= state.policy.victims_count:
            return None
        places = attempted.fits_without(chosen)
    assert places is not None
    whole = tuple(sorted(chosen))
    counts_on = (*whole, *_ending(state, places, is_quota=block is not None))
    start_at_ms = max(now_ms + grace_ms(state, who) for who in counts_on)
    lane, made_at_count = candidate.lane, state.lanes.admitted_count
    return Reservation(candidate.entry, shape.ask, start_at_ms, places, counts_on, made_at_count, whole, lane)


def _is_hopeless(state: State, shape: Shape, victims: list[Victim]) -> bool:
    """A gang that does not fit now and must be on one node: has none GPUs enough even when all of these have ended? A
    quick look, by numbers alone: most looks for victims are in vain."""
    ask, gang, nodes = shape.ask, shape.gang, state.space.nodes
    if gang.topology != SAME_NODE or not gang.topology_required or ask.gpu_millis != WHOLE_MILLIS or not ask.gpu_count:
        return False
    freed: dict[str, int] = {}  # GPUs, by node
    for attempt in (*state.holders.stopping, *(attempt for _, _, _, attempt in victims)):
        for place in held(state, attempt)[0]:
            freed[place.node] = freed.get(place.node, 0) + len(place.gpus)
    most = max((nodes[name].whole_count + count for name, count in freed.items() if name in nodes), default=0)
    return most < ask.gpu_count * shape.sizes()[-1]


def _ending(state: State, places: tuple[Place, ...], *, is_quota: bool) -> Iterator[AttemptId]:
    """What is ending anyway, and was taken to have ended: on the nodes of these places, or anywhere."""
    nodes = {place.node for place in places}  # only asked
    for attempt in state.holders.stopping:
        if is_quota or any(place.node in nodes for place in held(state, attempt)[0]):
            yield attempt


def patient_until_ms(
    state: State, shape: Shape, tenant: Tenant, domains: frozenset[str], block: QuotaBlock, now_ms: int
) -> int:
    """A gang that quota forbids now: will it be allowed, and fit, by itself within the patience of the policy? Then
    this is when to look again, whether what ends first by forecast has ended; else 0."""
    relief, holders = _relief(state, shape, block), state.holders
    soon = takewhile(lambda end: end[0] <= now_ms + state.policy.patience_ms, ends_of(state, now_ms))
    row: dict[AttemptId, int] = {}
    for at_ms, _, who in soon:
        if who in holders and who not in holders.stopping and relief.by(who):
            row.setdefault(who, at_ms)
    if not row:
        return 0
    with Attempted(state, shape, tenant, domains) as attempted:
        return min(row.values()) if attempted.fits_without(row) is not None else 0


def _relief(state: State, shape: Shape, block: QuotaBlock | None) -> Relief:
    """Who may help a gang, which this quota forbids now."""
    return Relief(state, shape.ask, is_any=block is not None and not block.resource.startswith("gpus"))


def may_preempt(state: State, shape: Shape, live: LiveWorkflow) -> bool:
    """Could there be anybody to stop for it? A quick look: something is due to it, or its tenant runs what is less
    urgent."""
    if live.tenant.has_quota and levels_due(shape, live.tenant):
        return True
    return state.policy.preempt == "all" and state.holders.are_below(live.row.priority, live.tenant.path)


def grace_ms(state: State, attempt: AttemptId) -> int:
    """How long it may go on when it is told to stop."""
    task = state.workflows[attempt.workflow].dag.tasks[attempt.task]
    return task.checkpoint.grace_ms if task.checkpoint else state.limits.stop_grace_ms


def _victims(state: State, shape: Shape, live: LiveWorkflow, block: QuotaBlock | None, now_ms: int) -> list[Victim]:
    """Whoever may be stopped for it and would help, those first whose work is the least loss. So many at most as
    one preemption may stop, or as there are nodes: on a large cluster the cheapest are thinly spread, and it may take
    a whole node. Where its own quota is in the way, what others hold does not matter."""
    relief = _relief(state, shape, block)
    found: list[Victim] = []
    if state.policy.preempt == "all":
        for order, attempt, other in relief.of(live.tenant.path):
            if other.row.priority < live.row.priority:
                found += _victim(state, LOWER_PRIORITY, other, attempt, order, now_ms)
    if block is None or block.is_pool:
        found += _borrowers(state, shape, live, relief, now_ms)
    looked_count = min(LOOKED_MOST_COUNT, max(state.policy.victims_count, len(state.space.nodes)))
    return _by_node(state, shape, found)[:looked_count] or nsmallest(looked_count, found)


def _by_node(state: State, shape: Shape, victims: list[Victim]) -> list[Victim]:
    """For a gang that takes whole nodes: those on nodes that would be empty without them, the nodes first on which the
    least work is lost. Empty for other gangs, and where there is no such node."""
    ask, nodes = shape.ask, state.space.nodes
    size = ask.gpu_count * shape.sizes()[-1]
    if shape.gang.topology not in (SAME_NODE, COMPACT) or ask.gpu_millis != WHOLE_MILLIS or not ask.gpu_count:
        return []
    lost: dict[str, int] = {}
    freed = {name: one.whole_count for name, one in nodes.items() if 0 < one.node.gpu_count <= size}
    ending = [(0, 0, 0, attempt) for attempt in state.holders.stopping]
    for _, work, _, attempt in (*ending, *victims):
        for place in held(state, attempt)[0]:
            if place.node in freed:
                lost[place.node] = lost.get(place.node, 0) + work
                freed[place.node] += len(place.gpus)
    cost = {name: work for name, work in lost.items() if freed[name] >= nodes[name].node.gpu_count}

    def rank(victim: Victim) -> tuple[int, int, str, Victim] | None:
        there = [(cost[place.node], place.node) for place in held(state, victim[3])[0] if place.node in cost]
        return (victim[0], *min(there), victim) if there else None

    return [ranked[3] for ranked in sorted(filter(None, map(rank, victims)))]


def _borrowers(state: State, shape: Shape, live: LiveWorkflow, relief: Relief, now_ms: int) -> Iterator[Victim]:
    """Those who hold what is due to it, for as long as their tenant would hold more than its own."""
    over = lenders(levels_due(shape, live.tenant), amounts(shape.ask, 1))
    for path in state.holders.tenants() if over else ():
        tenant = state.tenancy.tenant(path)
        if tenant is not live.tenant and any(level.path in over for level in tenant.chain()):
            for order, attempt, other in relief.of(path):
                yield from _victim(state, LENT, other, attempt, order, now_ms)


def _victim(
    state: State, why: int, live: LiveWorkflow, attempt: AttemptId, order: int, now_ms: int
) -> Iterator[Victim]:
    """If it runs and nobody stops it yet."""
    item = live.tasks[attempt.task].items[attempt.item]
    if item.state == "admitted":
        state.lanes.leave()  # in this very cycle: it can be stopped in the next one
    if item.live is not None and item.state in ("launching", "running"):
        yield why, work_lost(live, attempt, item.live, now_ms), order, attempt


def work_lost(live: LiveWorkflow, attempt: AttemptId, running: Attempt, now_ms: int) -> int:
    """What is lost when this attempt stops now: GPU milliseconds (processor milliseconds where it has no GPU), since
    its last checkpoint, else since it began."""
    since_ms = max(0, now_ms - max(running.running_at_ms or now_ms, running.saved_at_ms))
    ask = live.dag.tasks[attempt.task].resources
    weight = ask.gpu_count * 1_000 or ask.cpu_millis // 1_000 or 1
    return since_ms * weight * len(running.places)


def levels_due(shape: Shape, tenant: Tenant) -> tuple[Tenant, ...]:
    """The levels above a project at which the gang would be within what is guaranteed, and beside which somebody holds
    some of that: it is lent. Empty = nothing is due to it, or nobody has it."""
    asked = shape.asked
    return tuple(level for level in tenant.chain() if _lends(level, asked) and is_due(level, asked))


def _lends(level: Tenant, asked: Amounts) -> bool:
    above = level.parent
    return above is not None and any(resource in level.row.quotas and above.lent.get(resource) for resource in asked)


def lenders(due: tuple[Tenant, ...], asked: Amounts) -> frozenset[str]:
    """Paths of the levels beside one that is due that hold more than their own of what is asked; only to be asked."""
    return frozenset(
        level.path
        for beside in due
        for level in (beside.parent.children.values() if beside.parent else ())
        if level is not beside and _is_over(level, beside, asked)
    )


def holds_lent(due: tuple[Tenant, ...], shape: Shape, tenant: Tenant) -> bool:
    """Does `tenant` hold more than its own of what is asked, at a level beside one that is due?"""
    asked = amounts(shape.ask, 1)
    for level in tenant.chain():
        for beside in due:
            if level is not beside and level.parent is beside.parent and _is_over(level, beside, asked):
                return True
    return False


def _is_over(level: Tenant, beside: Tenant, asked: Amounts) -> bool:
    """Of what is guaranteed to the one beside it; without a quota of its own nothing is its own. Nobody has a right to
    what is guaranteed to the other alone, or each could take from the other by what the other has no quota of (L7)."""
    quotas = level.row.quotas
    if any(quotas[r].nominal for r in asked if r in quotas and r not in beside.row.quotas):
        return False
    for resource in asked:
        if resource in beside.row.quotas:
            own = quotas.get(resource)
            if level.usage.get(resource, 0) > (own.nominal if own else 0):
                return True
    return False


class Attempted:
    """The state as if some attempts had ended, for as long as it is open; everything that is stopping has ended."""

    def __init__(self, state: State, shape: Shape, tenant: Tenant, domains: frozenset[str]) -> None:
        self._state = state
        self._shape = shape
        self._tenant = tenant
        self._domains = domains
        self._space = state.space.trial()
        self._tenancy = state.tenancy.trial()

    def __enter__(self) -> Attempted:
        self._space.__enter__()
        self._tenancy.__enter__()
        for attempt in self._state.holders.stopping:
            self.end(attempt)
        self._keep_promises()
        return self

    def _keep_promises(self) -> None:
        """What others are being stopped for already is not there for this one."""
        state = self._state
        for found in state.reservations.values():
            places = promised_places(state, found) if found.victims else None
            if places is not None:
                state.space.take(places, found.ask)
                state.tenancy.charge(*promised(state, found))

    def __exit__(self, *error: Any) -> None:
        self._tenancy.__exit__(*error)
        self._space.__exit__(*error)

    def end(self, attempt: AttemptId) -> None:
        """As if it had ended."""
        live, places, ask, amounts = self._holding(attempt)
        self._state.tenancy.discharge(live.tenant, amounts)
        self._space.give(places, ask)

    def undo(self, attempt: AttemptId) -> None:
        """It has not ended after all."""
        live, places, ask, amounts = self._holding(attempt)
        self._state.tenancy.charge(live.tenant, amounts)
        self._space.take(places, ask)

    def _holding(self, attempt: AttemptId) -> tuple[LiveWorkflow, tuple[Place, ...], Resources, Amounts]:
        live = self._state.workflows[attempt.workflow]
        running = live.tasks[attempt.task].items[attempt.item].live
        assert running is not None
        ask = self._state.ask_of(attempt, live)
        return live, running.places, ask, amounts_on(ask, len(running.places), running.models)

    def fits(self) -> tuple[Place, ...] | None:
        """Where the gang would go."""
        state, shape = self._state, self._shape
        size = shape.sizes()[-1]
        if check_gang(state.tenancy, self._tenant, shape.ask, size) is not None:
            return None
        models = allowed_models(state.tenancy, self._tenant, shape.ask, size)
        return find_places(state.space, shape.ask, shape.gang, size, self._domains, models)

    def fits_without(self, attempts: Iterable[AttemptId]) -> tuple[Place, ...] | None:
        """Where it would go if these ended as well."""
        with self.trial():
            for attempt in attempts:
                self.end(attempt)
            return self.fits()

    @contextmanager
    def trial(self) -> Iterator[None]:
        """What ends within it has not ended afterwards."""
        with self._state.space.trial(), self._state.tenancy.trial():
            yield

    def fair(self, victims: list[Victim]) -> list[AttemptId]:
        """Of victims, in their order, those who may be stopped if all before them are: a tenant keeps what is its
        own."""
        state, found = self._state, list[AttemptId]()
        due = levels_due(self._shape, self._tenant)
        with state.tenancy.trial():
            for why, _, _, attempt in victims:
                tenant = state.workflows[attempt.workflow].tenant
                if why == LOWER_PRIORITY or holds_lent(due, self._shape, tenant):
                    state.tenancy.discharge(tenant, self._holding(attempt)[3])
                    found.append(attempt)
        return found


def _fewest(state: State, attempted: Attempted, victims: list[Victim]) -> list[AttemptId]:
    """The first of them without whom the gang fits, and of those only whom it takes: most hold nothing where it goes.
    Empty when all of them would not do."""
    found = fewest(iter(attempted.fair(victims)), attempted.end, attempted.trial, attempted.fits)
    if found is None:
        return []
    chosen, nodes = found[0], {place.node for place in found[1]}  # only asked
    there = [who for who in chosen if any(place.node in nodes for place in held(state, who)[0])]
    if attempted.fits_without(there) is not None:
        chosen = there
    return _spared(attempted, chosen) if len(chosen) <= SPARED_COUNT else []


def _spared(attempted: Attempted, chosen: list[AttemptId]) -> list[AttemptId]:
    """Without each that is not needed after all, the dearest first."""
    needed = list(chosen)
    with attempted.trial():
        for attempt in chosen:
            attempted.end(attempt)
        for attempt in reversed(chosen):
            attempted.undo(attempt)
            if attempted.fits() is not None:
                needed.remove(attempt)
            else:
                attempted.end(attempt)
    return needed
