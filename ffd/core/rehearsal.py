"""A rehearsal: the real state is taken to be otherwise for a moment, the scheduler plays on it, and nothing remains.

    with Rehearsal(state) as rehearsal:
        state.tenancy.suppose(...)          # what is to be tried
        rehearsal.admit(attempt, places)    # what a cycle proposed

It keeps the trials of the three books (space, tenancy, lanes) open, and undoes what an admission changes besides. No
copy of the cluster is made. Called by `schedule.whatif`, between steps. Never here: what is tried, or what it means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from ffd.core import events as ev
from ffd.core.kinds import Lane
from ffd.core.live import LiveWorkflow
from ffd.core.model import AttemptId, Node, Place
from ffd.core.spec import Task
from ffd.core.state import State


class Rehearsal:
    """One; they do not nest."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._undo: list[Callable[[], None]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        state = self.state
        for trial in (state.holders.trial(), state.space.trial(), state.tenancy.trial(), state.lanes.trial()):
            self._stack.enter_context(trial)
        space, mix, nodes, reservations = state.space, state.space.mix, state.nodes, dict(state.reservations)
        space.mix = mix.frozen()

        def undo() -> None:
            state.space, state.nodes, state.reservations, state.moved = space, nodes, reservations, {}
            space.mix = mix

        self._undo.append(undo)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for undo in reversed(self._undo):
            undo()
        self._stack.close()

    def admit(self, attempt: AttemptId, places: tuple[Place, ...]) -> None:
        """This gang has its places."""
        state = self.state
        found = state.find(attempt)
        assert found is not None
        live, _, item = found
        place, key = (
            (attempt.workflow, live.dag.vertices[attempt.task].order, attempt.item),
            (attempt.workflow, attempt.task, attempt.item),
        )
        before = {field: getattr(item, field) for field in item.__struct_fields__}
        is_small, is_dirty = place in state.lanes.small, key in state._dirty_items

        def undo() -> None:
            for field, value in before.items():
                setattr(item, field, value)
            state.holders.remove(attempt)
            if is_small:
                state.lanes.small.add(place)
            if not is_dirty:
                del state._dirty_items[key]

        self._undo.append(undo)
        state.apply(ev.ItemAdmitted(attempt, places), state.now_ms)

    def move(self, live: LiveWorkflow, task: Task, numbers: Sequence[int], is_small: bool) -> Lane:
        """These ready items of the task of this name (ascending) wait as if it were `task`."""
        state, order = self.state, live.dag.vertices[task.name].order
        lane = state.lane_for(live, task, is_small)
        for number in numbers:
            state.moved[live.row.id, order, number] = lane
        state._push_to(live, task.name, numbers, lane)
        for shape, found in list(state.reservations.items()):
            if (found.entry[1], found.entry[3], found.entry[4]) in state.moved:
                del state.reservations[shape]
        return lane

    def set_priority(self, live: LiveWorkflow, priority: int) -> None:
        """The workflow has this priority: all of it that is in the queue stands elsewhere there."""
        state, before = self.state, live.row.priority

        def undo() -> None:
            live.row.priority = before

        self._undo.append(undo)
        live.row.priority = priority
        for name, task in live.tasks.items():
            if task.row.state == "open":
                ready = [n for n, item in enumerate(task.items) if item.state == "ready" and live.holds_place(name, n)]
                if ready:
                    state._push(live, [(name, ready)])

    def add_nodes(self, nodes: tuple[Node, ...]) -> None:
        """The cluster has these nodes as well."""
        state = self.state
        state.nodes = (*state.nodes, *nodes)
        state.space = state.space.with_more(nodes)
        self._stack.enter_context(state.space.trial())
        state.tenancy.suppose_nodes(state.nodes)
