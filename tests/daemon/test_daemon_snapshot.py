"""A simulation against the daemon it began from: what it says will start when is what the daemon then does; and what a
change would do. The daemon is real, over memory and the virtual runtime, on a virtual clock."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import msgspec
import pytest
from world import World, ended, failing, lasting, run, submit

from ffd.api.snapshot import join, pieces
from ffd.core import events as ev
from ffd.core.model import Node, Rows
from ffd.core.spec import Gang, Resources, Task, Timeouts
from ffd.daemon.tree import Daemon
from ffd.errors import Refusal
from ffd.settings import Scheduling
from ffd.simulate.live import Change, Snapshot, snapshot_of
from ffd.simulate.result import result_of
from ffd.simulate.scenario import Run, Scenario, limits_of, start

TIMED = Timeouts(run_ms=7_200_000)
Admission = tuple[int, int, str, int, int]  # at_ms, workflow, task, item, attempt


def gpu(count: int) -> Resources:
    return Resources(gpu_count=count)


def documents() -> list[tuple[Task, ...]]:
    """Small graphs with gangs, a fan-out, a failure that is handled, and more than fits at once."""
    diamond = (
        lasting("a", "10s", resources=gpu(2)),
        lasting("b", "30s", "a", resources=gpu(4), gang=Gang(replicas=2)),
        lasting("c", "20s", "a", resources=gpu(1), foreach=(1, 2, 3)),
        lasting("d", "5s", "b", "c"),
    )
    wide = (lasting("w", "45s", resources=gpu(3), foreach=tuple(range(6))),)
    failed = (lasting("x", "15s", resources=gpu(8)), failing("y", "x"))
    return [diamond, wide, failed, diamond]


async def taken(daemon: Daemon) -> Snapshot:
    """A snapshot as it comes over the wire."""
    head, rows = await daemon.engine.snapshot()
    carried = Rows()
    for piece in pieces(rows, 300):
        join(carried, piece)
    assert carried == rows
    return snapshot_of(head.number, head.at_ms, head.policy, head.limits, carried)


def simulated(snapshot: Snapshot, change: Change | None = None) -> tuple[Run, list[Admission]]:
    policy, limits = snapshot.policy, limits_of(snapshot.limits)
    chosen = change or Change()
    found = start(Scenario(snapshot=snapshot, policy=policy, limits=limits, change=chosen, check_every_count=1))
    admitted: list[Admission] = []
    found.world.on(
        ev.ItemAdmitted, lambda at_ms, event: admitted.append((at_ms, *msgspec.structs.astuple(event.attempt)))
    )
    found.world.run()
    return found, admitted


async def admissions(daemon: Daemon, workflows: Sequence[int]) -> list[Admission]:
    """What the daemon did, from its story, in order."""
    found = {}
    for workflow in workflows:
        token = "0.0"
        while (page := await daemon.engine.story(workflow, token)).events:
            token = page.token
            for event in page.events:
                if event.kind == "ItemAdmitted":
                    key = (event.number, event.index)
                    found[key] = (event.at_ms, workflow, event.task, event.item, event.attempt)
    return [found[key] for key in sorted(found)]


def world_of(count: int) -> World:
    world = World()
    world.cluster.nodes = {f"n{k}": Node(f"n{k}", gpu_type="H100", gpu_count=8) for k in range(count)}
    return world


@run
async def test_what_is_simulated_is_what_happens() -> None:
    world = world_of(2)
    async with world.daemon() as daemon:
        workflows = [(await submit(daemon, *tasks, name=f"w{k}")).workflow for k, tasks in enumerate(documents())]
        await anyio.sleep(17)  # in the middle of it: some run, some wait, some are over
        snapshot = await taken(daemon)
        _, predicted = simulated(snapshot)
        for workflow in workflows:
            await ended(daemon, workflow)
        happened = [one for one in await admissions(daemon, workflows) if one[0] > snapshot.at_ms]
        assert len(happened) > 8
        assert [one[1:] for one in predicted] == [one[1:] for one in happened]
        assert all(abs(one[0] - other[0]) <= 50 for one, other in zip(predicted, happened, strict=True))


@run
async def test_a_change_is_simulated_and_the_daemon_knows_nothing_of_it() -> None:
    world = world_of(1)
    async with world.daemon() as daemon:
        for k in range(3):
            await submit(daemon, lasting("a", "100s", resources=gpu(8)), name=f"w{k}", project="research/llm")
        await anyio.sleep(40)
        snapshot, before = await taken(daemon), (await daemon.engine.status()).commit_number
        assert [at_ms - snapshot.at_ms for at_ms, *_ in simulated(snapshot)[1]] == [60_000, 160_000]
        _, more = simulated(snapshot, Change(add_nodes=("2x8:H100",)))
        assert [at_ms - snapshot.at_ms for at_ms, *_ in more] == [0, 0]
        tight, _ = simulated(snapshot, Change(add_nodes=("2x8:H100",), quotas=("research:gpus=16",)))
        starts = [(start.name, start.in_s) for start in result_of(tight.recorder).starts]
        assert starts == [("w1.1/a", 0.0), ("w2.1/a", 60.0)]
        drained, again = simulated(snapshot, Change(add_nodes=("1x8:H100",), drains=("n0",)))
        assert result_of(drained.recorder).total.preemptions == 1
        assert {workflow for _, workflow, *_ in again} == {1, 2, 3}
        assert not drained.world.refusals
        assert (await daemon.engine.status()).commit_number == before
        assert [node.name for node in await daemon.engine.nodes()] == ["n0"]


@run
async def test_what_a_change_names_must_be_there() -> None:
    async with world_of(1).daemon() as daemon:
        snapshot = await taken(daemon)
        for change, words in (
            (Change(drains=("n1",)), "there is no such node"),
            (Change(drains=("rack=r9",)), "no node has this label"),
            (Change(quotas=("research:gpus=+8",)), "has no quota of gpus to change"),
            (Change(quotas=("research:memory=many",)), "memory"),
            (Change(quotas=("research",)), "expected TENANT:RESOURCE=AMOUNT"),
            (Change(add_nodes=("8",)), "neither NODESxGPUS:MODEL nor a file"),
        ):
            with pytest.raises(Refusal, match=words):
                simulated(snapshot, change)


@run
async def test_durations_are_estimated_and_it_is_said_how() -> None:
    async with world_of(1).daemon() as daemon:
        timed = msgspec.structs.replace(lasting("a", "1h", resources=gpu(8)), timeouts=TIMED)
        await submit(daemon, timed, name="told")
        await submit(daemon, msgspec.structs.replace(timed, env={"VIRTUAL_DURATION": "1h", "X": "1"}), name="too")
        await anyio.sleep(10)
        snapshot = await taken(daemon)
        found, _ = simulated(snapshot)
        assert found.remarks() == ["durations of attempts: 2 as their documents tell (VIRTUAL_DURATION)"]
        silent = Rows(**{name: dict(getattr(snapshot.rows, name)) for name in Rows.__struct_fields__})
        silent.specs = {
            digest: blob.replace(b"VIRTUAL_DURATION", b"virtual_duration") for digest, blob in silent.specs.items()
        }
        quiet, _ = simulated(msgspec.structs.replace(snapshot, rows=silent))
        assert quiet.remarks() == ["durations of attempts: 2 by their timeout.run"]
        assert quiet.world.now_ms == snapshot.at_ms - 10_000 + 2 * 7_200_000


def test_rows_of_another_make_are_refused() -> None:
    with pytest.raises(Refusal, match="cannot be read"):
        join(Rows(), b"\x00")
    with pytest.raises(Refusal, match="cannot be read"):
        snapshot_of(1, 0, b"\x00", b"\x00", Rows())
    with pytest.raises(Refusal, match="cannot be read"):
        broken = Rows(workflows={1: b"\xc1"})
        start(Scenario(snapshot=Snapshot(1, 0, broken, limits_of(Scenario().limits), Scheduling())))
