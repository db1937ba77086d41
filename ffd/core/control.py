"""Control: what users ask of a workflow that exists: cancel, suspend, resume, retry from failure, priority.

Called by `core.step`, one function per command. Every one answers Done or a Refusal that changed nothing.
"""

from __future__ import annotations

import msgspec

from ffd.core.commands import AnyCommand, Cancel, Done, Resume, Retry, SetPriority, Suspend
from ffd.core.entry import key_scope, refuse_by_tenant, refuse_if_full, refuse_reuse
from ffd.core.events import (
    KeyRemembered,
    PriorityChanged,
    WorkflowDoomed,
    WorkflowReopened,
    WorkflowResumed,
    WorkflowSuspended,
)
from ffd.core.live import LiveWorkflow
from ffd.core.model import Cause, Rows, Workflow
from ffd.core.work import Work
from ffd.errors import Refusal, Unavailable


def cancel(work: Work, command: Cancel) -> None:
    """Final (S16). Again with `now` on a cancelled, still finishing workflow skips its finally tasks; again on one that
    was suspended since lets them go on."""
    live = _open(work, command, command.workflow)
    if live is None:
        return
    row = live.row
    if row.verdict != "cancelled" or row.state == "suspended" or (command.now and not row.skip_finally):
        cause = Cause("cancelled", f"cancelled by {command.by or 'an unnamed user'}")
        skip_finally = command.now or row.skip_finally
        work.emit(WorkflowDoomed(command.workflow, "cancelled", skip_finally, cause, command.by))
    _done(work, command, live)


def suspend(work: Work, command: Suspend) -> None:
    live = _open(work, command, command.workflow)
    if live is None:
        return
    if live.row.state != "suspended":
        work.emit(WorkflowSuspended(command.workflow, command.by))
    _done(work, command, live)


def resume(work: Work, command: Resume) -> None:
    live = _open(work, command, command.workflow)
    if live is None:
        return
    if live.row.state == "suspended":
        work.emit(WorkflowResumed(command.workflow, command.by))
    _done(work, command, live)


def set_priority(work: Work, command: SetPriority) -> None:
    if not 0 <= command.priority <= 1000:
        work.answer(Refusal(f"priority is {command.priority}, expected 0 to 1000", field="priority"))
        return
    live = _open(work, command, command.workflow)
    if live is None:
        return
    if live.row.priority != command.priority:
        work.emit(PriorityChanged(command.workflow, command.priority, command.by))
    _done(work, command, live)


def retry(work: Work, command: Retry) -> None:
    """A new round of an ended workflow: what succeeded is kept, the rest starts over as new attempts."""
    state = work.state
    if _answered_before(work, command, command.workflow):
        return
    if command.workflow in state.workflows:
        live = state.workflows[command.workflow]
        work.answer(
            Refusal(f"{live.row.handle} is {live.row.state}: only an ended workflow can be retried", code="conflict")
        )
        return
    rows = command.rows
    if not isinstance(rows, Rows):
        work.answer(Unavailable(f"workflow {command.workflow} has ended this very moment", hint="ask again"))
        return
    if command.workflow not in rows.workflows:
        work.answer(Refusal(f"no workflow {command.workflow}", code="not_found"))
        return
    row = msgspec.msgpack.decode(rows.workflows[command.workflow], type=Workflow)
    if row.state not in ("failed", "cancelled"):
        work.answer(Refusal(f"{row.handle} {row.state}: there is nothing to retry", code="conflict"))
        return
    full = refuse_if_full(state, len(rows.tasks) + len(rows.items)) or refuse_by_tenant(state, row.project)
    if full is not None:
        work.answer(full)
        return
    state.adopt(Rows(rows.workflows, rows.tasks, rows.items, rows.specs))
    live = state.workflows[command.workflow]
    waiting, items = _what_starts_over(live)
    work.emit(WorkflowReopened(command.workflow, row.round + 1, waiting, items, command.by))
    _done(work, command, live)


def _what_starts_over(live: LiveWorkflow) -> tuple[tuple[str, ...], tuple[tuple[str, int], ...]]:
    """Tasks that go back to waiting, and items of opened tasks that become ready again.

    Kept: what succeeded, and tasks skipped by their own `when` unless something they need starts over (that decision
    was stored with inputs that will change). A task whose need starts over waits for it, as a whole. Finally tasks
    always start over."""
    again = _tasks_to_run_again(live)
    waiting: list[str] = []
    items: list[tuple[str, int]] = []
    for name in live.dag.main_names:
        if name not in again:
            continue
        task = live.tasks[name]
        left = [(name, number) for number, item in enumerate(task.items) if item.state in ("failed", "cancelled")]
        if left and not any(need.task in again for need in live.dag.tasks[name].needs):
            items.extend(left)
        else:
            waiting.append(name)
    waiting.extend(name for name in live.dag.finally_names if live.tasks[name].row.state != "waiting")
    return tuple(waiting), tuple(items)


def _tasks_to_run_again(live: LiveWorkflow) -> dict[str, None]:
    """What did not succeed, and the skips behind it: an ordered set, walked along the edges."""
    again: dict[str, None] = {}
    for name in live.dag.main_names:
        state = live.tasks[name].row.state
        if state in ("failed", "cancelled") or (state == "skipped" and not _skipped_by_when(live, name)):
            again[name] = None
    walk = list(again)
    while walk:
        for child, _ in live.dag.vertices[walk.pop()].children:
            if child not in again and live.tasks[child].row.state == "skipped":
                again[child] = None
                walk.append(child)
    return again


def _skipped_by_when(live: LiveWorkflow, name: str) -> bool:
    cause = live.tasks[name].row.cause
    return cause is not None and cause.kind == "expression"


def _open(work: Work, command: AnyCommand, workflow: int) -> LiveWorkflow | None:
    """The live workflow a command speaks of; None when it has been answered already (repeated key, unknown, ended)."""
    if _answered_before(work, command, workflow):
        return None
    live = work.state.workflows.get(workflow)
    if live is None:
        work.answer(Refusal("the workflow has ended", code="conflict", hint="`ffd get` shows how it ended"))
    return live


def _answered_before(work: Work, command: AnyCommand, workflow: int) -> bool:
    scope = key_scope(command)
    if scope not in work.state.keys:
        return False
    live = work.state.workflows.get(workflow)
    again = Done(workflow, live.row.handle if live else "", live.row.state if live else "", duplicate=True)
    work.answer(refuse_reuse(work.state, command, scope) or again)
    return True


def _done(work: Work, command: AnyCommand, live: LiveWorkflow) -> None:
    scope = key_scope(command)
    if scope:
        work.emit(KeyRemembered(scope, command.payload_digest, live.row.id))
    work.answer(Done(live.row.id, live.row.handle, live.row.state))
