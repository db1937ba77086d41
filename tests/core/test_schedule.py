"""Scheduling: where a gang goes, what a cycle proposes, and that a class that does not fit costs nothing more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from ffd.core import effects as ef
from ffd.core import reports as rp
from ffd.core import step as core_step
from ffd.core.commands import Cordon, Suspend, Uncordon
from ffd.core.events import ItemAdmitted, NodesChanged
from ffd.core.limits import Limits
from ffd.core.model import Node, Place
from ffd.core.schedule import cycle
from ffd.core.schedule.cycle import ADMISSION_UNITS, Cycle, Proposal, verify
from ffd.core.schedule.place import find_places
from ffd.core.space import Space, misfit
from ffd.core.spec import Gang, Resources, Task
from ffd.core.state import State
from ffd.core.step import step
from ffd.testing.builders import attempt, gpus, nodes, rack, spec, submit, task
from ffd.testing.cluster import Behaviour, Cluster

NEEDS_PYTHON = pytest.mark.skipif(
    not core_step.__file__.endswith(".py"), reason="puts a function of its own into a module, which is compiled here"
)


def place(
    there: Iterable[Node], asked: Task, *, taken: Iterable[Place] = (), domains: Iterable[str] = ()
) -> list[str] | None:
    """Names of the nodes, by rank."""
    space = Space()
    space.replace(tuple(there))
    space.take(tuple(taken), Resources(gpu_count=1))
    found = find_places(space, asked.resources, asked.gang, asked.gang.replicas, frozenset(domains))
    return None if found is None else [one.node for one in found]


def gang(replicas: int, resources: Resources = Resources(), **fields: Any) -> Task:  # noqa: B008
    return task("g", resources=resources, gang=Gang(replicas=replicas, **fields))


# --------------------------------------------------------------------------------------------------------- placement


def test_a_small_task_goes_where_the_least_is_left() -> None:
    """Whole nodes stay free for large gangs."""
    there = nodes(3, gpu_count=8)
    assert place(there, gang(1, gpus(1)), taken=[Place("n2", (0,))]) == ["n2"]


def test_a_gang_is_placed_whole_or_not_at_all() -> None:
    there = nodes(3, gpu_count=2)
    assert place(there, gang(3, gpus(2))) == ["n1", "n2", "n3"]
    assert place(there, gang(4, gpus(2))) is None
    assert place(there, gang(6, gpus(1))) == ["n1", "n1", "n2", "n2", "n3", "n3"]


def test_each_replica_gets_gpus_of_its_own() -> None:
    space = Space()
    space.replace(nodes(1, gpu_count=4))
    asked = gang(2, gpus(2))
    assert find_places(space, asked.resources, asked.gang, 2) == (
        Place("n1", (0, 1)),
        Place("n1", (2, 3)),
    )


def test_models_are_tried_in_the_order_of_preference_and_never_mixed() -> None:
    there = (Node("a", gpu_type="A100", gpu_count=2), Node("h", gpu_type="H100", gpu_count=2))
    assert place(there, gang(1, gpus(1, "H100", "A100"))) == ["h"]
    assert place(there, gang(2, gpus(2, "H100", "A100"))) is None
    assert place(there, gang(2, gpus(2))) == ["a", "h"]
    assert place(there, gang(1, gpus(1, "B200"))) is None


RACKS = (*rack("r1", ["a", "b"], gpu_count=1), *rack("r2", ["c", "d", "e"], gpu_count=1))


def test_a_required_domain_holds_the_whole_gang_and_the_tightest_one_is_taken() -> None:
    assert place(RACKS, gang(2, gpus(1), topology="same-rack")) == ["a", "b"]
    assert place(RACKS, gang(3, gpus(1), topology="same-rack")) == ["c", "d", "e"]
    assert place(RACKS, gang(4, gpus(1), topology="same-rack")) is None


def test_a_preferred_domain_gives_way() -> None:
    assert place(RACKS, gang(4, gpus(1), topology="same-rack", topology_required=False)) == ["a", "c", "d", "e"]


def test_same_node_and_a_level_of_its_own_name() -> None:
    assert place(nodes(2, gpu_count=2), gang(3, gpus(1), topology="same-node")) is None
    assert place(nodes(2, gpu_count=3), gang(3, gpus(1), topology="same-node")) == ["n1"] * 3
    zones = (Node("a", gpu_count=1, labels={"zone": "z"}), Node("b", gpu_count=1, labels={"zone": "z"}))
    assert place(zones, gang(2, gpus(1), topology="zone")) == ["a", "b"]


def test_nodes_without_the_label_are_no_common_domain() -> None:
    assert place(nodes(2, gpu_count=1), gang(2, gpus(1), topology="same-rack")) is None


def test_another_task_is_followed_into_its_domain() -> None:
    assert place(RACKS, gang(1, gpus(1), topology="same-rack"), domains=["r2"]) == ["c"]
    cluster = Cluster(RACKS, {"a": Behaviour(run_ms=9_000)})
    near = task("near", resources=gpus(1), gang=Gang(topology="same-rack", topology_with=("a",)))
    cluster.send(submit(spec(task("a", resources=gpus(1), gang=Gang(replicas=3, topology="same-rack")), near)))
    item = cluster.state.workflows[1].tasks["near"].items[0]
    assert item.state == "ready"  # rack r2 is full, and r1 is not where `a` is


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (Resources(gpu_count=9), "has too few GPUs"),
        (Resources(gpu_count=1, gpu_types=("B200",)), "has H100"),
        (Resources(gpu_count=1, gpu_memory_bytes=100), "has GPUs with less memory"),
        (Resources(cpu_millis=5_000), "has too little cpu"),
        (Resources(memory_bytes=5), "has too little memory"),
        (Resources(disk_bytes=5), "has too little disk"),
        (Resources(rdma=True), "has no rdma"),
        (Resources(mig_profile="1g.10gb", mig_count=1), "offers no MIG profiles"),
        (Resources(gpu_count=8, cpu_millis=4_000), ""),
    ],
)
def test_a_node_says_what_it_lacks(ask: Resources, why: str) -> None:
    assert misfit(Node("n", gpu_type="H100", gpu_count=8, gpu_memory_bytes=80, cpu_millis=4_000), ask) == why


# ---------------------------------------------------------------------------------------------------------- the cycle


def waiting(*submits: Any, there: tuple[Node, ...] = (), limits: Limits | None = None) -> State:
    """A state in which all of these wait, and the nodes have just come."""
    state = State(limits)
    step(state, list(submits), 1)
    state.apply(NodesChanged(there), 1)
    return state


def proposals(state: State, now_ms: int = 1) -> list[Proposal]:
    """All of one cycle, each applied before the next is asked for, as `step` does."""
    found, one = [], Cycle(state, now_ms)
    while (proposal := one.next()) is not None:
        assert verify(state, proposal)
        state.apply(ItemAdmitted(proposal.attempt, proposal.places), now_ms)
        found.append(proposal)
    return found


def proposed(state: State, now_ms: int = 1) -> list[tuple[int, str, int]]:
    return [(p.attempt.workflow, p.attempt.task, p.attempt.item) for p in proposals(state, now_ms)]


def test_priority_first_then_submit_order_then_document_order_then_item() -> None:
    two = spec(task("b"), task("a", foreach=(1, 2)))
    state = waiting(submit(two), submit(two, priority=700), submit(two), there=nodes())
    each = [("b", 0), ("a", 0), ("a", 1)]
    assert proposed(state) == [(workflow, *item) for workflow in (2, 1, 3) for item in each]


def test_a_class_that_does_not_fit_stops_only_its_own_kind() -> None:
    big, small = task("big", replicas=9), task("small")
    state = waiting(submit(spec(big, small)), submit(spec(big, small)), there=nodes(1, slot_count=2))
    assert proposed(state) == [(1, "small", 0), (2, "small", 0)]


@NEEDS_PYTHON
def test_a_blocked_class_is_not_looked_at_until_something_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    real = cycle.find_places
    monkeypatch.setattr(cycle, "find_places", lambda *given: looks.append(1) or real(*given))
    cluster = Cluster(nodes(1, slot_count=1), {"a": Behaviour(run_ms=5_000)}, is_checked=False)
    cluster.send(submit(spec(task("a"))))
    cluster.send(submit(spec(task("g", replicas=5, foreach=tuple(range(100))))))
    looks.clear()
    cluster.send(rp.ReplicaStarted(attempt("a"), 0), rp.Poke())
    cluster.send(submit(spec(task("g", replicas=5))))
    assert looks == []
    cluster.send(rp.ReplicaExited(attempt("a"), 0, exit_code=0))
    assert looks == [1]


def test_a_cycle_keeps_to_its_budget_and_goes_on() -> None:
    limits = Limits(cycle_work_count=4 * (1 + ADMISSION_UNITS))
    state = State(limits)
    decision = step(state, [rp.InventoryReported(nodes()), submit(spec(task("a", foreach=tuple(range(10)))))], 1)
    assert state.reserved_count == 4 and ef.Again() in decision.effects
    assert ef.Again() in step(state, [rp.Poke()], 2).effects and state.reserved_count == 8
    assert ef.Again() not in step(state, [rp.Poke()], 3).effects and state.reserved_count == 10


def test_what_is_suspended_is_not_proposed() -> None:
    state = waiting(submit(spec(task("a"))), submit(spec(task("b"))), Suspend(workflow=1), there=nodes())
    assert proposed(state) == [(2, "b", 0)]


def test_an_elastic_gang_takes_less_only_when_it_waited() -> None:
    elastic = task("g", gang=Gang(replicas=4, min_replicas=2, wait_ms=1_000))
    state = waiting(submit(spec(elastic)), there=nodes(1, slot_count=3))
    assert [len(p.places) for p in proposals(state, 1_000)] == []
    state.accept_less(state.workflows[1], "g", 0)
    assert [len(p.places) for p in proposals(state, 1_001)] == [3]


@NEEDS_PYTHON
def test_a_proposal_that_does_not_hold_is_tried_in_a_later_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """L7: even a planner with a bug does not make a step run for ever."""
    state = State()
    monkeypatch.setattr(core_step, "verify", lambda state, proposal: False)
    step(state, [rp.InventoryReported(nodes()), submit(spec(task("a", foreach=(1, 2))))], 1)
    assert state.reserved_count == 0 and state.wants_cycle()
    monkeypatch.undo()
    step(state, [rp.Poke()], 2)
    assert state.reserved_count == 2


def test_an_elastic_gang_that_waited_does_not_wait_for_a_more_urgent_one_that_insists() -> None:
    """The urgent one cannot have its full size here at all: what is there is not kept for it."""
    elastic = spec(task("g", gang=Gang(replicas=4, min_replicas=2, wait_ms=1_000)))
    cluster = Cluster(nodes(1, slot_count=3), {"g": Behaviour(run_ms=60_000)})
    cluster.send(submit(elastic))
    cluster.run(900)
    cluster.send(submit(elastic, priority=900))
    assert cluster.state.reserved_count == 0
    cluster.run(500)
    assert [len(event.places) for event in cluster.of(ItemAdmitted) if event.attempt.workflow == 1] == [3]


def test_who_follows_goes_where_another_gang_of_the_one_it_follows_went() -> None:
    """There is no room in the rack of the first `lead`; the second one goes into the other rack after `near`, which
    comes first, was looked at."""
    there = (*rack("red", ["a"], gpu_count=2), *rack("blue", ["b"], gpu_count=4))
    cluster = Cluster(there, {"lead": Behaviour(run_ms=60_000)})
    near = task("near", "first", resources=gpus(1), gang=Gang(topology="same-rack", topology_with=("lead",)))
    lead = task("lead", resources=gpus(2), foreach=(1, 2))
    cluster.send(Cordon(nodes=("b",)), submit(spec(task("first"), near, lead)))
    cluster.run(2_000)
    cluster.send(Uncordon(nodes=("b",)))
    assert [event.attempt.task for event in cluster.of(ItemAdmitted)] == ["first", "lead", "lead", "near"]
