"""The recorder: hears the events of a world and gathers what is told of a run, while it goes on and in bounded memory.

A *gang* is one item with all its attempts. Its wait is all the time in which it was ready and not admitted, over all
its attempts, so that a preemption never hides one. Memory goes with what is live, not with what has been.

    recorder = Recorder(world)
    world.run()
    result = recorder.result()

Never here: how a result is shown (`table`, `page`), or how the world works (`engine`).
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush, heapreplace

import msgspec

from ffd.core import events as ev
from ffd.core.live import LiveWorkflow
from ffd.core.model import Attempt, AttemptId, Node, Outcome, Place
from ffd.core.spec import Task
from ffd.simulate.engine import World
from ffd.simulate.measure import Distribution, Series

STARTS_COUNT = 200  # first starts of what was there at the begin
BARS_COUNT = 400  # attempts that are drawn: those that held most for longest
NODES_SHOWN_COUNT = 4
SIZES = (0, 1, 4, 8, 16, 64, 256)  # classes of gangs, by the most GPUs (or replicas) they hold


class Flow(msgspec.Struct, gc=False):
    """A live workflow and whose it is."""

    live: LiveWorkflow
    tenant: Tenant


class Gang(msgspec.Struct, gc=False):
    """One item that was admitted at least once and is not settled. Instants in ms; `amount`: thousandths of GPUs (of
    replicas, where the cluster has no GPUs) that it holds while it runs."""

    flow: Flow
    attempt: AttemptId
    ready_at_ms: int
    began_at_ms: int = 0  # its first admission
    is_old: bool = False  # that was before the recorder began: its wait is not known
    admitted_at_ms: int = 0  # its last one
    stopping_at_ms: int = -1
    waited_ms: int = 0
    preemption_count: int = 0
    amount: int = 0
    places: tuple[Place, ...] = ()
    ended_at_ms: int = 0
    outcome: Outcome | None = None
    state: str = "ready"  # ready | running | over: between attempts, or for good


class Bar(msgspec.Struct, frozen=True, gc=False):
    """One attempt as the Gantt chart shows it."""

    name: str
    tenant: str
    begin_ms: int
    end_ms: int
    amount: int
    replicas: int
    nodes: str
    outcome: str  # succeeded, failed, cancelled, preempted, running


class Start(msgspec.Struct, frozen=True, gc=False):
    """When something that was there at the begin starts; `in_s` -1: not while the simulation lasted."""

    name: str
    tenant: str
    in_s: float
    waited_s: float  # in all, also before the begin
    nodes: str = ""


class Tenant:
    """What is gathered of one project (or of a size class, or of all)."""

    __slots__ = (
        "cancelled_count", "failed_count", "gang_count", "lost", "name", "preemption_count", "started_count",
        "succeeded_count", "turnaround", "used", "wait", "waiting", "workflow_count",
    )  # fmt: skip

    def __init__(self, name: str, begin_ms: int) -> None:
        self.name = name
        self.gang_count = self.started_count = 0
        self.succeeded_count = self.failed_count = self.cancelled_count = 0
        self.preemption_count = 0
        self.lost = 0  # amount x ms of attempts that failed, less what a checkpoint saved
        self.wait = Distribution()
        self.turnaround = Distribution()  # of workflows: from submit to end
        self.workflow_count = 0  # that ended
        self.used = Series(begin_ms)
        self.waiting = Series(begin_ms)  # gangs that are ready and not admitted


Key = tuple[int, str, int]
OnGang = Callable[[Gang, Outcome, int], None]


class Recorder:
    """Of one world; to be made before it runs. `on_gang(gang, outcome, ended_at_ms)` hears of each settled gang that
    was ever admitted."""

    def __init__(self, world: World, on_gang: OnGang | None = None) -> None:
        self.world = world
        self.begin_ms = world.now_ms
        self.end_ms = world.now_ms  # of the last thing that happened
        self.tenants: dict[str, Tenant] = {}
        self.total = Tenant("", self.begin_ms)
        self.sizes: dict[int, Distribution] = {}
        self.capacity = Series(self.begin_ms)
        self.unit = ""  # GPU, or slot where the cluster has none
        self.bars: list[tuple[int, int, Bar]] = []
        self.starts: list[Start] = []
        self.running: dict[Key, Gang] = {}  # gangs admitted at least once and not settled
        self._on_gang = on_gang
        self._flows: dict[int, Flow] = {}
        self._bar_count = 0
        self._set_capacity(self.begin_ms, world.state.nodes)
        self._adopt()
        for kind, hook in (
            (ev.NodesChanged, self._nodes_changed), (ev.WorkflowAccepted, self._accepted),
            (ev.WorkflowEnded, self._workflow_ended), (ev.WorkflowForgotten, self._forgotten),
            (ev.TaskOpened, self._opened), (ev.ItemAdmitted, self._admitted),
            (ev.AttemptStopping, self._stopping), (ev.AttemptEnded, self._attempt_ended),
            (ev.ItemReady, self._ready), (ev.ItemEnded, self._ended),
        ):  # fmt: skip
            world.on(kind, hook)

    def _adopt(self) -> None:
        """What is there already: a snapshot."""
        for live in self.world.state.workflows.values():
            flow = self._flow(live)
            for name, task in live.tasks.items():
                for number, item in enumerate(task.items):
                    since_ms = item.since_at_ms or task.row.opened_at_ms
                    attempt = AttemptId(live.row.id, name, number, item.number)
                    if item.live is not None:
                        self._adopt_running(flow, attempt, item.live)
                    elif item.state == "ready":
                        self._count_waiting(flow.tenant, self.begin_ms, 1)
                        if item.number:
                            key = (live.row.id, name, number)
                            self.running[key] = Gang(flow, attempt, since_ms, is_old=True)

    def _adopt_running(self, flow: Flow, attempt: AttemptId, running: Attempt) -> None:
        task = flow.live.dag.tasks[attempt.task]
        gang = Gang(flow, attempt, running.admitted_at_ms, running.admitted_at_ms, is_old=True)
        self.running[attempt.workflow, attempt.task, attempt.item] = gang
        flow.tenant.gang_count += 1
        self.total.gang_count += 1
        self._begin(gang, task, running.places, self.begin_ms)
        gang.admitted_at_ms = running.admitted_at_ms

    @property
    def running_count(self) -> int:
        return sum(gang.state == "running" for gang in self.running.values())

    # ------------------------------------------------------------------------------------------------- inventory

    def _nodes_changed(self, at_ms: int, event: ev.NodesChanged) -> None:
        self._set_capacity(at_ms, event.nodes)

    def _set_capacity(self, at_ms: int, nodes: tuple[Node, ...]) -> None:
        if not nodes:
            return
        if not self.unit:
            self.unit = "GPU" if any(node.gpu_count for node in nodes) else "slot"
        total = sum(node.gpu_count if self.unit == "GPU" else node.slot_count for node in nodes) * 1_000
        self.capacity.add(at_ms, total - self.capacity.level)

    def _amount(self, task: Task, replicas: int) -> int:
        return replicas * (task.resources.held_gpu_millis if self.unit != "slot" else 1_000)

    # ------------------------------------------------------------------------------------------------- workflows

    def _flow(self, live: LiveWorkflow) -> Flow:
        project = live.row.project
        tenant = self.tenants.get(project)
        if tenant is None:
            tenant = self.tenants[project] = Tenant(project, self.begin_ms)
        flow = self._flows[live.row.id] = Flow(live, tenant)
        return flow

    def _accepted(self, at_ms: int, event: ev.WorkflowAccepted) -> None:
        live = self.world.state.workflows.get(event.workflow)
        if live is not None:  # else it ended at once: nothing of it waited or ran
            self._flow(live)

    def _workflow_ended(self, at_ms: int, event: ev.WorkflowEnded) -> None:
        flow = self._flows.get(event.workflow)
        if flow is None:
            return
        for tenant in (flow.tenant, self.total):
            tenant.workflow_count += 1
            tenant.turnaround.add(at_ms - flow.live.row.accepted_at_ms)

    def _forgotten(self, at_ms: int, event: ev.WorkflowForgotten) -> None:
        self._flows.pop(event.workflow, None)

    # ----------------------------------------------------------------------------------------------------- gangs

    def _count_waiting(self, tenant: Tenant, at_ms: int, change: int) -> None:
        if change > 0:
            tenant.gang_count += change
            self.total.gang_count += change
        tenant.waiting.add(at_ms, change)
        self.total.waiting.add(at_ms, change)

    def _opened(self, at_ms: int, event: ev.TaskOpened) -> None:
        flow = self._flows.get(event.workflow)
        if flow is not None and event.item_count:
            self._count_waiting(flow.tenant, at_ms, event.item_count)

    def _admitted(self, at_ms: int, event: ev.ItemAdmitted) -> None:
        attempt = event.attempt
        key = (attempt.workflow, attempt.task, attempt.item)
        gang = self.running.get(key)
        if gang is None:
            flow = self._flows.get(attempt.workflow)
            if flow is None:
                return
            ready_at_ms = flow.live.tasks[attempt.task].row.opened_at_ms
            gang = self.running[key] = Gang(flow, attempt, ready_at_ms, at_ms)
            flow.tenant.started_count += 1
            self.total.started_count += 1
            if len(self.starts) < STARTS_COUNT and flow.live.row.accepted_at_ms <= self.begin_ms:
                in_s, waited_s = (at_ms - self.begin_ms) / 1_000, (at_ms - ready_at_ms) / 1_000
                name = name_of(flow.live, attempt)
                self.starts.append(Start(name, flow.tenant.name, in_s, waited_s, nodes_text(event.places)))
        gang.attempt = attempt
        gang.waited_ms += at_ms - gang.ready_at_ms
        tenant = gang.flow.tenant
        tenant.waiting.add(at_ms, -1)
        self.total.waiting.add(at_ms, -1)
        self._begin(gang, gang.flow.live.dag.tasks[attempt.task], event.places, at_ms)

    def _begin(self, gang: Gang, task: Task, places: tuple[Place, ...], at_ms: int) -> None:
        tenant, amount = gang.flow.tenant, self._amount(task, len(places))
        gang.admitted_at_ms, gang.places, gang.amount, gang.stopping_at_ms = at_ms, places, amount, -1
        gang.state = "running"
        tenant.used.add(at_ms, amount)
        self.total.used.add(at_ms, amount)

    def _stopping(self, at_ms: int, event: ev.AttemptStopping) -> None:
        attempt = event.attempt
        gang = self.running.get((attempt.workflow, attempt.task, attempt.item))
        if gang is not None and gang.stopping_at_ms < 0:
            gang.stopping_at_ms = at_ms

    def _attempt_ended(self, at_ms: int, event: ev.AttemptEnded) -> None:
        attempt = event.attempt
        gang = self.running.get((attempt.workflow, attempt.task, attempt.item))
        if gang is None:
            return
        self.end_ms = at_ms
        tenant, cause = gang.flow.tenant, event.cause
        tenant.used.add(at_ms, -gang.amount)
        self.total.used.add(at_ms, -gang.amount)
        gang.state, gang.ended_at_ms, gang.outcome = "over", at_ms, event.outcome
        kind: str = event.outcome
        if event.outcome == "failed":
            kind = "preempted" if cause is not None and cause.kind == "preempted" else "failed"
            self._lose(gang, at_ms, kind)
        self._draw(gang, at_ms, kind)

    def _lose(self, gang: Gang, at_ms: int, kind: str) -> None:
        """Work that is to be done again: all of it, or what came after the checkpoint that the notice asked for."""
        task = gang.flow.live.dag.tasks[gang.attempt.task]
        is_saved = task.checkpoint is not None and gang.stopping_at_ms >= 0
        lost = gang.amount * (at_ms - (gang.stopping_at_ms if is_saved else gang.admitted_at_ms))
        gang.preemption_count += kind == "preempted"
        for tenant in (gang.flow.tenant, self.total):
            tenant.lost += lost
            tenant.preemption_count += kind == "preempted"

    def _ready(self, at_ms: int, event: ev.ItemReady) -> None:
        attempt = event.attempt
        gang = self.running.get((attempt.workflow, attempt.task, attempt.item))
        if gang is not None:
            gang.ready_at_ms, gang.state = at_ms, "ready"
            gang.flow.tenant.waiting.add(at_ms, 1)
            self.total.waiting.add(at_ms, 1)

    def _ended(self, at_ms: int, event: ev.ItemEnded) -> None:
        attempt = event.attempt
        gang = self.running.pop((attempt.workflow, attempt.task, attempt.item), None)
        flow = gang.flow if gang is not None else self._flows.get(attempt.workflow)
        if flow is None:
            return
        self.end_ms = at_ms
        if gang is None or gang.state == "ready":  # it ended in the queue
            flow.tenant.waiting.add(at_ms, -1)
            self.total.waiting.add(at_ms, -1)
        for tenant in (flow.tenant, self.total):
            if event.state == "succeeded":
                tenant.succeeded_count += 1
            elif event.state == "failed":
                tenant.failed_count += 1
            else:
                tenant.cancelled_count += 1
        if gang is not None:
            self._settle(gang)
            if self._on_gang is not None:
                self._on_gang(gang, event.state, at_ms)

    def _settle(self, gang: Gang) -> None:
        if gang.is_old:
            return
        waited_ms = gang.waited_ms
        gang.flow.tenant.wait.add(waited_ms)
        self.total.wait.add(waited_ms)
        size = gang.amount // 1_000
        most = next((most for most in SIZES if size <= most), 0x7FFFFFFF)
        found = self.sizes.get(most)
        if found is None:
            found = self.sizes[most] = Distribution()
        found.add(waited_ms)

    # ------------------------------------------------------------------------------------------------------ bars

    def _draw(self, gang: Gang, at_ms: int, outcome: str) -> None:
        """Keep it if it held more for longer than the least of those that are kept."""
        area = gang.amount * (at_ms - gang.admitted_at_ms)
        if len(self.bars) >= BARS_COUNT and area <= self.bars[0][0]:
            return
        self._bar_count += 1
        entry = (area, -self._bar_count, self.bar(gang, at_ms, outcome))
        if len(self.bars) < BARS_COUNT:
            heappush(self.bars, entry)
        else:
            heapreplace(self.bars, entry)

    def bar(self, gang: Gang, at_ms: int, outcome: str) -> Bar:
        """The last attempt of a gang, drawn until `at_ms`."""
        name, tenant = name_of(gang.flow.live, gang.attempt), gang.flow.tenant.name
        begin_ms, nodes = max(gang.admitted_at_ms, self.begin_ms), nodes_text(gang.places)
        return Bar(name, tenant, begin_ms, at_ms, gang.amount, len(gang.places), nodes, outcome)


def name_of(live: LiveWorkflow, attempt: AttemptId) -> str:
    """`llm.42/train`, `llm.42/roll[17]`: an item as people name it."""
    is_fanout = live.tasks[attempt.task].row.item_count > 1
    return f"{live.row.handle}/{attempt.task}" + (f"[{attempt.item}]" if is_fanout else "")


def nodes_text(places: tuple[Place, ...]) -> str:
    """The first few nodes of a gang."""
    nodes = list(dict.fromkeys(place.node for place in places))
    more = f" and {len(nodes) - NODES_SHOWN_COUNT} more" if len(nodes) > NODES_SHOWN_COUNT else ""
    return ", ".join(nodes[:NODES_SHOWN_COUNT]) + more
