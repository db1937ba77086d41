"""What HTTP requests and replies look like, beyond the pages: query strings, JSON bodies, lists. Plain structs.

Unknown names are refused. A query's field may be given several times where it is a tuple. `project` "" = any.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ffd.core.commands import NodesMarked
from ffd.core.pages import (
    DrainPage,
    EventPage,
    GpuPage,
    ItemPage,
    NodePage,
    QueuePage,
    QuotaPage,
    SharePage,
    TaskPage,
    TenantPage,
    WorkflowPage,
)

DEFAULT_PAGE_COUNT = 100

# ---------------------------------------------------------------------------------------------------------- queries


class Query(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What stands after the `?`."""


class Scope(Query):
    project: str = ""


class ListWorkflows(Scope):
    name: str = ""
    state: tuple[str, ...] = ()
    by: str = ""
    before: int = 0
    limit: int = DEFAULT_PAGE_COUNT


class ListTasks(Scope):
    after: str = ""
    limit: int = DEFAULT_PAGE_COUNT


class ListItems(Scope):
    after: int = -1
    limit: int = DEFAULT_PAGE_COUNT


class ListNodes(Query):
    after: str = ""


class OfItem(Scope):
    item: int = 0


class Why(Scope):
    task: str = ""
    item: int = -1
    what_if: tuple[str, ...] = ()


class Events(Scope):
    token: str = ""
    limit: int = DEFAULT_PAGE_COUNT


class AllEvents(Query):
    token: str = ""


class LogOptions(Scope):
    """`item`, `rank`: absent means 0 for one piece (JSON) and all for a stream. `limit_bytes` is for a piece, `follow`
    and `cursor` are for a stream."""

    item: int | None = None
    attempt: int = 0
    rank: int | None = None
    offset: int = 0
    limit_bytes: int = 256 << 10
    follow: bool = True
    cursor: str = ""


class Logs(LogOptions):
    task: str = ""


class SubmitOptions(Query):
    """For a body that is a document; the JSON envelope says these inside."""

    filename: str = "<http>"
    project: str = ""
    priority: int | None = None
    dry_run: bool = False


class CancelOptions(Scope):
    now: bool = False


# ----------------------------------------------------------------------------------------------------------- bodies


class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A JSON body; none at all counts as {}."""


class Envelope(Body):
    """A document with its parameters. `source` is its text, YAML or JSON."""

    source: str
    filename: str = "<http>"
    format: str = "auto"
    params: dict[str, Any] = {}
    project: str = ""
    priority: int | None = None
    base_dir: str = ""
    dry_run: bool = False
    labels: dict[str, str] = {}


class CancelBody(Body):
    now: bool = False


class PriorityBody(Body):
    priority: int


class NodesBody(Body):
    """Which nodes: the one of the path or those named, and those that have all of `labels`."""

    nodes: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class CordonBody(NodesBody):
    why: str = ""


class DrainBody(CordonBody):
    """`grace_ms`: how long each attempt may take to stop; null = its checkpoint grace. `preview`: change nothing."""

    grace_ms: int | None = None
    preview: bool = False


class TenantBody(Body):
    """What is not there, or null, stays as it is."""

    weight: float | None = None
    enabled: bool | None = None
    parent: str | None = None


class QuotaBody(Body):
    """All quotas of the tenant: resource -> an amount (nominal, and nothing is borrowed), or an object with `nominal`
    and perhaps `borrow_max` and `lend_max`. Amounts: a number, or a size as "512Gi"."""

    quotas: dict[str, Any]


class MetricsBody(Body):
    """Progress and metrics of a task."""

    rank: int = 0
    step: int | None = None
    total: int | None = None
    status: str = ""
    metrics: dict[str, float] = {}


# ---------------------------------------------------------------------------------------------------------- replies


class WorkflowList(msgspec.Struct):
    """`next`: ask again with it as `before`; null = this was the last page."""

    workflows: list[WorkflowPage]
    next: int | None


class TaskList(msgspec.Struct):
    """`next`: ask again with it as `after`; null = this was the last page."""

    tasks: list[TaskPage]
    next: str | None


class ItemList(msgspec.Struct):
    """`next`: ask again with it as `after`; null = this was the last page."""

    items: list[ItemPage]
    next: int | None


class Attempt(msgspec.Struct):
    workflow: int
    task: str
    item: int
    attempt: int


class AttemptList(msgspec.Struct):
    """Oldest first."""

    attempts: list[Attempt]


class NodeList(msgspec.Struct):
    """`next`: ask again with it as `after`; null = this was the last page."""

    nodes: list[NodePage]
    next: str | None


class GpuList(msgspec.Struct):
    gpus: list[GpuPage]


class Drained(msgspec.Struct):
    """Which nodes were marked; or with `preview` what would be stopped."""

    marked: NodesMarked | None
    preview: DrainPage | None


class QueueList(msgspec.Struct):
    queue: list[QueuePage]


class TenantList(msgspec.Struct):
    tenants: list[TenantPage]


class QuotaList(msgspec.Struct):
    quotas: list[QuotaPage]


class ShareList(msgspec.Struct):
    shares: list[SharePage]


class EventList(msgspec.Struct):
    """`token`: ask again with it for what follows; no events = no more now."""

    events: tuple[EventPage, ...]
    token: str


class LogPiece(msgspec.Struct):
    """One piece of one replica's log. `text` is its bytes as UTF-8, wrong ones replaced; offsets count bytes."""

    attempt: int
    rank: int
    offset: int
    next_offset: int
    dropped_bytes: int
    eof: bool
    text: str


class LogText(msgspec.Struct):
    """Some lines of one replica, within an event."""

    task: str
    item: int
    attempt: int
    rank: int
    offset: int
    next_offset: int
    dropped_bytes: int
    text: str


class LogEvent(msgspec.Struct):
    """One event of a log stream; its `id` resumes behind it, for all replicas together."""

    lines: list[LogText]


class Health(msgspec.Struct):
    status: str
