"""The simulated world: order within an instant, determinism, what each effect does, going on from a snapshot."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from ffd.core import effects as ef
from ffd.core import events as ev
from ffd.core.commands import Cancel
from ffd.core.effects import Launch
from ffd.core.invariants import Broken
from ffd.core.limits import Limits
from ffd.core.reports import InventoryReported, Recovered
from ffd.core.spec import Checkpoint, Spec, Timeouts
from ffd.core.state import State
from ffd.plugins.behaviour import Behaviour
from ffd.simulate.engine import UNBOUNDED, World
from ffd.testing.builders import gpus, nodes, spec, submit, task
from ffd.testing.cluster import Behaviour as Runs
from ffd.testing.cluster import Cluster

ROOT = Path(__file__).parents[2]
S = 1_000  # ms


def lasts(order: Launch, tag: Any) -> Behaviour:
    """The tag is the duration, or one for each task."""
    return Behaviour(duration_ms=tag[order.attempt.task] if isinstance(tag, dict) else tag or S)


class Story:
    """All events with their instants."""

    def __init__(self, world: World) -> None:
        self.lines: list[tuple[int, ev.AnyEvent]] = []
        self.world = world
        for kind in get_args(ev.AnyEvent):
            world.on(kind, self.hear)

    def hear(self, at_ms: int, event: ev.AnyEvent) -> None:
        self.lines.append((at_ms, event))

    def of(self, kind: type) -> list[tuple[int, Any]]:
        return [(at_ms, event) for at_ms, event in self.lines if isinstance(event, kind)]

    def starts(self) -> list[tuple[int, int]]:
        """(instant, workflow) of each admission."""
        return [(at_ms, event.attempt.workflow) for at_ms, event in self.of(ev.ItemAdmitted)]

    def ends(self) -> list[tuple[int, int, str]]:
        return [(at_ms, event.workflow, event.state) for at_ms, event in self.of(ev.WorkflowEnded)]


def world_of(gpu_count: int = 8, count: int = 1, *, limits: Limits = UNBOUNDED) -> tuple[World, Story]:
    world = World(State(limits), lasts, check_every_count=1)
    world.send(InventoryReported(nodes(count, gpu_count=gpu_count, gpu_type="H100")))
    return world, Story(world)


def job(gpu_count: int = 1, replicas: int = 1, **fields: Any) -> Spec:
    return spec(task("a", resources=gpus(gpu_count), replicas=replicas, **fields))


def test_exits_of_an_instant_come_before_submits_and_one_pass_follows() -> None:
    world, story = world_of(gpu_count=1)
    world.feed([(0, submit(job()), 10 * S), (10 * S, submit(job()), 10 * S)])
    world.run(until_ms=10 * S)
    kinds = [type(event).__name__ for at_ms, event in story.lines if at_ms == 10 * S]
    order = [kinds.index(kind) for kind in ("AttemptEnded", "WorkflowEnded", "WorkflowAccepted", "ItemAdmitted")]
    assert order == sorted(order)
    assert story.starts() == [(0, 1), (10 * S, 2)]


def test_a_submit_of_the_instant_in_which_space_is_free_may_overtake_nobody_before_it() -> None:
    world, story = world_of(gpu_count=1)
    world.feed((at_ms, submit(job()), 10 * S) for at_ms in (0, 5 * S, 10 * S))
    assert world.run() is False
    assert story.starts() == [(0, 1), (10 * S, 2), (20 * S, 3)]
    assert story.ends() == [(10 * S, 1, "succeeded"), (20 * S, 2, "succeeded"), (30 * S, 3, "succeeded")]
    assert world.now_ms == 30 * S and not world.tags


def test_feeds_are_merged_and_changes_come_before_submits() -> None:
    world, story = world_of(gpu_count=1)
    world.feed([(5 * S, submit(job()), S), (5 * S, submit(job(2)), S)])
    more = InventoryReported(nodes(1, gpu_count=2, gpu_type="H100"))
    world.feed([(5 * S, more, None)])
    world.run()
    kinds = [type(event).__name__ for at_ms, event in story.lines if at_ms == 5 * S]
    assert kinds.index("NodesChanged") < kinds.index("WorkflowAccepted")
    assert story.starts() == [(5 * S, 1), (6 * S, 2)]


def test_tasks_that_take_no_time_do_not_move_the_clock() -> None:
    world, story = world_of()
    world.feed([(7, submit(spec(task("a"), task("b", "a"), task("c", "b"))), {"a": 0, "b": 0, "c": 0})])
    world.run()
    assert story.ends() == [(7, 1, "succeeded")]


def test_a_failing_gang_ends_as_a_whole_and_is_tried_again() -> None:
    world, story = world_of(count=2)
    world.behave = lambda order, tag: Behaviour(duration_ms=S, exit_code=3 if order.attempt.attempt == 1 else 0)
    world.feed([(0, submit(job(8, replicas=2, retries=1)), None)])
    world.run()
    ended = [(event.outcome, event.cause and event.cause.exit_code) for _, event in story.of(ev.AttemptEnded)]
    assert ended == [("failed", 3), ("succeeded", None)]
    assert story.ends()[0][2] == "succeeded"


def test_a_cancelled_gang_dies_at_once_and_its_timers_with_it() -> None:
    world, story = world_of(count=2)
    slow = job(8, replicas=2, timeouts=Timeouts(run_ms=3_600 * S))
    world.feed([(0, submit(slow), 100 * S), (30 * S, Cancel(workflow=1), None)])
    world.run()
    assert story.ends() == [(30 * S, 1, "cancelled")]
    assert world.now_ms == 30 * S  # nothing is left to happen


def test_what_a_checkpoint_saved_is_not_done_again() -> None:
    world, story = world_of()
    document = job(timeouts=Timeouts(run_ms=60 * S), retries=1, checkpoint=Checkpoint(grace_ms=5 * S))
    world.feed([(0, submit(document), 100 * S)])
    world.run()
    (started_ms, _), (again_ms, _) = story.starts()
    (stopped_ms, _), (ended_ms, ended) = story.of(ev.AttemptEnded)
    assert stopped_ms - started_ms == 65 * S  # the whole grace is for saving
    assert (ended_ms - again_ms, ended.outcome) == (40 * S, "succeeded")


def test_what_ignores_the_notice_lives_until_its_grace_is_over() -> None:
    world, story = world_of(limits=msgspec.structs.replace(UNBOUNDED, stop_grace_ms=7 * S))
    world.behave = lambda order, tag: Behaviour(duration_ms=100 * S, ignores_term=True)
    world.feed([(0, submit(job()), None), (10 * S, Cancel(workflow=1), None)])
    world.run()
    assert story.ends() == [(17 * S, 1, "cancelled")]


def test_a_lost_node_takes_the_whole_gang_with_it() -> None:
    world, story = world_of(count=3)
    world.feed([(0, submit(job(8, replicas=2)), 100 * S)])
    lost = InventoryReported(tuple(node for node in nodes(3, gpu_count=8, gpu_type="H100") if node.name != "n1"))
    world.feed([(40 * S, lost, None)])
    world.run()
    (at_ms, first), (_, second) = story.of(ev.AttemptEnded)
    assert (at_ms, first.cause.kind) == (40 * S, "node-lost")
    assert second.outcome == "succeeded"
    places = [[place.node for place in event.places] for _, event in story.of(ev.ItemAdmitted)]
    assert "n1" in places[0] and places[1] == ["n2", "n3"]


def test_a_document_that_makes_no_sense_to_the_runtime_fails() -> None:
    world, story = world_of()
    world.behave = lambda order, tag: Behaviour(launch_fault="no such duration")
    world.feed([(0, submit(job()), None)])
    world.run()
    assert story.ends() == [(0, 1, "failed")]


def test_what_is_refused_is_counted_and_the_first_are_kept() -> None:
    world, _ = world_of(limits=Limits(live_workflows_count=1))
    world.feed((0, submit(job()), S) for _ in range(30))
    world.run()
    assert world.refused_count == 29
    at_ms, first = world.refusals[0]
    assert (at_ms, first.field) == (0, "limits.live_workflows_count")
    assert len(world.refusals) == 20


def test_a_run_may_be_cut_into_pieces() -> None:
    whole, whole_story = world_of(gpu_count=2)
    pieces, pieces_story = world_of(gpu_count=2)
    for world in (whole, pieces):
        world.feed((k * S, submit(job()), 3 * S) for k in range(20))
    assert whole.run() is False
    rounds = 1
    while pieces.run(steps_count=3):
        rounds += 1
    assert rounds > 5
    assert pieces_story.lines == whole_story.lines


def test_a_broken_invariant_is_told() -> None:
    world, _ = world_of()
    world.feed([(0, submit(job()), 10 * S), (5 * S, submit(job()), 10 * S)])
    world.run(until_ms=S)
    world.state.holders.clear()
    with pytest.raises(Broken, match="S7 holders"):
        world.run()


def test_every_effect_has_somebody_who_performs_it() -> None:
    world, _ = world_of()
    assert set(world._perform) == set(get_args(ef.AnyEffect))


# ---------------------------------------------------------------------------------------------------- going on, again


def test_it_goes_on_from_the_rows_of_another() -> None:
    """A snapshot: what runs goes on with what is left of its duration, what waits waits on."""
    first = Cluster(nodes(1, gpu_count=1, gpu_type="H100"), lambda attempt, rank: Runs(start_ms=0, run_ms=10 * S))
    for _ in range(3):
        first.send(submit(job()))
    first.run(14 * S)
    state = State.load(first.ledger.loadable(), UNBOUNDED)
    world = World(state, lambda order, tag: Behaviour(duration_ms=10 * S), now_ms=14 * S, check_every_count=1)
    world.send(Recovered(tuple((attempt, 0) for attempt, _, _ in state.reserved())))
    story, count = Story(world), len(first.story)
    first.run()
    world.run()
    assert story.lines == first.story[count:]
    assert story.ends() == [(20 * S, 2, "succeeded"), (30 * S, 3, "succeeded")]


SCRIPT = """
from tests.simulate.test_engine import digest
print(digest())
"""


def digest() -> str:
    """Of all events of a run with gangs, failures, a lost node and a cancel."""
    world, story = world_of(count=4)
    world.behave = lambda order, tag: Behaviour(duration_ms=tag, exit_code=order.attempt.workflow % 7 == 0)
    sizes = [1, 3, 2, 5, 8, 1, 4]
    world.feed(
        (k * S, submit(job(sizes[k % 7], replicas=1 + k % 3, retries=1)), (1 + k * 37 % 29) * S) for k in range(60)
    )
    some = nodes(4, gpu_count=8, gpu_type="H100")
    world.feed([(20 * S, InventoryReported(some[:2]), None), (40 * S, InventoryReported(some), None)])
    world.feed([(25 * S, Cancel(workflow=9), None)])
    world.run()
    assert len(story.ends()) == 60
    return hashlib.sha256(repr(story.lines).encode()).hexdigest()


def test_the_same_inputs_give_the_same_events_whatever_the_hash_seed() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
            env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("0", "1", "77")
    }  # fmt: skip
    assert told == {digest()}
