"""A document as a text graph: what `ffd graph` prints. Up to some dozens of tasks, every task; beyond, groups of
tasks whose
names differ only by their number; when even those are too many, one line per layer.

Pure functions of a Spec. Names come from a validated document, so the text holds no control characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ffd.core.document.faults import clean
from ffd.core.document.lanes import draw, width_count
from ffd.core.document.summary import items_count, layers, summary
from ffd.core.spec import Spec, Task

_DRAWN_NODES = 100
_DRAWN_LANES = 16
_LAYERS_SHOWN = 100
_NAMES_SHOWN = 6
_WHEN_SHOWN = 60
_ASCII = str.maketrans("●│─├┤┼╰╯┴╮╭┬×…", "*|-+++++++++x~")


def render_graph(spec: Spec, *, ascii_only: bool = False) -> str:
    """The graph with a headline, without a final newline. Width follows the names; height is bounded by about 200."""
    figures = summary(spec)
    headline = [
        f"{spec.name}: {_count(figures.tasks_count, 'task')}, {_count(figures.edges_count, 'edge')}",
        f"{_count(figures.depth_count, 'layer')}",
    ]
    if figures.gpus_count:
        headline.append(f"{'' if figures.is_exact else 'at least '}{_count(figures.gpus_count, 'GPU')}")
    lines = [", ".join(headline), "", *_part(spec.tasks)]
    if spec.finally_tasks:
        lines += ["", "finally:", *_part(spec.finally_tasks)]
    text = "\n".join(lines)
    return text.translate(_ASCII) if ascii_only else text


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _part(tasks: tuple[Task, ...]) -> list[str]:
    depth = layers(tasks)
    children: dict[str, list[str]] = {}
    for task in tasks:
        for need in task.needs:
            children.setdefault(need.task, []).append(task.name)
    order = list(depth)
    if len(order) <= _DRAWN_NODES and width_count(order, children) <= _DRAWN_LANES:
        return draw(order, children, {task.name: _label(task) for task in tasks})
    return _grouped(tasks, order, children) or _layered(tasks, depth)


# --- one task ---------------------------------------------------------------------------------------------------------


def _label(task: Task) -> str:
    notes = _notes(task)
    outcomes = [f"if {need.task} {_OUTCOMES[need.outcome]}" for need in task.needs if need.outcome != "success"]
    if task.when:
        when = clean(task.when)
        outcomes.append(f"when {when[:_WHEN_SHOWN]}{'…' if len(when) > _WHEN_SHOWN else ''}")
    return "  ".join([task.name, *([f"[{', '.join(notes)}]"] if notes else []), *outcomes])


_OUTCOMES = {"failed": "failed", "done": "ended"}


def _notes(task: Task) -> list[str]:
    notes: list[str] = []
    if task.is_fanout:
        count = items_count(task)
        notes.append("one item per element" if count is None else _count(count, "item"))
    gang, resources = task.gang, task.resources
    if gang.replicas > 1:
        details = [f"at least {gang.min_replicas}"] if gang.min_replicas else []
        details += [word for word in (gang.topology, gang.launcher) if word not in ("any", "none")]
        notes.append(f"gang of {gang.replicas}" + (f" ({', '.join(details)})" if details else ""))
    if resources.gpu_count:
        model = "/".join(resources.gpu_types) or "GPU"
        notes.append(
            f"{resources.held_gpu_millis / 1000:g}×{model}" + (" each" if gang.replicas > 1 or task.is_fanout else "")
        )
    elif resources.mig_count:
        notes.append(f"{resources.mig_count}×{clean(resources.mig_profile)}")
    return notes


# --- many tasks -------------------------------------------------------------------------------------------------------


def _grouped(tasks: tuple[Task, ...], order: Sequence[str], children: dict[str, list[str]]) -> list[str]:
    """The graph of groups, `shard_0 … shard_249`; [] when groups would need each other in a ring, or are too many."""
    by_name = {task.name: task for task in tasks}
    group_of = {name: (_stem(name), *_notes(by_name[name])) for name in order}
    members: dict[tuple[str, ...], list[str]] = {}
    for name in order:
        members.setdefault(group_of[name], []).append(name)
    if len(members) > _DRAWN_NODES:
        return []
    named = {group: names[0] for group, names in members.items()}
    edges: dict[str, list[str]] = {name: [] for name in named.values()}
    inner: dict[str, int] = dict.fromkeys(named.values(), 0)
    for parent, found in children.items():
        for child in found:
            above, below = named[group_of[parent]], named[group_of[child]]
            if above == below:
                inner[above] += 1
            elif below not in edges[above]:
                edges[above].append(below)
    group_order = _sorted(edges)
    if not group_order or width_count(group_order, edges) > _DRAWN_LANES:
        return []
    labels: dict[str, str] = {}
    for group, names in members.items():
        labels[names[0]] = _group_label(names, list(group[1:]), inner[names[0]], by_name)
    return draw(group_order, edges, labels)


def _group_label(names: list[str], notes: list[str], inner_count: int, by_name: dict[str, Task]) -> str:
    if len(names) == 1:
        return _label(by_name[names[0]])
    ordered = sorted(names, key=lambda name: (len(name), name))
    shown = f"{ordered[0]} … {ordered[-1]}  ×{len(names)}"
    if inner_count:
        notes = [*notes, f"{_count(inner_count, 'edge')} among them"]
    return f"{shown}  [{', '.join(notes)}]" if notes else shown


def _stem(name: str) -> str:
    """The name with each number replaced by one digit: `shard_17` and `shard_3` belong together."""
    return re.sub(r"\d+", "0", name)


def _sorted(edges: dict[str, list[str]]) -> list[str]:
    """Parents first; [] when there is a ring."""
    left = dict.fromkeys(edges, 0)
    for found in edges.values():
        for child in found:
            left[child] += 1
    ready = [name for name, count in left.items() if count == 0]
    ordered: list[str] = []
    while ready:
        name = ready.pop(0)
        ordered.append(name)
        for child in edges[name]:
            left[child] -= 1
            if left[child] == 0:
                ready.append(child)
    return ordered if len(ordered) == len(edges) else []


def _layered(tasks: tuple[Task, ...], depth: dict[str, int]) -> list[str]:
    """One line per layer, the middle left out when there are too many."""
    found: dict[int, list[str]] = {}
    for task in tasks:
        found.setdefault(depth[task.name], []).append(task.name)
    lines: list[str] = []
    for layer, names in sorted(found.items()):
        shown = ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
        lines.append(f"layer {layer + 1:>4}  {_count(len(names), 'task'):>12}: {shown}")
    if len(lines) > _LAYERS_SHOWN:
        half = _LAYERS_SHOWN // 2
        lines = [*lines[:half], f"… {len(lines) - 2 * half} more layers …", *lines[-half:]]
    return lines
