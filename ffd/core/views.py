"""Views: state -> pages. Computed on demand, for live workflows and (loaded alone) for ended ones alike.

Called by the daemon's engine; shown by API, CLI and TUI. Never here: the shapes (pages), why something waits
(why), or any change of state.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import msgspec

from ffd.core import events as ev
from ffd.core.live import LiveTask, LiveWorkflow
from ffd.core.model import TERMINAL, AttemptId, Item
from ffd.core.pages import EventPage, ItemPage, TaskPage, WorkflowPage
from ffd.core.schedule.subject import gang_text
from ffd.core.state import State
from ffd.core.story import event_text
from ffd.core.values import Values, output_values

# The most telling state of a fan-out, first match wins.
TELLING = ("stopping", "running", "launching", "admitted", "backoff", "ready", "failed", "cancelled", "succeeded")


def workflow_page(state: State, workflow: int, number: int = 0) -> WorkflowPage:
    """One workflow; `number`: the commit this state reflects."""
    live = state.workflows[workflow]
    row = live.row
    counts = Counter(  # one pass: a workflow may have 100,000 tasks
        state for task in live.tasks.values() for state in [item.state for item in task.items] or (task.row.state,)
    )
    return WorkflowPage(
        id=row.id, handle=row.handle, name=row.name, project=row.project, state=row.state, verdict=row.verdict,
        priority=row.priority, by=row.by, round=row.round, description=live.dag.spec.description, labels=row.labels,
        params=row.params, task_count=len(live.tasks), counts=dict(sorted(counts.items())),
        accepted_at_ms=row.accepted_at_ms, started_at_ms=row.started_at_ms, ended_at_ms=row.ended_at_ms,
        cause=row.cause, number=number,
    )  # fmt: skip


def task_counts(task: LiveTask) -> dict[str, int]:
    """Items by state; a task that never opened counts as one in its own state."""
    if not task.items:
        return {task.row.state: 1}
    return dict(Counter(item.state for item in task.items))


def task_pages(state: State, workflow: int, after: str = "", limit: int = 1000) -> list[TaskPage]:
    """In document order (finally tasks last), from the one after `after`."""
    live = state.workflows[workflow]
    start = live.dag.vertices[after].order + 1 if after in live.dag.vertices else 0
    return [_task_page(state, live, name) for name in live.dag.names[start : start + limit]]


def _task_page(state: State, live: LiveWorkflow, name: str) -> TaskPage:
    task, spec = live.tasks[name], live.dag.tasks[name]
    counts = task_counts(task)
    word = task.row.state if task.row.state != "open" else next(state for state in TELLING if state in counts)
    one = task.items[0] if len(task.items) == 1 else None
    started = one.live.running_at_ms if one and one.live else 0
    return TaskPage(
        workflow=live.row.handle, name=name, state=word, finally_=live.is_finally(name),
        item_count=len(task.items) if task.items else int(task.row.state != "succeeded"), fanout=spec.is_fanout,
        counts=counts, needs=tuple(need.task for need in spec.needs), replicas=spec.gang.replicas,
        attempt=one.number if one else 0, nodes=nodes_of(one) if one else (),
        reason=_short_reason(state, live, name, word),
        outputs=output_values(live, name) if task.row.state == "succeeded" else {}, opened_at_ms=task.row.opened_at_ms,
        started_at_ms=started, ended_at_ms=task.row.ended_at_ms, cause=task.row.cause or (one.cause if one else None),
    )  # fmt: skip


def nodes_of(item: Item) -> tuple[str, ...]:
    """Where its attempt runs."""
    return tuple(dict.fromkeys(place.node for place in item.live.places)) if item.live else ()


def _short_reason(state: State, live: LiveWorkflow, name: str, word: str) -> str:
    """Why a task is not running, in one line; cheap: only what the queue already knows."""
    if word == "waiting":
        return waits_for(live, name)
    if word == "ready":
        if live.row.state == "suspended":
            return "the workflow is suspended"
        if state.lane_of(live, name).kind.shape.blocked_at == state.space.version:
            return f"waits for room: {gang_text(live.dag.tasks[name])}"
        return "in the queue"
    return ""


def waits_for(live: LiveWorkflow, name: str) -> str:
    """Which tasks one waits for that never opened; "" when for none."""
    if live.is_finally(name) and not live.row.finalizing:
        return "runs after everything else"
    left = [n.task for n in live.dag.tasks[name].needs if live.tasks[n.task].row.state not in TERMINAL]
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return f"waits for {', '.join(left[:3])}{more}" if left else ""


def item_pages(
    state: State, workflow: int, task: str, after: int = -1, limit: int = 1000,
    progress: dict[AttemptId, dict[str, Any]] | None = None,
) -> list[ItemPage]:  # fmt: skip
    """Items of one task in order, from the one after number `after`. `progress`: what running attempts told last."""
    live = state.workflows[workflow]
    items = live.tasks[task].items
    return [
        ItemPage(
            workflow=live.row.handle,
            task=task,
            item=number,
            state=item.state,
            attempt=item.number,
            user_failures=item.user_failures,
            infra_failures=item.infra_failures,
            nodes=nodes_of(item),
            since_at_ms=item.since_at_ms or live.tasks[task].row.opened_at_ms,
            retry_at_ms=item.retry_at_ms,
            outputs=item.outputs or (item.live.outputs if item.live else {}),
            progress=(progress or {}).get(AttemptId(workflow, task, number, item.number), {}),
            cause=item.cause,
        )
        for number, item in enumerate(items[after + 1 : after + 1 + limit], start=after + 1)
    ]


def attempt_ids(state: State, workflow: int, task: str, item: int) -> list[AttemptId]:
    """All attempts of one item so far, oldest first."""
    items = state.workflows[workflow].tasks[task].items
    last = items[item].number if 0 <= item < len(items) else 0
    return [AttemptId(workflow, task, item, number) for number in range(1, last + 1)]


def event_page(number: int, index: int, at_ms: int, event: ev.AnyEvent, handle: str = "") -> EventPage:
    """One event for people and programs. `handle` of its workflow, if known."""
    attempt: AttemptId | None = getattr(event, "attempt", None)
    workflow = attempt.workflow if attempt else getattr(event, "workflow", 0)
    data = {} if isinstance(event, ev.SpecAdded) else msgspec.to_builtins(_fields(event))
    return EventPage(
        number=number, index=index, at_ms=at_ms, kind=type(event).__name__, workflow=workflow, handle=handle,
        task=attempt.task if attempt else getattr(event, "task", ""), item=attempt.item if attempt else -1,
        attempt=attempt.attempt if attempt else 0, text=event_text(event), data=data,
    )  # fmt: skip


_FIELDS = {
    kind: tuple(name for name in kind.__struct_fields__ if name not in ("attempt", "workflow", "task"))
    for kind in get_args(ev.AnyEvent)
}


def _fields(event: ev.AnyEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in _FIELDS[type(event)]}


def task_inputs(state: State, attempt: AttemptId) -> dict[str, Any]:
    """What an attempt may know, as the fields of the API's TaskInputs. Raises KeyError for one that is not current."""
    found = state.current(attempt)
    if found is None:
        raise KeyError(attempt.label())
    live, _, item, _ = found
    spec = live.dag.tasks[attempt.task]
    seen = live.dag.main_names if live.is_finally(attempt.task) else tuple(need.task for need in spec.needs)
    outputs = {name: output_values(live, name) for name in seen if live.tasks[name].row.state == "succeeded"}

    return {
        "workflow": live.row.id,
        "handle": live.row.handle,
        "project": live.row.project,
        "params": live.row.params,
        "outputs": outputs,
        "binding": Values(live, spec, attempt.item).binding(),
        "checkpoint": item.checkpoint,
    }
