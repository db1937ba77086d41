"""Pretend nodes: `16x8:H100` is sixteen nodes of eight H100. For laptops and demos: control is real, the GPUs are not.

Called by the runtimes. Never here: what runs on them.
"""

from __future__ import annotations

import re

from ffd.core.model import Node
from ffd.errors import Refusal

NODES_MOST, GPUS_MOST = 20_000, 64
NODES_PER_RACK, RACKS_PER_BLOCK, NUMA_NODES = 16, 4, 2

_FORM = re.compile(r"([0-9]{1,5})x([0-9]{1,2})(?::([A-Za-z0-9._-]{1,40}))?")


def parse_pretend(text: str) -> tuple[Node, ...]:
    """`NODESxGPUS[:MODEL]` -> nodes named `node-0000` ..., sixteen to a rack, four racks to a block; each has
    128 cpus, 1 TiB of memory and two NUMA nodes. Raises Refusal that says what was expected."""
    found = _FORM.fullmatch(text)
    nodes, gpus = (int(found[1]), int(found[2])) if found else (0, 0)
    if not found or not 1 <= nodes <= NODES_MOST or gpus > GPUS_MOST:
        raise Refusal(
            f"pretend nodes are {text!r}, expected NODESxGPUS:MODEL",
            field="daemon.pretend", hint="for example 16x8:H100, or 4x0 for nodes without GPUs",
        )  # fmt: skip
    return tuple(_node(number, gpus, found[3] or "GPU") for number in range(nodes))


def _node(number: int, gpus: int, model: str) -> Node:
    rack, block = number // NODES_PER_RACK, number // (NODES_PER_RACK * RACKS_PER_BLOCK)
    return Node(
        f"node-{number:04}", gpu_type=model if gpus else "", gpu_count=gpus, gpu_memory_bytes=80 << 30 if gpus else 0,
        cpu_millis=128_000, memory_bytes=1 << 40, disk_bytes=8 << 40, rdma=True,
        numa=tuple(index * NUMA_NODES // gpus for index in range(gpus)),
        labels={"rack": f"rack-{rack:03}", "block": f"block-{block:02}", "nvlink": f"node-{number:04}"},
    )  # fmt: skip
