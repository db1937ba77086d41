"""The HTTP API as one table: method, path, verb, shapes, summary, handler. Routing, authorization, the checking of
requests and the OpenAPI document all come from it. Handlers are thin: ask the Access, return a struct.

A route with `stream` answers `Accept: text/event-stream` with Server-Sent Events: `id` resumes (as Last-Event-ID),
`event: end` means that nothing will follow, `event: error` carries a problem.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from ffd.api import http_shapes as shapes
from ffd.api import logs
from ffd.api.cluster_routes import CLUSTER_ROUTES
from ffd.api.grpc_tasks import metrics, rank
from ffd.api.limits import check_name, over, page_size
from ffd.api.route import JSON_TYPE, PREFIX, Call, EventSink, Reply, Route
from ffd.api.shapes import Submission, SubmitResult
from ffd.api.tenant_routes import TENANT_ROUTES
from ffd.api.traffic import closing
from ffd.core.commands import Cancel, Done, Resume, Retry, SetPriority, Suspend
from ffd.core.document import json_schema
from ffd.core.pages import DaemonPage, Explain, Page, WorkflowPage
from ffd.errors import Refusal, Unavailable
from ffd.plugins.ports import ListQuery

P = TypeVar("P", bound=Page)
DOCUMENT_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of Prometheus


# -------------------------------------------------------------------------------------------------------- workflows


async def submit(call: Call) -> Reply:
    result = await call.serving.submitter.submit(call.access, _submission(call))
    if not result.handle:
        return Reply(200, result)
    return Reply(200 if result.duplicate else 201, result, {"Location": f"{PREFIX}/workflows/{result.handle}"})


def _submission(call: Call) -> Submission:
    """YAML: the document. JSON: an envelope, known by its `source`, or else the document itself."""
    if call.content_type == JSON_TYPE and _is_envelope(call.body):
        try:
            envelope = msgspec.json.decode(call.body, type=shapes.Envelope)
        except msgspec.ValidationError as error:
            raise Refusal(str(error), field="body") from None
        values = msgspec.structs.asdict(envelope)
        return Submission(**{**values, "source": envelope.source.encode()}, key=call.key)
    options = msgspec.structs.asdict(call.query)
    form = "json" if call.content_type == JSON_TYPE else "yaml"
    return Submission(source=call.body, format=form, key=call.key, **options)


class _Probe(msgspec.Struct):
    source: str | msgspec.UnsetType = msgspec.UNSET


def _is_envelope(body: bytes) -> bool:
    try:
        return msgspec.json.decode(body, type=_Probe).source is not msgspec.UNSET
    except (msgspec.DecodeError, RecursionError):
        return False  # the document's own reader says what is wrong, and where


async def list_workflows(call: Call) -> shapes.WorkflowList:
    query = call.query
    size = page_size(query.limit, call.access.limits)
    found = await call.access.workflows(
        ListQuery(
            project=query.project, name=query.name, states=query.state, by=query.by, before=query.before, limit=size
        )
    )
    found, more = _fitting(found, call, size)
    return shapes.WorkflowList(found, found[-1].id if more else None)


async def get(call: Call) -> WorkflowPage:
    return await call.access.workflow(call.path["id"], call.query.project)


async def tasks(call: Call) -> shapes.TaskList:
    size = page_size(call.query.limit, call.access.limits)
    found = await call.access.tasks(call.path["id"], call.query.project, call.query.after, size)
    found, more = _fitting(found, call, size)
    return shapes.TaskList(found, found[-1].name if more else None)


async def items(call: Call) -> shapes.ItemList:
    size = page_size(call.query.limit, call.access.limits)
    found = await call.access.items(call.path["id"], call.query.project, call.path["task"], call.query.after, size)
    found, more = _fitting(found, call, size)
    return shapes.ItemList(found, found[-1].item if more else None)


def _fitting(pages: list[P], call: Call, size: int) -> tuple[list[P], bool]:
    """As many as fit one reply, at least one; True when there is, or may be, more."""
    room = call.access.limits.reply_bytes
    for place, page in enumerate(pages):
        room -= len(msgspec.json.encode(page))
        if room < 0 and place:
            return pages[:place], True
    return pages, len(pages) == size


async def attempts(call: Call) -> shapes.AttemptList:
    found = await call.access.attempts(call.path["id"], call.query.project, call.path["task"], call.query.item)
    return shapes.AttemptList([shapes.Attempt(a.workflow, a.task, a.item, a.attempt) for a in found])


async def spec(call: Call) -> dict[str, Any]:
    return await call.access.spec(call.path["id"], call.query.project)


async def why(call: Call) -> Explain:
    query = call.query
    what_if = tuple(text.replace("= ", "=+") for text in query.what_if)  # a bare `+` of a query is a space
    return await call.access.why(call.path["id"], query.project, query.task, query.item, what_if)


async def cancel(call: Call) -> Done:
    now = call.query.now if call.body is None else call.body.now
    return await call.access.control(Cancel, call.path["id"], call.query.project, call.key, now=now)


async def suspend(call: Call) -> Done:
    return await call.access.control(Suspend, call.path["id"], call.query.project, call.key)


async def resume(call: Call) -> Done:
    return await call.access.control(Resume, call.path["id"], call.query.project, call.key)


async def retry(call: Call) -> Done:
    return await call.access.control(Retry, call.path["id"], call.query.project, call.key)


async def set_priority(call: Call) -> Done:
    return await call.access.control(
        SetPriority, call.path["id"], call.query.project, call.key, priority=call.body.priority
    )


# --------------------------------------------------------------------------------------------------- events and logs


async def events(call: Call) -> shapes.EventList:
    page = await call.access.story(call.path["id"], call.query.project, call.query.token, call.query.limit)
    return shapes.EventList(page.events, page.token)


async def stream_events(call: Call, sink: EventSink) -> None:
    """One SSE event per commit; `event: gap` when events were lost to a slow reader."""
    token = call.last_event_id or call.query.token
    project = getattr(call.query, "project", "")
    async with closing(await call.access.watch(call.path.get("id", ""), project, token)) as pages:
        await sink.open()
        async for page in pages:
            data = shapes.EventList(page.events, page.token)
            await sink.send(page.token, "gap" if page.gap else "commit", data)


async def read_log(call: Call) -> shapes.LogPiece:
    query = call.query
    found = await call.access.log_query(
        call.path["id"], query.project, task=query.task, item=query.item or 0, attempt=query.attempt,
        offset=query.offset,
    )  # fmt: skip
    piece = await logs.read(call.access.engine, found, query.rank or 0, query.limit_bytes, call.access.limits)
    return shapes.LogPiece(
        piece.attempt, piece.rank, piece.offset, piece.next_offset, piece.dropped_bytes, piece.eof, _text(piece.data)
    )


async def stream_log(call: Call, sink: EventSink) -> None:
    await _stream_log(call, sink, call.path["id"], call.query.task, call.query.item)


TASK_ID = re.compile(r"(?P<ref>[^/]+)/(?P<task>[^/\[\]]+)(\[(?P<item>\d{1,9})\])?")


async def stream_task_log(call: Call, sink: EventSink) -> None:
    match = TASK_ID.fullmatch(call.path["id"])
    if match is None:
        raise Refusal("not the name of a task", field="id", hint="write NAME.N/TASK or NAME.N/TASK[ITEM]")
    item = call.query.item if match["item"] is None else int(match["item"])
    await _stream_log(call, sink, match["ref"], match["task"], item)


async def _stream_log(call: Call, sink: EventSink, ref: str, task: str, item: int | None) -> None:
    query, limit = call.query, call.access.limits.log_event_id_chars
    found = await call.access.log_query(
        ref, query.project, task=task, item=-1 if item is None else item, attempt=query.attempt,
        ranks=() if query.rank is None else (query.rank,), offset=query.offset, follow=query.follow,
        cursor=call.last_event_id or query.cursor,
    )  # fmt: skip
    async with logs.follow(call.access.engine, found, call.access.limits) as batches:
        await sink.open()
        async for batch in batches:
            if len(batch.cursor) > limit:
                hint = "follow one task or one item, or use gRPC"
                raise over("log_event_id_chars", "so many replicas at once do not fit", limit, hint)
            data = shapes.LogEvent(
                [
                    shapes.LogText(
                        lines.task, lines.item, lines.attempt, lines.rank, lines.offset, lines.next_offset,
                        lines.dropped_bytes, _text(lines.data),
                    )
                    for lines in batch.lines
                ]
            )  # fmt: skip
            await sink.send(batch.cursor, "log", data)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


# ----------------------------------------------------------------------------------------------- cluster, daemon, SDK


async def status(call: Call) -> DaemonPage:
    return await call.access.engine.status()


async def prometheus(call: Call) -> Reply:
    return Reply(200, call.access.engine.metrics(), content_type=TEXT_TYPE)


async def health(call: Call) -> shapes.Health:
    return shapes.Health("ok")


async def ready(call: Call) -> shapes.Health:
    reason = await call.serving.not_ready()
    if reason:
        raise Unavailable(f"not ready: {reason}")
    return shapes.Health("ready")


async def document_schema(call: Call) -> dict[str, Any]:
    return json_schema()


async def openapi(call: Call) -> dict[str, Any]:
    from ffd.api.openapi import describe  # it describes this table

    return describe(ROUTES)


async def report_metrics(call: Call) -> Reply:
    body = call.body
    values = metrics(dict(body.metrics), call.access.limits)
    if body.status:
        values["status"] = check_name(body.status, "status", call.access.limits)
    values.update({name: value for name, value in (("step", body.step), ("total", body.total)) if value is not None})
    await call.access.engine.progress(call.access.attempt, rank(body.rank), values)
    return Reply(204)


# ------------------------------------------------------------------------------------------------------------ table

W = f"{PREFIX}/workflows"
ROUTES: tuple[Route, ...] = (
    Route(
        "POST", W, "submit", "Start a workflow", submit, SubmitResult, shapes.SubmitOptions, document=True, status=201,
    ),
    Route("GET", W, "list", "List workflows, newest first", list_workflows, shapes.WorkflowList, shapes.ListWorkflows),
    Route("GET", W + "/{id}", "get", "Show a workflow", get, WorkflowPage, shapes.Scope),
    Route("DELETE", W + "/{id}", "cancel", "Cancel a workflow", cancel, Done, shapes.CancelOptions),
    Route("POST", W + "/{id}:cancel", "cancel", "Cancel a workflow", cancel, Done, shapes.Scope, shapes.CancelBody),
    Route("POST", W + "/{id}:suspend", "suspend", "Start nothing new of it", suspend, Done, shapes.Scope, shapes.Body),
    Route("POST", W + "/{id}:resume", "resume", "Undo a suspend", resume, Done, shapes.Scope, shapes.Body),
    Route("POST", W + "/{id}:retry", "retry", "Re-run what did not succeed", retry, Done, shapes.Scope, shapes.Body),
    Route(
        "POST", W + "/{id}:priority", "set_priority", "Change its priority, 0 to 1000", set_priority, Done,
        shapes.Scope, shapes.PriorityBody,
    ),
    Route(
        "GET", W + "/{id}/tasks", "tasks", "List its tasks, in document order", tasks, shapes.TaskList,
        shapes.ListTasks,
    ),
    Route(
        "GET", W + "/{id}/tasks/{task}/items", "items", "List the items of a task", items, shapes.ItemList,
        shapes.ListItems,
    ),
    Route(
        "GET", W + "/{id}/tasks/{task}/attempts", "attempts", "List the attempts of an item", attempts,
        shapes.AttemptList, shapes.OfItem,
    ),
    Route("GET", W + "/{id}/spec", "spec", "Show its resolved document", spec, dict[str, Any], shapes.Scope),
    Route("GET", W + "/{id}/why", "explain", "Say why it waits, or why it ended so", why, Explain, shapes.Why),
    Route(
        "GET", W + "/{id}/events", "story", "Read its events, or follow them", events, shapes.EventList, shapes.Events,
        stream=stream_events, event=shapes.EventList,
    ),
    Route(
        "GET", W + "/{id}/logs", "read_log", "Read a log, or follow all of them", read_log, shapes.LogPiece,
        shapes.Logs, stream=stream_log, event=shapes.LogEvent,
    ),
    Route(
        "GET", PREFIX + "/tasks/{id:.+}/logs/stream", "follow_log", "Follow the logs of NAME.N/TASK or NAME.N/TASK[I]",
        None, None, shapes.LogOptions, stream=stream_task_log, event=shapes.LogEvent,
    ),
    Route(
        "GET", PREFIX + "/events", "watch", "Follow the events of all workflows", None, None, shapes.AllEvents,
        stream=stream_events, event=shapes.EventList,
    ),
    *CLUSTER_ROUTES,
    *TENANT_ROUTES,
    Route("GET", PREFIX + "/status", "status", "Show the daemon", status, DaemonPage),
    Route(
        "POST", "/v1/metrics", "progress", "Report progress and metrics of a task", report_metrics, None,
        body=shapes.MetricsBody, status=204,
    ),
    Route("GET", "/metrics", "metrics", "Metrics of the daemon, for Prometheus", prometheus, str),
    Route("GET", "/healthz", "health", "The process is alive", health, shapes.Health),
    Route("GET", "/readyz", "ready", "It takes commands", ready, shapes.Health),
    Route("GET", "/schema/v1.json", "schema", "JSON Schema of a workflow document", document_schema, dict[str, Any]),
    Route("GET", "/openapi.json", "openapi", "This description", openapi, dict[str, Any]),
)  # fmt: skip
