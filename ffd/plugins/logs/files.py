"""Logs as the replicas of the local runtime write them: one file each, read by offset. Nothing is copied.

    <state_dir>/runs/<replica's path>.log      all bytes ever written, at their offsets
    <state_dir>/runs/<replica's path>.dropped  "start end": what was given back to the disk

Never here: writing or trimming logs (the runtime), following several at once (`api.logs`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from pathlib import Path

import anyio.to_thread

from ffd.core.model import AttemptId
from ffd.plugins.logs.inotify import Changes
from ffd.plugins.ports import Chunk

LOOK_S = 0.05  # between looks at a log that is not there yet
LOOK_MOST_S = 0.25  # and at one of which no change can be told


class FileLogs:
    """Reads below `<state_dir>/runs`. Unknown logs read as empty. Close it when it is not needed any more."""

    def __init__(self, state_dir: Path) -> None:
        self._root = os.path.abspath(f"{state_dir}/runs")
        self._changes: Changes | None = None  # made when somebody waits for the first time

    async def read(self, attempt: AttemptId, rank: int, offset: int, limit_bytes: int) -> Chunk:
        """Stays in the loop: the page cache answers faster than a thread."""
        return read(self._path(attempt, rank), offset, limit_bytes)

    async def wait(self, attempt: AttemptId, rank: int, offset: int, timeout_ms: int) -> bool:
        path = f"{self._path(attempt, rank)}.log"
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while _size(path) <= offset:
                    await self._change(path, offset)
        except TimeoutError:
            return False
        return True

    async def _change(self, path: str, offset: int) -> None:
        """Return when there may be more than `offset` bytes."""
        if self._changes is None:
            self._changes = Changes()
        changed = self._changes.next_of(path)
        if changed is None:
            await asyncio.sleep(LOOK_MOST_S if os.path.exists(path) else LOOK_S)
        elif _size(path) <= offset:  # asked again: it may have grown before the watch began
            await changed

    async def ranks(self, attempt: AttemptId) -> list[int]:
        """The first has its log beside the directory of the others, which is there for gangs only."""
        first = [0] if os.path.exists(f"{self._path(attempt, 0)}.log") else []
        try:
            names = os.listdir(f"{self._root}/{attempt.path()}")
        except FileNotFoundError:
            return first
        stems = (name.removesuffix(".log") for name in names if name.endswith(".log"))
        return first + sorted(int(stem) for stem in stems if stem.isdecimal())

    async def touched_at_ms(self, attempt: AttemptId) -> int:
        newest = 0
        for rank in await self.ranks(attempt):
            try:
                newest = max(newest, os.stat(f"{self._path(attempt, rank)}.log").st_mtime_ns // 1_000_000)
            except FileNotFoundError:
                continue
        return newest

    async def remove(self, workflow: int) -> None:
        path = f"{self._root}/{workflow}"
        await anyio.to_thread.run_sync(lambda: shutil.rmtree(path, ignore_errors=True))

    async def close(self) -> None:
        if self._changes is not None:
            self._changes.close()
            self._changes = None

    def _path(self, attempt: AttemptId, rank: int) -> str:
        return f"{self._root}/{attempt.replica_path(rank)}"


def read(path: str, offset: int, limit_bytes: int) -> Chunk:
    """A chunk of the log `<path>.log`; see ports.LogStore.read. Every byte given is one that was written: what is given
    back to the disk while we read is seen afterwards, and read again."""
    try:
        fd = os.open(f"{path}.log", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Chunk(max(0, offset), b"", max(0, offset), eof=True)
    try:
        about = os.fstat(fd)
        size = about.st_size if stat.S_ISREG(about.st_mode) else 0
        asked = offset if offset >= 0 else max(0, size + offset)
        dropped = _dropped(path)
        while True:
            begin, most = _readable(asked, limit_bytes, dropped)
            data = os.pread(fd, most, begin) if begin < size else b""
            before, dropped = dropped, _dropped(path)
            if dropped == before:
                break
    finally:
        os.close(fd)
    following = begin + len(data)
    return Chunk(begin, data, following, begin - asked, eof=following >= size)


def _readable(asked: int, limit_bytes: int, dropped: tuple[int, int]) -> tuple[int, int]:
    """(where to begin, how much) so that nothing of the dropped range is read."""
    start, end = dropped
    if start <= asked < end:
        return end, limit_bytes
    return asked, min(limit_bytes, start - asked) if asked < start else limit_bytes


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _dropped(path: str) -> tuple[int, int]:
    """[start, end) of what was given back; an empty range beyond all offsets when nothing was."""
    try:
        with open(f"{path}.dropped", encoding="ascii") as file:
            start, end = file.read().split()
    except FileNotFoundError:
        return 1 << 62, 1 << 62
    return int(start), int(end)
