"""Timers: fired once, in order, by monotonic time; moved and cleared ones never."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from world import SimClock, World, lasting, pages, run, submit

from ffd.core.effects import ClearTimers, SetTimer
from ffd.core.health import quarantine_timer
from ffd.core.model import AttemptId, Timer, TimerKind
from ffd.core.reports import TimerFired
from ffd.core.spec import Timeouts
from ffd.daemon.failpoints import Failpoints
from ffd.daemon.inbox import Inbox
from ffd.daemon.timers import Timers


class Scene:
    def __init__(self) -> None:
        self.clock = SimClock()
        self.inbox = Inbox(100_000, Failpoints())
        self.sign_ms = 0
        self.timers = Timers(self.clock, self.inbox, self.last_sign)

    async def last_sign(self, attempt: AttemptId) -> int:
        return self.sign_ms

    def set(self, name: str, delay_ms: int, kind: TimerKind = "run", workflow: int = 1) -> AttemptId:
        attempt = AttemptId(workflow, name, 0, 1)
        self.timers.set(SetTimer(Timer(kind, attempt), self.clock.wall_ms() + delay_ms))
        return attempt

    async def fired(self, count: int) -> list[TimerFired]:
        found: list[TimerFired] = []
        while len(found) < count:
            found += [entry.given for entry in await self.inbox.take(count)]  # type: ignore[misc]
        return found


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    async with anyio.create_task_group() as group:
        group.start_soon(made.timers.fire_all)
        group.start_soon(made.timers.fire_idle)
        yield made
        group.cancel_scope.cancel()


@run
async def test_timers_fire_in_the_order_of_their_instants() -> None:
    async with scene() as s:
        for name, delay_ms in (("c", 3_000), ("a", 1_000), ("b", 2_000), ("past", -5)):
            s.set(name, delay_ms)
        start_ms = s.clock.monotonic_ms()
        assert [report.timer.attempt.task for report in await s.fired(4)] == ["past", "a", "b", "c"]
        assert s.clock.monotonic_ms() - start_ms == 3_000
        assert len(s.timers) == 0


@run
async def test_a_moved_timer_fires_once_and_a_cleared_one_never() -> None:
    async with scene() as s:
        s.set("moved", 1_000)
        s.set("moved", 60_000)
        gone = s.set("gone", 2_000)
        s.set("gone", 2_000, "start")
        s.timers.clear(ClearTimers(gone))
        start_ms = s.clock.monotonic_ms()
        assert [report.timer.attempt.task for report in await s.fired(1)] == ["moved"]
        assert s.clock.monotonic_ms() - start_ms == 60_000
        assert len(s.inbox) == 0


@run
async def test_all_timers_of_a_workflow_go_with_it() -> None:
    async with scene() as s:
        s.set("a", 1_000)
        s.timers.set(SetTimer(Timer("workflow", AttemptId(1, "", -1, 0)), s.clock.wall_ms() + 1_000))
        s.set("other", 5_000, workflow=2)
        s.timers.clear(ClearTimers(AttemptId(1, "", -1, 0)))
        assert len(s.timers) == 1
        assert [report.timer.attempt.workflow for report in await s.fired(1)] == [2]
        s.set("b", 1_000, workflow=3)
        s.timers.forget(3)
        assert len(s.timers) == 0


@run
async def test_a_node_has_a_timer_of_its_own() -> None:
    async with scene() as s:
        for node, delay_ms in (("a", 1_000), ("b", 5_000)):
            s.timers.set(SetTimer(quarantine_timer(node), s.clock.wall_ms() + delay_ms))
        s.timers.clear(ClearTimers(quarantine_timer("a").attempt))
        assert len(s.timers) == 1
        assert [report.timer for report in await s.fired(1)] == [quarantine_timer("b")]


@run
async def test_a_jump_of_the_wall_clock_moves_no_timer() -> None:
    async with scene() as s:
        s.set("a", 10_000)
        s.clock.wall_shift_ms = -3_600_000
        start_ms = s.clock.monotonic_ms()
        await s.fired(1)
        assert s.clock.monotonic_ms() - start_ms == 10_000


@run
async def test_an_idle_timer_tells_the_last_sign_of_life() -> None:
    async with scene() as s:
        s.sign_ms = 4_711
        s.set("a", 10_000, "idle")
        assert [report.active_at_ms for report in await s.fired(1)] == [4_711]


@run
async def test_after_a_jump_of_the_wall_clock_an_idle_timer_waits_once_more() -> None:
    async with scene() as s:
        s.set("a", 10_000, "idle")
        s.clock.wall_shift_ms = 3_600_000
        assert [report.active_at_ms for report in await s.fired(1)] == [s.clock.wall_ms()]


@run
async def test_cleared_timers_do_not_fill_the_heap() -> None:
    async with scene() as s:
        keep = s.set("keep", 60_000)
        for number in range(20_000):
            s.timers.clear(ClearTimers(s.set(f"t{number}", 50_000)))
        assert len(s.timers) == 1
        assert len(s.timers._heap) < 5_000
        assert [report.timer.attempt for report in await s.fired(1)] == [keep]


@run
async def test_an_attempt_that_gives_signs_of_life_is_not_idle() -> None:
    world = World()
    async with world.daemon() as daemon:
        answer = await submit(daemon, lasting("a", "1h", timeouts=Timeouts(idle_ms=60_000)))
        await pages(daemon.engine.watch(answer.workflow, "0.0"), "AttemptRunning")
        attempt = AttemptId(answer.workflow, "a", 0, 1)
        for _ in range(5):
            await anyio.sleep(50)
            assert await daemon.engine.heartbeat(attempt, 0) == ""
        await anyio.sleep(50)
        await daemon.engine.progress(attempt, 0, {"step": 1})
        await anyio.sleep(50)
        world.logs.touched_ms = world.clock.wall_ms()  # a line in its log
        await anyio.sleep(59)
        assert (await daemon.engine.workflow(answer.workflow)).state == "running"
        await anyio.sleep(2)
        assert (await daemon.engine.workflow(answer.workflow)).state == "failed"
        assert "no log line" in (await daemon.engine.why(answer.workflow)).headline
