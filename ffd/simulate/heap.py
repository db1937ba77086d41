"""The heap of a process that does nothing but simulate: gigabytes of small objects, most of which live long.

    with Heap() as heap:
        while world.run(steps_count=10_000):
            heap.follow()

Called by `ffd simulate` and the benches. Never here: what is simulated; a daemon, which must not pause.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import TracebackType

GC_THRESHOLD = (1_000_000, 50, 1_000)
GROWN_BYTES = 64 << 20  # more than this is worth a look at the whole heap
COLLAPSE = 25  # MADV_COLLAPSE of Linux 6.1: now, where it stands, whatever the policy for large pages is
_ANONYMOUS = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p 0+ 00:00 0 *(\[heap\])?$")


class Heap:
    """As a context. Circles are looked for seldom: little of what a simulation makes lives long, and then most of it is
    gone already. And it lies on large pages, where the system lets it: less time goes into finding out where each page
    is."""

    def __init__(self) -> None:
        self._threshold = gc.get_threshold()
        self._resident_bytes = 0  # at the start, or when it was last moved

    def __enter__(self) -> Heap:
        self._resident_bytes = _resident_bytes()
        gc.set_threshold(*GC_THRESHOLD)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        gc.set_threshold(*self._threshold)

    def follow(self) -> None:
        """To be called now and then: what came since goes to large pages, too. Costs next to nothing unless it grew."""
        resident_bytes = _resident_bytes()
        self._resident_bytes = min(self._resident_bytes, resident_bytes)  # what was given back may come again
        if _page_bytes() and resident_bytes - self._resident_bytes >= GROWN_BYTES:
            self._resident_bytes = resident_bytes
            for start, end in _areas(_page_bytes()):
                _libc().madvise(start, end - start, COLLAPSE)  # what it refuses stays as it is


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


@cache
def _page_bytes() -> int:
    """Of a large page; 0 where there are none."""
    try:
        return int(Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").read_text())
    except OSError:
        return 0


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return libc


def _areas(page_bytes: int) -> Iterator[tuple[int, int]]:
    """(start, end) of private memory that no file is behind, in whole large pages."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        found = _ANONYMOUS.fullmatch(line)
        if found is not None:
            start, end = -(-int(found[1], 16) // page_bytes) * page_bytes, int(found[2], 16) // page_bytes * page_bytes
            if start < end:
                yield start, end
