"""The part of the HTTP API's table that is about tenants: who there is, quotas, shares. Part of `routes.ROUTES`."""

from __future__ import annotations

import msgspec

from ffd.api import http_shapes as shapes
from ffd.api import tenants
from ffd.api.route import PREFIX, Call, Route
from ffd.core.commands import TenantSet


async def list_tenants(call: Call) -> shapes.TenantList:
    return shapes.TenantList(await tenants.tenants(call.access))


async def list_shares(call: Call) -> shapes.ShareList:
    return shapes.ShareList(await tenants.shares(call.access))


async def list_quotas(call: Call) -> shapes.QuotaList:
    return shapes.QuotaList(await tenants.quotas(call.access, call.path.get("id", "")))


async def set_tenant(call: Call) -> TenantSet:
    return await tenants.set_tenant(call.access, call.path["id"], call.key, **msgspec.structs.asdict(call.body))


async def set_quota(call: Call) -> shapes.QuotaList:
    await tenants.set_quota(call.access, call.path["id"], call.key, call.body.quotas, replace=True)
    return await list_quotas(call)


T = f"{PREFIX}/tenants"
TENANT_ROUTES: tuple[Route, ...] = (
    Route("GET", T, "tenants", "List the tenants that one may see", list_tenants, shapes.TenantList),
    Route(
        "PATCH", T + "/{id:.+}", "set_tenant", "Declare or change a tenant", set_tenant, TenantSet,
        body=shapes.TenantBody,
    ),
    Route("GET", T + "/{id:.+}/quota", "quotas", "Show what a tenant holds, and may", list_quotas, shapes.QuotaList),
    Route(
        "PUT", T + "/{id:.+}/quota", "set_quota", "Give a tenant exactly these quotas", set_quota, shapes.QuotaList,
        body=shapes.QuotaBody,
    ),
    Route("GET", PREFIX + "/quotas", "quotas", "List what tenants hold, and may", list_quotas, shapes.QuotaList),
    Route("GET", PREFIX + "/shares", "shares", "List the shares of tenants", list_shares, shapes.ShareList),
)  # fmt: skip
