"""How much of the cluster a tenant has, for its weight: the weighted dominant share.

    share(t) = max over resources r of usage(t, r) / capacity(r), divided by weight(t)

in billionths (an integer: equal on every machine). `capacity` is what all nodes have together; `workflows` has none and
does not count. With a half-life (`scheduling.usage_half_life_ms`) usage is the larger of what is held now and of the
decayed mean of what was held (`core.past`): who had much gives way to who had little, and who just took much does too.
Without one, time plays no part.

Dominant resource fairness: Ghodsi et al., "Dominant Resource Fairness", NSDI 2011; with the tree walked from the root,
at each level to the child with the lowest share: Bhattacharya et al., "Hierarchical Scheduling for Diverse Datacenter
Workloads", SoCC 2013. Pure; read by `admit.order` and views.
"""

from __future__ import annotations

from typing import Final

from ffd.core.amounts import Amounts
from ffd.core.tenancy import Tenancy, Tenant

BILLION: Final = 1_000_000_000


def share_billionths(tenancy: Tenancy, tenant: Tenant) -> int:
    """The weighted dominant share; 0 when it holds nothing. Of what no node has any more, everything is held: 1."""
    return _dominant(tenancy, _counted(tenancy, tenant))[1] * 1_000 // tenant.row.weight_millis


def own_share_billionths(tenancy: Tenancy, tenant: Tenant) -> int:
    """The same of what the tenant holds itself, without those below it."""
    own = dict(_counted(tenancy, tenant))
    for child in tenant.children.values():
        for resource, used in _counted(tenancy, child).items():
            own[resource] = own.get(resource, 0) - used
    return _dominant(tenancy, own)[1] * 1_000 // tenant.row.weight_millis


def dominant_resource(tenancy: Tenancy, tenant: Tenant) -> str:
    """The resource of which it has the largest part; "" when it holds nothing."""
    return _dominant(tenancy, _counted(tenancy, tenant))[0]


def _counted(tenancy: Tenancy, tenant: Tenant) -> Amounts:
    """Usage, and where it counts the past."""
    usage = tenant.usage
    past = tenancy.past_of(tenant) if tenancy.half_life_ms else None
    return {name: max(usage.get(name, 0), past.get(name, 0)) for name in {**past, **usage}} if past else usage


def _dominant(tenancy: Tenancy, usage: Amounts) -> tuple[str, int]:
    capacity, best, most = tenancy.capacity, "", 0
    for resource, used in usage.items():
        there = capacity.get(resource, 0)
        if not there and resource == "workflows":
            continue
        part = used * BILLION // there if there else BILLION
        if part > most or (part == most and (not best or resource < best)):
            best, most = resource, part
    return best, most
