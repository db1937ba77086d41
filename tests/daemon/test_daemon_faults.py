"""Faults at the store, the lease and inside: what the daemon promises then (S1, S12, S13, L5, R6)."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import msgspec
import pytest
from world import TTL_MS, FaultyStore, World, ended, lasting, pages, reign_of, run, submit, submit_of, task

from ffd.core import step as core_step
from ffd.core.commands import Cancel
from ffd.core.reports import ReplicaStarted
from ffd.daemon.failpoints import NAMES, Crash
from ffd.daemon.fsck import check
from ffd.daemon.tree import Daemon
from ffd.errors import Fenced, PluginError, Refusal, Unavailable
from ffd.plugins.ports import Batch, Found, Lease
from ffd.plugins.runtime.virtual import VirtualRuntime
from ffd.plugins.store.memory import MemoryStore


def raising(error: Exception) -> Callable[[Batch], Awaitable[None]]:
    async def fail(batch: Batch) -> None:
        raise type(error)(str(error), code=getattr(error, "code", ""))

    return fail


FULL = Refusal("no space left on device", code="storage_full")


@run
async def test_a_full_disk_degrades_and_space_resumes_without_a_restart() -> None:
    world = World()
    store = FaultyStore(world.database)
    async with world.daemon(world.parts(store)) as daemon:
        running = await submit(daemon, lasting("a", "10m"), task("b", "a"))
        started = anyio.Event()
        stuck: list[str] = []
        store.before_commit = raising(FULL)

        async def caller() -> None:
            started.set()
            stuck.append((await submit(daemon, name="stuck")).handle)

        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await started.wait()
            await anyio.sleep(3)
            assert "storage full" in (await daemon.engine.status()).degraded
            with pytest.raises(Refusal) as caught:
                await submit(daemon, name="late")
            assert caught.value.code == "storage_full"
            assert (await daemon.engine.workflow(running.workflow)).state == "running"
            with pytest.raises(Refusal) as caught:  # decided, but not durable: it does not exist yet
                await daemon.engine.workflow(running.workflow + 1)
            assert caught.value.code == "not_found"
            assert "storage full" in (await daemon.engine.why(running.workflow)).headline
            assert stuck == []
            await anyio.sleep(1_200)  # `a` ends meanwhile, and nobody loses that
            store.before_commit = None
            await anyio.sleep(3)
            assert (await daemon.engine.status()).degraded == ""
            await submit(daemon, name="late")
        assert stuck == ["stuck.1"]
        assert await ended(daemon, running.workflow) == "succeeded"
        assert reign_of(daemon).epoch == 1
    assert await check(MemoryStore(world.database)) == []


@run
async def test_a_store_that_is_away_is_tried_again_with_the_same_batch() -> None:
    world = World()
    store = FaultyStore(world.database)
    async with world.daemon(world.parts(store)) as daemon:
        numbers: list[int] = []

        async def away(batch: Batch) -> None:
            numbers.append(batch.number)
            if len(numbers) < 4:
                raise Unavailable("connection lost")

        store.before_commit = away
        answer = await submit(daemon)
        assert await ended(daemon, answer.workflow) == "succeeded"
    assert numbers[:5] == [numbers[0]] * 4 + [numbers[0] + 1]


@run
async def test_a_commit_whose_answer_was_lost_is_not_made_twice() -> None:
    world = World()

    class Lossy(FaultyStore):
        lost = 0

        async def commit(self, batch: Batch, *args):  # type: ignore[no-untyped-def]
            head = await super().commit(batch, *args)
            if self.lost < 3:
                self.lost += 1
                raise Unavailable("connection lost")
            return head

    async with world.daemon(world.parts(Lossy(world.database))) as daemon:
        answer = await submit(daemon)
        assert await ended(daemon, answer.workflow) == "succeeded"
    assert await check(MemoryStore(world.database)) == []


@run
async def test_a_fenced_commit_has_no_effects_and_the_daemon_loads_again() -> None:
    world = World()
    store = FaultyStore(world.database)
    async with world.daemon(world.parts(store)) as daemon:
        first = reign_of(daemon)
        store.before_commit = raising(Fenced("a higher epoch exists"))
        with pytest.raises(Unavailable):
            await submit(daemon)
        assert world.started_count == 0
        store.before_commit = None
        await anyio.sleep(2 * TTL_MS / 1000)  # nobody released the lease: it has to run out
        assert reign_of(daemon).epoch > first.epoch
        answer = await submit(daemon)
        assert answer.handle == "wf.1"  # what was fenced never happened
        assert await ended(daemon, answer.workflow) == "succeeded"


@run
async def test_a_plugin_error_stops_the_daemon_with_its_message() -> None:
    world = World()
    store = FaultyStore(world.database)
    daemon = Daemon(world.parts(store))
    store.before_commit = raising(PluginError("the disk is on fire"))
    with pytest.raises(PluginError, match="the disk is on fire"):
        await daemon.run()


@run
async def test_reads_wait_until_what_they_show_is_durable() -> None:
    world = World()
    store = FaultyStore(world.database)
    async with world.daemon(world.parts(store)) as daemon:
        answer = await submit(daemon, lasting("a", "1h"))
        gate, reached = anyio.Event(), anyio.Event()

        async def hold(batch: Batch) -> None:
            reached.set()
            await gate.wait()

        store.before_commit = hold
        told: list[str] = []

        async def cancel() -> None:
            await daemon.engine.ask(Cancel(workflow=answer.workflow))

        async def read() -> None:
            told.append((await daemon.engine.workflow(answer.workflow)).verdict)

        async with anyio.create_task_group() as group:
            group.start_soon(cancel)
            await reached.wait()
            group.start_soon(read)
            await anyio.sleep(60)
            assert told == []
            gate.set()
        assert told == ["cancelled"]


@run
async def test_a_standby_names_the_leader_and_takes_over_when_it_stops() -> None:
    world = World()
    first = Daemon(world.parts(owner="one"))
    first.engine.address = "unix:/one"
    async with anyio.create_task_group() as group:
        group.start_soon(first.run)
        await first.settled.wait()
        answer = await submit(first, lasting("a", "60s"))
        async with world.daemon(owner="two") as second:
            assert (await second.engine.status()).role == "standby"
            with pytest.raises(Unavailable) as caught:
                await second.engine.workflow(answer.workflow)
            assert "stands by" in caught.value.message
            first.stop()
            await anyio.sleep(1)  # released: no need to wait for the lease to run out
            assert (await second.engine.status()).role == "leader"
            assert await ended(second, answer.workflow) == "succeeded"
    assert world.started_count == 1


@run
async def test_a_paused_leader_starts_nothing_after_its_lease_ran_out() -> None:
    """Its commit got through, then it stood still past its lease: the effects of that commit wait for a valid lease,
    which never comes because another leads."""
    world = World()
    parts = world.parts(owner="one")
    async with anyio.create_task_group() as group:
        paused = Daemon(parts)
        group.start_soon(paused.run)
        await paused.settled.wait()
        calls: list[str] = []
        runtime = reign_of(paused)._runtime
        assert runtime is not None

        async def launch(order: object, credentials: object) -> None:
            calls.append("launch")

        runtime.launch = launch  # type: ignore[method-assign]
        reached, gate = anyio.Event(), anyio.Event()

        async def pause() -> None:
            reached.set()
            await gate.wait()

        async def renew() -> None:
            await gate.wait()

        parts.failpoints.arm("lease.renew", renew)
        parts.failpoints.arm("launch.before", pause)
        answer = await submit(paused, lasting("a", "60s"))
        await reached.wait()
        async with world.daemon(owner="two") as other:
            await anyio.sleep(2 * TTL_MS / 1000)
            assert (await other.engine.status()).role == "leader"
            await pages(other.engine.watch(answer.workflow, "0.0"), "AttemptRunning")
            gate.set()
            await anyio.sleep(2 * TTL_MS / 1000)
            assert calls == []
            assert (await paused.engine.status()).role == "standby"
            paused.stop()
            assert await ended(other, answer.workflow) == "succeeded"


@run
async def test_a_crash_at_any_site_loses_nothing_that_was_acknowledged() -> None:
    """Kill -9 at every failpoint on the way of one workflow; a second daemon brings it to its end."""
    sites = [name for name in NAMES if name not in ("lease.release", "retention.before", "stop.before")]
    for site in sites:
        world = World()
        parts = world.parts(owner="one")
        daemon = Daemon(parts)
        acknowledged: list[int] = []

        async def crash() -> None:
            raise Crash(site)  # noqa: B023

        async def client(daemon: Daemon = daemon, acknowledged: list[int] = acknowledged) -> None:
            with contextlib.suppress(Unavailable):
                acknowledged.append((await submit(daemon, task("a"), task("b", "a"), key="k")).workflow)

        if site.startswith(("recovery", "lease.acquire")):
            parts.failpoints.arm(site, crash)
        with pytest.raises(BaseExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(daemon.run)
                await daemon.settled.wait()
                parts.failpoints.arm(site, crash)
                group.start_soon(client)
        assert caught.value.subgroup(Crash) is not None, site
        async with world.daemon(owner="two") as second:
            again = await _until_led(second, world)
            assert again.duplicate or not acknowledged, site
            assert await ended(second, again.workflow) == "succeeded", site
        assert world.started_count == 2, site
        assert await check(MemoryStore(world.database)) == [], site


async def _until_led(daemon: Daemon, world: World):  # type: ignore[no-untyped-def]
    await anyio.sleep(2 * TTL_MS / 1000)
    return await submit(daemon, task("a"), task("b", "a"), key="k")


@run
async def test_an_input_that_hits_a_bug_is_dropped_and_stops_nobody_else() -> None:
    world = World()
    async with world.daemon() as daemon:
        good = await submit(daemon, lasting("a", "60s"))
        bomb = submit_of(name="bomb")
        handle = core_step.HANDLE[type(bomb)]

        def explode(work, command):  # type: ignore[no-untyped-def]
            if command.spec.name == "bomb":
                raise KeyError("a bug of ours")
            handle(work, command)

        core_step.HANDLE[type(bomb)] = explode
        try:
            outcomes: dict[str, str] = {}

            async def ask(name: str) -> None:
                try:
                    outcomes[name] = (await submit(daemon, name=name)).handle
                except Exception as error:  # noqa: BLE001 - told apart by its class
                    outcomes[name] = type(error).__name__

            async with anyio.create_task_group() as group:
                for name in ("x", "bomb", "y"):
                    group.start_soon(ask, name)
            assert outcomes == {"x": "x.1", "bomb": "FfdError", "y": "y.1"}
            await anyio.sleep(5)  # the reign that dropped it gives way to the next
            assert await ended(daemon, good.workflow) == "succeeded"
        finally:
            core_step.HANDLE[type(bomb)] = handle
        assert "ffd_poisoned_inputs_total 1.0" in daemon.engine.metrics()
    assert world.started_count == 5
    assert await check(MemoryStore(world.database)) == []


@run
async def test_a_poisoned_report_does_not_come_back_for_ever() -> None:
    world = World()
    handle = core_step.HANDLE[ReplicaStarted]

    def explode(work, report):  # type: ignore[no-untyped-def]
        if report.attempt.task == "bad":
            raise KeyError("a bug of ours")
        handle(work, report)

    core_step.HANDLE[ReplicaStarted] = explode
    try:
        async with world.daemon() as daemon:
            bad = await submit(daemon, lasting("bad", "1h"), name="bad")
            await anyio.sleep(60)
            assert (await daemon.engine.workflow(bad.workflow)).counts == {"launching": 1}
            good = await submit(daemon, name="good")
            assert await ended(daemon, good.workflow) == "succeeded"
            assert (await daemon.engine.status()).role == "leader"
    finally:
        core_step.HANDLE[ReplicaStarted] = handle


@run
async def test_a_daemon_that_fails_again_and_again_gives_up() -> None:
    world = World()
    store = MemoryStore(world.database)

    async def load(lease: Lease) -> None:
        raise KeyError("a row that is not ours")

    store.load = load  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyError, match="a row that is not ours"):
        await Daemon(world.parts(store)).run()
    assert world.messages().count("the reign failed, loading again") == 3


@run
async def test_a_store_or_runtime_that_is_away_at_the_start_is_waited_for() -> None:
    world = World()
    tries: list[int] = []

    class Late(VirtualRuntime):
        async def list(self) -> list[Found]:
            tries.append(1)
            if len(tries) < 20:
                raise Unavailable("the cluster does not answer")
            return await super().list()

    parts = msgspec.structs.replace(world.parts(), make_runtime=lambda: Late(world.cluster))
    async with world.daemon(parts) as daemon:
        assert len(tries) == 20
        assert await ended(daemon, (await submit(daemon)).workflow) == "succeeded"


@run
async def test_what_the_runtime_refuses_stops_the_daemon_with_its_message() -> None:
    world = World()

    def refuse() -> VirtualRuntime:
        raise Refusal("1x: not pretend nodes", field="daemon.pretend")

    with pytest.raises(Refusal, match="not pretend nodes"):
        await Daemon(msgspec.structs.replace(world.parts(), make_runtime=refuse)).run()
