"""A small world for tests of the shell: virtual time, a cluster, a database, and daemons that share them.

Every test runs in `ffd.testing.simloop`: time moves only when nothing else can happen, so nothing ever sleeps for real.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import structlog

from ffd.api.engine import WatchPage
from ffd.core.commands import Accepted, Submit
from ffd.core.effects import Launch
from ffd.core.model import AttemptId, Node
from ffd.core.spec import Need, Spec, Task
from ffd.daemon.clock import Alarm
from ffd.daemon.failpoints import Failpoints
from ffd.daemon.parts import Parts
from ffd.daemon.reign import Reign
from ffd.daemon.tree import Daemon
from ffd.plugins.ports import Batch, Chunk, Head, Store
from ffd.plugins.runtime.virtual import VirtualCluster, VirtualRuntime
from ffd.plugins.store.memory import MemoryDatabase, MemoryStore
from ffd.settings import DaemonSettings, Limits, Scheduling, Settings
from ffd.testing.simloop import SimLoop, simulate

TTL_MS = 10_000


class SimClock:
    """The virtual time of the running SimLoop. `wall_shift_ms`: how far its wall clock was moved."""

    def __init__(self) -> None:
        self.wall_shift_ms = 0

    def wall_ms(self) -> int:
        return _loop().now_ms() + self.wall_shift_ms

    def monotonic_ms(self) -> float:
        return _loop().time() * 1000

    def call_at(self, monotonic_ms: float, call: Callable[[], None]) -> Alarm:
        return _loop().call_at(monotonic_ms / 1000, call)

    async def sleep_ms(self, duration_ms: float) -> None:
        await anyio.sleep(duration_ms / 1000)


def _loop() -> SimLoop:
    import asyncio

    return cast(SimLoop, asyncio.get_running_loop())


class SimEntropy:
    """No chance at all."""

    def random_bytes(self, count: int) -> bytes:
        return bytes(count)


class QuietLogs:
    """A LogStore of tasks that never say anything, but at `touched_ms`."""

    def __init__(self) -> None:
        self.touched_ms = 0
        self.removed: list[int] = []

    async def read(self, attempt: AttemptId, rank: int, offset: int, limit_bytes: int) -> Chunk:
        return Chunk(0, b"", 0, eof=True)

    async def wait(self, attempt: AttemptId, rank: int, offset: int, timeout_ms: int) -> bool:
        return False

    async def ranks(self, attempt: AttemptId) -> list[int]:
        return []

    async def touched_at_ms(self, attempt: AttemptId) -> int:
        return self.touched_ms

    async def remove(self, workflow: int) -> None:
        self.removed.append(workflow)


class FaultyStore(MemoryStore):
    """The memory store, with a hook before each commit: what it raises, the commit raises."""

    def __init__(self, database: MemoryDatabase) -> None:
        super().__init__(database)
        self.before_commit: Callable[[Batch], Awaitable[None]] | None = None
        self.commits: list[Batch] = []

    async def commit(self, batch: Batch) -> Head:
        if self.before_commit is not None:
            await self.before_commit(batch)
        head = await super().commit(batch)
        self.commits.append(batch)
        return head


class World:
    """One database and one cluster; any number of daemons."""

    def __init__(self, node_slots: int = 1_000) -> None:
        self.clock = SimClock()
        self.database = MemoryDatabase()
        self.cluster = VirtualCluster((Node("n0", cpu_millis=64_000, slot_count=node_slots),))
        self.cluster.on_start = self._on_start
        self.started_count = 0  # replicas ever started
        self.logs = QuietLogs()
        self.log = structlog.testing.CapturingLogger()

    def _on_start(self, order: Launch, rank: int) -> None:
        self.started_count += 1

    def parts(
        self,
        store: Store | None = None,
        limits: Limits | None = None,
        owner: str = "one",
        scheduling: Scheduling | None = None,
    ) -> Parts:
        daemon = DaemonSettings(lease_ttl_ms=TTL_MS)
        return Parts(
            settings=Settings(daemon=daemon, limits=limits or Limits(), scheduling=scheduling or Scheduling()),
            store=store or MemoryStore(self.database),
            make_runtime=lambda: VirtualRuntime(self.cluster),
            logs=self.logs,
            clock=self.clock,
            entropy=SimEntropy(),
            failpoints=Failpoints(),
            mint=lambda attempt: f"token of {attempt.label()}",
            owner=owner,
            log=self.log,
        )

    @asynccontextmanager
    async def daemon(self, parts: Parts | None = None, **more: Any) -> AsyncIterator[Daemon]:
        """One that leads or stands by; stopped at the end of the block."""
        daemon = Daemon(parts or self.parts(**more))
        async with anyio.create_task_group() as group:
            group.start_soon(daemon.run)
            await daemon.settled.wait()
            yield daemon
            daemon.stop()

    def messages(self) -> list[str]:
        """What the daemons logged."""
        return [call.args[0] for call in self.log.calls]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Makes a plain test of an asynchronous one, in virtual time; it may take a day of that."""

    def plain() -> None:
        async def bounded() -> None:
            with anyio.fail_after(86_400):
                await test()

        simulate(bounded())

    plain.__name__, plain.__doc__ = test.__name__, test.__doc__
    return plain


# ------------------------------------------------------------------------------------------------------- workflows


def task(name: str, *needs: str, **more: Any) -> Task:
    return Task(name=name, kind="command", argv=("true",), needs=tuple(Need(need) for need in needs), **more)


def lasting(name: str, duration: str, *needs: str, **more: Any) -> Task:
    return task(name, *needs, env={"VIRTUAL_DURATION": duration}, **more)


def failing(name: str, *needs: str) -> Task:
    return task(name, *needs, env={"VIRTUAL_EXIT": "3"})


def submit_of(*tasks: Task, name: str = "wf", digest: str = "", **more: Any) -> Submit:
    spec = Spec(name=name, tasks=tasks or (task("a"), task("b", "a")))
    return Submit(spec=spec, spec_digest=digest or repr(spec), **more)


async def submit(daemon: Daemon, *tasks: Task, **more: Any) -> Accepted:
    answer = await daemon.engine.ask(submit_of(*tasks, **more))
    assert isinstance(answer, Accepted)
    return answer


async def ended(daemon: Daemon, workflow: int) -> str:
    """Wait for its end; returns its state."""
    async for _ in daemon.engine.watch(workflow, "0.0"):
        pass
    return (await daemon.engine.workflow(workflow)).state


async def pages(stream: AsyncIterator[WatchPage], kind: str) -> list[WatchPage]:
    """Pages up to the one that has an event of this kind."""
    found = []
    async for page in stream:
        found.append(page)
        if any(event.kind == kind for event in page.events):
            break
    return found


def reign_of(daemon: Daemon) -> Reign:
    assert daemon.engine.reign is not None
    return daemon.engine.reign
