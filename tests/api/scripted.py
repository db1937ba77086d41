"""What the API tests stand on: a small engine that a test scripts, over the real log store, and a served API.

The engine keeps the promises of `ffd.api.engine` that the API relies on: commits are ordered and atomic, tokens resume,
an idempotency key has one effect. It decides nothing: tests put pages and events into it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec

from ffd.api.authz import TokenMinter
from ffd.api.client import Client
from ffd.api.engine import BarrierState, TaskInputs, WatchPage
from ffd.api.limits import ApiLimits
from ffd.api.server import ApiServer
from ffd.api.shapes import SnapshotHead
from ffd.core.commands import (
    Accepted,
    Answer,
    AnyCommand,
    Done,
    Drain,
    NodesMarked,
    OfNodes,
    SetQuota,
    SetTenant,
    Submit,
    TenantSet,
)
from ffd.core.model import AttemptId, Rows
from ffd.core.pages import (
    DaemonPage,
    DrainPage,
    EventPage,
    Explain,
    GpuPage,
    HoldPage,
    ItemPage,
    NodeDetail,
    NodePage,
    QueuePage,
    QuotaPage,
    SharePage,
    StopPage,
    TaskPage,
    TenantPage,
    WorkflowPage,
)
from ffd.core.reports import CheckpointReported, OutputsReported
from ffd.errors import FfdError, Refusal
from ffd.plugins.auth.local import LocalAuth
from ffd.plugins.logs.files import FileLogs
from ffd.plugins.ports import Chunk, ListQuery

KEY = bytes(range(32))
HELLO = b"name: hello\ntasks: {hi: {run: echo hi}}\n"
ENDS = ("succeeded", "failed", "cancelled")


class GrownLogs(FileLogs):
    """The real log store. `grow` appends as a replica would; `reads_count` counts."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self._directory = state_dir / "runs"
        self.reads_count = 0

    def grow(self, attempt: AttemptId, rank: int, data: bytes) -> None:
        path = self._directory / f"{attempt.replica_path(rank)}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)

    def drop(self, attempt: AttemptId, rank: int, start: int, end: int) -> None:
        (self._directory / f"{attempt.replica_path(rank)}.dropped").write_text(f"{start} {end}")

    async def read(self, attempt: AttemptId, rank: int, offset: int, limit_bytes: int) -> Chunk:
        self.reads_count += 1
        return await super().read(attempt, rank, offset, limit_bytes)


class ScriptedEngine:
    """`fail` makes every call raise it. `asked` and `told` remember what came."""

    def __init__(self, directory: Path) -> None:
        self.logs = GrownLogs(directory)
        self.page = DaemonPage(version="0", role="leader", leader_address="unix:/run/ffd.sock", epoch=3)
        self.pages: dict[int, WorkflowPage] = {}
        self.task_pages: dict[int, list[TaskPage]] = {}
        self.item_pages: dict[tuple[int, str], list[ItemPage]] = {}
        self.commits: list[tuple[EventPage, ...]] = []
        self.gap_before: int = 0  # a live watcher gets a gap instead of commits up to this one, once
        self.nodes_count = 1
        self.tenant_pages = [
            TenantPage(tenant="/"),
            TenantPage(tenant="default", parent="/"),
            TenantPage(tenant="other", parent="/"),
            TenantPage(tenant="team", parent="/", weight=2.0, declared=True),
            TenantPage(tenant="team/mine", parent="team", workflow_count=1),
            TenantPage(tenant="team/yours", parent="team"),
        ]
        self.rows = Rows()
        self.asked: list[AnyCommand] = []
        self.told: list[Any] = []
        self.superseded: set[AttemptId] = set()
        self.fail: FfdError | None = None
        self.hold: anyio.Event | None = None  # `ask` waits for it,
        self.holding = anyio.Event()  # and says so
        self.watchers_count = 0
        self.watching = anyio.Event()
        self._keys: dict[tuple[str, str, str], tuple[str, Answer]] = {}
        self._committed = anyio.Event()

    # -------------------------------------------------------------------------------------------------- for tests

    def add(self, name: str = "hello", project: str = "default", state: str = "running", **more: Any) -> WorkflowPage:
        number = len(self.pages) + 1
        page = WorkflowPage(id=number, handle=f"{name}.{number}", name=name, project=project, state=state, **more)
        self.pages[number] = page
        self.task_pages[number] = []
        return page

    def add_task(self, workflow: int, name: str, items: int = 1, **more: Any) -> None:
        handle = self.pages[workflow].handle
        self.task_pages[workflow].append(TaskPage(workflow=handle, name=name, state="running", **more))
        self.item_pages[(workflow, name)] = [
            ItemPage(workflow=handle, task=name, item=item, state="running") for item in range(items)
        ]

    def commit(self, *events: dict[str, Any]) -> int:
        """One commit of these events; its number. WorkflowEnded ends its workflow."""
        number = len(self.commits) + 1
        for event in events:
            if event["kind"] == "WorkflowEnded":
                workflow = event["workflow"]
                self.pages[workflow] = msgspec.structs.replace(self.pages[workflow], state="succeeded")
        pages = tuple(EventPage(number=number, index=index, at_ms=0, **event) for index, event in enumerate(events))
        self.commits.append(pages)
        committed, self._committed = self._committed, anyio.Event()
        committed.set()
        return number

    def attempt_event(self, kind: str, attempt: AttemptId) -> None:
        self.commit(
            {"kind": kind, "workflow": attempt.workflow, "task": attempt.task, "item": attempt.item,
             "attempt": attempt.attempt}
        )  # fmt: skip

    def _check(self) -> None:
        if self.fail is not None:
            raise type(self.fail)(self.fail.message, code=self.fail.code, hint=self.fail.hint, field=self.fail.field)

    # ------------------------------------------------------------------------------------------------- the protocol

    async def ask(self, command: AnyCommand) -> Answer:
        self._check()
        if self.hold is not None:
            self.holding.set()
            await self.hold.wait()
        scope = (command.project, type(command).__name__, command.key)
        known = self._keys.get(scope) if command.key else None
        if known is not None and known[0] != command.payload_digest:
            raise Refusal("this idempotency key was used for something else", code="conflict", field="key")
        if known is not None:
            return _duplicate(known[1])
        self.asked.append(command)
        if isinstance(command, Submit):
            page = self.add(command.spec.name, command.project)
            answer: Answer = Accepted(page.id, page.handle, page.project)
        elif isinstance(command, OfNodes):
            answer = NodesMarked(command.nodes or ("n1",), stopping_count=3 if isinstance(command, Drain) else 0)
        elif isinstance(command, SetTenant | SetQuota):
            answer = TenantSet(command.tenant)
        else:
            page = self.pages[command.workflow]
            answer = Done(page.id, page.handle, page.state)
        self._keys[scope] = (command.payload_digest, answer)
        return answer

    async def tell(self, report: OutputsReported | CheckpointReported) -> None:
        await self.check(report.attempt)
        self.told.append(report)

    async def resolve(self, text: str, project: str = "") -> int:
        self._check()
        for page in reversed(self.pages.values()):
            if text == str(page.id) or (project in ("", page.project) and text in (page.handle, page.name)):
                return page.id
        raise Refusal(f"there is no workflow {text}", code="not_found", field="ref", hint=f"near: {len(self.pages)}")

    async def workflow(self, workflow: int) -> WorkflowPage:
        self._check()
        return self.pages[workflow]

    async def workflows(self, query: ListQuery) -> list[WorkflowPage]:
        self._check()
        found = [
            page
            for page in reversed(self.pages.values())
            if query.project in ("", page.project)
            and query.name in ("", page.name)
            and (not query.states or page.state in query.states)
            and (not query.before or page.id < query.before)
        ]
        return found[: query.limit]

    async def tasks(self, workflow: int, after: str = "", limit: int = 1000) -> list[TaskPage]:
        names = [page.name for page in self.task_pages[workflow]]
        start = names.index(after) + 1 if after else 0
        return self.task_pages[workflow][start : start + limit]

    async def items(self, workflow: int, task: str, after: int = -1, limit: int = 1000) -> list[ItemPage]:
        if (workflow, task) not in self.item_pages:
            raise Refusal(f"there is no task {task}", code="not_found", field="task")
        return self.item_pages[(workflow, task)][after + 1 : after + 1 + limit]

    async def attempts(self, workflow: int, task: str, item: int) -> list[AttemptId]:
        seen = {
            AttemptId(event.workflow, event.task, event.item, event.attempt): None
            for events in self.commits
            for event in events
            if (event.workflow, event.task, event.item) == (workflow, task, item) and event.attempt
        }
        return sorted(seen)

    async def spec(self, workflow: int) -> dict[str, Any]:
        return {"name": self.pages[workflow].name, "tasks": []}

    async def why(
        self,
        workflow: int,
        task: str = "",
        item: int = -1,
        projects: frozenset[str] | None = None,
        what_if: Sequence[str] = (),
    ) -> Explain:
        return Explain(
            subject=f"{workflow}/{task}[{item}]",
            state="ready",
            headline="in the queue",
            hints=(*what_if, f"seen: {sorted(projects) if projects is not None else 'all'}"),
        )

    async def nodes(self, after: str = "", limit: int = 1000) -> list[NodePage]:
        pages = [NodePage(name=f"n{number + 1}", gpu_count=8) for number in range(self.nodes_count)]
        return [page for page in pages if page.name > after][:limit]

    async def node(self, name: str) -> NodeDetail:
        holds = (
            HoldPage(workflow="a.1", project="default", task="t", item=0, attempt=1, replica_count=1, gpus=(0,)),
            HoldPage(workflow="b.1", project="other", task="t", item=0, attempt=1, replica_count=1, gpus=(2,)),
            HoldPage(workflow="c.1", project="third", task="t", item=0, attempt=1, replica_count=2, gpus=(1, 3)),
        )
        return NodeDetail(node=NodePage(name=name, gpu_count=8), holds=holds)

    async def gpus(self) -> list[GpuPage]:
        return [GpuPage(model="H100", total_count=8, free_count=8, gang_replicas=1, gang_gpus_count=8)]

    async def preview_drain(self, nodes: Sequence[str], labels: Mapping[str, str], grace_ms: int | None) -> DrainPage:
        stop = StopPage(workflow="a.1", task="t", replica_count=2, grace_ms=-1 if grace_ms is None else grace_ms)
        return DrainPage(nodes=tuple(nodes) or ("n1",), stops=(stop,), replica_count=2)

    async def queue(self, project: str = "") -> list[QueuePage]:
        pages = [
            QueuePage(position=1, project="default", gang="1 x", waiting_count=1, head="a.1/t", reason="no room"),
            QueuePage(position=2, project="other", gang="1 x", waiting_count=1, head="b.1/t", reason="no room"),
        ]
        return [page for page in pages if project in ("", page.project)]

    async def snapshot(self) -> tuple[SnapshotHead, Rows]:
        self._check()
        return SnapshotHead("0.1.0", 7, 1_000, b"policy", b"limits"), self.rows

    async def tenants(self) -> list[TenantPage]:
        self._check()
        return self.tenant_pages

    async def quotas(self) -> list[QuotaPage]:
        return [
            QuotaPage(tenant=page.tenant, resource="gpus", used=3.0, nominal=4.0, lend_max=0.5)
            for page in self.tenant_pages
        ]

    async def shares(self) -> list[SharePage]:
        return [
            SharePage(tenant=page.tenant, parent=page.parent, dominant="gpus", share=0.25) for page in self.tenant_pages
        ]

    async def watch(self, workflow: int = 0, token: str = "") -> AsyncIterator[WatchPage]:
        self._check()
        after = _number(token) if token else len(self.commits)
        self.watchers_count += 1
        self.watching.set()
        try:
            while True:
                committed = self._committed
                while after < len(self.commits):
                    after += 1
                    if after <= self.gap_before:
                        after, self.gap_before = self.gap_before, 0
                        yield WatchPage(f"{after}.9", gap=True)
                        continue
                    self._check()
                    events = tuple(event for event in self.commits[after - 1] if workflow in (0, event.workflow))
                    if events:
                        yield WatchPage(f"{after}.9", events)
                    if workflow and any(event.kind == "WorkflowEnded" for event in events):
                        return
                if workflow and self.pages[workflow].state in ENDS:
                    return
                await committed.wait()
                self._check()
        finally:
            self.watchers_count -= 1

    async def story(self, workflow: int, token: str = "", limit: int = 1000) -> WatchPage:
        after = _number(token)
        while after < len(self.commits):
            after += 1
            events = tuple(event for event in self.commits[after - 1] if event.workflow == workflow)
            if events:
                return WatchPage(f"{after}.9", events)
        return WatchPage(token)

    async def status(self) -> DaemonPage:
        return self.page

    async def check(self, attempt: AttemptId) -> None:
        self._check()
        if attempt in self.superseded:
            raise Refusal(f"{attempt.label()} is not the live attempt any more", code="superseded")

    async def inputs(self, attempt: AttemptId) -> TaskInputs:
        await self.check(attempt)
        return TaskInputs(attempt.workflow, "hello.1", "default", {"a": 1}, {"up": {"x": 2}}, {"item": 3}, {"step": 4})

    async def progress(self, attempt: AttemptId, rank: int, values: dict[str, Any]) -> None:
        await self.check(attempt)
        self.told.append((attempt, rank, values))

    async def heartbeat(self, attempt: AttemptId, rank: int) -> str:
        await self.check(attempt)
        return "preempted"

    async def barrier(self, attempt: AttemptId, rank: int, name: str) -> BarrierState:
        await self.check(attempt)
        if rank == 1:
            self.watching.set()
            await anyio.sleep_forever()
        return BarrierState(2, 2, True)

    def metrics(self) -> str:
        return "ffd_up 1\n"


def _number(token: str) -> int:
    head = token.partition(".")[0]
    if token and not head.isdecimal():
        raise Refusal("not a token of this API", field="token")
    return int(head or 0)


def _duplicate(answer: Answer) -> Answer:
    return msgspec.structs.replace(answer, duplicate=True)


class Served:
    """A served engine. `stops` counts how often it was asked to stop."""

    def __init__(self, engine: ScriptedEngine, server: ApiServer, tokens: TokenMinter) -> None:
        self.engine = engine
        self.server = server
        self.tokens = tokens
        self.stops: list[str] = []

    @property
    def unix(self) -> str:
        return self.server.addresses[0]

    @property
    def http(self) -> str:
        return next(address for address in self.server.addresses if address.startswith("http"))

    def task_token(self, attempt: AttemptId) -> str:
        return self.tokens.mint(attempt, time.time() + 60)

    @asynccontextmanager
    async def client(self, **more: Any) -> AsyncIterator[Client]:
        async with await Client.connect(self.unix, **more) as client:
            yield client


@asynccontextmanager
async def served(
    directory: Path, *, engine: ScriptedEngine | None = None, limits: ApiLimits | None = None,
    http: tuple[str, ...] = ("http://127.0.0.1:0",), **more: Any,
) -> AsyncIterator[Served]:  # fmt: skip
    """An API over a scripted engine, on a unix socket and on HTTP; stopped at the end."""
    engine = engine or ScriptedEngine(directory / "logs")
    tokens = TokenMinter(KEY, time.time)
    stops: list[str] = []
    options = {"auth": LocalAuth(), "listen": (f"unix:{directory}/ffd.sock",), **more}
    server = ApiServer(engine, tokens=tokens, http=http, limits=limits, stop=lambda: stops.append("stop"), **options)
    await server.start()
    found = Served(engine, server, tokens)
    found.stops = stops
    try:
        yield found
    finally:
        await server.aclose(grace_ms=1_000)
        await engine.logs.close()
