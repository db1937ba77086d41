"""Directories of replicas, made in advance: making one can cost as much as starting a process (ext4 looks long for a
free inode when many files were just deleted), renaming one costs nothing.

    <root>/spare/     empty directories; what a daemon leaves there the next one uses

Called by `local` and `prepare`. Never here: what the directories are for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections import deque

import anyio.to_thread

SPARE_COUNT = 16  # directories in stock
SPARE_LEAST_COUNT = 8  # below this the stock is filled up


class Folders:
    """Below `root`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._spare = f"{root}/spare"
        self._stock: deque[str] = deque()
        self._filling: asyncio.Task[None] | None = None

    def open(self) -> None:
        """OSError when the directory cannot be made."""
        os.makedirs(self._spare, mode=0o700, exist_ok=True)
        self._stock.extend(f"{self._spare}/{name}" for name in os.listdir(self._spare)[:SPARE_COUNT])

    def make(self, path: str) -> None:
        """See to it that the directory is there, with its parents; for this user only. OSError when it cannot be."""
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            self.make(parent)
        while self._stock:
            with contextlib.suppress(OSError):  # another daemon took it
                os.rename(self._stock.popleft(), path)
                return
        os.makedirs(path, mode=0o700, exist_ok=True)

    def fill(self) -> None:
        """Fill up the stock, in a thread, if it is low. Needs a running event loop."""
        if len(self._stock) < SPARE_LEAST_COUNT and (self._filling is None or self._filling.done()):
            self._filling = asyncio.get_running_loop().create_task(self._fill())

    async def _fill(self) -> None:
        with contextlib.suppress(OSError):  # a full disk: the next who needs one hears of it
            await anyio.to_thread.run_sync(self._make_spares)

    def _make_spares(self) -> None:
        while len(self._stock) < SPARE_COUNT:
            self._stock.append(tempfile.mkdtemp(dir=self._spare))

    async def close(self) -> None:
        if self._filling is not None:
            await asyncio.gather(self._filling, return_exceptions=True)
