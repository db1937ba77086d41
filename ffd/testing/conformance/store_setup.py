"""What checks of a store start from: handles and leases, and small batches whose events, rows and listings fit.

Used by `store`, `store_random` and by the tests of each store. Never here: what a store promises.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from ffd.core import events as ev
from ffd.core.model import AttemptId, Cause, Listing, Node, Outcome, Place, Quota, Rows
from ffd.core.spec import Spec, Task
from ffd.errors import FfdError
from ffd.plugins.ports import Batch, Head, Lease, Store, StoryEntry

_encode = msgspec.msgpack.Encoder().encode

AT_MS = 1_700_000_000_000  # the instant of commit 0; commit n happens n seconds later
TTL_MS = 1_000
DAY_MS = 86_400_000

Opener = Callable[[], Awaitable[Store]]
Check = Callable[[Opener], Coroutine[Any, Any, None]]
E = TypeVar("E", bound=FfdError)


@asynccontextmanager
async def opened(opener: Opener) -> AsyncIterator[Store]:
    store = await opener()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def leading(opener: Opener) -> AsyncIterator[tuple[Store, Lease]]:
    """A store whose lease we hold."""
    async with opened(opener) as store:
        yield store, await lead(store)


async def lead(store: Store) -> Lease:
    """Take the lease, which must be free."""
    lease = await store.hold("leader", "here:1", TTL_MS, 0)
    assert isinstance(lease, Lease), lease
    return lease


async def raises(kind: type[E], awaitable: Awaitable[object]) -> E:
    """The error of exactly this kind that `awaitable` must raise."""
    try:
        await awaitable
    except FfdError as error:
        assert type(error) is kind, f"expected {kind.__name__}, got {type(error).__name__}: {error}"
        return error
    raise AssertionError(f"expected {kind.__name__}, nothing was raised")


async def commit(store: Store, lease: Lease, *parts: Part) -> Head:
    """Commit the parts after the head."""
    return await store.commit(batch(lease.epoch, (await store.head()).number + 1, *parts))


async def all_entries(store: Store) -> list[StoryEntry]:
    """The whole story, read page by page as a replay does."""
    entries: list[StoryEntry] = []
    after = (0, 0)
    while page := await store.read_story(after, limit=7):
        entries += page
        after = (page[-1].number, page[-1].index + len(page[-1].events) - 1)
    return entries


# -------------------------------------------------------------------------------------------------- batches


class Part(msgspec.Struct):
    """One change of a batch: its events, and what they do to the rows."""

    events: list[ev.AnyEvent] = []
    rows: Rows = msgspec.field(default_factory=Rows)
    listings: list[Listing] = []


def batch(epoch: int, number: int, *parts: Part) -> Batch:
    """One commit of all parts, in order; of the same row, the last one counts."""
    rows = Rows()
    listings: dict[int, Listing] = {}
    for part in parts:
        for field in rows.__struct_fields__:
            getattr(rows, field).update(getattr(part.rows, field))
        listings.update({listing.workflow: listing for listing in part.listings})
    events = tuple(event for part in parts for event in part.events)
    return Batch(epoch, number, AT_MS + number * 1000, events, rows, tuple(listings.values()))


def document(digest: str, size_bytes: int = 0) -> Spec:
    train = Task("train", "run", script="true ${FFD_EXPR_1}", bindings={"FFD_EXPR_1": "1"})
    return Spec(f"name-of-{digest}", (train,), description="x" * size_bytes)


def added(digest: str, size_bytes: int = 0) -> Part:
    """A document enters."""
    spec = document(digest, size_bytes)
    return Part([ev.SpecAdded(digest, spec)], Rows(specs={digest: _encode(spec)}))


def listing(workflow: int, state: str = "running", ended_at_ms: int = 0, keep_ms: int = 0) -> Listing:
    name, project, by = f"name-{workflow % 3}", f"project-{workflow % 2}", f"user-{workflow % 5 // 3}"
    return Listing(
        workflow, project, name, workflow // 3, state, by, not ended_at_ms, AT_MS, ended_at_ms, keep_ms
    )  # fmt: skip


def accepted(workflow: int, digest: str = "a") -> Part:
    """A workflow enters and starts."""
    it = listing(workflow)
    enters = ev.WorkflowAccepted(workflow, it.name, it.number, it.project, digest, {"x": [1]}, 500, it.by, "", {})
    rows = Rows(workflows={workflow: b"running"}, meta={"next_workflow": b"%d" % (workflow + 1)})
    return Part([enters, ev.WorkflowStarted(workflow)], rows, [it])


def progress(workflow: int, task: str, items: Sequence[int], row: bytes = b"item") -> Part:
    """Some items of a task begin to run."""
    events: list[ev.AnyEvent] = []
    for item in items:
        attempt = AttemptId(workflow, task, item, 1)
        events += [ev.ItemAdmitted(attempt, (Place("node-1", (0, 1)),)), ev.AttemptLaunching(attempt)]
    rows = Rows(tasks={(workflow, task): b"task"}, items={(workflow, task, item): row for item in items})
    return Part(events, rows)


def ended(workflow: int, state: str = "succeeded", ended_at_ms: int = AT_MS, keep_ms: int = 0) -> Part:
    """A workflow ends: its row stays, but recovery does not load it any more."""
    outcome = msgspec.convert(state, Outcome)
    events: list[ev.AnyEvent] = [ev.WorkflowEnded(workflow, outcome, None), ev.WorkflowForgotten(workflow)]
    rows = Rows(workflows={workflow: state.encode()})
    return Part(events, rows, [listing(workflow, state, ended_at_ms, keep_ms)])


def reopened(workflow: int) -> Part:
    """A user retries an ended workflow."""
    rows = Rows(workflows={workflow: b"reopened"})
    return Part([ev.WorkflowReopened(workflow, 2, ("train",), (), "me")], rows, [listing(workflow)])


def inventory(*names: str) -> Part:
    """The nodes are now these."""
    nodes = tuple(Node(name, labels={"rack": "r1"}) for name in names)
    return Part([ev.NodesChanged(nodes)], Rows(meta={"nodes": _encode(nodes)}))


_ATTEMPT = AttemptId(7, "train", 3, 2)
_CAUSE = Cause("error", "exit code 3", rank=1, exit_code=3, tail="\x1b[31mraw\x00", task="train", item=3, attempt=2)
SAMPLES: tuple[ev.AnyEvent, ...] = (
    ev.SpecAdded("b", document("b")),
    ev.KeyRemembered("project/Submit/key", "payload", 7),
    ev.WorkflowAccepted(7, "name", 2, "project", "b", {"lr": 0.1, "é": [None, True]}, 9, "me", "/x", {"a": "b"}),
    ev.WorkflowStarted(7),
    ev.WorkflowSuspended(7, "me"),
    ev.WorkflowResumed(7, "me"),
    ev.WorkflowDoomed(7, "cancelled", True, _CAUSE, "me"),
    ev.WorkflowFinalizing(7, "failed", _CAUSE),
    ev.WorkflowEnded(7, "failed", None),
    ev.WorkflowReopened(7, 2, ("a", "b"), (("train", 3),), "me"),
    ev.WorkflowForgotten(7),
    ev.PriorityChanged(7, 900, "me"),
    ev.TaskOpened(7, "train", 2, [1, {"k": "v"}]),
    ev.TaskEnded(7, "train", "skipped", None),
    ev.ItemAdmitted(_ATTEMPT, (Place("n1", (0, 7)), Place("n2"))),
    ev.AttemptLaunching(_ATTEMPT),
    ev.ReplicaStarted(_ATTEMPT, 1),
    ev.AttemptRunning(_ATTEMPT),
    ev.ReplicaEnded(_ATTEMPT, 1, 137),
    ev.AttemptStopping(_ATTEMPT, _CAUSE, 10_000),
    ev.OutputsSet(_ATTEMPT, {"loss": 0.25}),
    ev.CheckpointSaved(_ATTEMPT, {"step": 100}),
    ev.AttemptEnded(_ATTEMPT, "failed", _CAUSE, {}),
    ev.ItemBackedOff(_ATTEMPT, AT_MS + 5, True),
    ev.ItemReady(_ATTEMPT),
    ev.ItemEnded(_ATTEMPT, "failed", _CAUSE),
    ev.NodesChanged((Node("n1", "H100", 8, labels={"zone": "z"}), Node("n2"))),
    ev.NodeCordoned("n1", "me", "its fan", True),
    ev.NodeUncordoned("n1", "me"),
    ev.NodeFailed("n1", "gpu-error", _ATTEMPT),
    ev.NodeQuarantined("n1", 1_700_000_000_000, "3 failures"),
    ev.NodeOnProbation("n1"),
    ev.NodeProven("n1", _ATTEMPT),
    ev.TenantChanged("research/llm", 2_500, False, "me"),
    ev.TenantMoved("research/llm", "", "me"),
    ev.QuotaChanged("research", "gpus/H100", Quota(64_000, None, 8_000), "me"),
    ev.QuotaChanged("research", "gpus", None, "me"),
    ev.UsageNoted(1_700_000_000_000, {"research": {"gpus": 1 << 40}}),
)  # fmt: skip
