"""Yardstick 7: the generators of Kueue's own performance tests, replayed: cohorts are tenants, queues their projects.

A quota unit is one GPU; where a pod asks for part of one, it is one core. Their `balanced` placement is not ours: those
classes prefer a rack. Their figures pay for writes to an API server and for a real clock; ours are the loop alone
(core.step with all its reports, on a virtual clock; CPU time): the ratio says what deciding costs, not who is faster.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from bench.scheduling.rows import Row, none_of, told
from bench.wfinstances import DATA
from ffd.core import effects as ef
from ffd.core import events as ev
from ffd.core.commands import SetQuota, Submit
from ffd.core.invariants import check
from ffd.core.model import Node
from ffd.core.policy import Policy
from ffd.core.reports import InventoryReported
from ffd.core.spec import Gang, Resources, Spec, Task, Timeouts
from ffd.core.state import State
from ffd.plugins.behaviour import Behaviour
from ffd.simulate.engine import UNBOUNDED, World

FILE = DATA / "gang" / "kueue_perf.json"
UNIT = 1_000  # GPUs and cores are counted in thousandths


def document(kind: Any) -> Spec:
    """One workload of a class."""
    if "pods" in kind:
        ask = Resources(cpu_millis=round(kind["request_per_pod"] * UNIT))
        gang = Gang(kind["pods"], topology="same-rack", topology_required=kind["topology"] == "required")
    else:
        ask, gang = Resources(gpu_count=1), Gang(kind["request"])
    name = kind["class"].replace("-", "_")
    task = Task(name, "command", argv=("true",), resources=ask, gang=gang, timeouts=Timeouts(run_ms=kind["runtime_ms"]))
    return Spec(name, (task,), priority=kind["priority"])


def queues(scenario: Any) -> list[str]:
    return [f"cohort{c}/queue{q}" for c in range(scenario["cohorts"]) for q in range(scenario["queues_per_cohort"])]


def quotas(scenario: Any, resource: str) -> Iterator[SetQuota]:
    """Each queue its nominal and what it may borrow; the cohort is the pool of its queues' nominals."""
    nominal = scenario["nominal_quota"] * UNIT
    for c in range(scenario["cohorts"]):
        pool = {"nominal": nominal * scenario["queues_per_cohort"], "borrow_max": 0}
        yield SetQuota(tenant=f"cohort{c}", changes={resource: pool})
    own = {"nominal": nominal, "borrow_max": scenario["borrowing_limit"] * UNIT}
    for queue in queues(scenario):
        yield SetQuota(tenant=queue, changes={resource: own})


def inventory(scenario: Any) -> tuple[Node, ...]:
    """Their racks of nodes, or GPU nodes for just what the quotas guarantee."""
    shape = scenario.get("topology")
    if shape is None:
        total = scenario["nominal_quota"] * len(queues(scenario))
        return tuple(Node(f"n{k:05}", gpu_type="GPU", gpu_count=8) for k in range(-(-total // 8)))
    return tuple(
        Node(f"r{rack:02}n{k:03}", cpu_millis=shape["cpu_per_node"] * UNIT, labels={"rack": f"r{rack:02}"})
        for rack in range(shape["racks_per_block"] * shape["blocks"])
        for k in range(shape["nodes_per_rack"])
    )


def generate(scenario: Any) -> Iterator[tuple[int, Submit, int]]:
    """Every queue makes `count` workloads of each class, one every interval."""
    found = []
    for kind in scenario["per_queue"]:
        spec = document(kind)
        for queue in queues(scenario):
            command = Submit(spec=spec, spec_digest=spec.name, project=queue)
            found += [(k * kind["creation_interval_ms"], command) for k in range(kind["count"])]
    found.sort(key=lambda pair: pair[0])
    for at_ms, command in found:
        yield at_ms, command, command.spec.tasks[0].timeouts.run_ms


def _behaviour(order: ef.Launch, run_ms: int) -> Behaviour:
    return Behaviour(duration_ms=run_ms)


def run() -> Iterator[Row]:
    for scenario in json.loads(FILE.read_text())["scenarios"]:
        yield from _rows(scenario)


def _rows(scenario: Any) -> Iterator[Row]:
    name, published = scenario["name"], scenario["published"]
    world = World(State(UNBOUNDED, Policy()), _behaviour)
    began: dict[int, int] = {}
    counts = {"admitted": 0, "ended": 0}

    def admitted(at_ms: int, event: ev.ItemAdmitted) -> None:
        counts["admitted"] += 1
        began.setdefault(event.attempt.workflow, at_ms)

    def ended(at_ms: int, event: ev.WorkflowEnded) -> None:
        counts["ended"] += event.state == "succeeded"

    world.on(ev.ItemAdmitted, admitted)
    world.on(ev.WorkflowEnded, ended)
    resource = "cpus" if "topology" in scenario else "gpus"
    world.send(InventoryReported(inventory(scenario)), *quotas(scenario, resource))
    world.feed(generate(scenario))
    start_s, faults = time.process_time(), list[str]()
    while world.run(steps_count=2_000):
        paused_s = time.process_time()
        faults += check(world.state)
        start_s += time.process_time() - paused_s
    took_s = time.process_time() - start_s
    theirs = scenario["workloads"] / published["wall_ms_mean"] * 1_000
    rate = counts["admitted"] / took_s
    note = f"theirs {theirs:.1f}/s, with writes to an API server: {rate / theirs:,.0f} times"
    yield told(f"7 {name}: admissions per second of the loop alone", f"{rate:,.0f}/s", note)
    restarts = counts["admitted"] - counts["ended"]
    yield told(f"7 {name}: virtual time to the end", f"{world.now_ms / 1000:,.1f} s", f"{restarts:,} preempted")
    lost = scenario["workloads"] - counts["ended"] + world.refused_count
    yield none_of(f"7 {name}: workloads lost, invariants broken (sampled)", lost + len(faults), "; ".join(faults[:2]))
