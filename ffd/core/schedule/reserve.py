"""Reservations: a gang that does not fit now is sure of its start; others go ahead only if they do not delay it.

EASY backfilling (Lifka 1995; Mu'alem & Feitelson, IEEE TPDS 2001) with several reservations: the head of the line gets
the earliest start at which enough of what runs will have ended, and the nodes it will then use. Another gang may go
ahead when it ends before, or leaves alone what the reservation still needs (`conflicts`).
Durations are forecasts (core.forecast); what runs of unknown length is taken to end last. A reservation then has nodes,
but no start: it binds nobody until some others have overtaken it; from then on nothing is put there any more, so that
the nodes drain and the gang starts at last (L8).

Called by `schedule.cycle`, `schedule.preempt` and `schedule.explain`. Never stored: made again after a restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ffd.core.admit.quota import QuotaBlock, check_quota
from ffd.core.amounts import Amounts, amounts_on
from ffd.core.holders import End
from ffd.core.kinds import Entry, Lane, Shape
from ffd.core.model import AttemptId, Place
from ffd.core.schedule.ends import FOREVER_MS
from ffd.core.schedule.place import find_places, has_room, places_on
from ffd.core.schedule.relief import Relief, fewest, held
from ffd.core.spec import Resources
from ffd.core.state import State
from ffd.core.tenancy import Tenant


class Reservation(NamedTuple):
    """Where and when a waiting gang will start. `start_at_ms` FOREVER_MS: nobody knows. `counts_on`: attempts whose end
    it waits for, those on its nodes only. `made_at_count`: admissions before it was made. `victims`: those of them that
    are being stopped for it (preemption), and `lane`: where it waits."""

    entry: Entry
    ask: Resources
    start_at_ms: int
    places: tuple[Place, ...]
    counts_on: tuple[AttemptId, ...]
    made_at_count: int
    victims: tuple[AttemptId, ...] = ()
    lane: Lane | None = None


def reserve(
    state: State, entry: Entry, shape: Shape, domains: frozenset[str], models: tuple[str, ...] | None, ends: list[End]
) -> Reservation | None:
    """The earliest start of a gang that does not fit now; None when it would not fit on the empty cluster.

    What runs is taken to end in the order of `ends`, as far as that helps; `counts_on` are those on its nodes."""
    relief, size = Relief(state, shape.ask), shape.sizes()[-1]
    at_ms: dict[AttemptId, int] = {}  # of those that were looked at; of one that is there twice the first counts

    def row() -> Iterator[AttemptId]:
        for when_ms, _, attempt in ends:
            if attempt in state.holders and relief.by(attempt) and attempt not in at_ms:
                at_ms[attempt] = when_ms
                yield attempt

    found = fewest(
        row(),
        lambda attempt: state.space.give(*held(state, attempt)),
        state.space.trial,
        lambda: find_places(state.space, shape.ask, shape.gang, size, domains, models),
    )
    if found is None:
        return None
    ended, places = found
    mine = {place.node for place in places}  # only asked
    counts_on = tuple(who for who in ended if any(place.node in mine for place in held(state, who)[0]))
    return Reservation(entry, shape.ask, at_ms[ended[-1]], places, counts_on, state.lanes.admitted_count)


def binds(state: State, reservation: Reservation) -> bool:
    """Must others leave it what it needs?"""
    if reservation.start_at_ms < FOREVER_MS:
        return True
    return state.lanes.admitted_count - reservation.made_at_count >= state.policy.overtakes_count


def is_known_now(state: State, reservation: Reservation) -> bool:
    """Nobody knew its start, but by now all that it waits for has ended or is being stopped."""
    left = [found for found in map(state.current, reservation.counts_on) if found is not None]
    is_unknown = reservation.start_at_ms == FOREVER_MS and bool(left)
    return is_unknown and all(item.state == "stopping" for _, _, item, _ in left)


def is_for(reservation: Reservation, lane: Lane) -> bool:
    """May gangs of this lane, which are of the reservation's shape, use it? Room that others were stopped to make is
    for the project alone that it is due to."""
    return reservation.lane is None or reservation.lane.project == lane.project


def fulfil(state: State, lane: Lane, places: tuple[Place, ...]) -> None:
    """A gang of this lane goes there."""
    found = state.reservations.get(lane.kind.shape)
    if found is not None and is_used_up(state, found, lane, places):
        del state.reservations[lane.kind.shape]


def promise(state: State, found: Reservation) -> None:
    """From now on others stop for it."""
    assert found.lane is not None
    state.reservations[found.lane.kind.shape] = found
    state.lanes.stamp += 1


def is_used_up(state: State, reservation: Reservation, lane: Lane, places: tuple[Place, ...]) -> bool:
    """When a gang of this lane goes there, is the reservation of its shape done with? Room that others still make is
    for the next one, unless that, or its quota, is just what is taken here: they would stop in vain (L7)."""
    if not is_for(reservation, lane) or not reservation.victims:
        return is_for(reservation, lane)
    asked = amounts_on(reservation.ask, len(places), state.models_of(places, reservation.ask))
    others = [one for one in state.reservations.values() if one.victims and one is not reservation]
    promises = [*others, reservation]  # it comes last: the others were left what they need
    if promised_block(state, promises, state.tenancy.tenant(lane.project), asked) is not None:
        return True
    return reservation in conflicts(state, promises, places, reservation.ask)


def conflicts(
    state: State, reservations: Sequence[Reservation], places: tuple[Place, ...], ask: Resources
) -> list[Reservation]:
    """Reservations that would not have what they need if a gang took these places and outlasted their start. Tried on
    the real books: it is put there, and what the reservation counts on is taken away; does it still fit?

    A promise is kept, so what one of them gets is not there for the next: they are tried together, too. A forecast may
    count on what another will use."""
    nodes = {place.node for place in places}  # only asked
    near = [one for one in reservations if any(place.node in nodes for place in one.places) and binds(state, one)]
    found: list[Reservation] = []
    for together in _alone_and_together(near):
        with state.space.trial() as trial:
            for attempt in dict.fromkeys(attempt for one in together for attempt in one.counts_on):
                if state.is_live(attempt):
                    trial.give(*held(state, attempt))
            trial.take(places, ask)
            for one in together:
                counts = Counter(place.node for place in one.places if place.node in nodes)
                if not has_room(state.space, one.ask, counts):
                    found.append(one)
                elif one is not together[-1]:
                    trial.take(places_on(state.space, one.ask, counts), one.ask)
    return found


def _alone_and_together(reservations: Sequence[Reservation]) -> Iterator[Sequence[Reservation]]:
    """Each of them, as when it starts before whatever else the others wait for has ended; and all promises."""
    for one in reservations:
        yield (one,)
    promises = [one for one in reservations if one.victims]
    if len(promises) > 1:
        yield promises


def promised_block(
    state: State, reservations: Sequence[Reservation], tenant: Tenant, asked: Amounts
) -> QuotaBlock | None:
    """What quota would forbid `tenant` if those for whom others are being stopped had what they were promised. (Whoever
    was promised a node that is lost will get something else.)"""
    nodes = state.space.nodes
    promises = [found for found in reservations if found.victims and all(one.node in nodes for one in found.places)]
    for together in _alone_and_together(promises) if tenant.has_quota else ():
        with state.tenancy.trial():
            for attempt in dict.fromkeys(attempt for found in together for attempt in found.counts_on):
                current = state.current(attempt)
                if current is not None:
                    live, running = current[0], current[3]
                    amounts = amounts_on(state.ask_of(attempt, live), len(running.places), running.models)
                    state.tenancy.discharge(live.tenant, amounts)
            for found in together:
                state.tenancy.charge(*promised(state, found))
            block = check_quota(tenant, asked)
        if block is not None:
            return block
    return None


def promised(state: State, found: Reservation) -> tuple[Tenant, Amounts]:
    """To whom others make room, and what it will hold."""
    assert found.lane is not None
    models = state.models_of(found.places, found.ask)
    return state.tenancy.tenant(found.lane.project), amounts_on(found.ask, len(found.places), models)


def promised_places(state: State, found: Reservation) -> tuple[Place, ...] | None:
    """Where its gang could go now: what was promised, or other GPUs of the same nodes. None = there is no room."""
    if not state.space.fits(found.places, found.ask):
        return found.places
    counts = Counter(place.node for place in found.places)
    return places_on(state.space, found.ask, counts) if has_room(state.space, found.ask, counts) else None


def places_beside(
    state: State,
    reservations: Sequence[Reservation],
    shape: Shape,
    size: int,
    domains: frozenset[str],
    models: tuple[str, ...] | None,
) -> tuple[Place, ...] | None:
    """Places for a gang that outlasts the reservations' starts, on nodes that none of them needs."""
    with state.space.trial() as trial:
        for reservation in reservations:
            if not binds(state, reservation):
                continue
            for node in dict.fromkeys(place.node for place in reservation.places):
                trial.close(node, "reserved")
        return find_places(state.space, shape.ask, shape.gang, size, domains, models)
