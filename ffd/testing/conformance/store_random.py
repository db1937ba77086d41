"""Random operations that any two stores must answer alike. Needs hypothesis for the strategy, nothing for the replay.

`operations()` draws a sequence, `answers(opener, sequence)` performs it on one empty database through two handles, as
two daemons would. What an operation does depends on the sequence and on earlier answers only, so equal answers lead to
equal questions.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import msgspec
from hypothesis import strategies as st

from ffd.core.model import Rows
from ffd.errors import FfdError
from ffd.plugins.ports import Batch, Lease, ListQuery, Loaded, Store
from ffd.testing.conformance.store_setup import (
    AT_MS,
    Opener,
    Part,
    accepted,
    added,
    all_entries,
    batch,
    ended,
    inventory,
    progress,
    reopened,
)

HANDLES = ("left", "right")
WORKFLOWS = range(1, 6)
Operation = tuple[str, int, tuple[Any, ...]]  # what, through which handle, with what

_workflow = st.sampled_from(WORKFLOWS)
_state = st.sampled_from(("succeeded", "failed", "cancelled"))
_digest = st.sampled_from("ab")
_enters = st.builds(lambda digest, workflow: (added(digest), accepted(workflow, digest)), _digest, _workflow)
_part = st.one_of(
    *(_enters,) * 4,
    st.builds(lambda *a: (progress(*a),), _workflow, st.sampled_from("tu"), st.sets(st.integers(0, 9)).map(sorted)),
    st.builds(lambda *a: (ended(*a),), _workflow, _state, st.integers(1, 50), st.sampled_from((0, 0, 7))),
    st.builds(lambda workflow: (reopened(workflow),), _workflow),
    st.builds(lambda name: (inventory(name),), _digest),
)
_parts = st.lists(_part, min_size=1, max_size=5).map(lambda drawn: tuple(part for parts in drawn for part in parts))
_skew = st.sampled_from((0,) * 30 + (-1, 1))
_position = st.tuples(st.sampled_from((0, 0, 1, 2, 3, 5)), st.integers(0, 8))
_query = st.builds(
    ListQuery,
    project=st.sampled_from(("", "", "project-1")),
    name=st.sampled_from(("", "", "name-1")),
    number=st.sampled_from((0, 0, 1)),
    states=st.sampled_from(((), ("failed",), ("running", "succeeded"))),
    by=st.sampled_from(("", "", "user-1")),
    before=st.sampled_from((0, 0, 0, 3, 5)),
    limit=st.sampled_from((100, 100, 2, 1, 0)),
)
_arguments: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    "hold": st.tuples(st.sampled_from((0, 0, 5, 10)), st.booleans()),
    "release": st.tuples(),
    "commit": st.tuples(_parts, _skew, _skew, st.sampled_from((True,) * 9 + (False,))),
    "again": st.tuples(),
    "load": st.tuples(),
    "workflow": st.tuples(_workflow),
    "list": st.tuples(_query),
    "story": st.tuples(_position, st.sampled_from((0, 0, 0, 1, 2, 3)), st.sampled_from((100, 100, 2, 1, 0))),
    "sweep": st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 20), st.integers(0, 3)),
    "verify": st.tuples(),
    "restart": st.tuples(),
}
_WEIGHTS = {"commit": 8, "hold": 3, "sweep": 2}


def operations() -> st.SearchStrategy[list[Operation]]:
    """Sequences that begin with a leader."""
    names = [name for name in _arguments for _ in range(_WEIGHTS.get(name, 1))]
    one = st.sampled_from(names).flatmap(
        lambda name: st.tuples(st.just(name), st.integers(0, len(HANDLES) - 1), _arguments[name])
    )
    return st.lists(one, min_size=12, max_size=40).map(lambda drawn: [("hold", 0, (0, True)), *drawn])


async def answers(opener: Opener, sequence: list[Operation]) -> list[Any]:
    """What the store says to each operation, as plain values, and what is left at the end."""
    world = _World(opener, [await opener() for _ in HANDLES])
    try:
        told = [await _plain(world.perform(*operation)) for operation in sequence]
        store = world.stores[0]
        left = (store.verify(), all_entries(store), store.list_workflows(ListQuery()))
        told += [await _plain(one) for one in (*left, *(store.read_workflow(workflow) for workflow in WORKFLOWS))]
    finally:
        for store in world.stores:
            await store.close()
    return told


async def _plain(answer: Awaitable[Any]) -> Any:
    try:
        value = await answer
    except FfdError as error:
        return type(error).__name__, error.code
    if isinstance(value, Loaded):
        return value.head, _ordered(value.rows)
    return _ordered(value) if isinstance(value, Rows) else value


def _ordered(rows: Rows) -> list[Any]:
    """The order of rows is part of the answer."""
    return [list(getattr(rows, field).items()) for field in rows.__struct_fields__]


class _World:
    """Two handles on one database, with what each believes of the lease."""

    def __init__(self, opener: Opener, stores: list[Store]) -> None:
        self.stores = stores
        self._opener = opener
        self._leases = [Lease(0, name, 10) for name in HANDLES]
        self._now_ms = 0
        self._asked: Batch | None = None

    async def perform(self, what: str, handle: int, arguments: tuple[Any, ...]) -> Any:
        return await getattr(self, f"_{what}")(handle, self.stores[handle], *arguments)

    async def _hold(self, handle: int, store: Store, wait_ms: int, renew: bool) -> Any:
        self._now_ms += wait_ms
        epoch = self._leases[handle].epoch if renew else 0
        answer = await store.hold(HANDLES[handle], f"at-{handle}", 10, self._now_ms, epoch)
        if isinstance(answer, Lease):
            self._leases[handle] = answer
        return answer

    async def _release(self, handle: int, store: Store) -> Any:
        return await store.release(self._leases[handle])

    async def _commit(
        self, handle: int, store: Store, parts: tuple[Part, ...], epoch: int, number: int, lead: bool
    ) -> Any:
        """Through the handle that leads, for all it knows; seldom through any."""
        if lead:
            handle = max(range(len(HANDLES)), key=lambda one: self._leases[one].epoch)
        head = await store.head()
        asked = batch(self._leases[handle].epoch + epoch, head.number + 1 + number, *parts)
        self._asked = msgspec.structs.replace(asked, at_ms=asked.at_ms - AT_MS)
        return await self.stores[handle].commit(self._asked)

    async def _again(self, handle: int, store: Store) -> Any:
        return await store.commit(self._asked) if self._asked else None

    async def _load(self, handle: int, store: Store) -> Any:
        return await store.load(self._leases[handle])

    async def _workflow(self, handle: int, store: Store, workflow: int) -> Any:
        return await store.read_workflow(workflow)

    async def _list(self, handle: int, store: Store, query: ListQuery) -> Any:
        return await store.list_workflows(query)

    async def _story(self, handle: int, store: Store, after: tuple[int, int], workflow: int, limit: int) -> Any:
        return await store.read_story(after, workflow, limit)

    async def _sweep(self, handle: int, store: Store, now_ms: int, success_ms: int, failure_ms: int, limit: int) -> Any:
        return await store.sweep(now_ms, success_ms, failure_ms, limit)

    async def _verify(self, handle: int, store: Store) -> Any:
        return await store.verify()

    async def _restart(self, handle: int, store: Store) -> Any:
        await store.close()
        self.stores[handle] = await self._opener()
