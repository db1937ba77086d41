"""Logs as the local runtime's replicas write them: one file each, read by offset. Nothing is copied.

    <state_dir>/runs/<workflow>/<task>/<item>/<attempt>/<rank>/log     and `dropped`: "start end" of what was given back

Never here: writing or trimming logs (the runtime), following several at once (`api.logs`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import anyio.to_thread

from ffd.core.model import AttemptId
from ffd.plugins.ports import Chunk

LOOK_FIRST_S, LOOK_MOST_S = 0.02, 0.25  # between looks at a file somebody waits for: files do not call


class FileLogs:
    """Reads below `<state_dir>/runs`. Unknown logs read as empty."""

    def __init__(self, state_dir: Path) -> None:
        self._root = Path(state_dir) / "runs"

    async def read(self, attempt: AttemptId, rank: int, offset: int, limit_bytes: int) -> Chunk:
        """Small reads stay in the loop: the page cache answers faster than a thread."""
        return read(self._root / attempt.path() / str(rank), offset, limit_bytes)

    async def wait(self, attempt: AttemptId, rank: int, offset: int, timeout_ms: int) -> bool:
        log = self._root / attempt.path() / str(rank) / "log"
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + timeout_ms / 1000, LOOK_FIRST_S
        while _size(log) <= offset:
            left = until - loop.time()
            if left <= 0:
                return False
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, LOOK_MOST_S)
        return True

    async def ranks(self, attempt: AttemptId) -> list[int]:
        try:
            names = os.listdir(self._root / attempt.path())
        except FileNotFoundError:
            return []
        return sorted(int(name) for name in names if name.isdecimal())

    async def touched_at_ms(self, attempt: AttemptId) -> int:
        folder = self._root / attempt.path()
        newest = 0
        for rank in await self.ranks(attempt):
            try:
                newest = max(newest, os.stat(folder / str(rank) / "log").st_mtime_ns // 1_000_000)
            except FileNotFoundError:
                continue
        return newest

    async def remove(self, workflow: int) -> None:
        await anyio.to_thread.run_sync(lambda: shutil.rmtree(self._root / str(workflow), ignore_errors=True))


def read(folder: Path, offset: int, limit_bytes: int) -> Chunk:
    """A chunk of one log; see ports.LogStore.read."""
    log = folder / "log"
    size = _size(log)
    if offset < 0:
        offset = max(0, size + offset)
    if offset >= size:
        return Chunk(offset, b"", offset, eof=True)
    start, end = _dropped(folder)
    if start <= offset < end:
        after = read(folder, end, limit_bytes)
        missing = end - offset
        return Chunk(after.offset, after.data, after.next_offset, missing, after.eof)
    most = min(limit_bytes, start - offset) if offset < start else limit_bytes
    with log.open("rb") as file:
        file.seek(offset)
        data = file.read(most)
    return Chunk(offset, data, offset + len(data), eof=offset + len(data) >= size)


def _size(log: Path) -> int:
    try:
        return os.stat(log).st_size
    except FileNotFoundError:
        return 0


def _dropped(folder: Path) -> tuple[int, int]:
    """[start, end) of what was given back; an empty range when nothing was."""
    try:
        start, end = (folder / "dropped").read_text().split()
    except FileNotFoundError:
        return 1 << 62, 1 << 62
    return int(start), int(end)
