"""Indexes over one Spec, made once per document and shared by all its workflows. Read-only.

Used by state, the stages and views. Never here: anything about a particular workflow.
"""

from __future__ import annotations

from collections.abc import Iterator

from ffd.core.amounts import Amounts, amounts_on
from ffd.core.expr import Expect, Program, Scope, compile_expr
from ffd.core.model import Learnt
from ffd.core.spec import Need, Spec, Task, Template, share_empties


class Dag:
    """`tasks` maps every task (main and finally) by name; `order` numbers them in document order, finally tasks last.

    `children[name]` are (child, need) edges; finally tasks have edges only among themselves. `followers[name]`: whose
    gangs go where this one's are (`with`). `has_bounds`: there is a `max_parallel` somewhere. `timed`: tasks that
    may have a timer while they wait or run; `with_expressions`: that are launched with some. These are asked only.
    """

    __slots__ = (
        "_held",
        "_programs",
        "_scope",
        "_tails",
        "_upwards",
        "children",
        "finally_names",
        "followers",
        "has_bounds",
        "main_names",
        "names",
        "order",
        "spec",
        "tasks",
        "timed",
        "with_expressions",
    )

    def __init__(self, spec: Spec) -> None:
        share_empties(spec)
        self.spec = spec
        self.tasks: dict[str, Task] = {t.name: t for t in (*spec.tasks, *spec.finally_tasks)}
        self.names: tuple[str, ...] = tuple(self.tasks)
        self.main_names: tuple[str, ...] = self.names[: len(spec.tasks)]
        self.finally_names: tuple[str, ...] = self.names[len(spec.tasks) :]
        self.order: dict[str, int] = {name: i for i, name in enumerate(self.names)}
        self.children: dict[str, tuple[tuple[str, Need], ...]] = self._children()
        self.followers: dict[str, list[Task]] = {}
        for task in self.tasks.values():
            for name in task.gang.topology_with:
                self.followers.setdefault(name, []).append(task)
        self._held: dict[tuple[str, int, tuple[str, ...]], Amounts] = {}
        self.has_bounds = bool(spec.max_parallel) or any(task.max_parallel for task in self.tasks.values())
        self.timed = frozenset(task.name for task in self.tasks.values() if is_timed(task))
        self.with_expressions = frozenset(task.name for task in self.tasks.values() if not is_literal(task))
        self._scope: Scope | None = None
        self._tails: dict[str, int] | None = None
        self._upwards: list[tuple[str, int, tuple[str, ...]]] | None = None
        self._programs: dict[tuple[str, str, bool, Expect], Program] = {}

    def program(self, task: Task, source: str, *, once: bool, expect: Expect) -> Program:
        """The compiled expression, kept for as long as the document is. `once`: as `when` and `foreach` are seen."""
        key = (task.name, source, once, expect)
        found = self._programs.get(key)
        if found is None:
            self._scope = self._scope or Scope.of_spec(self.spec)
            is_final = self.order[task.name] >= len(self.main_names)
            base = self._scope
            scope = base.for_task_once(is_final=is_final) if once else base.for_task(task, is_final=is_final)
            found = self._programs[key] = compile_expr(source, scope, expect=expect)
        return found

    def held(self, name: str, replicas: int, models: tuple[str, ...]) -> Amounts:
        """What a placed gang of this task holds (`amounts.amounts_on`)."""
        key = (name, replicas, models)
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = amounts_on(self.tasks[name].resources, replicas, models)
        return found

    def _children(self) -> dict[str, tuple[tuple[str, Need], ...]]:
        edges: dict[str, list[tuple[str, Need]]] = {}
        for task in self.tasks.values():
            for need in task.needs:
                edges.setdefault(need.task, []).append((task.name, need))
        return {name: tuple(found) for name, found in edges.items()}

    def tails(self) -> dict[str, int]:
        """The longest path from each task to an end, itself included, by declared durations (`tails_by`)."""
        if self._tails is None:
            self._tails = self.tails_by({})
        return self._tails

    def tails_by(self, learnt: dict[str, Learnt]) -> dict[str, int]:
        """The longest path from each task to an end, itself included, in milliseconds: "highest level first" (Hu,
        Oper. Res. 1961). By declared durations, else those `learnt`; a task of unknown duration counts for 1 ms, so
        that then the number of steps decides."""
        if self._upwards is None:
            self._upwards = list(self._walk_upwards())
        tails: dict[str, int] = {}
        for name, duration_ms, children in self._upwards:
            behind_ms = 0
            for child in children:
                behind_ms = max(behind_ms, tails[child])
            if not duration_ms:
                known = learnt.get(name)
                duration_ms = known[3] if known is not None else 0
            tails[name] = behind_ms + (duration_ms or 1)
        return tails

    def _walk_upwards(self) -> Iterator[tuple[str, int, tuple[str, ...]]]:
        """(task, declared duration, its children): children before their parents."""
        left = {name: len(self.children.get(name, ())) for name in self.names}
        walk = [name for name in self.names if not left[name]]
        while walk:
            name = walk.pop()
            task = self.tasks[name]
            yield name, task.timeouts.run_ms, tuple(child for child, _ in self.children.get(name, ()))
            for need in task.needs:
                left[need.task] -= 1
                if not left[need.task]:
                    walk.append(need.task)

    def handled(self, name: str) -> bool:
        """True when a failure of this task is somebody's business: a `failed` or `done` need (semantics rule 2)."""
        return any(need.outcome != "success" for _, need in self.children.get(name, ()))

    def roots(self, names: tuple[str, ...]) -> Iterator[str]:
        """Those of `names` that need nothing, in document order."""
        return (name for name in names if not self.tasks[name].needs)


def is_timed(task: Task) -> bool:
    """May it have a timer while it waits or runs (one for its backoff does not count)?"""
    limits = task.timeouts
    return bool(limits.run_ms or limits.queue_ms or limits.start_ms or limits.idle_ms or task.gang.min_replicas)


def is_literal(task: Task) -> bool:
    """Is there no expression in what this task is launched with?"""
    if task.bindings or task.with_ or (task.checkpoint is not None and isinstance(task.checkpoint.path, Template)):
        return False
    texts = [*task.argv, task.workdir]
    if task.env or task.files:
        texts += (*task.env.values(), *task.files.values())
    return Template not in map(type, texts)


def is_met(need: Need, state: str) -> bool:
    """Does a settled parent in `state` satisfy the need? (semantics rules 1 and 2: skipped is success for nobody)."""
    if need.outcome == "done":
        return True
    return state == ("succeeded" if need.outcome == "success" else "failed")
