"""Tells when a file changes: inotify on Linux, through the C library. Where there is none, callers look now and then.

Called by `files`. Never here: what is in a file.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct

_IN_MODIFY, _IN_ONESHOT = 0x002, 0x80000000
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows (none for a file)
_READ_BYTES = 64 << 10


class Changes:
    """One inotify instance in the running event loop. Bounded by the kernel (max_user_watches): then `next_of` gives
    None, as it does where there is no inotify."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        self._fd = -1
        self._libc = ctypes.CDLL(None, use_errno=True)
        if hasattr(self._libc, "inotify_init1"):
            self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._ready)

    def next_of(self, path: str) -> asyncio.Future[None] | None:
        """Done at the next write to a file, from now on; cancel it when nobody waits any more. None: cannot tell."""
        if self._fd < 0:
            return None
        watch = self._libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(_IN_MODIFY | _IN_ONESHOT))
        if watch < 0:
            return None
        future: asyncio.Future[None] = self._loop.create_future()
        waiting = [other for other in self._waiting.get(watch, ()) if not other.done()]
        self._waiting[watch] = [*waiting, future]
        return future

    def _ready(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, _, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            for future in self._waiting.pop(watch, ()):
                if not future.done():
                    future.set_result(None)

    def close(self) -> None:
        """Whoever waits looks for itself."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_result(None)
        self._waiting.clear()
