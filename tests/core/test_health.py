"""Node health: the rules on marks, the commands about nodes, and that marks keep work away."""

from __future__ import annotations

from typing import Any

import pytest

from ffd.core import effects, health
from ffd.core import events as ev
from ffd.core.commands import Cordon, Drain, NodesMarked, Uncordon
from ffd.core.health import UNMARKED, Health, NodeMark
from ffd.core.model import Attempt, AttemptId, Cause, Place
from ffd.core.nodes import victims
from ffd.core.policy import Policy
from ffd.core.schedule.cycle import Proposal, verify
from ffd.errors import Refusal
from ffd.testing.builders import gpus, nodes, rack, spec, submit, task
from ffd.testing.cluster import Behaviour, Cluster

POLICY = Policy(quarantine_failures_count=3, quarantine_window_ms=100, quarantine_ms=10, quarantine_max_ms=35)
NODES = ("n1", "n2", "n3", "n4")


def failed(*at_ms: int, **fields: Any) -> Health:
    found = Health()
    found.set("n1", NodeMark(failures=at_ms, last="gpu-error", **fields))
    return found


def closed_ms(found: Health, at_ms: int, node: str = "n1") -> int:
    return health.quarantine_ms(found, node, NODES, POLICY, at_ms)


def test_failures_count_within_the_window() -> None:
    assert closed_ms(failed(1, 2), 2) == 0
    assert closed_ms(failed(1, 2, 3), 3) == 10
    assert closed_ms(failed(1, 2, 101), 101) == 0, "the first lies 100 ms back"
    assert closed_ms(failed(2, 3, 101), 101) == 10


def test_a_node_on_probation_goes_back_for_twice_as_long_up_to_a_bound() -> None:
    times = [closed_ms(failed(1, quarantine="probation", rounds_count=rounds), 1) for rounds in range(4)]
    assert times == [10, 20, 35, 35]
    assert closed_ms(failed(1, 2, 3, quarantine="closed", until_at_ms=50), 3) == 0, "it is closed already"


def test_a_cluster_never_closes_itself() -> None:
    found = failed(1, 2, 3)
    found.set("n2", NodeMark(quarantine="closed", until_at_ms=9))
    assert closed_ms(found, 3) == 10, "two of four"
    found.set("n3", NodeMark(quarantine="closed", until_at_ms=9))
    assert closed_ms(found, 3) == 0, "three of four"
    found.set("n3", UNMARKED)
    found.set("gone", NodeMark(quarantine="closed", until_at_ms=9))
    assert closed_ms(found, 3) == 10, "nodes that are not there do not count"


def test_a_clock_that_was_set_back_does_not_keep_a_node_closed() -> None:
    mark = NodeMark(quarantine="closed", until_at_ms=1_000)
    ends = [health.end_at_ms(mark, POLICY, now_ms) for now_ms in (1_001, 1_000, 970, 965, 964)]
    assert ends == [1_000, 1_000, 1_000, 1_000, 964], "no quarantine lasts longer than 35 ms"


def test_what_speaks_against_a_node() -> None:
    found = Health()
    attempt = Attempt((Place("n1"), Place("n2")), admitted_at_ms=5)
    for kind, blamed in (("gpu-error", "n1"), ("launch", "n1"), ("error", ""), ("preempted", ""), ("image-pull", "")):
        assert health.blamed_node(found, attempt, Cause(kind, node="n1")) == blamed, kind  # type: ignore[arg-type]
    assert health.blamed_node(found, attempt, Cause("launch")) == "", "nobody knows which node"


def test_what_dies_with_a_node_is_one_failure() -> None:
    found = Health()
    lost = Cause("node-lost", node="n1")
    found.set("n1", health.failed(UNMARKED, "node-lost", 10))
    assert health.blamed_node(found, Attempt((Place("n1"),), admitted_at_ms=5), lost) == ""
    assert health.blamed_node(found, Attempt((Place("n1"),), admitted_at_ms=11), lost) == "n1"


def test_a_success_forgets_failures_not_what_a_person_said() -> None:
    mark = health.cordoned(UNMARKED, "ann", "disk", False, 1)
    for at_ms in (2, 3):
        mark = health.failed(mark, "gpu-error", at_ms)
    mark = health.on_probation(health.quarantined(mark, 9))
    proven = health.proven(mark)
    assert (proven.cordoned, proven.why, proven.failures, proven.quarantine) == (True, "disk", (), "")
    assert health.closed_text(proven) == "cordoned by ann: disk"


def test_marks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MARKS_COUNT", 3)
    found = Health()
    found.set("cordoned", health.cordoned(UNMARKED, "", "", False, 0))
    for at_ms, name in enumerate(("a", "b"), start=1):
        assert found.set(name, health.failed(UNMARKED, "launch", at_ms)) == (name,)
    assert found.set("c", health.failed(UNMARKED, "launch", 3)) == ("c", "a"), "its failure lies furthest back"
    assert list(found.marks) == ["cordoned", "b", "c"]


# ----------------------------------------------------------------------------------------------------------- commands


def cluster(**fields: Any) -> Cluster:
    inventory = (*rack("red", ("n1", "n2"), gpu_count=2), *rack("blue", ("n3", "n4"), gpu_count=2))
    return Cluster(inventory, {"train": Behaviour(run_ms=60_000, stop_ms=2_000)}, **fields)


def test_nodes_are_selected_by_name_and_by_label() -> None:
    world = cluster()
    assert world.send(Cordon(nodes=("n3", "n1"), why="x"))[0] == NodesMarked(("n1", "n3"))
    assert world.send(Cordon(labels={"rack": "blue"}))[0] == NodesMarked(("n3", "n4"))
    assert world.send(Cordon(nodes=("n1",), labels={"rack": "blue"}))[0] == NodesMarked(("n1", "n3", "n4"))


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({}, "invalid", "nodes"),
        ({"nodes": ("n1", "n11")}, "not_found", "nodes"),
        ({"labels": {"rack": "green"}}, "not_found", "labels"),
        ({"nodes": ("n1",), "why": "x" * 501}, "limit", "why"),
    ],
)
def test_a_refusal_changes_nothing(fields: Any, code: str, field: str) -> None:
    world = cluster()
    (refusal,) = world.send(Cordon(**fields))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.field) == (code, field)
    assert world.state.health.marks == {}
    assert world.of(ev.NodeCordoned) == []


def test_a_repeated_key_changes_nothing() -> None:
    world = cluster()
    command = Cordon(nodes=("n1",), key="k", payload_digest="d")
    assert world.send(command)[0] == NodesMarked(("n1",))
    world.send(Uncordon(nodes=("n1",)))
    assert world.send(command)[0] == NodesMarked(("n1",), duplicate=True)
    assert world.state.health.marks == {}
    (refusal,) = world.send(Cordon(nodes=("n2",), key="k", payload_digest="e"))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "conflict"


def test_a_closed_node_takes_no_work() -> None:
    world = cluster()
    world.send(Cordon(nodes=("n1", "n2", "n3")))
    world.send(submit(spec(*(task(f"t{k}", resources=gpus(1)) for k in range(4)))))
    admitted = [event.places[0].node for event in world.of(ev.ItemAdmitted)]
    assert admitted == ["n4", "n4"]
    world.send(Uncordon(labels={"rack": "red"}))
    assert {event.places[0].node for event in world.of(ev.ItemAdmitted)[2:]} <= {"n1", "n2"}


def test_a_proposal_for_a_closed_node_does_not_hold() -> None:
    world = cluster()
    world.send(Cordon(nodes=NODES))
    world.send(submit(spec(task("a", resources=gpus(1)))))
    (lane,) = world.state.lanes.lanes.values()
    proposal = Proposal(AttemptId(1, "a", 0, 1), (Place("n1", (0,)),), lane)
    assert not verify(world.state, proposal)
    world.state.space.open("n1")
    assert verify(world.state, proposal)


def test_a_drain_stops_what_its_preview_says() -> None:
    world = cluster()
    world.send(submit(spec(task("train", replicas=2, resources=gpus(2)), task("other", resources=gpus(1)))))
    world.run(1_000)
    names = tuple(sorted(place.node for place in world.of(ev.ItemAdmitted)[0].places))
    before = [victim.attempt for victim in victims(world.state, names[:1])]
    (answer,) = world.send(Drain(nodes=names, grace_ms=700))
    stopping = world.of(ev.AttemptStopping)
    assert [event.attempt for event in stopping] == before == [AttemptId(1, "train", 0, 1)]
    assert (stopping[0].cause.kind, stopping[0].grace_ms) == ("preempted", 700)
    assert answer == NodesMarked(names, stopping_count=1)
    assert victims(world.state, names) == [], "it goes anyway"
    world.run(1_000)
    item = world.state.workflows[1].tasks["train"].items[0]
    assert (item.state, item.number, item.user_failures, item.infra_failures) == ("running", 2, 0, 0)
    assert not {place.node for place in world.of(ev.ItemAdmitted)[-1].places} & set(names)


def test_the_grace_of_a_drain_survives_a_restart() -> None:
    world = Cluster(nodes(2, gpu_count=1), {"a": Behaviour(run_ms=60_000)})
    world.send(submit(spec(task("a", resources=gpus(1)))))
    world.run(1_000)
    (admitted,) = world.of(ev.ItemAdmitted)
    world.send(Drain(nodes=(admitted.places[0].node,), grace_ms=700))
    world.restart()
    assert [effect.grace_ms for effect in world.effects if isinstance(effect, effects.Stop)][-1] == 700


def test_marks_survive_a_restart_and_an_absence() -> None:
    world = cluster()
    world.send(Cordon(nodes=("n1",), by="ann", why="disk"), Drain(nodes=("n2",)))
    world.lose("n1")
    world.restart()
    assert world.state.health.mark("n1").why == "disk"
    assert world.state.health.mark("n2").draining
    assert sorted(world.state.space.closed) == ["n1", "n2"]
    world.send(Uncordon(nodes=("n1",)))
    assert list(world.state.health.marks) == ["n2"]


def test_a_quarantine_goes_on_after_a_restart_and_ends() -> None:
    policy = Policy(quarantine_failures_count=1, quarantine_ms=10_000)
    world = Cluster(nodes(2), {"a#1": Behaviour(kind="gpu-error")}, policy=policy)
    world.send(submit(spec(task("a", retries=1))))
    world.run(1_500)
    assert list(world.state.space.closed) == ["n1"]
    world.restart()
    assert list(world.state.space.closed) == ["n1"]
    world.run()
    assert world.states()[""] == "succeeded"
    assert world.state.health.mark("n1").quarantine == "probation"
    assert world.state.space.closed == {}
