"""The keeper: bounds the disk that logs of living replicas take, by giving back the middle of those grown too large.

A log keeps its first quarter and its newest part, at least half of the limit; what was given back is told in a small
file beside it (`<rank>.dropped`: "start end", bytes of the stream), so readers say how much is missing. Offsets never
change. The task writes as fast as it likes and never waits: the keeper looks in a thread, twice a second and more often
while some log grows fast, so a log may pass its limit by what is written between two looks. It sleeps while no replica
lives. Called by `local`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

import anyio.to_thread

from ffd.plugins.runtime.processes import punch_hole

LOOK_LEAST_S, LOOK_MOST_S = 0.05, 0.5
LOOKS_PER_FILL = 8  # looks in the time in which the fastest log would write as much as the limit
BLOCK_BYTES = 4096
LEAST_BYTES = 16 * BLOCK_BYTES  # a smaller limit is taken as this


class Keeper:
    """`log_bytes`: how much disk one log may take."""

    def __init__(self, log_bytes: int) -> None:
        self._log_bytes = max(log_bytes, LEAST_BYTES)
        self._sizes: dict[str, int] = {}  # of each log in care, as it was at the last look
        self._task: asyncio.Task[None] | None = None

    def watch(self, log: str) -> None:
        """Take a log into care, until `unwatch`."""
        self._sizes[log] = 0
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look_after())

    def unwatch(self, log: str) -> None:
        """Its replica is gone. A last look, for what it wrote since the one before."""
        if self._sizes.pop(log, -1) >= 0:
            trim(log, self._log_bytes)

    async def close(self) -> None:
        """Let go of all logs."""
        self._sizes.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look_after(self) -> None:
        pause_s = LOOK_LEAST_S
        while self._sizes:
            await asyncio.sleep(pause_s)
            sizes = await anyio.to_thread.run_sync(_trim_all, list(self._sizes), self._log_bytes)
            grown = max((size - self._sizes[log] for log, size in sizes.items() if log in self._sizes), default=0)
            self._sizes.update((log, size) for log, size in sizes.items() if log in self._sizes)
            fill_s = pause_s * self._log_bytes / max(grown, 1)
            pause_s = min(max(fill_s / LOOKS_PER_FILL, LOOK_LEAST_S), LOOK_MOST_S)


def _trim_all(logs: Iterable[str], log_bytes: int) -> dict[str, int]:
    return {log: trim(log, log_bytes) for log in logs}


def trim(log: str, log_bytes: int) -> int:
    """Where a log takes more disk than it may, give back everything between its first quarter and its newest half of
    the limit. Returns its size, 0 for one that is not there. A disk that does not let us is tried again."""
    try:
        about = os.stat(log)
        if about.st_blocks * 512 > log_bytes:
            start = log_bytes // 4 // BLOCK_BYTES * BLOCK_BYTES
            end = (about.st_size - log_bytes // 2) // BLOCK_BYTES * BLOCK_BYTES
            if end > start:
                _give_back(log, start, end)
        return about.st_size
    except OSError:
        return 0


def _give_back(log: str, start: int, end: int) -> None:
    """Said before it is done: a reader never takes a hole for zeros. Where no hole can be made, the log keeps its size:
    then it is unsaid."""
    told = f"{log.removesuffix('.log')}.dropped"
    with open(f"{told}.new", "w", encoding="ascii") as file:
        file.write(f"{start} {end}")
    os.replace(f"{told}.new", told)
    if not punch_hole(log, start, end):
        os.unlink(told)
