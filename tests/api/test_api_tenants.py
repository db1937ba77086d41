"""Tenants, quotas and shares over both transports: who sees what (S23), what is asked of the core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from scripted import served

from ffd.core.amounts import amount_of
from ffd.core.commands import SetQuota, SetTenant, TenantSet
from ffd.errors import Refusal
from ffd.plugins.ports import Principal

pytestmark = pytest.mark.anyio
T = "/api/v1/tenants"


class Fixed:
    """Everybody is this one."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal

    async def authenticate(self, token: str, peer: str) -> Principal:
        return self.principal


async def test_the_tree_over_grpc(tmp_path: Path) -> None:
    async with served(tmp_path) as found, found.client() as client:
        assert [page.tenant for page in await client.tenants()] == [
            "/", "default", "other", "team", "team/mine", "team/yours",
        ]  # fmt: skip
        (page,) = await client.quotas("team")
        assert (page.used, page.nominal, page.borrow_max, page.lend_max) == (3.0, 4.0, None, 0.5)
        assert (await client.shares())[3].share == 0.25
        with pytest.raises(Refusal, match="there is no tenant 'nobody'"):
            await client.quotas("nobody")


async def test_a_user_sees_what_its_projects_are_charged_to_and_no_other_name(tmp_path: Path) -> None:
    auth = Fixed(Principal("u", projects=("team/mine", "other/never-used")))
    async with served(tmp_path, auth=auth) as found, found.client() as client:
        seen = ["/", "other", "team", "team/mine"]
        assert [page.tenant for page in await client.tenants()] == seen
        assert [page.tenant for page in await client.shares()] == seen
        assert [page.tenant for page in await client.quotas()] == seen
        for name in ("team/yours", "default"):
            with pytest.raises(Refusal) as refusal:
                await client.quotas(name)
            assert (refusal.value.code, refusal.value.hint) == ("not_found", "")
        for act in (client.set_tenant("team", weight=2.0), client.set_quota("team", {"gpus": 1})):
            with pytest.raises(Refusal) as refusal:
                await act
            assert refusal.value.code == "forbidden"
        assert not found.engine.asked


async def test_what_is_set_is_asked_of_the_core_in_its_units(tmp_path: Path) -> None:
    async with served(tmp_path) as found, found.client() as client:
        assert await client.set_tenant("team", weight=0.5, enabled=False, parent="/", key="k") == TenantSet("team")
        changes = {"gpus": 1.5, "memory": {"nominal": "2Ti", "lend_max": None}, "pods": None}
        assert await client.set_quota("/", changes, replace=True) == TenantSet("/")
        tenant, quota = found.engine.asked
        assert isinstance(tenant, SetTenant) and isinstance(quota, SetQuota)
        assert (tenant.weight_millis, tenant.enabled, tenant.parent, tenant.key) == (500, False, "", "k")
        assert (tenant.project, tenant.tenant) == ("team", "team") and tenant.by
        assert (quota.tenant, quota.replace) == ("", True)
        assert quota.changes == {
            "gpus": {"nominal": 1_500, "borrow_max": 0, "lend_max": None},
            "memory": {"nominal": 2 << 40, "lend_max": None},
            "pods": None,
        }
        again = await client.set_tenant("team", weight=0.5, enabled=False, parent="/", key="k")
        assert again.duplicate
        with pytest.raises(Refusal, match="used for something else"):
            await client.set_tenant("team", weight=0.6, key="k")


async def test_over_http(tmp_path: Path) -> None:
    async with served(tmp_path) as found, aiohttp.ClientSession(found.http) as session:

        async def ask(method: str, path: str, status: int = 200, **more: Any) -> Any:
            async with session.request(method, path, **more) as reply:
                assert reply.status == status, await reply.read()
                return await reply.json(content_type=None)

        assert len((await ask("GET", T))["tenants"]) == 6
        assert len((await ask("GET", "/api/v1/shares"))["shares"]) == 6
        (page,) = (await ask("GET", f"{T}/team/mine/quota"))["quotas"]
        assert (page["tenant"], page["nominal"]) == ("team/mine", 4.0)
        assert (await ask("GET", f"{T}/-/quota"))["quotas"][0]["tenant"] == "/"
        await ask("GET", f"{T}/nobody/quota", 404)
        await ask("PUT", f"{T}/team/mine/quota", json={"quotas": {"gpus": 2}})
        await ask("PUT", f"{T}/team/mine/quota", 400, json={"quotas": {"gpus": "many"}})
        await ask("PUT", f"{T}/team/mine/quota", 400, json={})
        assert (await ask("PATCH", f"{T}/team/mine", json={"weight": 3}))["tenant"] == "team/mine"
        await ask("PATCH", f"{T}/team", 400, json={"weight": 0})
        quota, tenant = found.engine.asked
        assert isinstance(quota, SetQuota) and isinstance(tenant, SetTenant)
        assert (quota.tenant, quota.replace, tenant.weight_millis, tenant.enabled) == ("team/mine", True, 3_000, None)


@pytest.mark.parametrize(
    ("resource", "value", "amount"),
    [
        ("gpus", 64, 64_000), ("gpus", "0.5", 500), ("cpus", 1.25, 1_250), ("pods", "7", 7), ("workflows", 0, 0),
        ("memory", "512Gi", 512 << 30), ("storage", 1_000.0, 1_000),
    ],
)  # fmt: skip
async def test_amounts_as_people_write_them(resource: str, value: Any, amount: int) -> None:
    assert amount_of(resource, value) == amount


@pytest.mark.parametrize(
    ("resource", "value"),
    [
        ("gpus", "x"), ("gpus", 0.0005), ("gpus", -1), ("gpus", True), ("gpus", "nan"), ("gpus", 1e300), ("gpus", [1]),
        ("pods", 1.5), ("memory", "512"), ("memory", 0.5), ("memory", -1), ("memory", {}), ("gpus", "1_0x"),
    ],
)  # fmt: skip
async def test_other_amounts_are_refused_by_name(resource: str, value: Any) -> None:
    with pytest.raises(Refusal) as refusal:
        amount_of(resource, value)
    assert refusal.value.field == f"quotas.{resource}" and resource in refusal.value.message


async def test_nobody_is_no_tenant(tmp_path: Path) -> None:
    async with served(tmp_path) as found, found.client() as client:
        with pytest.raises(Refusal, match="no tenant is named"):
            await client.set_tenant("", weight=1.0)
