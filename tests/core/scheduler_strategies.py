"""Small clusters, tenants and gangs for the property tests of the scheduler: whatever it treats differently, in few."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from hypothesis import strategies as st

from ffd.core.commands import SetQuota, SetTenant
from ffd.core.model import AttemptId, Node
from ffd.core.policy import Policy
from ffd.core.spec import Checkpoint, Gang, Need, Resources, Spec, Task, Timeouts
from ffd.testing.builders import spec
from ffd.testing.cluster import Behaviour

PROJECTS = ("a/x", "a/y", "b", "b/z")
TENANTS = ("a", "a/x", "a/y", "b", "b/z")
NODES = tuple(
    Node(
        f"n{number}", gpu_type="A100" if number < 2 else "H100", gpu_count=4, cpu_millis=8_000, slot_count=6,
        labels={"rack": "red" if number % 2 else "blue"},
    )
    for number in range(4)
)  # fmt: skip

RESOURCES = (
    Resources(cpu_millis=2_000),
    Resources(gpu_count=1),
    Resources(gpu_count=1),
    Resources(gpu_count=2),
    Resources(gpu_count=4, cpu_millis=1_000),
    Resources(gpu_count=1, gpu_millis=500),
    Resources(gpu_count=1, gpu_types=("H100",)),
    Resources(gpu_count=2, gpu_types=("H100", "A100")),
)
GANGS = (
    Gang(),
    Gang(),
    Gang(replicas=2),
    Gang(replicas=4),
    Gang(replicas=3, topology="same-rack"),
    Gang(replicas=3, topology="same-rack", topology_required=False),
    Gang(replicas=2, topology="same-node"),
    Gang(replicas=2, topology="compact"),
    Gang(replicas=4, min_replicas=1, wait_ms=2_000),
)
TIMEOUTS = (Timeouts(), Timeouts(), Timeouts(run_ms=4_000), Timeouts(run_ms=25_000), Timeouts(queue_ms=30_000))
CHECKPOINTS = (None, None, Checkpoint(grace_ms=500), Checkpoint(grace_ms=5_000))


def fits_empty(task: Task) -> bool:
    """Does the whole gang fit the empty cluster? A rack has one node of each model, and models are not mixed."""
    gang, gpus = task.gang, task.resources.gpu_count
    in_rack = gang.topology == "same-rack" and gang.topology_required
    nodes = 1 if gang.topology == "same-node" else 2 if in_rack else 4
    if task.resources.gpu_types:
        nodes = max(1, nodes // 2)
    return gang.replicas <= nodes * (4 // gpus if gpus else 4)


@st.composite
def gang_tasks(draw: st.DrawFn, name: str, parent: str = "") -> Task:
    """A task of one gang, or a small fan-out of gangs; the second follows the first, after it or beside it."""
    gang = draw(st.sampled_from(GANGS))
    if parent and draw(st.booleans()):
        gang, parent = Gang(topology="same-rack", topology_with=(parent,)), ""
    task = Task(
        name, "run", script="work", needs=(Need(parent),) if parent else (), gang=gang,
        resources=draw(st.sampled_from(RESOURCES)), timeouts=draw(st.sampled_from(TIMEOUTS)),
        checkpoint=draw(st.sampled_from(CHECKPOINTS)), foreach=draw(st.sampled_from((None, None, (1, 2, 3)))),
    )  # fmt: skip
    return task if fits_empty(task) else Task(name, "run", script="work", needs=task.needs, resources=RESOURCES[1])


@st.composite
def gang_specs(draw: st.DrawFn) -> Spec:
    """Of one or two tasks, named so that durations are learnt."""
    tasks = [draw(gang_tasks("t"))]
    if draw(st.booleans()):
        tasks.append(draw(gang_tasks("u", "t")))
    return spec(*tasks, name=draw(st.sampled_from(("one", "two"))), fail_fast=False)


@st.composite
def quotas(draw: st.DrawFn, most_gpus: int = 16) -> SetQuota:
    """Of GPUs, of one model, or of pods; or none any more."""
    tenant = draw(st.sampled_from(TENANTS))
    resource, unit = draw(st.sampled_from((("gpus", 1_000), ("gpus", 1_000), ("gpus/H100", 1_000), ("pods", 1))))
    if draw(st.integers(0, 4)) == 0:
        return SetQuota(tenant=tenant, changes={resource: None})
    nominal = draw(st.sampled_from((0, 1, 2, 4, 8, most_gpus))) * unit
    borrow = draw(st.sampled_from((None, None, 0, 2 * unit, 8 * unit)))
    lend = draw(st.sampled_from((None, None, 0, nominal // 2)))
    return SetQuota(tenant=tenant, changes={resource: {"nominal": nominal, "borrow_max": borrow, "lend_max": lend}})


@st.composite
def tenants(draw: st.DrawFn) -> SetTenant:
    """Weights, switches and moves; a move that would make a loop is refused."""
    tenant = draw(st.sampled_from(TENANTS))
    fields: dict[str, Any] = draw(
        st.sampled_from(
            (
                {"weight_millis": 500}, {"weight_millis": 3_000}, {"enabled": False}, {"enabled": True},
                {"enabled": True}, {"parent": "a"}, {"parent": "b"}, {"parent": ""},
            )
        )
    )  # fmt: skip
    return SetTenant(tenant=tenant, **fields)


def policies() -> st.SearchStrategy[Policy]:
    return st.builds(
        Policy,
        preempt=st.sampled_from(("all", "all", "all", "reclaim", "off")),
        patience_ms=st.sampled_from((0, 0, 3_000, 600_000)),
        reservations_count=st.sampled_from((1, 4, 4)),
        overtakes_count=st.sampled_from((0, 2, 16)),
        aging_admissions_count=st.sampled_from((1, 5, 100)),
        usage_half_life_ms=st.sampled_from((0, 0, 10_000)),
        quarantine_failures_count=st.just(100),
    )


def behave(attempt: AttemptId, rank: int) -> Behaviour:
    """What a replica does follows from the name of its attempt: all of a gang much alike."""
    digest = blake2b(attempt.label().encode(), digest_size=3).digest()
    return Behaviour(
        start_ms=(0, 100)[digest[0] % 2],
        run_ms=(600, 2_500, 2_500, 20_000)[digest[1] % 4] + rank,
        exit_code=0 if digest[0] % 8 else 1,
        checkpoint={"step": attempt.attempt} if digest[2] % 2 else None,
        stop_ms=(50, 1_000, 60_000)[digest[2] % 3],
    )
