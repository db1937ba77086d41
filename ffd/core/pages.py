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
    """One node: what it has and what is reserved on it."""

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


class Check(Page, frozen=True, kw_only=True):
    """One check of the scheduler, in its order. `verdict`: pass, wait (may change by itself), fail (will not)."""

    name: str
    verdict: Literal["pass", "wait", "fail"]
    detail: str


class Explain(Page, frozen=True, kw_only=True):
    """Why something waits, or why it ended as it did. `headline` is the answer in one sentence."""

    subject: str  # llm.42 or llm.42/train[3]
    state: str
    headline: str
    checks: tuple[Check, ...] = ()
    position: int = 0  # 1 = next; 0 = not in the queue
    hints: tuple[str, ...] = ()  # what would start it sooner
    cause: Cause | None = None
    tail: str = ""  # last lines of the first failing replica


class QueuePage(Page, frozen=True, kw_only=True):
    """One equivalence class of waiting gangs, in scheduling order of its head."""

    position: int
    project: str
    gang: str  # "2 x (8 H100, 16 cpus)"
    waiting_count: int
    head: str
    reason: str


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
