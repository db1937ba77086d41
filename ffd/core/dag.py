"""Indexes over one Spec, made once per document and shared by all its workflows. Read-only.

Used by state, the stages and views. Never here: anything about a particular workflow.
"""

from __future__ import annotations

from collections.abc import Iterator

from ffd.core.amounts import Amounts, amounts_on
from ffd.core.expr import Expect, Program, Scope, compile_expr
from ffd.core.model import Learnt
from ffd.core.spec import Need, Spec, Task, Template, share_empties

Edges = tuple[tuple[str, Need], ...]


class Vertex:
    """A task and its place in the graph. `order`: in the document, finally tasks (`is_final`) last. `children`: (child,
    need) edges; finally tasks have some only among themselves. `is_timed`: it may have a timer while it waits or runs;
    `has_expressions`: it is launched with some."""

    __slots__ = (
        "_held", "_models", "_replicas", "children", "has_expressions", "is_final", "is_timed", "order", "spec",
    )  # fmt: skip

    def __init__(self, spec: Task, order: int, children: Edges, is_final: bool) -> None:
        self.spec = spec
        self.order = order
        self.children = children
        self.is_final = is_final
        self.is_timed = is_timed(spec)
        self.has_expressions = not is_literal(spec)
        self._held: Amounts | None = None  # by a gang placed like the last one
        self._replicas = 0
        self._models: tuple[str, ...] = ()

    def held(self, replicas: int, models: tuple[str, ...]) -> Amounts:
        """What a placed gang of this task holds (`amounts.amounts_on`). Read-only."""
        held = self._held
        if held is None or replicas != self._replicas or models != self._models:
            held = self._held = amounts_on(self.spec.resources, replicas, models)
            self._replicas, self._models = replicas, models
        return held


class Dag:
    """`tasks` maps every task (main and finally) by name, `vertices` likewise. `followers[name]`: whose gangs go where
    this one's are (`with`). `has_bounds`: there is a `max_parallel` somewhere."""

    __slots__ = (
        "_programs", "_scope", "_tails", "_upwards", "finally_names", "followers", "has_bounds", "main_names", "names",
        "spec", "tasks", "vertices",
    )  # fmt: skip

    def __init__(self, spec: Spec) -> None:
        share_empties(spec)
        self.spec = spec
        self.tasks: dict[str, Task] = {t.name: t for t in (*spec.tasks, *spec.finally_tasks)}
        self.names: tuple[str, ...] = tuple(self.tasks)
        self.main_names: tuple[str, ...] = self.names[: len(spec.tasks)]
        self.finally_names: tuple[str, ...] = self.names[len(spec.tasks) :]
        self.vertices: dict[str, Vertex] = self._vertices()
        self.followers: dict[str, list[Task]] = {}
        for task in self.tasks.values():
            for name in task.gang.topology_with:
                self.followers.setdefault(name, []).append(task)
        self.has_bounds = bool(spec.max_parallel) or any(task.max_parallel for task in self.tasks.values())
        self._scope: Scope | None = None
        self._tails: list[int] | None = None
        self._upwards: list[tuple[int, str, int, tuple[int, ...]]] | None = None
        self._programs: dict[tuple[str, str, bool, Expect], Program] = {}

    def program(self, task: Task, source: str, *, once: bool, expect: Expect) -> Program:
        """The compiled expression, kept for as long as the document is. `once`: as `when` and `foreach` are seen."""
        key = (task.name, source, once, expect)
        found = self._programs.get(key)
        if found is None:
            self._scope = self._scope or Scope.of_spec(self.spec)
            is_final = self.vertices[task.name].is_final
            base = self._scope
            scope = base.for_task_once(is_final=is_final) if once else base.for_task(task, is_final=is_final)
            found = self._programs[key] = compile_expr(source, scope, expect=expect)
        return found

    def _vertices(self) -> dict[str, Vertex]:
        edges: dict[str, list[tuple[str, Need]]] = {}
        for task in self.tasks.values():
            for need in task.needs:
                edges.setdefault(need.task, []).append((task.name, need))
        main_count = len(self.main_names)
        return {
            name: Vertex(task, order, tuple(edges.get(name, ())), order >= main_count)
            for order, (name, task) in enumerate(self.tasks.items())
        }

    def tails(self) -> list[int]:
        """The longest path from each task to an end, itself included, by declared durations (`tails_by`)."""
        if self._tails is None:
            self._tails = self.tails_by({})
        return self._tails

    def tails_by(self, learnt: dict[str, Learnt]) -> list[int]:
        """The longest path from each task to an end, itself included, in milliseconds, by `Vertex.order`: "highest
        level first" (Hu, Oper. Res. 1961). By declared durations, else those `learnt`; a task of unknown duration
        counts for 1 ms, so that then the number of steps decides."""
        if self._upwards is None:
            self._upwards = list(self._walk_upwards())
        tails = [0] * len(self.names)
        for order, name, duration_ms, children in self._upwards:
            behind_ms = 0
            for child in children:
                behind_ms = max(behind_ms, tails[child])
            if not duration_ms:
                known = learnt.get(name)
                duration_ms = known[3] if known is not None else 0
            tails[order] = behind_ms + (duration_ms or 1)
        return tails

    def _walk_upwards(self) -> Iterator[tuple[int, str, int, tuple[int, ...]]]:
        """(order, task, declared duration, its children), children before their parents."""
        vertices = self.vertices
        left = {name: len(vertex.children) for name, vertex in vertices.items()}
        walk = [name for name in self.names if not left[name]]
        while walk:
            vertex = vertices[walk.pop()]
            task = vertex.spec
            yield vertex.order, task.name, task.timeouts.run_ms, tuple(vertices[c].order for c, _ in vertex.children)
            for need in task.needs:
                left[need.task] -= 1
                if not left[need.task]:
                    walk.append(need.task)

    def handled(self, name: str) -> bool:
        """True when a failure of this task is somebody's business: a `failed` or `done` need (semantics rule 2)."""
        return any(need.outcome != "success" for _, need in self.vertices[name].children)

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
