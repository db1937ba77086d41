"""The client's calls about tenants, quotas and shares. Part of `client.Client`, which says how calls behave."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

from ffd.api.cluster_client import new_key
from ffd.api.codec import encode_json, from_proto
from ffd.api.link import Link
from ffd.core.commands import TenantSet
from ffd.core.pages import QuotaPage, SharePage, TenantPage
from ffd.proto.ffd.v1 import cluster_pb2 as pb
from ffd.proto.ffd.v1.cluster_grpc import ClusterStub


class TenantCalls:
    """The root of the tree is `/`. One sees what one's own projects are charged to; changing needs an administrator."""

    _link: Link

    async def tenants(self) -> builtins.list[TenantPage]:
        """By path."""
        reply = await self._link.call(ClusterStub, "Tenants", pb.TenantsRequest())
        return [from_proto(TenantPage, page) for page in reply.tenants]

    async def quotas(self, tenant: str = "") -> builtins.list[QuotaPage]:
        """What they hold and may hold, by path and resource; or only one of them."""
        reply = await self._link.call(ClusterStub, "Quotas", pb.QuotasRequest(tenant=tenant))
        return [from_proto(QuotaPage, page) for page in reply.quotas]

    async def shares(self) -> builtins.list[SharePage]:
        """How much of the cluster each of them has for its weight, by path."""
        reply = await self._link.call(ClusterStub, "Shares", pb.SharesRequest())
        return [from_proto(SharePage, page) for page in reply.shares]

    async def set_tenant(
        self,
        tenant: str,
        *,
        weight: float | None = None,
        enabled: bool | None = None,
        parent: str | None = None,
        key: str = "",
    ) -> TenantSet:
        """Declare or change a tenant. None = as it is."""
        changes: dict[str, Any] = {"weight": weight, "enabled": enabled, "parent": parent}
        given = {name: value for name, value in changes.items() if value is not None}
        request = pb.SetTenantRequest(tenant=tenant, key=key or new_key(), **given)
        return from_proto(TenantSet, await self._link.call(ClusterStub, "SetTenant", request))

    async def set_quota(
        self, tenant: str, changes: Mapping[str, Any], *, replace: bool = False, key: str = ""
    ) -> TenantSet:
        """{"gpus": 64, "memory": {"nominal": "2Ti", "lend_max": None}, "pods": None}: a bare amount = nominal, and
        nothing is borrowed; None = no quota, or without that bound. `replace`: resources that are not named lose
        theirs."""
        request = pb.SetQuotaRequest(
            tenant=tenant, key=key or new_key(), changes_json=encode_json(dict(changes)), replace=replace
        )
        return from_proto(TenantSet, await self._link.call(ClusterStub, "SetQuota", request))
