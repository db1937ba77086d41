"""Views: what people are shown, and why something waits or ended as it did."""

from __future__ import annotations

from typing import Any

import pytest

from ffd.core import cluster_views, views
from ffd.core import events as ev
from ffd.core.commands import Cancel, Suspend
from ffd.core.model import AttemptId
from ffd.core.reports import CheckpointReported, OutputsReported
from ffd.core.spec import Gang, Timeouts
from ffd.core.state import State
from ffd.core.story import WORDS, cause_text, duration_text
from ffd.core.why import explain
from ffd.testing.builders import attempt, gpus, nodes, spec, submit, task
from ffd.testing.cluster import Behaviour, Cluster


@pytest.fixture
def busy() -> Cluster:
    """Two slots: `runs` and `ended[0]` took them first; now `fails` is in backoff, `queued` waits, `later` needs."""
    script = {"runs": Behaviour(run_ms=60_000), "fails": Behaviour(exit_code=3, run_ms=100, tail="boom")}
    cluster = Cluster(nodes(1, slot_count=2, gpu_count=2, cpu_millis=8_000, memory_bytes=1 << 30), script)
    document = spec(
        task("runs", resources=gpus(1, cpu_millis=1_000)),
        task("fails", retries=2, timeouts=Timeouts(run_ms=60_000)),  # the longest path: it goes before `ended`
        task("ended", foreach=("x", "y"), outputs={"n": "int"}),
        task("queued", gang=Gang(replicas=2)),
        task("later", "runs ended"),
        finally_tasks=[task("notify")],
        fail_fast=False,
        description="a busy one",
        labels={"team": "a"},
    )
    cluster.send(submit(document, by="ann"))
    cluster.run(3_250)
    return cluster


def test_a_workflow_in_one_page(busy: Cluster) -> None:
    page = views.workflow_page(busy.state, 1, number=9)
    assert (page.handle, page.state, page.by, page.number, page.description) == (
        "demo.1",
        "running",
        "ann",
        9,
        "a busy one",
    )
    assert page.labels == {"team": "a"} and page.task_count == 6
    assert page.counts == {"running": 1, "backoff": 1, "succeeded": 2, "ready": 1, "waiting": 2}


def test_a_task_in_one_page(busy: Cluster) -> None:
    pages = {page.name: page for page in views.task_pages(busy.state, 1)}
    assert list(pages) == ["runs", "fails", "ended", "queued", "later", "notify"]
    assert {name: page.state for name, page in pages.items()} == {
        "runs": "running", "fails": "backoff", "ended": "succeeded", "queued": "ready", "later": "waiting",
        "notify": "waiting",
    }  # fmt: skip
    assert pages["runs"].nodes == ("n1",) and pages["runs"].attempt == 1 and pages["runs"].started_at_ms == 100
    assert pages["ended"].fanout and pages["ended"].item_count == 2 and pages["ended"].counts == {"succeeded": 2}
    assert pages["queued"].replicas == 2 and pages["queued"].reason == "waits for room: 2 x (1 slot)"
    assert pages["later"].reason == "waits for runs" and pages["later"].needs == ("runs", "ended")
    assert pages["notify"].finally_ and pages["notify"].reason == "runs after everything else"


def test_pages_go_on_after_a_name(busy: Cluster) -> None:
    assert [page.name for page in views.task_pages(busy.state, 1, after="ended", limit=2)] == ["queued", "later"]
    assert [page.item for page in views.item_pages(busy.state, 1, "ended", after=0)] == [1]


def test_an_item_in_one_page(busy: Cluster) -> None:
    (page,) = views.item_pages(busy.state, 1, "fails")
    assert (page.state, page.attempt, page.user_failures, page.infra_failures) == ("backoff", 2, 2, 0)
    assert page.cause and page.cause.exit_code == 3 and page.retry_at_ms > busy.now_ms
    progress = {attempt("runs"): {"step": 4}}
    (page,) = views.item_pages(busy.state, 1, "runs", progress=progress)
    assert page.progress == {"step": 4} and page.nodes == ("n1",)


def test_outputs_are_shown_as_they_are_set_and_as_lists_when_a_fanout_succeeded() -> None:
    cluster = Cluster(nodes(), {"a": Behaviour(run_ms=9_000), "a[1]": Behaviour(outputs={"n": "5"})})
    cluster.send(submit(spec(task("a", foreach=(1, 2), outputs={"n": "int"}), task("b", "a"))))
    cluster.send(OutputsReported(attempt("a"), {"n": 4}))
    assert [page.outputs for page in views.item_pages(cluster.state, 1, "a")] == [{"n": 4}, {}]
    cluster.run(9_500)
    assert views.task_pages(cluster.state, 1)[0].outputs == {"n": [4, 5]}


def test_nodes_and_what_is_reserved_on_them(busy: Cluster) -> None:
    (page,) = cluster_views.node_pages(busy.state)
    assert (page.gpu_used_count, page.cpu_used_millis, page.slot_used_count, page.slot_count) == (1, 1_000, 1, 2)


def test_the_queue_by_classes(busy: Cluster) -> None:
    busy.send(submit(spec(task("queued", gang=Gang(replicas=2))), priority=100))
    (page,) = cluster_views.queue_pages(busy.state)
    assert (page.position, page.gang, page.waiting_count, page.head) == (1, "2 x (1 slot)", 2, "demo.1/queued[0]")
    assert page.reason == "no room now"


def test_a_suspended_workflow_is_not_in_the_queue(busy: Cluster) -> None:
    busy.send(Suspend(workflow=1))
    assert cluster_views.queue_pages(busy.state) == []
    assert {page.name: page.reason for page in views.task_pages(busy.state, 1)}["queued"] == "the workflow is suspended"
    assert "suspended" in explain(busy.state, 1, "queued", -1, busy.now_ms).headline


# ----------------------------------------------------------------------------------------------------------------- why


def why(cluster: Cluster, name: str, item: int = -1) -> str:
    return explain(cluster.state, 1, name, item, cluster.now_ms).headline


def test_why_it_waits(busy: Cluster) -> None:
    assert why(busy, "queued").startswith("asks 2 x (1 slot): 1 of 2 replicas fit now")
    assert why(busy, "later") == "waits for runs"
    assert why(busy, "notify") == "runs after everything else"
    assert why(busy, "fails").startswith("attempt 2 failed: rank 0: exit code 3; the next starts in ")
    assert why(busy, "runs") == "is running on n1"
    assert why(busy, "ended", 1) == "succeeded"
    found = explain(busy.state, 1, "queued", 0, busy.now_ms)
    assert found.position == 1 and found.reason == "space"
    assert found.hints == (
        "would start now with gang.replicas=1, on n1",
        "would start now with nodes=+1x2, on what-if-0000",
        "demo.1/runs holds what it would use on n1: nobody knows until when",
    )
    assert [(check.name, check.verdict) for check in found.checks] == [
        ("workflow", "pass"), ("max_parallel", "pass"), ("tenant", "pass"), ("quota", "pass"), ("order", "pass"),
        ("cluster", "pass"), ("space", "wait"), ("reservation", "pass"), ("preemption", "pass"),
    ]  # fmt: skip
    needs = explain(busy.state, 1, "later", -1, busy.now_ms).checks
    assert [(check.name, check.verdict) for check in needs] == [("needs runs", "wait"), ("needs ended", "pass")]


def test_why_of_a_workflow_is_that_of_what_waits_most(busy: Cluster) -> None:
    found = explain(busy.state, 1, "", -1, busy.now_ms)
    assert found.subject == "demo.1" and found.headline.startswith("demo.1/queued: asks 2 x (1 slot)")


def test_why_it_failed() -> None:
    cluster = Cluster(nodes(), {"g:1": Behaviour(exit_code=7, tail="no such file"), "g": Behaviour(run_ms=5_000)})
    cluster.send(submit(spec(task("g", replicas=2), task("b", "g"))))
    cluster.run()
    ended = State.load(cluster.ledger.rows_of(1))
    found = explain(ended, 1, "", -1, cluster.now_ms)
    assert found.headline == "failed: g attempt 1 rank 1: exit code 7" and found.tail == "no such file"
    assert explain(ended, 1, "g", -1, 0).headline == "failed: rank 1: exit code 7"
    assert explain(ended, 1, "b", -1, 0).headline.startswith("cancelled: g ")


@pytest.mark.parametrize(
    ("document", "headline"),
    [
        (task("a", when="false"), "skipped: when is false: false"),
        (task("a", foreach=()), "succeeded: the list it runs over is empty"),
    ],
)
def test_why_it_never_opened(document: Any, headline: str) -> None:
    cluster = Cluster(nodes(), {})
    cluster.send(submit(spec(document, task("b"))))
    assert why(cluster, "a") == headline


def test_why_it_stops() -> None:
    cluster = Cluster(nodes(), {"a": Behaviour(run_ms=9_000, stop_ms=5_000)})
    cluster.send(submit(spec(task("a"))))
    cluster.run(500)
    cluster.send(Cancel(workflow=1, by="ann"))
    assert why(cluster, "a") == "is stopping on n1: cancelled by ann"


# ---------------------------------------------------------------------------------------------------- attempts, inputs


def test_attempts_of_an_item(busy: Cluster) -> None:
    assert views.attempt_ids(busy.state, 1, "fails", 0) == [AttemptId(1, "fails", 0, 1), AttemptId(1, "fails", 0, 2)]
    assert views.attempt_ids(busy.state, 1, "fails", 7) == [] and views.attempt_ids(busy.state, 1, "later", 0) == []


def test_a_task_is_told_only_what_it_may_see() -> None:
    """Outputs of what it needs and that succeeded (S20); not of others."""
    script = {"a": Behaviour(outputs={"n": "1"}), "b": Behaviour(outputs={"n": "2"}), "c": Behaviour(run_ms=9_000)}
    cluster = Cluster(nodes(), script)
    declared = {"outputs": {"n": "int"}}
    document = spec(task("a", **declared), task("b", **declared), task("c", "a", foreach=("x", "y")), fail_fast=False)
    cluster.send(submit(document))
    cluster.run(2_000)
    cluster.send(CheckpointReported(attempt("c", item=1), {"step": 3}))
    told = views.task_inputs(cluster.state, attempt("c", item=1))
    assert told["outputs"] == {"a": {"n": 1}} and told["binding"] == {"item": "y"} and told["checkpoint"] == {"step": 3}
    with pytest.raises(KeyError):
        views.task_inputs(cluster.state, attempt("c", 2))


# --------------------------------------------------------------------------------------------------------------- story


def test_every_event_has_words() -> None:
    assert set(WORDS) == set(ev.AnyEvent.__args__)


def test_an_event_for_programs_and_for_people(busy: Cluster) -> None:
    for at_ms, event in busy.story:
        page = views.event_page(3, 0, at_ms, event, "demo.1")
        assert page.text and page.kind == type(event).__name__ and "\n" not in page.text
    admitted = busy.of(ev.ItemAdmitted)[0]
    page = views.event_page(3, 1, 5, admitted, "demo.1")
    assert (page.workflow, page.task, page.item, page.attempt) == (1, "fails", 0, 1)
    assert page.data == {"places": (["n1", (), 1000, ()],)} and page.text == "fails[0]#1 admitted to n1"


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0s"), (500, "500ms"), (90_000, "1m30s"), (259_200_000, "3d"), (5_400_000, "1h30m"), (1_001, "1s1ms")],
)
def test_durations_are_told_as_documents_write_them(ms: int, text: str) -> None:
    assert duration_text(ms) == text


def test_no_cause_has_no_words() -> None:
    assert cause_text(None) == ""
