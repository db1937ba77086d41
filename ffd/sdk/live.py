"""A session with the daemon: what is retried, what waits, what is kept while the daemon is away.

The rules, and why they are right:
- Writes (`set_output`, `save_checkpoint`) leave this process one at a time, in the order made, and each says the state
  it wants ("this output is that"): repeating a try is harmless, and no older value can overtake a newer one.
- A call is retried until its deadline. The one that misses it declares the daemon away: until somebody reaches it
  again, writes try once and keep their value here. An outage of any length costs a task one deadline.
- An output is kept in `$FFD_OUTPUT`, which the exit report commits; nothing is replayed. Once that file names an
  output, later values are appended to it too, because at exit it wins. A value it cannot hold waits for the daemon.
- A checkpoint is put in its one slot before it is sent, and leaves it with the acknowledgement: what lies there is the
  newest that the daemon may not have. The background sends it when the daemon is back, and once more at exit.
- Progress is one slot: the background sends what is in it, the latest wins, nobody waits.
- A heartbeat goes out only if the user's code called the SDK since the last one: beats from a thread beside a hung
  program would defeat the idle timeout. A replica that passed a barrier goes on arriving at it, because a restarted
  daemon has forgotten the barrier, and others may still be waiting there.

Two threads meet here: callers (`wait`, `join`, `progress`, `listen_for_stop`, `close`) and the loop (all coroutines).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import threading
from collections.abc import Awaitable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from ffd.errors import Refusal, Unavailable
from ffd.sdk.context import TaskEnv
from ffd.sdk.errors import NotYet, Superseded
from ffd.sdk.files import OutputFile, PendingCheckpoint
from ffd.sdk.lines import notice
from ffd.sdk.link import TRY_TIMEOUT_S, Link
from ffd.sdk.retry import Clock, SystemClock
from ffd.sdk.session import Inputs
from ffd.sdk.stop import StopNotice
from ffd.sdk.thread import LoopThread
from ffd.sdk.values import Progress

if TYPE_CHECKING:
    from ffd.sdk.transport import Transport

T = TypeVar("T")

HEARTBEAT_S = 10.0
PROGRESS_INTERVAL_S = 1.0
BARRIER_AGAIN_S = 30.0
MAX_BARRIERS_COUNT = 10_000  # names of barriers that one process may use


class Live:
    """Implements `session.Session`. The network is first touched by the first call."""

    def __init__(self, env: TaskEnv, clock: Clock | None = None, try_timeout_s: float = TRY_TIMEOUT_S) -> None:
        self.env = env
        self.stop = StopNotice(env.stop_path)
        self._clock = clock or SystemClock()
        self._link = Link(env, self._clock, self.stop, try_timeout_s)
        self._outputs = OutputFile(env.output_path)
        self._pending = PendingCheckpoint(env.spool_dir, env.rank)
        self._thread = LoopThread("ffd-sdk")
        self._used = False  # the user's code called since the last heartbeat
        self._slot = threading.Lock()  # guards _progress
        self._progress: Progress | None = None
        # ---- of the loop alone
        self._order = asyncio.Lock()
        self._progressed = asyncio.Event()
        self._inputs: Inputs | None = None
        self._barrier_uses: dict[str, int] = {}
        self._passed_barrier = ""
        self._refusal_told = False
        self._pumps = self._thread.submit(self._run_pumps())
        self._pumps.add_done_callback(_tell_fault)

    # ------------------------------------------------------------------------------------------------------ callers

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        self._used = True
        future = self._thread.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # a ^C in the caller; without effect on what has ended
            raise

    async def join(self, work: Coroutine[Any, Any, T]) -> T:
        self._used = True
        return await asyncio.wrap_future(self._thread.submit(work))

    def progress(self, report: Progress) -> None:
        if self._link.superseded:
            raise Superseded
        self._used = True
        with self._slot:
            waiting, self._progress = self._progress, report
        if waiting is None:
            self._thread.post(self._progressed.set)

    def listen_for_stop(self) -> None:
        if not self.env.stop_path:
            self._used = True  # a heartbeat's answer tells

    def close(self, timeout_s: float) -> None:
        self._pumps.cancel()
        flushed = self._thread.submit(self._flush())
        try:
            flushed.result(timeout_s)
        except TimeoutError:
            flushed.cancel()
            notice("left without telling the daemon the last progress or checkpoint: it did not answer in time")
        finally:
            self._thread.stop(self._link.close())

    # ---------------------------------------------------------------------------------------------------- the calls

    async def inputs(self) -> Inputs:
        if self._inputs is None:
            self._inputs = await self._link.call(
                lambda wire, try_s: wire.inputs(try_s), self._in_s(self.env.deadline_s)
            )
        return self._inputs

    async def set_output(self, name: str, text: str) -> None:
        deadline_s, known_away = self._write_deadline_s(), self._link.away
        async with self._order:
            try:
                await self._link.call(lambda wire, try_s: wire.set_output(name, text, try_s), deadline_s)
            except Unavailable:
                if self._keep_output(name, text, quiet=known_away):
                    return
                await self._link.call(lambda wire, try_s: wire.set_output(name, text, try_s), math.inf)
            if self._outputs.mentions(name):
                self._outputs.append(name, text)

    async def save_checkpoint(self, text: str) -> bool:
        deadline_s, known_away = self._write_deadline_s(), self._link.away
        async with self._order:
            self._pending.put(text)
            try:
                await self._send_checkpoint(text, deadline_s)
            except Unavailable:
                if not known_away:
                    notice("the daemon is away: the checkpoint is kept here, and sent when it is back")
                return False
        return True

    async def load_checkpoint(self) -> dict[str, Any] | None:
        text = self._pending.get()
        if text is None:
            text = await self._link.call(lambda wire, try_s: wire.checkpoint(try_s), self._in_s(self.env.deadline_s))
        return json.loads(text) if text else None

    async def barrier(self, name: str, timeout_s: float | None) -> None:
        wire_name = self._barrier_name(name)
        deadline_s = math.inf if timeout_s is None else self._in_s(timeout_s)
        while True:
            try:
                await self._link.call(lambda wire, try_s: wire.barrier(wire_name, try_s), deadline_s)
            except NotYet:
                if self._clock.now_s() >= deadline_s:
                    raise TimeoutError(f"barrier {name}: not all replicas arrived within {timeout_s} s") from None
            except Unavailable as fault:
                raise TimeoutError(f"barrier {name}: {fault.message}; gave up after {timeout_s} s") from None
            else:
                self._passed_barrier = wire_name
                return

    def _in_s(self, seconds: float) -> float:
        return self._clock.now_s() + seconds

    def _write_deadline_s(self) -> float:
        return self._in_s(0.0 if self._link.away else self.env.deadline_s)

    def _keep_output(self, name: str, text: str, quiet: bool) -> bool:
        """Keep it in `$FFD_OUTPUT`. False, with a notice, when that cannot hold it."""
        try:
            self._outputs.append(name, text)
        except Refusal as fault:
            notice(f"the daemon is away and {fault.message}: set_output waits until the daemon is back")
            return False
        if not quiet:
            notice("the daemon is away: outputs are kept in $FFD_OUTPUT, which counts when the task exits")
        return True

    async def _send_checkpoint(self, text: str, deadline_s: float) -> None:
        """Send what lies in the slot; it leaves the slot with the daemon's answer, yes or no. Holds `_order`."""
        try:
            await self._link.call(lambda wire, try_s: wire.save_checkpoint(text, try_s), deadline_s)
        except Refusal:
            self._pending.clear(text)
            raise
        self._pending.clear(text)

    def _barrier_name(self, name: str) -> str:
        """`name`, at its second use `name#2`, and so on: alike on all replicas, which pass it equally often."""
        if len(self._barrier_uses) >= MAX_BARRIERS_COUNT and name not in self._barrier_uses:
            raise Refusal(
                f"more barriers than MAX_BARRIERS_COUNT = {MAX_BARRIERS_COUNT}",
                code="limit",
                field="MAX_BARRIERS_COUNT",
                hint="use one name again: each use is a new barrier",
            )
        use = self._barrier_uses[name] = self._barrier_uses.get(name, 0) + 1
        return name if use == 1 else f"{name}#{use}"

    # ----------------------------------------------------------------------------------------------- the background

    async def _run_pumps(self) -> None:
        """Each ends when the attempt is superseded."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pump_progress())
            group.create_task(self._pump_heartbeats())
            group.create_task(self._pump_barrier())

    async def _pump_progress(self) -> None:
        while not self._link.superseded:
            await self._progressed.wait()
            self._progressed.clear()
            while self._progress is not None and not self._link.superseded:
                await self._quietly(self._link.call(self._send_latest, math.inf))
                await self._clock.sleep(PROGRESS_INTERVAL_S)

    async def _pump_heartbeats(self) -> None:
        while not self._link.superseded:
            await self._deliver_checkpoint()
            await self._clock.sleep(HEARTBEAT_S)
            used, self._used = self._used, False
            if used:
                beat = self._link.call(lambda wire, try_s: wire.heartbeat(try_s), self._in_s(0.0))
                self.stop.tell(await self._quietly(beat) or "")

    async def _pump_barrier(self) -> None:
        while not self._link.superseded:
            await self._clock.sleep(BARRIER_AGAIN_S)
            if self._passed_barrier:
                with contextlib.suppress(NotYet):
                    await self._quietly(self._link.call(self._arrive_again, self._in_s(0.0)))

    async def _arrive_again(self, wire: Transport, try_s: float) -> None:
        await wire.barrier(self._passed_barrier, try_s)

    async def _send_latest(self, wire: Transport, try_s: float) -> None:
        """The progress of this very moment, also in a later try."""
        report = self._progress
        if report is None:
            return
        await wire.progress(report, try_s)
        with self._slot:
            if self._progress is report:
                self._progress = None

    async def _deliver_checkpoint(self) -> None:
        """One try with what an earlier save, or an earlier process of this attempt, could not send."""
        if self._pending.get() is None:
            return
        async with self._order:
            text = self._pending.get()
            if text is not None:
                await self._quietly(self._send_checkpoint(text, self._in_s(0.0)))

    async def _quietly(self, work: Awaitable[T]) -> T | None:
        """Nobody waits for this answer: an outage is no news here, and a refusal is told once."""
        try:
            return await work
        except Unavailable:
            return None
        except Refusal as fault:
            if not self._refusal_told:
                self._refusal_told = True
                notice(f"the daemon refuses: {fault.message}")
            return None

    async def _flush(self) -> None:
        """What is left to send, one try each."""
        try:
            await self._quietly(self._link.call(self._send_latest, self._in_s(0.0)))
            await self._deliver_checkpoint()
        except RuntimeError as fault:  # the interpreter ends: it starts no thread to look a host name up any more
            notice(f"the daemon cannot be reached any more: {fault}")
        if self._pending.get() is not None:
            notice("the last checkpoint did not reach the daemon")


def _tell_fault(pumps: Future[None]) -> None:
    if not pumps.cancelled() and (fault := pumps.exception()) is not None:
        notice(f"heartbeats and progress have stopped by a fault in the SDK: {fault!r}")
