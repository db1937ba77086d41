"""Reading: state -> pages, for live workflows from memory, for ended ones from their stored rows; durable facts only.

A page of a live workflow is made at once and given when what it reflects is durable. While the storage is full memory
is ahead of the store, and everything is read from stored rows. Called by the engine. Never here: the shape of a page
(`core.views`), names (`names`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

import anyio.to_thread

from ffd.core.limits import Limits
from ffd.core.model import TERMINAL, Listing, Rows
from ffd.core.pages import WorkflowPage
from ffd.core.state import State
from ffd.core.views import workflow_page
from ffd.daemon.barrier import Barrier
from ffd.errors import Refusal
from ffd.plugins.ports import Store

T = TypeVar("T")
ENDED_COUNT = 8  # ended workflows kept loaded: who looks at one looks again
ENDED_BYTES = 4 << 20  # rows of one that is kept
ENDED_PAGES_COUNT = 10_000  # pages of ended workflows kept, for lists
INLINE_BYTES = 64 << 10  # rows that are decoded in the loop; more go to a thread


class Reads:
    """Of one reign."""

    def __init__(self, state: State, barrier: Barrier, store: Store, limits: Limits) -> None:
        self._state = state
        self._barrier = barrier
        self._store = store
        self._limits = limits
        self._ended: OrderedDict[int, State] = OrderedDict()
        self._pages: OrderedDict[int, WorkflowPage] = OrderedDict()
        self._loading: dict[int, object] = {}

    def learn(self, listings: Sequence[Listing]) -> None:
        """These rows are durable now: what was, or is being, loaded of them is out of date."""
        for found in listings:
            self.drop(found.workflow)

    def drop(self, workflow: int) -> None:
        """Forget what was, or is being, loaded of it."""
        self._ended.pop(workflow, None)
        self._pages.pop(workflow, None)
        self._loading.pop(workflow, None)

    async def read(self, workflow: int, view: Callable[[State], T]) -> T:
        """`view` of a state that holds this workflow. Refusal (not_found): no such workflow."""
        if workflow in self._state.workflows:
            page = view(self._state)
            if await self._barrier.settled():
                return page
        else:
            await self._barrier.settled()  # its end must be stored before its rows are read
        return view(await self._stored(workflow))

    async def cluster(self, view: Callable[[State], T]) -> T:
        """`view` of the whole state; while the storage is full it may be ahead of what is stored."""
        page = view(self._state)
        await self._barrier.settled()
        return page

    async def pages(self, listings: Sequence[Listing]) -> list[WorkflowPage]:
        """A page for each, in order; those removed meanwhile are left out."""
        found = []
        for listing in listings:
            page = self._pages.get(listing.workflow)
            try:
                found.append(page or await self.workflow(listing.workflow))
            except Refusal:
                continue
        return found

    async def workflow(self, workflow: int) -> WorkflowPage:
        """What the page says is durable, so watching may start from the commit it names."""
        return await self.read(workflow, lambda state: self._page(state, workflow))

    def _page(self, state: State, workflow: int) -> WorkflowPage:
        return workflow_page(state, workflow, self._barrier.stepped if state is self._state else self._barrier.durable)

    async def _stored(self, workflow: int) -> State:
        """A state of this one workflow, from its rows. Kept when it has ended: then it changes no more, unless a retry
        opens it again, which `learn` tells, also while it is being loaded."""
        found = self._ended.get(workflow)
        if found is not None:
            self._ended.move_to_end(workflow)
            return found
        loading = self._loading[workflow] = object()
        rows = await self._store.read_workflow(workflow)
        if workflow not in rows.workflows:
            raise Refusal(f"there is no workflow {workflow}", code="not_found", field="ref")
        size = _size_bytes(rows)
        if size <= INLINE_BYTES:
            state = State.load(rows, self._limits)
        else:
            state = await anyio.to_thread.run_sync(State.load, rows, self._limits)
        if self._loading.get(workflow) is loading:
            del self._loading[workflow]
            if state.workflows[workflow].row.state in TERMINAL:
                _keep(self._pages, workflow, self._page(state, workflow), ENDED_PAGES_COUNT)
                if size <= ENDED_BYTES:
                    _keep(self._ended, workflow, state, ENDED_COUNT)
        return state


def _keep(cache: OrderedDict[int, T], workflow: int, value: T, count: int) -> None:
    cache[workflow] = value
    cache.move_to_end(workflow)
    if len(cache) > count:
        cache.popitem(last=False)


def _size_bytes(rows: Rows) -> int:
    groups = (rows.workflows, rows.tasks, rows.items, rows.specs)
    return sum(len(blob) for group in groups for blob in group.values())
