"""Tenants: what operators decide about who may hold how much: weights, quotas, disabling, moving.

Called by `core.step` for SetTenant and SetQuota. Every one answers TenantSet or a Refusal that changed nothing. Live
changes stop nothing that runs: where more is held than is allowed now, nothing is admitted until usage has fallen.
"""

from __future__ import annotations

import re
from typing import Any

from ffd.core.amounts import RESOURCES
from ffd.core.commands import SetQuota, SetTenant, TenantSet
from ffd.core.entry import key_scope, refuse_if_too_many_tenants, refuse_reuse
from ffd.core.events import KeyRemembered, QuotaChanged, TenantChanged, TenantMoved, UsageNoted
from ffd.core.model import Quota
from ffd.core.tenancy import UNDECLARED
from ffd.core.work import Work
from ffd.errors import Refusal

PATH = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*", re.ASCII)  # as projects are named
MODEL_RESOURCE = re.compile(r"gpus/[\w.+-]{1,64}", re.ASCII)
PATH_CHARACTERS = 256
WEIGHT_MILLIS_MAX = 1_000_000_000
AMOUNT_MAX = 1 << 62
QUOTAS_COUNT = 64  # resources one tenant may have quotas for
FIELDS = ("nominal", "borrow_max", "lend_max")


def set_tenant(work: Work, command: SetTenant) -> None:
    if _answered_before(work, command):
        return
    refusal = _refuse_tenant(work, command)
    if refusal is not None:
        work.answer(refusal)
        return
    path, found = command.tenant, work.state.tenancy.nodes.get(command.tenant)
    row = found.row if found else UNDECLARED
    weight_millis = row.weight_millis if command.weight_millis is None else command.weight_millis
    enabled = row.enabled if command.enabled is None else command.enabled
    declared = found is not None and found.declared
    if not declared or (weight_millis, enabled) != (row.weight_millis, row.enabled):
        work.emit(TenantChanged(path, weight_millis, enabled, command.by))
    if command.parent is not None and _parent(work, path) != command.parent:
        work.emit(TenantMoved(path, command.parent, command.by))
    _done(work, command)


def _refuse_tenant(work: Work, command: SetTenant) -> Refusal | None:
    weight, parent = command.weight_millis, command.parent
    refusal = refuse_path(command.tenant)
    if refusal is None and parent is not None:
        refusal = refuse_path(parent, "parent") or _refuse_loop(work, command.tenant, parent)
    if refusal is None and weight is not None and not 1 <= weight <= WEIGHT_MILLIS_MAX:
        refusal = Refusal(
            f"the weight is {weight / 1000:g}, expected 0.001 to {WEIGHT_MILLIS_MAX // 1000}", field="weight"
        )
    return refusal or refuse_if_too_many_tenants(work.state, command.tenant, *([] if parent is None else [parent]))


def _refuse_loop(work: Work, path: str, parent: str) -> Refusal | None:
    if path == "":
        return Refusal("the root / has no parent", field="parent")
    if work.state.tenancy.is_below(parent, path):
        return Refusal(f"{parent} is {path} or belongs to it: a tenant cannot be below itself", field="parent")
    return None


def _parent(work: Work, path: str) -> str | None:
    node = work.state.tenancy.nodes.get(path)
    return node.parent.path if node is not None and node.parent is not None else None


def set_quota(work: Work, command: SetQuota) -> None:
    if _answered_before(work, command):
        return
    state, path = work.state, command.tenant
    refusal = refuse_path(path) or refuse_if_too_many_tenants(state, path)
    node = state.tenancy.nodes.get(path)
    before = node.row.quotas if node else {}
    try:
        after = _changed(before, command) if refusal is None else before
    except Refusal as error:
        refusal = error
    if refusal is not None:
        work.answer(refusal)
        return
    for resource in sorted({**before, **after}):
        if before.get(resource) != after.get(resource):
            work.emit(QuotaChanged(path, resource, after.get(resource), command.by))
    _done(work, command)


def _changed(before: dict[str, Quota], command: SetQuota) -> dict[str, Quota]:
    """The quotas after the command. Raises Refusal."""
    after = {} if command.replace else dict(before)
    for resource, fields in command.changes.items():
        if resource not in RESOURCES and not MODEL_RESOURCE.fullmatch(resource):
            raise _unknown(resource)
        if fields is None:
            after.pop(resource, None)
        else:
            old = after.get(resource)
            known: dict[str, Any] = {name: getattr(old, name) for name in FIELDS} if old else {}
            after[resource] = _quota(resource, {**known, **fields})
    if len(after) > QUOTAS_COUNT:
        raise Refusal(f"a tenant has quotas for at most {QUOTAS_COUNT} resources", code="limit", field="quotas")
    return after


def _unknown(resource: str) -> Refusal:
    return Refusal(
        f"unknown resource {resource[:80]!r}", field=f"quotas.{resource[:80]}",
        hint=f"one of {', '.join(RESOURCES)}, or gpus/MODEL",
    )  # fmt: skip


def _quota(resource: str, fields: dict[str, int | None]) -> Quota:
    for name, value in fields.items():
        if name not in FIELDS:
            hint = f"one of {', '.join(FIELDS)}"
            raise Refusal(f"{resource} has no {name[:40]}", field=f"quotas.{resource}", hint=hint)
        if value is not None and not 0 <= value <= AMOUNT_MAX:
            raise Refusal(
                f"{resource}.{name} is {value}, expected 0 to {AMOUNT_MAX}", field=f"quotas.{resource}.{name}"
            )
    nominal, borrow_max, lend_max = (fields.get(name) for name in FIELDS)
    if nominal is None:
        raise Refusal(f"a quota of {resource} needs a nominal amount", field=f"quotas.{resource}.nominal")
    if lend_max is not None and lend_max > nominal:
        raise Refusal(
            f"{resource}: it cannot lend more than its nominal amount", field=f"quotas.{resource}.lend_max",
            hint="without lend_max it lends all that lies idle",
        )  # fmt: skip
    return Quota(nominal, borrow_max, lend_max)


def note_usage(work: Work) -> None:
    """Now and then, where decayed usage counts."""
    past = work.state.tenancy.past_to_note()
    if past:
        work.emit(UsageNoted(work.state.now_ms, past))


def refuse_path(path: str, field: str = "tenant") -> Refusal | None:
    """A tenant's path, "" being the root."""
    if path == "" or (len(path) <= PATH_CHARACTERS and PATH.fullmatch(path)):
        return None
    return Refusal(
        f"not a tenant's path: {path[:80]!r}", field=field, hint="write team/group/project, or / for the root"
    )


def _answered_before(work: Work, command: SetTenant | SetQuota) -> bool:
    scope = key_scope(command)
    if scope not in work.state.keys:
        return False
    work.answer(refuse_reuse(work.state, command, scope) or TenantSet(command.tenant, duplicate=True))
    return True


def _done(work: Work, command: SetTenant | SetQuota) -> None:
    scope = key_scope(command)
    if scope:
        work.emit(KeyRemembered(scope, command.payload_digest, 0))
    work.answer(TenantSet(command.tenant))
