"""Whose end makes room for a gang, and how few ends it takes: what reservations and preemption have in common.

What holds no GPU does not keep a gang of GPUs waiting, unless something else is short on its nodes: thousands of small
tasks on the same machines are neither forecast for it nor stopped for it.

Called by `schedule.reserve` and `schedule.preempt`. Never here: who may be stopped, or in what order things end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from typing import TypeVar

from ffd.core.holders import Held
from ffd.core.model import AttemptId, Place
from ffd.core.schedule.rooms import tight_nodes
from ffd.core.spec import Resources
from ffd.core.state import State

T = TypeVar("T")


class Relief:
    """Who could help a gang that asks this much of space by ending. `is_any`: anybody, whatever it holds."""

    def __init__(self, state: State, ask: Resources, *, is_any: bool = False) -> None:
        self._state = state
        self._is_any = is_any or not ask.has_gpus
        self._tight = frozenset[str]() if self._is_any else tight_nodes(state.space, ask)  # only asked

    def by(self, attempt: AttemptId) -> bool:
        """Could the end of this one help, which holds something?"""
        if self._is_any or attempt in self._state.holders.with_gpus:
            return True
        return bool(self._tight) and any(place.node in self._tight for place in held(self._state, attempt)[0])

    def of(self, tenant: str) -> Iterable[Held]:
        """Those of one tenant whose end could help, oldest first."""
        holders = self._state.holders
        if self._is_any or not self._tight:
            return holders.of(tenant, with_gpus=not self._is_any)
        return (one for one in holders.of(tenant) if self.by(one[1]))


def held(state: State, attempt: AttemptId) -> tuple[tuple[Place, ...], Resources]:
    """What a live attempt holds: its places, and of each so much."""
    live = state.workflows[attempt.workflow]
    running = live.tasks[attempt.task].items[attempt.item].live
    assert running is not None
    return running.places, state.ask_of(attempt, live)


def fewest(
    row: Iterator[AttemptId],
    end: Callable[[AttemptId], None],
    trial: Callable[[], AbstractContextManager[object]],
    fits: Callable[[], T | None],
) -> tuple[list[AttemptId], T] | None:
    """The fewest of a row that must end, the first ones first, until `fits` gives something, and what; None when not
    even all of them will do. `end` ends one of them within a `trial`, which undoes it.

    By doubling, then by halving, each step upon the one before: none is ended more often than three times, and most of
    a long row is not even asked for. Whether it fits must not change back as more end."""
    known: list[AttemptId] = []

    def double(count: int) -> tuple[int, T] | None:
        more = list(islice(row, max(1, count)))
        known.extend(more)
        with trial():
            for attempt in more:
                end(attempt)
            found = fits() if more else None
            if found is None:  # a row that gave less than it was asked for has no more
                return double(len(known)) if len(more) == max(1, count) else None
        return halve(count, len(known), found)

    def halve(low: int, high: int, found: T) -> tuple[int, T]:
        """It does not fit after `low` have ended, as they have; it does after `high`: then it finds `found`."""
        while high - low > 1:
            middle = (low + high) // 2
            with trial():
                for attempt in known[low:middle]:
                    end(attempt)
                earlier = fits()
                if earlier is None:
                    return halve(middle, high, found)
            high, found = middle, earlier
        return high, found

    least = double(0)
    return None if least is None else (known[: least[0]], least[1])
