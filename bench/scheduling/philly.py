"""The Philly trace (October 2017; Jeon et al., USENIX ATC'19) as documents: each job is one workflow of one gang.

Up to 8 GPUs a gang lies on one node, above that on whole empty nodes and the tightest other node for the rest
(`compact`). The duration is known: each declares it as `timeout.run`. Read from beside the project, never copied here.
"""

from __future__ import annotations

import csv
import gzip
import json
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec

from bench.scheduling.reference import GPUS, Job
from bench.wfinstances import DATA
from ffd.core import effects as ef
from ffd.core import events as ev
from ffd.core.commands import SetQuota, SetTenant, Submit
from ffd.core.model import AttemptId, Node
from ffd.core.policy import Policy
from ffd.core.reports import InventoryReported
from ffd.core.spec import Checkpoint, Gang, Resources, Spec, Task, Timeouts
from ffd.core.state import State
from ffd.plugins.behaviour import Behaviour
from ffd.simulate.engine import UNBOUNDED, World

FILE = DATA / "gang" / "philly_2017_10.csv.gz"
REFERENCE = DATA / "gang" / "philly_2017_10_reference.json"
NODES_COUNT = 80
MS = 1_000


@cache
def jobs() -> tuple[Job, ...]:
    """In order of submission."""
    with gzip.open(FILE, "rt") as lines:
        return tuple(
            Job(int(row["submit_s"]), int(row["duration_s"]), int(row["gpus"]), row["vc"])
            for row in csv.DictReader(lines)
        )


@cache
def reference() -> Any:
    """Published results, and the guaranteed nodes of each tenant."""
    return json.loads(REFERENCE.read_text())


def nodes(count: int) -> tuple[Node, ...]:
    return tuple(Node(f"n{k:05}", gpu_type="P100", gpu_count=GPUS) for k in range(count))


@cache
def document(gpus: int, duration_s: int, checkpoint: bool) -> Spec:
    """One task, named by what it is, so that nothing is learnt from others. Preempted, it starts over, or goes on from
    its checkpoint."""
    level = "same-node" if gpus <= GPUS else "compact"
    name = f"gang{gpus}_{duration_s}"
    task = Task(
        name, "command", argv=("train",), resources=Resources(gpu_count=1),
        gang=Gang(replicas=gpus, topology=level if gpus > 1 else "any"),
        timeouts=Timeouts(run_ms=duration_s * MS), checkpoint=Checkpoint(grace_ms=0) if checkpoint else None,
    )  # fmt: skip
    return Spec(name, (task,))


class Replay(msgspec.Struct):
    """What came of a trace. By job: seconds until it ended that it did not run for, and until it first began."""

    queue_s: list[float]
    first_s: list[float]
    partial_count: int = 0  # admitted gangs that were not whole, or not where they had to be
    preempted_count: int = 0
    lost_gpu_s: float = 0.0  # work of preempted gangs that was done in vain
    step_count: int = 0
    took_s: float = 0.0

    def mean_s(self, wanted: list[bool] | None = None) -> float:
        found = [wait for k, wait in enumerate(self.queue_s) if wanted is None or wanted[k]]
        return sum(found) / len(found)


class Player:
    """Feeds jobs to a world and keeps what became of each."""

    def __init__(self, trace: tuple[Job, ...], world: World) -> None:
        self._trace = trace
        self._began: dict[AttemptId, tuple[int, float]] = {}  # job, second
        self.replay = Replay([-1.0] * len(trace), [-1.0] * len(trace))
        self._job = world.tags  # by workflow: the tag is the number of the job
        world.on(ev.ItemAdmitted, self._admitted)
        world.on(ev.AttemptEnded, self._ended)

    def _admitted(self, at_ms: int, event: ev.ItemAdmitted) -> None:
        k = self._job[event.attempt.workflow]
        if self.replay.first_s[k] < 0:
            self.replay.first_s[k] = at_ms / MS - self._trace[k].at_s
        self._began[event.attempt] = k, at_ms / MS
        self.replay.partial_count += not is_whole(event, self._trace[k].gpus)

    def _ended(self, at_ms: int, event: ev.AttemptEnded) -> None:
        k, began_s = self._began.pop(event.attempt)
        job = self._trace[k]
        if event.outcome == "succeeded":
            self.replay.queue_s[k] = at_ms / MS - job.at_s - job.duration_s
        else:
            self.replay.preempted_count += 1
            self.replay.lost_gpu_s += (at_ms / MS - began_s) * job.gpus


def is_whole(event: ev.ItemAdmitted, gpus: int) -> bool:
    """Every GPU asked for, each once; on one node, or on whole nodes and one more."""
    taken = {(place.node, gpu) for place in event.places for gpu in place.gpus}
    by_node: dict[str, int] = {}
    for node, _ in taken:
        by_node[node] = by_node.get(node, 0) + 1
    least = [GPUS] * (gpus // GPUS) + ([gpus % GPUS] if gpus % GPUS else [])
    return len(taken) == gpus and sorted(by_node.values(), reverse=True) == least


def replay(
    policy: Policy, *, trace: tuple[Job, ...] | None = None, node_count: int = NODES_COUNT, shares: bool = False,
    checkpoint: bool = False, check_every_count: int = 5_000,
) -> Replay:  # fmt: skip
    """Play a trace with ffd's scheduler. `shares`: the trace's tenants are tenants, with their guaranteed nodes as
    nominal quota and weight, lending and borrowing without bound; else all is one project. Raises on a job that did not
    end, or was refused."""
    trace = jobs() if trace is None else trace
    world = World(
        State(UNBOUNDED, policy), lambda order, k: _behaviour(order, trace[k]), check_every_count=check_every_count
    )
    player = Player(trace, world)
    world.send(InventoryReported(nodes(node_count)), *(tenants() if shares else ()))
    world.feed(_submits(trace, shares, checkpoint))
    start_s = time.process_time()
    world.run()
    found = player.replay
    found.took_s, found.step_count = time.process_time() - start_s, world.step_count
    if world.refused_count or min(found.queue_s) < 0:
        raise AssertionError(f"{world.refusals[:3]}, {sum(wait < 0 for wait in found.queue_s)} jobs did not end")
    return found


def _behaviour(order: ef.Launch, job: Job) -> Behaviour:
    return Behaviour(duration_ms=job.duration_s * MS)


def _submits(trace: tuple[Job, ...], shares: bool, checkpoint: bool) -> Iterator[tuple[int, Submit, int]]:
    for k, job in enumerate(trace):
        spec = document(job.gpus, job.duration_s, checkpoint)
        command = Submit(spec=spec, spec_digest=spec.name, project=job.tenant if shares else "default")
        yield job.at_s * MS, command, k


def tenants() -> Iterator[SetTenant | SetQuota]:
    """The guaranteed shares: weights, and nominal quotas."""
    for tenant, found in reference()["private"].items():
        yield SetTenant(tenant=tenant, weight_millis=found["nodes"] * 1_000)
        yield SetQuota(tenant=tenant, changes={"gpus": {"nominal": found["nodes"] * GPUS * 1_000}})
