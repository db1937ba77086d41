"""Gangs on one machine: how replicas find each other, and what `launcher: torchrun | mpi` makes of a command.

All replicas run here, whatever node they were placed on (pretend nodes are names), so every host is this one. Called by
`prepare`. Never here: files of a replica, apart from the gang's port.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from ffd.core.effects import Launch

HOST = "127.0.0.1"
_HOLD = str(Path(__file__).with_name("hold.py"))


def variables(order: Launch, rank: int, folder: str) -> dict[str, str]:
    """The rendezvous of a gang; the PET_ names are those that torchrun reads. `folder` is the attempt's."""
    nodes, per_node = len(order.places), order.resources.gpu_count or 1
    common = {
        "MASTER_ADDR": HOST,
        "MASTER_PORT": _port(folder),
        "NNODES": str(nodes),
        "NODE_RANK": str(rank),
        "NPROC_PER_NODE": str(per_node),
    }
    pet = {f"PET_{name}": value for name, value in common.items()}
    return {**common, **pet, "WORLD_SIZE": str(nodes * per_node), "FFD_HOSTS": ",".join([HOST] * nodes)}


def _port(folder: str) -> str:
    """A port that was free when the attempt's first replica was prepared; kept in a file, so that all ranks agree, also
    those that are launched by a later daemon."""
    path = f"{folder}/port"
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        pass
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = str(probe.getsockname()[1])
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.write(port)
    os.replace(f"{path}.new", path)
    return port


def mpi_command(command: tuple[str, ...], rank: int, world_size: str, leader_record: str) -> tuple[str, ...]:
    """Rank 0 runs mpirun, which starts all processes of the gang; the other replicas hold their places until rank 0 is
    gone, and then succeed."""
    if rank == 0:
        return ("mpirun", "-np", world_size, "--host", f"{HOST}:{world_size}", *command)
    return (sys.executable, "-I", "-S", _HOLD, leader_record)
