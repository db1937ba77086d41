"""The keeper: bounds the disk that logs of living replicas take, by giving back the middle of those grown too large.

A log keeps its first quarter and its newest part; what was given back is told in a small file beside it (`dropped`:
"start end", in bytes of the stream), so readers say how much is missing. Offsets never change. Looks twice a second,
only while replicas live, in a thread: a task may write as fast as it likes. Called by `local`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import anyio.to_thread

from ffd.plugins.runtime.processes import punch_hole

LOOK_S = 0.5
BLOCK_BYTES = 4096


class Keeper:
    """`log_bytes`: how much disk one log may take, give or take what is written between two looks."""

    def __init__(self, log_bytes: int) -> None:
        self._log_bytes = max(log_bytes, 16 * BLOCK_BYTES)
        self._folders: dict[Path, None] = {}
        self._task: asyncio.Task[None] | None = None

    def watch(self, folder: Path) -> None:
        self._folders[folder] = None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look_after())

    def unwatch(self, folder: Path) -> None:
        """A last look: a replica may have written much since."""
        if self._folders.pop(folder, "") is None:
            with contextlib.suppress(OSError):
                if _taken_bytes(folder / "log") > self._log_bytes:
                    trim(folder, self._log_bytes)

    def close(self) -> None:
        self._folders.clear()
        if self._task is not None:
            self._task.cancel()

    async def _look_after(self) -> None:
        while self._folders:
            await asyncio.sleep(LOOK_S)
            await anyio.to_thread.run_sync(_trim_all, list(self._folders), self._log_bytes)


def _trim_all(folders: list[Path], log_bytes: int) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # gone meanwhile, or a disk that cannot: the next look tries again
            if _taken_bytes(folder / "log") > log_bytes:
                trim(folder, log_bytes)


def _taken_bytes(log: Path) -> int:
    return os.stat(log).st_blocks * 512


def trim(folder: Path, log_bytes: int) -> None:
    """Give back everything between the first quarter of the limit and its newest half."""
    log = folder / "log"
    size = log.stat().st_size
    start = log_bytes // 4 // BLOCK_BYTES * BLOCK_BYTES
    end = (size - log_bytes // 2) // BLOCK_BYTES * BLOCK_BYTES
    if end <= start:
        return
    draft = folder / "dropped.new"
    draft.write_text(f"{start} {end}")  # said before it is done: a reader never takes zeros for text
    os.replace(draft, folder / "dropped")
    punch_hole(log, start, end)
