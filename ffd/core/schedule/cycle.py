"""The scheduling cycle, on request: read state, propose one thing at a time, verify. `verify(plan(state), state)`
always holds.

1. Who is next (`admit.order`)? Kinds that cannot fit are not looked at: nothing became free since.
2. May it (`admit.quota`)? If not, nothing of its kind is tried again in that part of the tenant tree.
3. Does it fit (`schedule.place`)? And would it delay a gang that has a reservation (`schedule.reserve`)?
4. It does not fit: make room if it is due (`schedule.preempt`), else reserve for it, while there are reservations left.
5. Stop when no kind is left or the work budget is used up: then the caller asks for another cycle.

Called by `core.step`, which applies each proposal before it asks for the next. Reads state; writes indexes only
(`lanes`, `reservations`: what was found out), never rows.
"""

from __future__ import annotations

from typing import Final

from ffd.core.admit.order import Candidate, Heads, close, head_of
from ffd.core.admit.quota import QuotaBlock, allowed_models, check_gang, check_quota
from ffd.core.amounts import MODEL_PREFIX, amounts_on
from ffd.core.kinds import Kind, Lane, Shape
from ffd.core.live import LiveWorkflow
from ffd.core.model import AttemptId, Place
from ffd.core.schedule.ends import FOREVER_MS, ends_of
from ffd.core.schedule.looks import Looks
from ffd.core.schedule.place import find_places
from ffd.core.schedule.preempt import choose_victims, patient_until_ms
from ffd.core.schedule.reserve import (
    Reservation,
    conflicts,
    is_for,
    is_known_now,
    is_used_up,
    places_beside,
    promised_block,
    promised_places,
    reserve,
)
from ffd.core.spec import Task
from ffd.core.state import State

ADMISSION_UNITS: Final = 8  # what an admission costs the step, beside finding its place
NODES_A_UNIT: Final = 256  # nodes that one placement may look at for one unit of work
HOLDERS_A_UNIT: Final = 16  # attempts that a reservation or a preemption may look at for one unit of work


class Proposal:
    """One gang, and where each of its replicas goes. With a `promise`: nowhere yet, its `victims` must stop first."""

    __slots__ = ("attempt", "lane", "places", "promise", "victims")

    def __init__(
        self, attempt: AttemptId, places: tuple[Place, ...], lane: Lane, promise: Reservation | None = None
    ) -> None:
        self.attempt = attempt
        self.places = places
        self.lane = lane
        self.promise = promise
        self.victims: tuple[AttemptId, ...] = promise.victims if promise is not None else ()


class Beside:
    """Where a shape fits now. A gang that ends by `until_ms` may go to `places`, any other one to `lasting` only."""

    __slots__ = ("lasting", "places", "until_ms")

    def __init__(self, places: tuple[Place, ...], until_ms: int, lasting: tuple[Place, ...] | None) -> None:
        self.places = places
        self.until_ms = until_ms
        self.lasting = lasting


class Cycle:
    """One pass over what waits. `is_done` False: the budget ran out first. `is_loosened`: who was held back by a
    reservation may not be any more: shares changed, and with them who comes before whom, or the reservation gave way.

    `_ahead`: reservations of gangs that came before in this pass: whoever comes next must leave them what they need.
    `_done`: shapes of which nothing more will start in this pass; only asked, never walked."""

    def __init__(self, state: State, now_ms: int) -> None:
        self.is_done = True
        self.is_loosened = False
        self._has_held = False
        self._has_proposed = False
        self._state = state
        self._now_ms = now_ms
        self._work_left = state.limits.cycle_work_count
        self._done: set[Shape] = set()
        self._beside: dict[Shape, Beside] = {}  # as the state is now
        self._looks = Looks(state)
        self._promised = self._forget_reservations()
        self._ahead = {**self._promised, **{shape: one for shape, one in state.reservations.items() if one.victims}}
        state.lanes.begin_cycle(state.reservations, state.space.version, now_ms)
        self._news = list(state.lanes.news)[::-1]
        self._heads = Heads(state, [kind for kind in state.lanes.kinds.values() if self._is_worth_a_look(kind)])

    def _forget_reservations(self) -> dict[Shape, Reservation]:
        """Those of shapes that wait no more or nodes that take no work any more, and those whose start is over, or can
        be known by now: the forecast was wrong. They are made again. Returns those for which all has ended that was to
        be stopped."""
        state, space = self._state, self._state.space
        promised = {}
        for shape, found in list(state.reservations.items()):
            lost = any(place.node not in space.nodes or place.node in space.closed for place in found.places)
            is_over = lost or found.start_at_ms <= self._now_ms or is_known_now(state, found)
            is_wanted = bool(shape.kinds_count)
            if found.victims:
                is_over = not any(map(state.is_live, found.counts_on))
                is_wanted = self._is_to_somebody(found)
                if is_over and is_wanted:
                    promised[shape] = found
            if is_over or not is_wanted:
                if found.victims:
                    state.tenancy.touch(found.lane.project)  # its quota is not kept for it any more
                    state.holders.gpu_stamp += 1  # nor its room: whoever could stop nobody may find somebody now
                del state.reservations[shape]
                state.lanes.stamp += 1
        return promised

    def _is_to_somebody(self, promise: Reservation) -> bool:
        return promise.lane is not None and head_of(self._state, promise.lane) is not None

    def _is_worth_a_look(self, kind: Kind) -> bool:
        """May it start, as far as is known? One that does not fit is looked at for its place in the order: it has, or
        may have, a reservation; without backfill it stops whoever comes after it."""
        state, shape = self._state, kind.shape
        if kind.held_at == (state.space.version, state.lanes.stamp):
            self._has_held = True
            return False  # a cycle that ran out of its budget goes on behind those
        if shape.blocked_at != state.space.version or not state.policy.backfill:
            return True
        return shape in state.reservations or (
            len(state.reservations) < state.reservations_most_count and self._wants_reservation(shape)
        )

    def _wants_reservation(self, shape: Shape) -> bool:
        """Only where another shape could overtake it, and an empty cluster could take it."""
        is_hopeless = shape.hopeless_at == self._state.space.inventory_version
        return not is_hopeless and len(self._state.lanes.shapes) > 1

    # -------------------------------------------------------------------------------------------------------- the loop

    def next(self) -> Proposal | None:
        """The next proposal, against the state as it is now; None at the end. Each must be applied, or `refuse`d."""
        while True:
            if self._work_left <= 0:
                self.is_done = False
                return None
            proposal, goes_on = self._keep_a_promise(), True
            if proposal is None:
                candidate = self._heads.next(self._done)
                if candidate is None:
                    return self._make_room_for_news()
                proposal, goes_on = self._look(candidate)
            if proposal is not None:
                self._work_left -= ADMISSION_UNITS
                self._has_proposed = True
                self.is_loosened = self.is_loosened or self._has_held
                self._beside.clear()
                if not proposal.victims:
                    self._before_admission(proposal)
                return proposal
            if not goes_on:
                return None

    def _before_admission(self, proposal: Proposal) -> None:
        """Its reservation may be fulfilled. It may be just what could be stopped for a gang that was looked at before
        it: then another cycle looks at that one again."""
        state, lane = self._state, proposal.lane
        own = self._ahead.get(lane.kind.shape)
        if own is not None and is_used_up(state, own, lane, proposal.places):
            del self._ahead[lane.kind.shape]
        live = state.workflows[proposal.attempt.workflow]
        if self._looks.in_vain.may_stop(live, lane.kind.shape.ask, len(proposal.places)):
            state.lanes.leave()
        followers = live.dag.followers.get(proposal.attempt.task)
        if followers:
            state.lanes.unblock_followers(live.row.id, followers)

    def _make_room_for_news(self) -> Proposal | None:
        """What came since the last cycle and does not fit was not looked at if others like it wait already. It may be
        due what they are not: look at the head of its lane for that."""
        state = self._state
        while self._news and self._looks.left_count:
            candidate = head_of(state, self._news.pop())
            if candidate is None:
                continue
            lane, shape = candidate.lane, candidate.lane.kind.shape
            live, name = self._task_of(candidate)
            block = check_gang(state.tenancy, live.tenant, shape.ask, shape.sizes()[-1])
            if block is not None or state.space.version in (shape.blocked_at, lane.blocked_at):
                proposal = self._make_room(candidate, live, name, block)
                if proposal is not None:
                    return proposal
        if not all(map(self._is_to_somebody, [one for one in self._ahead.values() if one.victims])):
            self.is_loosened = True  # the last one found another place meanwhile: what was kept for it is for others
        return None

    def put_off(self) -> dict[Lane, None]:
        """At the end: for whom nobody was looked at to be stopped, because others used up the looks of this cycle."""
        return self._looks.put_off(reversed(self._news))

    def _keep_a_promise(self) -> Proposal | None:
        """The lane for which others were stopped goes first, now that they have ended: else those, or others alike,
        could take the room again, and would be stopped again (L7)."""
        while self._promised:
            shape = next(iter(self._promised))
            promise = self._promised.pop(shape)
            candidate = head_of(self._state, promise.lane) if promise.lane is not None else None
            proposal = None
            if candidate is not None:
                proposal = self._fit(candidate)[0] or self._as_promised(candidate, promise)
            del self._ahead[shape]  # kept, or something else changed meanwhile
            if proposal is not None:
                return proposal
        return None

    def _as_promised(self, candidate: Candidate, promise: Reservation) -> Proposal | None:
        """On the nodes where room was made for it: the best place now may be in the way of others, for whom room is
        made beside that."""
        state, lane = self._state, candidate.lane
        live, name = self._task_of(candidate)
        places = promised_places(state, promise)
        if places is None or lane.kind.shape.gang.topology_with:  # what it follows may be elsewhere by now
            return None
        if conflicts(state, self._ahead_of(candidate), places, promise.ask):
            return None
        asked = amounts_on(promise.ask, len(places), state.models_of(places, promise.ask))
        block = check_quota(live.tenant, asked) or self._promised_block(candidate, live, places)
        return Proposal(_attempt(live, name, candidate), places, lane) if block is None else None

    def refuse(self, proposal: Proposal) -> None:
        """The last proposal did not hold (a bug): nothing more of its shape in this cycle."""
        self._done.add(proposal.lane.kind.shape)

    def _look(self, candidate: Candidate) -> tuple[Proposal | None, bool]:
        """A proposal for this gang, if there is one; and whether there is anything to look at after it."""
        proposal, block, is_misfit = self._fit(candidate)
        return (proposal, True) if proposal is not None else self._not_now(candidate, block, is_misfit)

    def _fit(self, candidate: Candidate) -> tuple[Proposal | None, QuotaBlock | None, bool]:
        """A proposal for this gang; else what quota forbids of its smallest size, and whether there is no room for that
        (False: there is, but it would delay another)."""
        state, lane, shape = self._state, candidate.lane, candidate.lane.kind.shape
        self._work_left -= 1
        live, name = self._task_of(candidate)
        block: QuotaBlock | None = None
        is_misfit = False
        for size in shape.sizes():
            models: tuple[str, ...] | None = None
            if live.tenant.may_bound(shape.resources):
                block = check_gang(state.tenancy, live.tenant, shape.ask, size)
                models = allowed_models(state.tenancy, live.tenant, shape.ask, size)
            if block is not None:
                continue
            beside = self._find(candidate, size, models)
            is_misfit = beside is None
            if beside is None:
                if size == shape.sizes()[-1]:
                    state.lanes.block(shape if models is None else lane, state.space.version)
                continue
            ends_at_ms = self._now_ms + lane.kind.duration_ms if lane.kind.duration_ms else FOREVER_MS
            places = beside.places if ends_at_ms <= beside.until_ms else beside.lasting
            if places is not None:
                block = self._promised_block(candidate, live, places) if self._ahead else None
                if block is not None and block.resource.startswith(MODEL_PREFIX):
                    places, block = self._in_other_models(candidate, size, models, block)
                if block is None and places is not None:
                    return Proposal(_attempt(live, name, candidate), places, lane), None, False
        return None, block, is_misfit

    def _in_other_models(
        self, candidate: Candidate, size: int, models: tuple[str, ...] | None, block: QuotaBlock
    ) -> tuple[tuple[Place, ...] | None, QuotaBlock | None]:
        """Quota of the best GPU model is promised to others: where it goes with one of the other models, or `block`."""
        state, ask = self._state, candidate.lane.kind.shape.ask
        for model in models or ask.gpu_types or state.tenancy.models:
            if f"{MODEL_PREFIX}{model}" == block.resource:
                continue
            beside = self._look_beside(candidate, size, (model,))
            places = beside.lasting if beside is not None else None
            if places is not None and self._promised_block(candidate, self._task_of(candidate)[0], places) is None:
                return places, None
        return None, block

    def _task_of(self, candidate: Candidate) -> tuple[LiveWorkflow, str]:
        live = self._state.workflows[candidate.entry[1]]
        return live, live.dag.names[candidate.entry[3]]

    def _find(self, candidate: Candidate, size: int, models: tuple[str, ...] | None) -> Beside | None:
        """Where it fits now; None = nowhere."""
        state, shape = self._state, candidate.lane.kind.shape
        if shape.blocked_at == state.space.version:
            return None
        is_common = models is None and len(shape.sizes()) == 1  # then it is the same for all of this shape
        is_common = is_common and not (shape in self._ahead and self._ahead[shape].victims)
        beside = self._beside.get(shape) if is_common else None
        if beside is None:
            beside = self._look_beside(candidate, size, models)
            if beside is not None and is_common:
                self._beside[shape] = beside
        return beside

    def _ahead_of(self, candidate: Candidate) -> list[Reservation]:
        """Reservations that are not this gang's own."""
        lane = candidate.lane
        return [one for other, one in self._ahead.items() if other is not lane.kind.shape or not is_for(one, lane)]

    def _promised_block(self, candidate: Candidate, live: LiveWorkflow, places: tuple[Place, ...]) -> QuotaBlock | None:
        """What quota would forbid it if others had what was promised to them."""
        if not live.tenant.has_quota or not any(one.victims for one in self._ahead.values()):
            return None
        state, ask = self._state, candidate.lane.kind.shape.ask
        asked = amounts_on(ask, len(places), state.models_of(places, ask))
        return promised_block(state, self._ahead_of(candidate), live.tenant, asked)

    def _look_beside(self, candidate: Candidate, size: int, models: tuple[str, ...] | None) -> Beside | None:
        state, shape = self._state, candidate.lane.kind.shape
        live, name = self._task_of(candidate)
        domains = followed_domains(state, live, live.dag.tasks[name])
        self._work_left -= len(state.space.nodes) // NODES_A_UNIT
        places = find_places(state.space, shape.ask, shape.gang, size, domains, models)
        if places is None:
            return None
        ahead = self._ahead_of(candidate)
        found = conflicts(state, ahead, places, shape.ask)
        if not found:
            return Beside(places, FOREVER_MS, places)
        until_ms = min(-1 if one.victims or one.start_at_ms == FOREVER_MS else one.start_at_ms for one in found)
        self._work_left -= len(state.space.nodes) // NODES_A_UNIT
        return Beside(places, until_ms, places_beside(state, ahead, shape, size, domains, models))

    # --------------------------------------------------------------------------------------------------- not this time

    def _not_now(self, candidate: Candidate, block: QuotaBlock | None, is_misfit: bool) -> tuple[Proposal | None, bool]:
        state, shape = self._state, candidate.lane.kind.shape
        live, name = self._task_of(candidate)
        if block is not None:
            if not close(state, candidate.lane, block):
                self._heads.drop()  # its line waits behind it
        elif shape.blocked_at == state.space.version:
            self._done.add(shape)
        elif candidate.lane.blocked_at != state.space.version:
            if self._has_proposed:
                self.is_loosened = True  # the order is another since those were looked at that are ahead
            else:
                candidate.lane.kind.held_at = (state.space.version, state.lanes.stamp)
            self._has_held = True
            self._heads.drop()
        proposal = None
        if block is not None or is_misfit:
            proposal = self._make_room(candidate, live, name, block)
        if proposal is None and block is None and is_misfit and state.policy.backfill:
            self._reserve(candidate, live, name)
        return proposal, proposal is not None or state.policy.backfill

    def _reserve(self, candidate: Candidate, live: LiveWorkflow, name: str) -> None:
        """The earliest start of a gang that does not fit. Whoever comes after it in this cycle must not delay it; it is
        kept for later cycles, as long as it is among the first that wait."""
        state, shape = self._state, candidate.lane.kind.shape
        found = state.reservations.get(shape)
        if found is None and self._wants_reservation(shape) and self._has_one_left():
            found = self._forecast(candidate, live, name)
            if found is not None:
                state.reservations[shape] = found
                state.lanes.stamp += 1
        if found is not None:
            self._ahead[shape] = found
            self._beside.clear()

    def _forecast(self, candidate: Candidate, live: LiveWorkflow, name: str) -> Reservation | None:
        """Where and when it will start by itself; None = never, as the cluster is."""
        state, shape = self._state, candidate.lane.kind.shape
        self._work_left -= len(state.holders) // HOLDERS_A_UNIT
        domains = followed_domains(state, live, live.dag.tasks[name])
        models = allowed_models(state.tenancy, live.tenant, shape.ask, shape.sizes()[-1])
        found = reserve(state, candidate.entry, shape, domains, models, ends_of(state, self._now_ms))
        if found is None and models is None and not domains:
            state.lanes.give_up(shape, state.space.inventory_version)
        return found

    def _has_one_left(self) -> bool:
        """Is there a reservation left? One of a gang that comes later in this order makes room."""
        reservations, most_count = self._state.reservations, self._state.reservations_most_count
        later = [shape for shape in reservations if shape not in self._ahead]
        if len(reservations) >= most_count and later and most_count:
            del reservations[later[-1]]
            self._state.lanes.stamp += 1
            self.is_loosened = True
        return len(reservations) < most_count

    def _make_room(
        self, candidate: Candidate, live: LiveWorkflow, name: str, block: QuotaBlock | None
    ) -> Proposal | None:
        """Stop others for it, if what they have is due to it and it would wait too long. Once: while they end it has a
        reservation (L7)."""
        state, lane, shape = self._state, candidate.lane, candidate.lane.kind.shape
        known = state.reservations.get(shape)
        if (known is not None and known.victims) or not self._looks.begin(lane, live, self._now_ms):
            return None
        domains = followed_domains(state, live, live.dag.tasks[name])
        self._work_left -= len(state.holders) // HOLDERS_A_UNIT
        if block is not None:
            until_ms = patient_until_ms(state, shape, live.tenant, domains, block, self._now_ms)
        else:
            known = known or self._forecast(candidate, live, name)
            if known is None:
                return None
            until_ms = known.start_at_ms if known.start_at_ms <= self._now_ms + state.policy.patience_ms else 0
        if until_ms:
            self._looks.wait(lane, live, until_ms)
            return None
        found = choose_victims(state, candidate, live, domains, block, self._now_ms)
        if found is None:
            self._looks.give_up(lane, live, block)
            return None
        self.is_loosened = self.is_loosened or shape in state.reservations
        self._ahead[shape] = found
        return Proposal(_attempt(live, name, candidate), (), lane, found)


def _attempt(live: LiveWorkflow, name: str, candidate: Candidate) -> AttemptId:
    number = candidate.entry[4]
    return AttemptId(live.row.id, name, number, live.tasks[name].items[number].number + 1)


def plan(state: State, now_ms: int) -> Proposal | None:
    """The first thing that a cycle would do now; None = nothing. Changes no row."""
    return Cycle(state, now_ms).next()


def followed_domains(state: State, live: LiveWorkflow, task: Task) -> frozenset[str]:
    """Domains that the tasks named in `with` occupy now. Only asked for membership, never walked; empty = they run
    nowhere, so anywhere is near them."""
    if not task.gang.topology_with:
        return NOWHERE
    places = [
        place
        for name in task.gang.topology_with
        for item in live.tasks[name].items
        if item.live is not None
        for place in item.live.places
    ]
    return frozenset(
        state.space.domain(place.node, task.gang.topology) for place in places if place.node in state.space.nodes
    )


NOWHERE: frozenset[str] = frozenset()


def verify(state: State, proposal: Proposal) -> bool:
    """Is this proposal right against the state as it is now: item ready, quota there, every replica fits where it says;
    victims alive and not yet told to stop?"""
    attempt = proposal.attempt
    found = state.find(attempt)
    if found is None or found[2].state != "ready" or found[2].number + 1 != attempt.attempt:
        return False
    live = found[0]
    if live.row.state != "running" or live.is_doomed(attempt.task) or not live.tenant.is_open:
        return False
    if proposal.victims:
        return all(_can_be_stopped(state, victim) for victim in proposal.victims)
    vertex = found[1].vertex
    ask = vertex.spec.resources
    if live.tenant.has_quota:
        held = vertex.held(len(proposal.places), state.models_of(proposal.places, ask))
        if check_quota(live.tenant, held) is not None:
            return False
    return not state.space.fits(proposal.places, ask)


def _can_be_stopped(state: State, victim: AttemptId) -> bool:
    found = state.current(victim)
    return found is not None and found[2].state in ("launching", "running")
