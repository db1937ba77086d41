"""This machine as a node: cpus, memory, disk, and GPUs as nvidia-smi lists them. Called by `local` when it starts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from ffd.core.model import Node

SMI_TIMEOUT_S = 10.0
SMI = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
SLOTS_PER_CPU, SLOTS_LEAST = 4, 16


def this_machine(root: Path, slot_count: int = 0) -> Node:
    """`slot_count` 0: four replicas a cpu, at least 16."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    model, count, memory_bytes = gpus()
    return Node(
        socket.gethostname().partition(".")[0] or "localhost",
        gpu_type=model,
        gpu_count=count,
        gpu_memory_bytes=memory_bytes,
        cpu_millis=cpus * 1000,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        disk_bytes=shutil.disk_usage(root).total,
        slot_count=slot_count or max(SLOTS_LEAST, SLOTS_PER_CPU * cpus),
    )


def gpus() -> tuple[str, int, int]:
    """(model, count, least memory in bytes) of the GPUs here; ("", 0, 0) without any. The model is the last word that
    people use: `NVIDIA H100 80GB HBM3` is H100."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "", 0, 0
    try:
        found = subprocess.run([tool, *SMI], capture_output=True, check=True, timeout=SMI_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return "", 0, 0
    lines = [line.rpartition(",") for line in found.stdout.decode(errors="replace").splitlines() if "," in line]
    if not lines:
        return "", 0, 0
    memory_mib = min((int(memory) for _, _, memory in lines if memory.strip().isdecimal()), default=0)
    return short_model(lines[0][0]), len(lines), memory_mib << 20


def short_model(name: str) -> str:
    """`NVIDIA A100-SXM4-80GB` -> A100, `Tesla T4` -> T4: the first word that holds a digit, up to its first dash."""
    words = [word for word in name.split() if any(letter.isdigit() for letter in word)]
    return words[0].partition("-")[0] if words else name.strip().replace(" ", "-")
