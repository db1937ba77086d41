"""The groups `tenant`, `quota` and `share`: the tree of tenants, what each may hold, who comes first. The root is `/`.

Reading shows what one's own projects are charged to; setting is for administrators. Never here: what an amount means
(the daemon reads it as it was written).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from ffd.cli import output, terminal
from ffd.cli.output import Column
from ffd.cli.session import Session, Verb, pass_session
from ffd.errors import Refusal

if TYPE_CHECKING:
    from ffd.api.client import Client
    from ffd.core.commands import TenantSet
    from ffd.core.pages import QuotaPage, SharePage

FIELDS = {"nominal": "nominal", "borrow": "borrow_max", "lend": "lend_max"}
UNSET = {"borrow": "any", "lend": "all"}  # the words for: without that bound
BYTES = ("memory", "storage")

TENANT = click.argument("name", metavar="TENANT")
KEY = click.option("--idempotency-key", "key", default="", help="The same key never acts twice.")


def _set(session: Session, act: Callable[[Client], Awaitable[TenantSet]], words: str) -> None:
    done = session.call(act)
    output.write(terminal.cell(f"{done.tenant} {words}") + "\n")


def _of(pages: list[Any], name: str) -> list[Any]:
    """Those of one tenant. Refusal: not_found."""
    found = [page for page in pages if page.tenant == name]
    if not found:
        raise Refusal(f'no tenant "{name}"', code="not_found", hint="ffd tenant ls shows what there is")
    return found


# ----------------------------------------------------------------------------------------------------------- tenant


@click.group()
def tenant() -> None:
    """See and change the tree of tenants."""


def _tenant_columns() -> list[Column]:
    return [
        Column("TENANT", lambda page: page.tenant),
        Column("PARENT", lambda page: page.parent),
        Column("WEIGHT", lambda page: f"{page.weight:g}", right=True),
        Column("STATE", _state),
        Column("WORKFLOWS", lambda page: str(page.workflow_count), right=True),
        Column("REPLICAS", lambda page: str(page.pod_count), right=True),
        Column("DECLARED", lambda page: "yes" if page.declared else "no", wide=True),
    ]


def _state(page: Any) -> str:
    if not page.enabled:
        return "disabled"
    return "enabled" if page.admits else "disabled above"


@tenant.command("ls", cls=Verb)
@output.output_option
@pass_session
def tenant_ls(session: Session, form: str) -> None:
    """List tenants by path: each level is one."""
    pages = session.call(lambda client: client.tenants())
    output.emit_list(pages, _tenant_columns(), form, lambda page: str(page.tenant), "no tenants")


@tenant.command("get", cls=Verb)
@TENANT
@output.output_option
@pass_session
def tenant_get(session: Session, name: str, form: str) -> None:
    """Show one tenant."""
    pages = _of(session.call(lambda client: client.tenants()), name)
    output.emit_list(pages, _tenant_columns(), form, lambda page: str(page.tenant))


@tenant.command("set", cls=Verb)
@TENANT
@click.option("--weight", type=float, help="Its part among its siblings; 1 at first.")
@click.option("--enable/--disable", "enabled", default=None, help="Disabled: nothing new starts; what runs goes on.")
@KEY
@pass_session
def tenant_set(session: Session, name: str, weight: float | None, enabled: bool | None, key: str) -> None:
    """Declare a tenant, or change it."""
    _set(session, lambda client: client.set_tenant(name, weight=weight, enabled=enabled, key=key), "set")


@tenant.command("move", cls=Verb)
@TENANT
@click.argument("parent", metavar="PARENT")
@KEY
@pass_session
def tenant_move(session: Session, name: str, parent: str, key: str) -> None:
    """Charge a tenant, and all below it, to another parent. Its name and its projects' names stay."""
    _set(session, lambda client: client.set_tenant(name, parent=parent, key=key), f"moved under {parent}")


# ------------------------------------------------------------------------------------------------------------ quota


@click.group()
def quota() -> None:
    """See and change what tenants may hold."""


def _quota_columns() -> list[Column]:
    def amount(field: str, unset: str = "") -> Callable[[QuotaPage], str]:
        return lambda page: _amount(page, field, unset)

    return [
        Column("TENANT", lambda page: page.tenant),
        Column("RESOURCE", lambda page: page.resource),
        Column("USED", amount("used"), right=True),
        Column("NOMINAL", amount("nominal"), right=True),
        Column("BORROWED", amount("borrowed"), right=True),
        Column("BORROW", amount("borrow_max", UNSET["borrow"]), right=True),
        Column("LEND", amount("lend_max", UNSET["lend"]), right=True),
        Column("CLUSTER", amount("capacity"), wide=True, right=True),
    ]


def _amount(page: QuotaPage, field: str, unset: str) -> str:
    value = getattr(page, field)
    if value is None:
        return unset if page.nominal is not None else ""
    return terminal.size(int(value)) if page.resource in BYTES else f"{value:.12g}"


@quota.command("ls", cls=Verb)
@click.option("--all", "everything", is_flag=True, help="Also what is held without a quota.")
@output.output_option
@pass_session
def quota_ls(session: Session, everything: bool, form: str) -> None:
    """List quotas by tenant, with what is used and borrowed."""
    pages = session.call(lambda client: client.quotas())
    kept = [page for page in pages if everything or page.nominal is not None]
    output.emit_list(kept, _quota_columns(), form, _quota_name, "no quotas")


@quota.command("get", cls=Verb)
@TENANT
@output.output_option
@pass_session
def quota_get(session: Session, name: str, form: str) -> None:
    """Show what one tenant holds and may hold."""
    pages = session.call(lambda client: client.quotas(name))
    output.emit_list(pages, _quota_columns(), form, _quota_name, f"{name} holds nothing and has no quota")


def _quota_name(page: QuotaPage) -> str:
    return f"{page.tenant} {page.resource}"


@quota.command("set", cls=Verb)
@TENANT
@click.argument("changes", nargs=-1, required=True, metavar="RESOURCE[.FIELD]=AMOUNT")
@KEY
@pass_session
def quota_set(session: Session, name: str, changes: tuple[str, ...], key: str) -> None:
    """Change quotas. They hold from the next start on; what runs goes on.

    RESOURCE is gpus, gpus/MODEL, cpus, memory, storage, pods or workflows. RESOURCE=64 is a plain bound: nominal 64,
    nothing borrowed. FIELD is nominal, borrow (at most so much above it; any = no bound of its own) or lend (at most so
    much of it while it lies idle; all). RESOURCE=none removes the quota.
    """
    asked = read_changes(changes)
    _set(session, lambda client: client.set_quota(name, asked, key=key), "set")


def read_changes(changes: tuple[str, ...]) -> dict[str, Any]:
    """`gpus=64 gpus.borrow=16 pods=none` as the API takes it; later words win. BadParameter: not of that form."""
    asked: dict[str, Any] = {}
    for change in changes:
        left, equals, value = change.partition("=")
        resource, dot, field = left.rpartition(".")
        if field not in FIELDS or not dot:  # names of models have dots, too
            resource, field = left, ""
        if not equals or not value or not resource:
            raise click.BadParameter(
                f'"{change}": expected RESOURCE=AMOUNT or RESOURCE.FIELD=AMOUNT, as gpus.borrow=16'
            )
        if field:
            before = asked.get(resource)
            fields = before if isinstance(before, dict) else {}
            fields[FIELDS[field]] = None if value == UNSET.get(field) else _typed(value)
            asked[resource] = fields
        elif value == "none":
            asked[resource] = None
        else:
            asked[resource] = {"nominal": _typed(value), "borrow_max": 0, "lend_max": None}
    return asked


def _typed(value: str) -> int | str:
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 16 else value


# ------------------------------------------------------------------------------------------------------------ share


@click.group()
def share() -> None:
    """See who has which share of the cluster, and change weights."""


def _share_columns() -> list[Column]:
    def part(page: SharePage) -> str:
        return f"{page.share * 100:.2f}%"

    return [
        Column("TENANT", lambda page: page.tenant),
        Column("WEIGHT", lambda page: f"{page.weight:g}", right=True),
        Column("SHARE", part, right=True),
        Column("DOMINANT", lambda page: page.dominant),
        Column("PARENT", lambda page: page.parent, wide=True),
    ]


@share.command("ls", cls=Verb)
@output.output_option
@pass_session
def share_ls(session: Session, form: str) -> None:
    """List shares by path: the part of the dominant resource, divided by the weight. Who has least comes first."""
    pages = session.call(lambda client: client.shares())
    output.emit_list(pages, _share_columns(), form, lambda page: str(page.tenant), "no tenants")


@share.command("get", cls=Verb)
@TENANT
@output.output_option
@pass_session
def share_get(session: Session, name: str, form: str) -> None:
    """Show the share of one tenant."""
    pages = _of(session.call(lambda client: client.shares()), name)
    output.emit_list(pages, _share_columns(), form, lambda page: str(page.tenant))


@share.command("set", cls=Verb)
@TENANT
@click.argument("weight", type=float)
@KEY
@pass_session
def share_set(session: Session, name: str, weight: float, key: str) -> None:
    """Give a tenant a weight: twice the weight is twice the share among its siblings."""
    _set(session, lambda client: client.set_tenant(name, weight=weight, key=key), f"weight {weight:g}")
