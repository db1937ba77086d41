"""Fan-out: how many items a task has and what each is bound to. Order: `foreach` outermost, then the matrix keys in
document order, the last key fastest. Nothing is materialised per item. Called by `core.values`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ffd.core.spec import Task


def item_count(task: Task, foreach: Sequence[Any] | None) -> int:
    """Product of the list's length and the sizes of the matrix; 1 for a plain task."""
    count = 1 if foreach is None else len(foreach)
    for values in task.matrix.values():
        count *= len(values)
    return count


def binding(task: Task, foreach: Sequence[Any] | None, index: int) -> dict[str, Any]:
    """`{"item": ..., "matrix": {...}}` of item `index`, with the keys that the task has."""
    bound: dict[str, Any] = {}
    if task.matrix:
        picked: dict[str, Any] = {}
        for key in reversed(task.matrix):
            index, at = divmod(index, len(task.matrix[key]))
            picked[key] = task.matrix[key][at]
        bound["matrix"] = {key: picked[key] for key in task.matrix}
    if foreach is not None:
        bound["item"] = foreach[index]
    return bound
