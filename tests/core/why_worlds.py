"""Random worlds in which something waits: a few nodes, tenants with quotas, gangs that run and gangs that do not fit.

Built from a plain recipe, so that a twin of the same world can be made and changed for real.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st
from msgspec.structs import replace

from ffd.core.commands import Cordon, SetPriority, SetQuota, SetTenant, Suspend, Uncordon
from ffd.core.dag import Dag
from ffd.core.live import LiveWorkflow
from ffd.core.model import Node, Quota
from ffd.core.reports import InventoryReported, Poke
from ffd.core.schedule.subject import subject_of
from ffd.core.schedule.whatif import Changes, parse_changes
from ffd.core.spec import Gang, Resources, Task, Timeouts
from ffd.testing.builders import spec, submit, task
from ffd.testing.cluster import Behaviour, Cluster

PROJECTS = ("own/x", "own/y", "secret", "secret/z")
LONG_MS = 3_600_000
NODES = tuple(
    Node(f"n{k}", gpu_type="H100" if k < 4 else "A100", gpu_count=4, cpu_millis=16_000, slot_count=8,
         labels={"rack": f"r{k // 2}"}, taints=("odd",) if k == 5 else ())
    for k in range(6)
)  # fmt: skip


class Recipe(NamedTuple):
    """Everything that makes a world."""

    nodes: tuple[Node, ...]
    quotas: tuple[tuple[str, int, int | None], ...]  # tenant, nominal and borrow_max of GPUs
    submits: tuple[tuple[str, int, Task], ...]  # project, priority, task
    cordoned: tuple[str, ...]
    disabled: tuple[str, ...]
    suspended: tuple[int, ...]

    def build(self) -> Cluster:
        """The world after it came to rest."""
        cluster = Cluster(self.nodes, lambda attempt, rank: Behaviour(run_ms=LONG_MS), is_checked=False)
        for tenant, nominal, borrow_max in self.quotas:
            most = None if borrow_max is None else borrow_max * 1_000
            cluster.send(
                SetQuota(tenant=tenant, changes={"gpus": {"nominal": nominal * 1_000, "borrow_max": most}}, by="r")
            )
        if self.cordoned:
            cluster.send(Cordon(nodes=self.cordoned, by="ops"))
        for number, (project, priority, one) in enumerate(self.submits, start=1):
            name = ("own" if project.startswith("own") else "secret") + str(number)
            cluster.send(submit(spec(one, name=name), project=project, priority=priority))
            cluster.run(50)
        for tenant in self.disabled:
            cluster.send(SetTenant(tenant=tenant, enabled=False))
        for workflow in self.suspended:
            cluster.send(Suspend(workflow=workflow, by="ann"))
        rest(cluster)
        return cluster


def rest(cluster: Cluster) -> None:
    """Until nothing happens any more, for a while."""
    cluster.run(2_000)
    cluster.send(Poke())


@st.composite
def gang_tasks(draw: st.DrawFn, name: str) -> Task:
    replicas = draw(st.sampled_from((1, 1, 2, 3, 5)))
    gang = Gang(replicas=replicas)
    if replicas > 1:
        gang = draw(
            st.sampled_from(
                (gang, gang, Gang(replicas, topology="same-rack"), Gang(replicas, topology="same-node"),
                 Gang(replicas, topology="same-rack", topology_required=False),
                 Gang(replicas, min_replicas=replicas - 1, wait_ms=600_000))
            )
        )  # fmt: skip
    models = draw(st.sampled_from(((), (), ("H100",), ("A100",), ("A100", "H100"))))
    ask = Resources(gpu_count=draw(st.sampled_from((1, 2, 2, 4))), gpu_types=models, cpu_millis=1_000)
    return task(
        name, gang=gang, resources=ask, max_parallel=draw(st.sampled_from((0, 0, 0, 1))),
        timeouts=Timeouts(run_ms=draw(st.sampled_from((0, 0, LONG_MS, 2 * LONG_MS)))),
        **draw(st.sampled_from(({}, {}, {"foreach": (1, 2, 3)}))),
    )  # fmt: skip


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    quota = st.tuples(
        st.sampled_from(("", "own", "own/x", "secret")), st.sampled_from((2, 4, 8, 16)), st.sampled_from((None, 0, 4))
    )
    count = draw(st.integers(2, 7))
    submits = tuple(
        (
            draw(st.sampled_from(PROJECTS)), draw(st.sampled_from((500, 500, 700))),
            draw(gang_tasks(draw(st.sampled_from(("a", "b"))))),
        )
        for _ in range(count)
    )  # fmt: skip
    return Recipe(
        NODES[: draw(st.integers(1, 6))], tuple(draw(st.lists(quota, max_size=3, unique_by=lambda one: one[0]))),
        submits, draw(st.sampled_from(((), (), ("n0",)))), draw(st.sampled_from(((), (), ("own/y",)))),
        draw(st.sampled_from(((), (), (count,)))),
    )  # fmt: skip


def waiting(cluster: Cluster) -> list[tuple[LiveWorkflow, str, int]]:
    """Ready items, the first of each task and the last."""
    found = []
    for live in cluster.state.workflows.values():
        for name, one in live.tasks.items():
            ready = [number for number, item in enumerate(one.items) if item.state == "ready"]
            found += [(live, name, number) for number in dict.fromkeys((*ready[:1], *ready[-1:]))]
    return found


def really(cluster: Cluster, workflow: int, name: str, number: int, texts: tuple[str, ...]) -> None:
    """Do what a what-if only tried."""
    state = cluster.state
    live = state.workflows[workflow]
    changes: Changes = parse_changes(state, subject_of(state, live, name, number), texts)
    inputs: list[Any] = []
    if changes.uncordon:
        inputs.append(Uncordon(nodes=changes.uncordon, by="ops"))
    if changes.nodes:
        inputs.append(InventoryReported((*state.nodes, *changes.nodes)))
    for level in live.tenant.chain():
        for resource, amount in changes.quotas.items():
            had: Quota | None = level.row.quotas.get(resource)
            if had is not None:
                new = {"nominal": had.nominal + amount, "borrow_max": had.borrow_max}
                inputs.append(SetQuota(tenant=level.path, changes={resource: new}, by="r"))
    if changes.priority is not None:
        inputs.append(SetPriority(workflow=workflow, priority=changes.priority, by="ann"))
    if changes.task is not live.dag.tasks[name]:
        _change_document(cluster, live, changes)
    cluster.send(*inputs, Poke())


def _change_document(cluster: Cluster, live: LiveWorkflow, changes: Changes) -> None:
    """As if the document had said so from the beginning."""
    state, old = cluster.state, live.dag.spec
    cluster.ledger.record = lambda decision, now_ms: []  # type: ignore[method-assign]  # it knows the old document
    for lane in state.lanes.lanes.values():
        state.lanes.discard(live.row.id, lane)
    tasks = tuple(changes.task if one.name == changes.task.name else one for one in old.tasks)
    live.dag = Dag(replace(old, tasks=tasks))
    live.tails = []
    for name, one in live.tasks.items():
        one.vertex = live.dag.vertices[name]
        ready = [n for n, item in enumerate(one.items) if item.state == "ready" and live.holds_place(name, n)]
        if changes.is_small:
            state.lanes.small.update((live.row.id, live.dag.vertices[name].order, n) for n in ready)
        if ready:
            state._push(live, [(name, ready)])
    state.lanes.is_dirty = True
