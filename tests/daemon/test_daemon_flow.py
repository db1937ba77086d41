"""The whole ring over memory and a virtual cluster: submit, run, read, cancel, retry, restart, adopt."""

from __future__ import annotations

import anyio
import pytest
from world import World, ended, failing, lasting, pages, reign_of, run, submit, submit_of, task

from ffd.core.commands import Accepted, Cancel, Done, Retry
from ffd.core.model import AttemptId
from ffd.daemon.fsck import check
from ffd.daemon.tree import Daemon
from ffd.errors import Refusal, Unavailable
from ffd.plugins.ports import ListQuery
from ffd.plugins.store.memory import MemoryStore


@run
async def test_a_workflow_runs_to_its_end_and_stays_readable() -> None:
    world = World()
    async with world.daemon() as daemon:
        answer = await submit(daemon, task("a"), task("b", "a"))
        assert answer.handle == "wf.1"
        assert await ended(daemon, answer.workflow) == "succeeded"
        page = await daemon.engine.workflow(answer.workflow)
        assert page.counts == {"succeeded": 2}
        assert [one.state for one in await daemon.engine.tasks(answer.workflow)] == ["succeeded", "succeeded"]
        assert (await daemon.engine.items(answer.workflow, "b"))[0].attempt == 1
        assert (await daemon.engine.attempts(answer.workflow, "b", 0)) == [AttemptId(answer.workflow, "b", 0, 1)]
        assert (await daemon.engine.spec(answer.workflow))["name"] == "wf"
        assert "succeeded" in (await daemon.engine.why(answer.workflow)).headline
        assert [one.id for one in await daemon.engine.workflows(ListQuery())] == [answer.workflow]
    assert await check(MemoryStore(world.database)) == []


@run
async def test_the_runtime_may_forget_what_is_settled() -> None:
    world = World()
    async with world.daemon() as daemon:
        answer = await submit(daemon)
        await ended(daemon, answer.workflow)
        while world.cluster.ended():
            await anyio.lowlevel.checkpoint()


@run
async def test_unknown_things_are_not_found() -> None:
    async with World().daemon() as daemon:
        answer = await submit(daemon, lasting("train", "1h"))
        for reading in (
            daemon.engine.workflow(99), daemon.engine.tasks(99), daemon.engine.items(answer.workflow, "trian"),
            daemon.engine.why(answer.workflow, "train", 7), daemon.engine.story(99),
        ):  # fmt: skip
            with pytest.raises(Refusal) as caught:
                await reading
            assert caught.value.code == "not_found"
        with pytest.raises(Refusal, match="no task") as caught:
            await daemon.engine.items(answer.workflow, "trian")
        assert caught.value.hint == "did you mean train?"
        with pytest.raises(Refusal, match="no workflow"):
            async for _ in daemon.engine.watch(99):
                pass


@run
async def test_a_cancelled_workflow_starts_nothing_more() -> None:
    world = World()
    async with world.daemon() as daemon:
        answer = await submit(daemon, lasting("a", "1h"), task("b", "a"))
        await pages(daemon.engine.watch(answer.workflow, "0.0"), "AttemptRunning")
        done = await daemon.engine.ask(Cancel(workflow=answer.workflow, by="kim"))
        assert isinstance(done, Done)
        assert await ended(daemon, answer.workflow) == "cancelled"
        assert world.started_count == 1
        with pytest.raises(Refusal) as caught:
            await daemon.engine.ask(Cancel(workflow=answer.workflow))
        assert caught.value.code == "conflict"


@run
async def test_a_retry_reads_the_rows_of_the_ended_workflow() -> None:
    world = World()
    async with world.daemon() as daemon:
        answer = await submit(daemon, task("a"), failing("b", "a"))
        assert await ended(daemon, answer.workflow) == "failed"
        done = await daemon.engine.ask(Retry(workflow=answer.workflow, key="k", payload_digest="d"))
        assert isinstance(done, Done) and done.handle == "wf.1"
        assert await ended(daemon, answer.workflow) == "failed"
        page = await daemon.engine.workflow(answer.workflow)
        assert page.round == 2
        assert (await daemon.engine.items(answer.workflow, "a"))[0].attempt == 1
        assert (await daemon.engine.items(answer.workflow, "b"))[0].attempt == 2
        again = await daemon.engine.ask(Retry(workflow=answer.workflow, key="k", payload_digest="d"))
        assert isinstance(again, Done) and again.duplicate and (again.handle, again.state) == ("wf.1", "failed")
    assert await check(MemoryStore(world.database)) == []


@run
async def test_an_idempotency_key_holds_across_a_restart() -> None:
    world = World()
    async with world.daemon() as daemon:
        first = await submit(daemon, key="k", payload_digest="d")
        await ended(daemon, first.workflow)
    async with world.daemon(owner="two") as daemon:
        again = await submit(daemon, key="k", payload_digest="d")
        assert again == Accepted(first.workflow, "wf.1", "default", duplicate=True)
        with pytest.raises(Refusal) as caught:
            await daemon.engine.ask(submit_of(key="k", payload_digest="other"))
        assert caught.value.code == "conflict"


@run
async def test_a_stopped_daemon_leaves_tasks_running_and_the_next_adopts_them() -> None:
    world = World()
    async with world.daemon() as daemon:
        answer = await submit(daemon, lasting("a", "60s"), lasting("b", "2h"), task("c", "a", "b"))
        await pages(daemon.engine.watch(answer.workflow, "0.0"), "AttemptRunning")
    assert len(world.cluster.living()) == 2
    await anyio.sleep(600)  # virtual: `a` ends while nobody looks
    async with world.daemon(owner="two") as daemon:
        assert reign_of(daemon).epoch == 2
        assert await ended(daemon, answer.workflow) == "succeeded"
    assert world.started_count == 3
    assert await check(MemoryStore(world.database)) == []


@run
async def test_a_caller_that_goes_away_does_not_take_its_command_along() -> None:
    world = World()
    async with world.daemon() as daemon:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(submit, daemon)
                await anyio.lowlevel.checkpoint()
                scope.cancel()
        assert await ended(daemon, 1) == "succeeded"


@run
async def test_status_and_metrics_tell_what_the_daemon_does() -> None:
    async with World(node_slots=1).daemon() as daemon:
        await submit(daemon, lasting("a", "1h"), lasting("b", "1h"))
        reading = await daemon.engine.workflow(1)
        assert reading.counts["ready"] == 1
        status = await daemon.engine.status()
        assert (status.role, status.epoch, status.workflow_count) == ("leader", 1, 1)
        assert (status.running_count, status.ready_count) == (1, 1)
        assert [page.head for page in await daemon.engine.queue()] == ["wf.1/b[0]"]
        assert [page.slot_used_count for page in await daemon.engine.nodes()] == [1]
        metrics = daemon.engine.metrics()
        assert "ffd_ready_items 1.0" in metrics and "ffd_leading 1.0" in metrics
        assert "wf" not in metrics.replace("ffd_workflows", "")


@run
async def test_a_stopping_daemon_says_so() -> None:
    world = World()
    daemon = Daemon(world.parts())
    with pytest.raises(Unavailable, match="starting"):
        await daemon.engine.workflow(1)
    async with anyio.create_task_group() as group:
        group.start_soon(daemon.run)
        await daemon.settled.wait()
        daemon.stop()
    assert (await daemon.engine.status()).role == "stopping"
    with pytest.raises(Unavailable, match="stopping"):
        await daemon.engine.workflow(1)
