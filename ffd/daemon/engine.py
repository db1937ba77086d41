"""The engine: what the API asks of this daemon (`ffd.api.engine.Engine`). Thin: it finds the reign, the workflow and
the task, and hands on. On a standby every call is refused with the leader's address.

Never here: deciding anything (core), making pages (views), what a caller may see (`api.access`).
"""

from __future__ import annotations

import asyncio
import difflib
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import msgspec

import ffd
from ffd.api.engine import BarrierState, TaskInputs, WatchPage
from ffd.api.shapes import SnapshotHead
from ffd.core import cluster_views, tenant_views, views, why
from ffd.core.commands import Accepted, Answer, AnyCommand, Done, Retry
from ffd.core.limits import Limits as CoreLimits
from ffd.core.model import AttemptId, Rows
from ffd.core.pages import (
    Check,
    DaemonPage,
    DrainPage,
    Explain,
    GpuPage,
    ItemPage,
    NodeDetail,
    NodePage,
    QueuePage,
    QuotaPage,
    SharePage,
    TaskPage,
    TenantPage,
    WorkflowPage,
)
from ffd.core.reports import CheckpointReported, OutputsReported
from ffd.core.state import State
from ffd.daemon.parts import Parts
from ffd.daemon.publisher import position_of
from ffd.daemon.reign import Reign
from ffd.daemon.telemetry import Metrics
from ffd.errors import Refusal, Unavailable
from ffd.plugins.ports import LeaseInfo, ListQuery, LogStore

T = TypeVar("T")


class DaemonEngine:
    """Of one daemon, through all its reigns. `sweeping` is held by who removes, or opens again, ended workflows."""

    def __init__(self, parts: Parts, metrics: Metrics) -> None:
        self.logs: LogStore = parts.logs
        self.sweeping = asyncio.Lock()
        self.reign: Reign | None = None
        self.leader: LeaseInfo | None = None  # somebody else
        self.is_stopping = False
        self.address = ""  # where this daemon serves
        self._parts = parts
        self._metrics = metrics
        self._started_at_ms = parts.clock.wall_ms()
        self._show_gauges()

    def lead(self) -> Reign:
        """The reign of this daemon. Unavailable with the leader's address when it does not lead."""
        if self.reign is not None:
            return self.reign
        if self.is_stopping:
            raise Unavailable("the daemon is stopping", hint="call again when it is back")
        if self.leader is not None:
            raise Unavailable("this daemon stands by, another one leads", hint=self.leader.address)
        raise Unavailable("the daemon is starting", hint="call again in a moment")

    def hang_up(self) -> None:
        """The daemon stops: nobody need wait at a barrier for it."""
        self.is_stopping = True
        if self.reign is not None:
            self.reign.ephemeral.close(Unavailable("the daemon is stopping", hint="call again when it is back"))

    # ------------------------------------------------------------------------------------------ commands and facts

    async def ask(self, command: AnyCommand) -> Answer:
        if isinstance(command, Retry):
            return await self._retry(command)
        reign = self.lead()
        answer = await reign.inbox.ask(command)
        if not isinstance(answer, Accepted | Done) or answer.handle:
            return answer
        return await self._with_handle(reign, answer)  # a repeated key of a workflow that has ended

    async def _retry(self, command: Retry) -> Answer:
        """Ended workflows are not in memory: their rows go along. One at a time, so that no other retry or sweep can
        change the rows between reading and deciding."""
        async with self.sweeping:
            reign = self.lead()
            if command.workflow not in reign.state.workflows:
                await reign.barrier.settled()
                rows = await self._parts.store.read_workflow(command.workflow)
                command = msgspec.structs.replace(command, rows=rows)
            answer = await reign.inbox.ask(command)
        assert isinstance(answer, Done)
        return answer if answer.handle else await self._with_handle(reign, answer)

    async def _with_handle(self, reign: Reign, answer: Accepted | Done) -> Answer:
        if isinstance(answer, Accepted):
            return msgspec.structs.replace(answer, handle=await reign.names.handle(answer.workflow))
        page = await self.workflow(answer.workflow)
        return Done(answer.workflow, page.handle, page.state, answer.duplicate)

    async def tell(self, report: OutputsReported | CheckpointReported) -> None:
        reign = self.lead()
        reign.ephemeral.alive(report.attempt, self._parts.clock.wall_ms())
        await reign.inbox.tell(report)

    # -------------------------------------------------------------------------------------------------------- reads

    async def resolve(self, text: str, project: str = "") -> int:
        return await self.lead().names.resolve(text, project)

    async def workflow(self, workflow: int) -> WorkflowPage:
        return await self.lead().reads.workflow(workflow)

    async def workflows(self, query: ListQuery) -> list[WorkflowPage]:
        reign = self.lead()
        return await reign.reads.pages(await self._parts.store.list_workflows(query))

    async def tasks(self, workflow: int, after: str = "", limit: int = 1000) -> list[TaskPage]:
        return await self._read_task(workflow, after, lambda state: views.task_pages(state, workflow, after, limit))

    async def items(self, workflow: int, task: str, after: int = -1, limit: int = 1000) -> list[ItemPage]:
        progress = self.lead().ephemeral.progress(workflow)
        return await self._read_task(
            workflow, task, lambda state: views.item_pages(state, workflow, task, after, limit, progress=progress)
        )

    async def attempts(self, workflow: int, task: str, item: int) -> list[AttemptId]:
        return await self._read_task(workflow, task, lambda state: views.attempt_ids(state, workflow, task, item))

    async def spec(self, workflow: int) -> dict[str, Any]:
        spec = await self.lead().reads.read(workflow, lambda state: state.workflows[workflow].dag.spec)
        plain: dict[str, Any] = msgspec.to_builtins(spec)
        return plain

    async def why(
        self,
        workflow: int,
        task: str = "",
        item: int = -1,
        projects: frozenset[str] | None = None,
        what_if: Sequence[str] = (),
    ) -> Explain:
        now_ms = self._parts.clock.wall_ms()

        def explain(state: State) -> Explain:
            if item >= 0 and item >= len(state.workflows[workflow].tasks[task].items) > 0:
                raise Refusal(f"{task} has no item {item}", code="not_found", field="item")
            return why.explain(state, workflow, task, item, now_ms, projects, what_if)

        page = await self._read_task(workflow, task, explain)
        degraded = self.lead().degraded
        if not degraded:
            return page
        stuck = Check(name="storage", verdict="wait", detail=degraded)
        return msgspec.structs.replace(
            page, headline=f"nothing starts: {degraded}", reason="storage", checks=(stuck, *page.checks)
        )

    async def _read_task(self, workflow: int, task: str, view: Callable[[State], T]) -> T:
        """As `read`; `task` "" = none is needed. Refusal (not_found) when the workflow has no such task."""

        def checked(state: State) -> T:
            live = state.workflows[workflow]
            if task and task not in live.tasks:
                near = difflib.get_close_matches(task, live.dag.names[:1_000], n=1)
                hint = f"did you mean {near[0]}?" if near else ""
                raise Refusal(f"{live.row.handle} has no task {task[:80]!r}", code="not_found", field="task", hint=hint)
            return view(state)

        return await self.lead().reads.read(workflow, checked)

    async def nodes(self, after: str = "", limit: int = 1000) -> list[NodePage]:
        return await self.lead().reads.cluster(lambda state: cluster_views.node_pages(state, after, limit))

    async def node(self, name: str) -> NodeDetail:
        return await self.lead().reads.cluster(lambda state: cluster_views.node_detail(state, name))

    async def gpus(self) -> list[GpuPage]:
        return await self.lead().reads.cluster(cluster_views.gpu_pages)

    async def preview_drain(self, nodes: Sequence[str], labels: Mapping[str, str], grace_ms: int | None) -> DrainPage:
        now_ms = self._parts.clock.wall_ms()
        return await self.lead().reads.cluster(
            lambda state: cluster_views.drain_page(state, nodes, labels, grace_ms, now_ms)
        )

    async def queue(self, project: str = "") -> list[QueuePage]:
        return await self.lead().reads.cluster(lambda state: cluster_views.queue_pages(state, project))

    async def tenants(self) -> list[TenantPage]:
        return await self.lead().reads.cluster(tenant_views.tenant_pages)

    async def quotas(self) -> list[QuotaPage]:
        return await self.lead().reads.cluster(tenant_views.quota_pages)

    async def shares(self) -> list[SharePage]:
        return await self.lead().reads.cluster(tenant_views.share_pages)

    async def snapshot(self) -> tuple[SnapshotHead, Rows]:
        await self.lead().barrier.settled()
        loaded = await self._parts.store.load(None)
        settings = self._parts.settings
        limits = CoreLimits(**{name: getattr(settings.limits, name) for name in CoreLimits.__struct_fields__})
        head = SnapshotHead(
            ffd.__version__, loaded.head.number, self._parts.clock.wall_ms(),
            msgspec.msgpack.encode(settings.scheduling), msgspec.msgpack.encode(limits),
        )  # fmt: skip
        return head, loaded.rows

    # ------------------------------------------------------------------------------------------------------- events

    async def watch(self, workflow: int = 0, token: str = "") -> AsyncGenerator[WatchPage, None]:
        reign, after = self.lead(), position_of(token)
        if workflow:
            await self._check_exists(reign, workflow)

        async def has_ended() -> bool:
            return bool(workflow) and workflow not in reign.state.workflows and await reign.barrier.settled()

        async with aclosing(reign.publisher.watch(workflow, after, has_ended)) as pages:
            async for page in pages:
                yield page

    async def story(self, workflow: int, token: str = "", limit: int = 1000) -> WatchPage:
        reign, after = self.lead(), position_of(token) or (0, 0)
        if workflow:
            await self._check_exists(reign, workflow)
        return await reign.publisher.story(workflow, after, limit)

    @staticmethod
    async def _check_exists(reign: Reign, workflow: int) -> None:
        if not await reign.names.handle(workflow):
            raise Refusal(f"there is no workflow {workflow}", code="not_found", field="ref")

    # --------------------------------------------------------------------------------------------------- for tasks

    async def check(self, attempt: AttemptId) -> None:
        reign = self.lead()
        if not reign.state.is_live(attempt):
            await reign.barrier.settled()  # a decision that may still be lost must not end a running program
            raise _superseded(attempt)

    async def inputs(self, attempt: AttemptId) -> TaskInputs:
        await self.check(attempt)
        reign = self.lead()
        found = TaskInputs(**views.task_inputs(reign.state, attempt))
        await reign.barrier.settled()
        return found

    async def progress(self, attempt: AttemptId, rank: int, values: dict[str, Any]) -> None:
        await self.check(attempt)
        self.lead().ephemeral.progressed(attempt, rank, values, self._parts.clock.wall_ms())

    async def heartbeat(self, attempt: AttemptId, rank: int) -> str:
        await self.check(attempt)
        reign = self.lead()
        reign.ephemeral.alive(attempt, self._parts.clock.wall_ms())
        found = reign.state.current(attempt)
        cause = found[3].stop_cause if found else None
        if cause is None:
            return ""
        await reign.barrier.settled()
        return cause.kind

    async def barrier(self, attempt: AttemptId, rank: int, name: str) -> BarrierState:
        await self.check(attempt)
        reign = self.lead()
        found = reign.state.current(attempt)
        if found is None:
            raise _superseded(attempt)
        replicas = len(found[3].places)
        if not 0 <= rank < replicas:
            raise Refusal(f"rank {rank} of {replicas} replicas", field="rank")
        meeting, is_new = reign.ephemeral.arrive(attempt, rank, name, replicas)
        if is_new:  # ranks that wait arrive again and again: that is no sign of life
            reign.ephemeral.alive(attempt, self._parts.clock.wall_ms())
        return await meeting.passed()

    # ---------------------------------------------------------------------------------------------------- the daemon

    async def status(self) -> DaemonPage:
        reign, settings = self.reign, self._parts.settings.daemon
        page = DaemonPage(
            version=ffd.__version__, role=self._role(), leader_address=self.leader.address if self.leader else "",
            epoch=self.leader.epoch if self.leader else 0, runtime=settings.runtime, store=settings.store,
            pid=os.getpid(), started_at_ms=self._started_at_ms,
        )  # fmt: skip
        if reign is None:
            return page
        return msgspec.structs.replace(
            page, epoch=reign.epoch, leader_address=self.address, commit_number=reign.barrier.durable,
            workflow_count=len(reign.state.workflows), ready_count=reign.ready_count(),
            running_count=reign.state.reserved_count, degraded=reign.degraded,
        )  # fmt: skip

    def _role(self) -> Any:
        if self.is_stopping:
            return "stopping"
        if self.reign is not None:
            return "leader"
        return "standby" if self.leader is not None else "starting"

    def metrics(self) -> str:
        return self._metrics.text()

    def _show_gauges(self) -> None:
        def gauge(name: str, text: str, read: Callable[[Reign], int]) -> None:
            self._metrics.gauge(name, text, lambda: read(self.reign) if self.reign else 0)

        gauge("ffd_leading", "1 while this daemon leads", lambda reign: 1)
        gauge("ffd_degraded", "1 while the storage is full", lambda reign: int(bool(reign.degraded)))
        gauge("ffd_inbox_depth", "Inputs that wait for the writer", lambda reign: len(reign.inbox))
        gauge("ffd_live_workflows", "Workflows in memory", lambda reign: len(reign.state.workflows))
        gauge("ffd_live_items", "Live items and waiting tasks", lambda reign: reign.state.item_count)
        gauge("ffd_ready_items", "Items that wait for room", lambda reign: reign.ready_count())
        gauge("ffd_reserved_attempts", "Attempts that hold room", lambda reign: reign.state.reserved_count)
        gauge("ffd_nodes", "Nodes of the inventory", lambda reign: len(reign.state.space.nodes))
        gauge("ffd_closed_nodes", "Nodes that take no new work", lambda reign: len(reign.state.space.closed))
        gauge("ffd_stale_reports", "Reports of superseded attempts", lambda reign: reign.state.stale_count)
        gauge("ffd_watchers", "Open watch streams", lambda reign: len(reign.publisher))
        gauge("ffd_timers", "Timers set", lambda reign: len(reign.timers))
        gauge("ffd_launch_backlog", "Attempts that wait for a launcher", lambda reign: len(reign.launcher))


def _superseded(attempt: AttemptId) -> Refusal:
    return Refusal(f"{attempt.label()} is not the live attempt any more", code="superseded")
