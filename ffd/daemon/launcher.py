"""The launcher: effects -> runtime. Bounded workers, retry with backoff; results come back as reports by the watcher.

Effects of one attempt are carried out in order (a Stop never overtakes its Launch), those of different attempts side by
side. None starts when our lease has run out (S13). Never here: what a failed launch means, or which attempts there are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

import anyio.lowlevel

from ffd.core.effects import Launch, Settled, Stop
from ffd.core.model import AttemptId
from ffd.daemon.clock import Alarm, Backoff
from ffd.daemon.parts import Parts
from ffd.daemon.roots import outcome_of
from ffd.daemon.telemetry import Metrics
from ffd.daemon.tenure import Tenure
from ffd.errors import Fenced, PluginError, Unavailable
from ffd.plugins.ports import Runtime

RETRY_FIRST_MS, RETRY_MOST_MS = 100.0, 30_000.0
TURN_MS = 5.0  # a worker that never had to wait gives way after this
FORGET_COUNT = 1_000  # attempts forgotten in one call

Order = Launch | Stop | Settled


class Chain:
    """What is to be done about one attempt, in order. `alarm`: it waits before trying its first again."""

    __slots__ = ("alarm", "backoff", "orders")

    def __init__(self, order: Order) -> None:
        self.orders: deque[Order] = deque((order,))
        self.alarm: Alarm | None = None
        self.backoff: Backoff | None = None


class Launcher:
    """Of one reign. `address` is what tasks are told to call."""

    def __init__(self, parts: Parts, runtime: Runtime, tenure: Tenure, metrics: Metrics, address: str) -> None:
        self._parts = parts
        self._runtime = runtime
        self._tenure = tenure
        self._metrics = metrics
        self._address = address
        self._chains: dict[AttemptId, Chain] = {}  # attempts that have something to do; bounded by the live ones
        self._ready: deque[AttemptId] = deque()  # of these, the ones no worker has yet
        self._idle: deque[asyncio.Future[None]] = deque()  # workers that have nothing to do
        self._settled: list[AttemptId] = []
        self._settled_woken = asyncio.Event()

    def __len__(self) -> int:
        """Attempts that wait for a worker."""
        return len(self._ready)

    def tasks(self) -> list[Callable[[], Awaitable[None]]]:
        """The loops of the launcher, each to be run as a task until cancelled."""
        return [*[self._work] * self._parts.settings.limits.launches_count, self._forget]

    def close(self) -> None:
        """The reign is over: nothing is tried again."""
        for chain in self._chains.values():
            if chain.alarm is not None:
                chain.alarm.cancel()

    # ------------------------------------------------------------------------------------------------------ effects

    def perform(self, order: Order) -> None:
        """Take it on. Returns at once."""
        chain = self._chains.get(order.attempt)
        if chain is None:
            if type(order) is Settled:
                self._settle(order.attempt)
                return
            self._chains[order.attempt] = Chain(order)
            self._enqueue(order.attempt)
            return
        chain.orders.append(order)
        if chain.alarm is not None:  # what it waits to try again is out of date
            chain.alarm.cancel()
            self._resume(order.attempt)

    def _settle(self, attempt: AttemptId) -> None:
        self._settled.append(attempt)
        self._settled_woken.set()

    def _enqueue(self, attempt: AttemptId) -> None:
        self._ready.append(attempt)
        while self._idle:
            worker = self._idle.popleft()
            if not worker.done():
                worker.set_result(None)
                return

    def _resume(self, attempt: AttemptId) -> None:
        self._chains[attempt].alarm = None
        self._enqueue(attempt)

    # ------------------------------------------------------------------------------------------------------ workers

    async def _work(self) -> None:
        """One worker: the chains of one attempt after the other."""
        turn_ms = 0.0
        while True:
            while not self._ready:
                waiter = asyncio.get_running_loop().create_future()
                self._idle.append(waiter)
                await waiter
                turn_ms = self._parts.clock.monotonic_ms()
            await self._work_off(self._ready.popleft())
            if self._parts.clock.monotonic_ms() - turn_ms > TURN_MS:
                await anyio.lowlevel.checkpoint()
                turn_ms = self._parts.clock.monotonic_ms()

    async def _work_off(self, attempt: AttemptId) -> None:
        """All that is to be done about one attempt, as far as it can be done now."""
        chain = self._chains[attempt]
        while chain.orders:
            failure = await outcome_of(partial(self._carry_out, chain.orders[0]))
            if failure is None:
                chain.orders.popleft()
            elif not self._got_over(failure, attempt, chain):
                return  # tried again later; the worker is free meanwhile
        del self._chains[attempt]

    def _got_over(self, error: Exception, attempt: AttemptId, chain: Chain) -> bool:
        """What to do about a failed order. Raises what the whole daemon must know. True: go on with the chain; False:
        its first order is tried again later. A bug that one attempt hits stops no other (R6): what may have started of
        it is stopped, and the reports of that say how it ended."""
        order = chain.orders[0]
        if isinstance(error, PluginError | Fenced):
            raise error
        if not isinstance(error, Unavailable):
            self._parts.log.error("a call to the runtime hit a bug", attempt=attempt.label(), exc_info=error)
            if isinstance(order, Launch):
                chain.orders[0] = Stop(attempt, len(order.places), 0, "launch")
                return True
        elif len(chain.orders) > 1:
            chain.orders.popleft()  # what follows replaces it
            return True
        self._try_later(attempt, chain, str(error))
        return False

    def _try_later(self, attempt: AttemptId, chain: Chain, reason: str) -> None:
        chain.backoff = chain.backoff or Backoff(self._parts.entropy, RETRY_FIRST_MS, RETRY_MOST_MS)
        at_ms = self._parts.clock.monotonic_ms() + chain.backoff.next_ms()
        chain.alarm = self._parts.clock.call_at(at_ms, lambda: self._resume(attempt))
        self._metrics.retries.labels("runtime").inc()
        self._parts.log.debug("the runtime is away, trying again", attempt=attempt.label(), reason=reason)

    async def _carry_out(self, order: Order) -> None:
        if type(order) is Settled:
            self._settle(order.attempt)
            return
        await self._parts.failpoints.reach("launch.before" if type(order) is Launch else "stop.before")
        if not self._tenure.is_valid():
            await self._tenure.valid()
        if isinstance(order, Launch):
            self._metrics.launches.inc()
            await self._runtime.launch(order, partial(self._credentials, order.attempt))
            await self._parts.failpoints.reach("launch.after")
        elif isinstance(order, Stop):
            self._metrics.stops.inc()
            await self._runtime.stop(order.attempt, order.ranks, order.grace_ms, order.reason)

    def _credentials(self, attempt: AttemptId) -> dict[str, str]:
        return {"FFD_ADDRESS": self._address, "FFD_TOKEN": self._parts.mint(attempt)}

    # ------------------------------------------------------------------------------------------------- what is over

    async def _forget(self) -> None:
        """Tell the runtime, many at once, whose end is durable."""
        backoff = Backoff(self._parts.entropy, RETRY_FIRST_MS, RETRY_MOST_MS)
        while True:
            while not self._settled:
                self._settled_woken.clear()
                await self._settled_woken.wait()
            await anyio.lowlevel.checkpoint()  # what the same commit lets start goes first
            batch, self._settled = self._settled[:FORGET_COUNT], self._settled[FORGET_COUNT:]
            await self._parts.failpoints.reach("forget.before")
            try:
                await self._runtime.forget(batch)
                backoff.reset()
            except Unavailable:
                self._settled = [*batch, *self._settled]
                await self._parts.clock.sleep_ms(backoff.next_ms())
