"""A simulation that begins with the state of a live daemon, and what is changed in it: `ffd simulate --live`.

A snapshot is the daemon's own rows: `State.load` makes of them what the daemon would after a restart, and the world
goes on from there, through the same recovery. Changes are ordinary commands and reports at the first instant. The
daemon knows nothing of it. Called by `scenario` and `ffd simulate`. Never here: fetching the snapshot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from ffd.core.amounts import amount_of
from ffd.core.commands import AnyCommand, Drain, SetQuota, Submit
from ffd.core.limits import Limits
from ffd.core.model import Node, Rows
from ffd.core.policy import Policy
from ffd.core.reports import AnyReport, Recovered
from ffd.core.state import State
from ffd.errors import Refusal
from ffd.settings import Scheduling
from ffd.simulate.faults import did_you_mean
from ffd.simulate.inventory import more_nodes

_QUOTA = re.compile(r"([^:]*):([^=]+)=([+-]?)(.+)")
_LABEL = re.compile(r"([^=]+)=(.+)")


class Snapshot(msgspec.Struct, frozen=True):
    """The live state of a daemon as of one commit, and how it schedules."""

    number: int
    at_ms: int
    rows: Rows
    limits: Limits
    policy: Scheduling


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is changed at the begin, as typed: `add_nodes` 8x8:H100 or a file; `quotas` research/llm:gpus=+64 (or =128);
    `drains` names of nodes, or LABEL=VALUE; `submits` documents that are ready to go."""

    add_nodes: tuple[str, ...] = ()
    quotas: tuple[str, ...] = ()
    drains: tuple[str, ...] = ()
    submits: tuple[Submit, ...] = ()

    @property
    def is_nothing(self) -> bool:
        return self == Change()


def snapshot_of(number: int, at_ms: int, policy: bytes, limits: bytes, rows: Rows) -> Snapshot:
    """A snapshot as it travels. Refusal: it comes from a daemon of another make."""
    try:
        return Snapshot(
            number,
            at_ms,
            rows,
            msgspec.msgpack.decode(limits, type=Limits),
            msgspec.msgpack.decode(policy, type=Scheduling),
        )
    except msgspec.DecodeError as error:
        raise Refusal(f"the snapshot cannot be read: {error}", code="unsupported") from None


def loaded(snapshot: Snapshot, limits: Limits, policy: Policy) -> tuple[State, Recovered]:
    """The daemon's state, and the report with which the world takes over what runs. Refusal: it cannot be read."""
    try:
        state = State.load(snapshot.rows, limits, policy)
    except msgspec.DecodeError as error:
        raise Refusal(f"the snapshot cannot be read: {error}", code="unsupported") from None
    living = [(name, rank) for name, attempt, _ in state.reserved() for rank in range(len(attempt.places))]
    return state, Recovered(tuple(sorted(living)))


def changes_of(
    state: State, nodes: tuple[Node, ...], change: Change
) -> tuple[tuple[Node, ...], list[AnyCommand | AnyReport]]:
    """The nodes after the change, and the rest of it as inputs of the core: quotas, drains, submits."""
    for text in change.add_nodes:
        nodes = tuple(sorted((*nodes, *more_nodes(text, nodes)), key=lambda node: node.name))
    found: list[AnyCommand | AnyReport] = [quota_of(state, text) for text in change.quotas]
    found += [drain_of(nodes, text) for text in change.drains]
    return nodes, [*found, *change.submits]


def quota_of(state: State, text: str) -> SetQuota:
    """`TENANT:RESOURCE=AMOUNT` sets a quota that borrows nothing; `=+AMOUNT` and `=-AMOUNT` change the nominal one."""
    match = _QUOTA.fullmatch(text)
    if match is None:
        hint = "for example research/llm:gpus=+64, or research:memory=2Ti"
        raise Refusal(f"--quota is `{text}`, expected TENANT:RESOURCE=AMOUNT", field="--quota", hint=hint)
    tenant, resource, sign, word = match[1].strip("/"), match[2], match[3], match[4]
    amount = amount_of(resource, word)
    change: dict[str, int | None] = {"nominal": amount, "borrow_max": 0, "lend_max": None}
    if sign:
        node = state.tenancy.nodes.get(tenant)
        quota = node.row.quotas.get(resource) if node else None
        if quota is None:
            raise Refusal(
                f"--quota {text}: {tenant or '/'} has no quota of {resource} to change", field="--quota",
                hint="without a quota there is no bound of its own; =AMOUNT sets one",
            )  # fmt: skip
        change = {"nominal": max(0, quota.nominal + (amount if sign == "+" else -amount))}
    return SetQuota(tenant=tenant, changes={resource: change}, by="simulate")


def drain_of(nodes: Sequence[Node], text: str) -> Drain:
    """A node by its name, or all that have a label: `rack=rack-007`."""
    label = _LABEL.fullmatch(text)
    if label is not None:
        if not any(node.labels.get(label[1]) == label[2] for node in nodes):
            known = sorted({f"{label[1]}={node.labels[label[1]]}" for node in nodes if label[1] in node.labels})
            hint = did_you_mean(text, known[:1_000]) if known else f"no node has a label {label[1]}"
            raise Refusal(f"--drain {text}: no node has this label", field="--drain", hint=hint)
        return Drain(labels={label[1]: label[2]}, by="simulate")
    names = [node.name for node in nodes]
    if text not in names:
        hint = did_you_mean(text, names[:1_000]) if len(names) <= 20 else ""
        raise Refusal(f"--drain {text}: there is no such node", field="--drain", hint=hint)
    return Drain(nodes=(text,), by="simulate")
