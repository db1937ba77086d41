"""May a waiting item start, whatever room there is? Its workflow, `max_parallel`, its tenant and the quotas, in words
and numbers, by the functions that decide.

Called by `explain` and by the page of the queue. Never here: where it could go, or when.
"""

from __future__ import annotations

from collections.abc import Iterator

from ffd.core.admit.quota import QuotaBlock, check_gang, closed_by, hopeless
from ffd.core.amounts import MODEL_PREFIX, amount_text, amounts
from ffd.core.kinds import Lane
from ffd.core.live import LiveWorkflow
from ffd.core.pages import Check
from ffd.core.schedule.subject import Subject, some
from ffd.core.state import State
from ffd.core.tenancy import Tenancy, Tenant


def suspended(live: LiveWorkflow) -> Check:
    if live.row.state == "suspended":
        return Check(name="workflow", verdict="wait", detail="the workflow is suspended: `ffd resume` lets it go on")
    return Check(name="workflow", verdict="pass", detail=f"the workflow is {live.row.state}")


def parallel(it: Subject) -> Check:
    live, name = it.live, it.name
    own, whole = live.dag.tasks[name].max_parallel, live.dag.spec.max_parallel
    facts = {"active_count": live.tasks[name].active if own else len(live.placed), "bound_count": own or whole}
    if not own and not whole:
        return Check(name="max_parallel", verdict="pass", detail="no bound")
    if live.holds_place(name, it.number):
        words = ((f"{own} of the task", own), (f"{whole} of the workflow", whole))
        bound = " and ".join(text for text, is_set in words if is_set)
        return Check(name="max_parallel", verdict="pass", detail=f"at most {bound} at once", facts=facts)
    whose = f"{own} places of the task" if live.is_full(name) else f"{whole} places of the workflow"
    detail = f"all {whose} are taken, by items that run or wait for room"
    return Check(name="max_parallel", verdict="wait", detail=detail, facts=facts)


def enabled(tenant: Tenant) -> Check:
    closed = closed_by(tenant)
    if closed is not None:
        hint = f"`ffd tenant set {closed.label} --enable` lets it go on"
        return Check(name="tenant", verdict="wait", detail=f"tenant {closed.label} is disabled: {hint}")
    return Check(name="tenant", verdict="pass", detail=f"tenant {tenant.label} may start work")


def quota(tenancy: Tenancy, it: Subject, size: int) -> tuple[Check, QuotaBlock | None]:
    """May its tenant hold so many replicas? And which level says no, when it may later."""
    tenant, ask = it.live.tenant, it.ask
    levels = list(_levels(tenant, it, size))
    facts = {"levels": levels} if levels else {}
    never = hopeless(tenancy, tenant, ask, size)
    if never is not None:
        return Check(name="quota", verdict="fail", detail=f"will never run here: {never.text()}", facts=facts), None
    block = check_gang(tenancy, tenant, ask, size)
    if block is not None:
        return Check(name="quota", verdict="wait", detail=_block_text(block, tenant), facts=facts), block
    told = [f"{row['tenant']} uses {row['used_text']} of {row['bound_text']}" for row in levels]
    words = some(told, most=4) or "no quota bounds its tenant"
    return Check(name="quota", verdict="pass", detail=words, facts=facts), None


def _levels(tenant: Tenant, it: Subject, size: int) -> Iterator[dict[str, object]]:
    """What each level of its path holds of what is asked, where there is a quota of it."""
    asked = amounts(it.ask, size)
    for model in it.ask.gpu_types if it.ask.gpu_count else ():
        asked[f"{MODEL_PREFIX}{model}"] = asked["gpus"]
    for level in tenant.chain():
        for resource, ask in asked.items():
            quota = level.row.quotas.get(resource)
            if quota is None:
                continue
            used, bound = level.usage.get(resource, 0), quota.bound
            yield {
                "tenant": level.label, "resource": resource, "used": used, "nominal": quota.nominal, "bound": bound,
                "borrowed": level.borrowed(resource), "kept_for_members": level.reserve.get(resource, 0), "asked": ask,
                "used_text": f"{amount_text(resource, used)} {resource}",
                "bound_text": amount_text(resource, quota.nominal)
                + ("" if bound == quota.nominal else f" (may borrow {_most(resource, quota.borrow_max)})"),
            }  # fmt: skip


def _most(resource: str, amount: int | None) -> str:
    return "more" if amount is None else f"{amount_text(resource, amount)} more"


def _block_text(block: QuotaBlock, tenant: Tenant) -> str:
    """Which level says no, whether that is its own bound or a pool that is full; what it borrowed, what it lent."""
    text = block.text()
    level = next(node for node in tenant.chain() if node.path == block.tenant)
    borrowed = (
        level.borrowed(block.resource)
        if level.row.quotas[block.resource].nominal < level.usage.get(block.resource, 0)
        else 0
    )
    if borrowed:
        text += f"; {amount_text(block.resource, borrowed)} of that are borrowed"
    if not block.is_pool:
        return f"{text}: its own bound"
    own = tenant.row.quotas.get(block.resource)
    lent = own is not None and tenant.usage.get(block.resource, 0) + block.ask <= own.nominal
    if own is not None and lent:
        used = amount_text(block.resource, tenant.usage.get(block.resource, 0))
        text += (
            f"; {tenant.label} itself uses {used} of its {amount_text(block.resource, own.nominal)}: the rest is lent"
        )
    return f"{text}: the pool of {block.tenant or '/'} is used up"


def lane_text(state: State, lane: Lane, live: LiveWorkflow, name: str) -> str:
    """Why the head of a lane does not start now, in a few words."""
    closed = closed_by(live.tenant)
    if closed is not None:
        return f"tenant {closed.label} is disabled"
    task = live.dag.tasks[name]
    least = task.gang.min_replicas or task.gang.replicas
    never = hopeless(state.tenancy, live.tenant, task.resources, least)
    if never is not None:
        return f"will never run here: {never.text()}"
    block = check_gang(state.tenancy, live.tenant, task.resources, least)
    if block is not None:
        return block.text()
    is_blocked = state.space.version in (lane.kind.shape.blocked_at, lane.blocked_at)
    return "no room now" if is_blocked else "next cycle"
