"""Why: what an explanation says is true. It leaves no trace, names nobody whom its reader may not see, and what it says
would help does help when it is really done."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from why_worlds import PROJECTS, Recipe, really, recipes, rest, waiting

from ffd.core.commands import Cancel, Resume, SetTenant
from ffd.core.pages import Explain
from ffd.core.state import State
from ffd.core.why import explain
from ffd.errors import Refusal
from ffd.testing.builders import gpus, nodes, spec, submit, task
from ffd.testing.cluster import Behaviour, Cluster

worlds = settings(
    max_examples=120, deadline=None, derandomize=True, print_blob=True, suppress_health_check=list(HealthCheck)
)


def why(cluster: Cluster, found: Any, **more: Any) -> Explain:
    live, name, number = found
    return explain(cluster.state, live.row.id, name, number, cluster.now_ms, **more)


# ---------------------------------------------------------------------------------------------------------- no trace


def trace(state: State) -> dict[str, Any]:
    """All that a rehearsal touches, as values."""
    lanes, tenancy = state.lanes, state.tenancy
    entries = {
        key: sorted(e for e in lane.entries() if state.is_eligible(e, lane)) for key, lane in lanes.lanes.items()
    }
    there = {key: lanes.lanes[key] for key, found in entries.items() if found}  # without those that only seem to wait
    return {
        "rows": [state.rows_of(workflow) for workflow in state.workflows],
        "holders": (list(state.holders), list(state.holders.ends)),
        "space": (state.space.version, state.space.inventory_version, dict(state.space.closed)),
        "free": [one.free() for one in state.space.order],
        "usage": {path: (node.row, dict(node.usage), dict(node.reserve)) for path, node in tenancy.nodes.items()},
        "served": {path: node.served_at_count for path, node in tenancy.nodes.items()},
        "excused": {path: dict(node.excused) for path, node in tenancy.nodes.items()},
        "capacity": (dict(tenancy.capacity), tenancy.models),
        "lanes": {key: entries[key] for key in there},
        "blocked": {key: lane.blocked_at for key, lane in there.items()},
        "shapes": {key: (lane.kind.shape.blocked_at, lane.kind.shape.hopeless_at) for key, lane in there.items()},
        "counts": (dict(lanes.admitted), lanes.admitted_count, lanes.is_dirty, lanes.seen_version),
        "small": sorted(lanes.small),
        "reservations": list(state.reservations.items()),
        "moved": dict(state.moved),
        "mix": (dict(state.space.mix.typical), state.space.mix.stamp),
        "nodes": state.nodes,
    }  # fmt: skip


@worlds
@given(recipe=recipes())
def test_an_explanation_leaves_no_trace(recipe: Recipe) -> None:
    cluster, twin = recipe.build(), recipe.build()
    before = trace(cluster.state)
    for found in waiting(cluster):
        why(cluster, found)
        why(cluster, found, what_if=("nodes=+1x4:H100", "priority=900", "gpus=1"))
    after = trace(cluster.state)
    for name, value in before.items():
        assert after[name] == value, name
    for one in (cluster, twin):
        one.run(3 * 3_600_000)
    assert cluster.lines() == twin.lines(), "and nothing is decided otherwise afterwards"


# ------------------------------------------------------------------------------------------------- what it says is true


@worlds
@given(recipe=recipes())
def test_whatever_waits_has_a_reason(recipe: Recipe) -> None:
    cluster = recipe.build()
    for found in waiting(cluster):
        page = why(cluster, found)
        assert page.reason, page
        assert next(check for check in page.checks if check.name == page.reason).detail == page.headline


@worlds
@given(recipe=recipes(), data=st.data())
def test_what_is_said_to_help_does(recipe: Recipe, data: st.DataObject) -> None:
    cluster = recipe.build()
    items = waiting(cluster)
    assume(items)
    live, name, number = data.draw(st.sampled_from(items), "item")
    for page in why(cluster, (live, name, number)).what_ifs:
        assert page.outcome == "starts"
        twin = recipe.build()
        really(twin, live.row.id, name, number, page.changes)
        item = twin.state.workflows[live.row.id].tasks[name].items[number]
        assert item.state != "ready", (page.changes, why(twin, (twin.state.workflows[live.row.id], name, number)))


@worlds
@given(
    recipe=recipes(),
    data=st.data(),
    texts=st.lists(
        st.sampled_from(
            (
                "quota.gpus=+4", "quota.gpus=+16", "gang.replicas=1", "gang.min=1", "topology=any",
                "topology=preferred", "gpu_type=H100", "gpus=1", "priority=900", "nodes=+1x4:H100",
                "nodes=+3x4:A100", "uncordon=n0",
            )
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda text: text.partition("=")[0],
    ),
)  # fmt: skip
def test_a_what_if_says_what_happens_when_it_is_done(recipe: Recipe, data: st.DataObject, texts: list[str]) -> None:
    """Starts: it does. Waits: it does not, in the next cycle."""
    cluster = recipe.build()
    items = waiting(cluster)
    assume(items)
    live, name, number = data.draw(st.sampled_from(items), "item")
    try:
        (page,) = why(cluster, (live, name, number), what_if=tuple(texts)).what_ifs
    except Refusal:
        assume(False)
    twin = recipe.build()
    really(twin, live.row.id, name, number, tuple(texts))
    item = twin.state.workflows[live.row.id].tasks[name].items[number]
    assert (item.state != "ready") == (page.outcome == "starts"), page


@worlds
@given(recipe=recipes(), data=st.data())
def test_without_its_cause_the_decision_is_another(recipe: Recipe, data: st.DataObject) -> None:
    cluster = recipe.build()
    items = waiting(cluster)
    assume(items)
    live, name, number = found = data.draw(st.sampled_from(items), "item")
    before = why(cluster, found)
    if before.reason == "workflow":
        cluster.send(Resume(workflow=live.row.id, by="ann"))
    elif before.reason == "tenant":
        for level in live.tenant.chain():
            cluster.send(SetTenant(tenant=level.path, enabled=True))
    elif before.reason in ("space", "reservation", "preemption"):
        assume(not live.dag.tasks[name].gang.min_replicas)  # which may insist on what no cluster has
        others = [other for other in cluster.state.workflows if other != live.row.id]
        cluster.send(*(Cancel(workflow=other, by="ann", now=True) for other in others))
        cluster.run(60_000)
        assume(not [one for one in cluster.state.holders.items() if one[1] is live])
    else:
        assume(False)
    rest(cluster)
    item = live.tasks[name].items[number]
    assert item.state != "ready" or why(cluster, found).reason != before.reason


# -------------------------------------------------------------------------------------------------------------- S23


@worlds
@given(recipe=recipes(), seen=st.sets(st.sampled_from(PROJECTS[:2]), min_size=1))
def test_nobody_is_named_to_who_may_not_see_him(recipe: Recipe, seen: set[str]) -> None:
    """S23: neither in words nor in the structured parts."""
    cluster = recipe.build()
    for live, name, number in waiting(cluster):
        if live.row.project in seen:
            for what_if in ((), ("nodes=+1x4:H100",), ("gang.replicas=1", "priority=900")):
                page = why(cluster, (live, name, number), projects=frozenset(seen), what_if=what_if)
                told = msgspec.json.encode(page).decode()
                assert "secret" not in told
                unseen = [p for p in PROJECTS[:2] if p not in seen]
                assert not any(f'"{project}' in told or f" {project}" in told for project in unseen), told


def test_a_gang_that_is_asked_to_be_small_is_never_of_nobody() -> None:
    """A least size that is not below the whole gang makes it no elastic gang."""
    cluster = Cluster(nodes(1, gpu_count=2), lambda attempt, rank: Behaviour(run_ms=60_000))
    cluster.send(submit(spec(task("full", resources=gpus(2)))), submit(spec(task("g", replicas=2, resources=gpus(1)))))
    (page,) = explain(cluster.state, 2, "g", 0, 1, what_if=("gang.min=1", "gang.replicas=1")).what_ifs
    assert (page.outcome, page.check) == ("waits", "space")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("quota.gpu=+8", "there is one of nothing"),
        ("gpu=4", "did you mean gpus?"),
        ("gang.replicas=0", "a whole number from 1 to 100000"),
        ("gang.min=9", "a whole number from 1 to 2"),
        ("nodes=2x8", "write +COUNTxGPUS:MODEL, e.g. +2x8:H100"),
        ("priority", "write KEY=VALUE, e.g. quota.gpus=+64"),
        ("uncordon=n11", "did you mean n1?"),
    ],
)
def test_what_cannot_be_tried_is_refused(text: str, hint: str) -> None:
    cluster = Cluster(nodes(1, gpu_count=2), lambda attempt, rank: Behaviour(run_ms=60_000))
    cluster.send(submit(spec(task("full", resources=gpus(2)))), submit(spec(task("g", replicas=2, resources=gpus(1)))))
    with pytest.raises(Refusal) as refused:
        explain(cluster.state, 2, "g", 0, 1, what_if=(text,))
    assert (refused.value.field, refused.value.hint) == ("what_if", hint)
