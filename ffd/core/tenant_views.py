"""Pages of the tenant tree: who there is, what each may hold and holds, and who has which share. The root is `/`.

Called by `daemon.engine`. Amounts are as people count: GPUs and cpus (fractions to thousandths), bytes, numbers.
"""

from __future__ import annotations

from ffd.core.admit.share import BILLION, dominant_resource, share_billionths
from ffd.core.amounts import BYTES, COUNTS
from ffd.core.pages import QuotaPage, SharePage, TenantPage
from ffd.core.state import State
from ffd.core.tenancy import Tenant


def tenant_pages(state: State) -> list[TenantPage]:
    """All nodes, by path: the root first."""
    return [
        TenantPage(
            tenant=node.label,
            parent=node.parent.label if node.parent else "",
            weight=node.row.weight_millis / 1_000,
            enabled=node.row.enabled,
            admits=node.is_open,
            declared=node.declared,
            workflow_count=node.usage.get("workflows", 0),
            pod_count=node.usage.get("pods", 0),
        )
        for node in _sorted(state)
    ]


def quota_pages(state: State) -> list[QuotaPage]:
    """Each resource that a tenant has a quota of or holds, by path and resource."""
    return [
        _quota_page(state, node, resource)
        for node in _sorted(state)
        for resource in sorted({**node.row.quotas, **node.usage})
    ]


def _quota_page(state: State, node: Tenant, resource: str) -> QuotaPage:
    quota, capacity = node.row.quotas.get(resource), state.tenancy.capacity.get(resource)
    return QuotaPage(
        tenant=node.label,
        resource=resource,
        used=in_units(resource, node.usage.get(resource, 0)),
        borrowed=in_units(resource, node.borrowed(resource)),
        nominal=None if quota is None else in_units(resource, quota.nominal),
        borrow_max=None if quota is None or quota.borrow_max is None else in_units(resource, quota.borrow_max),
        lend_max=None if quota is None or quota.lend_max is None else in_units(resource, quota.lend_max),
        capacity=None if capacity is None else in_units(resource, capacity),
    )


def share_pages(state: State) -> list[SharePage]:
    """All nodes, by path."""
    return [
        SharePage(
            tenant=node.label,
            parent=node.parent.label if node.parent else "",
            weight=node.row.weight_millis / 1_000,
            dominant=dominant_resource(state.tenancy, node),
            share=share_billionths(state.tenancy, node) / BILLION,
        )
        for node in _sorted(state)
    ]


def in_units(resource: str, amount: int) -> float:
    """An amount as people count it."""
    return float(amount) if resource in BYTES or resource in COUNTS else amount / 1_000


def _sorted(state: State) -> list[Tenant]:
    return [node for _, node in sorted(state.tenancy.nodes.items())]
