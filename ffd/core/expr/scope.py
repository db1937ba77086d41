"""Which names an expression may use, and of which type each is.

A `Scope` is made once per document (`Scope.of_spec`) and narrowed to each task (`for_task`, `for_task_once`). It
answers one question, `type_of(name)`; it never evaluates. Called by `program.py` and by `core/document`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ffd.core.expr.limits import Problem
from ffd.core.spec import Spec, Task

# Types of expressions, by the names that users know. `dyn` is "only known when it runs".
SCALARS = ("int", "float", "string", "bool", "dyn")
LISTS = tuple(f"list<{name}>" for name in SCALARS)

_DECLARED = {"uri": "string", "json": "dyn", "list": "list<dyn>", "map": "map"}
_RUN = {"id": "string", "handle": "string", "name": "string", "attempt": "int", "state": "string", "project": "string"}
_NEAREST_CANDIDATES = 2_000


def declared_type(declared: str, *, fanout: bool = False) -> str:
    """Type of a declared param or output (`spec.ParamType`, `spec.OutputType`); of a fan-out it is a list of them."""
    name = _DECLARED.get(declared, declared)
    return f"list<{name}>" if fanout else name


def element_type(kind: str) -> str:
    """Type of an element: `int` for `list<int>`, `dyn` for `dyn`, "" for what is not a list."""
    if kind == "dyn":
        return kind
    return kind[5:-1] if kind.startswith("list<") else ""


def value_type(values: Iterable[Any]) -> str:
    """The one scalar type that all the values have, else `dyn`."""
    names = {bool: "bool", int: "int", float: "float", str: "string"}
    found = {names.get(type(value), "dyn") for value in values}
    return found.pop() if len(found) == 1 else "dyn"


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean ...?`, or "" when nothing is near. Looks at no more than a bounded number of similar words."""
    similar = [name for name in known if name[:1] == word[:1] or abs(len(name) - len(word)) <= 1]
    match = difflib.get_close_matches(word, similar[:_NEAREST_CANDIDATES], n=1, cutoff=0.6)
    return f"did you mean `{match[0]}`?" if match else ""


class Scope(msgspec.Struct, frozen=True):
    """`tasks` maps each task to its outputs and their types (already lists for a fan-out).

    `item` is "" where there is no `foreach`. `is_once`: evaluated before the task has items. `is_final`: the
    expression belongs to a `finally` task, which sees `run.state`.
    """

    params: Mapping[str, str] = {}
    tasks: Mapping[str, Mapping[str, str]] = {}
    item: str = ""
    matrix: Mapping[str, str] = {}
    is_once: bool = False
    is_final: bool = False

    @classmethod
    def of_spec(cls, spec: Spec) -> Scope:
        """The names that all tasks of the document share."""
        return cls(
            params={param.name: declared_type(param.type) for param in spec.params},
            tasks={task.name: output_types(task) for task in (*spec.tasks, *spec.finally_tasks)},
        )

    def for_task(self, task: Task, *, is_final: bool = False) -> Scope:
        """The scope of what is evaluated for each item of the task. `when` and `foreach` use `for_task_once`."""
        item = ""
        if task.foreach is not None:
            item = value_type(task.foreach) if isinstance(task.foreach, tuple) else "dyn"
        matrix = {key: value_type(values) for key, values in task.matrix.items()}
        return msgspec.structs.replace(self, item=item, matrix=matrix, is_final=is_final)

    def for_task_once(self, *, is_final: bool = False) -> Scope:
        """The scope of `when` and `foreach`: evaluated once per task, so without `item` and `matrix`."""
        return msgspec.structs.replace(self, item="", matrix={}, is_once=True, is_final=is_final)

    def type_of(self, name: str) -> str | Problem:
        """Type of a name that `lexer.references` found, or why it cannot be used here."""
        root, _, rest = name.partition(".")
        if root == "params":
            return self.params.get(rest) or _unknown("param", rest, self.params)
        if root == "tasks":
            return self._task_type(rest)
        if root == "item":
            return self.item or self._no_item("item", "foreach")
        if root == "matrix":
            if not self.matrix:
                return self._no_item("matrix", "matrix")
            return self.matrix.get(rest) or _unknown("matrix key", rest, self.matrix)
        if rest == "state" and not self.is_final:
            return Problem("`run.state` is known only to tasks under `finally`")
        return _RUN.get(rest) or _unknown("field of `run`", rest, _RUN)

    def _no_item(self, name: str, field: str) -> Problem:
        if self.is_once:
            return Problem(f"`{name}` is not known yet: this is evaluated once, before the task has items")
        return Problem(f"`{name}` exists only where the task has `{field}`")

    def _task_type(self, rest: str) -> str | Problem:
        task, _, what = rest.partition(".")
        outputs = self.tasks.get(task)
        if outputs is None:
            return _unknown("task", task, self.tasks)
        if what == "state":
            return "string"
        if what == "attempts":
            return "int"
        output = what.partition(".")[2]
        if output in outputs:
            return outputs[output]
        problem = _unknown("output", output, outputs)
        hint = problem.hint or f"declare it: tasks.{task}.outputs: {{{output}: string}}"
        return Problem(f"task `{task}` declares no output `{output}`", hint=hint)


def output_types(task: Task) -> dict[str, str]:
    """Type of each declared output of the task, as other tasks see it."""
    return {name: declared_type(kind, fanout=task.is_fanout) for name, kind in task.outputs.items()}


def _unknown(kind: str, name: str, known: Iterable[str]) -> Problem:
    return Problem(f"unknown {kind} `{name}`", hint=nearest(name, known))
