"""The story in words: one line per event, for `ffd events`, progress and logs. A table, no branches.

Called by `core.views`. Text never contains raw values from users' programs beyond messages that were made bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ffd.core import events as ev
from ffd.core.amounts import amount_text
from ffd.core.model import Cause, Quota


def event_text(event: ev.AnyEvent) -> str:
    """One line for people; never empty."""
    return WORDS[type(event)](event)


def cause_text(cause: Cause | None) -> str:
    """`error: exit code 3 (rank 1)`, told of another: `train[0]#2 error: exit code 3 (rank 1)`; "" for no cause."""
    if cause is None:
        return ""
    is_told = cause.task and not cause.message.startswith(cause.task)
    where = f"{_place(cause.task, cause.item, cause.attempt)} " if is_told else ""
    rank = f" (rank {cause.rank})" if cause.rank > 0 else ""
    if cause.message.startswith(cause.kind):
        return f"{where}{cause.message}{rank}"
    return f"{where}{cause.kind}: {cause.message}{rank}" if cause.message else f"{where}{cause.kind}{rank}"


def _with_cause(words: str, cause: Cause | None) -> str:
    text = cause_text(cause)
    return f"{words}: {text}" if text else words


def _who(event: Any) -> str:
    return _place(event.attempt.task, event.attempt.item, event.attempt.attempt)


def _place(task: str, item: int, attempt: int) -> str:
    """`train[3]#2`; what is not known is left out."""
    return task + (f"[{item}]" if item >= 0 else "") + (f"#{attempt}" if attempt else "")


def duration_text(ms: int) -> str:
    """`1h30m`, `2s`, `500ms`: a duration as documents write it."""
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def quota_text(resource: str, quota: Quota | None) -> str:
    """`gpus 64, borrows at most 16, lends at most 8`: a quota for people."""
    if quota is None:
        return f"has no quota of {resource}"
    text = f"{resource} {amount_text(resource, quota.nominal)}"
    if quota.borrow_max is not None:
        text += f", borrows at most {amount_text(resource, quota.borrow_max)}"
    if quota.lend_max is not None:
        text += f", lends at most {amount_text(resource, quota.lend_max)}"
    return text


def _by(by: str) -> str:
    return f" by {by}" if by else ""


def _nodes_text(e: ev.ItemAdmitted) -> str:
    nodes = list(dict.fromkeys(place.node for place in e.places))
    return ", ".join(nodes[:4]) + (f" and {len(nodes) - 4} more" if len(nodes) > 4 else "")


WORDS: dict[type, Callable[[Any], str]] = {
    ev.SpecAdded: lambda e: f"document {e.digest[:12]} added",
    ev.KeyRemembered: lambda e: "idempotency key remembered",
    ev.WorkflowAccepted: lambda e: f"accepted as {e.name}.{e.number}{_by(e.by)}",
    ev.WorkflowStarted: lambda e: "started",
    ev.WorkflowSuspended: lambda e: f"suspended{_by(e.by)}",
    ev.WorkflowResumed: lambda e: f"resumed{_by(e.by)}",
    ev.WorkflowDoomed: lambda e: _with_cause(
        f"will end {e.verdict}{', without its finally tasks' if e.skip_finally else ''}", e.cause
    ),
    ev.WorkflowFinalizing: lambda e: f"main tasks {e.state}, finally tasks begin",
    ev.WorkflowEnded: lambda e: _with_cause(e.state, e.cause),
    ev.WorkflowReopened: lambda e: f"retried{_by(e.by)}, round {e.round}",
    ev.WorkflowForgotten: lambda e: "left memory",
    ev.PriorityChanged: lambda e: f"priority {e.priority}{_by(e.by)}",
    ev.TaskOpened: lambda e: f"{e.task} opened with {e.item_count} item{'' if e.item_count == 1 else 's'}",
    ev.TaskEnded: lambda e: _with_cause(f"{e.task} {e.state}", e.cause),
    ev.ItemAdmitted: lambda e: f"{_who(e)} admitted to {_nodes_text(e)}",
    ev.AttemptLaunching: lambda e: f"{_who(e)} launching",
    ev.ReplicaStarted: lambda e: f"{_who(e)} rank {e.rank} started",
    ev.AttemptRunning: lambda e: f"{_who(e)} running",
    ev.ReplicaEnded: lambda e: (
        f"{_who(e)} rank {e.rank} {f'ended with code {e.exit_code}' if e.exit_code >= 0 else 'is gone'}"
    ),
    ev.AttemptStopping: lambda e: _with_cause(f"{_who(e)} stopping", e.cause),
    ev.OutputsSet: lambda e: f"{_who(e)} set {', '.join(e.outputs)}",
    ev.CheckpointSaved: lambda e: f"{_who(e)} saved a checkpoint",
    ev.AttemptEnded: lambda e: _with_cause(f"{_who(e)} ended {e.outcome}", e.cause),
    ev.ItemBackedOff: lambda e: f"{_who(e)} will be tried again",
    ev.ItemReady: lambda e: f"{_who(e)} ready again",
    ev.ItemEnded: lambda e: _with_cause(f"{_who(e)} {e.state}", e.cause),
    ev.NodesChanged: lambda e: f"{len(e.nodes)} nodes",
    ev.NodeCordoned: lambda e: (
        f"{e.node} {'drained' if e.draining else 'cordoned'}{_by(e.by)}{f': {e.why}' if e.why else ''}"
    ),
    ev.NodeUncordoned: lambda e: f"{e.node} opened{_by(e.by)}",
    ev.NodeFailed: lambda e: f"{e.node} failed: {e.kind}",
    ev.NodeQuarantined: lambda e: f"{e.node} quarantined: {e.why}",
    ev.NodeOnProbation: lambda e: f"{e.node} on probation",
    ev.NodeProven: lambda e: f"{e.node} proven",
    ev.TenantChanged: lambda e: (
        f"tenant {e.tenant or '/'} {'enabled' if e.enabled else 'disabled'}, "
        f"weight {e.weight_millis / 1000:g}{_by(e.by)}"
    ),
    ev.UsageNoted: lambda e: f"past usage of {len(e.past)} tenants noted",
    ev.TenantMoved: lambda e: f"tenant {e.tenant} moved under {e.parent or '/'}{_by(e.by)}",
    ev.QuotaChanged: lambda e: f"tenant {e.tenant or '/'} {quota_text(e.resource, e.quota)}{_by(e.by)}",
}
