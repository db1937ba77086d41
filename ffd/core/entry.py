"""What every command meets at the entry: its idempotency key and the limits on what is live. Used by submit, control.

Never here: what a command does.
"""

from __future__ import annotations

from ffd.core.admit.quota import QuotaBlock, check_quota, closed_by
from ffd.core.commands import Command
from ffd.core.state import State
from ffd.core.tenancy import ONE_WORKFLOW, Tenant
from ffd.errors import Refusal


def key_scope(command: Command) -> str:
    """Keys are scoped to project and verb; "" when the command has none."""
    return f"{command.project}/{type(command).__name__}/{command.key}" if command.key else ""


def refuse_reuse(state: State, command: Command, scope: str) -> Refusal | None:
    """The conflict when a known key comes with another payload."""
    if state.keys[scope][0] == command.payload_digest:
        return None
    return Refusal(
        "this idempotency key was used for something else", code="conflict", field="key", hint="make a new key"
    )


def refuse_if_full(state: State, task_count: int) -> Refusal | None:
    """The limit that one more workflow of `task_count` tasks and items would break; None when it may come in."""
    for name, have, more in (
        ("live_workflows_count", len(state.workflows), 1),
        ("live_tasks_count", state.item_count, task_count),
    ):
        bound = getattr(state.limits, name)
        if have + more > bound:
            return Refusal(
                f"the daemon holds {have} of at most {bound} ({name})",
                code="limit",
                field=f"limits.{name}",
                hint="wait until workflows end, or raise the limit",
            )
    return None


def refuse_if_too_many_tenants(state: State, *paths: str) -> Refusal | None:
    """The limit that the tenants on these paths would break, were they made."""
    tenancy, bound = state.tenancy, state.limits.tenants_count
    new = tenancy.new_count(*paths)
    if not new or len(tenancy.nodes) + new <= bound or tenancy.least_count(*paths) <= bound:
        return None
    return Refusal(
        f"the daemon knows {tenancy.least_count()} of at most {bound} tenants (tenants_count)",
        code="limit", field="limits.tenants_count", hint="use a project that exists, or raise the limit",
    )  # fmt: skip


def refuse_by_tenant(state: State, project: str) -> Refusal | None:
    """Why one more workflow of `project` may not come in: a level is disabled (S17), or its `workflows` are full."""
    tenant = _nearest(state, project)
    closed = closed_by(tenant)
    if closed is not None:
        return Refusal(
            f"tenant {closed.label} is disabled", code="conflict", field="project",
            hint=f"`ffd tenant set {closed.label} --enable` lets it go on",
        )  # fmt: skip
    block = check_quota(tenant, ONE_WORKFLOW)
    return refuse_if_too_many_tenants(state, project) if block is None else _over_quota(block)


def _nearest(state: State, project: str) -> Tenant:
    """The node of a project, or the level above that it would be made under."""
    while project not in state.tenancy.nodes:
        project = project.rpartition("/")[0]
    return state.tenancy.nodes[project]


def _over_quota(block: QuotaBlock) -> Refusal:
    level = block.tenant or "/"
    return Refusal(
        f"tenant {level} has {block.used} of at most {block.bound} live workflows", code="limit",
        field="quota.workflows",
        hint=f"wait until some end, or raise it: `ffd quota set {level} workflows={block.bound + 1}`",
    )  # fmt: skip
