"""What the API needs of the daemon: one Protocol. `ffd.daemon` implements it (without the API knowing it), and
`ffd.testing` has it over a memory store. Every answer reflects only durable state.

Errors: Refusal (the user's), Unavailable (no leader here now; `hint` holds the leader's address), nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ffd.api.shapes import SnapshotHead
from ffd.core.commands import Answer, AnyCommand
from ffd.core.model import AttemptId, Rows
from ffd.core.pages import (
    DaemonPage,
    DrainPage,
    EventPage,
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
from ffd.plugins.ports import ListQuery, LogStore


class WatchPage(msgspec.Struct, frozen=True):
    """The events of one commit that a watcher may see. Ordered, unique, atomic per commit; `token` resumes after it.
    `gap` True: events before this page were lost to a slow reader; `events` is then empty, and the reader re-reads."""

    token: str
    events: tuple[EventPage, ...] = ()
    gap: bool = False


class TaskInputs(msgspec.Struct, frozen=True):
    """What an attempt may know: outputs of the tasks it needs, its binding, its restored checkpoint."""

    workflow: int
    handle: str
    project: str
    params: dict[str, Any]
    outputs: dict[str, dict[str, Any]]  # task -> output name -> value (lists for fan-outs); succeeded needs only
    binding: dict[str, Any]  # item / matrix
    checkpoint: dict[str, Any] | None


class BarrierState(msgspec.Struct, frozen=True):
    arrived_count: int
    replicas: int
    released: bool


class Engine(Protocol):
    """One leader's engine. All methods are safe to call from any task of the loop."""

    logs: LogStore

    async def ask(self, command: AnyCommand) -> Answer:
        """Queue a command; returns its answer after the commit that holds it."""
        ...

    async def tell(self, report: OutputsReported | CheckpointReported) -> None:
        """Queue a fact of the SDK; returns once durable. Refusal codes: superseded, output, limit."""
        ...

    async def resolve(self, text: str, project: str = "") -> int:
        """`name.N`, `name` or `name@latest` or `@latest`, a number, or a unique prefix of a handle -> workflow id.
        `project` "" = any project. Refusal not_found (with near names) or conflict (ambiguous: says which)."""
        ...

    async def workflow(self, workflow: int) -> WorkflowPage: ...

    async def workflows(self, query: ListQuery) -> list[WorkflowPage]:
        """Newest first; live and ended. The next page starts `before` the last id."""
        ...

    async def tasks(self, workflow: int, after: str = "", limit: int = 1000) -> list[TaskPage]:
        """In document order, from the one after the task named `after`."""
        ...

    async def items(self, workflow: int, task: str, after: int = -1, limit: int = 1000) -> list[ItemPage]: ...

    async def spec(self, workflow: int) -> dict[str, Any]:
        """The resolved document, as plain data."""
        ...

    async def why(
        self,
        workflow: int,
        task: str = "",
        item: int = -1,
        projects: frozenset[str] | None = None,
        what_if: Sequence[str] = (),
    ) -> Explain:
        """`projects`: what the reader may see of others, None = everything."""

    async def attempts(self, workflow: int, task: str, item: int) -> list[AttemptId]:
        """All attempts of an item so far, oldest first: whose logs can be read."""
        ...

    async def nodes(self, after: str = "", limit: int = 1000) -> list[NodePage]:
        """By name, from the one after `after`."""
        ...

    async def node(self, name: str) -> NodeDetail: ...

    async def gpus(self) -> list[GpuPage]: ...

    async def preview_drain(self, nodes: Sequence[str], labels: Mapping[str, str], grace_ms: int | None) -> DrainPage:
        """What a Drain of these nodes would do now; changes nothing. Refusal as of the command."""
        ...

    async def queue(self, project: str = "") -> list[QueuePage]: ...

    async def tenants(self) -> list[TenantPage]:
        """The whole tree, by path."""
        ...

    async def quotas(self) -> list[QuotaPage]: ...

    async def shares(self) -> list[SharePage]: ...

    async def snapshot(self) -> tuple[SnapshotHead, Rows]:
        """All that is live, as of one commit."""
        ...

    def watch(self, workflow: int = 0, token: str = "") -> AsyncIterator[WatchPage]:
        """Events from after `token` ("" = from now; "0.0" = from the beginning of the story), then as they happen. Ends
        when the watched workflow ended and all its events were given; for workflow 0 never."""
        ...

    async def story(self, workflow: int, token: str = "", limit: int = 1000) -> WatchPage:
        """Past events, one page; an empty page = no more now. Workflow 0 = of all, and of the cluster."""
        ...

    async def status(self) -> DaemonPage: ...

    # ------------------------------------------------------------------ for tasks; ephemeral: never in the story

    async def check(self, attempt: AttemptId) -> None:
        """Refusal superseded unless the attempt is its item's live one."""
        ...

    async def inputs(self, attempt: AttemptId) -> TaskInputs: ...

    async def progress(self, attempt: AttemptId, rank: int, values: dict[str, Any]) -> None:
        """A sign of life with progress (step, total) and metrics; the latest is kept and shown."""
        ...

    async def heartbeat(self, attempt: AttemptId, rank: int) -> str:
        """A sign of life. Answers "" or the reason why the attempt is asked to stop."""
        ...

    async def barrier(self, attempt: AttemptId, rank: int, name: str) -> BarrierState:
        """Arrive (idempotent per rank) and wait until all replicas did or the call is cancelled."""
        ...

    def metrics(self) -> str:
        """Prometheus text."""
        ...
