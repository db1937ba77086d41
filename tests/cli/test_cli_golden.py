"""Transcripts of what verbs print, from fixed pages. FFD_UPDATE_GOLDEN=1 writes them anew: read the difference."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from cli_network import Network, Story
from conftest import NOW_MS, Ffd

from ffd.core.model import Cause
from ffd.core.pages import (
    Check,
    DaemonPage,
    DrainPage,
    Explain,
    GpuPage,
    HoldPage,
    ItemPage,
    NodePage,
    QueuePage,
    QuotaPage,
    SharePage,
    StopPage,
    TaskPage,
    TenantPage,
    WaitPage,
    WorkflowPage,
)

GOLDEN = Path(__file__).parent / "golden"
DOCUMENT = """\
name: pipe
params: {lr: 0.1}
tasks:
  prepare: {run: 'echo ${{ params.lr }}', outputs: {rows: int}}
  train:
    needs: [prepare]
    gang: {replicas: 4, topology: same-rack, launcher: torchrun}
    resources: {gpus: "H100:8"}
    run: train.py
  eval: {needs: [train], foreach: [1, 2, 3], run: 'eval.py ${{ item }}'}
finally:
  notify: {run: notify.py}
"""
INVALID = """\
nam: pipe
tasks:
  a: {needs: [b], run: x}
  b: {needs: [a], run: x, retry: {max: -1}}
"""

CASES = {
    "ls": "ls",
    "ls_wide": "ls -o wide",
    "ls_name": "ls --state running -o name",
    "ls_json": "ls --limit 1 -o json",
    "ls_jsonl": "ls -o jsonl",
    "ls_empty": "ls --name nobody",
    "get": "get llm.42",
    "get_task": "get llm.42/eval -o wide",
    "get_item": "get llm.42/eval[1]",
    "get_yaml": "get llm.42/train -o yaml",
    "get_unknown_task": "get llm.42/trian",
    "get_unknown_item": "get llm.42/eval[9]",
    "describe": "describe llm.42",
    "describe_task": "describe llm.42/eval",
    "describe_item": "describe llm.42/eval[1]",
    "why": "why llm.42/publish",
    "why_failed": "why llm.42",
    "why_json": "why llm.42/publish -o json",
    "why_what_if": "why llm.42/publish --what-if quota.gpus=+8 --what-if gpus=4",
    "why_workflow": "why hello.1",
    "events": "events llm.42",
    "events_cluster": "events",
    "watch": "watch --all",
    "nodes": "nodes",
    "nodes_wide": "nodes -o wide",
    "nodes_one": "nodes n02",
    "nodes_one_json": "nodes n01 -o json",
    "nodes_unknown": "nodes n99",
    "nodes_cordon": "nodes cordon n01 n02 --why 'disk swap'",
    "nodes_uncordon": "nodes uncordon n01",
    "nodes_drain": "nodes drain n02 --grace 60s",
    "nodes_drain_preview": "nodes drain n02 --dry-run",
    "nodes_label": "nodes cordon --label rack",
    "gpus": "gpus",
    "gpus_wide": "gpus -o wide",
    "queue": "queue",
    "tenant_ls": "tenant ls",
    "tenant_get": "tenant get research -o wide",
    "tenant_get_unknown": "tenant get nobody",
    "tenant_set": "tenant set research --weight 2 --disable",
    "tenant_move": "tenant move research/llm applied",
    "quota_ls": "quota ls",
    "quota_ls_all": "quota ls --all -o wide",
    "quota_get": "quota get research/llm -o json",
    "quota_set": "quota set research/llm gpus=64 gpus/H100.nominal=32 gpus.borrow=16 gpus.lend=8",
    "quota_set_wrong": "quota set research/llm gpus",
    "share_ls": "share ls",
    "share_get": "share get / -o yaml",
    "share_set": "share set research 1.5",
    "cancel": "cancel llm.42 nobody.1",
    "set": "set llm.42 priority=700",
    "wait": "wait llm.42",
    "daemon_status": "daemon status --address unix:/run/ffd.sock",
    "lint": "lint pipe.yaml invalid.yaml",
    "lint_json": "lint invalid.yaml -o json",
    "lint_sarif": "lint invalid.yaml -o sarif",
    "explain": "explain pipe.yaml --address grpc://there:1",
    "explain_alone": "explain pipe.yaml",
    "graph": "graph pipe.yaml",
    "help": "--help",
    "help_run": "run --help",
}


@pytest.fixture
def world(network: Network, home: Path) -> Network:
    """A failed workflow with every kind of task, a running one, two nodes and a queue."""
    add_workflows(network)
    add_story(network)
    add_cluster(network)
    (home / "work/pipe.yaml").write_text(DOCUMENT)
    (home / "work/invalid.yaml").write_text(INVALID)
    return network


def add_workflows(network: Network) -> None:
    cause = Cause(
        kind="oom", message="out of memory", rank=5, exit_code=137, tail="step 41\nCUDA error\n", task="train", item=0,
        attempt=2, node="n07",
    )  # fmt: skip
    network.workflows = [
        WorkflowPage(
            id=42, handle="llm.42", name="llm", project="research/llm", state="failed", priority=600, by="ada",
            description="a model", labels={"team": "a"}, params={"steps": 60_000, "data": "s3://x"}, task_count=5,
            counts={"succeeded": 2, "failed": 2, "skipped": 1, "cancelled": 1}, accepted_at_ms=NOW_MS - 7_200_000,
            started_at_ms=NOW_MS - 7_000_000, ended_at_ms=NOW_MS - 60_000, cause=cause, number=99,
        ),
        WorkflowPage(
            id=43, handle="hello.1", name="hello", project="default", state="running", by="bob", task_count=1,
            counts={"running": 1}, accepted_at_ms=NOW_MS - 5_000, started_at_ms=NOW_MS - 4_000, number=101,
        ),
    ]  # fmt: skip
    ended: dict[str, Any] = {
        "opened_at_ms": NOW_MS - 7_000_000,
        "started_at_ms": NOW_MS - 6_900_000,
        "ended_at_ms": NOW_MS - 90_000,
    }
    network.task_pages["llm.42"] = [
        TaskPage(workflow="llm.42", name="prepare", state="succeeded", counts={"succeeded": 1}, attempt=1,
                 outputs={"rows": 12}, nodes=("n01",), **ended),
        TaskPage(workflow="llm.42", name="train", state="failed", counts={"failed": 1}, attempt=2, replicas=16,
                 needs=("prepare",), nodes=("n01", "n07"), cause=cause, **ended),
        TaskPage(workflow="llm.42", name="eval", state="failed", item_count=3, fanout=True, needs=("train",),
                 counts={"failed": 1, "succeeded": 1, "cancelled": 1}, cause=Cause(kind="error", exit_code=1), **ended),
        TaskPage(workflow="llm.42", name="publish", state="skipped", counts={"skipped": 1}, needs=("eval",),
                 reason="needs eval to succeed"),
        TaskPage(workflow="llm.42", name="notify", state="waiting", counts={"waiting": 1}, finally_=True),
    ]  # fmt: skip
    network.item_pages["llm.42", "eval"] = [
        ItemPage(workflow="llm.42", task="eval", item=0, state="succeeded", attempt=1, since_at_ms=NOW_MS - 99_000),
        ItemPage(workflow="llm.42", task="eval", item=1, state="failed", attempt=2, user_failures=2, infra_failures=1,
                 nodes=("n02",), since_at_ms=NOW_MS - 98_000, progress={"step": 3},
                 cause=Cause("error", exit_code=1, task="eval", item=1, attempt=2, rank=0, tail="no such suite\n")),
        ItemPage(workflow="llm.42", task="eval", item=2, state="cancelled", since_at_ms=NOW_MS - 97_000),
    ]  # fmt: skip
    network.explains["llm.42", "", -1] = Explain(
        subject="llm.42",
        state="failed",
        headline="train attempt 2 rank 5: out of memory",
        cause=cause,
        tail="CUDA error\n",
    )


def add_story(network: Network) -> None:
    network.explains["hello.1", "", -1] = Explain(
        subject="hello.1", state="ready", headline="hello.1/hi: no room", reason="space",
        groups=(
            WaitPage(task="hi", item_count=40, reason="space", detail="0 of 1 replica fit now"),
            WaitPage(task="", item_count=7, reason="needs", detail="a, b, c and 4 more for other tasks"),
        ),
    )  # fmt: skip
    network.explains["llm.42", "publish", -1] = Explain(
        subject="llm.42/publish", state="ready", headline="no room: 8 H100 asked, 3 free on n02", position=1,
        checks=(
            Check(name="suspended", verdict="pass", detail="the workflow runs"),
            Check(name="possible", verdict="pass", detail="2 nodes could host it"),
            Check(name="space", verdict="wait", detail="8 H100 asked, 3 free on n02"),
        ),
        hints=("hello.1/hi holds what it would use",),
    )  # fmt: skip
    story = Story(network, "llm.42", 42, NOW_MS - 7_200_000)
    story.add("WorkflowAccepted", text="accepted as llm.42 by ada")
    story.add("WorkflowStarted", text="started")
    story.add("WorkflowEnded", text="failed: oom: out of memory (rank 5)", state="failed", cause=None)
    cluster = Story(network, "", 0, NOW_MS - 7_200_000)
    cluster.add("QuotaChanged", text="tenant research gpus 64, borrows at most 0 by root")
    cluster.add("KeyRemembered", text="idempotency key remembered")


def add_cluster(network: Network) -> None:
    network.node_pages = [
        NodePage(name="n01", cpu_millis=16_000, cpu_used_millis=1_500, memory_bytes=64 << 30, slot_count=110),
        NodePage(name="n02", gpu_type="H100", gpu_count=8, gpu_used_count=5, cpu_millis=96_000, memory_bytes=1 << 40,
                 memory_used_bytes=96 << 30, slot_count=110, slot_used_count=5, labels={"rack": "r1"},
                 state="draining", why="drained by ada: firmware", gpu_free_millis=(0, 0, 0, 0, 400, 1000, 1000, 1000),
                 numa=(0, 0, 0, 0, 1, 1, 1, 1), taints=("dedicated",)),
        NodePage(name="n03", state="lost", why="quarantined after 3 infrastructure failures, the last: gpu-error",
                 until_at_ms=NOW_MS + 600_000),
    ]  # fmt: skip
    network.holds = (
        HoldPage(workflow="llm.42", project="research/llm", task="train", item=0, attempt=2, state="stopping",
                 replica_count=1, gpus=(0, 1, 2, 3), since_at_ms=NOW_MS - 3_600_000),
        HoldPage(replica_count=2, gpus=(4,)),
    )  # fmt: skip
    network.gpu_pages = [
        GpuPage(model="A100", node_count=2, total_count=8, used_count=8),
        GpuPage(model="H100", node_count=10, total_count=80, used_count=21, free_count=48, fragmented_count=8,
                cordoned_count=3, quarantined_count=8, gang_replicas=5, gang_gpus_count=8, domains={"same-rack": 3}),
    ]  # fmt: skip
    network.drain_page = DrainPage(
        nodes=("n02",), replica_count=6, gpu_millis=36_400, lost_gpu_ms=7_200_000, waiting_count=1,
        stops=(
            StopPage(workflow="llm.42", project="research/llm", task="train", item=0, attempt=2, replica_count=4,
                     gpu_millis=32_000, lost_ms=225_000, has_checkpoint=True, grace_ms=120_000,
                     elsewhere=("n04", "n05", "n06", "n07", "n08")),
            StopPage(workflow="hello.1", project="default", task="hi", item=0, attempt=1, replica_count=2,
                     gpu_millis=4_400, lost_ms=60_000, grace_ms=10_000),
        ),
    )  # fmt: skip
    network.stopping_count = 2
    network.queue_pages = [
        QueuePage(position=1, project="research/llm", gang="16 x (8 H100)", waiting_count=3, head="llm.42/train[0]",
                  reason="no room now", expected_at_ms=NOW_MS + 5_400_000),
        QueuePage(position=2, project="", gang="", waiting_count=40, head="", reason=""),
    ]  # fmt: skip
    network.tenant_pages = [
        TenantPage(tenant="/", workflow_count=4, pod_count=19),
        TenantPage(tenant="research", parent="/", weight=2.5, enabled=False, admits=False, declared=True),
        TenantPage(tenant="research/llm", parent="research", admits=False, workflow_count=4, pod_count=19),
    ]
    network.quota_pages = [
        QuotaPage(tenant="/", resource="gpus", used=19, capacity=24.0),
        QuotaPage(tenant="research", resource="memory", used=3 << 30, nominal=1 << 40, borrow_max=0, capacity=2 << 40),
        QuotaPage(tenant="research/llm", resource="cpus", used=2.5, borrowed=2.5, capacity=96),
        QuotaPage(tenant="research/llm", resource="gpus", used=19, borrowed=3, nominal=16, borrow_max=4, lend_max=8,
                  capacity=24),
        QuotaPage(tenant="research/llm", resource="gpus/H100", used=19, nominal=24, capacity=24),
    ]  # fmt: skip
    network.share_pages = [
        SharePage(tenant="/", dominant="gpus", share=19 / 24),
        SharePage(tenant="research", parent="/", weight=2.5, dominant="gpus", share=19 / 60),
        SharePage(tenant="research/llm", parent="research"),
    ]
    network.daemon = DaemonPage(
        version="0.1.0", role="leader", epoch=3, leader_address="unix:/run/ffd.sock", runtime="local", store="sqlite",
        pid=4711, started_at_ms=NOW_MS - 86_400_000, commit_number=1234, workflow_count=2, ready_count=3,
        running_count=1, degraded="storage full: submissions are refused",
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_transcript(ffd: Ffd, world: Network, case: str) -> None:
    result = ffd(*shlex.split(CASES[case]))
    told = "".join(f"! {line}\n" for line in result.stderr.splitlines())
    text = f"$ ffd {CASES[case]}\n{result.stdout}{told}= {result.exit_code}\n"
    path = GOLDEN / f"{case}.txt"
    if os.environ.get("FFD_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_no_transcript_without_a_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)
