"""Events: what was decided. Stored in the story, and the only thing that changes state (`State.apply`).

Frozen, made by the stages of the core only. They carry no instant: all events of one step happen at the instant of
their commit, which travels beside them. Folding all events of the story gives exactly the stored rows (S22).
The wire form is a msgpack array headed by the type's name; fields are only ever appended (old stories stay readable).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ffd.core.model import AttemptId, Cause, Node, Outcome, Place, Quota
from ffd.core.spec import Spec


class Event(msgspec.Struct, frozen=True, tag=True, array_like=True, gc=False):
    """Common head."""


# ---------------------------------------------------------------------------------------------------- workflow


class SpecAdded(Event, frozen=True, gc=False):
    """A document enters memory; workflows share it by digest. It leaves with the last of them."""

    digest: str
    spec: Spec


class KeyRemembered(Event, frozen=True, gc=False):
    """An idempotency key was used: `scope` is "project/Verb/key"."""

    scope: str
    payload_digest: str
    workflow: int


class WorkflowAccepted(Event, frozen=True, gc=False):
    workflow: int
    name: str
    number: int
    project: str
    spec: str
    params: dict[str, Any]
    priority: int
    by: str
    base_dir: str
    labels: dict[str, str]


class WorkflowStarted(Event, frozen=True, gc=False):
    """Its first tasks may open."""

    workflow: int


class WorkflowSuspended(Event, frozen=True, gc=False):
    workflow: int
    by: str


class WorkflowResumed(Event, frozen=True, gc=False):
    workflow: int
    by: str


class WorkflowDoomed(Event, frozen=True, gc=False):
    """It is settled that the workflow will not succeed and that nothing of its main DAG starts any more: a cancel, the
    first failure under fail_fast, or its timeout. `by` is the user of a cancel, else ""."""

    workflow: int
    verdict: Literal["failed", "cancelled"]
    skip_finally: bool
    cause: Cause
    by: str


class WorkflowFinalizing(Event, frozen=True, gc=False):
    """The main DAG is settled; `run.state` for the finally tasks is `state`."""

    workflow: int
    state: Outcome
    cause: Cause | None


class WorkflowEnded(Event, frozen=True, gc=False):
    workflow: int
    state: Outcome
    cause: Cause | None


class WorkflowReopened(Event, frozen=True, gc=False):
    """A user's retry: a new round. `waiting` tasks start over; `items` (task, item) of fan-outs that had opened become
    ready again, their task open; everything else is kept."""

    workflow: int
    round: int
    waiting: tuple[str, ...]
    items: tuple[tuple[str, int], ...]
    by: str


class WorkflowForgotten(Event, frozen=True, gc=False):
    """An ended workflow leaves memory; its rows stay in the store until retention removes them."""

    workflow: int


class PriorityChanged(Event, frozen=True, gc=False):
    workflow: int
    priority: int
    by: str


# -------------------------------------------------------------------------------------------------------- task


class TaskOpened(Event, frozen=True, gc=False):
    """Its needs are settled as asked and `when` is true: its items are ready. `foreach` is the evaluated list."""

    workflow: int
    task: str
    item_count: int
    foreach: list[Any] | None


class TaskEnded(Event, frozen=True, gc=False):
    """Every item is settled, or the task never opened (`skipped`, `cancelled`, or `failed` by an expression)."""

    workflow: int
    task: str
    state: Literal["succeeded", "failed", "skipped", "cancelled"]
    cause: Cause | None


# ---------------------------------------------------------------------------------------------- item and attempt


class ItemAdmitted(Event, frozen=True, gc=False):
    """Attempt `attempt` begins to exist and its reservation (quota and space, the whole gang) is taken."""

    attempt: AttemptId
    places: tuple[Place, ...]


class AttemptLaunching(Event, frozen=True, gc=False):
    """The runtime is told to start it (as soon as this is durable)."""

    attempt: AttemptId


class ReplicaStarted(Event, frozen=True, gc=False):
    """One replica of a gang runs, but not all yet."""

    attempt: AttemptId
    rank: int


class AttemptRunning(Event, frozen=True, gc=False):
    """All replicas run."""

    attempt: AttemptId


class ReplicaEnded(Event, frozen=True, gc=False):
    """One replica of a gang is gone, others may live. `exit_code`: 128+n for signal n, -1 when unknown or never run."""

    attempt: AttemptId
    rank: int
    exit_code: int


class AttemptStopping(Event, frozen=True, gc=False):
    """What lives of the attempt is to be stopped, whole: TERM, `grace_ms`, KILL. `cause` says why."""

    attempt: AttemptId
    cause: Cause
    grace_ms: int


class OutputsSet(Event, frozen=True, gc=False):
    """The live attempt committed outputs (later values replace earlier ones)."""

    attempt: AttemptId
    outputs: dict[str, Any]


class CheckpointSaved(Event, frozen=True, gc=False):
    attempt: AttemptId
    value: dict[str, Any]


class AttemptEnded(Event, frozen=True, gc=False):
    """Nothing of the attempt lives any more: its reservation is released. `outputs` were read from $FFD_OUTPUT."""

    attempt: AttemptId
    outcome: Outcome
    cause: Cause | None
    outputs: dict[str, Any]


class ItemBackedOff(Event, frozen=True, gc=False):
    """The failed attempt will be followed by another, not before `retry_at_ms`. `infra`: it did not use up a try."""

    attempt: AttemptId
    retry_at_ms: int
    infra: bool


class ItemReady(Event, frozen=True, gc=False):
    """The backoff is over; or the attempt was preempted, and the item is back in the queue at once."""

    attempt: AttemptId


class ItemEnded(Event, frozen=True, gc=False):
    """The item is settled for good (until a user's retry)."""

    attempt: AttemptId
    state: Outcome
    cause: Cause | None


# ----------------------------------------------------------------------------------------------------- inventory


class NodesChanged(Event, frozen=True, gc=False):
    """The inventory is now exactly this, sorted by name."""

    nodes: tuple[Node, ...]


# ------------------------------------------------------------------------------------------------- health of nodes


class NodeCordoned(Event, frozen=True, gc=False):
    """A person closed the node: it takes no new work. `draining`: what runs there is stopped too."""

    node: str
    by: str
    why: str
    draining: bool


class NodeUncordoned(Event, frozen=True, gc=False):
    """A person opened the node, whatever it was closed for: nothing is known against it any more."""

    node: str
    by: str


class NodeFailed(Event, frozen=True, gc=False):
    """An attempt ended by an infrastructure failure of this node. `evidence` names it."""

    node: str
    kind: str  # a CauseKind
    evidence: AttemptId


class NodeQuarantined(Event, frozen=True, gc=False):
    """It failed too often, or again while on probation: it takes no new work until `until_at_ms`."""

    node: str
    until_at_ms: int
    why: str


class NodeOnProbation(Event, frozen=True, gc=False):
    """Its quarantine is over: it takes work, and the next failure or success decides."""

    node: str


class NodeProven(Event, frozen=True, gc=False):
    """An attempt succeeded on a node on probation: its failures are forgotten."""

    node: str
    evidence: AttemptId


# ------------------------------------------------------------------------------------------------------- tenants


class TenantChanged(Event, frozen=True, gc=False):
    """A tenant is declared, or has another weight, or admits (`enabled`) or not."""

    tenant: str
    weight_millis: int
    enabled: bool
    by: str


class TenantMoved(Event, frozen=True, gc=False):
    """A tenant, with all below it and all they hold, is charged to another parent. Its name stays."""

    tenant: str
    parent: str
    by: str


class QuotaChanged(Event, frozen=True, gc=False):
    """A tenant's quota for one resource; None = it has none any more."""

    tenant: str
    resource: str
    quota: Quota | None
    by: str


class UsageNoted(Event, frozen=True, gc=False):
    """What tenants held in the past, decayed until `now_ms`, by path and resource: what a restart should know."""

    now_ms: int
    past: dict[str, dict[str, int]]


AnyEvent = (
    SpecAdded
    | KeyRemembered
    | WorkflowAccepted
    | WorkflowStarted
    | WorkflowSuspended
    | WorkflowResumed
    | WorkflowDoomed
    | WorkflowFinalizing
    | WorkflowEnded
    | WorkflowReopened
    | WorkflowForgotten
    | PriorityChanged
    | TaskOpened
    | TaskEnded
    | ItemAdmitted
    | AttemptLaunching
    | ReplicaStarted
    | AttemptRunning
    | ReplicaEnded
    | AttemptStopping
    | OutputsSet
    | CheckpointSaved
    | AttemptEnded
    | ItemBackedOff
    | ItemReady
    | ItemEnded
    | NodesChanged
    | NodeCordoned
    | NodeUncordoned
    | NodeFailed
    | NodeQuarantined
    | NodeOnProbation
    | NodeProven
    | TenantChanged
    | TenantMoved
    | QuotaChanged
    | UsageNoted
)
