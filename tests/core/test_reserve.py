"""Reservations: for whom room is kept, since when, and who need not wait for it any more.

Each step of a toy cluster is held against L2: when no cycle is due, a cycle would do nothing.
"""

from __future__ import annotations

from ffd.core import events as ev
from ffd.core.commands import Cancel
from ffd.core.model import Node
from ffd.core.policy import Policy
from ffd.core.schedule.ends import FOREVER_MS
from ffd.core.spec import Gang
from ffd.testing.builders import gpus, nodes, rack, spec, submit, task
from ffd.testing.cluster import Behaviour, Cluster


def admitted(cluster: Cluster) -> list[int]:
    """Workflows whose gangs were admitted, in order."""
    return [event.attempt.workflow for event in cluster.of(ev.ItemAdmitted)]


def test_who_was_kept_back_goes_when_another_reservation_takes_the_only_one() -> None:
    """A gang of A's has it, and one more A would delay that; then a more urgent gang of B's comes."""
    inventory = (Node("a", gpu_type="A", gpu_count=4), Node("b", gpu_type="B", gpu_count=4))
    cluster = Cluster(inventory, policy=Policy(project_reservations_count=1, overtakes_count=0, preempt="off"))
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


def test_a_gang_that_is_hopeless_beside_one_place_may_have_a_reservation_beside_another() -> None:
    """It follows `lead`, which runs in a rack that could never hold it, and fails there."""
    inventory = (*rack("red", ["a"], gpu_count=1), *rack("blue", ["b1", "b2"], gpu_count=4))
    lasting = {"long": Behaviour(run_ms=60_000), "lead": Behaviour(exit_code=1)}
    cluster = Cluster(inventory, lasting, policy=Policy(preempt="off"))
    gang = Gang(replicas=2, topology="same-rack", topology_with=("lead",))
    lead, near = task("lead", resources=gpus(1), retries=1), task("near", resources=gpus(4), gang=gang)
    cluster.send(submit(spec(task("long", resources=gpus(4)))), submit(spec(lead, near)))
    cluster.send(submit(spec(task("never", resources=gpus(4), replicas=3))))
    assert starts(cluster) == []
    cluster.run(1_500)
    assert starts(cluster) == [FOREVER_MS]


def test_a_start_that_nobody_knew_is_known_when_what_it_waits_for_is_stopped() -> None:
    """Then whoever would delay it must wait."""
    cluster = Cluster(
        nodes(1, gpu_count=4),
        {"a": Behaviour(run_ms=60_000, stop_ms=5_000)},
        policy=Policy(project_reservations_count=1, preempt="off"),
    )
    for count in (3, 4, 2):
        cluster.send(submit(spec(task("a", resources=gpus(count)))))
    assert starts(cluster) == [FOREVER_MS]
    cluster.run(1_000)
    cluster.send(Cancel(workflow=1))
    assert starts(cluster) == [11_000]


def starts(cluster: Cluster) -> list[int]:
    """When gangs with a reservation start."""
    return [found.start_at_ms for found in cluster.state.reservations.values()]
