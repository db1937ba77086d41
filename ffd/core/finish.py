"""Finish: what follows from what happened. Retry or settle an item; settle its task; open, skip or fail its children;
end the workflow. Reactions only: called by `core.step` for events, never for inputs.
"""

from __future__ import annotations

import hashlib

from msgspec.structs import replace

from ffd.core import events as ev
from ffd.core.dag import is_met
from ffd.core.expr import ExprError
from ffd.core.live import LiveTask, LiveWorkflow
from ffd.core.model import (
    DOOMED_CAUSES,
    INFRASTRUCTURE_CAUSES,
    REQUEUED_CAUSES,
    TERMINAL,
    AttemptId,
    Cause,
    CauseKind,
    Item,
    Outcome,
    Workflow,
)
from ffd.core.spec import Need, Retry, Task
from ffd.core.values import fan_out, is_true
from ffd.core.work import Work


def start_workflow(work: Work, event: ev.WorkflowStarted) -> None:
    """Open what needs nothing."""
    live = work.state.workflows[event.workflow]
    for name in live.dag.roots(live.dag.main_names):
        open_task(work, live, name)


def reopen_workflow(work: Work, event: ev.WorkflowReopened) -> None:
    """A new round: open what needs nothing that is still to come."""
    live = work.state.workflows[event.workflow]
    for name in live.dag.main_names:
        _judge(work, live, name, live.dag.tasks[name].needs)
    _end_if_settled(work, live)


def open_task(work: Work, live: LiveWorkflow, name: str) -> None:
    """Its needs are settled as asked: evaluate `when` and the fan-out, once; the results are in the events."""
    workflow, spec = live.row.id, live.dag.tasks[name]
    try:
        if spec.when and not is_true(live, spec):
            cause = Cause("expression", f"when is false: {spec.when}")
            work.emit(ev.TaskEnded(workflow, name, "skipped", cause))
            return
        foreach, item_count = fan_out(live, spec, _room_for_items(work)) if spec.is_fanout else (None, 1)
    except ExprError as error:
        work.emit(ev.TaskEnded(workflow, name, "failed", Cause("expression", str(error))))
        return
    work.emit(ev.TaskOpened(workflow, name, item_count, foreach))
    if item_count == 0:
        work.emit(ev.TaskEnded(workflow, name, "succeeded", None))


def _room_for_items(work: Work) -> dict[str, int]:
    """How many items one more task may have, by the name of the limit."""
    state, limits = work.state, work.state.limits
    return {
        "fanout_items_count": limits.fanout_items_count,
        "live_tasks_count": limits.live_tasks_count - state.item_count + 1,  # it counts as one already
    }


# ---------------------------------------------------------------------------------------------------- items


def attempt_ended(work: Work, event: ev.AttemptEnded) -> None:
    """Nothing of the attempt lives any more: its item succeeds, fails, is cancelled, or will be tried again."""
    attempt, cause = event.attempt, event.cause
    if event.outcome != "failed" or cause is None:
        work.emit(ev.ItemEnded(attempt, event.outcome, cause))
        return
    found = work.state.find(attempt)
    assert found is not None
    live, _, item = found
    spec = live.dag.tasks[attempt.task]
    if live.is_doomed(attempt.task):
        work.emit(ev.ItemEnded(attempt, *_doomed_end(live.row, cause)))
    elif cause.kind in REQUEUED_CAUSES:
        work.emit(ev.ItemReady(attempt))
    elif _will_retry(spec.retry, item, cause, work.state.limits.infrastructure_retries_count):
        infra = cause.kind in INFRASTRUCTURE_CAUSES
        failures = (item.infra_failures if infra else item.user_failures) + 1
        delay_ms = 0 if cause.kind == "preempted" else backoff_ms(spec.retry, failures, attempt)
        work.emit(ev.ItemBackedOff(attempt, work.now_ms + delay_ms, infra))
    else:
        work.emit(ev.ItemEnded(attempt, "failed", cause))


def _doomed_end(row: Workflow, cause: Cause) -> tuple[Outcome, Cause]:
    """What was only to be moved (preempted) when its workflow was doomed did not fail."""
    if cause.kind in REQUEUED_CAUSES and row.cause is not None:
        return "cancelled", _doom_cause(row.cause)
    return "failed", cause


def _will_retry(retry: Retry, item: Item, cause: Cause, infra_bound: int) -> bool:
    """Infrastructure failures have a budget of their own; both kinds respect the declared causes. What the scheduler
    took from an attempt it gives back: a preempted one is always tried again."""
    if cause.kind == "preempted":
        return True
    if cause.kind == "input" or cause.kind == "expression":
        return False  # the same expression over the same stored values fails again
    code = 128 + cause.signal if cause.signal else cause.exit_code
    named = cause.kind in retry.causes or str(code) in retry.causes
    if retry.causes and not named:
        return False
    if cause.kind in INFRASTRUCTURE_CAUSES:
        return item.infra_failures < infra_bound
    return item.user_failures < retry.max_count


def backoff_ms(retry: Retry, failures: int, attempt: AttemptId) -> int:
    """Exponential backoff with jitter. The jitter is a hash of the attempt's name: spread like chance, yet the same in
    every replay."""
    delay = float(retry.backoff_ms)
    for _ in range(failures - 1):  # bounded by DocumentLimits.retries_count; a power could overflow
        delay = min(delay * retry.factor, retry.max_backoff_ms)
    delay = min(delay, retry.max_backoff_ms)
    digest = hashlib.blake2b(attempt.label().encode(), digest_size=4).digest()
    chance = int.from_bytes(digest, "big") / 0xFFFFFFFF  # 0..1
    return max(0, round(delay * (1 + retry.jitter * (2 * chance - 1))))


def item_ended(work: Work, event: ev.ItemEnded) -> None:
    """Fail fast on the first failure nobody handles; settle the task with its last item."""
    attempt = event.attempt
    live = work.state.workflows[attempt.workflow]
    task = live.tasks[attempt.task]
    if event.state == "failed" and not live.is_finally(attempt.task):
        _fail_fast(work, live, attempt.task)
    if task.left == 0 and task.row.state == "open":
        work.emit(ev.TaskEnded(attempt.workflow, attempt.task, *_task_result(task)))


def _task_result(task: LiveTask) -> tuple[Outcome, Cause | None]:
    """A task whose items are settled: failed by the first that failed, else cancelled, else succeeded."""
    if task.failed:
        return "failed", task.row.cause
    if task.cancelled:
        return "cancelled", next(item.cause for item in task.items if item.state == "cancelled")
    return "succeeded", None


def _fail_fast(work: Work, live: LiveWorkflow, task: str) -> None:
    """The first failure that nobody handles settles what the workflow ends as, if there is anything left to stop."""
    cause = live.tasks[task].row.cause
    if cause is None or live.row.verdict or not live.main_left:
        return
    if live.dag.spec.fail_fast and not live.dag.handled(task):
        work.emit(ev.WorkflowDoomed(live.row.id, "failed", False, replace(cause, task=task), ""))


# ------------------------------------------------------------------------------------------ tasks and workflows


def task_ended(work: Work, event: ev.TaskEnded) -> None:
    """Open or skip the children; end the workflow with its last task."""
    live = work.state.workflows[event.workflow]
    if event.state == "failed" and not live.is_finally(event.task):
        _fail_fast(work, live, event.task)
    for child, need in live.tasks[event.task].vertex.children:
        if not live.tasks[child].unmet or not is_met(need, event.state):  # else it waits for others
            _judge(work, live, child, (need,))
    _end_if_settled(work, live)


def _judge(work: Work, live: LiveWorkflow, name: str, needs: tuple[Need, ...]) -> None:
    """A waiting task: open it when every need is met, skip it when one can no longer be (semantics rule 1). Only
    `needs` are looked at for the latter: those that may have been settled since it was judged last."""
    task = live.tasks[name]
    if task.row.state != "waiting" or live.is_doomed(name):
        return
    if live.is_finally(name) and not live.row.finalizing:
        return
    for need in needs:
        state = live.tasks[need.task].row.state
        if state in TERMINAL and not is_met(need, state):
            cause = Cause("need", f"{need.task} {state}, {need.outcome} was needed", task=need.task)
            work.emit(ev.TaskEnded(live.row.id, name, "skipped", cause))
            return
    if task.unmet == 0:
        open_task(work, live, name)


def doom(work: Work, event: ev.WorkflowDoomed) -> None:
    """Nothing of the main DAG starts any more, and what runs is stopped; with `skip_finally` finally tasks likewise."""
    live = work.state.workflows[event.workflow]
    cause = _doom_cause(event.cause)
    for name in filter(live.is_doomed, live.dag.names):
        task = live.tasks[name]
        if task.row.state == "waiting":
            work.emit(ev.TaskEnded(event.workflow, name, "cancelled", cause))
        elif task.row.state == "open":
            for number, item in enumerate(task.items):
                _stop_item(
                    work, AttemptId(event.workflow, name, number, item.number), item, cause, live.dag.tasks[name]
                )
    _end_if_settled(work, live)


def _doom_cause(cause: Cause) -> Cause:
    """Why one item of a doomed workflow is stopped."""
    kind: CauseKind = cause.kind if cause.kind in DOOMED_CAUSES else "fail-fast"
    first = f"{cause.task} failed: " if cause.task else ""
    return Cause(kind, first + cause.message, task=cause.task)


def _stop_item(work: Work, attempt: AttemptId, item: Item, cause: Cause, spec: Task) -> None:
    if item.state in ("ready", "backoff"):
        work.emit(ev.ItemEnded(attempt, "cancelled", cause))
    elif item.state in ("launching", "running"):
        work.emit(ev.AttemptStopping(attempt, cause, work.stop_grace_ms(spec)))


def _end_if_settled(work: Work, live: LiveWorkflow) -> None:
    row = live.row
    if live.main_left or row.state in TERMINAL:
        return
    state, cause = _result(row)
    if live.dag.finally_names and not row.finalizing:
        work.emit(ev.WorkflowFinalizing(row.id, state, cause))
    elif live.finally_left == 0:
        work.emit(ev.WorkflowEnded(row.id, state, cause))


def forget(work: Work, event: ev.WorkflowEnded) -> None:
    """It leaves memory only now: events before this one in the queue still speak of it."""
    work.emit(ev.WorkflowForgotten(event.workflow))


def finalize(work: Work, event: ev.WorkflowFinalizing) -> None:
    """The main DAG is settled: the finally tasks may open; without any, the workflow ends."""
    live = work.state.workflows[event.workflow]
    for name in live.dag.finally_names:
        _judge(work, live, name, live.dag.tasks[name].needs)
    _end_if_settled(work, live)


def _result(row: Workflow) -> tuple[Outcome, Cause | None]:
    """Semantics rule 2: the verdict; else failed if anything failed that nobody handles; else succeeded."""
    if row.verdict:
        return row.verdict, row.cause
    return ("failed", row.cause) if row.cause else ("succeeded", None)
