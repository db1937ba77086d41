"""Preemption and reclaim: who is stopped for whom, never uselessly, and never twice for the same (L7)."""

from __future__ import annotations

from typing import Any

import pytest

from ffd.core import events as ev
from ffd.core.commands import SetQuota
from ffd.core.spec import Resources
from ffd.testing.builders import gpus, nodes, spec, submit, task
from ffd.testing.cluster import Behaviour, Cluster


def quota(tenant: str, nominal: int, borrow_max: int | None = None) -> SetQuota:
    """Of whole GPUs."""
    most = None if borrow_max is None else borrow_max * 1_000
    return SetQuota(tenant=tenant, changes={"gpus": {"nominal": nominal * 1_000, "borrow_max": most}})


def told(cluster: Cluster) -> list[str]:
    """`5.200 d admitted`: admissions and preemptions, by project."""
    found, projects = [], {event.workflow: event.project for event in cluster.of(ev.WorkflowAccepted)}
    for at_ms, event in cluster.story:
        if isinstance(event, ev.ItemAdmitted | ev.AttemptStopping):
            what = "admitted" if isinstance(event, ev.ItemAdmitted) else event.cause.kind
            found.append(f"{at_ms / 1000:.3f} {projects[event.attempt.workflow]}/{event.attempt.task} {what}")
    return found


@pytest.mark.parametrize("stop_ms", [200, 10_000, 60_000])
@pytest.mark.parametrize("ask", [{"resources": gpus(2)}, {"resources": gpus(1), "replicas": 2}], ids=["alike", "other"])
def test_what_was_lent_and_comes_back_goes_to_whom_it_is_due(stop_ms: int, ask: Any) -> None:
    """L7: the victim is requeued with the lower share, so it would be first again. Whether it ends early or uses its
    whole grace, and whether or not it is alike: the room is for the gang that it was stopped for."""
    cluster = Cluster(nodes(1, gpu_count=8), {"a": Behaviour(run_ms=100_000, stop_ms=stop_ms)})
    cluster.send(quota("lent", 2), quota("due", 6))
    for project in ("due", "lent"):
        cluster.send(submit(spec(task("a", resources=gpus(2), foreach=(1, 2))), project=project))
    cluster.run(5_000)
    cluster.send(submit(spec(task("b", **ask)), project="due"))
    cluster.run(60_000)
    ended_ms = 5_000 + min(stop_ms, 10_000)
    assert told(cluster)[4:] == [
        "5.000 lent/a preempted",
        f"{ended_ms / 1000:.3f} due/b admitted",
        f"{ended_ms / 1000 + 1.1:.3f} lent/a admitted",
    ]


def test_small_tasks_without_gpus_do_not_hide_the_gangs_to_stop() -> None:
    """A hundred of them, on the same node, have less work to lose; but they hold nothing that the gang lacks."""
    cluster = Cluster(nodes(1, gpu_count=8, cpu_millis=200_000), {"a": Behaviour(run_ms=100_000)})
    cluster.send(quota("lent", 2), quota("due", 6))
    small = task("a", resources=Resources(cpu_millis=1_000), foreach=tuple(range(100)))
    cluster.send(submit(spec(task("a", resources=gpus(2), foreach=(1, 2, 3, 4))), project="lent"))
    cluster.send(submit(spec(small), project="lent"))
    cluster.run(5_000)
    cluster.send(submit(spec(task("b", resources=gpus(4))), project="due"))
    cluster.run(5_000)
    assert told(cluster)[104:107] == ["5.000 lent/a preempted", "5.000 lent/a preempted", "5.200 due/b admitted"]


def test_small_tasks_are_stopped_where_they_hold_what_is_short() -> None:
    """The same, but the gang wants cpus too, and the small tasks have all of them."""
    cluster = Cluster(nodes(1, gpu_count=8, cpu_millis=4_000), dict.fromkeys("as", Behaviour(run_ms=100_000)))
    cluster.send(quota("lent", 2), quota("due", 6))
    small = task("s", resources=Resources(cpu_millis=1_000), foreach=(1, 2, 3, 4))
    cluster.send(submit(spec(task("a", resources=gpus(4)), small), project="lent"))
    cluster.run(5_000)
    both = Resources(gpu_count=4, cpu_millis=2_000)
    cluster.send(submit(spec(task("b", resources=both)), project="due"))
    cluster.run(5_000)
    found = told(cluster)
    assert found.count("5.000 lent/s preempted") == 2
    assert "5.200 due/b admitted" in found
