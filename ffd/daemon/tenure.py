"""Our hold on the lease, as our own monotonic clock sees it (S13): no effect starts when it has run out.

Made and renewed by `leader`, asked by `launcher`. Never here: the store.
"""

from __future__ import annotations

import asyncio

from ffd.daemon.clock import Clock
from ffd.plugins.ports import Lease


class Tenure:
    """One lease. It counts from the instant *before* it was asked for, so it ends here before it ends elsewhere."""

    def __init__(self, lease: Lease, asked_at_ms: float, clock: Clock) -> None:
        self.lease = lease
        self._clock = clock
        self._until_ms = asked_at_ms + lease.ttl_ms
        self._renewed = asyncio.Event()

    @property
    def epoch(self) -> int:
        return self.lease.epoch

    def is_valid(self) -> bool:
        return self._clock.monotonic_ms() < self._until_ms

    def renew(self, asked_at_ms: float) -> None:
        """The store granted a renewal that was asked for at this instant."""
        self._until_ms = asked_at_ms + self.lease.ttl_ms
        self._renewed.set()

    async def valid(self) -> None:
        """Return while it is valid; waits for a renewal otherwise (the reign ends when none comes)."""
        while not self.is_valid():
            self._renewed.clear()
            await self._renewed.wait()
