"""Pages of the cluster: how nodes are, GPUs by model, and what a drain would do, held against what one does."""

from __future__ import annotations

import pytest

from ffd.core import cluster_views
from ffd.core import events as ev
from ffd.core.cluster_views import drain_page, gpu_pages, node_detail, node_pages, queue_pages
from ffd.core.commands import Cordon, Drain, Uncordon
from ffd.core.pages import GpuPage
from ffd.core.policy import Policy
from ffd.core.spec import Checkpoint, Timeouts
from ffd.core.why import explain
from ffd.errors import Refusal
from ffd.testing.builders import gpus, rack, spec, submit, task
from ffd.testing.cluster import Behaviour, Cluster

INVENTORY = (
    *rack("r1", ("a1", "a2"), gpu_type="A100", gpu_count=4),
    *rack("r2", ("h1", "h2"), gpu_type="H100", gpu_count=8),
    *rack("r3", ("h3",), gpu_type="H100", gpu_count=8),
)
SLOW = Behaviour(run_ms=600_000, stop_ms=2_000)


def cluster(*tasks: object, script: dict[str, Behaviour] | None = None, **fields: object) -> Cluster:
    found = Cluster(INVENTORY, script or {"train": SLOW, "other": SLOW}, **fields)  # type: ignore[arg-type]
    if tasks:
        found.send(submit(spec(*tasks)))  # type: ignore[arg-type]
        found.run(1_000)
    return found


def states(found: Cluster) -> dict[str, str]:
    return {page.name: page.state for page in node_pages(found.state)}


def test_a_node_says_how_it_is_and_why() -> None:
    found = cluster(task("train", resources=gpus(8)))
    (used,) = [place.node for event in found.of(ev.ItemAdmitted) for place in event.places]
    found.send(Cordon(nodes=("a1",), by="ann", why="disk"), Drain(nodes=(used, "a2"), by="ann"))
    assert {name: state for name, state in states(found).items() if state != "ready"} == {
        "a1": "cordoned", "a2": "cordoned", used: "draining",
    }  # fmt: skip
    whys = {page.name: page.why for page in node_pages(found.state)}
    assert (whys["a1"], whys["a2"]) == ("cordoned by ann: disk", "drained by ann")
    found.run(3_000)
    assert states(found)[used] == "cordoned", "nothing runs there any more"
    found.send(Uncordon(nodes=("a1", "a2", used)))
    assert set(states(found).values()) == {"ready"}


def test_quarantine_and_probation_show() -> None:
    policy = Policy(quarantine_failures_count=1, quarantine_ms=10_000)
    found = cluster(script={"train": Behaviour(kind="gpu-error")}, policy=policy)
    found.send(submit(spec(task("train", resources=gpus(8)))))
    found.run(1_200)
    (page,) = [page for page in node_pages(found.state) if page.state == "quarantined"]
    assert page.why == "quarantined after 1 infrastructure failure, the last: gpu-error"
    assert page.until_at_ms == found.of(ev.NodeQuarantined)[0].until_at_ms > 10_000
    found.run(10_000)
    (page,) = [page for page in node_pages(found.state) if page.state == "probation"]
    assert page.why.startswith("was quarantined after ")


def test_a_closed_node_that_is_lost_is_still_shown() -> None:
    found = cluster()
    found.send(Cordon(nodes=("a1",), why="disk"))
    found.lose("a1")
    found.lose("a2")
    assert states(found) == {"a1": "lost", "h1": "ready", "h2": "ready", "h3": "ready"}
    assert node_detail(found.state, "a1").node.why == "cordoned: disk"


def test_nodes_come_page_by_page() -> None:
    found = cluster()
    found.send(Cordon(nodes=("a2", "h1")))
    found.lose("a2")
    names, after = list[str](), ""
    while pages := node_pages(found.state, after, 2):
        names += [page.name for page in pages]
        after = names[-1]
    assert names == ["a1", "a2", "h1", "h2", "h3"]


def test_one_node_and_who_holds_room_there() -> None:
    found = cluster(task("train", resources=gpus(4, "H100"), replicas=2), task("other", resources=gpus(1, "A100")))
    detail = node_detail(found.state, "h1")
    (hold,) = detail.holds
    assert (hold.workflow, hold.task, hold.state, hold.replica_count) == ("demo.1", "train", "running", 2)
    assert hold.gpus == tuple(range(8))
    assert detail.node.gpu_free_millis == (0,) * 8
    with pytest.raises(Refusal) as refusal:
        node_detail(found.state, "h11")
    assert (refusal.value.code, refusal.value.hint) == ("not_found", "did you mean h1?")


def test_gpus_by_model() -> None:
    found = cluster(task("train", resources=gpus(3, "H100")))
    (used,) = [place.node for event in found.of(ev.ItemAdmitted) for place in event.places]
    a100, h100 = gpu_pages(found.state)
    assert a100 == GpuPage(
        model="A100", node_count=2, total_count=8, free_count=8, gang_replicas=2, gang_gpus_count=4,
        domains={"same-rack": 2},
    )  # fmt: skip
    assert (h100.total_count, h100.used_count, h100.free_count, h100.fragmented_count) == (24, 3, 21, 5)
    assert (h100.gang_replicas, h100.gang_gpus_count) == (2, 8)
    found.send(Cordon(nodes=(used,)))
    h100 = gpu_pages(found.state)[1]
    assert (h100.used_count, h100.free_count, h100.fragmented_count, h100.cordoned_count) == (3, 16, 0, 5)
    assert h100.total_count == h100.used_count + h100.free_count + h100.cordoned_count + h100.quarantined_count


def test_the_largest_gang_is_one_that_the_scheduler_places() -> None:
    found = cluster(task("other", resources=gpus(1, "H100")))
    page = gpu_pages(found.state)[1]
    whole = gpus(page.gang_gpus_count, "H100")
    for replicas, fits in ((page.gang_replicas + 1, False), (page.gang_replicas, True)):
        found.send(submit(spec(task("train", replicas=replicas, resources=whole))))
        states_of = [
            live.tasks["train"].items[0].state for live in found.state.workflows.values() if "train" in live.tasks
        ]
        assert (states_of[-1] != "ready") is fits


def test_a_preview_changes_nothing_and_says_what_a_drain_does() -> None:
    train = task("train", replicas=2, resources=gpus(4, "H100"), checkpoint=Checkpoint(grace_ms=7_000))
    script = {"train": Behaviour(run_ms=10_000, stop_ms=100, checkpoint={"step": 1}), "other": SLOW}
    found = cluster(train, task("other", resources=gpus(8, "H100")), script=script)
    found.run(6_000)
    names = tuple(dict.fromkeys(place.node for place in found.of(ev.ItemAdmitted)[0].places))
    before = (
        [space.free() for space in found.state.space.order],
        dict(found.state.space.closed),
        found.state.space.version,
    )
    page = drain_page(found.state, names, {}, None, found.now_ms)
    assert (
        [space.free() for space in found.state.space.order],
        found.state.space.closed,
        found.state.space.version,
    ) == before
    (stop,) = page.stops
    assert (stop.task, stop.replica_count, stop.gpu_millis, stop.grace_ms) == ("train", 2, 8_000, 7_000)
    assert (stop.has_checkpoint, stop.lost_ms) == (True, found.now_ms - 5_100)
    assert page.lost_gpu_ms == 8 * stop.lost_ms
    assert page.waiting_count == 0 and not set(stop.elsewhere) & set(names)
    found.send(Drain(nodes=names))
    (stopping,) = found.of(ev.AttemptStopping)
    assert (stopping.attempt.task, stopping.grace_ms) == ("train", 7_000)
    found.run(1_000)
    assert tuple(dict.fromkeys(place.node for place in found.of(ev.ItemAdmitted)[-1].places)) == stop.elsewhere


def test_a_preview_says_who_would_wait() -> None:
    found = cluster(task("train", replicas=3, resources=gpus(8)))
    page = drain_page(found.state, (), {"rack": "r3"}, 100, found.now_ms)
    assert (page.nodes, page.waiting_count, page.stops[0].elsewhere) == (("h3",), 1, ())
    assert (page.stops[0].grace_ms, page.stops[0].has_checkpoint) == (100, False)
    with pytest.raises(Refusal):
        drain_page(found.state, ("nobody",), {}, None, 0)


# ------------------------------------------------------------------------------------------------- queue, explanations


def waiting() -> Cluster:
    """`train` holds all H100 nodes until 100 s after its start; `next` waits for all of them, and `small` of another
    workflow for what is not there: gangs that all ask for the same need no promise."""
    timeouts = Timeouts(run_ms=100_000)
    train = task("train", replicas=3, resources=gpus(8, "H100"), timeouts=timeouts)
    found = cluster(train, task("next", replicas=3, resources=gpus(8, "H100")))
    found.send(submit(spec(task("small", resources=gpus(64, "A100")), name="never")))
    return found


def test_the_queue_tells_the_start_that_was_promised() -> None:
    found = waiting()
    (page, never) = queue_pages(found.state)
    assert page.head == "demo.1/next[0]"
    assert 100_000 <= page.expected_at_ms <= 100_100, "when train started, and that it takes so long at most"
    assert (never.head, never.expected_at_ms) == ("never.1/small[0]", 0)


def test_of_a_long_queue_the_first_lanes_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_views, "QUEUE_MOST_COUNT", 2)
    found = cluster(task("train", replicas=3, resources=gpus(8, "H100")))
    for project in ("p", "q", "r", "s"):
        found.send(submit(spec(task("a", foreach=(1, 2), resources=gpus(8, "H100"))), project=project))
    shown = [(page.position, page.project, page.waiting_count) for page in queue_pages(found.state)]
    assert shown == [(1, "p", 2), (2, "q", 2), (3, "", 4)]
    assert [(page.position, page.project) for page in queue_pages(found.state, "s")] == [(4, "s")]
    assert queue_pages(found.state)[2].reason == "not shown: these come later; ask for one project to see its own"


def test_a_promise_is_made_anew_when_its_node_is_closed() -> None:
    found = waiting()
    assert queue_pages(found.state)[0].expected_at_ms
    found.send(Cordon(nodes=("h2",)))
    found.send(submit(spec(task("small", resources=gpus(1, "A100")), name="other")))  # leads to a cycle
    assert [page.expected_at_ms for page in queue_pages(found.state)] == [0, 0], "it would not fit"
    found.send(Uncordon(nodes=("h2",)))
    assert queue_pages(found.state)[0].expected_at_ms, "it would fit again"


def test_an_explanation_names_closed_nodes() -> None:
    found = waiting()
    headline = explain(found.state, 1, "next", -1, found.now_ms).headline
    assert "closed" not in headline
    found.send(Cordon(nodes=("h2", "a1"), by="ann", why="disk"))
    headline = explain(found.state, 1, "next", -1, found.now_ms).headline
    assert "(h2 cordoned by ann: disk)" in headline
