"""The nouns of ffd and their identities. Rows (mutable, written by `State.apply` only) and values (frozen).

Never here: behaviour of lifecycles, I/O, message families. Everybody imports this.

    Workflow 1 ── n Task (a named node of the DAG) 1 ── n Item (an element of the fan-out; a plain task has exactly one)
    Item 1 ── n Attempt over time (at most one live) 1 ── n Replica (rank 0..n-1; together the gang)

Instants are milliseconds since the Unix epoch (`_at_ms`), for people only: they never order anything.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

WorkflowState = Literal["accepted", "running", "suspended", "succeeded", "failed", "cancelled"]
TaskState = Literal["waiting", "open", "succeeded", "failed", "skipped", "cancelled"]
ItemState = Literal[
    "ready", "admitted", "launching", "running", "stopping", "ended", "backoff", "succeeded", "failed", "cancelled"
]
Outcome = Literal["succeeded", "failed", "cancelled"]
CauseKind = Literal[
    # the user's tries
    "error", "oom", "timeout", "input", "output",
    # infrastructure: counted apart
    "node-lost", "preempted", "evicted", "gpu-error", "image-pull", "launch",
    # decided by ffd
    "cancelled", "fail-fast", "leader-done", "queue-timeout", "expression", "need", "workflow-timeout",
]  # fmt: skip

INFRASTRUCTURE_CAUSES: frozenset[str] = frozenset(
    {"node-lost", "preempted", "evicted", "gpu-error", "image-pull", "launch"}
)
CAUSE_KINDS: frozenset[str] = frozenset(get_args(CauseKind))
# An attempt that ended for one of these goes back to the queue at once, with its priority, and nobody's try is used up.
REQUEUED_CAUSES: frozenset[str] = frozenset({"preempted"})
# Infrastructure failures that speak against the node they happened on.
NODE_CAUSES: frozenset[str] = frozenset({"node-lost", "evicted", "gpu-error", "launch"})
# What a runtime may say of a replica; anything else it says counts as "error".
RUNTIME_CAUSES: frozenset[str] = frozenset({"error", "oom", "timeout"}) | INFRASTRUCTURE_CAUSES
# An attempt that was stopped for one of these counts as cancelled.
DOOMED_CAUSES: frozenset[str] = frozenset({"cancelled", "fail-fast", "workflow-timeout"})
TERMINAL: frozenset[str] = frozenset({"succeeded", "failed", "skipped", "cancelled"})
HOLDS_RESERVATION: frozenset[str] = frozenset({"admitted", "launching", "running", "stopping"})


class AttemptId(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True, cache_hash=True):
    """Names one attempt for all time. `attempt` counts from 1; 0 means "no attempt yet" (names the item itself).

    Everything outside derives from it: process and pod names, directories, tokens. Reports echo it (staleness).
    """

    workflow: int
    task: str
    item: int
    attempt: int

    def path(self) -> str:
        """Relative directory of what belongs to the attempt as a whole, and of all its replicas but the first."""
        return f"{self.workflow}/{self.task}.{self.item}.{self.attempt}"

    def replica_path(self, rank: int) -> str:
        """What the names of a replica's files (log, outputs, exit status) begin with; runtime and log store share it.
        Those of the first lie beside the directory, so that most attempts need none: making one can cost as much as
        starting a process."""
        return f"{self.path()}/{rank}" if rank else self.path()

    def label(self) -> str:
        """`42/train[3]#2`: for messages and process titles. Not parsed by anybody."""
        return f"{self.workflow}/{self.task}[{self.item}]#{self.attempt}"


class Cause(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Why something ended other than well: the *first* failing replica speaks for its gang.

    `kind` is one of CauseKind. `tail` holds the last lines of that replica's log (bounded, raw text, never printed
    unsanitised). `task`/`item`/`attempt` say where, when the cause is told of a workflow or another task.
    """

    kind: CauseKind
    message: str = ""
    rank: int = -1
    exit_code: int = -1  # -1 = did not exit by itself
    signal: int = 0
    tail: str = ""
    task: str = ""
    item: int = -1
    attempt: int = 0
    node: str = ""


class Place(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where one replica runs: a node, the indices of the GPUs it owns there, and how much of each (thousandths; below
    1000 only for a single shared GPU), or the indices of its MIG slices (of the profile that it asks for)."""

    node: str
    gpus: tuple[int, ...] = ()
    gpu_millis: int = 1000
    mig: tuple[int, ...] = ()


class Node(msgspec.Struct, frozen=True, omit_defaults=True):
    """One machine of the inventory, as its runtime reports it. `slot_count` bounds replicas on it (pods per node).

    `gpu_count` counts whole GPUs; those cut into MIG slices are told by `mig` alone. `numa` says for each GPU index the
    NUMA node it hangs on; empty = not known. A task lands on a node only if it tolerates each of its `taints`."""

    name: str
    gpu_type: str = ""
    gpu_count: int = 0
    gpu_memory_bytes: int = 0
    cpu_millis: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    slot_count: int = 110
    rdma: bool = False
    labels: dict[str, str] = {}  # topology levels live here: zone, block, rack, nvlink
    mig: dict[str, int] = {}  # profile -> slices
    numa: tuple[int, ...] = ()
    taints: tuple[str, ...] = ()


class Quota(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one tenant may hold of one resource, in the resource's unit (see `core.amounts`).

    `nominal` is its own; what is above it is borrowed from the level above, at most `borrow_max` (None = as much as the
    levels above have). What of it lies idle may be lent to siblings, at most `lend_max` (None = all of it)."""

    nominal: int
    borrow_max: int | None = None
    lend_max: int | None = None

    @property
    def bound(self) -> int | None:
        """The most it may hold; None = only the levels above say."""
        return None if self.borrow_max is None else self.nominal + self.borrow_max

    @property
    def unlent(self) -> int:
        """What siblings never get, even while it lies idle."""
        return 0 if self.lend_max is None else max(0, self.nominal - self.lend_max)


class TenantRow(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What was declared of one tenant. `parent` None = the tenant that its own path names. `quotas` by resource."""

    parent: str | None = None
    weight_millis: int = 1_000
    enabled: bool = True
    quotas: dict[str, Quota] = {}


# ----------------------------------------------------------------------------------------------------- mutable rows
# gc=False: rows hold no reference back to their parents, so no cycle can form; a finished workflow is freed at once.


class Attempt(msgspec.Struct, omit_defaults=True, gc=False):
    """The live attempt of an item. Exists exactly while the item's state is in HOLDS_RESERVATION (or `ended`)."""

    places: tuple[Place, ...]  # by rank
    admitted_at_ms: int = 0
    running_at_ms: int = 0
    started: tuple[int, ...] = ()  # ranks seen running, ascending; only kept for gangs of two and more
    exited: dict[int, int] = {}  # rank -> exit code (128+n for signal n), of ranks that ended; gangs only
    outputs: dict[str, Any] = {}  # committed so far by this attempt
    saved_at_ms: int = 0  # its last checkpoint; 0 = none: what it did since is lost when it is stopped
    stop_cause: Cause | None = None  # why it is stopping; decides what happens after it ended
    stop_grace_ms: int = 0  # how long it may go on once it is stopping
    outcome: Outcome | None = None  # set when it ended; consumed by `finish` within the same step
    cause: Cause | None = None
    models: tuple[str, ...] = ()  # GPU model by rank, as reserved; one entry when all are equal; () without GPUs


class Item(msgspec.Struct, omit_defaults=True, gc=False):
    """The unit of execution. `number` is the last attempt started (0 = none). An item equal to
    Item(number=task.attempts_before) is `ready` and untouched: it needs no row in the store."""

    state: ItemState = "ready"
    number: int = 0
    user_failures: int = 0
    infra_failures: int = 0
    since_at_ms: int = 0  # when it entered its state; 0 = when its task opened
    retry_at_ms: int = 0  # in `backoff`: when it will be ready
    live: Attempt | None = None
    outputs: dict[str, Any] | None = None  # of the succeeding attempt
    cause: Cause | None = None  # of the last failed attempt
    checkpoint: dict[str, Any] | None = None  # last acknowledged one


class Task(msgspec.Struct, omit_defaults=True, gc=False):
    """One node of one workflow's DAG. A task in `waiting` that equals Task() needs no row in the store."""

    state: TaskState = "waiting"
    foreach: list[Any] | None = None  # the evaluated list, when `foreach` was an expression
    item_count: int = 0
    opened_at_ms: int = 0
    ended_at_ms: int = 0
    cause: Cause | None = None  # of the item that failed first, also while others go on
    attempts_before: int = 0  # the highest attempt number used before it started over: numbers go on from there


class Workflow(msgspec.Struct, omit_defaults=True, gc=False):
    """One submitted run of a document. `number` counts per (project, name): the handle is `name.number`.

    `verdict`, once set, is what the workflow will end as (a cancel still overrides a failure); while it is set nothing
    of the main DAG starts any more. `cause` is set by the first failure that nobody handles, or by the verdict.
    `round` counts user retries from failure (`run.attempt` in expressions), from 1.
    """

    id: int
    name: str
    number: int
    project: str
    spec: str  # digest of its Spec
    params: dict[str, Any]
    state: WorkflowState = "accepted"
    verdict: Literal["", "failed", "cancelled"] = ""
    finalizing: bool = False  # the main DAG is settled; only finally tasks may run
    skip_finally: bool = False  # cancel --now
    round: int = 1
    priority: int = 500
    by: str = ""
    base_dir: str = ""  # where relative paths of local tasks start; "" = a scratch directory per attempt
    labels: dict[str, str] = {}
    accepted_at_ms: int = 0
    started_at_ms: int = 0  # of this round
    ended_at_ms: int = 0
    cause: Cause | None = None

    @property
    def handle(self) -> str:
        return f"{self.name}.{self.number}"


# ------------------------------------------------------------------------------------------------------------ timers

TimerKind = Literal["run", "queue", "wait", "start", "idle", "backoff", "workflow", "quarantine"]


class Timer(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """Names a timer. Setting an existing one moves it; a firing that no longer matters is dropped by the core. One of a
    node has the node's name as its task, of workflow 0."""

    kind: TimerKind
    attempt: AttemptId


# ------------------------------------------------------------------------------------------------------ stored rows

# How long a task takes (core.forecast): sequence (its slot is sequence % bound), name, attempts, mean_ms
Learnt = tuple[int, str, int, int]


class Rows(msgspec.Struct):
    """Rows as the store keeps them. Keys are (workflow,), (workflow, task), (workflow, task, item); values encoded by
    `core.state`. A store never looks inside a value. `live` workflows are those recovery must load."""

    workflows: dict[int, bytes] = {}
    tasks: dict[tuple[int, str], bytes] = {}
    items: dict[tuple[int, str, int], bytes] = {}
    specs: dict[str, bytes] = {}  # by digest
    meta: dict[str, bytes] = {}  # counters, nodes, idempotency keys: small, by name


class Listing(msgspec.Struct, frozen=True):
    """The searchable columns of one workflow, upserted with its row. `live` False = recovery need not load it.
    `keep_ms` > 0: how long after `ended_at_ms` retention keeps it, instead of the store-wide policy."""

    workflow: int
    project: str
    name: str
    number: int
    state: str
    by: str
    live: bool
    accepted_at_ms: int
    ended_at_ms: int = 0
    keep_ms: int = 0
