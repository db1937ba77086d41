"""What a task asks of the engine: inputs, outputs, checkpoints, signs of life, barriers; nothing when superseded."""

from __future__ import annotations

import anyio
import pytest
from world import World, ended, lasting, pages, reign_of, run, submit, task

from ffd.api.engine import BarrierState
from ffd.core.commands import Cancel
from ffd.core.model import AttemptId
from ffd.core.reports import CheckpointReported, OutputsReported
from ffd.core.spec import Checkpoint, Gang
from ffd.daemon.ephemeral import Ephemeral
from ffd.daemon.tree import Daemon
from ffd.errors import Refusal, Unavailable


async def running(daemon: Daemon, *tasks: object, **more: object) -> AttemptId:
    answer = await submit(daemon, *tasks, **more)  # type: ignore[arg-type]
    await pages(daemon.engine.watch(answer.workflow, "0.0"), "AttemptRunning")
    return AttemptId(answer.workflow, "a", 0, 1)


@run
async def test_outputs_and_checkpoints_of_the_live_attempt_are_kept() -> None:
    async with World().daemon() as daemon:
        a = lasting("a", "60s", outputs={"rows": "int"}, checkpoint=Checkpoint())
        attempt = await running(daemon, a, lasting("b", "60s", "a"))
        await daemon.engine.tell(OutputsReported(attempt, {"rows": 7}))
        await daemon.engine.tell(CheckpointReported(attempt, {"step": 3}))
        assert (await daemon.engine.inputs(attempt)).checkpoint == {"step": 3}
        with pytest.raises(Refusal) as caught:
            await daemon.engine.tell(OutputsReported(attempt, {"unheard_of": 1}))
        assert caught.value.code == "output"
        await anyio.sleep(61)
        assert (await daemon.engine.inputs(AttemptId(attempt.workflow, "b", 0, 1))).outputs == {"a": {"rows": 7}}
        for stale in (
            daemon.engine.tell(OutputsReported(attempt, {"rows": 8})), daemon.engine.check(attempt),
            daemon.engine.inputs(attempt), daemon.engine.progress(attempt, 0, {}), daemon.engine.heartbeat(attempt, 0),
            daemon.engine.barrier(attempt, 0, "x"),
        ):  # fmt: skip
            with pytest.raises(Refusal) as caught:
                await stale
            assert caught.value.code == "superseded"


@run
async def test_progress_is_shown_while_the_attempt_lives() -> None:
    async with World().daemon() as daemon:
        attempt = await running(daemon, lasting("a", "60s"))
        await daemon.engine.progress(attempt, 1, {"step": 9})
        await daemon.engine.progress(attempt, 0, {"step": 1})
        await daemon.engine.progress(attempt, 0, {"step": 2})
        assert (await daemon.engine.items(attempt.workflow, "a"))[0].progress == {"step": 2}
        assert len(reign_of(daemon).ephemeral) == 1
        assert await ended(daemon, attempt.workflow) == "succeeded"
        assert len(reign_of(daemon).ephemeral) == 0


@run
async def test_a_heartbeat_tells_why_the_attempt_is_to_stop() -> None:
    world = World()
    async with world.daemon() as daemon:
        attempt = await running(daemon, lasting("a", "1h"))

        async def deaf(attempt: AttemptId, ranks: int, grace_ms: int, reason: str) -> None:
            """It goes on for as long as its grace."""

        runtime = reign_of(daemon)._runtime
        assert runtime is not None
        runtime.stop = deaf  # type: ignore[method-assign]
        assert await daemon.engine.heartbeat(attempt, 0) == ""
        await daemon.engine.ask(Cancel(workflow=attempt.workflow))
        assert await daemon.engine.heartbeat(attempt, 0) == "cancelled"
        world.cluster.kill(attempt, 0, 15)
        assert await ended(daemon, attempt.workflow) == "cancelled"


@run
async def test_a_barrier_opens_when_all_ranks_are_there() -> None:
    async with World().daemon() as daemon:
        attempt = await running(daemon, lasting("a", "1h", gang=Gang(replicas=3)))
        through: list[BarrierState] = []

        async def arrive(rank: int) -> None:
            through.append(await daemon.engine.barrier(attempt, rank, "loaded"))

        async with anyio.create_task_group() as group:
            group.start_soon(arrive, 0)
            group.start_soon(arrive, 0)  # again: counts once
            group.start_soon(arrive, 2)
            await anyio.sleep(60)
            assert through == []
            group.start_soon(arrive, 1)
        assert through == [BarrierState(3, 3, True)] * 4
        assert await daemon.engine.barrier(attempt, 2, "loaded") == BarrierState(3, 3, True)
        with pytest.raises(Refusal):
            await daemon.engine.barrier(attempt, 3, "loaded")


@run
async def test_who_waits_at_a_barrier_is_told_when_the_attempt_or_the_reign_ends() -> None:
    world = World()
    outcomes: list[str] = []

    async def arrive(daemon: Daemon, attempt: AttemptId) -> None:
        try:
            await daemon.engine.barrier(attempt, 0, "loaded")
        except (Refusal, Unavailable) as error:
            outcomes.append(error.code)

    async with anyio.create_task_group() as group, world.daemon() as daemon:
        for name in ("one", "two"):
            attempt = await running(daemon, lasting("a", "1h", gang=Gang(replicas=2)), name=name)
            group.start_soon(arrive, daemon, attempt)
            await anyio.sleep(1)
        await daemon.engine.ask(Cancel(workflow=attempt.workflow))
        assert await ended(daemon, attempt.workflow) == "cancelled"
        assert outcomes == ["superseded"]
    assert outcomes == ["superseded", "unavailable"]


@run
async def test_barriers_are_bounded_and_passed_ones_make_room() -> None:
    kept = Ephemeral(barriers_count=20)
    attempt = AttemptId(1, "a", 0, 1)
    for number in range(20):
        kept.arrive(attempt, 0, f"b{number}", 2)
    with pytest.raises(Refusal) as caught:
        kept.arrive(attempt, 0, "more", 2)
    assert caught.value.code == "limit"
    kept.arrive(attempt, 1, "b7", 2)
    kept.arrive(attempt, 0, "more", 2)


@run
async def test_tasks_without_signs_cost_nothing() -> None:
    async with World().daemon() as daemon:
        answer = await submit(daemon, task("a"))
        await ended(daemon, answer.workflow)
        assert len(reign_of(daemon).ephemeral) == 0
