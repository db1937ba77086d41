"""Directories of replicas, made in advance: on some file systems making one costs as much as starting a process (ext4
without a journal looks long for a free inode while many files were just deleted), renaming one costs nothing.

    <root>/spare/     empty directories; what a daemon leaves there the next one uses

How many are in stock: `warden.Demand`.

Called by `local` and `prepare`. Never here: what the directories are for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections import deque

import anyio.to_thread

from ffd.plugins.runtime import warden
from ffd.plugins.runtime.warden import Demand

FEW_COUNT, LEAST_COUNT, MOST_COUNT = 8, 16, 1024  # in stock; with few, some are made at once


class Folders:
    """Below `root`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._spare = f"{root}/spare"
        self._stock: deque[str] = deque()
        self._demand = Demand(LEAST_COUNT, MOST_COUNT)
        self._filling: asyncio.Task[None] | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._is_closed = False

    def open(self) -> None:
        """OSError when the directory cannot be made."""
        os.makedirs(self._spare, mode=0o700, exist_ok=True)
        self._stock.extend(f"{self._spare}/{name}" for name in os.listdir(self._spare)[:MOST_COUNT])

    def make(self, path: str) -> None:
        """See to it that the directory is there, with its parents; for this user only. OSError when it cannot be."""
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            self.make(parent)
        self._demand.ask()
        while self._stock:
            with contextlib.suppress(OSError):  # another daemon took it
                os.rename(self._stock.popleft(), path)
                return
        os.makedirs(path, mode=0o700, exist_ok=True)

    def fill(self) -> None:
        """Fill up the stock, in a thread, as soon as there is rest; if it is low, at once. Needs a running event
        loop."""
        if len(self._stock) < FEW_COUNT:
            self._start_filling()
        if self._resting is None and len(self._stock) < self._demand.wanted_count:
            self._rest()

    def _rest(self) -> None:
        self._resting = asyncio.get_running_loop().call_later(warden.REST_MS / 1000, self._rested)

    def _rested(self) -> None:
        if self._is_filling() or not self._demand.is_resting():
            self._rest()
        else:
            self._resting = None
            self._start_filling()

    def _is_filling(self) -> bool:
        return self._filling is not None and not self._filling.done()

    def _start_filling(self) -> None:
        if not self._is_filling():
            self._filling = asyncio.get_running_loop().create_task(self._fill())

    async def _fill(self) -> None:
        with contextlib.suppress(OSError):  # a full disk: the next who needs one hears of it
            await anyio.to_thread.run_sync(self._make_spares)

    def _make_spares(self) -> None:
        """More than the least only while nobody asks for one: who launches comes first."""
        asked_s = self._demand.asked_s
        while len(self._stock) < (self._demand.wanted_count if self._demand.asked_s == asked_s else LEAST_COUNT):
            if self._is_closed:
                return
            self._stock.append(tempfile.mkdtemp(dir=self._spare))

    async def close(self) -> None:
        """What is in stock stays, for the next one."""
        self._is_closed = True
        if self._resting is not None:
            self._resting.cancel()
        if self._filling is not None:
            await asyncio.gather(self._filling, return_exceptions=True)
