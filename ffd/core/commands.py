"""Commands: what users ask. May be refused. Each carries who asks (`by`), and a client-made idempotency `key`.

Frozen values; made by `api.codec` and tests; handled by `core.submit` and `core.control` through `core.step`.
The same (project, verb, key) with the same payload digest gets the same answer again; with another payload, a conflict.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ffd.core.spec import Spec


class Command(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Common head of all commands. `key` "" = not idempotent. `payload_digest` names what was asked."""

    by: str = ""
    project: str = "default"
    key: str = ""
    payload_digest: str = ""


class Submit(Command, frozen=True, kw_only=True):
    """Start a workflow. `spec_digest` = digest of the encoded spec. `params` are already resolved and typed.

    Answer: Accepted."""

    spec: Spec
    spec_digest: str
    params: dict[str, Any] = {}
    priority: int | None = None
    base_dir: str = ""
    labels: dict[str, str] = {}


class Cancel(Command, frozen=True, kw_only=True):
    """Final: after the acknowledgement no new attempt of the main DAG starts. `now` also skips finally tasks.
    Cancelling a cancelled workflow succeeds; one that ended otherwise is a conflict."""

    workflow: int
    now: bool = False


class Suspend(Command, frozen=True, kw_only=True):
    """Nothing new starts; what runs goes on. Idempotent."""

    workflow: int


class Resume(Command, frozen=True, kw_only=True):
    """Undo Suspend. Idempotent."""

    workflow: int


class Retry(Command, frozen=True, kw_only=True):
    """Re-run what did not succeed of an ended workflow, as new attempts, in the same workflow (a new round).

    `rows` are the workflow's stored rows: the shell reads them, because ended workflows are not in memory."""

    workflow: int
    rows: Any = None  # model.Rows | None


class SetPriority(Command, frozen=True, kw_only=True):
    """Change a live workflow's priority (0-1000); applies to what is not yet admitted."""

    workflow: int
    priority: int


class OfNodes(Command, frozen=True, kw_only=True):
    """Common head of commands about nodes: those named, and those that have all of `labels`. Answer: NodesMarked."""

    nodes: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class Cordon(OfNodes, frozen=True, kw_only=True):
    """These nodes take no new work; what runs there goes on. Idempotent; the last `why` counts."""

    why: str = ""


class Uncordon(OfNodes, frozen=True, kw_only=True):
    """These nodes take work again, whatever they were closed for (cordon, drain, quarantine). Idempotent."""


class Drain(OfNodes, frozen=True, kw_only=True):
    """Cordon these nodes and stop what runs there, whole gangs; it is run again elsewhere, and nobody's tries are used
    up. `grace_ms`: how long each may take to stop; None = its own checkpoint grace."""

    why: str = ""
    grace_ms: int | None = None


class SetTenant(Command, frozen=True, kw_only=True):
    """Declare or change a tenant; None leaves as it is. `parent`: charge it and all below it to that tenant.
    Disabled: nothing of it or below it is admitted or submitted; what runs goes on. Answer: TenantSet."""

    tenant: str
    weight_millis: int | None = None
    enabled: bool | None = None
    parent: str | None = None


class SetQuota(Command, frozen=True, kw_only=True):
    """Change quotas of a tenant. `changes`: resource -> fields of model.Quota to set (None = unset that field), or None
    to remove the resource's quota. `replace`: resources that are not named lose theirs. Answer: TenantSet."""

    tenant: str
    changes: dict[str, dict[str, int | None] | None]
    replace: bool = False


class Accepted(msgspec.Struct, frozen=True):
    """Answer to Submit; `duplicate` when the idempotency key had been used for the same payload. `warnings`: what will
    never run here as the cluster is now, one line each."""

    workflow: int
    handle: str
    project: str
    duplicate: bool = False
    warnings: tuple[str, ...] = ()


class Done(msgspec.Struct, frozen=True):
    """Answer to every other command on a workflow: its state after it."""

    workflow: int
    handle: str
    state: str
    duplicate: bool = False


class NodesMarked(msgspec.Struct, frozen=True):
    """Answer to a command about nodes: which ones, by name, and how many attempts are being stopped there now. A
    repeated key changes nothing, and tells of the nodes that are meant now."""

    nodes: tuple[str, ...]
    stopping_count: int = 0
    duplicate: bool = False


class TenantSet(msgspec.Struct, frozen=True):
    """Answer to SetTenant and SetQuota."""

    tenant: str
    duplicate: bool = False


Answer = Accepted | Done | NodesMarked | TenantSet
AnyCommand = Submit | Cancel | Suspend | Resume | Retry | SetPriority | Cordon | Uncordon | Drain | SetTenant | SetQuota
