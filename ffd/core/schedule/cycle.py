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

import msgspec

from ffd.core.admit.order import Candidate, Heads, close
from ffd.core.admit.quota import QuotaBlock, allowed_models, check_gang, check_quota
from ffd.core.lanes import Kind, Shape
from ffd.core.live import LiveWorkflow
from ffd.core.model import AttemptId, Place
from ffd.core.schedule.place import find_places
from ffd.core.schedule.preempt import choose_victims
from ffd.core.schedule.reserve import FOREVER_MS, Reservation, conflicts, places_beside, reserve
from ffd.core.spec import Task
from ffd.core.state import State
from ffd.core.tenancy import amounts_on

NODES_A_UNIT = 256  # nodes that one placement may look at for one unit of work
HOLDERS_A_UNIT = 16  # attempts that a reservation or a preemption may look at for one unit of work


class Proposal(msgspec.Struct, frozen=True, gc=False):
    """One gang, and where each of its replicas would go. With `victims`: it goes nowhere yet, they must stop first."""

    attempt: AttemptId
    places: tuple[Place, ...]
    kind: Kind
    victims: tuple[AttemptId, ...] = ()


class Beside(msgspec.Struct, frozen=True, gc=False):
    """Where a shape fits now. A gang that ends by `until_ms` may go to `places`, any other one to `lasting` only."""

    places: tuple[Place, ...]
    until_ms: int
    lasting: tuple[Place, ...] | None


class Cycle:
    """One pass over what waits. `is_done` False: the budget ran out first."""

    def __init__(self, state: State, now_ms: int) -> None:
        self.is_done = True
        self._state = state
        self._now_ms = now_ms
        self._work_left = state.limits.cycle_work_count
        self._beside: dict[Shape, Beside] = {}  # as the state is now
        self._forget_reservations()
        self._ahead = {key: found for key, found in state.reservations.items() if found.victims}  # bind who comes next
        self._kinds = [kind for kind in state.lanes.kinds.values() if self._is_worth_a_look(kind)]
        self._heads = Heads(state, self._kinds)

    def _forget_reservations(self) -> None:
        """Those of kinds that are gone, or whose start is over: the forecast was wrong, they are made again."""
        state = self._state
        for key, reservation in list(state.reservations.items()):
            is_gone = key not in state.lanes.kinds or any(p.node not in state.space.nodes for p in reservation.places)
            is_over = reservation.start_at_ms <= self._now_ms and not any(map(state.is_live, reservation.victims))
            if is_gone or is_over:
                del state.reservations[key]

    def _is_worth_a_look(self, kind: Kind) -> bool:
        state = self._state
        is_blocked = kind.shape.blocked_at == state.space.version
        wants_reservation = len(state.reservations) < self._most_reservations and not self._is_hopeless(kind.shape)
        return not is_blocked or kind.key in state.reservations or wants_reservation

    @property
    def _most_reservations(self) -> int:
        policy = self._state.policy
        return policy.reservations_count if policy.backfill else 0

    def _is_hopeless(self, shape: Shape) -> bool:
        return shape.hopeless_at == self._state.space.inventory_version

    # -------------------------------------------------------------------------------------------------------- the loop

    def next(self) -> Proposal | None:
        """The next proposal, against the state as it is now; None at the end. Each must be applied, or `refuse`d."""
        while True:
            if self._work_left <= 0:
                self.is_done = False
                return None
            candidate = self._heads.next()
            if candidate is None:
                return None
            proposal, goes_on = self._look(candidate)
            if proposal is not None:
                self._beside.clear()
                if not proposal.victims:
                    self._ahead.pop(proposal.kind.key, None)
                return proposal
            if not goes_on:
                return None

    def refuse(self) -> None:
        """The last proposal did not hold (a bug): nothing more of its kind in this cycle."""
        self._heads.drop()

    def _look(self, candidate: Candidate) -> tuple[Proposal | None, bool]:
        """A proposal for this gang, if there is one; and whether there is anything to look at after it."""
        state, lane, shape = self._state, candidate.lane, candidate.lane.kind.shape
        self._work_left -= 1
        live = state.workflows[candidate.entry[1]]
        name = live.dag.names[candidate.entry[3]]
        block: QuotaBlock | None = None
        for size in shape.sizes():
            block = check_gang(state.tenancy, live.tenant, shape.ask, size)
            if block is None:
                models = allowed_models(state.tenancy, live.tenant, shape.ask, size)
                places = self._find(candidate, live, name, size, models)
                if places is not None:
                    return Proposal(_attempt(live, name, candidate), places, lane.kind), True
        return self._not_now(candidate, live, name, block)

    def _find(
        self, candidate: Candidate, live: LiveWorkflow, name: str, size: int, models: tuple[str, ...] | None
    ) -> tuple[Place, ...] | None:
        """Places that it may take now, without delaying who has a reservation."""
        state, kind = self._state, candidate.lane.kind
        if kind.shape.blocked_at == state.space.version:
            return None
        is_common = models is None and len(kind.shape.sizes()) == 1
        beside = self._beside.get(kind.shape) if is_common and kind.key not in self._ahead else None
        if beside is None:
            beside = self._look_beside(kind, size, followed_domains(state, live, live.dag.tasks[name]), models)
            if beside is None:
                if is_common:
                    kind.shape.blocked_at = state.space.version
                elif models is not None:
                    candidate.lane.blocked_at = state.space.version
                return None
            if is_common and kind.key not in self._ahead:
                self._beside[kind.shape] = beside
        ends_at_ms = self._now_ms + kind.duration_ms if kind.duration_ms else FOREVER_MS
        return beside.places if ends_at_ms <= beside.until_ms else beside.lasting

    def _look_beside(
        self, kind: Kind, size: int, domains: frozenset[str], models: tuple[str, ...] | None
    ) -> Beside | None:
        state, shape = self._state, kind.shape
        self._work_left -= len(state.space.nodes) // NODES_A_UNIT
        places = find_places(state.space, shape.ask, shape.gang, size, domains, models)
        if places is None:
            return None
        ahead = [reservation for key, reservation in self._ahead.items() if key != kind.key]
        found = conflicts(state, ahead, places, shape.ask)
        if not found:
            return Beside(places, FOREVER_MS, places)
        until_ms = min(-1 if r.start_at_ms == FOREVER_MS else r.start_at_ms for r in found)
        self._work_left -= len(state.space.nodes) // NODES_A_UNIT
        return Beside(places, until_ms, places_beside(state, ahead, shape, size, domains, models))

    # --------------------------------------------------------------------------------------------------- not this time

    def _not_now(
        self, candidate: Candidate, live: LiveWorkflow, name: str, block: QuotaBlock | None
    ) -> tuple[Proposal | None, bool]:
        state = self._state
        reservation = None
        if block is None:
            reservation = self._reserve(candidate, live, name)
            self._heads.drop()
        else:
            close(candidate.lane, block)
        proposal = self._make_room(candidate, live, name, block, reservation)
        return proposal, proposal is not None or state.policy.backfill

    def _reserve(self, candidate: Candidate, live: LiveWorkflow, name: str) -> Reservation | None:
        """The earliest start of a gang that does not fit. Whoever comes after it in this cycle must not delay it; it is
        kept for later cycles, as long as it is among the first that wait."""
        state, kind = self._state, candidate.lane.kind
        if kind.shape.blocked_at != state.space.version or self._is_hopeless(kind.shape):
            return None  # it fits, but would delay another; or it never will
        found = state.reservations.get(kind.key)
        if found is None:
            if not self._take_a_slot():
                return None
            self._work_left -= len(state.holders) // HOLDERS_A_UNIT
            domains = followed_domains(state, live, live.dag.tasks[name])
            models = allowed_models(state.tenancy, live.tenant, kind.shape.ask, kind.shape.sizes()[-1])
            found = reserve(state, candidate.entry, kind.shape, domains, models, self._now_ms)
            if found is None:
                kind.shape.hopeless_at = state.space.inventory_version if models is None else kind.shape.hopeless_at
                return None
            state.reservations[kind.key] = found
        self._ahead[kind.key] = found
        self._beside.clear()
        return found

    def _take_a_slot(self) -> bool:
        """Is there a reservation left? One of a gang that comes later in this order makes room."""
        reservations = self._state.reservations
        if len(reservations) < self._most_reservations:
            return True
        later = [key for key in reservations if key not in self._ahead]
        if not later or not self._most_reservations:
            return False
        del reservations[later[-1]]
        return True

    def _make_room(
        self,
        candidate: Candidate,
        live: LiveWorkflow,
        name: str,
        block: QuotaBlock | None,
        reservation: Reservation | None,
    ) -> Proposal | None:
        """Stop others for it, if what they have is due to it and it would wait too long. Once: while they end it has a
        reservation (L7)."""
        state, kind = self._state, candidate.lane.kind
        known = state.reservations.get(kind.key)
        if state.policy.preempt == "off" or (known is not None and known.victims):
            return None
        if reservation is not None and reservation.start_at_ms <= self._now_ms + state.policy.patience_ms:
            return None
        if block is None and kind.shape.blocked_at != state.space.version:
            return None
        self._work_left -= len(state.holders) // HOLDERS_A_UNIT
        domains = followed_domains(state, live, live.dag.tasks[name])
        found = choose_victims(state, candidate, live, domains, block, self._now_ms)
        if found is None:
            return None
        self._ahead[kind.key] = state.reservations[kind.key] = found
        self._beside.clear()
        return Proposal(_attempt(live, name, candidate), (), kind, found.victims)


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
    ask = live.dag.tasks[attempt.task].resources
    amounts = amounts_on(ask, len(proposal.places), state.models_of(proposal.places, ask))
    if check_quota(live.tenant, amounts) is not None:
        return False
    return not state.space.fits(proposal.places, ask)


def _can_be_stopped(state: State, victim: AttemptId) -> bool:
    found = state.current(victim)
    return found is not None and found[2].state in ("launching", "running")
