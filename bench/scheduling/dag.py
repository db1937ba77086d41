"""Yardstick 6: the order within a workflow. 87 real graphs (WfInstances) on 8 and 64 slots, longest path first."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

from bench.scheduling.rows import Row, at_most, none_of, told
from bench.wfinstances import DATA, FILE
from ffd.core import effects as ef
from ffd.core import events as ev
from ffd.core.commands import Submit
from ffd.core.model import Node
from ffd.core.policy import Policy
from ffd.core.reports import InventoryReported
from ffd.core.spec import Need, Spec, Task, Timeouts
from ffd.core.state import State
from ffd.plugins.behaviour import Behaviour
from ffd.simulate.engine import UNBOUNDED, World

REFERENCE = DATA / "dag" / "wfinstances_reference.json"
MS = 1_000
ROUNDING_S = 0.01  # of sums of floats: durations and bounds are whole milliseconds


@cache
def executions() -> list[Any]:
    with gzip.open(FILE, "rt") as lines:
        return [json.loads(line) for line in lines]


def document(execution: Any) -> tuple[Spec, dict[str, int]]:
    """The workflow, and how long each task takes (ms), which it declares as `timeout.run`. Tasks are t0, t1, ..."""
    durations = {f"t{k}": round(task["runtime_s"] * MS) for k, task in enumerate(execution["tasks"])}
    tasks = tuple(
        Task(
            f"t{k}", "command", argv=("true",), needs=tuple(Need(f"t{parent}") for parent in task["parents"]),
            timeouts=Timeouts(run_ms=max(1, durations[f"t{k}"])),
        )
        for k, task in enumerate(execution["tasks"])
    )  # fmt: skip
    return Spec("graph", tasks), durations


def makespan(execution: Any, slot_count: int) -> tuple[float, int]:
    """Seconds that one workflow takes alone on so many slots; and edges whose child began before its parent ended."""
    spec, durations = document(execution)
    world = World(State(UNBOUNDED, Policy()), lambda order, tag: _behaviour(order, durations))
    ended: dict[str, int] = {}
    wrong = 0
    needs = {task.name: task.needs for task in spec.tasks}

    def began(at_ms: int, event: ev.ItemAdmitted) -> None:
        nonlocal wrong
        wrong += sum(ended.get(need.task, 1 << 60) > at_ms for need in needs[event.attempt.task])

    def task_ended(at_ms: int, event: ev.TaskEnded) -> None:
        ended[event.task] = at_ms

    world.on(ev.TaskEnded, task_ended)  # asked of the events of one step in their order
    world.on(ev.ItemAdmitted, began)
    world.send(InventoryReported((Node("n1", slot_count=slot_count),)), Submit(spec=spec, spec_digest="graph"))
    world.run()
    return max(ended.values()) / MS, wrong + len(spec.tasks) - len(ended)


def _behaviour(order: ef.Launch, durations: dict[str, int]) -> Behaviour:
    return Behaviour(duration_ms=durations[order.attempt.task])


def run() -> Iterator[Row]:
    bounds = json.loads(REFERENCE.read_text())
    for slot_count in (8, 64):
        start_s, total_s, wrong, below = time.process_time(), 0.0, 0, 0
        for execution in executions():
            found_s, wrong_here = makespan(execution, slot_count)
            total_s, wrong = total_s + found_s, wrong + wrong_here
            below += found_s < bounds[execution["id"]][f"p{slot_count}"]["lb"] - ROUNDING_S
        best_s, fifo_s = (sum(found[f"p{slot_count}"][rule] for found in bounds.values()) for rule in ("hlf", "fifo"))
        note = f"longest path first {best_s:,.0f} s, FIFO {fifo_s:,.0f} s"
        yield at_most(f"6 {slot_count} slots: sum of makespans", total_s, 1.01 * best_s, note=note)
        yield none_of(f"6 {slot_count} slots: edges out of order, tasks that never ran", wrong, "61,833 edges")
        yield none_of(f"6 {slot_count} slots: graphs faster than their bound", below)
        yield told(f"6 {slot_count} slots: simulated in", f"{time.process_time() - start_s:.0f} s", "29,438 tasks")
