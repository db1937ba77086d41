"""A document in figures: tasks, edges, items, GPUs, the largest gang. What `ffd explain` shows above the graph.

Pure functions of a Spec. Called by the CLI and by `graph.py`.
"""

from __future__ import annotations

import msgspec

from ffd.core.expr import ExprError, Scope, compile_expr, evaluate
from ffd.core.spec import Spec, Task


class Summary(msgspec.Struct, frozen=True):
    """GPUs are counted as if every item of every task ran at once. `is_exact` is false when a `foreach` depends on
    params or outputs: its task then counts as one item."""

    tasks_count: int
    finally_count: int
    edges_count: int
    depth_count: int  # tasks on the longest path
    items_count: int
    gpus_count: int
    largest_gang_task: str
    largest_gang_replicas_count: int
    largest_gang_gpus_count: int
    is_exact: bool


def summary(spec: Spec) -> Summary:
    tasks = (*spec.tasks, *spec.finally_tasks)
    items = {task.name: items_count(task) for task in tasks}
    largest = max(tasks, key=lambda task: (task.gang.replicas * _gpus_count(task), task.gang.replicas), default=None)
    replicas = largest.gang.replicas if largest else 0
    return Summary(
        tasks_count=len(spec.tasks),
        finally_count=len(spec.finally_tasks),
        edges_count=sum(len(task.needs) for task in tasks),
        depth_count=len(set(layers(spec.tasks).values())) + len(set(layers(spec.finally_tasks).values())),
        items_count=sum(count or 1 for count in items.values()),
        gpus_count=sum(_gpus_count(task) * task.gang.replicas * _or_one(items[task.name]) for task in tasks),
        largest_gang_task=largest.name if largest else "",
        largest_gang_replicas_count=replicas,
        largest_gang_gpus_count=replicas * _gpus_count(largest) if largest else 0,
        is_exact=all(count is not None for count in items.values()),
    )


def _gpus_count(task: Task) -> int:
    return task.resources.gpu_count or task.resources.mig_count


def _or_one(count: int | None) -> int:
    return 1 if count is None else count


def items_count(task: Task) -> int | None:
    """Items of the task as far as the document tells; None when only a run can tell."""
    count = 1
    for values in task.matrix.values():
        count *= len(values)
    if task.foreach is None:
        return count
    if isinstance(task.foreach, tuple):
        return count * len(task.foreach)
    try:
        program = compile_expr(task.foreach.expressions[0], Scope(), expect="list")
        return count * len(evaluate(program, {}))
    except ExprError:
        return None


def layers(tasks: tuple[Task, ...]) -> dict[str, int]:
    """Layer of each task, from 0: one more than the deepest task it needs. In an order where parents come first, and
    which is the document's order as far as that allows."""
    by_name = {task.name: task for task in tasks}
    left = {task.name: sum(1 for need in task.needs if need.task in by_name) for task in tasks}
    children: dict[str, list[str]] = {}
    for task in tasks:
        for need in task.needs:
            children.setdefault(need.task, []).append(task.name)
    found: dict[str, int] = {}
    for task in tasks:
        ready = [task.name] if left[task.name] == 0 and task.name not in found else []
        while ready:
            name = ready.pop()
            parents = [found[need.task] for need in by_name[name].needs if need.task in by_name]
            found[name] = max(parents, default=-1) + 1
            later: list[str] = []
            for child in children.get(name, ()):
                left[child] -= 1
                if left[child] == 0:
                    later.append(child)
            ready += reversed(later)
    return found
