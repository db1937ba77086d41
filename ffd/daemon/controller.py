"""The controller: the one writer. Takes inputs from the inbox, steps the core, makes the decision durable, then acts.

Two tasks in a row, so that throughput grows with load while an idle daemon waits for one fsync only:

    step_all    inbox -> step -> Prepared ──(one place)──>  commit_all    commit -> effects, answers, views

While commit N is under way, inputs gather in the inbox; when they are worth it, they are stepped and wait as N+1.
State in memory may therefore be ahead of the store; readers wait at the barrier. Never here: what a batch means (core),
or doing anything outside (`release` hands effects on). Called by `reign`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import anyio.lowlevel
import msgspec

from ffd.core.decision import Decision
from ffd.core.state import State
from ffd.core.step import step
from ffd.daemon.barrier import Barrier
from ffd.daemon.clock import Backoff
from ffd.daemon.inbox import Entry, Inbox, settle
from ffd.daemon.parts import Parts
from ffd.daemon.telemetry import Metrics
from ffd.errors import FfdError, Refusal, Unavailable
from ffd.plugins.ports import Batch

STEP_MS = 10.0  # what a step aims at: twice that still leaves the event loop's lag well below 50 ms
GATHER_MS = 2.0  # of stepping: less than this is not worth a commit of its own while another is under way
LEAST_INPUTS = 8  # of a step, however slow the last one was
RETRY_FIRST_MS, RETRY_MOST_MS = 50.0, 2_000.0
CLOSE_COMMIT_S = 10.0  # how long a commit may go on after the reign was told to end


class Prepared(msgspec.Struct, frozen=True):
    """A decision on its way. `batch` None: nothing to make durable, but its place in the order counts."""

    entries: list[Entry]
    decision: Decision
    batch: Batch | None
    step_ms: float


class Pace:
    """How many inputs the next step takes, so that it takes about STEP_MS."""

    def __init__(self, limit_count: int) -> None:
        self._limit_count = limit_count
        self._input_ms = 0.05  # what one input costs, smoothed

    @property
    def most(self) -> int:
        return max(LEAST_INPUTS, min(self._limit_count, int(STEP_MS / self._input_ms)))

    @property
    def gather(self) -> int:
        """How many must wait before it is worth to step them while a commit is under way."""
        return max(1, min(self.most, int(GATHER_MS / self._input_ms)))

    def took(self, count: int, duration_ms: float) -> None:
        self._input_ms += (duration_ms / count - self._input_ms) * 0.3
        self._input_ms = max(self._input_ms, 1e-4)


class Controller:
    """Of one reign. `release` gets each decision, in order, once it is durable. `suspects` are the inputs of the step
    that is being made: if it raises, one of them hit a bug."""

    def __init__(
        self, parts: Parts, epoch: int, state: State, barrier: Barrier, inbox: Inbox, metrics: Metrics,
        release: Callable[[Decision, Batch | None], None],
    ) -> None:  # fmt: skip
        self.state = state
        self.degraded = ""
        self.suspects: list[Entry] = []
        self._parts = parts
        self._epoch = epoch
        self._barrier = barrier
        self._inbox = inbox
        self._metrics = metrics
        self._release = release
        self._pace = Pace(parts.settings.limits.batch_count)
        self._backoff = Backoff(parts.entropy, RETRY_FIRST_MS, RETRY_MOST_MS)
        self._open: list[Prepared] = []  # decided, callers not yet answered: one under way, one that waits
        self._place: Prepared | None = None  # the one that waits
        self._filled = asyncio.Event()
        self._freed = asyncio.Event()
        self._committing = anyio.CancelScope()

    def close(self, reason: FfdError) -> None:
        """The reign is over: who still waits for an answer gets the reason."""
        for prepared in self._open:
            for entry in prepared.entries:
                settle(entry.waiter, reason)
        for entry in self.suspects:
            settle(entry.waiter, reason)
        self._barrier.close(reason)

    def hurry(self) -> None:
        """The reign is to end: a commit that is under way is waited for, but not for ever."""
        self._committing.deadline = anyio.current_time() + CLOSE_COMMIT_S

    # ------------------------------------------------------------------------------------------------------ stepping

    async def step_all(self) -> None:
        """Until cancelled, or a step raises."""
        while True:
            entries = await self._inbox.take(self._pace.most, self._pace.gather, self._is_free)
            await self._parts.failpoints.reach("step.before")
            prepared = self.prepare(entries)
            if prepared is not None:
                await self.hand_over(prepared)
            else:
                await anyio.lowlevel.checkpoint()

    def _is_free(self) -> bool:
        """Nothing is on its way to the store. Until then a few inputs wait for more: stepped at once they would be a
        commit of their own, and those behind them would wait for one commit more."""
        return not self._open

    async def hand_over(self, prepared: Prepared) -> None:
        """Returns when it is being committed: at most one waits."""
        self._place = prepared
        self._filled.set()
        while self._place is not None:
            self._freed.clear()
            await self._freed.wait()

    def prepare(self, entries: list[Entry]) -> Prepared | None:
        """Step the core over these inputs; None when nothing follows. Raises on a bug of ours: then the state is lost,
        and `suspects` holds what led there."""
        clock = self._parts.clock
        began_ms = clock.monotonic_ms()
        now_ms = clock.wall_ms()
        self.suspects = entries
        decision = step(self.state, [entry.given for entry in entries], now_ms)
        self.suspects = []
        step_ms = clock.monotonic_ms() - began_ms
        self._pace.took(len(entries), step_ms)
        batch = None
        if decision.events:
            number = self._barrier.stepped = self._barrier.stepped + 1
            batch = Batch(self._epoch, number, now_ms, decision.events, decision.rows, decision.listings)
        elif not decision.effects and not decision.answers:
            self._stepped(len(entries), step_ms)
            return None
        prepared = Prepared(entries, decision, batch, step_ms)
        self._open.append(prepared)
        return prepared

    # ---------------------------------------------------------------------------------------------------- committing

    async def commit_all(self) -> None:
        """Until cancelled, or a commit is refused for good (Fenced, PluginError)."""
        while True:
            prepared = await self._next()
            commit_ms = 0.0
            if prepared.batch is not None:
                await self._parts.failpoints.reach("commit.before")
                commit_ms = await self._commit(prepared.batch)
                await self._parts.failpoints.reach("commit.after")
            await self._parts.failpoints.reach("effects.before")
            self._finish(prepared)
            self._stepped(len(prepared.entries), prepared.step_ms)  # counted last: nothing waits for it
            if prepared.batch is not None:
                self._committed(prepared.batch, commit_ms)

    async def _next(self) -> Prepared:
        while self._place is None:
            self._filled.clear()
            await self._filled.wait()
        prepared, self._place = self._place, None
        self._freed.set()
        return prepared

    async def _commit(self, batch: Batch) -> float:
        """Until it is durable. The same batch may be given again: its number says whether it already is. Returns how
        long the last try took, in milliseconds."""
        while True:
            began_ms = self._parts.clock.monotonic_ms()
            try:
                with anyio.CancelScope(shield=True) as self._committing:
                    await self._parts.store.commit(batch)
                    return self._parts.clock.monotonic_ms() - began_ms
                raise Unavailable("the store did not answer in time")  # told to end: nobody gets an answer from here
            except Unavailable as error:
                self._parts.log.warning("the store is away, trying again", reason=error.message)
            except Refusal as error:
                if error.code != "storage_full":
                    raise
                self._degrade(error)
            self._metrics.retries.labels("commit").inc()
            await self._parts.clock.sleep_ms(self._backoff.next_ms())

    def _stepped(self, input_count: int, step_ms: float) -> None:
        self._metrics.step_s.observe(step_ms / 1000)
        self._metrics.inputs.inc(input_count)

    def _committed(self, batch: Batch, commit_ms: float) -> None:
        self._backoff.reset()
        self._metrics.commit_s.observe(commit_ms / 1000)
        self._metrics.commits.inc()
        self._metrics.events.inc(len(batch.events))
        if self.degraded:
            self.degraded = ""
            self._inbox.refuse_commands(None)
            self._parts.log.info("the storage has room again", commit=batch.number)

    def _degrade(self, error: Refusal) -> None:
        """Nothing can be decided any more; what is durable stays readable. Reports gather until the inbox is full."""
        if self.degraded:
            return
        self.degraded = f"storage full: commands are refused ({error.message})"
        hint = "free some space for the daemon's state directory; it goes on by itself"
        self._inbox.refuse_commands(Refusal("the daemon's storage is full", code="storage_full", hint=hint))
        self._barrier.stick()
        self._parts.log.error("the storage is full, trying again", reason=error.message)

    def _finish(self, prepared: Prepared) -> None:
        """It is durable: effects go out first (someone's GPUs wait for them), then answers."""
        self._open.remove(prepared)
        self._inbox.wake()
        self._release(prepared.decision, prepared.batch)
        for index, answer in prepared.decision.answers:
            settle(prepared.entries[index].waiter, answer)
        if prepared.batch is not None:
            self._barrier.reach(prepared.batch.number)
