"""The board is what the events say, at any size, and tells each change once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cli_network import Network, Story
from hypothesis import given
from hypothesis import strategies as st

from ffd.cli.board import Board, Change
from ffd.core.lifecycle import ITEM
from ffd.core.pages import TaskPage


def task(name: str, fanout: bool = False, replicas: int = 1, needs: tuple[str, ...] = ()) -> TaskPage:
    return TaskPage(workflow="w.1", name=name, state="waiting", fanout=fanout, replicas=replicas, needs=needs)


def fold(board: Board, network: Network) -> list[Change]:
    return [change for commit in network.commits for event in commit for change in board.apply(event)]


def words(changes: list[Change]) -> list[tuple[str, str]]:
    return [(change.row.name if change.row else "", change.word) for change in changes]


def test_a_task_from_waiting_to_its_end() -> None:
    network = Network()
    story = Story(network)
    board = Board("w.1", [task("a"), task("b", needs=("a",))])
    story.add("WorkflowAccepted")
    story.add("WorkflowStarted")
    story.add("TaskOpened", "a", item_count=1, foreach=None)
    story.attempt("a", "succeeded")
    story.add("TaskEnded", "a", state="succeeded", cause=None)
    told = fold(board, network)
    assert words(told) == [("", "accepted"), ("", "running"), ("a", "running"), ("a", "succeeded")]
    assert board.in_state("waiting") == [board.rows["b"]]
    assert {word: count for word, count in board.counts.items() if count} == {"succeeded": 1, "waiting": 1}


def test_a_failed_attempt_that_is_tried_again_is_told_with_its_cause() -> None:
    network = Network()
    story = Story(network)
    board = Board("w.1", [task("a")])
    story.add("TaskOpened", "a", item_count=1, foreach=None)
    story.attempt("a", "failed", {"kind": "oom", "exit_code": 137}, ends=False)
    story.add("ItemBackedOff", "a", 0, 1, retry_at_ms=9_000, infra=False)
    story.add("ItemReady", "a", 0, 1)
    story.attempt("a", "succeeded", attempt=2)
    story.add("TaskEnded", "a", state="succeeded", cause=None)
    told = fold(board, network)
    assert words(told) == [("a", "running"), ("a", "backoff"), ("a", "running"), ("a", "succeeded")]
    assert told[1].cause is not None and told[1].cause.kind == "oom"
    assert told[2].attempt == 2


def test_a_fan_out_is_told_in_tenths_with_each_failure() -> None:
    network = Network()
    story = Story(network)
    board = Board("w.1", [task("many", fanout=True)])
    story.add("TaskOpened", "many", item_count=100, foreach=None)
    for item in range(100):
        story.attempt("many", "failed" if item == 42 else "succeeded", item=item)
    story.add("TaskEnded", "many", state="failed", cause={"kind": "error", "exit_code": 1})
    told = fold(board, network)
    assert Counter(change.word for change in told) == {"open": 1, "step": 9, "failed": 2}
    assert [(change.item, change.word) for change in told if change.item >= 0] == [(42, "failed")]
    assert board.rows["many"].counts == {"succeeded": 99, "failed": 1}


def test_a_skipped_task_never_opened() -> None:
    network = Network()
    Story(network).add("TaskEnded", "a", state="skipped", cause=None)
    board = Board("w.1", [task("a")])
    assert words(fold(board, network)) == [("a", "skipped")]
    assert {word: count for word, count in board.counts.items() if count} == {"skipped": 1}


def test_a_retry_starts_a_new_round() -> None:
    network = Network()
    story = Story(network)
    board = Board("w.1", [task("a"), task("b", needs=("a",))])
    story.add("TaskOpened", "a", item_count=1, foreach=None)
    story.attempt("a", "failed", {"kind": "error"})
    story.add("TaskEnded", "a", state="failed", cause={"kind": "error"})
    story.add("TaskEnded", "b", state="skipped", cause=None)
    story.add("WorkflowEnded", state="failed", cause=None)
    story.add("WorkflowReopened", waiting=["b"], items=[["a", 0]], round=2)
    fold(board, network)
    assert board.state == "running"
    assert board.in_state("ready") == [board.rows["a"]]
    assert board.in_state("waiting") == [board.rows["b"]]
    assert {word: count for word, count in board.counts.items() if count} == {"ready": 1, "waiting": 1}


EVENTS: dict[str, dict[str, Any]] = {
    "ItemAdmitted": {"places": [["n1", [0]]]}, "AttemptLaunching": {}, "AttemptRunning": {}, "AttemptStopping": {},
    "AttemptEnded": {"outcome": "failed"}, "ItemBackedOff": {"retry_at_ms": 5, "infra": False}, "ItemReady": {},
    "ItemEnded.succeeded": {"state": "succeeded"}, "ItemEnded.failed": {"state": "failed"},
    "ItemEnded.cancelled": {"state": "cancelled"},
}  # fmt: skip


@given(st.integers(1, 6), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=60))
def test_counts_are_the_sum_over_items_whatever_happens(items: int, moves: list[tuple[int, int]]) -> None:
    """Items walk their lifecycle at random; the board's counts equal a plain recount."""
    network = Network()
    story = Story(network)
    board = Board("w.1", [task("a", fanout=True), task("b")])
    story.add("TaskOpened", "a", item_count=items, foreach=None)
    states = ["ready"] * items
    for item, choice in moves:
        item %= items
        open_ways = [
            (trigger, after) for (state, trigger), after in ITEM.items() if state == states[item] and trigger in EVENTS
        ]
        if open_ways:
            trigger, states[item] = open_ways[choice % len(open_ways)]
            story.add(trigger.partition(".")[0], "a", item, 1, **EVENTS[trigger])
    fold(board, network)
    assert {word: count for word, count in board.counts.items() if count} == Counter([*states, "waiting"])
    assert board.rows["a"].counts == Counter(states)
    assert [row.name for word in board.by_word for row in board.in_state(word)].count("a") == 1
