"""The other end of the network for tests of the command line: a scripted double of `ffd.api.client.Client`.

It answers from pages that a test put there, in the shapes of the client's contract, and remembers what was asked.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Self

import anyio
import msgspec

from ffd.api.engine import WatchPage
from ffd.api.shapes import LogBatch, LogLines, SubmitResult
from ffd.core.commands import Done, NodesMarked, TenantSet
from ffd.core.model import AttemptId
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
    TaskPage,
    TenantPage,
    WorkflowPage,
)
from ffd.errors import FfdError, Refusal


def lines(
    task: str, data: bytes, *, item: int = 0, attempt: int = 1, rank: int = 0, offset: int = 0, dropped_bytes: int = 0
) -> LogLines:
    """Some bytes of one replica's log."""
    return LogLines(task, item, attempt, rank, offset, data, dropped_bytes, offset + len(data))


class Network:
    """What the daemon would say. `fail[method]` raises instead; `on[method]` is called with the arguments."""

    def __init__(self) -> None:
        self.workflows: list[WorkflowPage] = []
        self.task_pages: dict[str, list[TaskPage]] = {}  # by handle
        self.item_pages: dict[tuple[str, str], list[ItemPage]] = {}
        self.explains: dict[tuple[str, str, int], Explain] = {}
        self.commits: list[tuple[EventPage, ...]] = []
        self.gaps: list[int] = []  # before these commits (index into commits) a watcher sees a gap once
        self.hold: anyio.Event | None = None  # a watch waits for it before it ends
        self.logs: list[LogLines] = []
        self.node_pages: list[NodePage] = []
        self.holds: tuple[HoldPage, ...] = ()  # of every node
        self.gpu_pages: list[GpuPage] = []
        self.drain_page = DrainPage(nodes=())
        self.stopping_count = 0  # by a drain
        self.queue_pages: list[QueuePage] = []
        self.tenant_pages: list[TenantPage] = []
        self.quota_pages: list[QuotaPage] = []
        self.share_pages: list[SharePage] = []
        self.daemon = DaemonPage(version="0.1.0", role="leader")
        self.submitted = SubmitResult(1, "hello.1", "default", False, ())
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.fail: dict[str, FfdError] = {}
        self.on: dict[str, Callable[[dict[str, Any]], None]] = {}

    async def connect(self, config: Any) -> Client:
        self._call("connect", address=config.address.text, project=config.project.text, token=config.token.text)
        return Client(self)

    def asked(self, method: str) -> list[dict[str, Any]]:
        """Arguments of all calls of one method."""
        return [arguments for name, arguments in self.calls if name == method]

    def _call(self, method: str, **arguments: Any) -> None:
        self.calls.append((method, arguments))
        if method in self.on:
            self.on[method](arguments)
        if method in self.fail:
            raise self.fail[method]

    def find(self, ref: str) -> WorkflowPage:
        for page in self.workflows:
            if ref in (page.handle, page.name, str(page.id)):
                return page
        raise Refusal(f'no workflow "{ref}"', code="not_found", hint="ffd ls shows what there is")


class Client:
    """Satisfies the client's contract, over a Network."""

    def __init__(self, network: Network) -> None:
        self.network = network

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.network.calls.append(("close", {}))

    async def submit(self, source: bytes, **more: Any) -> SubmitResult:
        self.network._call("submit", source=source, **more)
        return self.network.submitted

    async def get(self, ref: str) -> WorkflowPage:
        self.network._call("get", ref=ref)
        return self.network.find(ref)

    async def list(self, **query: Any) -> builtins.list[WorkflowPage]:
        self.network._call("list", **query)
        pages = [
            page
            for page in self.network.workflows
            if (not query["states"] or page.state in query["states"])
            and query["project"] in ("", page.project)
            and query["name"] in ("", page.name)
            and (query["before"] == 0 or page.id < query["before"])
        ]
        return sorted(pages, key=lambda page: -page.id)[: query["limit"]]

    async def all_tasks(self, ref: str) -> AsyncIterator[TaskPage]:
        self.network._call("all_tasks", ref=ref)
        for page in self.network.task_pages.get(self.network.find(ref).handle, []):
            yield page

    async def items(self, ref: str, task: str, *, after: int = -1, limit: int = 1000) -> builtins.list[ItemPage]:
        pages = self.network.item_pages.get((self.network.find(ref).handle, task), [])
        return [page for page in pages if page.item > after][:limit]

    async def why(self, ref: str, task: str = "", item: int = -1, what_if: Sequence[str] = ()) -> Explain:
        asked = {"what_if": list(what_if)} if what_if else {}
        self.network._call("why", ref=ref, task=task, item=item, **asked)
        try:
            return self.network.explains[(self.network.find(ref).handle, task, item)]
        except KeyError:
            raise Refusal(f"nothing to say about {task}", code="not_found") from None

    async def attempts(self, ref: str, task: str, item: int = 0) -> builtins.list[AttemptId]:
        return [AttemptId(1, task, item, number) for number in (1, 2)]

    async def _done(self, verb: str, ref: str, **more: Any) -> Done:
        self.network._call(verb, ref=ref, **more)
        page = self.network.find(ref)
        return Done(page.id, page.handle, page.state)

    async def cancel(self, ref: str, *, now: bool = False, key: str = "") -> Done:
        return await self._done("cancel", ref, now=now, key=key)

    async def suspend(self, ref: str, *, key: str = "") -> Done:
        return await self._done("suspend", ref, key=key)

    async def resume(self, ref: str, *, key: str = "") -> Done:
        return await self._done("resume", ref, key=key)

    async def retry(self, ref: str, *, key: str = "") -> Done:
        return await self._done("retry", ref, key=key)

    async def set_priority(self, ref: str, priority: int, *, key: str = "") -> Done:
        return await self._done("set_priority", ref, priority=priority, key=key)

    async def watch(self, ref: str = "", *, token: str = "") -> AsyncIterator[WatchPage]:
        network = self.network
        network._call("watch", ref=ref, token=token)
        index = 0
        while True:
            while index < len(network.commits):
                events = network.commits[index]
                index += 1
                if _position(token) >= (events[-1].number, events[-1].index):
                    continue
                if index - 1 in network.gaps:
                    network.gaps.remove(index - 1)
                    yield WatchPage(token="gap", gap=True)
                    return
                yield WatchPage(token=f"{events[-1].number}.{events[-1].index}", events=events)
            if network.hold is None:
                return
            await anyio.wait_all_tasks_blocked()
            network._call("hold")
            await network.hold.wait()
            network.hold = None

    async def story(self, ref: str, *, token: str = "", limit: int = 1000) -> WatchPage:
        self.network._call("story", ref=ref, token=token)
        others = [page.handle for page in self.network.workflows if ref and page is not self.network.find(ref)]
        for events in self.network.commits:
            if ref and events[0].handle in ("", *others):
                continue
            if _position(token) < (events[-1].number, events[-1].index):
                return WatchPage(token=f"{events[-1].number}.{events[-1].index}", events=events)
        return WatchPage(token=token)

    async def nodes(self) -> builtins.list[NodePage]:
        self.network._call("nodes")
        return self.network.node_pages

    async def node(self, name: str) -> NodeDetail:
        self.network._call("node", name=name)
        for page in self.network.node_pages:
            if page.name == name:
                return NodeDetail(node=page, holds=self.network.holds)
        raise Refusal(f"there is no node {name!r}", code="not_found", field="nodes")

    async def gpus(self) -> builtins.list[GpuPage]:
        return self.network.gpu_pages

    async def _mark(self, verb: str, nodes: Any, **more: Any) -> NodesMarked:
        self.network._call(verb, nodes=nodes, **more)
        return NodesMarked(tuple(nodes), self.network.stopping_count if verb == "drain" else 0)

    async def cordon(self, nodes: Any, **more: Any) -> NodesMarked:
        return await self._mark("cordon", nodes, **more)

    async def uncordon(self, nodes: Any, **more: Any) -> NodesMarked:
        return await self._mark("uncordon", nodes, **more)

    async def drain(self, nodes: Any, **more: Any) -> NodesMarked:
        return await self._mark("drain", nodes, **more)

    async def preview_drain(self, nodes: Any, **more: Any) -> DrainPage:
        self.network._call("preview_drain", nodes=nodes, **more)
        return self.network.drain_page

    async def queue(self, project: str = "") -> builtins.list[QueuePage]:
        self.network._call("queue", project=project)
        return self.network.queue_pages

    async def tenants(self) -> builtins.list[TenantPage]:
        return self.network.tenant_pages

    async def quotas(self, tenant: str = "") -> builtins.list[QuotaPage]:
        self.network._call("quotas", tenant=tenant)
        return [page for page in self.network.quota_pages if tenant in ("", page.tenant)]

    async def shares(self) -> builtins.list[SharePage]:
        return self.network.share_pages

    async def set_tenant(self, tenant: str, **more: Any) -> TenantSet:
        self.network._call("set_tenant", tenant=tenant, **more)
        return TenantSet(tenant)

    async def set_quota(self, tenant: str, changes: Any, **more: Any) -> TenantSet:
        self.network._call("set_quota", tenant=tenant, changes=changes, **more)
        return TenantSet(tenant)

    async def status(self) -> DaemonPage:
        self.network._call("status")
        return self.network.daemon

    async def stop_daemon(self) -> None:
        self.network._call("stop_daemon")

    async def follow_log(self, ref: str, task: str = "", **query: Any) -> AsyncIterator[LogBatch]:
        """All lines, or after the cursor (a count of what was given), or the end of each log."""
        self.network._call("follow_log", ref=ref, task=task, **query)
        given = int(query["cursor"] or 0)
        for index, whole in enumerate(self.network.logs[given:], start=given + 1):
            kept = whole
            if query["offset"] < 0 and len(whole.data) > -query["offset"]:
                kept = msgspec.structs.replace(whole, data=whole.data[query["offset"] :])
                kept = msgspec.structs.replace(kept, offset=len(whole.data) + query["offset"])
            if not query["ranks"] or whole.rank in query["ranks"]:
                yield LogBatch((kept,), str(index))


def _position(token: str) -> tuple[int, int]:
    """(number, index) of a token; "" = from now, that is after everything."""
    if not token:
        return (1 << 62, 0)
    number, _, index = token.partition(".")
    return (int(number), int(index))


class Story:
    """Builds commits of one workflow, one event each, a second apart."""

    def __init__(self, network: Network, handle: str = "hello.1", workflow: int = 1, at_ms: int = 0) -> None:
        self.network = network
        self.handle = handle
        self.workflow = workflow
        self.at_ms = at_ms

    def add(
        self, kind: str, task: str = "", item: int = -1, attempt: int = 0, text: str = "", **data: Any
    ) -> EventPage:
        """One more commit."""
        number = len(self.network.commits) + 1
        event = EventPage(
            number=number, index=1, at_ms=self.at_ms + number * 1000, kind=kind, workflow=self.workflow,
            handle=self.handle, task=task, item=item, attempt=attempt, text=text or kind, data=data,
        )  # fmt: skip
        self.network.commits.append((event,))
        return event

    def attempt(
        self, task: str, outcome: str, cause: dict[str, Any] | None = None, *, item: int = 0, attempt: int = 1,
        ends: bool = True,
    ) -> None:  # fmt: skip
        """A whole attempt of one item, from admission to its end."""
        self.add("ItemAdmitted", task, item, attempt, places=[["n1", [0]]])
        self.add("AttemptLaunching", task, item, attempt)
        self.add("AttemptRunning", task, item, attempt)
        self.add("AttemptEnded", task, item, attempt, outcome=outcome, outputs={}, cause=cause)
        if ends:
            self.add("ItemEnded", task, item, attempt, state=outcome, cause=cause)
