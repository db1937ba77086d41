"""Amounts of resources: their units, what a gang holds, what nodes have, and how people write them.

Resources and their units: `gpus` and `gpus/<model>` in thousandths of a GPU (a MIG slice is its part of a GPU, and
as 1000 of `gpus/<profile>`), `cpus` in thousandths, `memory` and `storage` in bytes, `pods` (replicas) and `workflows`
(live ones) as counts. *Amounts* are dicts {resource: amount > 0}. Pure; never here: who holds them (core.tenancy).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from ffd.core.document.scalars import Wrong, size_bytes
from ffd.core.model import Node
from ffd.core.spec import Resources
from ffd.errors import Refusal

Amounts = dict[str, int]

BYTES = frozenset({"memory", "storage"})
COUNTS = frozenset({"pods", "workflows"})
MODEL_PREFIX: Final = "gpus/"
RESOURCES = ("gpus", "cpus", "memory", "storage", "pods", "workflows")
GPU_MILLIS: Final = 1_000
GPU_SLICES = 7  # compute slices of a GPU that is cut by MIG
LARGEST = 2.0**60  # of any amount, in its unit


def shift(books: dict[str, int], amounts: Amounts, sign: int) -> None:
    """Add (`sign` 1), or take away (-1); what becomes nothing has no entry."""
    for resource, amount in amounts.items():
        left = books.get(resource, 0) + (amount if sign > 0 else -amount)
        if left:
            books[resource] = left
        else:
            books.pop(resource, None)


def amounts(ask: Resources, replicas: int) -> dict[str, int]:
    """What a gang of these replicas holds, whatever GPU models it gets."""
    found = {"pods": replicas}
    if ask.gpu_count:
        found["gpus"] = replicas * ask.gpu_count * ask.gpu_millis
    elif ask.mig_count:
        found["gpus"] = replicas * ask.mig_count * slice_millis(ask.mig_profile)
        found[f"{MODEL_PREFIX}{ask.mig_profile}"] = replicas * ask.mig_count * GPU_MILLIS
    if ask.cpu_millis:
        found["cpus"] = replicas * ask.cpu_millis
    if ask.memory_bytes or ask.shm_bytes:
        found["memory"] = replicas * ask.held_memory_bytes
    if ask.disk_bytes:
        found["storage"] = replicas * ask.disk_bytes
    return found


def amounts_on(ask: Resources, replicas: int, models: tuple[str, ...]) -> dict[str, int]:
    """What a placed gang holds. `models` as in model.Attempt: by rank, or one for all, or () without GPUs."""
    found = amounts(ask, replicas)
    each = ask.gpu_count * ask.gpu_millis * (replicas if len(models) == 1 else 1)
    for model in models if each else ():
        if model:
            shift(found, {f"{MODEL_PREFIX}{model}": each}, 1)
    return found


def amount_text(resource: str, amount: int) -> str:
    """An amount for people: `64`, `0.5`, `512.0 GiB`."""
    if resource in BYTES:
        return f"{amount / 2**30:.1f} GiB"
    return str(amount) if resource in COUNTS else f"{amount / 1000:g}"


def slice_millis(profile: str) -> int:
    """How much of a GPU one MIG slice is: `3g.40gb` has three of its seven compute slices."""
    slices = profile.partition("g")[0]
    return GPU_MILLIS * min(int(slices), GPU_SLICES) // GPU_SLICES if slices.isdecimal() else GPU_MILLIS


def capacity_of(nodes: Sequence[Node]) -> dict[str, int]:
    """What these nodes have together. There may be many, of few sizes."""
    sizes = list(map(_size_of, nodes))
    of_size = dict(zip(sizes, nodes, strict=True))
    capacity: dict[str, int] = {}
    for size, count in Counter(sizes).items():
        shift(capacity, {resource: count * amount for resource, amount in _capacity_of(of_size[size]).items()}, 1)
    return capacity


def _size_of(node: Node) -> tuple[object, ...]:
    """Nodes of one size add the same to the capacity."""
    sizes = (node.gpu_type, node.gpu_count, node.cpu_millis, node.memory_bytes, node.disk_bytes, node.slot_count)
    return (*sizes, *sorted(node.mig.items())) if node.mig else sizes


def _capacity_of(node: Node) -> dict[str, int]:
    gpus = node.gpu_count * GPU_MILLIS
    slices = sum(count * slice_millis(profile) for profile, count in node.mig.items())
    found = {
        "gpus": gpus + slices, "cpus": node.cpu_millis, "memory": node.memory_bytes, "storage": node.disk_bytes,
        "pods": node.slot_count,
    }  # fmt: skip
    if node.gpu_type:
        found[f"{MODEL_PREFIX}{node.gpu_type}"] = gpus
    for profile, count in node.mig.items():
        found[f"{MODEL_PREFIX}{profile}"] = count * GPU_MILLIS
    return {resource: amount for resource, amount in found.items() if amount}


def amount_of(resource: str, value: Any) -> int:
    """An amount as people write it, in the resource's unit. Refusal: invalid."""
    field = f"quotas.{resource[:80]}"
    try:
        if resource in BYTES and isinstance(value, str):
            return size_bytes(value)
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else -1.0
        scaled = number if resource in COUNTS or resource in BYTES else number * 1_000
        if 0 <= scaled <= LARGEST and abs(scaled - round(scaled)) < 1e-6:
            return round(scaled)
    except (ValueError, OverflowError):
        pass
    except Wrong as wrong:
        raise Refusal(f"{resource[:80]}: {wrong.message}", field=field) from None
    what = "a number, to thousandths"
    if resource in COUNTS or resource in BYTES:
        what = "a whole number" if resource in COUNTS else 'bytes, or a size as "512Gi"'
    raise Refusal(f"{resource[:80]}: expected {what}, 0 or more, got {str(value)[:80]!r}", field=field)
