"""A loop for yardstick 8 and `./dev bench scale`: `core.step` alone, driven by hand, each step timed.

10,000 nodes of 8 GPUs, 1,000 projects of 10 tenants, gangs of whole nodes. No store, no runtime: a launched gang is
told to run at the next step, and ends when the bench says so. Times are CPU time: what a core of its own would take.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from typing import Any

from ffd.core import effects as ef
from ffd.core.commands import SetQuota, SetTenant, Submit
from ffd.core.decision import Decision
from ffd.core.model import AttemptId, Node
from ffd.core.policy import Policy
from ffd.core.reports import InventoryReported, Poke, ReplicaExited, ReplicaStarted
from ffd.core.spec import Gang, Resources, Spec, Task, Timeouts
from ffd.core.state import State
from ffd.core.step import step
from ffd.simulate.engine import UNBOUNDED

GPUS = 8
NODES_COUNT = 10_000
TENANTS_COUNT, PROJECTS_COUNT = 10, 100  # of each tenant
SECOND = 1_000
DAY = 86_400 * SECOND
SIZES = (2, 4, 8, 16)  # nodes of a gang
TASK = "train"


def inventory(count: int) -> tuple[Node, ...]:
    """Racks of 16 nodes."""
    return tuple(
        Node(f"n{k:05}", gpu_type="H100", gpu_count=GPUS, labels={"rack": f"r{k // 16:04}"}) for k in range(count)
    )


def projects() -> list[str]:
    return [f"tenant{t}/project{p:02}" for t in range(TENANTS_COUNT) for p in range(PROJECTS_COUNT)]


def document(node_count: int, run_ms: int, items_count: int = 1) -> Spec:
    """A gang of whole nodes; `items_count` of them as a fan-out."""
    task = Task(
        TASK, "command", argv=("true",), resources=Resources(gpu_count=GPUS), gang=Gang(node_count),
        timeouts=Timeouts(run_ms=run_ms), foreach=tuple(range(items_count)) if items_count > 1 else None,
    )  # fmt: skip
    return Spec(f"gang{node_count}_{run_ms}_{items_count}", (task,))


def submit(spec: Spec, project: str) -> Submit:
    return Submit(spec=spec, spec_digest=spec.name, project=project)


class Loop:
    """A state, its clock, and the gangs that run: attempt -> replicas. Each project may hold `shares` times its even
    share of the cluster, and borrow from nobody; with `shares` 1 it may borrow, and reclaims what it lent."""

    def __init__(self, node_count: int = NODES_COUNT, shares: int = 16) -> None:
        self.state = State(UNBOUNDED, Policy())
        self.now_ms = 0
        self.running: dict[AttemptId, int] = {}
        self.draw = random.Random(42)
        self.admitted_count = 0
        self._soon: list[Any] = []
        nominal = shares * node_count * GPUS * 1_000 // (TENANTS_COUNT * PROJECTS_COUNT)
        quota: dict[str, int | None] = {"nominal": nominal, "borrow_max": None if shares == 1 else 0}
        rules: list[Any] = []
        for project in projects():
            rules += [SetTenant(tenant=project), SetQuota(tenant=project, changes={"gpus": quota})]
        self.step([InventoryReported(inventory(node_count)), *rules])

    def step(self, inputs: Iterable[Any]) -> float:
        """One step with what is due; its seconds."""
        given = [*self._soon, *inputs] or [Poke()]
        self._soon = []
        self.now_ms += 1
        start_s = time.process_time()
        decision = step(self.state, given, self.now_ms)
        took_s = time.process_time() - start_s
        self._perform(decision)
        return took_s

    def _perform(self, decision: Decision) -> None:
        for effect in decision.effects:
            if isinstance(effect, ef.Launch):
                ranks = len(effect.places)
                self.running[effect.attempt] = ranks
                self.admitted_count += 1
                self._soon += [ReplicaStarted(effect.attempt, rank) for rank in range(ranks)]
            elif isinstance(effect, ef.Stop):
                self._soon += self.ends(effect.attempt)
            elif isinstance(effect, ef.Again):
                self._soon.append(Poke())

    def settle(self) -> float:
        """Until nothing is due; the seconds of these steps."""
        took_s = 0.0
        while self._soon:
            took_s += self.step([])
        return took_s

    def ends(self, attempt: AttemptId) -> list[Any]:
        """What is heard when this gang ends now."""
        ranks = self.running.pop(attempt, 0)
        return [ReplicaExited(attempt, rank, 0) for rank in range(ranks)]

    def any_running(self) -> AttemptId:
        """One of them, at random; costs what there is."""
        return self.draw.choice(list(self.running))

    def fill(self, run_ms: int = DAY, leave_nodes: int = 0) -> None:
        """Gangs of all sizes until the cluster is full up to `leave_nodes`."""
        left, names = len(self.state.nodes) - leave_nodes, projects()
        while left > 0:
            batch: list[Any] = []
            while left > 0 and len(batch) < 200:
                size = min(self.draw.choice(SIZES), left)
                batch.append(submit(document(size, run_ms), self.draw.choice(names)))
                left -= size
            self.step(batch)
            self.settle()


def quantile_ms(samples: list[float], part: float) -> float:
    """Of seconds, in milliseconds."""
    return 1_000 * sorted(samples)[min(len(samples) - 1, int(part * len(samples)))]
