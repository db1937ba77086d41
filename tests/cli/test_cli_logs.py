"""Logs: every byte once and in order, heads only where they say something, the tail of each replica."""

from __future__ import annotations

import pytest
from cli_network import Network, lines
from conftest import Ffd

from ffd.core.model import Cause
from ffd.core.pages import ItemPage, TaskPage, WorkflowPage


@pytest.fixture
def gang(network: Network) -> Network:
    """One workflow with a gang of two and a fan-out."""
    cause = Cause(kind="error", task="train", item=0, attempt=2, rank=1, exit_code=3)
    network.workflows = [WorkflowPage(id=1, handle="w.1", name="w", project="default", state="failed", cause=cause)]
    train = TaskPage(workflow="w.1", name="train", state="failed", replicas=2, attempt=2)
    network.task_pages["w.1"] = [train, TaskPage(workflow="w.1", name="eval", state="failed", fanout=True)]
    network.item_pages["w.1", "eval"] = [
        ItemPage(
            workflow="w.1", task="eval", item=n, state="failed", cause=Cause(kind="error", rank=0, attempt=1, item=n)
        )
        for n in range(5)
    ]
    return network


def single(network: Network) -> None:
    network.workflows = [WorkflowPage(id=1, handle="w.1", name="w", project="default", state="succeeded")]
    network.task_pages["w.1"] = [TaskPage(workflow="w.1", name="hi", state="succeeded", attempt=1)]


def test_one_replica_has_no_heads_and_its_very_bytes(ffd: Ffd, network: Network) -> None:
    single(network)
    network.logs = [lines("hi", b"a\xff\x1b[31m\r\n"), lines("hi", b"no newline", offset=9)]
    assert ffd("logs", "w.1").stdout_bytes == b"a\xff\x1b[31m\r\nno newline"


def test_more_than_one_has_heads_and_lines_stay_whole(ffd: Ffd, gang: Network) -> None:
    gang.logs = [
        lines("train", b"half of ", rank=0),
        lines("train", b"other\n", rank=1),
        lines("train", b"a line\nlast", rank=0, offset=8),
        lines("eval", b"x\n", item=3),
    ]
    assert ffd("logs", "w.1").stdout == (
        "train#1:1 | other\ntrain#1:0 | half of a line\neval[3]#1 | x\ntrain#1:0 | last\n"
    )


def test_dropped_bytes_are_said(ffd: Ffd, network: Network) -> None:
    single(network)
    network.logs = [lines("hi", b"one\n"), lines("hi", b"two\n", offset=1004, dropped_bytes=1000)]
    result = ffd("logs", "w.1")
    assert result.stdout == "one\ntwo\n"
    assert result.stderr == "-- 1000 bytes of hi#1 dropped --\n"


def test_grep_keeps_lines_of_all_replicas(ffd: Ffd, gang: Network) -> None:
    gang.logs = [lines("train", b"loss 1\nnoise\n"), lines("train", b"noise\nloss 2\n", rank=1)]
    assert ffd("logs", "w.1/train", "--grep", r"loss \d").stdout == "train#1:0 | loss 1\ntrain#1:1 | loss 2\n"


@pytest.mark.parametrize(
    ("target", "options", "asked"),
    [
        ("w.1", (), {"task": "", "item": -1, "ranks": (), "attempt": 0}),
        ("w.1/train", (), {"task": "train", "item": -1, "ranks": (), "attempt": 0}),
        ("w.1/eval[3]", (), {"task": "eval", "item": 3, "ranks": (), "attempt": 0}),
        ("w.1/train.1", (), {"task": "train", "item": -1, "ranks": (1,), "attempt": 0}),
        ("w.1/eval[3]#2:0", (), {"task": "eval", "item": 3, "ranks": (0,), "attempt": 2}),
        ("w.1/train", ("--rank", "7,0,7", "--attempt", "3"), {"task": "train", "ranks": (0, 7), "attempt": 3}),
        ("w.1", ("--rank", "first-fail"), {"task": "train", "item": 0, "ranks": (1,), "attempt": 2}),
        ("w.1/eval[4]", ("--rank", "first-fail"), {"task": "eval", "item": 4, "ranks": (0,), "attempt": 1}),
    ],
)
def test_what_is_asked_for(
    ffd: Ffd, gang: Network, target: str, options: tuple[str, ...], asked: dict[str, object]
) -> None:
    assert ffd("logs", target, *options).exit_code == 0
    (call,) = gang.asked("follow_log")
    assert {key: call[key] for key in asked} == asked


def test_first_fail_of_what_did_not_fail_is_not_found(ffd: Ffd, network: Network) -> None:
    single(network)
    result = ffd("logs", "w.1", "--rank", "first-fail")
    assert result.exit_code == 6
    assert "no replica of it has failed" in result.stderr


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_tail_is_the_last_lines_of_each_replica(ffd: Ffd, gang: Network, count: int) -> None:
    long = [b"%d %s\n" % (number, b"x" * 900) for number in range(40)]
    gang.logs = [lines("train", b"".join(long)), lines("train", b"a\nb\nc\n", rank=1)]
    shown = ffd("logs", "w.1/train", "--tail", str(count)).stdout_bytes.splitlines(keepends=True)
    assert [line for line in shown if line.startswith(b"train#1:0 | ")] == [
        b"train#1:0 | " + line for line in long[len(long) - min(count, 40) :]
    ]
    assert sum(line.startswith(b"train#1:1 | ") for line in shown) == min(count, 3)


def test_tail_then_follow_goes_on_without_gap_or_duplicate(ffd: Ffd, network: Network) -> None:
    single(network)
    network.logs = [lines("hi", b"a\nb\nc\n")]

    def write_more(call: dict[str, object]) -> None:
        if call["follow"]:
            network.logs.append(lines("hi", b"d\n", offset=6))

    network.on["follow_log"] = write_more
    assert ffd("logs", "w.1", "-f", "--tail", "1").stdout == "c\nd\n"


@pytest.mark.parametrize(
    ("target", "has_heads"),
    [("w.1", True), ("w.1/train", True), ("w.1/train.1", True), ("w.1/train#2:1", False), ("w.1/eval", True),
     ("w.1/eval[3]", False)],
)  # fmt: skip
def test_heads_are_for_more_than_one_replica_or_attempt(ffd: Ffd, gang: Network, target: str, has_heads: bool) -> None:
    task = target.partition("/")[2].partition("[")[0].partition("#")[0].partition(".")[0] or "train"
    gang.logs = [lines(task, b"x\n", item=3 if task == "eval" else 0, attempt=2, rank=1 if task == "train" else 0)]
    assert (" | x" in ffd("logs", target).stdout) == has_heads
