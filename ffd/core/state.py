"""The one door: `State.apply(event)` is the only code that changes state after it was loaded.

Each event has one small handler here, which moves lifecycles (by their tables) and keeps the indexes exact. Called by
`core.step` and by replay. Never here: deciding anything; what happened is already decided.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ffd.core import events as ev
from ffd.core import health
from ffd.core.amounts import amounts_on
from ffd.core.dag import Dag
from ffd.core.forecast import LEARN_FROM_MS
from ffd.core.health import NodeMark
from ffd.core.lifecycle import ITEM, TASK, WORKFLOW, advance
from ffd.core.live import LiveTask, LiveWorkflow
from ffd.core.memory import Memory
from ffd.core.model import TERMINAL, Attempt, AttemptId, Item, Task, Workflow
from ffd.core.spec import Task as TaskSpec
from ffd.core.tenancy import ONE_WORKFLOW

_encode = msgspec.msgpack.Encoder().encode

Instant = Any  # an int, in milliseconds; compiled code passes on what has no such type instead of making it anew
ITEM_ENDED: Final = {state: f"ItemEnded.{state}" for state in TERMINAL}  # triggers of the lifecycles
TASK_ENDED: Final = {state: f"TaskEnded.{state}" for state in TERMINAL}
NO_OUTPUTS: Final[dict[str, Any]] = {}  # of all attempts that gave none yet: outputs are never changed in place
NO_EXITS: Final[dict[int, int]] = {}  # of all attempts but gangs, which alone keep them


class State(Memory):
    """Memory with its door."""

    # --------------------------------------------------------------------------------------------------- the door

    def apply(self, event: ev.AnyEvent, at_ms: Instant) -> None:
        """Change state as `event` says. Raises IllegalTransition when the lifecycle forbids it (our bug)."""
        _APPLY[type(event)](self, event, at_ms)

    def _spec_added(self, e: ev.SpecAdded, at_ms: Instant) -> None:
        self.dags[e.digest] = Dag(e.spec)
        self.dag_users.setdefault(e.digest, 0)
        self._dirty_specs[e.digest] = e.spec

    def _key_remembered(self, e: ev.KeyRemembered, at_ms: Instant) -> None:
        slot = self.key_count % self.limits.idempotency_keys_count
        self._remember(self.key_count, e.scope, e.payload_digest, e.workflow)
        self._dirty_meta[f"key/{slot}"] = _encode((self.key_count - 1, e.scope, e.payload_digest, e.workflow))

    def _workflow_accepted(self, e: ev.WorkflowAccepted, at_ms: Instant) -> None:
        row = Workflow(
            e.workflow, e.name, e.number, e.project, e.spec, e.params, priority=e.priority, by=e.by,
            base_dir=e.base_dir, labels=e.labels, accepted_at_ms=at_ms,
        )  # fmt: skip
        self.next_workflow = max(self.next_workflow, e.workflow + 1)
        label = f"{e.project}/{e.name}"
        self.numbers[label] = e.number
        self._dirty_meta["next_workflow"] = _encode(self.next_workflow)
        self._dirty_meta[f"number/{label}"] = _encode(e.number)
        self._enter(row)
        self._touch(row.id)

    def _touch(self, workflow: int) -> LiveWorkflow:
        live = self.workflows[workflow]
        self._dirty_workflows[workflow] = live
        return live

    def _move_workflow(self, workflow: int, trigger: str) -> LiveWorkflow:
        live = self._touch(workflow)
        live.row.state = advance(WORKFLOW, live.row.state, trigger, live.row.handle)
        return live

    def _workflow_started(self, e: ev.WorkflowStarted, at_ms: Instant) -> None:
        self._move_workflow(e.workflow, "WorkflowStarted").row.started_at_ms = at_ms

    def _workflow_suspended(self, e: ev.WorkflowSuspended, at_ms: Instant) -> None:
        self._move_workflow(e.workflow, "WorkflowSuspended")
        self.lanes.leave()  # others may be the head of their lane now

    def _workflow_resumed(self, e: ev.WorkflowResumed, at_ms: Instant) -> None:
        self._requeue(self._move_workflow(e.workflow, "WorkflowResumed"))

    def _workflow_doomed(self, e: ev.WorkflowDoomed, at_ms: Instant) -> None:
        was = self.workflows[e.workflow].row.state
        live = self._move_workflow(e.workflow, f"WorkflowDoomed.{e.verdict}")
        live.row.verdict = e.verdict
        live.row.skip_finally = e.skip_finally
        live.row.cause = e.cause
        live.drop_backlogs(filter(live.is_doomed, live.dag.names))
        if live.row.state != was:
            self._requeue(live)  # its finally tasks go on

    def _workflow_finalizing(self, e: ev.WorkflowFinalizing, at_ms: Instant) -> None:
        live = self._touch(e.workflow)
        live.row.finalizing = True
        live.row.cause = e.cause
        if e.state != "succeeded":
            live.row.verdict = e.state

    def _workflow_ended(self, e: ev.WorkflowEnded, at_ms: Instant) -> None:
        live = self._move_workflow(e.workflow, f"WorkflowEnded.{e.state}")
        live.row.ended_at_ms = at_ms
        live.row.cause = e.cause
        self.tenancy.discharge(live.tenant, ONE_WORKFLOW)

    def _workflow_forgotten(self, e: ev.WorkflowForgotten, at_ms: Instant) -> None:
        live = self.workflows.pop(e.workflow)
        self.item_count -= sum(max(1, len(task.items)) for task in live.tasks.values())
        digest = live.row.spec
        self.dag_users[digest] -= 1
        if not self.dag_users[digest]:
            del self.dag_users[digest], self.dags[digest]

    def _workflow_reopened(self, e: ev.WorkflowReopened, at_ms: Instant) -> None:
        live = self._move_workflow(e.workflow, "WorkflowReopened")
        self.tenancy.charge(live.tenant, ONE_WORKFLOW)
        row = live.row
        row.round, row.verdict, row.skip_finally, row.finalizing = e.round, "", False, False
        row.cause, row.started_at_ms, row.ended_at_ms = None, at_ms, 0
        for name in e.waiting:
            self._start_over(live, name)
        for name, number in e.items:
            self._reopen_item(live, name, number, at_ms)
        for lane in self.lanes.lanes.values():
            if lane.project == live.row.project or self.policy.order != "fair":
                self.lanes.discard(e.workflow, lane)  # entries of an earlier round would come to life again
        self._recount(live)

    def _start_over(self, live: LiveWorkflow, name: str) -> None:
        """The task waits again. Its attempts go on counting: the name of an attempt is never used twice (S4)."""
        old = live.tasks[name]
        for number in range(len(old.items)):
            self._insist(live, name, number)
        advance(TASK, old.row.state, "WorkflowReopened.waiting", f"{live.row.handle}/{name}")
        used = max((item.number for item in old.items), default=0)
        task = LiveTask(Task(attempts_before=max(old.row.attempts_before, used)), old.vertex)
        for number in range(len(old.items)):
            self._dirty_items[(live.row.id, name, number)] = task.untouched()
        self._dirty_tasks[(live.row.id, name)] = task.row
        self.item_count -= max(1, len(old.items)) - 1
        live.tasks[name] = task

    def _reopen_item(self, live: LiveWorkflow, name: str, number: int, at_ms: Instant) -> None:
        """The item is ready again; what succeeded of its task is kept."""
        task = live.tasks[name]
        if task.row.state != "open":
            task.row.state = advance(TASK, task.row.state, "WorkflowReopened.open", f"{live.row.handle}/{name}")
            task.row.ended_at_ms, task.row.cause = 0, None
            self._dirty_tasks[(live.row.id, name)] = task.row
        item = task.items[number]
        item.state = advance(ITEM, item.state, "WorkflowReopened", f"{live.row.handle}/{name}[{number}]")
        item.user_failures = item.infra_failures = 0
        item.since_at_ms = at_ms
        self._dirty_items[(live.row.id, name, number)] = item

    def _priority_changed(self, e: ev.PriorityChanged, at_ms: Instant) -> None:
        live = self._touch(e.workflow)
        live.row.priority = e.priority
        self.holders.gpu_stamp += 1  # what it holds may be others' now
        self.holders.has_priority(live)
        self._requeue(live)
        self.lanes.renew_for(live.tenant)

    # ------------------------------------------------------------------------------------------------------ tasks

    def _move_task(self, workflow: int, name: str, trigger: str) -> tuple[LiveWorkflow, LiveTask]:
        live = self.workflows[workflow]
        task = live.tasks[name]
        row = task.row
        row.state = TASK.get((row.state, trigger)) or advance(TASK, row.state, trigger, f"{live.row.handle}/{name}")
        if self.keeps_rows:
            self._dirty_tasks[(workflow, name)] = row
        return live, task

    def _task_opened(self, e: ev.TaskOpened, at_ms: Instant) -> None:
        count = e.item_count
        live, task = self._move_task(e.workflow, e.task, "TaskOpened")
        row = task.row
        row.foreach, row.item_count, row.opened_at_ms = e.foreach, count, at_ms
        task.items = (task.untouched(),) if count == 1 else [task.untouched() for _ in range(count)]
        task.left = count
        self.item_count += max(1, count) - 1
        self._queue(live, e.task, range(count))

    def _task_ended(self, e: ev.TaskEnded, at_ms: Instant) -> None:
        live, task = self._move_task(e.workflow, e.task, TASK_ENDED[e.state])
        task.row.ended_at_ms, task.row.cause = at_ms, e.cause
        self._settle(live, task)
        if e.state == "failed" and e.cause and live.row.cause is None and not live.dag.handled(e.task):
            self._touch(e.workflow).row.cause = replace(e.cause, task=e.task)  # the first speaks for the workflow

    # -------------------------------------------------------------------------------------------- items, attempts

    def _move_item(self, attempt: AttemptId, trigger: str, at_ms: Instant) -> tuple[LiveWorkflow, LiveTask, Item]:
        workflow, name, number = attempt.workflow, attempt.task, attempt.item
        live = self.workflows[workflow]
        task = live.tasks[name]
        item = task.items[number]
        item.state = ITEM.get((item.state, trigger)) or advance(ITEM, item.state, trigger, attempt.label())
        item.since_at_ms = at_ms
        if self.keeps_rows:
            self._dirty_items[(workflow, name, number)] = item
        return live, task, item

    def _item_admitted(self, e: ev.ItemAdmitted, at_ms: Instant) -> None:
        attempt, places = e.attempt, e.places
        name = attempt.task
        live, task, item = self._move_item(attempt, "ItemAdmitted", at_ms)
        item.number, vertex = attempt.attempt, task.vertex
        ask = self.ask_of(attempt, live) if self.moved else vertex.spec.resources
        models = self.models_of(places, ask)
        exited = {} if len(places) > 1 else NO_EXITS
        item.live = Attempt(places, at_ms, exited=exited, outputs=NO_OUTPUTS, models=models)
        self.holders.add(attempt, live)
        self._insist(live, name, attempt.item)
        self.lanes.count(live.tenant, live.row.project if self.policy.order == "fair" else "")
        self.space.take(places, ask)
        self.space.mix.observe(ask, len(places))
        held = amounts_on(ask, len(places), models) if self.moved else vertex.held(len(places), models)
        self.tenancy.charge(live.tenant, held)

    def _attempt_launching(self, e: ev.AttemptLaunching, at_ms: Instant) -> None:
        self._move_item(e.attempt, "AttemptLaunching", at_ms)
        self.holders.changed(e.attempt)  # from now on it can be stopped for others

    def _live_attempt(self, attempt: AttemptId) -> Attempt:
        item = self.workflows[attempt.workflow].tasks[attempt.task].items[attempt.item]
        assert item.live is not None and item.number == attempt.attempt, attempt.label()
        self._dirty_items[(attempt.workflow, attempt.task, attempt.item)] = item
        return item.live

    def _replica_started(self, e: ev.ReplicaStarted, at_ms: Instant) -> None:
        live = self._live_attempt(e.attempt)
        live.started = tuple(sorted((*live.started, e.rank)))

    def _attempt_running(self, e: ev.AttemptRunning, at_ms: Instant) -> None:
        item = self._move_item(e.attempt, "AttemptRunning", at_ms)[2]
        assert item.live is not None
        item.live.running_at_ms = at_ms
        item.live.started = ()

    def _replica_ended(self, e: ev.ReplicaEnded, at_ms: Instant) -> None:
        live = self._live_attempt(e.attempt)
        assert live.exited is not NO_EXITS, e.attempt.label()
        live.exited[e.rank] = e.exit_code

    def _attempt_stopping(self, e: ev.AttemptStopping, at_ms: Instant) -> None:
        item = self._move_item(e.attempt, "AttemptStopping", at_ms)[2]
        assert item.live is not None
        item.live.stop_cause = e.cause
        item.live.stop_grace_ms = e.grace_ms
        self.holders.stop(e.attempt)
        if any(e.attempt in found.counts_on for found in self.reservations.values() if not found.victims):
            self.lanes.is_dirty = True  # that gang may start earlier than was thought

    def _outputs_set(self, e: ev.OutputsSet, at_ms: Instant) -> None:
        live = self._live_attempt(e.attempt)
        live.outputs = {**live.outputs, **e.outputs}

    def _checkpoint_saved(self, e: ev.CheckpointSaved, at_ms: Instant) -> None:
        self._live_attempt(e.attempt).saved_at_ms = at_ms
        self.workflows[e.attempt.workflow].tasks[e.attempt.task].items[e.attempt.item].checkpoint = e.value

    def _attempt_ended(self, e: ev.AttemptEnded, at_ms: Instant) -> None:
        attempt_id = e.attempt
        live, task, item = self._move_item(attempt_id, "AttemptEnded", at_ms)
        name, attempt, vertex = attempt_id.task, item.live, task.vertex
        assert attempt is not None
        if e.outputs:
            attempt.outputs = {**attempt.outputs, **e.outputs}
        places = attempt.places
        self.holders.remove(attempt_id)
        self.space.give(places, vertex.spec.resources)
        self.tenancy.discharge(live.tenant, vertex.held(len(places), attempt.models))
        self._leave(live, name, attempt_id.item)
        is_success = e.outcome == "succeeded"
        if is_success:
            self._learn(live, vertex.spec, attempt, at_ms)
        item.cause = e.cause
        item.outputs = attempt.outputs if is_success else None
        item.live = None

    def _learn(self, live: LiveWorkflow, task: TaskSpec, attempt: Attempt, at_ms: Instant) -> None:
        """How long it ran, where nothing is declared and it was long enough to matter."""
        since_at_ms = attempt.running_at_ms
        if not since_at_ms or at_ms - since_at_ms < LEARN_FROM_MS:
            return
        if not task.timeouts.run_ms:
            slot, learnt = self.forecast.learn(live.series, task.name, at_ms - since_at_ms)
            if self.keeps_rows:
                self._dirty_meta[f"learnt/{slot}"] = _encode(learnt)

    def _item_backed_off(self, e: ev.ItemBackedOff, at_ms: Instant) -> None:
        item = self._move_item(e.attempt, "ItemBackedOff", at_ms)[2]
        item.retry_at_ms = e.retry_at_ms
        if e.infra:
            item.infra_failures += 1
        else:
            item.user_failures += 1

    def _item_ready(self, e: ev.ItemReady, at_ms: Instant) -> None:
        live, _, item = self._move_item(e.attempt, "ItemReady", at_ms)
        item.retry_at_ms = 0
        self._queue(live, e.attempt.task, (e.attempt.item,))

    def _item_ended(self, e: ev.ItemEnded, at_ms: Instant) -> None:
        attempt, state, cause = e.attempt, e.state, e.cause
        live, task, item = self._move_item(attempt, ITEM_ENDED[state], at_ms)
        item.cause = cause
        self._count_ended(task, state)
        self._leave(live, attempt.task, attempt.item)  # one that ended in the queue still has its place,
        self._insist(live, attempt.task, attempt.item)
        self.lanes.leave()  # and may have been the head of its lane
        if state == "failed" and cause and task.row.cause is None:
            task.row.cause = replace(cause, item=attempt.item, attempt=attempt.attempt)  # the first to fail
            self._dirty_tasks[(attempt.workflow, attempt.task)] = task.row

    def _nodes_changed(self, e: ev.NodesChanged, at_ms: Instant) -> None:
        self._set_nodes(e.nodes)
        self._dirty_meta["nodes"] = _encode(e.nodes)

    # ------------------------------------------------------------------------------------------------------- health

    def _mark_node(self, node: str, mark: NodeMark) -> None:
        for name in self.health.set(node, mark):
            self._dirty_meta[f"node/{name}"] = _encode(self.health.mark(name))
        self._close_or_open(node)

    def _node_cordoned(self, e: ev.NodeCordoned, at_ms: Instant) -> None:
        self._mark_node(e.node, health.cordoned(self.health.mark(e.node), e.by, e.why, e.draining, at_ms))

    def _node_uncordoned(self, e: ev.NodeUncordoned, at_ms: Instant) -> None:
        self._mark_node(e.node, health.UNMARKED)

    def _node_failed(self, e: ev.NodeFailed, at_ms: Instant) -> None:
        self._mark_node(e.node, health.failed(self.health.mark(e.node), e.kind, at_ms))

    def _node_quarantined(self, e: ev.NodeQuarantined, at_ms: Instant) -> None:
        self._mark_node(e.node, health.quarantined(self.health.mark(e.node), e.until_at_ms))

    def _node_on_probation(self, e: ev.NodeOnProbation, at_ms: Instant) -> None:
        self._mark_node(e.node, health.on_probation(self.health.mark(e.node)))

    def _node_proven(self, e: ev.NodeProven, at_ms: Instant) -> None:
        self._mark_node(e.node, health.proven(self.health.mark(e.node)))

    # ----------------------------------------------------------------------------------------------------- tenants

    def _tenant_changed(self, e: ev.TenantChanged, at_ms: Instant) -> None:
        self._declare(e.tenant, weight_millis=e.weight_millis, enabled=e.enabled)

    def _tenant_moved(self, e: ev.TenantMoved, at_ms: Instant) -> None:
        self._declare(e.tenant, parent=e.parent)

    def _quota_changed(self, e: ev.QuotaChanged, at_ms: Instant) -> None:
        quotas = dict(self.tenancy.tenant(e.tenant).row.quotas)
        if e.quota is None:
            quotas.pop(e.resource, None)
        else:
            quotas[e.resource] = e.quota
        self._declare(e.tenant, quotas=dict(sorted(quotas.items())))

    def _usage_noted(self, e: ev.UsageNoted, at_ms: Instant) -> None:
        self.tenancy.set_past(e.now_ms, e.past)
        self._dirty_meta["past"] = _encode((e.now_ms, e.past))

    def _declare(self, path: str, **changed: Any) -> None:
        """Whoever is blocked may not be any more: all lanes are looked at again."""
        closed = [name for name, node in self.tenancy.nodes.items() if not node.is_open]
        row = replace(self.tenancy.tenant(path).row, **changed)
        self.tenancy.declare({path: row})
        self._dirty_meta[f"tenant/{path}"] = _encode(row)
        if "parent" in changed:
            self.lanes.rebuild()
        opened = {name for name in closed if self.tenancy.nodes[name].is_open}  # only asked, never walked
        for live in self.workflows.values() if opened else ():
            if live.tenant.path in opened:
                self._requeue(live)  # entries were dropped while it was disabled
        self.lanes.renew()
        self.lanes.unblock()
        self.lanes.leave()


_APPLY: dict[type, Callable[[State, Any, int], None]] = {
    ev.SpecAdded: State._spec_added,
    ev.KeyRemembered: State._key_remembered,
    ev.WorkflowAccepted: State._workflow_accepted,
    ev.WorkflowStarted: State._workflow_started,
    ev.WorkflowSuspended: State._workflow_suspended,
    ev.WorkflowResumed: State._workflow_resumed,
    ev.WorkflowDoomed: State._workflow_doomed,
    ev.WorkflowFinalizing: State._workflow_finalizing,
    ev.WorkflowEnded: State._workflow_ended,
    ev.WorkflowForgotten: State._workflow_forgotten,
    ev.WorkflowReopened: State._workflow_reopened,
    ev.PriorityChanged: State._priority_changed,
    ev.TaskOpened: State._task_opened,
    ev.TaskEnded: State._task_ended,
    ev.ItemAdmitted: State._item_admitted,
    ev.AttemptLaunching: State._attempt_launching,
    ev.ReplicaStarted: State._replica_started,
    ev.AttemptRunning: State._attempt_running,
    ev.ReplicaEnded: State._replica_ended,
    ev.AttemptStopping: State._attempt_stopping,
    ev.OutputsSet: State._outputs_set,
    ev.CheckpointSaved: State._checkpoint_saved,
    ev.AttemptEnded: State._attempt_ended,
    ev.ItemBackedOff: State._item_backed_off,
    ev.ItemReady: State._item_ready,
    ev.ItemEnded: State._item_ended,
    ev.NodesChanged: State._nodes_changed,
    ev.NodeCordoned: State._node_cordoned,
    ev.NodeUncordoned: State._node_uncordoned,
    ev.NodeFailed: State._node_failed,
    ev.NodeQuarantined: State._node_quarantined,
    ev.NodeOnProbation: State._node_on_probation,
    ev.NodeProven: State._node_proven,
    ev.TenantChanged: State._tenant_changed,
    ev.TenantMoved: State._tenant_moved,
    ev.QuotaChanged: State._quota_changed,
    ev.UsageNoted: State._usage_noted,
}
