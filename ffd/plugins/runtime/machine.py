"""This machine as a node: cpus, memory, disk; GPUs, their MIG slices and NUMA nodes as nvidia-smi and the kernel tell.

Called by `local` when it starts. Never here: which replica gets which of them.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import msgspec

from ffd.core.model import Node, Place

SMI_TIMEOUT_S = 10.0
SMI = ("--query-gpu=name,memory.total,index,pci.bus_id,mig.mode.current", "--format=csv,noheader,nounits")
PCI_DEVICES = Path("/sys/bus/pci/devices")
SLOTS_PER_CPU, SLOTS_LEAST = 4, 16

_SLICE = re.compile(r"\s+MIG\s+(\S+)\s+Device\s+\d+:\s+\(UUID:\s*([^\s)]+)\)")


class Devices(msgspec.Struct, frozen=True):
    """What the driver calls the GPUs and MIG slices that the core knows by index. Empty: by their indices."""

    gpus: tuple[str, ...] = ()
    mig: dict[str, tuple[str, ...]] = {}  # profile -> UUIDs

    def visible(self, place: Place, profile: str) -> str:
        """CUDA_VISIBLE_DEVICES of a replica. `profile`: of the slices that it asks for."""
        slices = self.mig.get(profile, ())
        found = [self.gpus[index] if index < len(self.gpus) else str(index) for index in place.gpus]
        found += [slices[index] if index < len(slices) else f"MIG-{profile}-{index}" for index in place.mig]
        return ",".join(found)


class Gpu(msgspec.Struct, frozen=True):
    """One line of nvidia-smi. `numa` -1 = not known."""

    model: str
    memory_bytes: int
    index: str
    numa: int
    is_cut: bool  # into MIG slices


def this_machine(root: Path, slot_count: int = 0) -> tuple[Node, Devices]:
    """`slot_count` 0: four replicas a cpu, at least 16."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    every = gpus()
    whole = [gpu for gpu in every if not gpu.is_cut]
    slices = mig_slices() if len(whole) < len(every) else {}
    numa = tuple(gpu.numa for gpu in whole)
    node = Node(
        socket.gethostname().partition(".")[0] or "localhost",
        gpu_type=every[0].model if every else "",
        gpu_count=len(whole),
        gpu_memory_bytes=min((gpu.memory_bytes for gpu in every), default=0),
        cpu_millis=cpus * 1000,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        disk_bytes=shutil.disk_usage(root).total,
        slot_count=slot_count or max(SLOTS_LEAST, SLOTS_PER_CPU * cpus),
        mig={profile: len(ids) for profile, ids in slices.items()},
        numa=numa if min(numa, default=-1) >= 0 else (),
    )
    return node, Devices(tuple(gpu.index for gpu in whole), slices)


def gpus() -> list[Gpu]:
    """The GPUs here, in the driver's order; none without a driver that answers."""
    found = []
    for number, line in enumerate(_told(*SMI)):
        name, memory_mib, index, bus, mig = (*(part.strip() for part in line.split(",")), "", "", "", "")[:5]
        if memory_mib:
            memory_bytes = int(memory_mib) << 20 if memory_mib.isdecimal() else 0
            found.append(Gpu(short_model(name), memory_bytes, index or str(number), _numa(bus), mig == "Enabled"))
    return found


def mig_slices() -> dict[str, tuple[str, ...]]:
    """Profile -> UUIDs of its slices, in the driver's order."""
    found: dict[str, tuple[str, ...]] = {}
    for line in _told("-L"):
        match = _SLICE.match(line)
        if match:
            found[match[1]] = (*found.get(match[1], ()), match[2])
    return found


def _told(*options: str) -> list[str]:
    """Lines that nvidia-smi says; none when it is not there or fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        found = subprocess.run([tool, *options], capture_output=True, check=True, timeout=SMI_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return []
    return found.stdout.decode(errors="replace").splitlines()


def _numa(bus: str) -> int:
    """Of `00000000:07:00.0`, as the kernel has it."""
    try:
        return int((PCI_DEVICES / bus.lower().removeprefix("0000") / "numa_node").read_text())
    except (OSError, ValueError):
        return -1


def short_model(name: str) -> str:
    """`NVIDIA A100-SXM4-80GB` -> A100, `Tesla T4` -> T4: the first word that holds a digit, up to its first dash."""
    words = [word for word in name.split() if any(letter.isdigit() for letter in word)]
    return words[0].partition("-")[0] if words else name.strip().replace(" ", "-")
