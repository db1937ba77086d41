"""Pages: the frozen shapes in which state is shown. `core.views` makes them; API, CLI and TUI only render them.

One structured answer, rendered everywhere. Never here: how a page is computed, or how it is drawn.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ffd.core.model import Cause


class Page(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Common head."""


class WorkflowPage(Page, frozen=True, kw_only=True):
    """One workflow. `counts` maps state words to numbers of items (a task that never opened counts as one)."""

    id: int
    handle: str
    name: str
    project: str
    state: str
    verdict: str = ""
    priority: int = 500
    by: str = ""
    round: int = 1
    description: str = ""
    labels: dict[str, str] = {}
    params: dict[str, Any] = {}
    task_count: int = 0
    counts: dict[str, int] = {}
    accepted_at_ms: int = 0
    started_at_ms: int = 0
    ended_at_ms: int = 0
    cause: Cause | None = None
    number: int = 0  # commit that this page reflects: where to start watching from


class TaskPage(Page, frozen=True, kw_only=True):
    """One task. `state` is one word even for fan-outs: the most telling among its items. `reason`: why it is not
    running, in one line. `outputs` only when succeeded; lists for fan-outs."""

    workflow: str  # handle
    name: str
    state: str
    finally_: bool = False
    item_count: int = 1
    fanout: bool = False
    counts: dict[str, int] = {}
    needs: tuple[str, ...] = ()
    replicas: int = 1
    attempt: int = 0
    nodes: tuple[str, ...] = ()
    reason: str = ""
    outputs: dict[str, Any] = {}
    opened_at_ms: int = 0
    started_at_ms: int = 0
    ended_at_ms: int = 0
    cause: Cause | None = None


class ItemPage(Page, frozen=True, kw_only=True):
    """One item of a task."""

    workflow: str
    task: str
    item: int
    state: str
    attempt: int = 0
    user_failures: int = 0
    infra_failures: int = 0
    nodes: tuple[str, ...] = ()
    since_at_ms: int = 0
    retry_at_ms: int = 0
    outputs: dict[str, Any] = {}
    progress: dict[str, Any] = {}
    cause: Cause | None = None


class NodePage(Page, frozen=True, kw_only=True):
    """One node: what it has, what is reserved on it, and how it is. `state`: ready, probation (takes work; the next
    failure or success decides), cordoned, draining (what ran there is still stopping), quarantined, or lost (known, and
    not in the inventory). `why` it is so. `gpu_free_millis`: free thousandths of each GPU, by index; `mig_free`: free
    slices by profile."""

    name: str
    gpu_type: str = ""
    gpu_count: int = 0
    gpu_used_count: int = 0
    cpu_millis: int = 0
    cpu_used_millis: int = 0
    memory_bytes: int = 0
    memory_used_bytes: int = 0
    slot_count: int = 0
    slot_used_count: int = 0
    labels: dict[str, str] = {}
    state: str = "ready"
    why: str = ""
    until_at_ms: int = 0  # end of its quarantine
    gpu_free_millis: tuple[int, ...] = ()
    mig: dict[str, int] = {}  # profile -> slices
    mig_free: dict[str, int] = {}
    numa: tuple[int, ...] = ()  # NUMA node of each GPU
    taints: tuple[str, ...] = ()


class HoldPage(Page, frozen=True, kw_only=True):
    """An attempt that holds room on a node. `replica_count`, `gpus`: of it on this node. Without a `workflow`: all of
    those that the reader may not see, together."""

    workflow: str = ""  # handle
    project: str = ""
    task: str = ""
    item: int = -1
    attempt: int = 0
    state: str = ""
    replica_count: int = 0
    gpus: tuple[int, ...] = ()
    since_at_ms: int = 0  # when it was admitted


class NodeDetail(Page, frozen=True, kw_only=True):
    """One node, and who holds room there, in the order of admission."""

    node: NodePage
    holds: tuple[HoldPage, ...] = ()


class GpuPage(Page, frozen=True, kw_only=True):
    """All GPUs of one model. `total_count` = used + free + closed. Free ones are wholly free, on nodes that take work;
    `fragmented_count` of them lie on nodes that are not empty: no replica that fills a node can have them. Closed ones
    are free on nodes that take none. `gang_replicas` x `gang_gpus_count`: the largest gang of whole nodes that fits
    now; `domains`: the same within one domain of a topology level."""

    model: str
    node_count: int = 0
    total_count: int = 0
    used_count: int = 0
    free_count: int = 0
    fragmented_count: int = 0
    cordoned_count: int = 0
    quarantined_count: int = 0
    gang_replicas: int = 0
    gang_gpus_count: int = 0
    domains: dict[str, int] = {}


class StopPage(Page, frozen=True, kw_only=True):
    """A gang that a drain would stop. `lost_ms`: its work since its last checkpoint, or its start, which is done again.
    `elsewhere`: nodes where it could go at once; none = it would wait."""

    workflow: str
    project: str = ""
    task: str = ""
    item: int = -1
    attempt: int = 0
    replica_count: int = 0
    gpu_millis: int = 0  # of all its replicas
    lost_ms: int = 0
    has_checkpoint: bool = False  # of this attempt
    grace_ms: int = 0
    elsewhere: tuple[str, ...] = ()


class DrainPage(Page, frozen=True, kw_only=True):
    """What a drain of these nodes would do now. `lost_gpu_ms`: GPU time that would be spent again."""

    nodes: tuple[str, ...]
    stops: tuple[StopPage, ...] = ()
    replica_count: int = 0
    gpu_millis: int = 0
    lost_gpu_ms: int = 0
    waiting_count: int = 0  # gangs that find no room elsewhere now


class Check(Page, frozen=True, kw_only=True):
    """One check of the scheduler, in its order. `verdict`: pass, wait (may change by itself), fail (will not). `facts`:
    the numbers in `detail`, in the units that their names end with, or those of quotas (core.tenancy)."""

    name: str
    verdict: Literal["pass", "wait", "fail"]
    detail: str
    facts: dict[str, Any] = {}


class HolderPage(Page, frozen=True, kw_only=True):
    """A gang that holds something of what is missing. `ends_at_ms`: by forecast; 0 = nobody knows. `basis` of that: the
    task's timeout.run (declared), attempts before (learnt), or that it is being stopped. Without a `workflow`: all
    those that the reader may not see, together."""

    workflow: str = ""  # handle
    project: str = ""
    task: str = ""
    item: int = -1
    gang_count: int = 1
    replica_count: int = 0
    gpu_millis: int = 0
    nodes: tuple[str, ...] = ()
    since_at_ms: int = 0
    ends_at_ms: int = 0
    basis: Literal["", "declared", "learnt", "stopping"] = ""


class WhatIfPage(Page, frozen=True, kw_only=True):
    """What would happen if all of `changes` were so: `starts` (in the next cycle, on `nodes`), `waits` (`check` says
    no), or `unknown` (too much comes first to be played through)."""

    changes: tuple[str, ...]
    outcome: Literal["starts", "waits", "unknown"]
    check: str = ""
    detail: str = ""
    nodes: tuple[str, ...] = ()
    start_at_ms: int = 0  # of one that waits: by forecast; 0 = nobody knows


class WaitPage(Page, frozen=True, kw_only=True):
    """Items of one task of a workflow that wait for the same. `reason`: the check that says no to the first of them, or
    their state."""

    task: str
    item_count: int
    reason: str
    detail: str


class Explain(Page, frozen=True, kw_only=True):
    """Why something waits, or why it ended as it did. `headline` is the answer in one sentence, `reason` the check that
    it comes from. `start_at_ms`: expected start, by forecast; 0 = nobody knows. `groups`: of a whole workflow."""

    subject: str  # llm.42 or llm.42/train[3]
    state: str
    headline: str
    checks: tuple[Check, ...] = ()
    position: int = 0  # 1 = next; 0 = not in the queue, or too far behind to be counted
    hints: tuple[str, ...] = ()  # what would start it sooner
    cause: Cause | None = None
    tail: str = ""  # last lines of the first failing replica
    reason: str = ""
    start_at_ms: int = 0
    holders: tuple[HolderPage, ...] = ()
    what_ifs: tuple[WhatIfPage, ...] = ()
    groups: tuple[WaitPage, ...] = ()


class QueuePage(Page, frozen=True, kw_only=True):
    """Waiting gangs of one project that ask for the same, in scheduling order of their heads. `waiting_count`: at most
    so many. `expected_at_ms`: when the head starts, as far as known. No `project`: those that the reader may not see,
    together; or (with a reason) all that come later than what is shown."""

    position: int
    project: str
    gang: str  # "2 x (8 H100, 16 cpus)"
    waiting_count: int
    head: str
    reason: str
    expected_at_ms: int = 0


class TenantPage(Page, frozen=True, kw_only=True):
    """One node of the tenant tree; the root is `/`. `admits`: it and all levels above it are enabled. `declared`: it
    was set by an operator, not only seen as a project."""

    tenant: str
    parent: str = ""
    weight: float = 1.0
    enabled: bool = True
    admits: bool = True
    declared: bool = False
    workflow_count: int = 0  # live
    pod_count: int = 0  # replicas that hold room


class QuotaPage(Page, frozen=True, kw_only=True):
    """What one tenant, with all below it, holds of one resource, and may. GPUs and cpus with fractions, memory and
    storage in bytes, pods and workflows counted. None = no quota, no bound, or (`capacity`) nothing to compare with."""

    tenant: str
    resource: str
    used: float = 0.0
    borrowed: float = 0.0  # above its nominal, or all of it when only levels above have a quota
    nominal: float | None = None
    borrow_max: float | None = None
    lend_max: float | None = None
    capacity: float | None = None  # of the whole cluster


class SharePage(Page, frozen=True, kw_only=True):
    """How much of the cluster one tenant has for its weight: the part of its dominant resource, divided by the weight.
    Who has the lowest among its siblings comes first."""

    tenant: str
    parent: str = ""
    weight: float = 1.0
    dominant: str = ""  # "" = it holds nothing
    share: float = 0.0


class EventPage(Page, frozen=True, kw_only=True):
    """One event of the story. (`number`, `index`) is its position: unique, ordered; events of a number are atomic."""

    number: int
    index: int
    at_ms: int
    kind: str
    workflow: int = 0
    handle: str = ""
    task: str = ""
    item: int = -1
    attempt: int = 0
    text: str = ""  # one line for people
    data: dict[str, Any] = {}


class DaemonPage(Page, frozen=True, kw_only=True):
    """The daemon itself."""

    version: str
    role: Literal["leader", "standby", "starting", "stopping"]
    epoch: int = 0
    leader_address: str = ""
    runtime: str = ""
    store: str = ""
    pid: int = 0
    started_at_ms: int = 0
    commit_number: int = 0
    workflow_count: int = 0  # live
    ready_count: int = 0
    running_count: int = 0
    degraded: str = ""  # e.g. "storage full: submissions are refused"
