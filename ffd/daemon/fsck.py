"""The offline check: is what is stored sound, and do the stored rows follow from the story (S22)?

Reads a store that nobody writes; changes nothing. Called by `ffd daemon fsck` and by tests. Never here: repairs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from ffd.core import events as ev
from ffd.core.lifecycle import IllegalTransition
from ffd.core.limits import Limits
from ffd.core.model import Rows
from ffd.core.state import State
from ffd.plugins.ports import Store, StoryEntry

ENTRIES_COUNT = 500  # read at once
FAULTS_COUNT = 100  # told; more are not looked for


async def check(store: Store, limits: Limits | None = None) -> list[str]:
    """Faults in words; empty = sound. First the store's own check of its chain, then a replay of all that is kept."""
    faults = list((await store.verify()).faults)
    return faults or await Replay(store, limits or Limits()).run()


class Replay:
    """Folds the story into a fresh State and compares what comes out with the stored rows. Workflows that retention
    removed have no story any more; the others are whole. So has what workflows left
    behind (numbers, keys, learnt durations): it is compared while nothing was removed yet."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._state = State(limits)
        self._ended: dict[int, Rows] = {}  # rows at their end, where the store has others: a retry must explain it
        self._faults: list[str] = []
        self._end = (0, 0)  # of the story so far: commit, events of it
        self._has_gaps = False
        self._accepted_count = 0

    async def run(self) -> list[str]:
        async for entry in self._entries():
            for index, event in enumerate(entry.events, start=entry.index):
                try:
                    await self._apply(event, entry.at_ms)
                except (IllegalTransition, KeyError, AssertionError, msgspec.MsgspecError) as error:
                    kind = type(event).__name__
                    self._faults.append(f"commit {entry.number}, event {index} ({kind}) cannot be replayed: {error}")
                    return self._faults  # nothing after it means anything
            self._state.take_rows()  # they are compared at the end of each workflow instead
            if len(self._faults) >= FAULTS_COUNT:
                return self._faults
        for workflow in list(self._state.workflows):
            await self._compare(workflow, self._state.rows_of(workflow))
        self._faults += [f"workflow {workflow}: its rows do not follow from its story" for workflow in self._ended]
        await self._compare_meta()
        return self._faults

    async def _entries(self) -> AsyncIterator[StoryEntry]:
        after = (0, 0)
        while page := await self._store.read_story(after, limit=ENTRIES_COUNT):
            for entry in page:
                commit, count = self._end
                is_next = (entry.number, entry.index) in ((commit, count), (commit + 1, 0))
                self._has_gaps = self._has_gaps or not is_next
                self._end = entry.number, entry.index + len(entry.events)
                yield entry
            after = (page[-1].number, page[-1].index + len(page[-1].events) - 1)

    async def _apply(self, event: ev.AnyEvent, at_ms: int) -> None:
        if isinstance(event, ev.WorkflowAccepted):
            self._accepted_count += 1
        elif isinstance(event, ev.WorkflowReopened):
            rows = self._ended.pop(event.workflow, None) or await self._store.read_workflow(event.workflow)
            self._state.adopt(rows)
        elif isinstance(event, ev.WorkflowForgotten):
            await self._forget(event.workflow)
        self._state.apply(event, at_ms)

    async def _forget(self, workflow: int) -> None:
        rows = self._state.rows_of(workflow)
        if not await self._is_stored(workflow, rows):
            self._ended[workflow] = rows

    async def _compare(self, workflow: int, rows: Rows) -> None:
        if not await self._is_stored(workflow, rows):
            self._faults.append(f"workflow {workflow}: its rows do not follow from its story")

    async def _is_stored(self, workflow: int, rows: Rows) -> bool:
        """Do these rows mean the same as the stored ones? Rows that equal the default may be there or not."""
        stored = await self._store.read_workflow(workflow)
        if workflow not in stored.workflows:
            return False
        try:
            return State.load(stored, self._limits).rows_of(workflow) == rows
        except (KeyError, msgspec.MsgspecError):
            return False

    async def _compare_meta(self) -> None:
        stored = (await self._store.load(None)).rows.meta
        is_whole = not self._has_gaps and self._accepted_count == self._state.next_workflow - 1
        told = meta_of(self._state, is_whole)
        try:
            held = meta_of(State.load(Rows(meta=stored), self._limits), is_whole)
        except msgspec.MsgspecError as error:
            self._faults.append(f"the rows of tenants, nodes, keys or counters cannot be read: {error}")
            return
        names = sorted(name for name in {**told, **held} if told.get(name) != held.get(name))
        self._faults += [f"{name}: what is stored does not follow from the story" for name in names]


def meta_of(state: State, is_whole: bool) -> dict[str, object]:
    """What outlives workflows, by what it is of. `is_whole`: also what they leave behind."""
    tenants = state.tenancy.nodes.values()
    lasting = {
        "the inventory": state.nodes,
        **{f"the mark of node {name}": mark for name, mark in state.health.marks.items()},
        **{f"tenant {node.label}": node.row for node in tenants if node.declared},
    }
    left = {
        "the number of the next workflow": state.next_workflow,
        "the count of idempotency keys": state.key_count,
        **{f"the numbers of {name}": number for name, number in state.numbers.items()},
        **{f"idempotency key {scope}": found for scope, found in state.keys.items()},
        **{f"the learnt duration of {learnt[1]}": learnt for learnt in state.forecast},
    }
    return lasting | left if is_whole else lasting
