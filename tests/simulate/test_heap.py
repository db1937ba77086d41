"""The heap of a simulation: what is set is set back, and what grew goes to large pages where the system has some."""

from __future__ import annotations

import ctypes
import gc
import mmap
import re
from pathlib import Path

import pytest

from ffd.simulate import heap as simulate_heap
from ffd.simulate.heap import COLLAPSE, GROWN_BYTES, Heap

LARGE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")


def large_bytes() -> int:
    """Memory of this process that lies on large pages."""
    found = re.search(r"^AnonHugePages: +(\d+) kB$", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def test_the_collector_is_as_before_afterwards() -> None:
    before = gc.get_threshold()
    with Heap():
        assert gc.get_threshold()[0] > before[0]
    assert gc.get_threshold() == before


def can_collapse() -> bool:
    """Does this system move memory to large pages when asked?"""
    if not LARGE.exists():
        return False
    page_bytes = int(LARGE.read_text())
    with mmap.mmap(-1, 2 * page_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.write(bytes(2 * page_bytes))
        first = ctypes.c_char.from_buffer(area)
        start = -(-ctypes.addressof(first) // page_bytes) * page_bytes
        found = simulate_heap._libc().madvise(start, page_bytes, COLLAPSE)
        del first  # it would keep the area open
    return bool(found == 0)


@pytest.mark.skipif(not can_collapse(), reason="this system moves nothing to large pages when asked (Linux 6.1 does)")
def test_what_grew_goes_to_large_pages() -> None:
    with Heap() as heap:
        heap.follow()
        before = large_bytes()
        objects = [bytes(64) for _ in range(3 * GROWN_BYTES // 100)]
        heap.follow()
        assert large_bytes() > before
        assert all(one == bytes(64) for one in objects)


def test_where_there_are_none_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_heap, "_page_bytes", lambda: 0)
    monkeypatch.setattr(simulate_heap, "_areas", lambda page_bytes: pytest.fail("it looked for some"))
    with Heap() as heap:
        heap.follow()
