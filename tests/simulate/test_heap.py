"""The heap of a simulation: what is set is set back, and what grew goes to large pages where the system has some."""

from __future__ import annotations

import gc
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


@pytest.mark.skipif(not LARGE.exists(), reason="this system has no large pages for such memory")
def test_what_grew_goes_to_large_pages() -> None:
    with Heap() as heap:
        heap.follow()
        before = large_bytes()
        objects = [bytes(64) for _ in range(3 * GROWN_BYTES // 100)]
        if simulate_heap._libc().madvise(0, 0, COLLAPSE):
            pytest.skip("this system moves nothing to large pages at once (Linux 6.1 does)")
        heap.follow()
        assert large_bytes() > before
        assert all(one == bytes(64) for one in objects)


def test_where_there_are_none_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_heap, "_page_bytes", lambda: 0)
    monkeypatch.setattr(simulate_heap, "_areas", lambda page_bytes: pytest.fail("it looked for some"))
    with Heap() as heap:
        heap.follow()
