"""The Protocols a plugin implements: Store, Runtime, LogStore, Auth. Small on purpose.

Never here: implementations. Called by `daemon` and `api`; implemented in `plugins/*`; each has a conformance suite in
`ffd.testing.conformance` that every implementation and every fake passes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal, Protocol

import msgspec

from ffd.core.effects import Launch
from ffd.core.events import AnyEvent
from ffd.core.model import AttemptId, Listing, Node, Rows
from ffd.core.reports import AnyReport

# ---------------------------------------------------------------------------------------------------------- store


class Lease(msgspec.Struct, frozen=True):
    """Leadership over one database. `epoch` grows by one with each new holder. `renewed` monotonic time is the caller's
    business: it must be read *before* the call that returned this."""

    epoch: int
    owner: str
    ttl_ms: int


class LeaseInfo(msgspec.Struct, frozen=True):
    """Who holds the lease now, as a standby sees it. `address` is where the holder serves."""

    epoch: int
    owner: str
    address: str


class Head(msgspec.Struct, frozen=True):
    """The last commit: number (0 = none) and chained digest."""

    number: int
    digest: bytes


class Batch(msgspec.Struct, frozen=True):
    """One commit: all of it or nothing. `number` is the previous head's plus one; `at_ms` is the instant of all its
    events. `rows` are upserts of encoded rows; `listings` go with
    each workflow row that changed. `events` go to the story as one entry per workflow run of
    consecutive events, in order."""

    epoch: int
    number: int
    at_ms: int
    events: Sequence[AnyEvent]
    rows: Rows
    listings: Sequence[Listing] = ()


class StoryEntry(msgspec.Struct, frozen=True):
    """Some consecutive events of one commit. `index` is the position of the first in its commit."""

    number: int
    index: int
    at_ms: int
    events: tuple[AnyEvent, ...]


class Loaded(msgspec.Struct, frozen=True):
    """Everything a reign starts from: the head, and rows of live workflows (with their specs) and all meta."""

    head: Head
    rows: Rows


class ListQuery(msgspec.Struct, frozen=True):
    """Keyset page of listings, newest first (descending workflow id). `before` 0 = from the newest; "" = any.
    `number` with `name` finds one handle; 0 = any."""

    project: str = ""
    name: str = ""
    number: int = 0
    states: tuple[str, ...] = ()
    by: str = ""
    before: int = 0
    limit: int = 100


class Verdict(msgspec.Struct, frozen=True):
    """Result of Store.verify: `faults` in words, empty = sound."""

    commits: int
    events: int
    faults: tuple[str, ...]


class Store(Protocol):
    """Durable rows + story + lease. One writer (the lease holder); any number of readers.

    Errors: Fenced (a higher epoch exists), Unavailable (try again), Refusal(code="storage_full") from `commit` when the
    disk is full: nothing was written and the same batch may be committed later, PluginError (operator must act).
    Cancelling a caller never interrupts a commit half-way: it completes or not, and `head()` tells."""

    async def hold(self, owner: str, address: str, ttl_ms: int, now_ms: int, epoch: int = 0) -> Lease | LeaseInfo:
        """Take the lease if it is free, expired by `ttl_ms` after its last renewal *as this caller measured it*, or
        renew it when `epoch` is ours. Returns Lease when we hold it, else who does. Safe to call repeatedly.
        Expiry is judged by the standby's own monotonic waiting: the row carries a renewal counter, and a standby that
        saw the same counter for `ttl_ms` of its own `now_ms` (monotonic milliseconds) may take over."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give the lease up so that a standby need not wait. No-op when not ours any more."""
        ...

    async def load(self, lease: Lease | None) -> Loaded:
        """Rows of live workflows and the head, as of one commit: for a new reign. Without a lease only to look: nothing
        is fenced or settled, and the writer is not held up."""
        ...

    async def commit(self, batch: Batch) -> Head:
        """Durably append one batch. Refuses (Fenced) a lower epoch inside the transaction, and a number that does not
        follow the head. Committing a batch that is already the head (same epoch, number) returns the head again."""
        ...

    async def head(self) -> Head: ...

    async def read_workflow(self, workflow: int) -> Rows:
        """All rows of one workflow, live or ended, and its spec; empty when unknown."""
        ...

    async def list_workflows(self, query: ListQuery) -> list[Listing]: ...

    async def read_story(self, after: tuple[int, int], workflow: int = 0, limit: int = 1000) -> list[StoryEntry]:
        """Story entries after position (commit number, event index), oldest first; `workflow` 0 = all. `limit` counts
        entries. An entry whose first index is before the position is cut."""
        ...

    async def sweep(self, now_ms: int, success_ms: int, failure_ms: int, limit: int) -> list[int]:
        """Retention: remove up to `limit` ended workflows (rows, story, specs nobody uses) older than the policy for
        their state; returns their ids. 0 = keep for ever."""
        ...

    async def verify(self) -> Verdict:
        """Check the digest chain of all commits and each stored story entry against it, and that the head is not below
        the high-water mark."""
        ...

    async def close(self) -> None: ...


# -------------------------------------------------------------------------------------------------------- runtime


class Found(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """One replica that exists in reality. `ref` is the runtime's own handle (a pid, a pod uid), for people."""

    attempt: AttemptId
    rank: int
    ref: str = ""


Credentials = Callable[[], dict[str, str]]  # FFD_ADDRESS and FFD_TOKEN of the attempt; made when called
Reports = list[AnyReport]  # spelled here, because inside the class `list` is a method


class Runtime(Protocol):
    """Runs gangs. At-least-once and level-triggered: whatever is seen becomes a report; the core sorts out staleness.

    `launch` and `stop` are idempotent by (attempt, rank): launching what exists (or existed) starts nothing a second
    time but reports it again; stopping what is gone reports its exit again."""

    async def launch(self, order: Launch, credentials: Credentials) -> None:
        """Start all replicas, each with `credentials()` added to its environment (who starts nothing need not call it).
        Returns when the starts were attempted; each rank then yields ReplicaStarted or LaunchFailed."""
        ...

    async def stop(self, attempt: AttemptId, ranks: int, grace_ms: int, reason: str) -> None:
        """Ask (notice + TERM), wait `grace_ms` in the background, then KILL; yields ReplicaExited for each rank, also
        for ranks that do not exist. Returns at once. A shorter grace on a second call wins."""
        ...

    async def list(self) -> list[Found]:
        """Replicas that live now, sorted. Also adopts them: their exits will come from `watch`, and so do the exits of
        replicas that ended while nobody watched (until the core forgets their workflow)."""
        ...

    def watch(self) -> AsyncIterator[Reports]:
        """Reports in batches, in the order seen, for ever; one consumer. Starts with what `list` found ended."""
        ...

    async def inventory(self) -> tuple[Node, ...]: ...

    async def forget(self, attempts: Sequence[AttemptId]) -> None:
        """The end of these attempts is durable: their exits need not be reported again."""
        ...

    async def close(self) -> None:
        """Stop watching; never stops a task."""
        ...


# ----------------------------------------------------------------------------------------------------------- logs


class Chunk(msgspec.Struct, frozen=True):
    """A piece of one replica's log. `offset` is where `data` starts in the stream of all bytes ever written, so
    `offset - asked offset` bytes were dropped when > 0. `next_offset` is where to read on. `eof`: nothing more now."""

    offset: int
    data: bytes
    next_offset: int
    dropped_bytes: int = 0
    eof: bool = False


class LogStore(Protocol):
    """Reads what replicas wrote. Offsets count bytes from the replica's first, for ever (also past dropped ranges)."""

    async def read(self, attempt: AttemptId, rank: int, offset: int, limit_bytes: int) -> Chunk:
        """From `offset`; negative = that many bytes before the end. An unknown log reads as empty with eof."""
        ...

    async def wait(self, attempt: AttemptId, rank: int, offset: int, timeout_ms: int) -> bool:
        """Return True as soon as there are bytes past `offset`, False after the timeout."""
        ...

    async def ranks(self, attempt: AttemptId) -> list[int]:
        """Ranks that have a log, ascending."""
        ...

    async def touched_at_ms(self, attempt: AttemptId) -> int:
        """When any replica of the attempt last wrote (Unix ms); 0 = never or unknown."""
        ...

    async def remove(self, workflow: int) -> None:
        """Delete all logs and files of a workflow (retention)."""
        ...


# ----------------------------------------------------------------------------------------------------------- auth


class Principal(msgspec.Struct, frozen=True):
    """Who calls. `kind` user: `projects` are what they may use ("*" = all); `admin` may do everything.
    kind task: bound to one attempt."""

    name: str
    kind: Literal["user", "task"] = "user"
    admin: bool = False
    projects: tuple[str, ...] = ("*",)
    attempt: AttemptId | None = None


class Auth(Protocol):
    """Turns a bearer token (or "" with the transport's own identity) into a Principal, or raises Refusal
    (unauthenticated)."""

    async def authenticate(self, token: str, peer: str) -> Principal: ...
