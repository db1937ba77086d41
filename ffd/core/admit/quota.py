"""May a tenant hold this much more? The first level that says no, with its numbers.

The rules, at each level from the tenant up to the root, for each resource:

1. With a quota, what the level uses and the ask stay within `nominal + borrow_max`. Without one it bounds nothing.
2. Above its nominal, a level borrows from the level above, whose quota is the pool. There the ask must also leave free
   what the pool's other members do not lend (`nominal - lend_max`) and do not use now. A member without a quota lives
   wholly from the pool. An ask within a member's own nominal does not care what others keep back.

These are the cohorts of Kueue (hierarchical ones; https://kueue.sigs.k8s.io/docs/concepts/cohort), with one difference:
a pool is what was written down for the level above, not the sum of what its members have; a level above without a quota
is a pool without a bound. Pure; called by the scheduling cycle, by submit and by explain. Never here: fair order.
"""

from __future__ import annotations

import msgspec

from ffd.core.amounts import MODEL_PREFIX, Amounts, amount_text, amounts
from ffd.core.spec import Resources
from ffd.core.tenancy import Tenancy, Tenant


class QuotaBlock(msgspec.Struct, frozen=True):
    """Level `tenant` ("" = root) says no: it uses `used`, its bound is `bound` (`nominal` of its own), `ask` is asked.

    `kept`: of the rest, what its other members do not lend. `is_pool`: the asking tenant is one of its members, and
    within its own bound."""

    tenant: str
    resource: str
    used: int
    nominal: int
    bound: int
    ask: int
    kept: int = 0
    is_pool: bool = False

    @property
    def is_full(self) -> bool:
        """Does it say no to everybody who asks as much, whether or not they borrow?"""
        return self.used + self.ask > self.bound

    @property
    def is_hopeless(self) -> bool:
        """Would it say no even if nothing were used?"""
        return self.ask > self.bound

    def text(self) -> str:
        """`quota of research: 60 of 64 gpus used, 8 asked`."""
        used, bound, ask = (amount_text(self.resource, n) for n in (self.used, self.bound, self.ask))
        kept = f", {amount_text(self.resource, self.kept)} kept for its members" if self.kept else ""
        return f"quota of {self.tenant or '/'}: {used} of {bound} {self.resource} used{kept}, {ask} asked"


def is_due(level: Tenant, asked: Amounts) -> bool:
    """Is something of what is asked guaranteed to this level, and would it be within all its nominal quotas?"""
    quotas = level.row.quotas
    known = {resource: ask for resource, ask in asked.items() if resource in quotas}
    return bool(known) and all(level.usage.get(r, 0) + ask <= quotas[r].nominal for r, ask in known.items())


def check_quota(tenant: Tenant, asked: Amounts) -> QuotaBlock | None:
    """The first level and resource that do not allow `tenant` to hold `asked` more; None when all do."""
    if not tenant.has_quota:
        return None
    for resource, ask in asked.items():
        block = _check(tenant, resource, ask)
        if block is not None:
            return block
    return None


def _check(tenant: Tenant, resource: str, ask: int) -> QuotaBlock | None:
    if resource not in tenant.quoted:
        return None
    borrows, change = True, 0  # does the level below borrow; by how much would what it keeps back change?
    for node in tenant.chain():
        used, quota = node.usage.get(resource, 0), node.row.quotas.get(resource)
        reserve = node.reserve.get(resource, 0) + change
        if quota is None:
            borrows = True
            change = reserve - node.kept_back(resource)
            continue
        bound, kept = quota.bound, reserve if borrows else 0
        if bound is not None and used + ask + kept > bound:
            return QuotaBlock(node.path, resource, used, quota.nominal, bound, ask, kept, node is not tenant)
        borrows = used + ask > quota.nominal
        change = max(reserve, quota.unlent - used - ask) - node.kept_back(resource)
    return None


def allowed_models(tenancy: Tenancy, tenant: Tenant, ask: Resources, replicas: int) -> tuple[str, ...] | None:
    """GPU models, in order of preference, of which the tenant may hold the whole gang; None = quota does not matter.

    A gang may then be spread over any of them. () = none is allowed: `model_block` says why."""
    if not ask.gpu_count or not tenant.has_quota:
        return None
    listed = ask.gpu_types or tenancy.models
    allowed = tuple(model for model in listed if model_block(tenant, ask, replicas, model) is None)
    return None if allowed == listed else allowed


def model_block(tenant: Tenant, ask: Resources, replicas: int, model: str) -> QuotaBlock | None:
    """What forbids the whole gang GPUs of this model."""
    return _check(tenant, MODEL_PREFIX + model, amounts(ask, replicas)["gpus"])


def check_gang(tenancy: Tenancy, tenant: Tenant, ask: Resources, replicas: int) -> QuotaBlock | None:
    """What forbids the gang wherever it would be placed: its sizes, or every GPU model that it could take."""
    block = check_quota(tenant, amounts(ask, replicas))
    if block is None and allowed_models(tenancy, tenant, ask, replicas) == ():
        blocks = [model_block(tenant, ask, replicas, model) for model in ask.gpu_types or tenancy.models]
        block = next((found for found in blocks if found is not None), None)
    return block


def hopeless(tenancy: Tenancy, tenant: Tenant, ask: Resources, replicas: int) -> QuotaBlock | None:
    """What would forbid the gang even if nobody used anything; None when nothing would."""
    if not tenant.has_quota:
        return None
    asked = amounts(ask, replicas)
    for resource in asked:
        block = _above_bounds(tenant, resource, asked[resource])
        if block is not None:
            return block
    blocks = [
        _above_bounds(tenant, MODEL_PREFIX + model, asked["gpus"])
        for model in (ask.gpu_types or tenancy.models if ask.gpu_count else ())
    ]
    return next((block for block in blocks if block is not None), None) if all(blocks) else None


def _above_bounds(tenant: Tenant, resource: str, ask: int) -> QuotaBlock | None:
    for node in tenant.chain():
        quota = node.row.quotas.get(resource)
        if quota is not None and quota.bound is not None and ask > quota.bound:
            used = node.usage.get(resource, 0)
            return QuotaBlock(node.path, resource, used, quota.nominal, quota.bound, ask, 0, node is not tenant)
    return None


def closed_by(tenant: Tenant) -> Tenant | None:
    """The lowest level that is disabled; None when the tenant may admit and submit (S17)."""
    if tenant.is_open:
        return None
    return next(node for node in tenant.chain() if not node.row.enabled)
