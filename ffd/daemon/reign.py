"""A reign: one epoch, one cancel scope. Puts together what leads, recovers, and runs it until the lease is lost, a part
fails, or the daemon stops.

    recovery -> controller (two tasks) -> launcher (n workers), timers -> watcher -> controller

Made by `leader`; the engine reaches what it holds through here. Never here: what any of the parts does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ffd.core import effects
from ffd.core.decision import Decision
from ffd.core.model import AttemptId
from ffd.core.state import State
from ffd.daemon import recovery
from ffd.daemon.barrier import Barrier
from ffd.daemon.controller import Controller
from ffd.daemon.ephemeral import Ephemeral
from ffd.daemon.inbox import Entry, Inbox
from ffd.daemon.launcher import Launcher
from ffd.daemon.names import Names
from ffd.daemon.parts import Parts
from ffd.daemon.poison import Poison
from ffd.daemon.publisher import Publisher
from ffd.daemon.reads import Reads
from ffd.daemon.roots import root
from ffd.daemon.telemetry import Metrics
from ffd.daemon.tenure import Tenure
from ffd.daemon.timers import Timers
from ffd.daemon.watcher import Watcher
from ffd.errors import FfdError, Unavailable
from ffd.plugins.ports import Batch, Runtime

CLOSE_S = 10.0
PROGRESS_COUNT = 2  # commits after which a reign counts as having worked


class Reign:
    """What is declared here exists once `run` has recovered; `entered` is called then, and `left` when it is over."""

    state: State
    barrier: Barrier
    inbox: Inbox
    controller: Controller
    launcher: Launcher
    timers: Timers
    publisher: Publisher
    names: Names
    reads: Reads

    def __init__(
        self, parts: Parts, tenure: Tenure, poison: Poison, metrics: Metrics, address: str,
        entered: Callable[[Reign], None], left: Callable[[], None],
    ) -> None:  # fmt: skip
        self.epoch = tenure.epoch
        self.failure: Exception | None = None
        self.ephemeral = Ephemeral(parts.settings.limits.barriers_count)
        self._parts = parts
        self._tenure = tenure
        self._poison = poison
        self._metrics = metrics
        self._address = address
        self._entered = entered
        self._left = left
        self._runtime: Runtime | None = None
        self._first: list[Entry] = []
        self._started_number = 0
        self._scope = anyio.CancelScope()

    @property
    def degraded(self) -> str:
        return self.controller.degraded

    @property
    def has_progressed(self) -> bool:
        return hasattr(self, "barrier") and self.barrier.durable >= self._started_number + PROGRESS_COUNT

    def ready_count(self) -> int:
        """Items in the ready queue, stale entries included."""
        return sum(lane.count for lane in self.state.lanes.lanes.values())

    # ---------------------------------------------------------------------------------------------------- its life

    async def run(self) -> None:
        """Until cancelled or something fails: `failure` says what. Raises nothing of its own."""
        try:
            await root("recovery", self._recover, self._failed)
            if self.failure is None:
                await self._lead()
        finally:
            await self._close(Unavailable("this daemon does not lead any more", hint="call again in a moment"))

    async def _recover(self) -> None:
        parts, store, limits = self._parts, self._parts.store, self._parts.settings.limits
        self.state, head = await recovery.load(parts, self._tenure.lease)
        self._started_number = head.number
        self._runtime = runtime = parts.make_runtime()
        self._first = await recovery.look(runtime)
        self.inbox = Inbox(limits.inbox_count, parts.failpoints)
        self.barrier = Barrier(head.number)
        self.names = Names(self.state, store)
        self.reads = Reads(self.state, self.barrier, store, limits)
        self.publisher = Publisher(store, self.names, head.number, limits.watch_backlog_count, self._metrics)
        self.timers = Timers(parts.clock, self.inbox, self._last_sign)
        self.launcher = Launcher(parts, runtime, self._tenure, self._metrics, self._address)
        self.watcher = Watcher(parts, runtime, self.inbox, self._poison)
        self.controller = Controller(
            parts, self.epoch, self.state, self.barrier, self.inbox, self._metrics, self._release
        )
        self._perform = self._effect_table()
        self._metrics.reigns.inc()
        self._entered(self)

    async def _lead(self) -> None:
        tasks: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("controller", self._control), ("controller", self.controller.commit_all), ("watcher", self.watcher.run),
            ("timers", self.timers.fire_all), ("timers", self.timers.fire_idle),
            *[("launcher", work) for work in self.launcher.tasks()],
        ]  # fmt: skip
        async with anyio.create_task_group() as group:
            self._scope = group.cancel_scope
            for name, work in tasks:
                group.start_soon(root, name, work, self._failed)
            try:
                await anyio.sleep_forever()
            finally:
                self.controller.hurry()

    async def _control(self) -> None:
        """The stepping half of the controller: first what was found, then what may be poisoned, one by one."""
        await self._offer(self._first)
        suspects = self._poison.suspects
        while suspects:
            await self._offer([suspects.pop(0)])
        await self.controller.step_all()

    async def _offer(self, entries: list[Entry]) -> None:
        prepared = self.controller.prepare(entries)
        if prepared is not None:
            await self.controller.hand_over(prepared)

    def _failed(self, name: str, error: Exception) -> None:
        """A part failed: the first failure ends the reign. One of a step tells which inputs to suspect."""
        if self.failure is None:
            self.failure = error
            self._parts.log.error("a part of the reign failed", part=name, reason=str(error))
            if name == "controller" and not isinstance(error, FfdError) and self.controller.suspects:
                entries, self.controller.suspects = self.controller.suspects, []
                if self._poison.step_failed(entries):
                    self._metrics.poisoned.inc()
                    kind = type(entries[0].given).__name__
                    self._parts.log.error("dropped an input that hits a bug", kind=kind)
        self._scope.cancel()

    async def _close(self, reason: Unavailable) -> None:
        self._left()
        if hasattr(self, "controller"):
            self.controller.close(reason)
            self.inbox.close(reason)
            self.publisher.close(reason)
            self.launcher.close()
            self.ephemeral.close(reason)
        if self._runtime is not None:
            with anyio.move_on_after(CLOSE_S, shield=True):
                await self._runtime.close()

    # ------------------------------------------------------------------------------------------- what is durable now

    def _release(self, decision: Decision, batch: Batch | None) -> None:
        perform = self._perform
        for effect in decision.effects:
            perform[type(effect)](effect)
        if batch is not None:
            self.names.learn(batch.listings)
            self.reads.learn(batch.listings)
            self.publisher.publish(batch)

    def _effect_table(self) -> dict[type, Callable[[Any], None]]:
        return {
            effects.Launch: self.launcher.perform,
            effects.Stop: self.launcher.perform,
            effects.Settled: self._settle,
            effects.SetTimer: self.timers.set,
            effects.ClearTimers: self.timers.clear,
            effects.Forget: self._forget,
            effects.Again: lambda effect: self.inbox.poke(),
        }

    def _settle(self, effect: effects.Settled) -> None:
        self.ephemeral.settle(effect.attempt)
        self.launcher.perform(effect)

    def _forget(self, effect: effects.Forget) -> None:
        self.ephemeral.forget(effect.workflow)
        self.timers.forget(effect.workflow)

    async def _last_sign(self, attempt: AttemptId) -> int:
        """When an attempt last gave a sign of life: through the SDK, or by a line in its log."""
        return max(self.ephemeral.active_at_ms(attempt), await self._parts.logs.touched_at_ms(attempt))
