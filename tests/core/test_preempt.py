"""Preemption and reclaim: who is stopped for whom, never uselessly, and never twice for the same (L7)."""

from __future__ import annotations

from typing import Any

import pytest

from ffd.core import events as ev
from ffd.core.commands import Cordon, SetPriority, SetQuota, SetTenant, Suspend, Uncordon
from ffd.core.model import Node
from ffd.core.policy import Policy
from ffd.core.reports import Poke
from ffd.core.spec import Gang, Resources
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


def test_a_gang_that_takes_a_whole_node_is_given_one_that_can_be_emptied() -> None:
    """On all nodes but one something runs that may not be stopped, beside more small gangs with less work to lose than
    a preemption looks at: to stop those would empty none."""
    there = tuple(Node(f"n{k}", gpu_type="H100", gpu_count=4, labels={"n": f"{k}"}) for k in range(5))
    cluster = Cluster(there, lambda attempt, rank: Behaviour(run_ms=100_000), policy=Policy(victims_count=2))
    cluster.send(quota("lent", 0), quota("own", 4), quota("due", 4))
    one = [Resources(gpu_count=1, node_labels=(("n", f"{k}"),)) for k in range(4)]
    cluster.send(submit(spec(task("whole", resources=gpus(4))), project="lent"))
    cluster.send(submit(spec(*[task(f"kept{k}", resources=ask) for k, ask in enumerate(one)]), project="own"))
    cluster.run(1_000)
    small = [task(f"small{k}", resources=ask, foreach=(1, 2, 3)) for k, ask in enumerate(one)]
    cluster.send(submit(spec(*small), project="lent"))
    cluster.run(1_000)
    cluster.send(submit(spec(task("b", resources=gpus(1), gang=Gang(4, topology="same-node"))), project="due"))
    cluster.run(1_000)
    assert [line for line in told(cluster) if line >= "2"] == ["2.000 lent/whole preempted", "2.200 due/b admitted"]


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


def test_quota_that_comes_back_in_parts_is_kept_together() -> None:
    """L7: there are nodes enough, but the pool has only what two victims give back, the second one later. The first
    must not get its part again meanwhile: the second would be stopped in vain."""
    ends = {"a[0]": Behaviour(run_ms=100_000, stop_ms=200), "a[1]": Behaviour(run_ms=100_000, stop_ms=5_000)}
    cluster = Cluster(nodes(3, gpu_count=4), ends)
    cluster.send(quota("pool", 8, 0), quota("pool/lent", 0), quota("pool/due", 8))
    cluster.send(submit(spec(task("a", resources=gpus(4), foreach=(1, 2))), project="pool/lent"))
    cluster.run(1_000)
    cluster.send(submit(spec(task("b", resources=gpus(4), replicas=2)), project="pool/due"))
    cluster.run(6_000)
    assert told(cluster)[2:] == [
        "1.000 pool/lent/a preempted",
        "1.000 pool/lent/a preempted",
        "6.000 pool/due/b admitted",
    ]


def test_a_promise_whose_node_is_lost_keeps_nobody_from_the_pool() -> None:
    """One of its two nodes is gone while the victim on the other still ends."""
    cluster = Cluster(nodes(3, gpu_count=4), {"a": Behaviour(run_ms=100_000, stop_ms=5_000)})
    cluster.send(quota("pool", 8, 0), quota("pool/lent", 0), quota("pool/due", 8))
    cluster.send(submit(spec(task("a", resources=gpus(4), foreach=(1, 2))), project="pool/lent"))
    cluster.run(1_000)
    cluster.send(submit(spec(task("b", resources=gpus(4), replicas=2)), project="pool/due"))
    (promise,) = cluster.state.reservations.values()
    cluster.lose(promise.places[0].node)
    assert told(cluster)[4:] == ["1.000 pool/lent/a admitted"]


def test_nobody_borrows_before_others_have_what_is_theirs() -> None:
    """`large` holds just its own, and a lower share. What it would get beyond that it would have to give back at once,
    again and again, whenever something of `small` ends."""
    cluster = Cluster(nodes(1, gpu_count=8), {"a": Behaviour(run_ms=100_000), "b": Behaviour(run_ms=2_000)})
    cluster.send(quota("large", 4), quota("small", 4), SetTenant(tenant="large", weight_millis=10_000))
    backlogs = [("large", task("a", resources=gpus(2), foreach=(1, 2, 3))),
                ("small", task("b", resources=gpus(2), foreach=(1, 2, 3, 4)))]  # fmt: skip
    cluster.send(*[submit(spec(backlog), project=project) for project, backlog in backlogs])
    cluster.run(10_000)
    begun = [line.split()[1] for line in told(cluster)]
    assert begun == ["large/a", "small/b", "large/a", "small/b", "small/b", "small/b", "large/a"], told(cluster)


def test_guarantees_of_different_resources_do_not_take_turns() -> None:
    """L7: one has all GPUs, the other some pods. Each holds what only the other has a quota of."""
    cluster = Cluster(nodes(1, gpu_count=4, slot_count=4), {"a": Behaviour(run_ms=10_000)})
    cluster.send(quota("gpus", 4), SetQuota(tenant="pods", changes={"pods": {"nominal": 1}}))
    for project, ask in (("gpus", 4), ("pods", 1)):
        cluster.send(submit(spec(task("a", resources=gpus(ask))), project=project))
    cluster.run(60_000)
    assert [line.split()[1:] for line in told(cluster)] == [["gpus/a", "admitted"], ["pods/a", "admitted"]]


def test_room_that_is_made_is_for_the_next_when_the_first_found_another() -> None:
    """L7: of two alike the first goes where something ended by itself meanwhile. The victim still stops for them."""
    lasting = {"a": Behaviour(run_ms=100_000, stop_ms=5_000), "b": Behaviour(run_ms=100_000)}
    cluster = Cluster(nodes(2, gpu_count=4), {**lasting, "short": Behaviour(run_ms=2_000)})
    cluster.send(submit(spec(task("a", resources=gpus(4))), priority=300))
    cluster.send(submit(spec(task("short", resources=gpus(4))), priority=900))
    cluster.run(1_000)
    cluster.send(submit(spec(task("b", resources=gpus(4), foreach=(1, 2)))))
    cluster.run(2_000)
    cluster.send(submit(spec(task("c", resources=gpus(4))), project="other"))
    cluster.run(4_000)
    assert told(cluster)[2:] == [
        "1.000 default/a preempted",
        "2.100 default/b admitted",
        "6.000 default/b admitted",
    ]


def test_nobody_is_stopped_for_quota_that_comes_back_by_itself() -> None:
    """Within the patience of the policy, by forecast. When the forecast was wrong, it is looked at again."""
    cluster = Cluster(nodes(2, gpu_count=4), policy=Policy(patience_ms=30_000))
    cluster.send(quota("pool", 4, 0), quota("pool/lent", 0), quota("pool/due", 4))
    borrows, due = (submit(spec(task(name, resources=gpus(4))), project=f"pool/{name}") for name in ("lent", "due"))
    cluster.send(borrows)
    cluster.run()
    cluster.send(borrows)
    cluster.send(due)
    cluster.run()
    assert "preempted" not in " ".join(told(cluster))
    cluster.behaviours = {"lent": Behaviour(run_ms=100_000)}
    cluster.send(borrows)
    cluster.send(due)
    cluster.run(5_000)
    cluster.send(Poke())
    cluster.run(1_000)
    assert [line.split()[1:] for line in told(cluster)[4:]] == [
        ["pool/lent/lent", "preempted"],
        ["pool/due/due", "admitted"],
    ]


def test_who_is_due_quota_is_looked_at_when_nodes_open() -> None:
    """To stop others would not have helped as long as one of the nodes that it needs was closed."""
    cluster = Cluster(nodes(2, gpu_count=4), {"a": Behaviour(run_ms=100_000)})
    cluster.send(quota("pool", 8, 0), quota("pool/lent", 0), quota("pool/due", 8), Cordon(nodes=("n2",)))
    cluster.send(submit(spec(task("a", resources=gpus(4))), project="pool/lent"))
    cluster.run(1_000)
    cluster.send(submit(spec(task("b", resources=gpus(4), replicas=2)), project="pool/due"))
    assert told(cluster)[1:] == []
    cluster.send(Uncordon(nodes=("n2",)))
    assert told(cluster)[1:] == ["1.000 pool/lent/a preempted"]


def test_a_large_gang_of_a_tenant_with_something_left_goes_by_its_share() -> None:
    """Two GPUs of its three are its own, and it holds nothing: it does not come after all that ask for less."""
    cluster = Cluster(nodes(1, gpu_count=4), {"a": Behaviour(run_ms=2_000)}, policy=Policy(preempt="off"))
    cluster.send(quota("large", 2), quota("small", 2), submit(spec(task("a", resources=gpus(4))), project="other"))
    small = submit(spec(task("a", resources=gpus(1), foreach=(1, 2))), project="small")
    cluster.send(submit(spec(task("a", resources=gpus(3))), project="large"), small)
    cluster.run(2_500)
    assert [line.split()[1] for line in told(cluster)] == ["other/a", "large/a", "small/a"]


def lasting(**stop_ms: int) -> dict[str, Behaviour]:
    """Tasks that go on, and end so long after they were told to."""
    return {name: Behaviour(run_ms=100_000, stop_ms=ms) for name, ms in stop_ms.items()}


def test_a_promise_is_kept_from_others_on_whichever_gpus_are_left() -> None:
    """L7: a small one took a GPU that was meant for `due`, to which another is as good. The room for three is not there
    for `whole`, so nobody stops for that."""
    cluster = Cluster(nodes(1, gpu_count=4), lasting(slow=5_000, fast=200, small=200))
    cluster.send(submit(spec(task("slow", resources=gpus(2)), task("fast", resources=gpus(2))), priority=300))
    cluster.run(1_000)
    cluster.send(submit(spec(task("due", resources=gpus(1), gang=Gang(3, topology="same-node"))), priority=500))
    cluster.run(1_000)
    cluster.send(submit(spec(task("small", resources=gpus(1))), priority=300))
    cluster.send(submit(spec(task("whole", resources=gpus(4)))))
    cluster.run(4_500)
    assert told(cluster)[4:] == ["2.000 default/small admitted", "6.000 default/due admitted"]


def test_two_promises_on_one_node_are_kept_together() -> None:
    """L7: a small one would leave enough for either of them, but not for both."""
    ends = lasting(fast=200, slow=5_000, late=5_000, b=200, c=200)
    cluster = Cluster(nodes(1, gpu_count=4), ends, policy=Policy(patience_ms=0))
    cluster.send(submit(spec(task("fast", resources=gpus(1)), task("slow", resources=gpus(1))), priority=300))
    cluster.run(2_000)
    cluster.send(submit(spec(task("late", resources=gpus(2))), priority=300))
    cluster.run(1_000)
    pair = Gang(2, topology="same-node")
    cluster.send(submit(spec(task("b", resources=gpus(2)))), submit(spec(task("c", resources=gpus(1), gang=pair))))
    cluster.run(1_000)
    cluster.send(submit(spec(task("small", resources=gpus(1))), project="other"))
    cluster.run(4_500)
    assert told(cluster)[6:] == ["8.000 default/b admitted", "8.000 default/c admitted"]


def test_quota_that_one_promise_frees_is_not_taken_early_by_another() -> None:
    """L7: in the end there is enough for all three; but `b` would have now what `c` gets before the others end."""
    ends = lasting(z=6_000, y=5_000, slow=2_000, fast=200, b=200, c=200, d=200)
    cluster = Cluster(nodes(3, gpu_count=4, cpu_millis=4_000), ends, policy=Policy(patience_ms=0))
    cluster.send(quota("default", 4, 0))
    for name in ("z", "y", "slow", "fast"):
        cluster.send(submit(spec(task(name, resources=gpus(1))), priority=300))
        cluster.run(1_000)
    asks = {"c": gpus(2), "b": gpus(1), "d": Resources(gpu_count=1, cpu_millis=1_000)}
    cluster.send(*[submit(spec(task(name, resources=ask))) for name, ask in asks.items()])
    cluster.run(7_000)
    assert told(cluster)[8:] == [
        "6.000 default/c admitted",
        "9.000 default/b admitted",
        "10.000 default/d admitted",
    ]


def test_a_promise_is_kept_where_it_was_made_when_the_best_place_is_kept_for_another() -> None:
    """L7: `pair` fits on n1 as well, and that is as tight; but it is kept for `whole`, and what else there is on n2 for
    `half`."""
    there = tuple(Node(f"n{k}", gpu_type="H100", gpu_count=4, labels={"n": f"{k}"}) for k in (1, 2))
    ends = lasting(fast=200, slow=5_000, late=5_000, last=1_000, whole=200, pair=200, half=200)
    cluster = Cluster(there, ends, policy=Policy(patience_ms=0))
    on = {k: Resources(gpu_count=2, node_labels=(("n", f"{k}"),)) for k in (1, 2)}
    for name, k in (("fast", 1), ("slow", 1), ("late", 2), ("last", 2)):
        cluster.send(submit(spec(task(name, resources=on[k])), priority=300))
        cluster.run(1_000)
    whole = Resources(gpu_count=4, node_labels=(("n", "1"),))
    cluster.send(submit(spec(task("whole", resources=whole)), priority=800))
    cluster.send(submit(spec(task("pair", resources=gpus(1), gang=Gang(2, topology="compact")))))
    cluster.send(submit(spec(task("half", resources=on[2]))))
    cluster.run(6_000)
    assert told(cluster)[8:] == [
        "5.000 default/pair admitted",
        "9.000 default/whole admitted",
        "9.000 default/half admitted",
    ]


@pytest.mark.parametrize(
    ("rules", "short", "each", "due"),
    [((), 4, 2, 3), ((quota("default", 4, 0),), 2, 1, 2)],
    ids=["room", "quota"],
)
def test_a_promise_to_nobody_keeps_nobody_waiting(rules: tuple[SetQuota, ...], short: int, each: int, due: int) -> None:
    """`due` got what it needs from `short` while others stop for it, and nothing else of its kind waits: one of them
    that has stopped goes back at once. They stop for room, or for quota."""
    cluster = Cluster(nodes(2, gpu_count=4), {**lasting(slow=5_000, fast=200), "short": Behaviour(run_ms=2_000)})
    cluster.send(*rules)
    cluster.send(submit(spec(task("short", resources=gpus(short))), priority=900))
    cluster.send(submit(spec(task("slow", resources=gpus(each)), task("fast", resources=gpus(each))), priority=300))
    cluster.run(1_000)
    cluster.send(submit(spec(task("due", resources=gpus(due)))))
    cluster.run(2_000)
    assert told(cluster)[5:] == ["2.100 default/due admitted", "2.100 default/fast admitted"]


def test_a_promise_to_who_was_suspended_keeps_nobody_waiting() -> None:
    """Who has been stopped for it goes back at once."""
    cluster = Cluster(nodes(1, gpu_count=4), lasting(slow=5_000, fast=200))
    cluster.send(submit(spec(task("slow", resources=gpus(2)), task("fast", resources=gpus(2))), priority=300))
    cluster.run(1_000)
    cluster.send(submit(spec(task("due", resources=gpus(3)))))
    cluster.run(1_000)
    cluster.send(Suspend(workflow=2))
    assert told(cluster)[4:] == ["2.000 default/fast admitted"]


def test_who_could_stop_nobody_is_looked_at_when_something_without_gpus_ended() -> None:
    """`less` alone has not the slots for two replicas; `small`, which held another one, ends by itself."""
    ends = {**lasting(less=200, wide=200), "small": Behaviour(run_ms=5_000)}
    cluster = Cluster(nodes(1, gpu_count=4, slot_count=3), ends, policy=Policy(patience_ms=0))
    cluster.send(
        submit(spec(task("small")), project="other"), submit(spec(task("less", resources=gpus(2))), priority=300)
    )
    cluster.run(1_000)
    cluster.send(submit(spec(task("wide", resources=gpus(1), replicas=3))))
    cluster.run(5_000)
    assert told(cluster)[2:] == ["5.100 default/less preempted", "5.300 default/wide admitted"]


def test_who_could_stop_nobody_is_looked_at_when_another_begins_to_borrow() -> None:
    """In the very cycle in which `lent` is admitted, after the one to whom something is due."""
    cluster = Cluster(nodes(3, gpu_count=4), lasting(a=200, b=200, c=200), policy=Policy(patience_ms=0))
    cluster.send(quota("lent", 8, 2), quota("due", 8))
    cluster.send(submit(spec(task("a", resources=gpus(4), foreach=(1, 2, 3))), project="lent"))
    cluster.send(submit(spec(task("b", resources=gpus(1), replicas=3, foreach=(1, 2))), project="due"))
    cluster.send(submit(spec(task("c", resources=gpus(1))), project="lent/more"))
    cluster.run(1_000)
    assert told(cluster)[3:6] == ["0.000 lent/more/c admitted", "0.000 lent/a preempted", "0.200 due/b admitted"]


def test_quota_of_a_model_that_is_promised_to_another_leaves_the_other_models() -> None:
    """`c` prefers an H100, of which there are enough, but no more quota beside what `b` was promised."""
    there = (Node("a", gpu_type="A100", gpu_count=4), *nodes(2, gpu_type="H100", gpu_count=4))
    ends = {"a[0]": Behaviour(run_ms=100_000, stop_ms=200), "a[1]": Behaviour(run_ms=100_000, stop_ms=5_000)}
    cluster = Cluster(there, ends)
    bounds = {"nominal": 4_000, "borrow_max": 0}
    cluster.send(*[SetQuota(tenant=name, changes={"gpus/H100": bounds}) for name in ("pool", "pool/due")])
    lent, due, other = gpus(2, "H100"), gpus(4, "H100"), gpus(1, "H100", "A100")
    cluster.send(quota("pool/due", 4), quota("pool/lent", 0), quota("pool", 12))
    cluster.send(submit(spec(task("a", resources=lent, foreach=(1, 2))), project="pool/lent"))
    cluster.run(1_000)
    cluster.send(submit(spec(task("b", resources=due)), project="pool/due"))
    cluster.run(1_000)
    cluster.send(submit(spec(task("c", resources=other)), project="pool/other"))
    assert told(cluster)[2:] == [
        "1.000 pool/lent/a preempted",
        "1.000 pool/lent/a preempted",
        "2.000 pool/other/c admitted",
    ]


def test_who_waits_is_looked_at_when_what_runs_becomes_less_urgent() -> None:
    """Quota is in its way, and nothing ends or comes meanwhile."""
    cluster = Cluster(nodes(2, gpu_count=4), lasting(a=200, b=200), policy=Policy(patience_ms=0))
    cluster.send(quota("default", 4, 0))
    for name in ("a", "b"):
        cluster.send(submit(spec(task(name, resources=gpus(4)))))
        cluster.run(1_000)
    cluster.send(SetPriority(workflow=1, priority=200))
    cluster.run(1_000)
    assert told(cluster)[1:] == ["2.000 default/a preempted", "2.200 default/b admitted"]


def test_who_lacked_room_beside_its_quota_is_looked_at_when_another_tenant_leaves_some() -> None:
    """Quota is in the way of `e`, and nothing changes there; but while `d` ran, no lent GPU would have helped."""
    there = tuple(Node(f"n{k}", gpu_type="H100", gpu_count=4, labels={"n": f"{k}"}) for k in (1, 2, 3))
    on = [Resources(gpu_count=1, node_labels=(("n", f"{k}"),)) for k in (1, 2, 3)]
    ends = {**lasting(a=200, b=200, c=200, e=200), "d": Behaviour(run_ms=5_000)}
    cluster = Cluster(there, ends, policy=Policy(patience_ms=0))
    cluster.send(quota("pool", 8, 0), quota("pool/due", 4), quota("pool/lent", 4))
    cluster.send(submit(spec(task("c", resources=on[0])), project="other"))
    cluster.send(submit(spec(task("c", resources=on[1])), project="other"))
    cluster.send(submit(spec(task("d", resources=on[2], replicas=4)), project="other"))
    lent = [task(name, resources=ask, foreach=(1, 2, 3)) for name, ask in zip("ab", on, strict=False)]
    cluster.send(submit(spec(*lent), project="pool/lent"))
    cluster.run(1_000)
    due = task("e", resources=gpus(1), gang=Gang(4, topology="same-node"))
    cluster.send(submit(spec(due), project="pool/due"))
    cluster.run(5_000)
    assert [line.split()[1:] for line in told(cluster)[9:]] == [
        ["pool/lent/a", "preempted"],
        ["pool/lent/a", "preempted"],
        ["pool/due/e", "admitted"],
    ]


def test_who_comes_after_those_that_used_up_the_looks_of_a_cycle_has_its_turn_in_the_next() -> None:
    """Nobody can be stopped for the first four. Nothing else happens meanwhile."""
    cluster = Cluster(nodes(2, gpu_count=4), lasting(lent=200, one=200), policy=Policy(patience_ms=0))
    names = ("pool/a1", "pool/a2", "pool/a3", "pool/a4", "pool/b")
    cluster.send(quota("pool", 4, 0), quota("pool/lent", 0), *[quota(name, 12) for name in names])
    cluster.send(submit(spec(task("lent", resources=gpus(4))), project="pool/lent"))
    cluster.run(1_000)
    wide = [spec(task("wide", resources=gpus(2), replicas=count)) for count in (3, 4, 5, 6)]
    one = spec(task("one", resources=gpus(4)))
    cluster.send(*[submit(what, project=name) for name, what in zip(names, (*wide, one), strict=True)])
    cluster.send(Poke())
    cluster.run(1_000)
    assert told(cluster)[1:] == ["1.000 pool/lent/lent preempted", "1.200 pool/b/one admitted"]
