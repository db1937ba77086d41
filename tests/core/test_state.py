"""State: the one door, what is stored and loaded, and that memory is given back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ffd.core import events as ev
from ffd.core.commands import Cancel, Retry, SetPriority, Submit, Suspend
from ffd.core.invariants import check
from ffd.core.lifecycle import ITEM, TASK, WORKFLOW, IllegalTransition
from ffd.core.limits import Limits
from ffd.core.model import TERMINAL, Cause, Item, Node, Place, Rows, Task
from ffd.core.reports import InventoryReported, ReplicaExited
from ffd.core.space import NodeSpace
from ffd.core.spec import Resources
from ffd.core.state import State
from ffd.core.step import step
from ffd.testing.builders import attempt, nodes, spec, submit, task
from ffd.testing.cluster import Behaviour, Cluster


def test_an_event_that_the_lifecycle_forbids_is_our_bug_and_says_what_was_tried() -> None:
    cluster = Cluster(nodes(), {"a": Behaviour(run_ms=10_000)})
    cluster.send(submit(spec(task("a"))))
    with pytest.raises(IllegalTransition, match=r"1/a\[0\]#1 is launching: ItemBackedOff is not in its lifecycle"):
        cluster.state.apply(ev.ItemBackedOff(attempt("a"), 5, False), 1)
    with pytest.raises(IllegalTransition, match=r"demo\.1/a is open: TaskEnded\.skipped"):
        cluster.state.apply(ev.TaskEnded(1, "a", "skipped", None), 1)
    with pytest.raises(IllegalTransition, match=r"demo\.1 is running: WorkflowResumed"):
        cluster.state.apply(ev.WorkflowResumed(1, ""), 1)


@pytest.mark.parametrize("table", [WORKFLOW, TASK, ITEM])
def test_terminal_states_are_left_by_a_reopening_only(table: Any) -> None:
    out = [trigger for (state, trigger) in table if state in TERMINAL]
    assert out and all(trigger.startswith("WorkflowReopened") for trigger in out)


def test_two_states_share_nothing() -> None:
    one, other = State(), State()
    step(one, [InventoryReported(nodes(2)), submit(spec(task("a")))], 1)
    assert (len(other.workflows), other.item_count, other.nodes, other.take_rows()[0]) == (0, 0, (), Rows())


# ---------------------------------------------------------------------------------------------------- rows, loading


def test_what_nothing_happened_to_needs_no_row() -> None:
    state = State()
    step(state, [submit(spec(task("a", foreach=(1, 2)), task("b", "a")))], 1)
    rows = state.rows_of(1)
    assert (list(rows.tasks), list(rows.items)) == ([(1, "a")], [])


def test_a_decision_carries_the_rows_that_changed_and_only_those() -> None:
    state = State()
    step(state, [InventoryReported(nodes()), submit(spec(task("a"), task("b")))], 1)
    decision = step(state, [ReplicaExited(attempt("a"), 0, exit_code=0)], 2)
    assert (list(decision.rows.items), list(decision.rows.tasks)) == ([(1, "a", 0)], [(1, "a")])
    assert (decision.rows.workflows, decision.listings, decision.rows.meta) == ({}, [], {})


def test_a_retry_keeps_the_changes_that_others_made_in_its_step() -> None:
    cluster = Cluster(nodes(), {"a": Behaviour(exit_code=1)})
    cluster.send(submit(spec(task("a"))))
    cluster.run()
    cluster.send(submit(spec(task("b"))))
    cluster.send(Suspend(workflow=2), Retry(workflow=1))
    assert not cluster.ledger.compare(cluster.state)


def test_listings_tell_how_long_an_ended_workflow_is_kept() -> None:
    for code, keep_ms in ((0, 5), (1, 7)):
        state = State()
        document = spec(task("a"), ttl_success_ms=5, ttl_failure_ms=7)
        (listing,) = step(state, [InventoryReported(nodes()), submit(document)], 1).listings
        assert (listing.live, listing.keep_ms, listing.state) == (True, 0, "running")
        (listing,) = step(state, [ReplicaExited(attempt("a"), 0, exit_code=code)], 2).listings
        assert (listing.live, listing.keep_ms, listing.ended_at_ms) == (False, keep_ms, 2)


def test_loading_counts_what_is_reserved_and_who_holds_a_place() -> None:
    cluster = Cluster(nodes(1, slot_count=3), {"a": Behaviour(run_ms=10_000)})
    cluster.send(submit(spec(task("a", foreach=tuple(range(5)), max_parallel=2), max_parallel=3)))
    cluster.run(500)
    loaded = State.load(cluster.ledger.loadable())
    assert (loaded.reserved_count, loaded.workflows[1].tasks["a"].active) == (2, 2)
    assert loaded.space.nodes["n1"].slots == 1
    assert not check(loaded)


def test_a_row_that_is_not_ours_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        State.load(Rows(meta={"nodes": b"\xff"}))


def test_item_rows_of_an_earlier_round_are_not_taken_for_new_ones() -> None:
    """A fan-out that starts over with fewer items, and then with more: attempts never get a used name."""
    state = State()
    step(state, [submit(spec(task("a", foreach=(1, 2, 3))))], 1)
    rows = state.rows_of(1)
    rows.tasks[1, "a"] = msgspec.msgpack.encode(Task(state="open", item_count=3, attempts_before=4))
    rows.items[1, "a", 1] = msgspec.msgpack.encode(Item(state="failed", number=2))
    rows.items[1, "a", 2] = msgspec.msgpack.encode(Item(number=4))
    rows.items[1, "a", 9] = msgspec.msgpack.encode(Item(state="failed", number=5))
    assert [item.number for item in State.load(rows).workflows[1].tasks["a"].items] == [4, 4, 4]


# ------------------------------------------------------------------------------------------------- idempotency keys


def remembered(state: State) -> list[str]:
    return [scope.rpartition("/")[2] for scope in state.keys]


def test_the_oldest_keys_go_first_and_a_smaller_limit_keeps_the_newest() -> None:
    limits = Limits(idempotency_keys_count=3)
    state, meta = State(limits), {}
    for number in range(5):
        meta |= step(state, [submit(spec(task("a")), key=f"k{number}")], 1).rows.meta
    assert sorted(remembered(state)) == ["k2", "k3", "k4"]
    assert remembered(State.load(Rows(meta=meta), limits)) == ["k2", "k3", "k4"]
    assert remembered(State.load(Rows(meta=meta), Limits(idempotency_keys_count=2))) == ["k3", "k4"]


# --------------------------------------------------------------------------------------------------- memory is bounded


def test_an_ended_workflow_leaves_memory() -> None:
    cluster = Cluster(nodes(), {})
    for _ in range(3):
        cluster.send(submit(spec(task("a", foreach=(1, 2, 3)), task("b", "a"))))
    assert len(cluster.state.dags) == 1
    cluster.run()
    state = cluster.state
    assert (state.workflows, state.dags, state.item_count, state.reserved_count) == ({}, {}, 0, 0)
    assert not (state.lanes.lanes or state.lanes.kinds or state.lanes.shapes or state.lanes.branches)


def test_dropped_work_does_not_pile_up_behind_a_blocked_head() -> None:
    state = State()
    step(state, [InventoryReported(nodes(1, slot_count=0)), submit(spec(task("a")), priority=900)], 1)
    for number in range(2, 4_000):
        step(state, [submit(spec(task("a"))), Cancel(workflow=number)], 1)
    (lane,) = state.lanes.lanes.values()
    assert len(state.workflows) == 1 and lane.count < 2_100


def test_a_priority_that_moves_to_and_fro_leaves_one_entry() -> None:
    state = State()
    step(state, [submit(spec(task("a", foreach=tuple(range(10)))))], 1)
    for number in range(50):
        step(state, [SetPriority(workflow=1, priority=400 + (number + k) % 2) for k in range(3)], 1)
    (lane,) = state.lanes.lanes.values()
    assert lane.count == len(list(lane.entries())) == 10


# ------------------------------------------------------------------------------------------------------------- space


def test_a_node_that_shrank_gets_no_gpus_back_that_it_does_not_have() -> None:
    cluster = Cluster(nodes(1, gpu_count=8), {"a": Behaviour(run_ms=1_000)})
    cluster.send(submit(spec(task("a", resources=Resources(gpu_count=8)))))
    cluster.send(InventoryReported(nodes(1, gpu_count=2)))
    cluster.run()
    assert cluster.state.space.nodes["n1"].gpus == [0, 1]


def test_room_is_never_negative() -> None:
    space = NodeSpace(Node("n", cpu_millis=1_000, slot_count=2))
    for _ in range(3):
        space.take(Place("n"), Resources(cpu_millis=500))
    assert space.room(Resources(cpu_millis=100)) == 0 and space.room(Resources()) == 0


# ------------------------------------------------------------------------------------------------------ checks check


@pytest.mark.parametrize(
    ("harm", "name"),
    [
        (lambda s: setattr(s, "item_count", 99), "S7"),
        (lambda s: setattr(s.space.nodes["n1"], "slots", 99), "S7"),
        (lambda s: setattr(s.workflows[1].tasks["a"].items[0], "live", None), "S9"),
        (lambda s: setattr(s.workflows[1].tasks["a"].items[0], "outputs", {"x": 1}), "S20"),
        (lambda s: setattr(s.workflows[1].tasks["a"].items[0].live, "places", ()), "S8"),
        (lambda s: setattr(s.workflows[1].row, "verdict", "cancelled"), "S16"),
        (lambda s: setattr(s.workflows[1].tasks["b"], "unmet", 0), "S7"),
        (lambda s: setattr(s.workflows[1].tasks["b"].row, "state", "open"), "S21"),
        (lambda s: setattr(s.workflows[1].row, "state", "failed"), "S10"),
        (lambda s: setattr(s.workflows[1].tasks["a"].items[0], "user_failures", 9), "S26"),
        (lambda s: s.lanes.lanes.clear(), "L2"),
        (lambda s: s.holders.clear(), "S7"),
    ],
)
def test_check_finds_what_is_wrong(harm: Any, name: str) -> None:
    cluster = Cluster(nodes(1, slot_count=1), {"a": Behaviour(run_ms=10_000)})
    cluster.send(submit(spec(task("a"), task("b", "a"), task("c"))))
    assert not check(cluster.state)
    harm(cluster.state)
    assert name in {fault.split()[0] for fault in check(cluster.state)}


def test_specs_that_are_equal_share_one_index() -> None:
    state = State()
    one: Submit = submit(spec(task("a")))
    step(state, [one, one, submit(spec(task("a"), name="other"))], 1)
    assert len(state.dags) == 2 and sorted(state.dag_users.values()) == [1, 2]


def test_the_first_failure_speaks_for_a_task_while_others_go_on() -> None:
    cluster = Cluster(
        nodes(),
        {"a[1]": Behaviour(exit_code=3, run_ms=500), "a[0]": Behaviour(exit_code=4), "a": Behaviour(run_ms=9_000)},
    )
    cluster.send(submit(spec(task("a", foreach=(1, 2, 3)), fail_fast=False)))
    cluster.run(3_000)
    cause = cluster.state.workflows[1].tasks["a"].row.cause
    assert isinstance(cause, Cause)
    assert (cause.item, cause.attempt, cause.exit_code) == (1, 1, 3)


def test_a_node_that_changed_keeps_what_is_reserved_on_it() -> None:
    before = nodes(2, cpu_millis=4_000)
    cluster = Cluster(before, {"a": Behaviour(run_ms=10_000)})
    cluster.send(submit(spec(task("a", foreach=(1, 2), resources=Resources(cpu_millis=3_000)))))
    same = cluster.state.space.nodes["n2"]
    cluster.send(InventoryReported((Node("n1", cpu_millis=8_000), before[1])))
    assert [cluster.state.space.nodes[name].cpu_millis for name in ("n1", "n2")] == [5_000, 1_000]
    assert cluster.state.space.nodes["n2"] is same, "only what changed is worked out anew"
