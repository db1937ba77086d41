"""The cluster of a simulation: `80x8:H100` as the pretend nodes of the daemon, or a file that lists groups of nodes:

    nodes:
      - {name: h100, count: 64, gpus: H100:8, gpu_memory: 80Gi, cpus: 128, memory: 1Ti, rdma: true,
         labels: {zone: a}, domains: {rack: 8, block: 32}}        # 8 nodes to a rack, 32 to a block
      - {name: cpu, count: 16, cpus: 64, memory: 256Gi}

Nodes are called `NAME-0000` and so on; domains are counted within their group: `NAME-rack-000`. Called by `scenario`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from ffd.api.source import Parsed
from ffd.core.document.faults import Faults
from ffd.core.document.raw import Count, Positive, Raw, Size
from ffd.core.document.scalars import Wrong, cpu_millis, gpus, size_bytes
from ffd.core.model import Node
from ffd.errors import Refusal
from ffd.plugins.pretend import NODES_MOST, parse_pretend
from ffd.simulate.files import STDIN, read_mapping

T = TypeVar("T")
Name = Annotated[str, Meta(description="a name")]


class RawGroup(Raw, frozen=True, gc=False):
    """Nodes that are all alike."""

    name: Name
    count: Positive | UnsetType = UNSET
    gpus: int | str | UnsetType = UNSET
    gpu_memory: Size | UnsetType = UNSET
    cpus: int | float | str | UnsetType = UNSET
    memory: Size | UnsetType = UNSET
    disk: Size | UnsetType = UNSET
    slots: Positive | UnsetType = UNSET
    rdma: bool | UnsetType = UNSET
    labels: dict[str, str] | UnsetType = UNSET
    domains: dict[str, Positive] | UnsetType = UNSET
    mig: dict[str, Count] | UnsetType = UNSET
    taints: list[str] | UnsetType = UNSET


class RawInventory(Raw, frozen=True, gc=False):
    nodes: list[RawGroup]


def read_nodes(text: str) -> tuple[Node, ...]:
    """Nodes of `--nodes`: a file, or the pretend form. Raises InputFaults, or a Refusal that says what is expected."""
    if text != STDIN and not Path(text).exists():
        try:
            return parse_pretend(text)
        except Refusal:
            hint = "for example 16x8:H100; or the name of a YAML file with `nodes:`"
            message = f"--nodes is `{text}`: neither NODESxGPUS:MODEL nor a file"
            raise Refusal(message, field="--nodes", hint=hint) from None
    found: tuple[Node, ...] = read_mapping(text, RawInventory, _nodes)
    return found


def more_nodes(text: str, there: tuple[Node, ...]) -> tuple[Node, ...]:
    """Nodes of `--add-nodes`, under names (and in domains) that are not there yet."""
    taken = {node.name for node in there}
    added = read_nodes(text)
    prefixes = ("added", *(f"added{k}" for k in range(2, NODES_MOST)))
    prefix = next(name for name in prefixes if f"{name}-{added[0].name}" not in taken)
    return tuple(
        replace(
            node,
            name=f"{prefix}-{node.name}",
            labels={level: f"{prefix}-{domain}" for level, domain in node.labels.items()},
        )
        for node in added
    )


def _nodes(raw: RawInventory, faults: Faults, parsed: Parsed) -> tuple[Node, ...]:
    found: list[Node] = []
    names: set[str] = set()
    for index, group in enumerate(raw.nodes):
        if group.name in names:
            faults.add(("nodes", index, "name"), f"two groups are called `{group.name}`")
        names.add(group.name)
        count = 1 if group.count is UNSET else group.count
        if len(found) + count > NODES_MOST:
            faults.add(("nodes", index), f"more than {NODES_MOST} nodes in all (limit NODES_MOST)", code="limit")
            return ()
        found += _group(group, count, index, faults)
    if not found:
        faults.add(("nodes",), "no nodes")
    return tuple(sorted(found, key=lambda node: node.name))


def _group(group: RawGroup, count: int, index: int, faults: Faults) -> list[Node]:
    read = _Fields(group, index, faults)
    gpu_count, model = read("gpus", gpus, (0, ""))
    labels = {} if group.labels is UNSET else group.labels
    domains = {} if group.domains is UNSET else group.domains
    like = Node(
        group.name,
        gpu_type=model or ("GPU" if gpu_count else ""),
        gpu_count=gpu_count,
        gpu_memory_bytes=read("gpu_memory", size_bytes, 0),
        cpu_millis=read("cpus", cpu_millis, 0),
        memory_bytes=read("memory", size_bytes, 0),
        disk_bytes=read("disk", size_bytes, 0),
        slot_count=110 if group.slots is UNSET else group.slots,
        rdma=group.rdma is True,
        mig={} if group.mig is UNSET else group.mig,
        taints=() if group.taints is UNSET else tuple(sorted(group.taints)),
    )
    found = []
    for number in range(count):
        own = {level: f"{group.name}-{level}-{number // size:03}" for level, size in domains.items()}
        found.append(replace(like, name=f"{group.name}-{number:04}", labels={**labels, **own}))
    return found


class _Fields:
    """Reads the fields of one group that have a grammar of their own."""

    def __init__(self, group: RawGroup, index: int, faults: Faults) -> None:
        self._group, self._index, self._faults = group, index, faults

    def __call__(self, field: str, parse: Callable[[object], T], missing: T) -> T:
        value = getattr(self._group, field)
        if value is UNSET:
            return missing
        try:
            return parse(value)
        except Wrong as wrong:
            self._faults.add(("nodes", self._index, field), wrong.message, hint=wrong.hint)
            return missing
