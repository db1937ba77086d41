"""The table of contents of the product: what each input leads to, what follows from each event, what the shell must do.

    HANDLE  input -> stage      a command or report arrives
    REACT   event -> stages     what follows inside
    EFFECT  event -> effects    what must happen outside

`step` runs until quiet: inputs in order, each with all that follows from it; then one scheduling cycle. Called by
`daemon.controller`, the simulation and the tests; pure (law 2). A missing entry in HANDLE is a programming error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ffd.core import commands, control, effects, finish, launch, nodes, observe, reports
from ffd.core import events as ev
from ffd.core.decision import Decision
from ffd.core.model import Cause
from ffd.core.schedule.cycle import Cycle, Proposal, verify
from ffd.core.schedule.reserve import fulfil, promise
from ffd.core.state import State
from ffd.core.submit import submit
from ffd.core.tenants import note_usage, set_quota, set_tenant
from ffd.core.work import Work

Stage = Callable[[Work, Any], None]

HANDLE: dict[type, Stage] = {
    commands.Submit: submit,
    commands.Cancel: control.cancel,
    commands.Suspend: control.suspend,
    commands.Resume: control.resume,
    commands.Retry: control.retry,
    commands.SetPriority: control.set_priority,
    commands.Cordon: nodes.cordon,
    commands.Uncordon: nodes.uncordon,
    commands.Drain: nodes.drain,
    commands.SetTenant: set_tenant,
    commands.SetQuota: set_quota,
    reports.ReplicaStarted: observe.replica_started,
    reports.ReplicaExited: observe.replica_exited,
    reports.LaunchFailed: observe.launch_failed,
    reports.InventoryReported: observe.inventory_reported,
    reports.TimerFired: observe.timer_fired,
    reports.OutputsReported: observe.outputs_reported,
    reports.CheckpointReported: observe.checkpoint_reported,
    reports.Recovered: launch.recovered,
    reports.Poke: observe.poked,
}

REACT: dict[type, Stage] = {
    ev.WorkflowStarted: finish.start_workflow,
    ev.WorkflowReopened: finish.reopen_workflow,
    ev.WorkflowDoomed: finish.doom,
    ev.WorkflowFinalizing: finish.finalize,
    ev.WorkflowEnded: finish.forget,
    ev.TaskEnded: finish.task_ended,
    ev.ItemAdmitted: launch.begin,
    ev.AttemptEnded: finish.attempt_ended,
    ev.ItemEnded: finish.item_ended,
    ev.NodeFailed: nodes.node_failed,
}

EFFECT: dict[type, Stage] = {
    ev.WorkflowStarted: launch.watch_workflow,
    ev.WorkflowReopened: launch.watch_reopened,
    ev.WorkflowForgotten: launch.forget,
    ev.TaskOpened: launch.watch_queue,
    ev.AttemptLaunching: launch.start,
    ev.AttemptRunning: launch.watch_run,
    ev.AttemptStopping: launch.stop,
    ev.AttemptEnded: launch.settle,
    ev.ItemBackedOff: launch.wait_backoff,
    ev.ItemReady: launch.watch_queue_again,
    ev.NodeQuarantined: nodes.watch_quarantine,
    ev.NodeUncordoned: nodes.forget_quarantine,
}


def step(
    state: State, inputs: Sequence[commands.AnyCommand | reports.AnyReport], now_ms: int, *, keeps_rows: bool = True
) -> Decision:
    """Decide what follows from `inputs`, at the instant `now_ms`. Changes `state` (through its door only). Who stores
    nothing (a simulation) need not have the rows noted and encoded.

    Raises IllegalTransition or KeyError on a bug of ours; then `state` must be thrown away and loaded again."""
    work = Work(state, now_ms)
    state.keeps_rows = keeps_rows
    state.now_ms = max(state.now_ms, now_ms)
    state.tenancy.advance(state.now_ms)
    for work.input_index, given in enumerate(inputs):
        HANDLE[type(given)](work, given)
        _run_until_quiet(work)
    work.input_index = -1
    _schedule(work)
    note_usage(work)
    rows, listings = state.take_rows() if keeps_rows else state.drop_rows()
    return Decision(work.events, work.effects, work.answers, rows, listings)


def _run_until_quiet(work: Work) -> None:
    """Effects of an event come before what it leads to: a Launch is said before the Stop that follows from it."""
    events, effect, react = work.events, EFFECT.get, REACT.get
    while work.done_count < len(events):
        event = events[work.done_count]
        work.done_count += 1
        kind = type(event)
        stage = effect(kind)
        if stage is not None:
            stage(work, event)
        stage = react(kind)
        if stage is not None:
            stage(work, event)


def _schedule(work: Work) -> None:
    """One coalesced cycle a step; what it admits may fail at once and free space again, hence the loop. A proposal that
    does not hold (a bug) is left for a later step, so that planner and applier never chase each other."""
    state = work.state
    is_sound = True
    while is_sound and state.wants_cycle():
        state.lanes.is_dirty = False
        state.lanes.seen_version = state.space.version
        cycle = Cycle(state, state.now_ms)  # not set back with the clock: what is overdue stays so
        while (proposal := cycle.next()) is not None:
            if verify(state, proposal):
                _carry_out(work, proposal)
            else:
                cycle.refuse(proposal)
                is_sound = False
        _run_until_quiet(work)
        state.lanes.drop_empty()
        if cycle.is_loosened:
            state.lanes.is_dirty = True
        if not cycle.is_done:
            state.lanes.is_dirty = True  # whatever comes next goes on where this one stopped
            work.effect(effects.Again())
            return
        state.lanes.news = cycle.put_off()
    if not is_sound or state.lanes.news:
        state.lanes.is_dirty = True  # it is their turn with the next step


def _carry_out(work: Work, proposal: Proposal) -> None:
    state = work.state
    if proposal.promise is not None:
        promise(state, proposal.promise)
    for victim in proposal.victims:
        cause = Cause("preempted", "it makes room for a gang to which its place is due")
        task = state.workflows[victim.workflow].dag.tasks[victim.task]
        work.emit(ev.AttemptStopping(victim, cause, work.stop_grace_ms(task)))
    if proposal.promise is None:
        fulfil(state, proposal.lane, proposal.places)  # the next of its kind waits for its own
        work.emit(ev.ItemAdmitted(proposal.attempt, proposal.places))
