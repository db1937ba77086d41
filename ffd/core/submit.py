"""Submit: a new workflow enters. Checks keys and limits, gives the number and the handle.

Called by `core.step` for the Submit command. What follows (opening the first tasks) is `finish`.
"""

from __future__ import annotations

from collections.abc import Hashable

from ffd.core.admit.quota import hopeless
from ffd.core.commands import Accepted, Submit
from ffd.core.entry import key_scope, refuse_by_tenant, refuse_if_full, refuse_reuse
from ffd.core.events import KeyRemembered, SpecAdded, WorkflowAccepted, WorkflowStarted
from ffd.core.schedule.possible import never_fits
from ffd.core.spec import Resources, Spec
from ffd.core.state import State
from ffd.core.work import Work
from ffd.errors import Refusal

NOTHING = Resources()
WARNINGS_COUNT = 20  # different requests that are looked at


def submit(work: Work, command: Submit) -> None:
    """Answer: Accepted, or a Refusal (conflict, limit) that changed nothing."""
    state, spec = work.state, command.spec
    scope = key_scope(command)
    if scope in state.keys:
        work.answer(_answer_again(state, command, scope))
        return
    refusal = _refuse(state, command)
    if refusal is not None:
        work.answer(refusal)
        return
    if command.spec_digest not in state.dags:
        work.emit(SpecAdded(command.spec_digest, spec))
    workflow = state.next_workflow
    number = state.numbers.get(f"{command.project}/{spec.name}", 0) + 1
    priority = spec.priority if command.priority is None else command.priority
    work.emit(
        WorkflowAccepted(
            workflow,
            spec.name,
            number,
            command.project,
            command.spec_digest,
            command.params,
            priority,
            command.by,
            command.base_dir,
            {**spec.labels, **command.labels},
        )
    )
    if scope:
        work.emit(KeyRemembered(scope, command.payload_digest, workflow))
    work.emit(WorkflowStarted(workflow))
    work.answer(
        Accepted(workflow, f"{spec.name}.{number}", command.project, warnings=_warnings(state, spec, command.project))
    )


def _warnings(state: State, spec: Spec, project: str) -> tuple[str, ...]:
    """Tasks that no node set of the cluster could ever take, or that no quota allows, as they are now; one of each
    request, bounded."""
    found: dict[Hashable, str] = {}
    tenant = state.tenancy.tenant(project)
    for task in (*spec.tasks, *spec.finally_tasks) if state.nodes else ():
        if task.gang.replicas == 1 and task.resources == NOTHING and not tenant.has_quota:
            continue
        request = (task.resources, task.gang)
        if request not in found and len(found) < WARNINGS_COUNT:
            block = hopeless(state.tenancy, tenant, task.resources, task.gang.min_replicas or task.gang.replicas)
            reason = block.text() if block else never_fits(state, task)
            found[request] = f"task {task.name} will never run here: {reason}" if reason else ""
    return tuple(filter(None, found.values()))


def _answer_again(state: State, command: Submit, scope: str) -> Accepted | Refusal:
    conflict = refuse_reuse(state, command, scope)
    if conflict is not None:
        return conflict
    workflow = state.keys[scope][1]
    live = state.workflows.get(workflow)
    handle = live.row.handle if live else ""  # ended meanwhile: the shell looks the handle up by its number
    return Accepted(workflow, handle, command.project, duplicate=True)


def _refuse(state: State, command: Submit) -> Refusal | None:
    if command.priority is not None and not 0 <= command.priority <= 1000:
        return Refusal(f"priority is {command.priority}, expected 0 to 1000", field="priority")
    full = refuse_if_full(state, len(command.spec.tasks) + len(command.spec.finally_tasks))
    return full or refuse_by_tenant(state, command.project)
