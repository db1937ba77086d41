"""What expressions see, and their evaluation for one task or item: params, outputs of succeeded tasks, item, run.

Only the names that an expression mentions are looked up. Called by `finish` (when, foreach), `launch` and `views`.
Raises `expr.ExprError` with a reason for the user; never changes state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ffd.core.expr import Expect, ExprError, evaluate, render_string, render_text
from ffd.core.fanout import binding, item_count
from ffd.core.live import LiveWorkflow
from ffd.core.spec import Task, Template, Text


class Values(Mapping[str, Any]):
    """Names (`params.x`, `tasks.t.outputs.o`, `item`, `run.id` ...) -> values, for item `index` of `task`; -1 = for the
    task as a whole (`when`, `foreach`), which has no item. A name without a value now is simply not in the mapping."""

    def __init__(self, live: LiveWorkflow, task: Task, index: int = -1) -> None:
        self._live = live
        self._task = task
        self._index = index

    def __getitem__(self, name: str) -> Any:
        root, _, rest = name.partition(".")
        return _ROOTS[root](self, rest)

    def __contains__(self, name: object) -> bool:
        try:
            self[str(name)]
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        raise TypeError("values are looked up, never listed")

    def __len__(self) -> int:
        raise TypeError("values are looked up, never listed")

    def binding(self) -> dict[str, Any]:
        return binding(self._task, foreach_values(self._live, self._task), self._index) if self._index >= 0 else {}

    # ------------------------------------------------------------------------------------------------ evaluation

    def source(self, source: str, expect: Expect = "any") -> Any:
        """The value of one expression."""
        program = self._live.dag.program(self._task, source, once=self._index < 0, expect=expect)
        return evaluate(program, self)

    def source_string(self, source: str) -> str:
        return render_string(self.source(source))

    def string(self, text: Text) -> str:
        """A text with its expressions filled in, always a string."""
        return text if isinstance(text, str) else render_string(render_text(text, self.source))

    def deep(self, value: Any) -> Any:
        """Plain data in which `{"$cel": [part, ...]}` stands for a template."""
        if isinstance(value, dict):
            if set(value) == {"$cel"}:
                return render_text(Template(tuple(value["$cel"])), self.source)
            return {key: self.deep(child) for key, child in value.items()}
        return [self.deep(child) for child in value] if isinstance(value, list) else value

    # --------------------------------------------------------------------------------------------------- look-up

    def _param(self, name: str) -> Any:
        return self._live.row.params[name]

    def _of_task(self, rest: str) -> Any:
        name, _, what = rest.partition(".")
        task = self._live.tasks[name]
        if what == "state":
            return task.row.state
        if what == "attempts":
            return max((item.number for item in task.items), default=0)
        return output_value(self._live, name, what.partition(".")[2])

    def _item(self, rest: str) -> Any:
        value: Any = self.binding()["item"]
        for key in rest.split(".") if rest else ():
            value = value[key]
        return value

    def _matrix(self, key: str) -> Any:
        return self.binding()["matrix"][key]

    def _run(self, field: str) -> Any:
        row = self._live.row
        return {
            "id": str(row.id),
            "handle": row.handle,
            "name": row.name,
            "project": row.project,
            "attempt": row.round,
            "state": row.verdict or "succeeded",
        }[field]


_ROOTS = {
    "params": Values._param,
    "tasks": Values._of_task,
    "item": Values._item,
    "matrix": Values._matrix,
    "run": Values._run,
}


def foreach_values(live: LiveWorkflow, task: Task) -> list[Any] | tuple[Any, ...] | None:
    """The list an opened task runs over: literal in the document, or evaluated and stored when it opened."""
    return task.foreach if isinstance(task.foreach, tuple) else live.tasks[task.name].row.foreach


def output_value(live: LiveWorkflow, name: str, output: str) -> Any:
    """One output of a succeeded task (semantics rule 4); a list in item order for a fan-out. KeyError when the task did
    not succeed or an item never set it."""
    task = live.tasks[name]
    if task.row.state != "succeeded":
        raise KeyError(output)
    values = [(item.outputs or {})[output] for item in task.items]
    return values if live.dag.tasks[name].is_fanout else values[0]


def output_values(live: LiveWorkflow, name: str) -> dict[str, Any]:
    """All outputs that a succeeded task did set."""
    found = {}
    for output in live.dag.tasks[name].outputs:
        try:
            found[output] = output_value(live, name, output)
        except KeyError:
            continue
    return found


def is_true(live: LiveWorkflow, task: Task) -> bool:
    """The task's `when`."""
    return bool(Values(live, task).source(task.when, "bool"))


def fan_out(live: LiveWorkflow, task: Task, room: Mapping[str, int]) -> tuple[list[Any] | None, int]:
    """(the evaluated `foreach` list when it is an expression, number of items). `room`: the most items, by limit."""
    foreach: list[Any] | None = None
    if isinstance(task.foreach, Template):
        foreach = Values(live, task).source(task.foreach.parts[1], "list")
    literal = task.foreach if isinstance(task.foreach, tuple) else None
    count = item_count(task, foreach if literal is None else literal)
    for limit, most in room.items():
        if count > max(most, 1):  # a plain task always fits: it was counted when it was submitted
            raise ExprError(f"{count} items, limits.{limit} leaves room for {max(most, 0)}", field=f"limits.{limit}")
    return foreach, count
