"""The deterministic simulation: real daemons over a simulated disk, cluster, clock and clients, with seeded faults.

    World      the disk (MemoryDatabase), the cluster, every process, what clients were promised, what was broken
    Process    one daemon as an operating system sees it: it can be killed at any await, or paused, and its calls
               go through gates that stay shut for a dead or paused one

Called by `ffd.testing.simulated`, which says what clients do and which faults strike. Never here: rules of one state
(`core.invariants`) or of histories (`ledger`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from random import Random
from typing import Any, TypeVar

import anyio

from ffd.core import events as ev
from ffd.core.decision import Decision
from ffd.core.effects import Launch
from ffd.core.invariants import check as check_state
from ffd.core.model import AttemptId, Node
from ffd.core.reports import AnyReport, InventoryReported, ReplicaExited
from ffd.daemon.engine import DaemonEngine
from ffd.daemon.failpoints import NAMES, Crash, Failpoints
from ffd.daemon.fsck import check as fsck
from ffd.daemon.parts import Parts
from ffd.daemon.tree import Daemon
from ffd.errors import FfdError, Refusal, Unavailable
from ffd.plugins.logs.memory import MemoryLogs
from ffd.plugins.ports import Batch, Credentials, Found, Head, Lease, LeaseInfo, Loaded, Reports
from ffd.plugins.runtime.virtual import Behave, VirtualCluster, VirtualRuntime
from ffd.plugins.store.memory import MemoryDatabase, MemoryStore
from ffd.settings import DaemonSettings, Scheduling, Settings
from ffd.testing.ledger import Ledger
from ffd.testing.simloop import SimLoop

T = TypeVar("T")
TICK_S = 1e-6  # an alarm never rings early by a rounding
CALL_S = 20.0  # a simulated client's patience with one call


class SilentLog:
    """Keeps the last lines a daemon logged, for a failing seed."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def _say(self, event: str, **fields: Any) -> None:
        self.lines = [*self.lines[-40:], f"{event} {fields}"]

    debug = info = warning = error = _say


class World:
    """Everything that is not a process. `faults` collects what was broken."""

    def __init__(self, seed: int, nodes: tuple[Node, ...], behave: Behave) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.loop = loop
        self.seed = seed
        self.preempted_count = 0  # attempts that were stopped to make room
        self.random = {
            kind: Random(f"{kind}-{seed}")
            for kind in ("client", "crash", "commit", "report", "pause", "operator", "tenants")
        }
        self.database = MemoryDatabase()
        self.cluster = VirtualCluster(nodes, behave)
        self.cluster.on_start = self._started
        self.ledger = Ledger()
        self.faults: list[str] = []
        self.processes: list[Process] = []
        self.recorded = 0  # commits the ledger has seen
        self._starts: set[tuple[AttemptId, int]] = set()
        self._admitted: set[AttemptId] = set()
        self.trouble = True  # while False nothing is injected
        self.stopped = False  # the history is over: nothing is started again

    def process(self) -> Process:
        """The one that leads now; raises Unavailable when none does."""
        for process in self.processes:
            if process.is_running() and process.daemon.engine.reign is not None:
                return process
        raise Unavailable("nobody leads")

    async def call(self, work: Callable[[DaemonEngine], Awaitable[T]]) -> T:
        """As a client that does not give up: the same call again (its key makes that safe) until it is answered."""
        while True:
            try:
                with anyio.fail_after(CALL_S):
                    return await work(self.process().daemon.engine)
            except (Unavailable, TimeoutError, Crash):  # Crash: the daemon died while it took the call
                await asyncio.sleep(0.5)
            except Refusal as refusal:
                if refusal.code != "storage_full":
                    raise
                await asyncio.sleep(0.5)

    def durable(self, batch: Batch) -> None:
        """A commit reached the disk: hold the history against the invariants."""
        if batch.number <= self.recorded:
            return
        self.recorded = batch.number
        stopped = [event for event in batch.events if isinstance(event, ev.AttemptStopping)]
        self.preempted_count += sum("makes room" in event.cause.message for event in stopped)
        self._admitted.update(event.attempt for event in batch.events if isinstance(event, ev.ItemAdmitted))
        decision = Decision(list(batch.events), [], [], batch.rows, list(batch.listings))
        self.faults += self.ledger.record(decision, batch.at_ms)

    def _started(self, order: Launch, rank: int) -> None:
        """A replica really starts: once for all time (S4), of a committed attempt, alone of its item (S3)."""
        key, attempt = (order.attempt, rank), order.attempt
        if key in self._starts:
            self.faults.append(f"S4 {attempt.label()} rank {rank} was started twice")
        if attempt not in self._admitted:
            self.faults.append(f"S4 {attempt.label()} was started but never committed")
        self._starts.add(key)
        for found in self.cluster.living():
            same_item = (found.attempt.workflow, found.attempt.task, found.attempt.item) == (
                attempt.workflow, attempt.task, attempt.item,
            )  # fmt: skip
            if same_item and found.attempt != attempt:
                self.faults.append(f"S3 {attempt.label()} was started while {found.attempt.label()} lives")

    async def audit(self) -> list[str]:
        """At the end: the disk is sound and its rows follow from the story."""
        found = await fsck(MemoryStore(self.database))
        return [*self.faults, *found]


class SimClock:
    """A process's clocks: the loop's time; a paused process hears of it only when it goes on."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._loop = process.world.loop

    def wall_ms(self) -> int:
        return self._loop.now_ms() + self._process.wall_skew_ms

    def monotonic_ms(self) -> float:
        return self._loop.time() * 1000

    def call_at(self, monotonic_ms: float, call: Callable[[], None]) -> Any:
        return self._loop.call_at(monotonic_ms / 1000 + TICK_S, self._process.when_awake, call)

    async def sleep_ms(self, duration_ms: float) -> None:
        await asyncio.sleep(max(0.0, duration_ms) / 1000)
        await self._process.awake()


class SimEntropy:
    def __init__(self, random: Random) -> None:
        self._random = random

    def random_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


class Process:
    """One daemon. `kill` is SIGKILL: nothing of it reaches the world any more. `pause` is SIGSTOP."""

    def __init__(self, world: World, name: str, settings: Settings) -> None:
        self.world = world
        self.name = name
        self.is_dead = False
        self.wall_skew_ms = 0
        self.log = SilentLog()
        self._going = asyncio.Event()
        self._going.set()
        self._store = MemoryStore(world.database)
        self.failpoints = Failpoints()
        self.scope = anyio.CancelScope()
        self._ears: list[Callable[[AnyReport], None]] = []  # what of it the cluster tells
        parts = Parts(
            settings=settings, store=StoreGate(self, self._store), logs=MemoryLogs(), clock=SimClock(self),
            entropy=SimEntropy(Random(f"{name}")), failpoints=self.failpoints, mint=lambda attempt: attempt.label(),
            make_runtime=self._make_runtime, owner=name, log=self.log,
        )  # fmt: skip
        self.daemon = Daemon(parts)

    def _make_runtime(self) -> RuntimeGate:
        before = list(self.world.cluster.listeners)
        runtime = VirtualRuntime(self.world.cluster)
        self._ears += [told for told in self.world.cluster.listeners if told not in before]
        return RuntimeGate(self, runtime)

    def is_running(self) -> bool:
        return not self.is_dead and self._going.is_set()

    async def awake(self) -> None:
        """Every call to the outside passes here: a paused process waits, a dead one gets no further."""
        while not self._going.is_set() and not self.is_dead:
            await self._going.wait()
        if self.is_dead:
            raise Crash

    def when_awake(self, call: Callable[[], None]) -> None:
        if self.is_dead:
            return
        if self._going.is_set():
            call()
        else:
            self.world.loop.call_later(0.05, self.when_awake, call)

    def pause(self, seconds: float) -> None:
        if self.is_running():
            self._going.clear()
            self.world.loop.call_later(seconds, self._going.set)

    async def crash(self) -> None:
        """The action of a failpoint."""
        self.kill()
        raise Crash

    def kill(self) -> None:
        if not self.is_dead:
            self.is_dead = True
            self._store.database.lock_holder = None
            self.world.cluster.listeners = [told for told in self.world.cluster.listeners if told not in self._ears]
            self._going.set()
            self.scope.cancel()

    async def live(self) -> None:
        """Until killed. A fault that ends the daemon by itself is told to the world."""
        try:
            with self.scope:
                await self.daemon.run()
        except Crash:
            pass
        except BaseExceptionGroup as group:
            rest = group.split(Crash)[1]
            if rest is not None and not self.is_dead:
                self.world.faults.append(f"the daemon {self.name} failed: {rest.exceptions!r}")
        except FfdError as error:
            if not self.is_dead:
                self.world.faults.append(f"the daemon {self.name} stopped: {error.message}")
        self.kill()


class StoreGate:
    """The store as one process reaches it: gated, with commits that fail before or after they took effect."""

    def __init__(self, process: Process, store: MemoryStore) -> None:
        self._process = process
        self._store = store

    def __getattr__(self, name: str) -> Any:
        """Everything that is not told otherwise below: the gate, then the store's own method."""
        method = getattr(self._store, name)

        async def gated(*args: Any, **kwargs: Any) -> Any:
            await self._process.awake()
            return await method(*args, **kwargs)

        return gated

    async def hold(self, owner: str, address: str, ttl_ms: int, now_ms: int, epoch: int = 0) -> Lease | LeaseInfo:
        await self._process.awake()
        return await self._store.hold(owner, address, ttl_ms, now_ms, epoch)

    async def load(self, lease: Lease | None) -> Loaded:
        await self._process.awake()
        return await self._store.load(lease)

    async def commit(self, batch: Batch) -> Head:
        await self._process.awake()
        world = self._process.world
        chance = world.random["commit"].random() if world.trouble else 1.0
        await asyncio.sleep(0.001)
        await self._process.awake()
        if chance < 0.02:
            raise Unavailable("the disk did not answer (nothing was written)")
        if chance < 0.03:
            raise Refusal("the disk is full", code="storage_full")
        head = await self._store.commit(batch)
        world.durable(batch)
        if chance < 0.05:
            raise Unavailable("the disk did not answer (it was written)")
        return head


class RuntimeGate:
    """The runtime as one process reaches it: reports come late, twice, and in another order."""

    def __init__(self, process: Process, runtime: VirtualRuntime) -> None:
        self._process = process
        self._runtime = runtime

    async def launch(self, order: Launch, credentials: Credentials) -> None:
        await self._process.awake()
        await self._runtime.launch(order, credentials)

    async def stop(self, attempt: AttemptId, ranks: int, grace_ms: int, reason: str) -> None:
        await self._process.awake()
        await self._runtime.stop(attempt, ranks, grace_ms, reason)

    async def list(self) -> list[Found]:
        await self._process.awake()
        return await self._runtime.list()

    async def watch(self) -> AsyncIterator[Reports]:
        late: list[AnyReport] = []
        async for reports in self._runtime.watch():
            await self._process.awake()
            inventories = [
                report for report in reports if isinstance(report, InventoryReported)
            ]  # these keep their order
            given = [*late, *(report for report in reports if not isinstance(report, InventoryReported))]
            random, late = self._process.world.random["report"], []
            if self._process.world.trouble:
                given += [report for report in given if random.random() < 0.1]
                random.shuffle(given)
                late = [report for report in given if isinstance(report, ReplicaExited) and random.random() < 0.05]
                given += late  # told now, and once more with the next batch
            yield [*inventories, *given]

    async def inventory(self) -> tuple[Node, ...]:
        await self._process.awake()
        return await self._runtime.inventory()

    async def forget(self, attempts: Sequence[AttemptId]) -> None:
        await self._process.awake()
        await self._runtime.forget(attempts)

    async def close(self) -> None:
        if not self._process.is_dead:
            await self._runtime.close()


def settings() -> Settings:
    """Of every simulated daemon: a short lease and short quarantines, so that much happens in little time."""
    quarantine = Scheduling(quarantine_failures_count=1, quarantine_ms=20_000, quarantine_max_ms=60_000)
    return Settings(daemon=DaemonSettings(lease_ttl_ms=3_000), scheduling=quarantine)


def crash_somewhere(process: Process, random: Random) -> None:
    """Arm one failpoint, drawn from all of them, to kill the process when it gets there."""
    process.failpoints.arm(random.choice(NAMES), process.crash)


def state_faults(world: World) -> list[str]:
    """Invariants of the leader's state as it is now, between two steps."""
    try:
        reign = world.process().daemon.engine.reign
    except Unavailable:
        return []
    return check_state(reign.state) if reign is not None else []
