"""The graph of needs: is it one that can run? Finds cycles, without recursion, in time linear in the edges.

Called by `compile.py` once all tasks are read.
"""

from __future__ import annotations

from collections.abc import Sequence

from ffd.core.document.faults import Faults, Path
from ffd.core.spec import Task

_CYCLES_SHOWN = 10
_STEPS_SHOWN = 20


def check_cycles(tasks: Sequence[Task], path: Path, faults: Faults) -> None:
    """Add a fault for each independent cycle, `a -> b -> a` read as "a needs b"."""
    if _is_sorted(tasks):
        return
    left = _unfinished(tasks)
    if not left:
        return
    parents = {
        task.name: [need.task for need in task.needs if need.task in left] for task in tasks if task.name in left
    }
    seen: set[str] = set()
    shown = 0
    for start in parents:
        cycle = _follow(start, parents, seen)
        if cycle and shown < _CYCLES_SHOWN:
            shown += 1
            _report(cycle, tasks, path, faults)


def _is_sorted(tasks: Sequence[Task]) -> bool:
    """Every need names an earlier task: the usual document, and then there is no cycle."""
    seen: set[str] = set()
    for task in tasks:
        for need in task.needs:
            if need.task not in seen:
                return False
        seen.add(task.name)
    return True


def _unfinished(tasks: Sequence[Task]) -> dict[str, bool]:
    """Tasks that never become ready when each waits for all of its needs: those on cycles and those behind them."""
    waiting = {task.name: len(task.needs) for task in tasks}
    children: dict[str, list[str]] = {}
    for task in tasks:
        for need in task.needs:
            children.setdefault(need.task, []).append(task.name)
            if need.task not in waiting:
                waiting[task.name] -= 1
    ready = [name for name, count in waiting.items() if count == 0]
    while ready:
        name = ready.pop()
        del waiting[name]
        for child in children.get(name, ()):
            waiting[child] -= 1
            if waiting[child] == 0:
                ready.append(child)
    return dict.fromkeys(waiting, True)


def _follow(start: str, parents: dict[str, list[str]], seen: set[str]) -> list[str]:
    """The cycle that the first needs lead into from `start`; [] when they lead to ground already covered."""
    trail: dict[str, int] = {}
    name = start
    while name not in seen:
        seen.add(name)
        trail[name] = len(trail)
        name = parents[name][0]
    return list(trail)[trail[name] :] if name in trail else []


def _report(cycle: list[str], tasks: Sequence[Task], path: Path, faults: Faults) -> None:
    """Starts at the task that comes first in the document, so that the same cycle always reads the same."""
    order = {task.name: index for index, task in enumerate(tasks)}
    lines = {task.name: task.line for task in tasks}
    first = cycle.index(min(cycle, key=order.__getitem__))
    ring = [*cycle[first:], *cycle[:first]]
    steps = [f"{name} (line {lines[name]})" if lines[name] else name for name in ring]
    if len(steps) > _STEPS_SHOWN:
        steps = [*steps[: _STEPS_SHOWN - 1], f"... {len(steps) - _STEPS_SHOWN + 1} more ..."]
    message = "the tasks wait for each other: " + " -> ".join([*steps, ring[0]])
    faults.add((*path, ring[0]), message, hint="remove one of these needs", code="cycle", key=True)
