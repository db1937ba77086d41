"""The launcher: order per attempt, bounded workers, retries that free their worker, nothing on an expired lease."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
from world import World, run

from ffd.core.effects import Launch, Settled, Stop
from ffd.core.model import AttemptId, Place
from ffd.daemon.launcher import Launcher
from ffd.daemon.telemetry import Metrics
from ffd.daemon.tenure import Tenure
from ffd.errors import Unavailable
from ffd.plugins.ports import Credentials, Lease
from ffd.plugins.runtime.virtual import VirtualRuntime
from ffd.settings import Limits


class Recorder(VirtualRuntime):
    """A virtual runtime that notes what it is asked, and may be away or hold up a launch."""

    def __init__(self, world: World) -> None:
        super().__init__(world.cluster)
        self.calls: list[tuple[str, str]] = []
        self.env: dict[str, str] = {}
        self.away: Callable[[str], bool] = lambda task: False
        self.gate: anyio.Event | None = None
        self.busy = 0
        self.most_busy = 0
        self.forgotten: list[str] = []

    async def launch(self, order: Launch, credentials: Credentials) -> None:
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        try:
            if order.attempt.task == "bug":
                raise KeyError("a bug of the runtime")
            if self.away(order.attempt.task):
                raise Unavailable("too many requests")
            if self.gate is not None:
                await self.gate.wait()
            self.calls.append(("launch", order.attempt.task))
            self.env = credentials()
        finally:
            self.busy -= 1

    async def stop(self, attempt: AttemptId, ranks: int, grace_ms: int, reason: str) -> None:
        self.calls.append(("stop", attempt.task))

    async def forget(self, attempts: Sequence[AttemptId]) -> None:
        self.forgotten += [attempt.task for attempt in attempts]
        self.calls.append(("forget", str(len(attempts))))


class Scene:
    def __init__(self, workers: int) -> None:
        world = World()
        parts = world.parts(limits=Limits(launches_count=workers))
        self.runtime = Recorder(world)
        self.tenure = Tenure(Lease(1, "one", 10_000), world.clock.monotonic_ms(), world.clock)
        self.clock = world.clock
        self.metrics = Metrics()
        self.launcher = Launcher(parts, self.runtime, self.tenure, self.metrics, "unix:/here")


@asynccontextmanager
async def scene(workers: int = 4) -> AsyncIterator[Scene]:
    made = Scene(workers)
    async with anyio.create_task_group() as group:
        for work in made.launcher.tasks():
            group.start_soon(work)
        yield made
        made.launcher.close()
        group.cancel_scope.cancel()


def named(task: str) -> AttemptId:
    return AttemptId(1, task, 0, 1)


def launch(task: str) -> Launch:
    return Launch(named(task), "wf.1", "default", (Place("n0"),))


def stop(task: str) -> Stop:
    return Stop(named(task), 1, 1_000, "cancelled")


@run
async def test_a_task_is_told_where_to_call_and_as_whom() -> None:
    async with scene() as s:
        s.launcher.perform(launch("a"))
        await anyio.sleep(0.001)
        assert s.runtime.env == {"FFD_ADDRESS": "unix:/here", "FFD_TOKEN": "token of 1/a[0]#1"}


@run
async def test_a_stop_never_overtakes_its_launch() -> None:
    async with scene() as s:
        s.runtime.gate = anyio.Event()
        s.launcher.perform(launch("a"))
        s.launcher.perform(stop("a"))
        s.launcher.perform(Settled(named("a")))
        s.launcher.perform(stop("b"))
        await anyio.sleep(5)
        assert s.runtime.calls == [("stop", "b")]
        s.runtime.gate.set()
        await anyio.sleep(1)
        assert s.runtime.calls[1:] == [("launch", "a"), ("stop", "a"), ("forget", "1")]


@run
async def test_no_more_than_the_limit_are_under_way_at_once() -> None:
    async with scene(workers=3) as s:
        s.runtime.gate = anyio.Event()
        for number in range(10):
            s.launcher.perform(launch(f"t{number}"))
        await anyio.sleep(1)
        assert s.runtime.busy == 3 and len(s.launcher) == 7
        s.runtime.gate.set()
        await anyio.sleep(1)
        assert len(s.runtime.calls) == 10 and s.runtime.most_busy == 3


@run
async def test_a_runtime_that_is_away_is_tried_again_and_blocks_nobody() -> None:
    async with scene(workers=1) as s:
        tries = []

        def away(task: str) -> bool:
            tries.append(task)
            return task == "bad" and tries.count("bad") < 4

        s.runtime.away = away
        s.launcher.perform(launch("bad"))
        s.launcher.perform(launch("good"))
        await anyio.sleep(0.001)
        assert s.runtime.calls == [("launch", "good")]
        await anyio.sleep(60)
        assert s.runtime.calls == [("launch", "good"), ("launch", "bad")]
        assert tries.count("bad") == 4


@run
async def test_a_stop_replaces_a_launch_that_cannot_be_made() -> None:
    async with scene() as s:
        s.runtime.away = lambda task: True
        s.launcher.perform(launch("a"))
        await anyio.sleep(0.01)
        s.launcher.perform(stop("a"))
        await anyio.sleep(0.01)  # at once, not after the delay
        assert s.runtime.calls == [("stop", "a")]
        await anyio.sleep(600)
        assert s.runtime.calls == [("stop", "a")]


@run
async def test_nothing_starts_on_an_expired_lease() -> None:
    async with scene() as s:
        await anyio.sleep(10)
        s.launcher.perform(launch("a"))
        s.launcher.perform(stop("b"))
        await anyio.sleep(10)
        assert s.runtime.calls == []
        s.tenure.renew(s.clock.monotonic_ms())
        await anyio.sleep(0.001)
        assert sorted(s.runtime.calls) == [("launch", "a"), ("stop", "b")]


@run
async def test_what_is_settled_is_forgotten_many_at_once() -> None:
    async with scene() as s:
        for number in range(1_500):
            s.launcher.perform(Settled(named(f"t{number}")))
        await anyio.sleep(1)
        assert s.runtime.forgotten == [f"t{number}" for number in range(1_500)]
        assert len(s.runtime.calls) == 2


@run
async def test_a_bug_that_one_launch_hits_stops_no_other() -> None:
    """What may have started of it is stopped: the runtime then says how it ended."""
    async with scene(workers=1) as s:
        s.launcher.perform(launch("bug"))
        s.launcher.perform(launch("good"))
        await anyio.sleep(1)
        assert s.runtime.calls == [("stop", "bug"), ("launch", "good")]
