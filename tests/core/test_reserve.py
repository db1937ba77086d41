"""Reservations: for whom room is kept, since when, and who need not wait for it any more.

Each step of a toy cluster is held against L2: when no cycle is due, a cycle would do nothing.
"""

from __future__ import annotations

from ffd.core import events as ev
from ffd.core.model import Node
from ffd.core.policy import Policy
from ffd.testing.builders import gpus, nodes, spec, submit, task
from ffd.testing.cluster import Cluster


def admitted(cluster: Cluster) -> list[int]:
    """Workflows whose gangs were admitted, in order."""
    return [event.attempt.workflow for event in cluster.of(ev.ItemAdmitted)]


def test_who_was_kept_back_goes_when_another_reservation_takes_the_only_one() -> None:
    """A gang of A's has it, and one more A would delay that; then a more urgent gang of B's comes."""
    inventory = (Node("a", gpu_type="A", gpu_count=4), Node("b", gpu_type="B", gpu_count=4))
    cluster = Cluster(inventory, policy=Policy(overtakes_count=0, preempt="off"))
    for model, count in (("A", 1), ("B", 1), ("A", 4), ("A", 2)):
        cluster.send(submit(spec(task("t", resources=gpus(count, model)))))
    assert admitted(cluster) == [1, 2]
    cluster.send(submit(spec(task("t", resources=gpus(4, "B"))), priority=800))
    assert admitted(cluster) == [1, 2, 4]


def test_who_was_kept_back_goes_when_an_admission_changed_the_order() -> None:
    """`less` comes first with a gang that must wait, and with a small one. When that is admitted `more` comes before
    the waiting one, so it need not keep its room free."""
    cluster = Cluster(nodes(1, gpu_count=8), policy=Policy(overtakes_count=0, preempt="off"))
    for project, count in (("more", 3), ("less", 2)):
        cluster.send(submit(spec(task("t", resources=gpus(count))), project=project))
    later = (("less", 4), ("less", 2), ("more", 1))
    cluster.send(*[submit(spec(task("t", resources=gpus(n))), project=name) for name, n in later])
    assert admitted(cluster) == [1, 2, 4, 5]
