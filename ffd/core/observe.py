"""Observe: reports become facts about attempts. The only place that knows staleness (S11): a report whose attempt is
not its item's live one is counted and dropped, whatever it says.

Called by `core.step`, one function per report. What follows from the facts is `finish`.
"""

from __future__ import annotations

import signal
from typing import Any, cast

from ffd.core import effects, reports
from ffd.core import events as ev
from ffd.core.health import blamed_node, end_at_ms, proven_nodes
from ffd.core.live import LiveWorkflow
from ffd.core.memory import Current
from ffd.core.model import DOOMED_CAUSES, RUNTIME_CAUSES, Attempt, AttemptId, Cause, CauseKind, Item, Outcome, Timer
from ffd.core.outputs import OutputFault, typed_outputs
from ffd.core.spec import Task
from ffd.core.story import duration_text
from ffd.core.work import Work
from ffd.errors import Refusal


def replica_started(work: Work, report: reports.ReplicaStarted) -> None:
    """A stale one tells of a replica that may live on without right (a lost node came back): it is stopped (S3)."""
    found = work.state.current(report.attempt)
    if found is None:
        work.state.stale_count += 1
        work.effect(effects.Stop(report.attempt, report.rank + 1, 0, "cancelled"))
        return
    _, _, item, live = found
    if item.state != "launching" or not _is_news(live, report.rank) or report.rank in live.started:
        return
    if len(live.places) > 1 and len(_seen(live) | {report.rank}) < len(live.places):
        work.emit(ev.ReplicaStarted(report.attempt, report.rank))
    else:
        work.emit(ev.AttemptRunning(report.attempt))


def _is_news(live: Attempt, rank: int) -> bool:
    """Is this a replica of the attempt that has not ended yet?"""
    return 0 <= rank < len(live.places) and rank not in live.exited


def _seen(live: Attempt) -> frozenset[int]:
    """Ranks that have started, some of which may have ended."""
    return frozenset((*live.started, *live.exited))


def replica_exited(work: Work, report: reports.ReplicaExited) -> None:
    found = work.state.current(report.attempt)
    if found is None:
        _stale(work, report.attempt)
        return
    _, task, _, attempt = found
    if not _is_news(attempt, report.rank):
        return
    outputs: dict[str, Any] = {}
    cause = _cause_of(report, attempt, work.state.limits.tail_bytes)
    if cause is None and report.outputs:
        try:
            is_text = not report.outputs_are_json
            spec, limits = task.vertex.spec, work.state.limits
            outputs = typed_outputs(spec, report.outputs, attempt.outputs, limits, is_text=is_text)
        except OutputFault as fault:
            cause = Cause("output", str(fault), rank=report.rank, exit_code=0)
    code = 128 + report.signal if report.signal else report.exit_code
    _replica_gone(work, report.attempt, found, report.rank, code, cause, outputs)


def launch_failed(work: Work, report: reports.LaunchFailed) -> None:
    found = work.state.current(report.attempt)
    if found is None:
        _stale(work, report.attempt)
        return
    if not _is_news(found[3], report.rank):
        return
    message, node = report.message[: work.state.limits.tail_bytes], found[3].places[report.rank].node
    cause = Cause(_kind(report.kind), message, rank=report.rank, node=node)
    _replica_gone(work, report.attempt, found, report.rank, -1, cause, {})


def _replica_gone(
    work: Work,
    attempt_id: AttemptId,
    found: Current,
    rank: int,
    code: int,
    cause: Cause | None,
    outputs: dict[str, Any],
) -> None:
    """One replica is gone. The first failing one stops its gang; the last one ends the attempt."""
    live, _, item, attempt = found
    if len(attempt.places) > 1:
        spec = live.dag.tasks[attempt_id.task]
        if outputs:
            work.emit(ev.OutputsSet(attempt_id, outputs))
            outputs = {}
        work.emit(ev.ReplicaEnded(attempt_id, rank, code))
        if len(attempt.exited) < len(attempt.places):
            _stop_rest(work, attempt_id, item, attempt, rank, cause, spec)
            if item.state == "launching" and len(_seen(attempt)) == len(attempt.places):
                work.emit(ev.AttemptRunning(attempt_id))  # its exit was the first that was heard of the last one
            return
    outcome, cause = _outcome(attempt, cause)
    work.emit(ev.AttemptEnded(attempt_id, outcome, cause, outputs if outcome == "succeeded" else {}))
    _tell_of_nodes(work, attempt_id, attempt, outcome, cause)


def _tell_of_nodes(work: Work, attempt_id: AttemptId, attempt: Attempt, outcome: Outcome, cause: Cause | None) -> None:
    """What the end of an attempt says of the nodes it ran on."""
    health = work.state.health
    if outcome == "succeeded" and health.marks:
        for node in proven_nodes(health, attempt):
            work.emit(ev.NodeProven(node, attempt_id))
    elif cause is not None:
        node = blamed_node(health, attempt, cause)
        if node:
            work.emit(ev.NodeFailed(node, cause.kind, attempt_id))


def _stop_rest(
    work: Work, attempt_id: AttemptId, item: Item, attempt: Attempt, rank: int, cause: Cause | None, spec: Task
) -> None:
    """A gang stands or falls together: the others are stopped by the first failure, or when the leader is done."""
    if attempt.stop_cause is not None or item.state not in ("launching", "running"):
        return
    if cause is not None:
        work.emit(ev.AttemptStopping(attempt_id, cause, work.stop_grace_ms(spec)))
    elif rank == 0 and spec.gang.success == "leader":
        done = Cause("leader-done", "rank 0 succeeded", rank=0, exit_code=0)
        work.emit(ev.AttemptStopping(attempt_id, done, work.stop_grace_ms(spec)))


def _outcome(attempt: Attempt, cause: Cause | None) -> tuple[Outcome, Cause | None]:
    """What an attempt ends as, once nothing of it lives. Why it was stopped weighs more than how its replicas died;
    a replica that finished well before the stop reached it does not undo the stop."""
    stopped = attempt.stop_cause
    if stopped is None:
        return ("failed", cause) if cause else ("succeeded", None)
    if stopped.kind == "leader-done":
        return "succeeded", None
    return ("cancelled" if stopped.kind in DOOMED_CAUSES else "failed"), stopped


def _cause_of(report: reports.ReplicaExited, attempt: Attempt, tail_bytes: int) -> Cause | None:
    """Why a replica's exit is a failure; None when it is none."""
    is_well = report.exit_code == 0 and not report.signal and not report.kind
    if is_well and not report.output_fault:
        return None
    tail, node = _cut(report.tail, tail_bytes), attempt.places[report.rank].node
    if is_well:
        return Cause("output", report.output_fault[:tail_bytes], rank=report.rank, exit_code=0, tail=tail, node=node)
    message = report.message[:tail_bytes] or _exit_words(report)
    return Cause(_kind(report.kind), message, report.rank, report.exit_code, report.signal, tail, node=node)


def _kind(kind: str) -> CauseKind:
    return cast(CauseKind, kind) if kind in RUNTIME_CAUSES else "error"


def _cut(tail: str, limit_bytes: int) -> str:
    """The end of `tail`, at most `limit_bytes` of it, cut between characters."""
    data = tail.encode(errors="replace")
    return tail if len(data) <= limit_bytes else data[-limit_bytes:].decode(errors="ignore")


def _exit_words(report: reports.ReplicaExited) -> str:
    if report.signal:
        try:
            return f"killed by {signal.Signals(report.signal).name}"
        except ValueError:
            return f"killed by signal {report.signal}"
    return f"exit code {report.exit_code}" if report.exit_code >= 0 else "its exit status is unknown"


# ------------------------------------------------------------------------------------------------ SDK facts


def outputs_reported(work: Work, report: reports.OutputsReported) -> None:
    """Commit outputs of the live attempt. Answer: None, or a Refusal to the caller."""
    found = work.state.current(report.attempt)
    if found is None:
        _refuse_stale(work)
        return
    live, _, _, attempt = found
    pairs = tuple(report.outputs.items())
    try:
        outputs = typed_outputs(live.dag.tasks[report.attempt.task], pairs, attempt.outputs, work.state.limits)
    except OutputFault as fault:
        work.answer(Refusal(str(fault), code=fault.code, field=fault.field))
        return
    if any(name not in attempt.outputs or attempt.outputs[name] != value for name, value in outputs.items()):
        work.emit(ev.OutputsSet(report.attempt, outputs))  # a repeated call adds nothing to the story
    work.answer(None)


def checkpoint_reported(work: Work, report: reports.CheckpointReported) -> None:
    """Save a checkpoint of the live attempt (S25: the last acknowledged one goes to the next attempt)."""
    if not work.state.is_live(report.attempt):
        _refuse_stale(work)
        return
    work.emit(ev.CheckpointSaved(report.attempt, report.value))
    work.answer(None)


def _refuse_stale(work: Work) -> None:
    work.state.stale_count += 1
    work.answer(Refusal("another attempt of this task has taken over", code="superseded"))


# --------------------------------------------------------------------------------------- timers, nodes, restart


def timer_fired(work: Work, report: reports.TimerFired) -> None:
    TIMERS[report.timer.kind](work, report)


def _queue_timer(work: Work, report: reports.TimerFired) -> None:
    attempt = report.timer.attempt
    found = work.state.find(attempt)
    if found is None or found[2].state != "ready" or found[2].number != attempt.attempt:
        return
    live, task, item = found
    queue_ms = live.dag.tasks[attempt.task].timeouts.queue_ms
    if _is_due(work, report.timer, (item.since_at_ms or task.row.opened_at_ms) + queue_ms):
        cause = Cause("queue-timeout", f"not admitted within {duration_text(queue_ms)}")
        work.emit(ev.ItemEnded(attempt, "failed", cause))


def _is_due(work: Work, timer: Timer, due_at_ms: int) -> bool:
    """A timer of an earlier round may fire late, under a name that is in use again: then it is set for its time."""
    if due_at_ms > work.now_ms:
        work.effect(effects.SetTimer(timer, due_at_ms))
    return due_at_ms <= work.now_ms


def _wait_timer(work: Work, report: reports.TimerFired) -> None:
    """A gang waited as long as it wanted for its full size: fewer replicas will do."""
    attempt = report.timer.attempt
    found = work.state.find(attempt)
    if found is None or found[2].state != "ready" or found[2].number != attempt.attempt:
        return
    live, task, item = found
    wait_ms = live.dag.tasks[attempt.task].gang.wait_ms
    if _is_due(work, report.timer, (item.since_at_ms or task.row.opened_at_ms) + wait_ms):
        work.state.accept_less(live, attempt.task, attempt.item)


def _run_timer(work: Work, report: reports.TimerFired) -> None:
    found = work.state.current(report.timer.attempt)
    if found and found[2].state == "running":
        timeout_ms = found[0].dag.tasks[report.timer.attempt.task].timeouts.run_ms
        _time_out(
            work, report.timer.attempt, found[0], Cause("timeout", f"ran longer than {duration_text(timeout_ms)}")
        )


def _start_timer(work: Work, report: reports.TimerFired) -> None:
    found = work.state.current(report.timer.attempt)
    if found and found[2].state == "launching":
        _time_out(work, report.timer.attempt, found[0], Cause("launch", "not all replicas started in time"))


def _idle_timer(work: Work, report: reports.TimerFired) -> None:
    found = work.state.current(report.timer.attempt)
    if not found or found[2].state != "running":
        return
    idle_ms = found[0].dag.tasks[report.timer.attempt.task].timeouts.idle_ms
    if _is_due(work, report.timer, max(report.active_at_ms, found[3].running_at_ms) + idle_ms):
        cause = Cause("timeout", f"no log line, progress or heartbeat for {duration_text(idle_ms)}")
        _time_out(work, report.timer.attempt, found[0], cause)


def _time_out(work: Work, attempt: AttemptId, live: LiveWorkflow, cause: Cause) -> None:
    work.emit(ev.AttemptStopping(attempt, cause, work.stop_grace_ms(live.dag.tasks[attempt.task])))


def _workflow_timer(work: Work, report: reports.TimerFired) -> None:
    live = work.state.workflows.get(report.timer.attempt.workflow)
    if live is None or live.row.verdict or live.row.finalizing:
        return
    if _is_due(work, report.timer, live.row.started_at_ms + live.dag.spec.timeout_ms):
        cause = Cause("workflow-timeout", f"the workflow ran longer than {duration_text(live.dag.spec.timeout_ms)}")
        work.emit(ev.WorkflowDoomed(live.row.id, "failed", False, cause, ""))


def _backoff_timer(work: Work, report: reports.TimerFired) -> None:
    found = work.state.find(report.timer.attempt)
    if found and found[2].state == "backoff" and found[2].number == report.timer.attempt.attempt:
        work.emit(ev.ItemReady(report.timer.attempt))


def _quarantine_timer(work: Work, report: reports.TimerFired) -> None:
    node = report.timer.attempt.task
    mark = work.state.health.mark(node)
    if mark.quarantine == "closed" and _is_due(work, report.timer, end_at_ms(mark, work.state.policy, work.now_ms)):
        work.emit(ev.NodeOnProbation(node))


TIMERS = {
    "run": _run_timer,
    "queue": _queue_timer,
    "wait": _wait_timer,
    "start": _start_timer,
    "idle": _idle_timer,
    "backoff": _backoff_timer,
    "workflow": _workflow_timer,
    "quarantine": _quarantine_timer,
}


def inventory_reported(work: Work, report: reports.InventoryReported) -> None:
    if report.nodes != work.state.nodes:
        work.emit(ev.NodesChanged(report.nodes))


def poked(work: Work, report: reports.Poke) -> None:
    """Nothing happened: there is a step only so that the scheduling cycle goes on where it stopped."""


def _stale(work: Work, attempt: AttemptId) -> None:
    work.state.stale_count += 1
    work.effect(effects.Settled(attempt))
