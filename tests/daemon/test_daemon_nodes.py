"""Looking after nodes through a whole daemon: marks outlive it, a drain moves work, a quarantine ends by its timer."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from world import World, ended, lasting, run, submit

from ffd.core.commands import Cordon, Drain, NodesMarked, Uncordon
from ffd.core.model import Node
from ffd.daemon.fsck import check
from ffd.daemon.tree import Daemon
from ffd.errors import Refusal
from ffd.plugins.store.memory import MemoryStore
from ffd.settings import Scheduling


async def happens(daemon: Daemon, kind: str, workflow: int = 0) -> None:
    """Wait until there was, or is, such an event."""
    async with aclosing(daemon.engine.watch(workflow, "0.0")) as found:
        async for page in found:
            if any(event.kind == kind for event in page.events):
                return


def two_nodes() -> World:
    world = World(node_slots=1)
    world.cluster.nodes["n1"] = Node("n1", cpu_millis=64_000, slot_count=1)
    return world


@run
async def test_marks_outlive_the_daemon() -> None:
    world = two_nodes()
    async with world.daemon() as daemon:
        marked = await daemon.engine.ask(Cordon(nodes=("n0",), by="ann", why="disk", key="k", payload_digest="d"))
        assert marked == NodesMarked(("n0",))
    async with world.daemon(owner="two") as daemon:
        assert {page.name: page.state for page in await daemon.engine.nodes()} == {"n0": "cordoned", "n1": "ready"}
        assert (await daemon.engine.node("n0")).node.why == "cordoned by ann: disk"
        again = await daemon.engine.ask(Cordon(nodes=("n0",), by="ann", why="disk", key="k", payload_digest="d"))
        assert again == NodesMarked(("n0",), duplicate=True)
        assert "ffd_closed_nodes 1.0" in daemon.engine.metrics()
        answer = await submit(daemon, lasting("a", "1s"), lasting("b", "1s"))
        assert await ended(daemon, answer.workflow) == "succeeded"
        assert {page.nodes for page in await daemon.engine.tasks(answer.workflow)} <= {("n1",), ()}
        with pytest.raises(Refusal, match="no node"):
            await daemon.engine.ask(Cordon(nodes=("n9",)))
    assert await check(MemoryStore(world.database)) == []


@run
async def test_a_drain_moves_what_runs_as_its_preview_said() -> None:
    world = two_nodes()
    async with world.daemon() as daemon:
        answer = await submit(daemon, lasting("a", "1m"))
        await happens(daemon, "AttemptRunning", answer.workflow)
        (held,) = [page.name for page in await daemon.engine.nodes() if page.slot_used_count]
        preview = await daemon.engine.preview_drain((held,), {}, None)
        (stop,) = preview.stops
        assert (stop.task, stop.attempt, stop.elsewhere) == ("a", 1, ("n1" if held == "n0" else "n0",))
        assert {page.state for page in await daemon.engine.nodes()} == {"ready"}, "a preview changes nothing"
        assert await daemon.engine.ask(Drain(nodes=(held,))) == NodesMarked((held,), stopping_count=1)
        assert await ended(daemon, answer.workflow) == "succeeded"
        (item,) = await daemon.engine.items(answer.workflow, "a")
        assert (item.attempt, item.user_failures, item.infra_failures) == (2, 0, 0)
        assert {page.name: page.state for page in await daemon.engine.nodes()}[held] == "cordoned"


@run
async def test_a_quarantine_ends_by_its_timer_also_after_a_restart() -> None:
    world, scheduling = two_nodes(), Scheduling(quarantine_failures_count=1)
    async with world.daemon(scheduling=scheduling) as daemon:
        answer = await submit(daemon, lasting("a", "1h"))
        await happens(daemon, "AttemptRunning", answer.workflow)
        (held,) = [page.name for page in await daemon.engine.nodes() if page.slot_used_count]
        world.cluster.lose_node(held)
        world.cluster.add_node(Node(held, cpu_millis=64_000, slot_count=1))
        await happens(daemon, "NodeQuarantined")
        assert {page.name: page.state for page in await daemon.engine.nodes()}[held] == "quarantined"
    async with world.daemon(owner="two", scheduling=scheduling) as daemon:
        await happens(daemon, "NodeOnProbation")
        assert {page.name: page.state for page in await daemon.engine.nodes()}[held] == "probation"
        await daemon.engine.ask(Uncordon(nodes=(held,)))
        assert {page.state for page in await daemon.engine.nodes()} == {"ready"}
        assert await ended(daemon, answer.workflow) == "succeeded"
