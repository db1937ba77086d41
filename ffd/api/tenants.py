"""Tenants, quotas and shares as one caller sees them; both transports come through here. The root is `/`, or `-`.

A caller sees the levels that its projects are charged to, and nothing of others (S23): neither names nor numbers, but
for what a common level holds as a whole. Never here: who may change them (`authz`), what one does (`core.tenants`).
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from ffd.api.access import Access
from ffd.api.limits import check_name
from ffd.core.amounts import amount_of
from ffd.core.commands import SetQuota, SetTenant, TenantSet
from ffd.core.pages import QuotaPage, SharePage, TenantPage
from ffd.errors import Refusal

ROOTS = ("/", "-")  # how people write the root; `-` where a path cannot hold a `/`
P = TypeVar("P", TenantPage, QuotaPage, SharePage)


async def tenants(access: Access) -> list[TenantPage]:
    return await _seen(access, await access.engine.tenants())


async def quotas(access: Access, tenant: str = "") -> list[QuotaPage]:
    """Of all tenants that are seen, or of one. Refusal: not_found."""
    if not tenant:
        return await _seen(access, await access.engine.quotas())
    label = path_of(access, tenant) or "/"
    if all(page.tenant != label for page in await tenants(access)):
        raise Refusal(f"there is no tenant {label[:80]!r}", code="not_found", field="tenant")
    return [page for page in await access.engine.quotas() if page.tenant == label]


async def shares(access: Access) -> list[SharePage]:
    return await _seen(access, await access.engine.shares())


async def _seen(access: Access, pages: list[P]) -> list[P]:
    if access.sees_all:
        return pages
    parents = {page.tenant: page.parent for page in await access.engine.tenants()}
    seen: dict[str, None] = {}
    for project in access.principal.projects:
        tenant = project
        while tenant not in parents:  # never used yet: the level above that it would be made under
            tenant = tenant.rpartition("/")[0] or "/"
        while tenant and tenant not in seen:
            seen[tenant] = None
            tenant = parents[tenant]
    return [page for page in pages if page.tenant in seen]


async def set_tenant(
    access: Access, tenant: str, key: str, *, weight: float | None, enabled: bool | None, parent: str | None
) -> TenantSet:
    """Idempotent by `key`. Refusal: invalid, conflict, limit."""
    path, above = path_of(access, tenant), None if parent is None else path_of(access, parent)
    if weight is not None and not 0 < weight <= 1e6:  # NaN is not
        raise Refusal(f"the weight is {weight:g}, expected more than 0, at most 1000000", field="weight")
    weight_millis = None if weight is None else max(1, round(weight * 1_000))
    return await _ask(access, SetTenant, path, key, weight_millis=weight_millis, enabled=enabled, parent=above)


async def set_quota(
    access: Access, tenant: str, key: str, changes: dict[str, Any], *, replace: bool = False
) -> TenantSet:
    """`changes` as people count: {"gpus": 64, "memory": {"nominal": "2Ti", "lend_max": null}, "pods": null}."""
    fields = {resource: _fields(resource, change) for resource, change in changes.items()}
    return await _ask(access, SetQuota, path_of(access, tenant), key, changes=fields, replace=replace)


async def _ask(
    access: Access, kind: type[SetTenant] | type[SetQuota], tenant: str, key: str, **arguments: Any
) -> TenantSet:
    check_name(key, "key", access.limits)
    payload = msgspec.json.encode([kind.__name__, tenant, sorted(arguments.items())])
    command = kind(
        by=access.principal.name, project=tenant, key=key, payload_digest=sha256(payload).hexdigest(), tenant=tenant,
        **arguments,
    )  # fmt: skip
    answer = await access.engine.ask(command)
    assert isinstance(answer, TenantSet)
    return TenantSet(answer.tenant or "/", answer.duplicate)


def path_of(access: Access, text: str) -> str:
    """The path of a tenant as it was written: "" for the root. Refusal: invalid."""
    if not text:
        raise Refusal("no tenant is named", field="tenant", hint="/ is the root")
    return "" if text in ROOTS else check_name(text, "tenant", access.limits)


def _fields(resource: str, change: Any) -> dict[str, int | None] | None:
    if change is None:
        return None
    if not isinstance(change, dict):
        return {"nominal": amount_of(resource, change), "borrow_max": 0, "lend_max": None}
    return {name: None if value is None else amount_of(resource, value) for name, value in change.items()}
