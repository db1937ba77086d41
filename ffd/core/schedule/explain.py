"""Why a ready item is not running: the checks of admission and placement in their order, with numbers, computed on
demand by the functions that decide. Nothing is stored for it, and its cost does not grow with what waits.

Called by `views` (ffd why) and `whatif`. What others have is told to those only who may see it (`Sight`). Never here:
whether it may start at all (admissible), how far a gang is from fitting (nearest), what would help (whatif).
"""

from __future__ import annotations

from typing import NamedTuple

from ffd.core.admit.order import Candidate, path_of
from ffd.core.admit.quota import QuotaBlock, allowed_models
from ffd.core.amounts import MODEL_PREFIX
from ffd.core.kinds import Entry, Lane
from ffd.core.model import Place
from ffd.core.pages import Check, HolderPage
from ffd.core.schedule.admissible import enabled, parallel, quota, suspended
from ffd.core.schedule.cycle import followed_domains
from ffd.core.schedule.ends import FOREVER_MS, ends_of
from ffd.core.schedule.nearest import (
    Nearest,
    basis_of,
    holder_pages,
    holders_for,
    holders_on,
    nearest,
)
from ffd.core.schedule.place import find_places
from ffd.core.schedule.possible import closed_hosts, never_fits, never_fits_open, unfit_counts
from ffd.core.schedule.preempt import choose_victims, may_preempt, patient_until_ms
from ffd.core.schedule.queue import Ahead, ahead_of, ahead_text
from ffd.core.schedule.reserve import Reservation, binds, conflicts, is_for, places_beside, reserve
from ffd.core.schedule.rooms import Models
from ffd.core.schedule.subject import Sight, Subject, counted, entry_of, in_text, label, some
from ffd.core.state import State
from ffd.core.story import duration_text

HOLDERS_MOST_COUNT = 20_000  # beyond so many attempts no forecast is made on demand, and no preemption tried


class Found(NamedTuple):
    """What the checks of one item came to. `reason`: the one that the answer comes from; "" = nothing says no.
    `reservation`: its own, or what it would be."""

    checks: tuple[Check, ...]
    reason: str
    ahead: Ahead | None
    holders: tuple[HolderPage, ...]
    reservation: Reservation | None

    def check(self, name: str) -> Check | None:
        return next((check for check in self.checks if check.name == name), None)


def examine(state: State, it: Subject, sight: Sight, now_ms: int) -> Found:
    """All checks of a ready item, in the order in which the scheduler makes them."""
    return _Examination(state, it, sight, now_ms).made()


HARD = ("workflow", "max_parallel", "tenant", "quota", "cluster")  # whoever fails one of these is not looked at further


class _Examination:
    """One item, looked at as a cycle would."""

    def __init__(self, state: State, it: Subject, sight: Sight, now_ms: int) -> None:
        self.state, self.it, self.sight, self.now_ms = state, it, sight, now_ms
        self.live, self.tenant, self.sizes = it.live, it.live.tenant, it.sizes()
        self.lane: Lane = state.lane_for(it.live, it.task, it.is_small)
        self.shape = self.lane.kind.shape
        self.domains = followed_domains(state, it.live, it.task)
        self.entry: Entry = entry_of(state, it, self.lane)
        self.block: QuotaBlock | None = None
        self.places: tuple[Place, ...] | None = None
        self.near: Nearest | None = None
        self.reservation: Reservation | None = None  # its own, or what it would be
        self.is_own = False
        self.holders: tuple[HolderPage, ...] = ()

    def made(self) -> Found:
        state, it = self.state, self.it
        found = [suspended(self.live), parallel(it), enabled(self.tenant), self._quota()]
        is_queued = all(check.verdict == "pass" for check in found[:3])
        ahead = ahead_of(state, self.lane, it, self.sight) if is_queued else None
        found += [self._order(ahead), self._cluster(), self._space()]
        if is_queued and all(check.verdict != "fail" for check in found):
            found += [self._reservation(), self._preemption()]
        if not state.lanes.journal.is_open:
            state.lanes.drop_empty()  # the lane of an item that is not queued was made to look at it
        return Found(tuple(found), self._reason(found), ahead, self.holders, self.reservation)

    def _reason(self, found: list[Check]) -> str:
        """The order stands in the way only of what nothing else does."""
        no = {check.name: check.verdict for check in found if check.verdict != "pass"}
        first = next((name for name in HARD[:3] if name in no), "")
        if first or "fail" in no.values():
            return first or next(name for name, verdict in no.items() if verdict == "fail")
        for name in ("preemption", "quota", "cluster", "space", "reservation", "order"):
            if name in no:
                return name
        return ""

    # --------------------------------------------------------------------------------------------------------- may it

    def _quota(self) -> Check:
        check, self.block = quota(self.state.tenancy, self.it, self.sizes[-1])
        self.holders = self._quota_holders(self.block) if self.block is not None else ()
        return check

    def _quota_holders(self, block: QuotaBlock) -> tuple[HolderPage, ...]:
        """Who holds what the level that says no has."""
        state = self.state
        if len(state.holders) > HOLDERS_MOST_COUNT:
            return ()
        model = block.resource.removeprefix(MODEL_PREFIX) if block.resource.startswith(MODEL_PREFIX) else ""
        below = [
            attempt
            for attempt, running, live in state.reserved()
            if any(level.path == block.tenant for level in live.tenant.chain())
            and (not model or model in running.models)
        ]
        return holder_pages(state, below, self.sight, self.now_ms)

    # -------------------------------------------------------------------------------------------------- when, and where

    def _order(self, ahead: Ahead | None) -> Check:
        if ahead is None:
            return Check(name="order", verdict="pass", detail="it is not in the queue")
        is_next = not ahead.before_count
        return Check(name="order", verdict="pass" if is_next else "wait", detail=ahead_text(ahead), facts=ahead.facts())

    def _cluster(self) -> Check:
        """Could the cluster take it, were it empty?"""
        state, it = self.state, self.it
        never = never_fits(state, it.task)
        unfit = unfit_counts(state, it.ask)
        count = len(state.space.nodes)
        facts = {"node_count": count, "unfit": unfit}
        if never:
            return Check(name="cluster", verdict="fail", detail=f"will never run here: {never}", facts=facts)
        told = "; ".join(f"{number}: {why}" for why, number in unfit.items())
        closed = never_fits_open(state, it.task)
        if closed:
            shut = some(closed_hosts(state, it.ask))
            detail = f"only with nodes that take no work now ({shut}): {closed}; of {counted(count, 'node')} {told}"
            return Check(name="cluster", verdict="wait", detail=detail, facts=facts)
        usable = count - sum(unfit.values())
        detail = f"{usable} of {counted(count, 'node')} could host a replica" + (f"; {told}" if told else "")
        return Check(name="cluster", verdict="pass", detail=detail, facts=facts)

    def _models(self, size: int) -> Models:
        return allowed_models(self.state.tenancy, self.tenant, self.it.ask, size)

    def _space(self) -> Check:
        state, it = self.state, self.it
        for size in self.sizes:
            self.places = find_places(state.space, it.ask, it.task.gang, size, self.domains, self._models(size))
            if self.places is not None:
                nodes = list(dict.fromkeys(place.node for place in self.places))
                facts = {"replicas": size, "nodes": nodes[:100]}
                return Check(name="space", verdict="pass", detail=f"there is room now on {some(nodes)}", facts=facts)
        self.near = nearest(state, it, self.domains, self._models(self.sizes[-1]))
        detail = self.near.detail + self._patience()
        if not self.holders:
            self.holders = holders_on(state, self.near.nodes, self.sight, self.now_ms)
        return Check(name="space", verdict="wait", detail=detail, facts=self.near.facts)

    def _patience(self) -> str:
        """When an elastic gang will be content with less."""
        gang, item = self.it.task.gang, self.live.tasks[self.it.name].items[self.it.number]
        if not gang.min_replicas or self.it.is_small:
            return ""
        since_ms = item.since_at_ms or self.live.tasks[self.it.name].row.opened_at_ms
        return f"; content with {gang.min_replicas} {in_text(since_ms + gang.wait_ms, self.now_ms)}"

    # ----------------------------------------------------------------------------------------- reservation, preemption

    def _reservation(self) -> Check:
        """Has it one; or must it leave alone what somebody else's needs?"""
        held = self.state.reservations.get(self.shape)
        self.is_own = held is not None and _is_for(held, self.entry)
        if self.block is None and self.places is not None:
            return self._held_back()
        if held is not None and self.is_own:
            self.reservation = held
            self.holders = holders_for(self.state, held, self.sight, self.now_ms) or self.holders
            nodes = list(dict.fromkeys(place.node for place in held.places))
            facts = {"nodes": nodes[:100], "start_at_ms": _known(held.start_at_ms)}
            detail = f"it has one on {some(nodes)}: {self._start_text(held)}"
            return Check(name="reservation", verdict="pass", detail=detail, facts=facts)
        if self.block is not None:
            return Check(name="reservation", verdict="pass", detail="none: one is made only of what its quota allows")
        self.reservation = self._forecast()
        if self.reservation is not None and not self.holders:
            self.holders = holders_for(self.state, self.reservation, self.sight, self.now_ms)
        when = self._start_text(self.reservation) if self.reservation else "no forecast"
        facts = {"start_at_ms": _known(self.reservation.start_at_ms)} if self.reservation else {}
        return Check(name="reservation", verdict="pass", detail=f"none: {self._why_none(held)}; {when}", facts=facts)

    def _why_none(self, held: Reservation | None) -> str:
        policy = self.state.policy
        if held is not None:
            live = self.state.workflows[held.entry[1]]
            is_seen = self.sight.project(live.row.project)
            who = label(live, live.dag.names[held.entry[3]], held.entry[4]) if is_seen else "a gang of another tenant"
            return f"that of its kind is for {who}, which comes first"
        if not policy.backfill:
            return "nobody may overtake it"
        count = self.state.reservations_most_count
        if len(self.state.reservations) >= count:
            return (
                f"all {count} are for gangs that come first"
                if count > 1
                else "the only one is for a gang that comes first"
            )
        return "nothing of another kind waits that could overtake it"

    def _forecast(self) -> Reservation | None:
        state, models = self.state, self._models(self.sizes[-1])
        if len(state.holders) > HOLDERS_MOST_COUNT:
            return None
        with state.holders.trial():  # ends that are worked out now are not those that a cycle would keep
            return reserve(state, self.entry, self.shape, self.domains, models, ends_of(state, self.now_ms))

    def _start_text(self, found: Reservation) -> str:
        """When it starts, and how that is known."""
        state = self.state
        if found.victims:
            return (
                f"it starts {in_text(found.start_at_ms, self.now_ms)} at the latest, when those who make room are gone"
            )
        running = [who for who in found.counts_on if state.is_live(who)]
        if found.start_at_ms >= FOREVER_MS:
            unknown = [self.sight.attempt(state, who) for who in running if not basis_of(state, who)]
            left = max(0, state.policy.overtakes_count - (state.lanes.admitted_count - found.made_at_count))
            kept = f"; after {counted(left, 'more start')} room is kept for it" if left and self.is_own else ""
            return f"no forecast: nobody knows how long {some(unknown) or 'what runs there'} will take{kept}"
        names = [self.sight.attempt(state, who) for who in running]
        known = [word for who in running if (word := basis_of(state, who))]
        basis = f" ({' and '.join(dict.fromkeys(known))} durations)" if known else ""
        when = in_text(found.start_at_ms, self.now_ms)
        return f"expected start {when}, when {some(names) or 'what runs there'} ended{basis}"

    def _held_back(self) -> Check:
        """There is room. Would it delay a gang that comes first?"""
        state, it = self.state, self.it
        assert self.places is not None
        mine = candidate_of(state, self.lane, self.entry)
        others = [
            found
            for shape, found in state.reservations.items()
            if (shape is not self.shape or not is_for(found, self.lane))
            and (found.victims or self._is_before(found, mine))
        ]
        delayed = conflicts(state, others, self.places, it.ask)
        duration_ms = self.lane.kind.duration_ms
        ends_at_ms = self.now_ms + duration_ms if duration_ms else FOREVER_MS
        delayed = [found for found in delayed if ends_at_ms > found.start_at_ms or found.start_at_ms >= FOREVER_MS]
        size = len(self.places)
        if not delayed or places_beside(state, others, self.shape, size, self.domains, self._models(size)) is not None:
            return Check(name="reservation", verdict="pass", detail="it delays nobody who has one")
        first = delayed[0]
        live = state.workflows[first.entry[1]]
        is_seen = self.sight.project(live.row.project)
        who = label(live, live.dag.names[first.entry[3]], first.entry[4]) if is_seen else "a gang of another tenant"
        if FOREVER_MS in (first.start_at_ms, ends_at_ms):
            by = "by nobody knows how long: " + (
                "its own duration is not known" if not duration_ms else "when that starts is not known"
            )
        else:
            by = f"by {duration_text(ends_at_ms - first.start_at_ms)}"
        start = (
            "" if first.start_at_ms >= FOREVER_MS else f", which is to start {in_text(first.start_at_ms, self.now_ms)}"
        )
        detail = f"kept back: on the free nodes it would delay {who}{start}, {by}"
        return Check(name="reservation", verdict="wait", detail=detail, facts={"delayed_count": len(delayed)})

    def _is_before(self, found: Reservation, mine: Candidate) -> bool:
        """Does this reservation's gang come first in the order, as it is now?"""
        state = self.state
        if not binds(state, found):
            return False
        live = state.workflows.get(found.entry[1])
        if live is None:
            return False
        lane = state.lane_of(live, live.dag.names[found.entry[3]], False)
        return not _is_for(found, mine.entry) and candidate_of(state, lane, found.entry).urgency < mine.urgency

    def _preemption(self) -> Check:
        """Is anything due to it that others must give back; and if so, why does nobody?"""
        detail = self._why_no_preemption()
        own = self.state.reservations.get(self.shape)
        if own is not None and own.victims and _is_for(own, self.entry):
            going = [self.sight.attempt(self.state, who) for who in own.victims if self.state.is_live(who)]
            when = in_text(own.start_at_ms, self.now_ms)
            verb = "is" if len(going) == 1 else "are"
            who = f"{counted(len(going), 'gang')} {verb} being stopped to make room for it ({some(going)})"
            detail = f"{who}: it starts {when}"
            return Check(name="preemption", verdict="wait", detail=detail, facts={"victim_count": len(going)})
        return Check(name="preemption", verdict="pass", detail=detail)

    def _why_no_preemption(self) -> str:
        state, policy, block = self.state, self.state.policy, self.block
        if policy.preempt == "off":
            return "is switched off"
        if block is None and self.places is not None:
            return "not needed"
        if len(state.holders) > HOLDERS_MOST_COUNT or not may_preempt(state, self.shape, self.live):
            return "nobody to take from: nothing guaranteed to it is lent, nothing of its project has less priority"
        if block is None and self.reservation is None:
            return "not even the end of all that runs would make room"
        if self._starts_soon():
            return f"it starts by itself within {duration_text(policy.patience_ms)}: nobody is stopped"
        candidate = candidate_of(state, self.lane, self.entry)
        is_dirty = state.lanes.is_dirty
        found = choose_victims(state, candidate, self.live, self.domains, block, self.now_ms)
        state.lanes.is_dirty = is_dirty  # to look asks for no cycle
        if found is None:
            return "those that may be stopped for it would not suffice, or are ending anyway"
        return "others will be stopped for it when its turn comes"

    def _starts_soon(self) -> bool:
        """By itself, within the patience of the policy?"""
        state = self.state
        if self.block is None:
            known = self.reservation
            return known is not None and known.start_at_ms <= self.now_ms + state.policy.patience_ms
        with state.holders.trial():  # as in a forecast
            return bool(patient_until_ms(state, self.shape, self.tenant, self.domains, self.block, self.now_ms))


def candidate_of(state: State, lane: Lane, entry: Entry) -> Candidate:
    """An entry as the order compares it; what waiting earned it is left out."""
    return Candidate(path_of(state, lane.branch), entry[0], entry, 0, lane)


def _is_for(found: Reservation, entry: Entry) -> bool:
    return (found.entry[1], found.entry[3], found.entry[4]) == (entry[1], entry[3], entry[4])


def _known(at_ms: int) -> int:
    return at_ms if at_ms < FOREVER_MS else 0
