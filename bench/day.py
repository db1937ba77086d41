"""A day of 30,000 workflows on 1,000 nodes x 8 GPUs: the default policy against FIFO and backfill alone.

    ./dev bench day          all three policies, one after the other
    ./dev bench day 10       the same day, a tenth of it: 3,000 workflows on 100 nodes
    ./dev bench day 10 1     that by the first policy only; ./dev compiled bench day ...: with the core compiled

How the day is made, with a fixed seed:
* Shapes: each workflow is one of the 87 WfInstances executions, drawn alike; every task of it is a task, with its own
  runtime and one core.
* Gangs: the four longest tasks of a shape are GPU gangs. Size, duration and tenant are those of a Philly job drawn at
  random, once for each of eight documents of a shape: people submit the same documents again and again. Durations are
  cut at six hours, which makes the load about 90 % of the GPUs; so is the declared limit: the next of 15 min, 1 h, 3 h,
  6 h (people declare round limits, not durations).
* Instants: the times of day at which Philly's jobs were submitted. All durations are in whole seconds, as Philly's are:
  a second is one step, and a cycle of the scheduler decides on all that happened in it.
* Tenants: Philly's, with their shares of its cluster as weight and nominal quota.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from msgspec.structs import replace

from bench.scheduling.dag import executions
from bench.scheduling.philly import GPUS, MS, jobs, reference
from bench.scheduling.reference import Job
from bench.scheduling.rows import Row, at_most, none_of, show, told
from bench.wfinstances import FILE
from ffd.core import effects as ef
from ffd.core import events as ev
from ffd.core.commands import SetQuota, SetTenant, Submit
from ffd.core.invariants import check
from ffd.core.model import AttemptId, Node
from ffd.core.policy import Policy
from ffd.core.reports import InventoryReported
from ffd.core.spec import Gang, Need, Resources, Spec, Task, Timeouts
from ffd.core.state import State
from ffd.plugins.behaviour import Behaviour
from ffd.simulate.engine import UNBOUNDED, World
from ffd.simulate.heap import Heap

WORKFLOWS_COUNT, NODES_COUNT = 30_000, 1_000
DAY_S = 86_400
GANGS_COUNT = 4  # of each workflow
DOCUMENTS_COUNT = 8  # of each shape
LONGEST_S = 6 * 3_600
DECLARED_S = (900, 3_600, 3 * 3_600, LONGEST_S)
CORES = 96  # of each node
BAR_S = 600
STEPS_COUNT = 2_000  # between two looks at the heap
CHECKS_COUNT = 20  # times in a run at which every invariant is checked
POLICIES = {
    "default": Policy(),
    "backfill": Policy(order="fifo", preempt="off"),
    "fifo": Policy(order="fifo", backfill=False, preempt="off"),
}


class Drawn(NamedTuple):
    """One workflow: which shape, when, and its gangs by task name."""

    at_ms: int
    shape: int
    gangs: dict[str, Job]
    tenant: str


@cache
def heavy(shape: int) -> tuple[str, ...]:
    """The longest tasks of an execution."""
    tasks = executions()[shape]["tasks"]
    longest = sorted(range(len(tasks)), key=lambda k: (-tasks[k]["runtime_s"], k))
    return tuple(f"t{k}" for k in longest[:GANGS_COUNT])


def draw(count: int) -> list[Drawn]:
    """The workflows of the day, in order of submission."""
    chance, trace = random.Random(42), jobs()
    instants = sorted(chance.choice(trace).at_s % DAY_S * MS for _ in range(count))
    documents = [
        (shape, [chance.choice(trace) for _ in heavy(shape)])
        for shape in range(len(executions()))
        for _ in range(DOCUMENTS_COUNT)
    ]
    found = []
    for at_ms in instants:
        shape, gangs = chance.choice(documents)
        found.append(Drawn(at_ms, shape, dict(zip(heavy(shape), gangs, strict=True)), gangs[0].tenant))
    return found


@cache
def declared_s(duration_s: int) -> int:
    return next(limit for limit in DECLARED_S if limit >= min(duration_s, LONGEST_S))


@cache
def plain(shape: int) -> dict[str, Task]:
    """The tasks of a shape, none of them a gang yet."""
    return {
        f"t{k}": Task(
            f"t{k}", "command", argv=("true",), resources=Resources(cpu_millis=1_000),
            needs=tuple(Need(f"t{parent}") for parent in task["parents"]),
        )
        for k, task in enumerate(executions()[shape]["tasks"])
    }  # fmt: skip


@cache
def document(shape: int, gangs: tuple[tuple[str, int, int], ...]) -> Spec:
    """`gangs`: (task, GPUs, declared seconds)."""
    tasks = dict(plain(shape))
    for name, gpus, limit_s in gangs:
        topology = "any" if gpus == 1 else "same-node" if gpus <= GPUS else "compact"
        tasks[name] = Task(
            name, "command", argv=("train",), needs=tasks[name].needs, resources=Resources(gpu_count=1),
            gang=Gang(gpus, topology=topology), timeouts=Timeouts(run_ms=limit_s * MS),
        )  # fmt: skip
    name = f"w{shape}_" + "_".join(f"{gpus}x{limit_s}" for _, gpus, limit_s in gangs)
    return Spec(name, tuple(tasks.values()))


def submits(day: list[Drawn]) -> Iterator[tuple[int, Submit, Drawn]]:
    for one in day:
        gangs = tuple((name, job.gpus, declared_s(job.duration_s)) for name, job in one.gangs.items())
        spec = document(one.shape, gangs)
        yield one.at_ms, Submit(spec=spec, spec_digest=spec.name, project=one.tenant), one


@cache
def runtimes_ms(shape: int) -> list[int]:
    return [max(1, round(task["runtime_s"])) * MS for task in executions()[shape]["tasks"]]


@cache
def behaviours(shape: int) -> dict[str, Behaviour]:
    """Of the tasks that are no gangs."""
    return {f"t{k}": Behaviour(duration_ms=found) for k, found in enumerate(runtimes_ms(shape))}


def behave(order: ef.Launch, one: Drawn) -> Behaviour:
    name = order.attempt.task
    job = one.gangs.get(name)
    if job is None:
        return behaviours(one.shape)[name]
    return Behaviour(duration_ms=min(job.duration_s, LONGEST_S) * MS)


def rules(nodes_count: int) -> Iterator[SetTenant | SetQuota]:
    """Philly's guaranteed shares, for a cluster of another size."""
    total = reference()["nodes"]
    for tenant, found in reference()["private"].items():
        yield SetTenant(tenant=tenant, weight_millis=found["nodes"] * MS)
        nominal = found["nodes"] * nodes_count * GPUS * 1_000 // total
        yield SetQuota(tenant=tenant, changes={"gpus": {"nominal": nominal}})


class Told:
    """What is kept of a run: GPU time within the day, waits of gangs by size, how long workflows took."""

    def __init__(self, world: World) -> None:
        self.gpu_ms = 0  # held within the day
        self.waits: list[tuple[int, str, int]] = []  # GPUs, tenant, ms from ready to admitted
        self.flow_ms = 0  # sum, from submit to end
        self.ended_count = self.task_count = self.preempted_count = 0
        self.cpu_wait_ms = self.cpu_count = 0
        self._world = world
        self._ready: dict[AttemptId, int] = {}  # when it became ready again, of those to be tried again
        self._accepted: dict[int, int] = {}
        self._held: dict[AttemptId, tuple[int, int]] = {}  # GPUs, since
        for kind, hook in (
            (ev.ItemAdmitted, self._admitted), (ev.AttemptEnded, self._gone), (ev.ItemReady, self._again),
            (ev.WorkflowEnded, self._ended), (ev.WorkflowAccepted, self._began),
        ):  # fmt: skip
            world.on(kind, hook)

    def _again(self, at_ms: int, event: ev.ItemReady) -> None:
        attempt = event.attempt
        self._ready[replace(attempt, attempt=attempt.attempt + 1)] = at_ms

    def _admitted(self, at_ms: int, event: ev.ItemAdmitted) -> None:
        attempt = event.attempt
        live = self._world.state.workflows[attempt.workflow]
        if attempt.attempt == 1:
            waited_ms = at_ms - live.tasks[attempt.task].row.opened_at_ms
        else:
            waited_ms = at_ms - self._ready.pop(attempt)
        if event.places[0].gpus:
            gpus = len(event.places)
            self.waits.append((gpus, live.row.project, waited_ms))
            self._held[attempt] = gpus, at_ms
        else:
            self.cpu_count += 1
            self.cpu_wait_ms += waited_ms

    def _gone(self, at_ms: int, event: ev.AttemptEnded) -> None:
        if event.outcome == "succeeded":
            self.task_count += 1
        else:
            self.preempted_count += 1
        held = self._held.pop(event.attempt, None)
        if held is not None:
            self.gpu_ms += held[0] * max(0, min(at_ms, DAY_S * MS) - held[1])

    def _ended(self, at_ms: int, event: ev.WorkflowEnded) -> None:
        self.ended_count += event.state == "succeeded"
        self.flow_ms += at_ms - self._accepted.pop(event.workflow)

    def _began(self, at_ms: int, event: ev.WorkflowAccepted) -> None:
        self._accepted[event.workflow] = at_ms


def play(policy: Policy, day: list[Drawn], nodes_count: int, heap: Heap) -> tuple[Told, float, list[str], World]:
    """What came of it, the seconds it took (checks apart), and broken invariants."""
    world = World(State(UNBOUNDED, policy), behave)
    told = Told(world)
    inventory = (Node(f"n{k:04}", gpu_type="GPU", gpu_count=GPUS, cpu_millis=CORES * 1_000) for k in range(nodes_count))
    world.send(InventoryReported(tuple(inventory)), *rules(nodes_count))
    world.feed(submits(day))
    took_s, faults = 0.0, list[str]()
    until_ms = [k * DAY_S * MS // CHECKS_COUNT for k in range(1, CHECKS_COUNT + 1)]
    for instant in (*until_ms, None):
        start_s = time.process_time()
        while world.run(instant, STEPS_COUNT):
            heap.follow()
        took_s += time.process_time() - start_s
        faults += check(world.state)
    return told, took_s, faults, world


def quantile_s(waits: list[int], part: float) -> float:
    return sorted(waits)[min(len(waits) - 1, int(part * len(waits)))] / MS if waits else 0.0


def rows(name: str, policy: Policy, day: list[Drawn], nodes_count: int, heap: Heap) -> Iterator[Row]:
    found, took_s, faults, world = play(policy, day, nodes_count, heap)
    if nodes_count == NODES_COUNT:
        yield at_most(
            f"day {name}: simulated in", took_s, BAR_S, note=f"{found.task_count:,} tasks, {world.step_count:,} steps"
        )
    else:
        yield told(f"day {name}: simulated in", f"{took_s:.0f} s", f"{found.task_count:,} tasks")
    lost = len(day) - found.ended_count + world.refused_count
    yield none_of(f"day {name}: workflows lost, invariants broken (sampled)", lost + len(faults), "; ".join(faults[:2]))
    yield told(f"day {name}: GPU utilisation within the day", f"{found.gpu_ms / (nodes_count * GPUS * DAY_S * MS):.1%}")
    yield told(f"day {name}: mean time of a workflow", f"{found.flow_ms / MS / len(day):,.0f} s")
    for what, low, high in (("1", 1, 1), ("2-8", 2, 8), ("above 8", 9, 1 << 30)):
        waits = [wait for gpus, _, wait in found.waits if low <= gpus <= high]
        mean_s, tail_s = sum(waits) / MS / max(1, len(waits)), quantile_s(waits, 0.99)
        yield told(
            f"day {name}: wait of gangs of {what} GPUs",
            f"{mean_s:,.0f} s",
            f"p99 {tail_s:,.0f} s, {len(waits):,} gangs",
        )
    by_tenant: dict[str, list[int]] = {}
    for _, tenant, wait in found.waits:
        by_tenant.setdefault(tenant, []).append(wait)
    worst_s, worst = max((sum(waits) / MS / len(waits), tenant) for tenant, waits in by_tenant.items())
    yield told(f"day {name}: tenant that waits longest", f"{worst_s:,.0f} s", worst)
    cpu = f"{found.cpu_wait_ms / MS / max(1, found.cpu_count):,.1f} s"
    yield told(f"day {name}: wait of CPU tasks", cpu, f"{found.preempted_count:,} gangs preempted")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield told(f"day {name}: makespan", f"{world.now_ms / MS / 3600:,.1f} h", f"{memory:,.0f} MB at most so far")


def main(*parts: str) -> None:
    if not FILE.exists():
        print(f"skipped: {FILE} is not there (set FFD_BENCH_DATA to the folder of the open workload data)")
        return
    part = int(parts[0]) if parts else 1
    day = draw(WORKFLOWS_COUNT // part)
    names = list(POLICIES)
    with Heap() as heap:  # as `ffd simulate` does
        for name in [names[int(number) - 1] for number in parts[1:]] or names:
            show(rows(name, POLICIES[name], day, NODES_COUNT // part, heap))
