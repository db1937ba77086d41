"""Retention: ended workflows leave the store, and their logs the disk, when the policy says so. Hourly, in small turns.

One task of the daemon; sweeps only while it leads. Never here: which workflows are due (`Store.sweep`).
"""

from __future__ import annotations

from ffd.daemon.engine import DaemonEngine
from ffd.daemon.parts import Parts
from ffd.errors import Refusal, Unavailable

EVERY_MS = 3_600_000
TURN_COUNT = 50  # workflows removed in one transaction; then others have their turn
TURNS_COUNT = 200  # of one sweep; the rest waits for the next
PAUSE_MS = 100


class Retention:
    """Of one daemon."""

    def __init__(self, parts: Parts, engine: DaemonEngine) -> None:
        self._parts = parts
        self._engine = engine

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._parts.clock.sleep_ms(EVERY_MS)
            try:
                removed = await self.sweep()
            except (Unavailable, Refusal) as error:
                self._parts.log.warning("the sweep failed, the next one goes on", reason=error.message)
            else:
                if removed:
                    self._parts.log.info("swept", workflows=removed)

    async def sweep(self) -> int:
        """Remove what is due; returns how many workflows. A crash half-way leaves logs without a workflow, which take
        room but are never shown."""
        policy, removed = self._parts.settings.retention, 0
        for _ in range(TURNS_COUNT):
            reign = self._engine.reign
            if reign is None:
                break
            await self._parts.failpoints.reach("retention.before")
            async with self._engine.sweeping:
                now_ms = self._parts.clock.wall_ms()
                gone = await self._parts.store.sweep(now_ms, policy.success_ms, policy.failure_ms, TURN_COUNT)
            for workflow in gone:
                reign.reads.drop(workflow)
                reign.names.drop(workflow)
                await self._parts.logs.remove(workflow)
            removed += len(gone)
            if len(gone) < TURN_COUNT:
                break
            await self._parts.clock.sleep_ms(PAUSE_MS)
        return removed
