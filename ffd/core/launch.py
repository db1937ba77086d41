"""Launch: an admitted item becomes an order for the runtime. Evaluates the task's expressions into plain values.

Called by `core.step`: `begin` reacts to an admission, the rest turns events into effects. What comes back is `observe`.
"""

from __future__ import annotations

from typing import Any, cast

from ffd.core import effects
from ffd.core import events as ev
from ffd.core.expr import ExprError
from ffd.core.health import longest_ms, quarantine_timer
from ffd.core.live import LiveWorkflow
from ffd.core.model import Attempt, AttemptId, Cause, Item, Timer
from ffd.core.reports import Recovered
from ffd.core.spec import Retry, Task
from ffd.core.values import Values
from ffd.core.work import Work

# argv, arguments of a call, environment, files, working directory, path of checkpoints
Texts = tuple[tuple[str, ...], dict[str, Any], dict[str, str], dict[str, str], str, str]


def begin(work: Work, event: ev.ItemAdmitted) -> None:
    """Evaluate what the attempt needs; an expression that cannot be evaluated fails it before anything starts."""
    try:
        order = make_order(work, event.attempt)
    except ExprError as error:
        cause = Cause("input", str(error))
        work.emit(ev.AttemptEnded(event.attempt, "failed", cause, {}))
        return
    work.orders[event.attempt] = order
    work.emit(ev.AttemptLaunching(event.attempt))


def start(work: Work, event: ev.AttemptLaunching) -> None:
    """Effects of a launch: the order, and its timers."""
    work.effect(work.orders.pop(event.attempt))
    task = _if_timed(work, event.attempt)
    if task is None:
        return
    if task.timeouts.queue_ms or task.gang.min_replicas:
        work.effect(effects.ClearTimers(_waiting_as(event.attempt)))
    if task.timeouts.start_ms:
        work.effect(effects.SetTimer(Timer("start", event.attempt), work.now_ms + task.timeouts.start_ms))


def watch_run(work: Work, event: ev.AttemptRunning) -> None:
    """Timers of a running attempt."""
    task = _if_timed(work, event.attempt)
    if task is not None:
        _run_timers(work, event.attempt, task, work.now_ms)


def _if_timed(work: Work, attempt: AttemptId) -> Task | None:
    """The task of this attempt; None when no timer of it can be set: of most tasks none can."""
    vertex = work.state.workflows[attempt.workflow].tasks[attempt.task].vertex
    return vertex.spec if vertex.is_timed else None


def stop(work: Work, event: ev.AttemptStopping) -> None:
    found = work.state.current(event.attempt)
    if found is not None:
        work.effect(effects.Stop(event.attempt, len(found[3].places), event.grace_ms, event.cause.kind))


def settle(work: Work, event: ev.AttemptEnded) -> None:
    task = _if_timed(work, event.attempt)
    if task is not None and (task.timeouts.run_ms or task.timeouts.start_ms or task.timeouts.idle_ms):
        work.effect(effects.ClearTimers(event.attempt))
    work.effect(effects.Settled(event.attempt))


def wait_backoff(work: Work, event: ev.ItemBackedOff) -> None:
    work.effect(effects.SetTimer(Timer("backoff", event.attempt), event.retry_at_ms))


def watch_queue(work: Work, event: ev.TaskOpened) -> None:
    live_task = work.state.workflows[event.workflow].tasks[event.task]
    if not live_task.vertex.is_timed:
        return
    task = live_task.vertex.spec
    if task.timeouts.queue_ms or task.gang.min_replicas:
        before = live_task.row.attempts_before
        for number in range(event.item_count):
            _queue_timers(work, AttemptId(event.workflow, event.task, number, before), task, work.now_ms)


def watch_queue_again(work: Work, event: ev.ItemReady) -> None:
    live = work.state.workflows[event.attempt.workflow]
    _queue_timers(work, event.attempt, live.dag.tasks[event.attempt.task], work.now_ms)


def watch_workflow(work: Work, event: ev.WorkflowStarted) -> None:
    _workflow_timer(work, work.state.workflows[event.workflow])


def watch_reopened(work: Work, event: ev.WorkflowReopened) -> None:
    """A new round: its time-out, and the waiting timers of items that are ready again."""
    live = work.state.workflows[event.workflow]
    _workflow_timer(work, live)
    for name, number in event.items:
        last = AttemptId(event.workflow, name, number, live.tasks[name].items[number].number)
        _queue_timers(work, last, live.dag.tasks[name], work.now_ms)


def forget(work: Work, event: ev.WorkflowForgotten) -> None:
    work.effect(effects.Forget(event.workflow))


# ---------------------------------------------------------------------------------------------------- the order


def make_order(work: Work, attempt: AttemptId) -> effects.Launch:
    """Everything a runtime must know to start the attempt. Deterministic: the same rows give the same order again.
    Raises ExprError."""
    found = work.state.current(attempt)
    assert found is not None
    live, live_task, item, running = found
    task, has_expressions = live_task.vertex.spec, live_task.vertex.has_expressions
    texts = _evaluated(task, Values(live, task, attempt.item)) if has_expressions else _literal(task)
    argv, with_, env, files, workdir, checkpoint_path = texts
    return effects.Launch(
        attempt,
        live.handle,
        live.row.project,
        running.places,
        script=task.script,
        argv=argv,
        function=task.function,
        with_=with_,
        env=env,
        files=files,
        workdir=workdir,
        base_dir=live.row.base_dir,
        image=task.image,
        resources=task.resources,
        launcher=task.gang.launcher,
        idle_ms=task.timeouts.idle_ms,
        keeps_checkpoint=task.checkpoint is not None,
        checkpoint_path=checkpoint_path,
        restored=item.checkpoint,
    )


def _literal(task: Task) -> Texts:
    """What the document says, of a task that mentions no expression: most do not."""
    checkpoint = task.checkpoint
    path = checkpoint.path if checkpoint is not None else ""
    return cast(Texts, (task.argv, task.with_, task.env, task.files, task.workdir, path))


def _evaluated(task: Task, values: Values) -> Texts:
    """The same with its expressions filled in, and its bindings in its environment."""
    env = {name: values.string(text) for name, text in task.env.items()}
    env.update((name, values.source_string(source)) for name, source in task.bindings.items())
    return (
        tuple(values.string(text) for text in task.argv),
        values.deep(task.with_),
        env,
        {name: values.string(text) for name, text in task.files.items()},
        values.string(task.workdir),
        values.string(task.checkpoint.path) if task.checkpoint else "",
    )


def _make_inquiry(work: Work, attempt: AttemptId) -> effects.Launch:
    """An order to start nothing and report each replica as it is. Evaluates nothing: what runs was ordered before."""
    found = work.state.current(attempt)
    assert found is not None
    live, _, _, running = found
    task = live.dag.tasks[attempt.task]
    return effects.Launch(
        attempt,
        live.handle,
        live.row.project,
        running.places,
        script=task.script,
        function=task.function,
        base_dir=live.row.base_dir,
        resources=task.resources,
        launcher=task.gang.launcher,
        idle_ms=task.timeouts.idle_ms,
        report_only=True,
    )


# ----------------------------------------------------------------------------------------------------- restart


def recovered(work: Work, report: Recovered) -> None:
    """First input of a reign: say again whatever must be true outside. Every effect is idempotent, so saying too much
    does no harm; what lives without a committed attempt is stopped (S4)."""
    for attempt, running, live in work.state.reserved():
        item = live.tasks[attempt.task].items[attempt.item]
        _say_again(work, attempt, item, running, live.dag.tasks[attempt.task])
    for live in work.state.workflows.values():
        _workflow_timer(work, live)
        _say_timers_again(work, live)
    for node in work.state.health.quarantined():
        until_at_ms = work.state.health.mark(node).until_at_ms
        latest_at_ms = work.now_ms + longest_ms(work.state.policy)
        work.effect(effects.SetTimer(quarantine_timer(node), min(until_at_ms, latest_at_ms)))
    for attempt, rank in report.living:
        if not work.state.is_live(attempt):
            work.effect(effects.Stop(attempt, rank + 1, 0, "cancelled"))


def _say_timers_again(work: Work, live: LiveWorkflow) -> None:
    """Timers of items that wait."""
    for name, task in live.tasks.items():
        for number, item in enumerate(task.items):
            attempt = AttemptId(live.row.id, name, number, item.number)
            if item.state == "backoff":
                latest_at_ms = work.now_ms + longest_backoff_ms(live.dag.tasks[name].retry)
                work.effect(effects.SetTimer(Timer("backoff", attempt), min(item.retry_at_ms, latest_at_ms)))
            elif item.state == "ready":
                _queue_timers(work, attempt, live.dag.tasks[name], item.since_at_ms or task.row.opened_at_ms)


def _say_again(work: Work, attempt: AttemptId, item: Item, running: Attempt, task: Task) -> None:
    if item.state == "launching":
        _launch_again(work, attempt, item, task)
        return
    work.effect(_make_inquiry(work, attempt))
    if item.state == "running":
        _run_timers(work, attempt, task, running.running_at_ms)
    elif running.stop_cause is not None:
        work.effect(effects.Stop(attempt, len(running.places), running.stop_grace_ms, running.stop_cause.kind))


def _launch_again(work: Work, attempt: AttemptId, item: Item, task: Task) -> None:
    """The order may never have left. One that can no longer be made (an upgrade changed what is allowed) is stopped:
    one bad object must not keep the daemon from starting."""
    try:
        work.effect(make_order(work, attempt))
    except ExprError as error:
        work.emit(ev.AttemptStopping(attempt, Cause("input", str(error)), work.stop_grace_ms(task)))
        return
    if task.timeouts.start_ms:
        _set_timer(work, Timer("start", attempt), item.since_at_ms, task.timeouts.start_ms)


def _workflow_timer(work: Work, live: LiveWorkflow) -> None:
    if live.dag.spec.timeout_ms:
        timer = Timer("workflow", AttemptId(live.row.id, "", -1, 0))
        _set_timer(work, timer, live.row.started_at_ms, live.dag.spec.timeout_ms)


def _run_timers(work: Work, attempt: AttemptId, task: Task, since_at_ms: int) -> None:
    if task.timeouts.run_ms:
        _set_timer(work, Timer("run", attempt), since_at_ms, task.timeouts.run_ms)
    if task.timeouts.idle_ms:
        _set_timer(work, Timer("idle", attempt), since_at_ms, task.timeouts.idle_ms)


def _queue_timers(work: Work, attempt: AttemptId, task: Task, since_at_ms: int) -> None:
    """`attempt.attempt` is the number of the last attempt (0 = none): what the item is known by while it waits."""
    if task.timeouts.queue_ms:
        _set_timer(work, Timer("queue", attempt), since_at_ms, task.timeouts.queue_ms)
    if task.gang.min_replicas:
        _set_timer(work, Timer("wait", attempt), since_at_ms, task.gang.wait_ms)


def _set_timer(work: Work, timer: Timer, since_at_ms: int, after_ms: int) -> None:
    """A start that lies ahead of now was stored under a clock that has been set back since: count from now then."""
    work.effect(effects.SetTimer(timer, min(since_at_ms, work.now_ms) + after_ms))


def longest_backoff_ms(retry: Retry) -> int:
    """No backoff lasts longer, whatever a stored instant says."""
    return round(retry.max_backoff_ms * (1 + retry.jitter))


def _waiting_as(attempt: AttemptId) -> AttemptId:
    """The name under which the item's waiting timers were set: the attempt before this one."""
    return AttemptId(attempt.workflow, attempt.task, attempt.item, attempt.attempt - 1)
