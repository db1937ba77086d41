"""The watcher: runtime -> inbox. Level-triggered and at-least-once; a full inbox makes it and the runtime wait.

Never here: what is stale or duplicated (`core.observe`).
"""

from __future__ import annotations

from ffd.daemon.clock import Backoff
from ffd.daemon.inbox import Inbox
from ffd.daemon.parts import Parts
from ffd.daemon.poison import Poison
from ffd.errors import Unavailable
from ffd.plugins.ports import Runtime


class Watcher:
    """Of one reign; the one consumer of `runtime.watch`."""

    def __init__(self, parts: Parts, runtime: Runtime, inbox: Inbox, poison: Poison) -> None:
        self._parts = parts
        self._runtime = runtime
        self._inbox = inbox
        self._poison = poison
        self._backoff = Backoff(parts.entropy, 100.0, 10_000.0)

    async def run(self) -> None:
        """Until cancelled. A runtime that is away is watched again; it then starts with what it has."""
        while True:
            try:
                async for reports in self._runtime.watch():
                    self._backoff.reset()
                    await self._parts.failpoints.reach("report.before")
                    await self._inbox.report(self._poison.without(reports))
            except Unavailable as error:
                self._parts.log.warning("the runtime is away, watching again", reason=error.message)
            await self._parts.clock.sleep_ms(self._backoff.next_ms())
