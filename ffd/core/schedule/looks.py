"""For which gangs it is looked whom to stop: so many in one cycle, none twice, none of which it is known that nobody
can be stopped.

Made and asked by `schedule.cycle`, once for each cycle. Never here: whom to stop (`schedule.preempt`).
"""

from __future__ import annotations

from collections.abc import Iterable

from ffd.core.admit.quota import QuotaBlock, is_due
from ffd.core.amounts import amounts
from ffd.core.kinds import ANY_STAMP, Lane, Shape
from ffd.core.live import LiveWorkflow
from ffd.core.schedule.preempt import may_preempt
from ffd.core.schedule.rooms import is_tight
from ffd.core.spec import Resources
from ffd.core.state import State
from ffd.core.tenancy import Tenant

PREEMPTIONS_COUNT = 4  # looks for victims in one cycle: the head of the line has the right to it, not everybody


class Looks:
    """The looks of one cycle. In a rehearsal nothing is remembered beyond it."""

    def __init__(self, state: State) -> None:
        self.left_count = PREEMPTIONS_COUNT if state.policy.preempt != "off" else 0
        self.in_vain = InVain(state)
        self._state = state
        self._is_real = not state.lanes.journal.is_open
        self._looked: dict[tuple[Tenant, Shape, int], None] = {}  # only asked
        self._put_off: dict[Lane, None] = {}  # with more looks it would have been looked for them

    def begin(self, lane: Lane, live: LiveWorkflow, now_ms: int) -> bool:
        """Is it to be looked for a gang of this lane and workflow now? Then that is one of the looks."""
        state, shape, who = self._state, lane.kind.shape, (live.tenant, lane.kind.shape, live.row.priority)
        is_for, now = (live.tenant.path, live.row.priority), self._stamps()
        if state.policy.preempt == "off":
            return False
        if self._is_real and shape.was_in_vain(is_for, now, state.holders.stamp):
            self.in_vain.add(*who)
            return False
        if who in self._looked or (self._is_real and shape.is_patient(is_for, now, now_ms)):
            return False
        if not may_preempt(state, shape, live):
            self._remember(shape, live, is_without_room=False)
            return False
        if not self.left_count:
            self._put_off[lane] = None
            return False
        self._looked[who] = None
        self.left_count -= 1
        return True

    def wait(self, lane: Lane, live: LiveWorkflow, until_ms: int) -> None:
        """It will start by itself: not to be looked for again before this instant."""
        if self._is_real:
            self._state.lanes.patient[lane] = until_ms
            lane.kind.shape.wait_for((live.tenant.path, live.row.priority), until_ms, self._stamps())

    def give_up(self, lane: Lane, live: LiveWorkflow, block: QuotaBlock | None) -> None:
        """Nobody can be stopped for it, whom quota forbids now (`block`) or room."""
        self._remember(lane.kind.shape, live, is_without_room=True)
        if block is not None and self._is_real:
            self._state.lanes.roomless[lane] = self._state.space.version

    def put_off(self, news: Iterable[Lane]) -> dict[Lane, None]:
        """At the end, with the news that are left: for whom it was not looked because others used up the looks."""
        is_short = not self.left_count and self._state.policy.preempt != "off"
        return {lane: None for lane in (*self._put_off, *news) if is_short and lane.branch.lane is lane}

    def _stamps(self) -> tuple[int, int, int]:
        """As long as these are the same, so is for a gang of GPUs what others hold of what matters to it."""
        state = self._state
        return state.holders.gpu_stamp, state.space.inventory_version, state.tenancy.rules_count

    def _remember(self, shape: Shape, live: LiveWorkflow, *, is_without_room: bool) -> None:
        """That nobody can be stopped: for gangs of GPUs beyond this cycle."""
        state = self._state
        self.in_vain.add(live.tenant, shape, live.row.priority)
        if shape.ask.has_gpus and self._is_real:
            is_by_all = depends_on_all(state, shape, live.tenant, is_without_room=is_without_room)
            stamp = state.holders.stamp if is_by_all else ANY_STAMP
            shape.give_up_for((live.tenant.path, live.row.priority), self._stamps(), stamp)


class InVain:
    """For whom nobody could be stopped in this cycle. Could what is admitted after them be stopped for one of them? A
    quick look, which costs the same for many of them."""

    def __init__(self, state: State) -> None:
        self._is_by_priority = state.policy.preempt == "all"
        self._priorities: dict[Tenant, int] = {}  # the highest
        self._due: dict[Tenant, dict[str, None]] = {}  # what is due to somebody right below this level

    def add(self, tenant: Tenant, shape: Shape, priority: int) -> None:
        self._priorities[tenant] = max(priority, self._priorities.get(tenant, priority))
        for level in tenant.chain() if tenant.has_quota else ():
            if level.parent is not None and is_due(level, shape.asked):
                bounded = (resource for resource in shape.asked if resource in level.row.quotas)
                self._due.setdefault(level.parent, {}).update(dict.fromkeys(bounded))

    def may_stop(self, live: LiveWorkflow, ask: Resources, replicas: int) -> bool:
        """What will hold this much is less urgent than one of them, or makes its tenant borrow beside one of them."""
        priority = live.row.priority
        if self._is_by_priority and priority < self._priorities.get(live.tenant, priority):
            return True
        if not self._due:
            return False
        asked = amounts(ask, replicas)
        for level in live.tenant.chain():
            for resource in self._due.get(level.parent, ()) if level.parent is not None else ():
                quota = level.row.quotas.get(resource)
                if level.usage.get(resource, 0) + asked.get(resource, 0) > (quota.nominal if quota else 0):
                    return True
        return False


def depends_on_all(state: State, shape: Shape, tenant: Tenant, *, is_without_room: bool) -> bool:
    """That nobody can be stopped for a gang of GPUs: may it be otherwise because of who holds none? They may be in the
    way on its nodes; hold what a quota bounds besides GPUs; be whom it follows."""
    if any(not resource.startswith("gpus") for resource in shape.resources & tenant.quoted):
        return True
    return is_without_room and (bool(shape.follows) or is_tight(state.space, shape.ask))
