"""What would start a waiting gang sooner: changes that are tried on the real books by the real cycle, and undone.

A change is a text, as `ffd why --what-if` takes it; several are tried together:

    quota.RESOURCE=+AMOUNT   each level of its tenant's path that has a quota of it has so much more
    gang.replicas=N          the gang has N replicas
    gang.min=N               fewer will do, N at least, as if it had waited long enough
    topology=WORD            any, preferred, required, or another level (then required)
    gpu_type=A|B             these GPU models
    gpus=N                   so many GPUs for each replica
    priority=N               of the whole workflow
    nodes=+2x8:H100          so many more nodes, with so many GPUs
    uncordon=NODE            this node takes work again

A change of the document holds for all items of the task that come before this one, too. Called by `views`. Never here:
why it waits (explain), or doing any of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from msgspec.structs import replace

from ffd.core.admit.quota import allowed_models, check_gang
from ffd.core.amounts import BYTES, COUNTS, RESOURCES, amount_of
from ffd.core.model import Node
from ffd.core.pages import WhatIfPage
from ffd.core.rehearsal import Rehearsal
from ffd.core.schedule.cycle import Cycle, Proposal, followed_domains
from ffd.core.schedule.ends import FOREVER_MS
from ffd.core.schedule.explain import Found, examine
from ffd.core.schedule.place import ANY, find_places
from ffd.core.schedule.reserve import fulfil, promise
from ffd.core.schedule.subject import Sight, Subject
from ffd.core.space import could_host, misfit
from ffd.core.spec import Task
from ffd.core.state import State
from ffd.core.tenancy import Tenant
from ffd.errors import Refusal

CHANGES_MOST_COUNT = 16  # in one question
ADMISSIONS_MOST_COUNT = 256  # of others, that are played through before an answer is "unknown"
ITEMS_MOST_COUNT = 1_000  # items that a change may move in the queue
TRIES_MOST_COUNT = 16  # changes that are tried for the hints of one explanation
HINTS_MOST_COUNT = 5
CLOSED_TRIED_COUNT = 4
AHEAD_TRIED_COUNT = 100  # gangs of its project that go first, for which quota is tried as well
SMALL_CLUSTER_COUNT = 2_000  # nodes up to which more of them are tried unasked: that copies the books
KEYS = ("quota.", "gang.replicas", "gang.min", "topology", "gpu_type", "gpus", "priority", "nodes", "uncordon")


class Changes(NamedTuple):
    """What is tried together; `texts` as they were given. `task`: as the document would have it."""

    texts: tuple[str, ...]
    task: Task
    is_small: bool
    quotas: dict[str, int]
    priority: int | None
    nodes: tuple[Node, ...]
    uncordon: tuple[str, ...]


class _TooMuchError(Exception):
    """More comes first than is played through."""


def try_changes(state: State, it: Subject, changes: Changes, sight: Sight, now_ms: int) -> WhatIfPage:
    """What a cycle would do if all of this were so."""
    with Rehearsal(state) as rehearsal:
        try:
            changed = _apply(rehearsal, it, changes)
            started = _start(rehearsal, changed, changes, now_ms)
        except _TooMuchError as error:
            return WhatIfPage(changes=changes.texts, outcome="unknown", detail=str(error))
        if started is not None:
            return started
        found = examine(state, changed, sight, now_ms)
    check = found.check(found.reason)
    start_ms = found.reservation.start_at_ms if found.reservation else FOREVER_MS
    return WhatIfPage(
        changes=changes.texts, outcome="waits", check=found.reason,
        detail=check.detail if check else "others that come first would take what becomes free",
        start_at_ms=start_ms if start_ms < FOREVER_MS else 0,
    )  # fmt: skip


def _start(rehearsal: Rehearsal, it: Subject, changes: Changes, now_ms: int) -> WhatIfPage | None:
    """Where a cycle would start it; None when it would not."""
    proposal = _play(rehearsal, it, now_ms)
    if proposal is None or proposal.victims:
        return None
    nodes = tuple(dict.fromkeys(place.node for place in proposal.places))
    detail = f"{len(proposal.places)} replicas" if len(proposal.places) > 1 else ""
    return WhatIfPage(changes=changes.texts, outcome="starts", nodes=nodes, detail=detail)


def _apply(rehearsal: Rehearsal, it: Subject, changes: Changes) -> Subject:
    """Take all of it to be so. Returns the item as it then is."""
    state, live = rehearsal.state, it.live
    for name in changes.uncordon:
        state.space.open(name)
    if changes.nodes:
        rehearsal.add_nodes(changes.nodes)
    for level in live.tenant.chain():
        _raise_quotas(state, level, changes.quotas)
    if changes.priority is not None:
        if sum(len(task.items) for task in live.tasks.values()) > ITEMS_MOST_COUNT:
            raise _TooMuchError(f"the workflow has more than {ITEMS_MOST_COUNT} items")
        rehearsal.set_priority(live, changes.priority)
    changed = Subject(live, changes.task, it.number, changes.is_small)
    if (changes.task is not it.task or changes.is_small != it.is_small) and live.holds_place(it.name, it.number):
        if it.number >= ITEMS_MOST_COUNT:
            raise _TooMuchError(f"more than {ITEMS_MOST_COUNT} items of the task come before it")
        items = live.tasks[it.name].items[: it.number + 1]
        ready = [n for n, item in enumerate(items) if item.state == "ready" and live.holds_place(it.name, n)]
        rehearsal.move(live, changes.task, ready, changes.is_small)
    return changed


def _raise_quotas(state: State, level: Tenant, more: dict[str, int]) -> None:
    quotas = dict(level.row.quotas)
    for resource, amount in more.items():
        if resource in quotas:
            quotas[resource] = replace(quotas[resource], nominal=quotas[resource].nominal + amount)
    if quotas != level.row.quotas:
        state.tenancy.suppose(level, replace(level.row, quotas=quotas))


def _play(rehearsal: Rehearsal, it: Subject, now_ms: int) -> Proposal | None:
    """Cycles as `step` runs them, until one proposes this item; None when none does."""
    state, admitted_count = rehearsal.state, 0
    for _ in range(ADMISSIONS_MOST_COUNT):
        cycle = Cycle(state, now_ms)
        while (proposal := cycle.next()) is not None:
            who = proposal.attempt
            if (who.workflow, who.task, who.item) == (it.live.row.id, it.name, it.number):
                return proposal
            if proposal.promise is not None:
                promise(state, proposal.promise)
                continue
            admitted_count += 1
            if admitted_count > ADMISSIONS_MOST_COUNT:
                raise _TooMuchError(f"more than {ADMISSIONS_MOST_COUNT} gangs would start before it")
            fulfil(state, proposal.lane, proposal.places)
            rehearsal.admit(who, proposal.places)
        if cycle.is_done:
            return None
    raise _TooMuchError("more comes first than one question may look at")


# -------------------------------------------------------------------------------------------------- reading the texts


def parse_changes(state: State, it: Subject, texts: Sequence[str]) -> Changes:
    """Refusal (field `what_if`): an unknown key, with the nearest one; a value that cannot be."""
    if len(texts) > CHANGES_MOST_COUNT:
        raise _wrong(f"{len(texts)} changes, at most {CHANGES_MOST_COUNT} are tried together", "ask about fewer")
    changes = Changes(tuple(texts), it.task, it.is_small, {}, None, (), ())
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not value:
            raise _wrong(f"{text[:80]!r} is not a change", "write KEY=VALUE, e.g. quota.gpus=+64")
        changes = _with(state, it, changes, key.strip(), value.strip())
    is_elastic = bool(changes.task.gang.min_replicas)  # else there is nothing to be content with
    return changes._replace(is_small=changes.is_small and is_elastic)


def _with(state: State, it: Subject, changes: Changes, key: str, value: str) -> Changes:
    task = changes.task
    if key.startswith("quota."):
        return changes._replace(quotas={**changes.quotas, **_quota(it, key.removeprefix("quota."), value)})
    if key == "priority":
        return changes._replace(priority=_number(key, value, 0, 1_000))
    if key == "nodes":
        return changes._replace(nodes=(*changes.nodes, *_nodes(state, task, value, len(changes.nodes))))
    if key == "uncordon":
        if value not in state.space.nodes:
            near = difflib.get_close_matches(value, state.space.nodes, n=1)
            raise _wrong(f"there is no node {value[:80]!r}", f"did you mean {near[0]}?" if near else "see `ffd nodes`")
        return changes._replace(uncordon=(*changes.uncordon, value))
    if key == "gang.min":
        least = _number(key, value, 1, task.gang.replicas)
        return changes._replace(task=replace(task, gang=replace(task.gang, min_replicas=least)), is_small=True)
    return changes._replace(task=_changed_task(task, key, value))


def _changed_task(task: Task, key: str, value: str) -> Task:
    gang, ask = task.gang, task.resources
    if key == "gang.replicas":
        replicas = _number(key, value, 1, 100_000)
        least = 0 if gang.min_replicas >= replicas else gang.min_replicas
        return replace(task, gang=replace(gang, replicas=replicas, min_replicas=least))
    if key == "topology":
        if value == ANY:
            return replace(task, gang=replace(gang, topology=ANY, topology_with=()))
        if value in ("preferred", "required"):
            return replace(task, gang=replace(gang, topology_required=value == "required"))
        return replace(task, gang=replace(gang, topology=value, topology_required=True))
    if key == "gpu_type":
        return replace(task, resources=replace(ask, gpu_types=tuple(value.replace(",", "|").split("|"))))
    if key == "gpus":
        return replace(task, resources=replace(ask, gpu_count=_number(key, value, 1, 1_000)))
    near = difflib.get_close_matches(key, [*KEYS, *(f"quota.{resource}" for resource in RESOURCES)], n=1)
    hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(KEYS)}"
    raise _wrong(f"there is no {key[:80]!r} to try", hint.replace("quota.,", "quota.RESOURCE,"))


def _quota(it: Subject, resource: str, value: str) -> dict[str, int]:
    if not any(resource in level.row.quotas for level in it.live.tenant.chain()):
        named = sorted({known for level in it.live.tenant.chain() for known in level.row.quotas})
        near = difflib.get_close_matches(resource, named, n=1)
        hint = f"did you mean quota.{near[0]}?" if near else f"there is one of {', '.join(named) or 'nothing'}"
        raise _wrong(f"no level of {it.live.tenant.label} has a quota of {resource[:80]!r}", hint)
    if not value.startswith("+"):
        raise _wrong(f"quota.{resource[:80]}={value[:80]} is no more and no less", "write what is added: +64")
    try:
        return {resource: amount_of(resource, value[1:])}
    except Refusal as refusal:
        raise _wrong(refusal.message, "write what is added: +64, +512Gi") from None


def _number(key: str, value: str, least: int, most: int) -> int:
    with suppress(ValueError):
        if least <= int(value) <= most:
            return int(value)
    raise _wrong(f"{key} is {value[:80]!r}", f"a whole number from {least} to {most}")


def _nodes(state: State, task: Task, value: str, number: int) -> tuple[Node, ...]:
    """`+2x8:H100`: like a node of the cluster that has so many GPUs of this model, where there is one."""
    size, _, model = value.removeprefix("+").partition(":")
    count, _, gpus = size.partition("x")
    if not value.startswith("+") or not count.isdecimal() or not gpus.isdecimal():
        raise _wrong(f"nodes is {value[:80]!r}", "write +COUNTxGPUS:MODEL, e.g. +2x8:H100")
    how_many, each = _number("nodes", count, 1, 10_000), _number("nodes", gpus, 0, 64)
    alike = [node for node in state.nodes if node.gpu_count == each and (not model or node.gpu_type == model)]
    like = next((node for node in alike if could_host(node, task.resources)), alike[0] if alike else None)
    if like is None:
        name = model or (task.resources.gpu_types[:1] or ("GPU",))[0]
        like = Node("", gpu_type=name if each else "", gpu_count=each, gpu_memory_bytes=80 << 30 if each else 0,
                    cpu_millis=128_000, memory_bytes=1 << 40, disk_bytes=8 << 40, rdma=True)  # fmt: skip
    levels = {state.policy.levels.get(word, word): "what-if" for word in state.policy.levels}
    labels = {**like.labels, **levels}
    return tuple(replace(like, name=f"what-if-{number + n:04}", labels=labels) for n in range(how_many))


def _wrong(message: str, hint: str) -> Refusal:
    return Refusal(message, field="what_if", hint=hint)


# ---------------------------------------------------------------------------------------------------------- hints


def helpful(state: State, it: Subject, found: Found, now_ms: int) -> tuple[WhatIfPage, ...]:
    """Changes that would start it in the next cycle: each was tried, and none is told that did not."""
    if found.reason in ("workflow", "max_parallel", "tenant", "preemption", ""):
        return ()
    pages: list[WhatIfPage] = []
    helped: set[str] = set()  # keys of which the least change was found; only asked
    for count, texts in enumerate(_candidates(state, it, found)):
        if count >= TRIES_MOST_COUNT or len(pages) >= HINTS_MOST_COUNT:
            break
        key = texts[0].partition("=")[0]
        if key in helped:
            continue
        changes = parse_changes(state, it, texts)
        page = None
        with Rehearsal(state) as rehearsal, suppress(_TooMuchError):
            page = _start(rehearsal, _apply(rehearsal, it, changes), changes, now_ms)
        if page is not None:
            pages.append(page)
            helped.add(key)
    return tuple(pages)


def _candidates(state: State, it: Subject, found: Found) -> Iterator[tuple[str, ...]]:
    """What is worth trying, the least first. The cheap tests here only leave out what cannot help."""
    gang, ask = it.task.gang, it.ask
    more = _least_quota(state, it) if found.reason == "quota" else {}
    before = min(found.ahead.urgent + found.ahead.older + found.ahead.aged, AHEAD_TRIED_COUNT) if found.ahead else 0
    for gangs in dict.fromkeys((0, 1, before // 2, before)) if more else ():  # those that go first take theirs first
        yield tuple(
            f"quota.{resource}=+{_amount(resource, amount + gangs * each)}" for resource, (amount, each) in more.items()
        )
    smaller = _largest_size(state, it)
    if smaller:
        yield (f"gang.replicas={smaller}",)
    if gang.topology != ANY and gang.replicas > 1:
        if gang.topology_required:
            yield ("topology=preferred",)
        yield ("topology=any",)
    if ask.gpu_count:
        for model in state.tenancy.models:
            if ask.gpu_types and model not in ask.gpu_types:
                yield (f"gpu_type={model}",)
        fewer = ask.gpu_count // 2
        if fewer and ask.gpu_millis == 1_000:
            yield (f"gpus={fewer}",)
    if found.ahead is not None and (found.ahead.urgent or found.ahead.older or found.ahead.aged):
        yield from ((f"priority={priority}",) for priority in _priorities(state, it))
    closed = [name for name in state.space.closed if name in state.space.nodes]
    yield from (
        (f"uncordon={name}",) for name in closed[:CLOSED_TRIED_COUNT] if not misfit(state.space.nodes[name].node, ask)
    )
    if found.reason in ("space", "cluster") and len(state.nodes) <= SMALL_CLUSTER_COUNT:
        yield from _more_nodes(state, it)


def _least_quota(state: State, it: Subject) -> dict[str, tuple[int, int]]:
    """The least that each level must have more so that none says no, and what one such gang asks; in whole units."""
    more: dict[str, tuple[int, int]] = {}
    with state.tenancy.trial():
        for _ in range(8):  # resources and levels that say no one after the other
            block = check_gang(state.tenancy, it.live.tenant, it.ask, it.sizes()[-1])
            if block is None:
                return more
            lacking = block.used + block.ask + block.kept - block.bound
            unit = 1 if block.resource in COUNTS else 1 << 20 if block.resource in BYTES else 1_000
            step, each = -(-lacking // unit) * unit, -(-block.ask // unit) * unit
            more[block.resource] = more.get(block.resource, (0, 0))[0] + step, each
            for level in it.live.tenant.chain():
                _raise_quotas(state, level, {block.resource: step})
    return {}


def _amount(resource: str, amount: int) -> str:
    if resource in BYTES:
        return f"{amount >> 20}Mi"
    return str(amount if resource in COUNTS else amount // 1_000)


def _largest_size(state: State, it: Subject) -> int:
    """The largest smaller gang that there is room and quota for; 0 = none."""
    live, gang = it.live, it.task.gang
    domains = followed_domains(state, live, it.task)

    def fits(size: int) -> bool:
        if check_gang(state.tenancy, live.tenant, it.ask, size) is not None:
            return False
        models = allowed_models(state.tenancy, live.tenant, it.ask, size)
        return find_places(state.space, it.ask, gang, size, domains, models) is not None

    low, high = 0, it.sizes()[-1]  # `low` fits, `high` does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _priorities(state: State, it: Subject) -> list[int]:
    """The least priority above each that waits in its project."""
    branches = state.lanes.branches.get(it.live.row.project, {}).values()
    levels = {-level for branch in branches if branch.lane is not None for level in branch.lane.levels}
    return sorted(level + 1 for level in levels if it.live.row.priority <= level < 1_000)[:2]


def _more_nodes(state: State, it: Subject) -> Iterator[tuple[str, ...]]:
    """Nodes like the largest that could host it: one more, then enough for all of it."""
    hosts = [one.node for one in state.space.order if could_host(one.node, it.ask)]
    if not hosts:
        return
    like = max(hosts, key=lambda node: node.gpu_count)
    model = f":{like.gpu_type}" if like.gpu_type else ""
    for count in dict.fromkeys((1, 2, 4, it.sizes()[-1])):
        yield (f"nodes=+{count}x{like.gpu_count}{model}",)
