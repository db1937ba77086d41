"""The client: one library for CLI, TUI and Python users. Asynchronous; pages in, exceptions of `ffd.errors` out.

    async with await Client.connect() as client:
        result = await client.submit(b"tasks: {hi: {run: echo hi}}")
        async for page in client.watch(result.handle): ...

A daemon that was never reached fails a call at once. One that was reached and goes away (a restart, a failover) is
waited for up to the timeout, and the leader it names is followed. That is safe: reads change nothing, and every call
that changes something carries an idempotency key, made here when none is given.

`ref` names a workflow as people do: name.N, a bare name, @latest, a number, a unique prefix; within the client's
project when it has one. Close iterators that are left early (`contextlib.aclosing`).
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

from ffd.api.address import default_address, parse_address
from ffd.api.cluster_client import ClusterCalls, new_key
from ffd.api.codec import decode_object, encode_json, from_proto
from ffd.api.engine import WatchPage
from ffd.api.link import Link
from ffd.api.problem import DocumentRefusal, from_detail
from ffd.api.shapes import LogBatch, LogChunk, LogLines, Submission, SubmitResult
from ffd.api.tenant_client import TenantCalls
from ffd.core.commands import Done
from ffd.core.model import AttemptId
from ffd.core.pages import Explain, ItemPage, TaskPage, WorkflowPage
from ffd.errors import FfdError, Unavailable
from ffd.proto.ffd.v1 import logs_pb2
from ffd.proto.ffd.v1 import workflows_pb2 as pb
from ffd.proto.ffd.v1.logs_grpc import LogsStub
from ffd.proto.ffd.v1.workflows_grpc import WorkflowsStub

__all__ = ["Client", "DocumentRefusal", "LogBatch", "LogChunk", "LogLines", "Submission", "SubmitResult", "WatchPage"]

ONE_MESSAGE_BYTES = 1 << 20  # a larger document goes in pieces
PIECE_BYTES = 256 << 10
BATCH_BYTES = 2 << 20  # documents of one batch: below the server's message limit
BATCH_COUNT = 500
PAGE_COUNT = 1_000
TIMEOUT_MS = 30_000


class Client(ClusterCalls, TenantCalls):
    """Made by `connect`. Safe to use from many tasks of one loop; calls share one connection."""

    def __init__(self, link: Link, project: str) -> None:
        self._link = link
        self._project = project

    @classmethod
    async def connect(
        cls, address: str = "", *, project: str = "", token: str = "", timeout_ms: int = TIMEOUT_MS
    ) -> Self:
        """Nothing is sent yet. `address`: unix:PATH, grpc://HOST:PORT or grpcs://HOST:PORT; "" = FFD_ADDRESS, else the
        user's own socket. `timeout_ms`: one call, with its retries. Refusal (invalid): not an address."""
        return cls(Link(parse_address(address or default_address()), token, timeout_ms), project)

    async def aclose(self) -> None:
        await self._link.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    # ------------------------------------------------------------------------------------------------------- submit

    async def submit(
        self,
        source: bytes,
        *,
        filename: str = "<stdin>",
        format: str = "auto",
        params: Mapping[str, Any] | None = None,
        params_text: Mapping[str, str] | None = None,
        project: str = "",
        priority: int | None = None,
        key: str = "",
        base_dir: str = "",
        dry_run: bool = False,
        labels: Mapping[str, str] | None = None,
    ) -> SubmitResult:
        """Start a workflow from a YAML or JSON document. Durable on return. `params` are typed values, `params_text` as
        a person typed them. Refusal: DocumentRefusal with all faults; limit, forbidden, conflict (the key)."""
        return await self.submit_one(
            Submission(
                source=source, filename=filename, format=format, params=dict(params or {}),
                params_text=dict(params_text or {}), project=project, priority=priority, key=key, base_dir=base_dir,
                dry_run=dry_run, labels=dict(labels or {}),
            )
        )  # fmt: skip

    async def submit_one(self, submission: Submission) -> SubmitResult:
        request = self._submit_request(submission)
        if len(submission.source) <= ONE_MESSAGE_BYTES:
            request.source = submission.source
            return _result(await self._workflows("Submit", request))
        patience = self._link.patience()
        while True:
            try:
                return _result(await self._submit_stream(request, submission.source))
            except Unavailable as error:
                await patience.wait(error)

    async def _submit_stream(self, header: pb.SubmitRequest, source: bytes) -> pb.SubmitReply:
        async with self._link.send(WorkflowsStub, "SubmitStream") as stream:
            await stream.send_message(pb.SubmitPart(header=header))
            for start in range(0, len(source), PIECE_BYTES):
                piece = pb.SubmitPart(source=source[start : start + PIECE_BYTES])
                await stream.send_message(piece, end=start + PIECE_BYTES >= len(source))
            reply: pb.SubmitReply = await stream.recv_message()
        return reply

    async def submit_many(self, sources: Sequence[bytes | Submission]) -> builtins.list[SubmitResult | FfdError]:
        """Many small documents at the cost of few calls. Each is accepted or refused by itself, in the order given: its
        result, or the error it would have raised."""
        results: builtins.list[SubmitResult | FfdError] = []
        batch = pb.SubmitBatchRequest()
        size = 0
        for source in sources:
            submission = source if isinstance(source, Submission) else Submission(source=source)
            if size + len(submission.source) > BATCH_BYTES or len(batch.entries) >= BATCH_COUNT:
                results += await self._submit_batch(batch)
                batch, size = pb.SubmitBatchRequest(), 0
            entry = self._submit_request(submission)
            entry.source = submission.source
            batch.entries.append(entry)
            size += len(submission.source)
        return results + await self._submit_batch(batch)

    async def _submit_batch(self, batch: pb.SubmitBatchRequest) -> builtins.list[SubmitResult | FfdError]:
        if not batch.entries:
            return []
        reply = await self._workflows("SubmitBatch", batch)
        return [
            _result(entry.reply) if entry.HasField("reply") else from_detail(entry.error) for entry in reply.entries
        ]

    def _submit_request(self, submission: Submission) -> pb.SubmitRequest:
        """All but the document."""
        return pb.SubmitRequest(
            filename=submission.filename, format=submission.format, params_json=encode_json(submission.params),
            params_text=submission.params_text, project=submission.project,
            default_project=submission.default_project or self._project, priority=submission.priority,
            key=submission.key or new_key(), base_dir=submission.base_dir, dry_run=submission.dry_run,
            labels=submission.labels,
        )  # fmt: skip

    # -------------------------------------------------------------------------------------------------------- pages

    async def get(self, ref: str) -> WorkflowPage:
        return from_proto(WorkflowPage, await self._workflows("Get", pb.GetRequest(ref=ref, project=self._project)))

    async def list(
        self,
        *,
        project: str = "",
        name: str = "",
        states: Sequence[str] = (),
        by: str = "",
        before: int = 0,
        limit: int = 100,
    ) -> builtins.list[WorkflowPage]:
        """Newest first; "" and () = any. The next page starts `before` the last id of this one."""
        pages: list[WorkflowPage] = []
        more = True
        while more:
            room = limit and limit - len(pages)
            request = pb.ListRequest(project=project, name=name, states=states, by=by, before=before, limit=room)
            reply = await self._workflows("List", request)
            pages += [from_proto(WorkflowPage, page) for page in reply.workflows]
            before, more = pages[-1].id if pages else 0, reply.more
        return pages

    async def tasks(self, ref: str, *, after: str = "", limit: int = PAGE_COUNT) -> builtins.list[TaskPage]:
        """In document order, from the one after the task named `after`."""
        pages: list[TaskPage] = []
        more = True
        while more:
            room = limit and limit - len(pages)
            request = pb.TasksRequest(ref=ref, project=self._project, after=after, limit=room)
            reply = await self._workflows("Tasks", request)
            pages += [from_proto(TaskPage, page) for page in reply.tasks]
            after, more = pages[-1].name if pages else "", reply.more
        return pages

    async def all_tasks(self, ref: str) -> AsyncIterator[TaskPage]:
        """Every task, page by page."""
        after = ""
        while pages := await self.tasks(ref, after=after):
            for page in pages:
                yield page
            after = pages[-1].name
            if len(pages) < PAGE_COUNT:
                return

    async def items(self, ref: str, task: str, *, after: int = -1, limit: int = PAGE_COUNT) -> builtins.list[ItemPage]:
        """In order, from the one after item `after`."""
        pages: list[ItemPage] = []
        more = True
        while more:
            room = limit and limit - len(pages)
            request = pb.ItemsRequest(ref=ref, project=self._project, task=task, after=after, limit=room)
            reply = await self._workflows("Items", request)
            pages += [from_proto(ItemPage, page) for page in reply.items]
            after, more = pages[-1].item if pages else -1, reply.more
        return pages

    async def attempts(self, ref: str, task: str, item: int = 0) -> builtins.list[AttemptId]:
        """All attempts of an item so far, oldest first."""
        request = pb.AttemptsRequest(ref=ref, project=self._project, task=task, item=item)
        return [from_proto(AttemptId, attempt) for attempt in (await self._workflows("Attempts", request)).attempts]

    async def spec(self, ref: str) -> dict[str, Any]:
        """The resolved document, as plain data."""
        reply = await self._workflows("Spec", pb.GetRequest(ref=ref, project=self._project))
        return decode_object(reply.spec_json, "spec")

    async def why(self, ref: str, task: str = "", item: int = -1, what_if: Sequence[str] = ()) -> Explain:
        """Why it waits, or why it ended as it did. `task` "": the workflow; `item` -1: the task as a whole. `what_if`:
        changes that are tried together, e.g. `quota.gpus=+64`; nothing is changed."""
        request = pb.ExplainRequest(
            ref=ref, project=self._project, task=task, item=item if item >= 0 else None, what_if=what_if
        )
        return from_proto(Explain, await self._workflows("Explain", request))

    # ------------------------------------------------------------------------------------------------------ control

    async def cancel(self, ref: str, *, now: bool = False, key: str = "") -> Done:
        """Final: after it nothing new of it starts. `now` skips its finally tasks too."""
        request = pb.CancelRequest(ref=ref, project=self._project, key=key or new_key(), now=now)
        return from_proto(Done, await self._workflows("Cancel", request))

    async def suspend(self, ref: str, *, key: str = "") -> Done:
        """Nothing new starts; what runs goes on."""
        return await self._control("Suspend", ref, key)

    async def resume(self, ref: str, *, key: str = "") -> Done:
        return await self._control("Resume", ref, key)

    async def retry(self, ref: str, *, key: str = "") -> Done:
        """Re-run what did not succeed of an ended workflow, in the same workflow."""
        return await self._control("Retry", ref, key)

    async def set_priority(self, ref: str, priority: int, *, key: str = "") -> Done:
        """0 to 1000; applies to what is not yet admitted."""
        request = pb.SetPriorityRequest(ref=ref, project=self._project, key=key or new_key(), priority=priority)
        return from_proto(Done, await self._workflows("SetPriority", request))

    async def _control(self, verb: str, ref: str, key: str) -> Done:
        request = pb.ControlRequest(ref=ref, project=self._project, key=key or new_key())
        return from_proto(Done, await self._workflows(verb, request))

    # ------------------------------------------------------------------------------------------------------- events

    async def watch(self, ref: str = "", *, token: str = "") -> AsyncIterator[WatchPage]:
        """Events after `token` ("" = from now, "0.0" = from the beginning), then as they happen; for one workflow until
        it has ended. After a lost connection it goes on behind the last token by itself; when there is none yet, with a
        page that says `gap`."""
        patience = self._link.patience()
        while True:
            request = pb.WatchRequest(ref=ref, project=self._project, token=token)
            try:
                async with self._link.subscribe(WorkflowsStub, "Watch", request) as messages:
                    async for message in messages:
                        page = from_proto(WatchPage, message)
                        token = page.token or token
                        patience.renew()
                        yield page
                return
            except Unavailable as error:
                await patience.wait(error)
            if not token:
                yield WatchPage(token="", gap=True)

    async def story(self, ref: str, *, token: str = "", limit: int = PAGE_COUNT) -> WatchPage:
        """Past events after `token`, one page; a page without events = no more now. `ref` "" = of all workflows and of
        the cluster."""
        request = pb.StoryRequest(ref=ref, project=self._project, token=token, limit=limit)
        return from_proto(WatchPage, await self._workflows("Story", request))

    # --------------------------------------------------------------------------------------------------------- logs

    async def read_log(
        self,
        ref: str,
        task: str,
        *,
        item: int = 0,
        attempt: int = 0,
        rank: int = 0,
        offset: int = 0,
        limit_bytes: int = 1 << 20,
    ) -> LogChunk:
        """A piece of one replica's log from byte `offset` (negative: before its end). `attempt` 0 = the last."""
        request = logs_pb2.ReadLogRequest(
            ref=ref, project=self._project, task=task, item=item, attempt=attempt, rank=rank, offset=offset,
            limit_bytes=limit_bytes,
        )  # fmt: skip
        return from_proto(LogChunk, await self._link.call(LogsStub, "Read", request))

    async def follow_log(
        self,
        ref: str,
        task: str = "",
        *,
        item: int = -1,
        attempt: int = 0,
        ranks: Sequence[int] | None = None,
        offset: int = 0,
        follow: bool = True,
        cursor: str = "",
    ) -> AsyncIterator[LogBatch]:
        """What the replicas of a workflow (task "" = all), task (item -1 = all) or item wrote, over all attempts
        (attempt 0): no gap, no duplicate, bytes of one replica and attempts of one item in order. Then as it grows,
        until it has ended; with `follow` False only what is there. `cursor` of a batch resumes behind it."""
        patience = self._link.patience()
        while True:
            request = logs_pb2.FollowLogRequest(
                ref=ref, project=self._project, task=task, item=item if item >= 0 else None, attempt=attempt,
                ranks=ranks or (), offset=offset, follow=follow, cursor=cursor,
            )  # fmt: skip
            try:
                async with self._link.subscribe(LogsStub, "Follow", request) as messages:
                    async for message in messages:
                        cursor = message.cursor
                        patience.renew()
                        yield from_proto(LogBatch, message)
                return
            except Unavailable as error:
                await patience.wait(error)

    async def _workflows(self, method: str, request: Any) -> Any:
        return await self._link.call(WorkflowsStub, method, request)


def _result(reply: pb.SubmitReply) -> SubmitResult:
    accepted = reply.accepted
    return SubmitResult(accepted.workflow, accepted.handle, accepted.project, accepted.duplicate, tuple(reply.warnings))
