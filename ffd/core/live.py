"""A workflow in memory: its rows, the counters derived from them, and who holds a place under `max_parallel`.

Written by `Memory` and `State` only, read by the stages. Never here: what is stored (model), what an event changes
(state), or the queue of all workflows (ready).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

import msgspec

from ffd.core.dag import Dag, Vertex
from ffd.core.kinds import Lane
from ffd.core.model import Item, Task, Workflow
from ffd.core.tenancy import Tenant

Placed = list[tuple[str, Sequence[int]]]  # (task, numbers of its items, ascending)


class LiveTask(msgspec.Struct, gc=False):
    """A task row, its place in the graph, its counters. `unmet`: needs not yet settled as asked. `left`: items not
    settled. `active`: items that hold a place, `backlog`: ready ones that wait for one; both only where there is a
    `max_parallel`."""

    row: Task
    vertex: Vertex
    unmet: int = 0
    left: int = 0
    failed: int = 0
    cancelled: int = 0
    active: int = 0
    items: Sequence[Item] = ()
    backlog: deque[int] | None = None

    def untouched(self) -> Item:
        """What an item is before anything happened to it; such a one needs no row in the store."""
        return Item(number=self.row.attempts_before)


class LiveWorkflow:
    """A workflow row with its tasks. `main_left`, `finally_left`: tasks not settled.

    An item under a `max_parallel` (its task's or the workflow's) holds a place from when it may be scheduled until its
    attempt ended; in backoff it holds none. `placed` names those that do, as (order of the task, item); `behind` is a
    heap of tasks that have a backlog and are not at their own bound. Places are derived: after a restart others of the
    same rank may hold them. `tenant`: whom its project's path names, and who is charged. `series`: `project/name`: they
    are numbered together, and learnt from together."""

    __slots__ = (
        "behind", "dag", "finally_left", "handle", "lanes", "main_left", "placed", "row", "series", "tails", "tasks",
        "tenant",
    )  # fmt: skip

    def __init__(self, row: Workflow, dag: Dag, tenant: Tenant) -> None:
        self.row = row
        self.handle = row.handle
        self.series = f"{row.project}/{row.name}"
        self.tenant = tenant
        self.dag = dag
        self.tasks: dict[str, LiveTask] = {
            name: LiveTask(Task(), vertex, len(vertex.spec.needs)) for name, vertex in dag.vertices.items()
        }
        self.main_left = len(dag.main_names)
        self.finally_left = len(dag.finally_names)
        self.placed: set[tuple[int, int]] = set()  # only asked, never walked
        self.behind: list[int] = []
        self.lanes: dict[Lane, None] = {}  # where its items were queued; those learn durations and change, items do not
        self.tails: list[int] = []  # longest paths from its tasks, ms, by their order; filled when first asked

    def is_finally(self, task: str) -> bool:
        return bool(self.dag.finally_names) and self.dag.vertices[task].is_final

    def is_doomed(self, task: str) -> bool:
        """Will nothing of this task start any more? Finally tasks still do after a verdict, unless `skip_finally`."""
        return bool(self.row.verdict) and (self.row.skip_finally or not self.is_finally(task))

    # ---------------------------------------------------------------------------------------------- max_parallel

    def is_bounded(self, name: str) -> bool:
        dag = self.dag
        return dag.has_bounds and bool(dag.spec.max_parallel or dag.tasks[name].max_parallel)

    def holds_place(self, name: str, number: int) -> bool:
        """May this item be scheduled, as far as `max_parallel` is concerned?"""
        return not self.is_bounded(name) or (self.dag.vertices[name].order, number) in self.placed

    def is_full(self, name: str) -> bool:
        """Is the task at its own bound?"""
        own = self.dag.tasks[name].max_parallel
        return bool(own) and self.tasks[name].active >= own

    def ask_places(self, name: str, numbers: Sequence[int]) -> Placed:
        """These items became ready. Returns what may be scheduled now."""
        if not self.is_bounded(name):
            return [(name, numbers)]
        task = self.tasks[name]
        if not task.backlog:
            task.backlog = deque()
            heappush(self.behind, self.dag.vertices[name].order)
        task.backlog.extend(numbers)
        return self._move_up()

    def take_place(self, name: str, number: int) -> None:
        """This item has a reservation: it holds a place, whatever the bound is now."""
        if self.is_bounded(name):
            self.placed.add((self.dag.vertices[name].order, number))
            self.tasks[name].active += 1

    def give_place(self, name: str, number: int) -> Placed:
        """This item needs its place no more, if it held one. Returns who moves up and may be scheduled now."""
        place = (self.dag.vertices[name].order, number)
        if place not in self.placed:
            return []
        self.placed.remove(place)
        task = self.tasks[name]
        task.active -= 1
        if task.backlog:
            heappush(self.behind, place[0])
        return self._move_up()

    def drop_backlogs(self, names: Iterable[str]) -> None:
        """Nothing of these tasks starts any more: a place that becomes free is for others."""
        for name in names:
            self.tasks[name].backlog = None

    def forget_places(self) -> None:
        self.placed, self.behind = set(), []
        for task in self.tasks.values():
            task.active, task.backlog = 0, None

    def _move_up(self) -> Placed:
        """Free places go to tasks in document order; within a task to who became ready first."""
        moved: Placed = []
        while self.behind and not self._is_at_bound():
            order = heappop(self.behind)
            name = self.dag.names[order]
            task = self.tasks[name]
            numbers = []
            while task.backlog and not self.is_full(name) and not self._is_at_bound():
                number = task.backlog.popleft()
                if task.items[number].state == "ready":  # else it ended in the backlog
                    self.placed.add((order, number))
                    task.active += 1
                    numbers.append(number)
            if task.backlog and not self.is_full(name):
                heappush(self.behind, order)
            if numbers:
                moved.append((name, sorted(numbers)))
        return moved

    def _is_at_bound(self) -> bool:
        bound = self.dag.spec.max_parallel
        return bool(bound) and len(self.placed) >= bound
