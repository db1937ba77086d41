"""What is told of a run: waits, integrals, lost work; distributions and series against plain sums."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from test_engine import S, job, lasts, world_of

from ffd.core import events as ev
from ffd.core.commands import Cancel
from ffd.core.reports import InventoryReported, Recovered
from ffd.core.spec import Checkpoint, Timeouts
from ffd.core.state import State
from ffd.plugins.behaviour import Behaviour
from ffd.simulate import measure
from ffd.simulate.engine import UNBOUNDED, World
from ffd.simulate.measure import Distribution, Series
from ffd.simulate.record import Gang, Recorder
from ffd.simulate.result import result_of
from ffd.testing.builders import gpus, nodes, spec, submit, task
from ffd.testing.cluster import Behaviour as Runs
from ffd.testing.cluster import Cluster


def test_quantiles_are_exact_then_near() -> None:
    chance = random.Random(1)
    values = [chance.randrange(10 ** (1 + k % 9)) for k in range(5_000)]
    exact, near = Distribution(), Distribution()
    before, measure.EXACT_COUNT = measure.EXACT_COUNT, 1_000
    try:
        for value in values:
            near.add(value)
    finally:
        measure.EXACT_COUNT = before
    for value in values:
        exact.add(value)
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        wanted = sorted(values)[round(len(values) * share) - 1]
        assert exact.quantile(share) == wanted
        assert wanted * (1 - 1 / 64) <= near.quantile(share) <= wanted
    assert (exact.mean, exact.max) == (near.mean, near.max) == (sum(values) / len(values), max(values))
    assert Distribution().quantile(0.5) == 0


def test_a_series_is_exact_however_time_outgrows_its_bins() -> None:
    chance, series = random.Random(7), Series(500)
    at_ms, level, integral = 500, 0, 0
    changes = [(500, 0)]
    for _ in range(400):
        step_ms, change = chance.randrange(60_000), chance.randrange(-level, 9)
        integral += level * step_ms
        at_ms, level = at_ms + step_ms, level + change
        series.add(at_ms, change)
        changes.append((at_ms, level))
    series.advance(at_ms)
    assert series.integral == sum(series.bins) == integral
    assert len(series.bins) <= measure.BINS_COUNT
    width_ms = series.width_ms * 4
    means = series.means(width_ms, at_ms)
    third = sum(
        held * max(0, min(end, 500 + 3 * width_ms) - max(begin, 500 + 2 * width_ms))
        for (begin, held), (end, _) in pairwise(changes)
    )
    assert abs(means[2] - third / width_ms) < 1e-9


def recorded(gpu_count: int = 1, count: int = 1) -> tuple[World, Recorder, list[tuple[Gang, str, int]]]:
    world, _ = world_of(gpu_count=gpu_count, count=count)
    world.run()
    gangs: list[tuple[Gang, str, int]] = []
    return world, Recorder(world, lambda *gang: gangs.append(gang)), gangs


def test_waits_and_use_of_each_tenant() -> None:
    world, recorder, gangs = recorded()
    who = ["a", "b", "a", "b"]
    world.feed((k * S, submit(job(), project=who[k]), 10 * S) for k in range(4))
    world.run()
    result = result_of(recorder, "fifo")
    a, b = result.tenants
    assert [round(one.wait.mean_s, 6) for one in (a, b)] == [9.0, 18.0]
    assert (a.wait.max_s, b.wait.p50_s, b.wait.p99_s) == (18.0, 9.0, 27.0)
    assert (a.used_hours, b.used_hours) == (20 / 3600, 20 / 3600)
    assert (result.total.utilisation, result.makespan_s, result.unit, result.capacity) == (1.0, 40.0, "GPU", 1.0)
    assert [gang.began_at_ms for gang, _, _ in gangs] == [0, 10 * S, 20 * S, 30 * S]
    assert [(size.least, size.most, size.wait.count) for size in result.sizes] == [(1, 1, 4)]
    assert result.plot.capacity == [1.0] * 40 and result.plot.lines[0].used[:11] == [1.0] * 10 + [0.0]
    assert result.plot.lines[1].waiting[:12] == [0, 1, 1, 2, 2, 2, 2, 2, 2, 2, 1, 1]


def test_lost_work_and_all_waits_of_a_gang_that_was_tried_again() -> None:
    world, recorder, gangs = recorded(count=2)
    world.behave = lambda order, tag: Behaviour(duration_ms=10 * S, exit_code=order.attempt.attempt == 1)
    world.feed([(0, submit(job(1, replicas=2, retries=1)), None)])
    world.run()
    result = result_of(recorder)
    assert result.total.lost_hours == 20 / 3600
    assert (result.total.started, result.total.succeeded, result.total.preemptions) == (1, 1, 0)
    assert [bar.outcome for bar in result.gantt] == ["failed", "succeeded"]
    assert gangs[0][0].waited_ms == 0  # backing off is not waiting for the scheduler


def test_what_a_checkpoint_saved_is_not_lost() -> None:
    world, recorder, _ = recorded()
    document = job(timeouts=Timeouts(run_ms=60 * S), retries=1, checkpoint=Checkpoint(grace_ms=5 * S))
    world.feed([(0, submit(document), 100 * S)])
    world.run()
    assert result_of(recorder).total.lost_hours == 5 / 3600


def test_what_is_not_settled_is_told_apart() -> None:
    world, recorder, _ = recorded()
    world.feed((0, submit(job(), project="p"), 100 * S) for _ in range(3))
    world.feed([(50 * S, Cancel(workflow=2), None)])
    world.run(until_ms=60 * S)
    total = result_of(recorder).total
    assert (total.gangs, total.started, total.cancelled, total.waiting, total.running) == (3, 1, 1, 1, 1)
    assert total.used_hours == 60 / 3600


def test_dags_and_fanouts_count_items() -> None:
    world, recorder, _ = recorded(gpu_count=8)
    document = spec(task("a", foreach=(1, 2, 3)), task("b", "a", resources=gpus(8)), task("c", "a", when="false"))
    world.feed([(0, submit(document), {"a": S, "b": S, "c": S})])
    world.run()
    result = result_of(recorder)
    assert (result.total.gangs, result.total.succeeded, result.total.workflows) == (4, 4, 1)
    assert result.total.turnaround_mean_s == 2.0
    assert sorted(bar.name for bar in result.gantt) == ["demo.1/a[0]", "demo.1/a[1]", "demo.1/a[2]", "demo.1/b"]


def test_a_snapshot_counts_what_is_there() -> None:
    first = Cluster(nodes(1, gpu_count=1, gpu_type="H100"), lambda attempt, rank: Runs(start_ms=0, run_ms=10 * S))
    for _ in range(3):
        first.send(submit(job()))
    first.run(14 * S)
    state = State.load(first.ledger.loadable(), UNBOUNDED)
    world = World(state, lasts, now_ms=14 * S)
    world.behave = lambda order, tag: Behaviour(duration_ms=10 * S)
    recorder = Recorder(world)
    world.send(Recovered(tuple((attempt, 0) for attempt, _, _ in state.reserved())))
    world.run()
    result = result_of(recorder)
    assert (result.total.gangs, result.total.started, result.total.succeeded) == (2, 1, 2)
    assert result.total.wait.mean_s == 20.0  # it waited since its submit, not since the snapshot
    assert result.total.used_hours == 16 / 3600


def test_memory_goes_with_what_is_live() -> None:
    world, recorder, _ = recorded()
    kinds: list[Any] = []
    world.on(ev.WorkflowEnded, lambda at_ms, event: kinds.append(len(recorder._flows) + len(recorder.running)))
    world.feed((k * 10 * S, submit(job(), project="p"), 5 * S) for k in range(50))
    world.feed([(7 * S, InventoryReported(()), None), (8 * S, InventoryReported(nodes(1, gpu_count=1)), None)])
    world.run()
    assert max(kinds) <= 2 and not recorder.running and not recorder._flows
