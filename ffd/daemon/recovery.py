"""Recovery: how a reign starts. Live rows from the store become State; what the runtime really runs becomes the first
reports; the core then says again what must be true outside. Its time follows what is live, not history.

Called once per reign, before anything else of it. Never here: what follows from a difference (`core.launch.recovered`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from ffd.core.reports import InventoryReported, Recovered
from ffd.core.state import State
from ffd.daemon.inbox import Entry
from ffd.daemon.parts import Parts
from ffd.plugins.ports import Head, Lease, Runtime


async def load(parts: Parts, lease: Lease) -> tuple[State, Head]:
    """State as it is stored, and the commit it reflects. Raises Fenced, Unavailable, PluginError; msgspec's errors when
    a row is not ours."""
    await parts.failpoints.reach("recovery.load")
    began_ms = parts.clock.monotonic_ms()
    with unscanned():
        loaded = await parts.store.load(lease)
        state = State.load(loaded.rows, parts.settings.limits, parts.settings.scheduling)
    parts.log.info(
        "loaded",
        commit=loaded.head.number,
        workflows=len(state.workflows),
        items=state.item_count,
        duration_ms=round(parts.clock.monotonic_ms() - began_ms),
    )
    await parts.failpoints.reach("recovery.loaded")
    return state, loaded.head


@contextmanager
def unscanned() -> Iterator[None]:
    """Load without garbage collection, then exempt what was loaded from it for good: rows hold no cycles, and scanning
    millions of them again and again would make the loop lag."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


async def look(runtime: Runtime) -> list[Entry]:
    """What the runtime has, as the first inputs of the reign. Also adopts it: exits come from `watch` from now on."""
    found = await runtime.list()
    nodes = await runtime.inventory()
    living = tuple((replica.attempt, replica.rank) for replica in found)
    return [Entry(InventoryReported(nodes), None), Entry(Recovered(living), None)]
