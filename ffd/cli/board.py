"""The picture of one running workflow, kept up to date from its events: which task is where, how many items how far.

Pure: `Board.apply(event)` is all that changes it, and costs the same for the first task as for the ten-thousandth. Made
by `progress.Follower` from the tasks' pages, told every event from the beginning of the story. Never here: drawing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from ffd.core.model import TERMINAL, Cause
from ffd.core.pages import EventPage, TaskPage

ITEM_STATES = {
    "ItemAdmitted": "admitted",
    "AttemptLaunching": "launching",
    "AttemptRunning": "running",
    "AttemptStopping": "stopping",
    "AttemptEnded": "ended",
    "ItemBackedOff": "backoff",
    "ItemReady": "ready",
}
WORKFLOW_STATES = {
    "WorkflowAccepted": "accepted",
    "WorkflowStarted": "running",
    "WorkflowSuspended": "suspended",
    "WorkflowResumed": "running",
    "WorkflowReopened": "running",
}
TELLING = (
    "running",
    "stopping",
    "launching",
    "admitted",
    "ended",
    "backoff",
    "ready",
    "failed",
    "cancelled",
    "succeeded",
)
STEPS = 10  # a fan-out is told in so many steps


class Row:
    """One task: where its items are. Items in `ready` are counted, not kept."""

    def __init__(self, page: TaskPage) -> None:
        self.page = page
        self.reset()

    def reset(self) -> None:
        """As before it opened."""
        self.word = "waiting"
        self.item_count = 1
        self.items: dict[int, str] = {}
        self.counts: dict[str, int] = {"waiting": 1}
        self.attempt = 0
        self.nodes: tuple[str, ...] = ()
        self.since_at_ms = 0
        self.retry_at_ms = 0
        self.cause: Cause | None = None
        self.step = 0

    @property
    def name(self) -> str:
        return self.page.name

    @property
    def fanout(self) -> bool:
        return self.page.fanout

    @property
    def settled_count(self) -> int:
        """Items at their end."""
        return sum(self.counts.get(word, 0) for word in TERMINAL)

    def move(self, item: int, state: str) -> str:
        """One item is in `state` now; returns where it was."""
        before = self.items.get(item, "ready")
        left = self.counts.get(before, 0) - 1
        if left > 0:
            self.counts[before] = left
        else:
            self.counts.pop(before, None)
        self.counts[state] = self.counts.get(state, 0) + 1
        self.items[item] = state
        return before


class Change(NamedTuple):
    """Something worth a line. `row` None: the workflow itself. `item` -1: the task as a whole. `word`: its new state,
    or `step` for a fan-out that got on."""

    word: str
    row: Row | None = None
    item: int = -1
    attempt: int = 0
    detail: str = ""
    cause: Cause | None = None


class Board:
    """The workflow and all its tasks. `rows` is in document order; `by_word` finds the rows in one state, in the order
    in which they entered it."""

    def __init__(self, handle: str, tasks: Iterable[TaskPage]) -> None:
        self.handle = handle
        self.state = "accepted"
        self.verdict = ""
        self.accepted_at_ms = 0
        self.rows = {page.name: Row(page) for page in tasks}
        self.by_word: dict[str, dict[str, Row]] = {"waiting": dict(self.rows)}
        self.counts: dict[str, int] = {"waiting": len(self.rows)} if self.rows else {}

    def apply(self, event: EventPage) -> list[Change]:
        """Take in one event; what of it is worth telling. Unknown kinds change nothing."""
        if event.kind in ITEM_STATES or event.kind == "ItemEnded":
            return self._item(event)
        if event.kind in ("TaskOpened", "TaskEnded"):
            return self._task(event)
        return self._workflow(event)

    def in_state(self, *words: str) -> list[Row]:
        """Rows in any of these states, those of the first word first."""
        return [row for word in words for row in self.by_word.get(word, {}).values()]

    # ------------------------------------------------------------------------------------------------------ folding

    def _workflow(self, event: EventPage) -> list[Change]:
        if event.kind == "WorkflowAccepted":
            self.accepted_at_ms = event.at_ms
        if event.kind == "WorkflowReopened":
            self._reopen(event)
        if event.kind == "WorkflowDoomed":
            self.verdict = event.data["verdict"]
            return [Change(f"will be {self.verdict}", cause=_cause(event.data))]
        if event.kind == "WorkflowEnded":
            self.state = event.data["state"]
            return []  # the summary says it
        if event.kind == "WorkflowFinalizing":
            return [Change(f"main tasks {event.data['state']}")]
        if event.kind not in WORKFLOW_STATES:
            return []
        self.state = WORKFLOW_STATES[event.kind]
        return [Change(self.state, detail=event.text)]

    def _reopen(self, event: EventPage) -> None:
        self.verdict = ""
        for name in event.data["waiting"]:
            row = self.rows[name]
            self._count(row, -1)
            row.reset()
            self._count(row, 1)
            self._place(row)
        for name, item in event.data["items"]:
            row = self.rows[name]
            self._move(row, item, "ready")
            row.cause = None
            self._place(row)

    def _task(self, event: EventPage) -> list[Change]:
        row = self.rows[event.task]
        if event.kind == "TaskOpened":
            self._count(row, -1)
            row.item_count = event.data["item_count"]
            row.items = {}
            row.counts = {"ready": row.item_count} if row.item_count else {}
            self._count(row, 1)
            self._place(row, event.at_ms)
            return [Change("open", row, detail=f"{row.item_count} items")] if row.fanout else []
        state = event.data["state"]
        if row.word == "waiting":  # it never opened
            self._count(row, -1)
            row.counts = {state: 1}
            self._count(row, 1)
        row.cause = _cause(event.data) or row.cause
        self._place(row, event.at_ms, state)
        return [Change(state, row, -1, row.attempt, cause=row.cause if state == "failed" else _cause(event.data))]

    def _item(self, event: EventPage) -> list[Change]:
        row = self.rows[event.task]
        word = event.data["state"] if event.kind == "ItemEnded" else ITEM_STATES[event.kind]
        self._move(row, event.item, word)
        cause = _cause(event.data)
        row.attempt = event.attempt
        row.cause = cause or row.cause
        row.retry_at_ms = event.data.get("retry_at_ms", 0)
        if event.kind == "ItemAdmitted":
            row.nodes = tuple(dict.fromkeys(place[0] for place in event.data["places"]))
        self._place(row, event.at_ms)
        return _told_item(row, event, word, cause)

    def _move(self, row: Row, item: int, word: str) -> None:
        self._add(row.move(item, word), -1)
        self._add(word, 1)

    def _count(self, row: Row, sign: int) -> None:
        for word, count in row.counts.items():
            self._add(word, sign * count)

    def _add(self, word: str, count: int) -> None:
        self.counts[word] = self.counts.get(word, 0) + count

    def _place(self, row: Row, at_ms: int = 0, word: str = "") -> None:
        """File the row under its most telling state; `word`: it has ended so."""
        word = word or next((each for each in TELLING if each in row.counts), "waiting")
        if word != row.word or row.name not in self.by_word.get(word, {}):
            self.by_word[row.word].pop(row.name, None)
            self.by_word.setdefault(word, {})[row.name] = row
            row.word = word
            row.since_at_ms = at_ms


def _cause(data: dict[str, Any]) -> Cause | None:
    found = data.get("cause")
    return msgspec.convert(found, Cause) if found else None


def _told_item(row: Row, event: EventPage, word: str, cause: Cause | None) -> list[Change]:
    """What of an item's move is told. A plain task's: when it runs, stops, is tried again (its end is the task's). A
    fan-out's: each failed attempt, and every tenth of the way."""
    if not row.fanout:
        if word in ("running", "stopping", "backoff"):
            detail = f"on {', '.join(row.nodes[:4])}" if word == "running" and row.nodes else ""
            return [Change(word, row, -1, event.attempt, detail, cause or (row.cause if word == "backoff" else None))]
        return []
    told = []
    if event.kind == "AttemptEnded" and event.data.get("outcome") == "failed":
        told.append(Change("failed", row, event.item, event.attempt, cause=cause))
    step = row.settled_count * STEPS // max(row.item_count, 1)
    if step > row.step and row.settled_count < row.item_count:
        told.append(Change("step", row, detail=f"{row.settled_count}/{row.item_count}"))
    row.step = max(step, row.step)
    return told
