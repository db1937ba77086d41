"""What fair order guarantees (S24), and that no gang starves (L8): exact statements, on a machine of their own.

S24. While tenants have a constant backlog, ask all for the same (a gang of `size` GPUs), and have no quotas, each
admission goes to a tenant whose normalised share (what it holds / its weight) was lowest. So at each admission the
shares of any two that wait differ by at most one gang's, normalised by the lesser weight: a tenant that is ahead of
another by more is not chosen. Releases come as they come, so the bound is on what an admission does, not on all times.
"""

from __future__ import annotations

from random import Random
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from ffd.core import events as ev
from ffd.core.commands import Cordon, SetQuota, SetTenant
from ffd.core.model import AttemptId, Node
from ffd.core.policy import Policy
from ffd.core.spec import Checkpoint, Gang, Resources, Task, Timeouts
from ffd.testing.builders import gpus, nodes, spec, submit, task
from ffd.testing.cluster import Behaviour, Cluster

NODES_COUNT, GPUS = 4, 4
PHASES = [Phase.explicit, Phase.generate]  # a found example is told as it is: shrinking takes minutes here


@settings(max_examples=25, deadline=None, derandomize=True, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(
    weights=st.lists(st.sampled_from((500, 1_000, 2_000, 3_000)), min_size=2, max_size=3),
    replicas=st.sampled_from((1, 1, 2, 4)),
    seed=st.integers(0, 10**6),
    depth=st.sampled_from(("", "group/")),
)
def test_each_admission_goes_to_the_lowest_normalised_share(
    weights: list[int], replicas: int, seed: int, depth: str
) -> None:
    cluster = Cluster(nodes(NODES_COUNT, gpu_count=GPUS), _durations(seed), is_checked=False)
    names = [f"{depth}t{number}" for number in range(len(weights))]
    cluster.send(*[SetTenant(tenant=name, weight_millis=w) for name, w in zip(names, weights, strict=True)])
    backlog = spec(task("a", resources=gpus(2), replicas=replicas, foreach=tuple(range(40))))
    cluster.send(*[submit(backlog, project=name) for name in names])
    cluster.run(20_000)
    held = dict.fromkeys(names, 0)
    weight_of = dict(zip(names, weights, strict=True))
    whose = {event.workflow: event.project for event in cluster.of(ev.WorkflowAccepted)}
    waiting = dict.fromkeys(names, 40)
    admitted_count = 0
    for at_ms, event in cluster.story:
        if isinstance(event, ev.ItemAdmitted):
            name, admitted_count = whose[event.attempt.workflow], admitted_count + 1
            if at_ms:  # the first submit filled the cluster before the others were there
                lowest = min(held[one] / weight_of[one] for one in names if waiting[one])
                assert held[name] / weight_of[name] == lowest, f"S24 {name} was served with {held} at {at_ms} ms"
            held[name] += 2 * replicas
            waiting[name] -= 1
        elif isinstance(event, ev.AttemptEnded):
            held[whose[event.attempt.workflow]] -= 2 * replicas
    assert admitted_count > 20


def _durations(seed: int) -> Any:
    def behave(attempt: AttemptId, rank: int) -> Behaviour:
        return Behaviour(run_ms=Random(f"{seed} {attempt.label()}").choice((500, 900, 1_700)), start_ms=0)

    return behave


def test_under_a_steady_load_shares_follow_weights() -> None:
    """Three to one, for as long as both wait."""
    cluster = Cluster(nodes(1, gpu_count=8), {"a": Behaviour(run_ms=1_000, start_ms=0)})
    cluster.send(SetTenant(tenant="big", weight_millis=3_000), SetTenant(tenant="small", weight_millis=1_000))
    for project in ("small", "big"):
        cluster.send(submit(spec(task("a", resources=gpus(1), foreach=tuple(range(200)))), project=project))
    cluster.run(30_000)
    done = [event.attempt.workflow for at_ms, event in cluster.story if isinstance(event, ev.ItemAdmitted) and at_ms]
    assert done.count(2) == pytest.approx(3 * done.count(1), abs=8)  # the first second was `small`'s alone


# ---------------------------------------------------------------------------------------------------------- starvation

SMALL_MS = 900
THERE = (*nodes(2, gpu_count=4, gpu_type="A"), Node("other", gpu_type="B", gpu_count=1))


def starving(large: Task, small: Task, *, policy: Policy | None = None, before: Any = (), **fields: Any) -> Cluster:
    """A gang of the whole cluster waits in `large`, small work comes all the time in `small` and keeps it busy: three
    at a time, 50 ms apart, for 90 s."""
    cluster = Cluster(
        THERE, {"s": Behaviour(run_ms=SMALL_MS), "g": Behaviour(run_ms=500)}, policy=policy,
        is_checked=False,
    )  # fmt: skip
    cluster.send(*before)
    for number in range(600):
        cluster.at(150 * number, lambda: cluster.send(*[submit(spec(small, name="small"), project="small")] * 2))
    cluster.at(
        2_000, lambda: cluster.send(submit(spec(large, name="large"), project=fields.pop("project", "large"), **fields))
    )
    return cluster


def started_ms(cluster: Cluster, for_ms: int = 90_000) -> int | None:
    """When the large gang was admitted; None = never while small work came."""
    cluster.run(for_ms)
    found = [at for at, event in cluster.story if isinstance(event, ev.ItemAdmitted) and event.attempt.task == "g"]
    return found[0] if found else None


def large(**fields: Any) -> Task:
    return task("g", resources=gpus(4), gang=Gang(replicas=2, **fields))


def small(run_ms: int = 0, **fields: Any) -> Task:
    return task("s", resources=gpus(1, **fields), timeouts=Timeouts(run_ms=run_ms))


QUOTA_OF_A_MODEL = SetQuota(tenant="large", changes={"gpus/B": {"nominal": 0, "borrow_max": 0}})


@pytest.mark.parametrize(
    ("gang", "work", "more"),
    [
        (large(), small(run_ms=1_000), {}),
        (large(), small(), {}),
        (large(topology="compact"), small(), {}),
        (large(min_replicas=2, wait_ms=1_000), small(), {}),
        (large(), small(), {"before": [SetTenant(tenant="large", weight_millis=1)]}),
        (large(), small(), {"before": [QUOTA_OF_A_MODEL]}),
        (large(), small(), {"project": "small", "priority": 450, "policy": Policy(aging_admissions_count=1)}),
        (large(), small(), {"policy": Policy(reservations_count=1)}),
    ],
    ids=["declared", "unknown", "compact", "elastic", "high-share", "model-quota", "low-priority", "one-reservation"],
)
def test_a_large_gang_is_admitted_though_small_work_never_ceases(gang: Task, work: Task, more: dict[str, Any]) -> None:
    """L8."""
    at_ms = started_ms(starving(gang, work, **more))
    assert at_ms is not None, "L8 it starved"


def test_without_backfill_rules_it_would_starve() -> None:
    """The load is one that starves: as long as nothing binds, the gang never starts."""
    assert started_ms(starving(large(), small(), policy=Policy(reservations_count=0))) is None


def test_who_waits_for_the_models_of_its_quota_is_looked_at_when_they_are_free() -> None:
    """L8, without any reservation to look at it for."""
    cluster = Cluster(THERE, {"s": Behaviour(run_ms=SMALL_MS)}, policy=Policy(reservations_count=0))
    holder = task("s", resources=gpus(4), gang=Gang(replicas=2))
    cluster.send(QUOTA_OF_A_MODEL, submit(spec(holder), project="other"))
    cluster.send(submit(spec(task("g", resources=gpus(1), replicas=2)), project="large"))
    assert started_ms(cluster) == SMALL_MS + 100


def test_who_waits_for_the_models_of_its_quota_starts_when_it_gets_more() -> None:
    """L6: nothing else happens, and may never."""
    cluster = Cluster(THERE)
    cluster.send(QUOTA_OF_A_MODEL, submit(spec(task("g", resources=gpus(1), replicas=9)), project="large"))
    assert not cluster.of(ev.ItemAdmitted)
    cluster.send(SetQuota(tenant="large", changes={"gpus/B": None}))
    assert cluster.of(ev.ItemAdmitted)


def test_a_gang_finds_another_place_when_a_node_of_its_reservation_closes() -> None:
    """L8: what is kept for it on the other node would be kept for ever."""
    cluster = starving(task("g", resources=gpus(4)), small(), policy=Policy(overtakes_count=2))
    cluster.at(
        2_100, lambda: cluster.send(Cordon(nodes=(next(iter(cluster.state.reservations.values())).places[0].node,)))
    )
    assert started_ms(cluster) is not None, "L8 it starved"


@pytest.mark.parametrize(("projects", "count"), [(("large", "large"), 2), (("large", "other"), 1)])
def test_later_heads_have_reservations_while_only_one_project_waits(projects: tuple[str, str], count: int) -> None:
    cluster = Cluster(THERE, {"s": Behaviour(run_ms=SMALL_MS)})
    timeouts = Timeouts(run_ms=60_000)
    cluster.send(submit(spec(task("s", resources=gpus(4), replicas=2, timeouts=timeouts)), project="runs"))
    heads = [task("g", resources=gpus(4), replicas=size, timeouts=timeouts) for size in (2, 1)]
    cluster.send(*(submit(spec(head), project=project) for head, project in zip(heads, projects, strict=True)))
    assert len(cluster.state.reservations) == count


# ------------------------------------------------------------------------------------------------------------- EASY


@st.composite
def loads(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """(GPUs of each replica, replicas, seconds) of gangs, all there from the start."""
    one = st.tuples(st.sampled_from((1, 2, 4)), st.sampled_from((1, 1, 2, 4)), st.integers(1, 60))
    return draw(st.lists(one, min_size=3, max_size=25))


@settings(max_examples=25, deadline=None, derandomize=True, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(load=loads())
def test_nobody_starts_later_than_first_promised(load: list[tuple[int, int, int]]) -> None:
    """EASY: with exact declared durations and nobody who comes ahead of it, whoever was first in line keeps its start.
    With one reservation: those behind the first may be delayed by it, for theirs is then made anew."""
    policy = Policy(project_reservations_count=1, preempt="off", aging_points_count=0)
    seconds = {f"w{number}": load[number][2] for number in range(len(load))}
    cluster = Cluster(
        nodes(NODES_COUNT, gpu_count=GPUS),
        lambda attempt, rank: Behaviour(run_ms=seconds[attempt.task] * 1_000, start_ms=0),
        policy=policy, is_checked=False,
    )  # fmt: skip
    promised: dict[str, int] = {}
    for number, (gpu_count, replicas, run_s) in enumerate(load):
        one = task(
            f"w{number}", resources=Resources(gpu_count=gpu_count), replicas=replicas,
            timeouts=Timeouts(run_ms=run_s * 1_000 + 1), checkpoint=Checkpoint(),
        )  # fmt: skip
        cluster.send(submit(spec(one)))
        _note(cluster, promised)
    for _ in range(2_000):
        before = len(cluster.story)
        cluster.run(500)
        _note(cluster, promised)
        for at_ms, event in cluster.story[before:]:
            if isinstance(event, ev.ItemAdmitted) and event.attempt.task in promised:
                late_ms = at_ms - promised[event.attempt.task]
                assert late_ms <= 0, f"{event.attempt.task} starts {late_ms} ms later than it was promised"
        if not cluster.state.workflows:
            return
    raise AssertionError("L6 they never end")


def _note(cluster: Cluster, promised: dict[str, int]) -> None:
    """The first promise that was made to whoever is first in line."""
    state = cluster.state
    waiting = [
        number
        for number, live in state.workflows.items()
        if any(t.items[0].state == "ready" for t in live.tasks.values())
    ]
    for found in state.reservations.values():
        if found.entry[1] == min(waiting):
            name = state.workflows[found.entry[1]].dag.names[0]
            promised.setdefault(name, found.start_at_ms)


def test_what_members_of_members_keep_for_themselves_is_there_for_them() -> None:
    """Quota: `other` would have to borrow what `team/own` does not lend; `team` has no quota of its own, as `other`."""
    cluster = Cluster(nodes(1, gpu_count=8), policy=Policy(preempt="off"))
    kept = {"nominal": 4_000, "borrow_max": 0, "lend_max": 0}
    cluster.send(
        SetQuota(tenant="pool", changes={"gpus": {"nominal": 4_000, "borrow_max": 0}}),
        SetQuota(tenant="pool/team/own", changes={"gpus": kept}),
        *[submit(spec(task("t", resources=gpus(1))), project=f"pool/{name}") for name in ("other", "team/own")],
        submit(spec(task("t", resources=gpus(1))), project="pool/team"),
    )
    assert [event.attempt.workflow for event in cluster.of(ev.ItemAdmitted)] == [2]
