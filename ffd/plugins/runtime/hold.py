"""Run as a program: waits until nobody holds the lock on a file, here the record of a gang's rank 0, and ends with 0.

The replicas of an MPI gang but the first do this: mpirun in rank 0 starts the processes for all. Needs no daemon.
"""

from __future__ import annotations

import fcntl
import os
import sys


def main(path: str) -> None:
    """A record that is not there any more: its replica is long over."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    fcntl.flock(fd, fcntl.LOCK_SH)
    os.close(fd)


if __name__ == "__main__":
    main(sys.argv[1])
