"""The daemon: its task tree, from start to clean stop.

    daemon
    ├─ api         serves the engine; on a standby it refuses with the leader's address
    ├─ leader      the lease; below it one reign after the other
    │  └─ reign    recovery, then controller, launcher, watcher, timers
    ├─ retention   removes what is old
    └─ lag         samples how late the event loop is

Watchers of the event stream run in the tasks of their API calls. Put together by `wire`, by tests and by the
simulation. Never here: what any of the parts does, settings, signals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio

from ffd.api.engine import Engine
from ffd.daemon.engine import DaemonEngine
from ffd.daemon.leader import Leader
from ffd.daemon.parts import Parts
from ffd.daemon.poison import Poison
from ffd.daemon.reign import Reign
from ffd.daemon.retention import Retention
from ffd.daemon.roots import root
from ffd.daemon.telemetry import LagSampler, Metrics
from ffd.daemon.tenure import Tenure
from ffd.errors import FfdError
from ffd.plugins.ports import LeaseInfo


class Api(Protocol):
    """What serves the engine: `ffd.api.server.ApiServer`."""

    @property
    def addresses(self) -> list[str]: ...

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...


MakeApi = Callable[[Engine, Callable[[], None]], Api]


class Daemon:
    """One daemon, run once. `make_api(engine, stop)`; None = it serves nobody but this process (`engine`).
    Events: `settled` when it leads or stands by for the first time, or will do neither; `entered` when it leads for
    the first time; `stopping` when it is to end."""

    def __init__(self, parts: Parts, make_api: MakeApi | None = None) -> None:
        self.metrics = Metrics()
        self.engine = DaemonEngine(parts, self.metrics)
        self.settled = asyncio.Event()
        self.entered = asyncio.Event()
        self.failure: Exception | None = None
        self.addresses: list[str] = []
        self._parts = parts
        self._make_api = make_api
        self.stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask for a clean stop; `run` returns soon. Running tasks go on. Idempotent."""
        self.engine.hang_up()
        self.stopping.set()

    async def run(self) -> None:
        """Until stopped. Raises what ended it: PluginError, or a bug. Closes neither store nor logs."""
        api = self._make_api(self.engine, self.stop) if self._make_api else None
        try:
            if api is not None:
                await api.start()
                self.addresses = list(api.addresses)
            advertised = self._parts.settings.daemon.advertise
            self.engine.address = advertised or next(iter(self.addresses), "")
            async with anyio.create_task_group() as group:
                for name, work in self._tasks():
                    group.start_soon(root, name, work, self._failed)
                await self.stopping.wait()
                if api is not None:
                    await api.aclose()  # calls under way are answered first: the leader still works
                group.cancel_scope.cancel()
        finally:
            if api is not None:
                with anyio.CancelScope(shield=True):
                    await api.aclose()
            self.settled.set()
        if self.failure is not None:
            raise self.failure

    def _tasks(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        parts = self._parts
        lag = LagSampler(parts.clock, parts.settings.telemetry.loop_lag_ms, parts.log)
        self.metrics.show_lag(lag)
        leader = Leader(parts, self.engine.address, self._new_reign, self._stands_by)
        return [("leader", leader.run), ("retention", Retention(parts, self.engine).run), ("lag", lag.run)]

    def _new_reign(self, tenure: Tenure, poison: Poison) -> Reign:
        return Reign(self._parts, tenure, poison, self.metrics, self.engine.address, self._enters, self._leaves)

    def _enters(self, reign: Reign) -> None:
        self.engine.reign, self.engine.leader = reign, None
        self.entered.set()
        self.settled.set()

    def _leaves(self) -> None:
        self.engine.reign = None

    def _stands_by(self, info: LeaseInfo) -> None:
        self.engine.leader = info
        self.settled.set()

    def _failed(self, name: str, error: Exception) -> None:
        self.failure = self.failure or error
        bug = None if isinstance(error, FfdError) else error
        self._parts.log.error("the daemon stops", part=name, reason=str(error), exc_info=bug)
        self.stop()
