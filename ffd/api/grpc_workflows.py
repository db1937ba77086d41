"""The gRPC service Workflows: decode, ask the Access, encode. No rule of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from ffd.api.access import Access
from ffd.api.codec import decode_object, fitting, many, to_proto
from ffd.api.engine import WatchPage
from ffd.api.grpc_server import Send, streaming, unary
from ffd.api.limits import over
from ffd.api.problem import to_detail
from ffd.api.serving import Serving
from ffd.api.shapes import Submission, SubmitResult
from ffd.api.traffic import closing
from ffd.core.commands import Accepted, Cancel, Done, Resume, Retry, SetPriority, Suspend
from ffd.core.pages import Explain, WorkflowPage
from ffd.errors import FfdError, Refusal
from ffd.plugins.ports import ListQuery
from ffd.proto.ffd.v1 import workflows_grpc
from ffd.proto.ffd.v1 import workflows_pb2 as pb


class Workflows(workflows_grpc.WorkflowsBase):
    def __init__(self, serving: Serving) -> None:
        self.serving = serving

    # ------------------------------------------------------------------------------------------------------ submit

    @unary("submit")
    async def Submit(self, access: Access, request: pb.SubmitRequest) -> pb.SubmitReply:
        return _reply(await self.serving.submitter.submit(access, _submission(request, request.source)))

    @unary("submit", many=True)
    async def SubmitStream(self, access: Access, parts: AsyncIterator[pb.SubmitPart]) -> pb.SubmitReply:
        header: pb.SubmitRequest | None = None
        source, limit = bytearray(), self.serving.limits.document_bytes
        async with closing(parts):
            async for part in parts:
                if (part.WhichOneof("part") == "header") != (header is None):
                    raise Refusal("send the header once, first, then the document in pieces", field="part")
                header = header or part.header
                source += part.source
                if len(source) > limit:
                    raise over("document_bytes", "the document is larger than", limit)
        if header is None or header.source:
            raise Refusal("send a header without a document first", field="part")
        return _reply(await self.serving.submitter.submit(access, _submission(header, bytes(source))))

    @unary("submit")
    async def SubmitBatch(self, access: Access, request: pb.SubmitBatchRequest) -> pb.SubmitBatchReply:
        entries = [_entry(entry) for entry in request.entries]
        results = await self.serving.submitter.submit_all(access, entries)
        return pb.SubmitBatchReply(entries=[_batch_entry(result) for result in results])

    # ------------------------------------------------------------------------------------------------------- pages

    @unary("get")
    async def Get(self, access: Access, request: pb.GetRequest) -> WorkflowPage:
        return await access.workflow(request.ref, request.project)

    @unary("list")
    async def List(self, access: Access, request: pb.ListRequest) -> pb.ListReply:
        query = ListQuery(
            project=request.project, name=request.name, states=tuple(request.states), by=request.by,
            before=request.before, limit=request.limit,
        )  # fmt: skip
        workflows, more = fitting(await access.workflows(query), access.limits.reply_bytes)
        return pb.ListReply(workflows=workflows, more=more)

    @unary("tasks")
    async def Tasks(self, access: Access, request: pb.TasksRequest) -> pb.TasksReply:
        pages = await access.tasks(request.ref, request.project, request.after, request.limit)
        tasks, more = fitting(pages, access.limits.reply_bytes)
        return pb.TasksReply(tasks=tasks, more=more)

    @unary("items")
    async def Items(self, access: Access, request: pb.ItemsRequest) -> pb.ItemsReply:
        after = request.after if request.HasField("after") else -1
        pages = await access.items(request.ref, request.project, request.task, after, request.limit)
        items, more = fitting(pages, access.limits.reply_bytes)
        return pb.ItemsReply(items=items, more=more)

    @unary("attempts")
    async def Attempts(self, access: Access, request: pb.AttemptsRequest) -> pb.AttemptsReply:
        attempts = await access.attempts(request.ref, request.project, request.task, request.item)
        return pb.AttemptsReply(attempts=many(attempts))

    @unary("spec")
    async def Spec(self, access: Access, request: pb.GetRequest) -> pb.SpecReply:
        return pb.SpecReply(spec_json=msgspec.json.encode(await access.spec(request.ref, request.project)))

    @unary("explain")
    async def Explain(self, access: Access, request: pb.ExplainRequest) -> Explain:
        item = request.item if request.HasField("item") else -1
        return await access.why(request.ref, request.project, request.task, item, tuple(request.what_if))

    # ----------------------------------------------------------------------------------------------------- control

    @unary("cancel")
    async def Cancel(self, access: Access, request: pb.CancelRequest) -> Done:
        return await access.control(Cancel, request.ref, request.project, request.key, now=request.now)

    @unary("suspend")
    async def Suspend(self, access: Access, request: pb.ControlRequest) -> Done:
        return await access.control(Suspend, request.ref, request.project, request.key)

    @unary("resume")
    async def Resume(self, access: Access, request: pb.ControlRequest) -> Done:
        return await access.control(Resume, request.ref, request.project, request.key)

    @unary("retry")
    async def Retry(self, access: Access, request: pb.ControlRequest) -> Done:
        return await access.control(Retry, request.ref, request.project, request.key)

    @unary("set_priority")
    async def SetPriority(self, access: Access, request: pb.SetPriorityRequest) -> Done:
        return await access.control(SetPriority, request.ref, request.project, request.key, priority=request.priority)

    # ------------------------------------------------------------------------------------------------------ events

    @streaming("watch")
    async def Watch(self, access: Access, request: pb.WatchRequest, send: Send) -> None:
        async with closing(await access.watch(request.ref, request.project, request.token)) as pages:
            async for page in pages:
                await send(page)

    @unary("story")
    async def Story(self, access: Access, request: pb.StoryRequest) -> WatchPage:
        return await access.story(request.ref, request.project, request.token, request.limit)


def _submission(request: pb.SubmitRequest, source: bytes) -> Submission:
    return Submission(
        source=source,
        filename=request.filename or "<stdin>",
        format=request.format or "auto",
        params=decode_object(request.params_json, "params"),
        params_text=dict(request.params_text),
        project=request.project,
        default_project=request.default_project,
        priority=request.priority if request.HasField("priority") else None,
        key=request.key,
        base_dir=request.base_dir,
        dry_run=request.dry_run,
        labels=dict(request.labels),
    )


def _entry(request: pb.SubmitRequest) -> Submission | FfdError:
    try:
        return _submission(request, request.source)
    except FfdError as error:
        return error


def _reply(result: SubmitResult) -> pb.SubmitReply:
    accepted = Accepted(result.workflow, result.handle, result.project, result.duplicate)
    return pb.SubmitReply(accepted=to_proto(accepted), warnings=result.warnings)


def _batch_entry(result: SubmitResult | FfdError) -> pb.SubmitBatchEntry:
    if isinstance(result, FfdError):
        return pb.SubmitBatchEntry(error=to_detail(result))
    return pb.SubmitBatchEntry(reply=_reply(result))
