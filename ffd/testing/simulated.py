"""Simulated histories: clients that submit random documents and meddle, faults that strike for a while, then quiet.

`play(seed)` returns what was broken, in words; empty = nothing. Same seed, same history. Called by tests/sim and by
whoever looks into a failing seed: `python -m ffd.testing.simulated SEED...`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import anyio

from ffd.core.commands import (
    Accepted,
    Answer,
    AnyCommand,
    Cancel,
    Cordon,
    Drain,
    Resume,
    Retry,
    SetPriority,
    SetQuota,
    SetTenant,
    Submit,
    Suspend,
    Uncordon,
)
from ffd.core.document import compile_document
from ffd.core.effects import Launch
from ffd.core.model import Node
from ffd.daemon.engine import DaemonEngine
from ffd.errors import Refusal
from ffd.plugins.behaviour import Behaviour
from ffd.testing import builders
from ffd.testing.simloop import simulate
from ffd.testing.simulation import Process, World, crash_somewhere, settings, state_faults

TROUBLE_S = 60.0  # for how long faults strike
QUIET_S = 7_200.0  # within which all must have ended after that (L6)
WORKFLOWS = 12
PROJECTS = ("default", "t/a", "t/b", "u")
TENANTS = ("", "t", "t/a", "t/b", "u")
NODES = tuple(Node(f"n{k}", gpu_type="H100", gpu_count=8, cpu_millis=8_000, slot_count=6) for k in range(3))


def play(seed: int, faults: bool = True) -> list[str]:
    """One history."""
    return simulate(_played(seed, faults), seed)


def replayed(seed: int) -> list[bytes]:
    """The digests of all commits of one history: equal for equal seeds."""

    async def main() -> list[bytes]:
        world = World(seed, NODES, behaviour_of(seed))
        await _play(world, seed, True)
        return [commit.head.digest for commit in world.database.commits]

    return simulate(main(), seed)


def preempted(seed: int) -> int:
    """How many attempts made room for others in one history."""

    async def main() -> int:
        world = World(seed, NODES, behaviour_of(seed))
        await _play(world, seed, True)
        return world.preempted_count

    return simulate(main(), seed)


async def _played(seed: int, faults: bool) -> list[str]:
    return await _play(World(seed, NODES, behaviour_of(seed)), seed, faults)


async def _play(world: World, seed: int, faults: bool) -> list[str]:
    world.trouble = faults
    async with anyio.create_task_group() as group:
        for name in ("alpha", "beta"):
            _supervise(world, group, name)()
        group.start_soon(_inspect, world)
        if faults:
            group.start_soon(_strike, world)
        try:
            with anyio.fail_after(TROUBLE_S + QUIET_S):
                await _clients(world, seed)
                await asyncio.sleep(max(0.0, TROUBLE_S - world.loop.time()) if faults else 0)
                world.trouble = False
                await _converge(world)
        except TimeoutError:
            world.faults.append(f"L6 within {QUIET_S:.0f} s of quiet not everything ended: {_left(world)}")
        world.stopped = True
        for process in world.processes:
            process.kill()
        group.cancel_scope.cancel()
    return await world.audit()


def _left(world: World) -> list[str]:
    """Workflows that are still live on the disk, and who could do something about it."""
    listings = world.database.listings.values()
    live = [f"{listing.name}.{listing.number}" for listing in listings if listing.live]
    return [*live[:5], *(process.name for process in world.processes)]


def _supervise(world: World, group: Any, name: str) -> Callable[[], None]:
    """Start a daemon, and another whenever it died: as systemd would."""
    generations = iter(range(10_000))

    async def live(process: Process) -> None:
        await process.live()
        world.processes.remove(process)
        if not world.stopped:
            await asyncio.sleep(1.0)
            start()

    def start() -> None:
        process = Process(world, f"{name}-{next(generations)}", settings())
        if world.trouble and world.random["crash"].random() < 0.5:
            crash_somewhere(process, world.random["crash"])
        world.processes.append(process)
        group.start_soon(live, process)

    return start


async def _strike(world: World) -> None:
    """Kill, pause, arm failpoints and let clocks jump, until quiet comes."""
    crash, pause = world.random["crash"], world.random["pause"]
    while world.trouble:
        await asyncio.sleep(crash.uniform(0.2, 4.0))
        running = [process for process in world.processes if process.is_running()]
        if not running or not world.trouble:
            continue
        process = crash.choice(running)
        kind = crash.random()
        if kind < 0.3:
            process.kill()
        elif kind < 0.7:
            crash_somewhere(process, crash)
        elif kind < 0.9:
            process.pause(pause.choice((0.5, 2.0, 5.0, 12.0)))
        else:
            process.wall_skew_ms += pause.choice((-3_600_000, 3_600_000, 86_400_000))


async def _inspect(world: World) -> None:
    """Look at the leader's state now and then."""
    while True:
        await asyncio.sleep(0.37)
        for fault in state_faults(world):
            if fault not in world.faults:
                world.faults.append(fault)


async def _converge(world: World) -> None:
    """L6: after faults cease every backlog drains, and every quarantine ends."""
    while await world.call(_live_count) or await world.call(_quarantined):
        await asyncio.sleep(5.0)


async def _live_count(engine: DaemonEngine) -> int:
    return (await engine.status()).workflow_count


async def _quarantined(engine: DaemonEngine) -> int:
    return sum(page.state == "quarantined" for page in await engine.nodes())


async def _cordoned(engine: DaemonEngine) -> tuple[str, ...]:
    return tuple(page.name for page in await engine.nodes() if page.state in ("cordoned", "draining"))


# ------------------------------------------------------------------------------------------------------- clients


async def _clients(world: World, seed: int) -> None:
    async with anyio.create_task_group() as group:
        for number in range(WORKFLOWS):
            group.start_soon(_client, world, Random(f"client-{seed}-{number}"), number)
        group.start_soon(_operator, world)
        group.start_soon(_administrator, world)


async def _client(world: World, random: Random, number: int) -> None:
    """Submit one document (the same call until it is answered), then meddle with it; what was promised must hold."""
    await asyncio.sleep(random.uniform(0.0, TROUBLE_S * 0.7))
    compiled = compile_document(document(random, number))
    assert compiled.spec is not None, compiled.faults
    project = PROJECTS[number % len(PROJECTS)]
    priority = Random(f"priority-{number}-{world.seed}").choice((300, 500, 700))  # a stream of its own
    submit = builders.submit(
        compiled.spec, by="sim", project=project, priority=priority, key=f"k{number}", payload_digest=f"p{number}"
    )
    accepted = await _submit(world, submit)
    assert isinstance(accepted, Accepted)
    workflow = accepted.workflow
    for _ in range(random.randrange(4)):
        await asyncio.sleep(random.uniform(0.1, 15.0))
        await _meddle(world, random, workflow)
    await _ask(world, Resume(by="sim", workflow=workflow))
    again = await _submit(world, submit)
    if not isinstance(again, Accepted) or again.workflow != workflow:
        world.faults.append(f"S2 the same key gave {again} after {accepted}")


async def _submit(world: World, submit: Submit) -> Answer:
    """Until its tenant may submit."""
    while True:
        try:
            return await world.call(lambda engine: engine.ask(submit))
        except Refusal as refusal:
            if "is disabled" not in refusal.message:
                raise
            await asyncio.sleep(1.0)


async def _meddle(world: World, random: Random, workflow: int) -> None:
    command = random.choice(
        (
            Cancel(by="sim", workflow=workflow, now=random.random() < 0.3),
            Suspend(by="sim", workflow=workflow),
            Resume(by="sim", workflow=workflow),
            SetPriority(by="sim", workflow=workflow, priority=random.randrange(1001)),
            Retry(by="sim", workflow=workflow),
        )
    )
    await _ask(world, command)


async def _operator(world: World) -> None:
    """Cordon, drain and open nodes for a while, and with faults lose some and get them back; at the end open all."""
    random, number = world.random["operator"], 0
    while world.loop.time() < TROUBLE_S:
        await asyncio.sleep(random.uniform(1.0, 8.0))
        node, number = random.choice(NODES), number + 1
        if world.trouble and random.random() < 0.3:
            world.cluster.lose_node(node.name)
            await asyncio.sleep(random.uniform(0.0, 4.0))
            world.cluster.add_node(node)
        else:
            kind = random.choice((Cordon, Drain, Uncordon))
            await _ask(world, kind(by="op", nodes=(node.name,), key=f"o{number}", payload_digest=f"o{number}"))
    while closed := await world.call(_cordoned):
        await _ask(world, Uncordon(by="op", nodes=closed))


async def _administrator(world: World) -> None:
    """Give and take quotas, disable, enable and move tenants, while work is admitted; at the end nothing is bounded."""
    random, number = world.random["tenants"], 0
    while world.loop.time() < TROUBLE_S:
        await asyncio.sleep(random.uniform(0.5, 6.0))
        tenant, number = random.choice(TENANTS), number + 1
        key: dict[str, Any] = {"key": f"t{number}", "payload_digest": f"t{number}", "by": "adm"}
        kind = random.random()
        if kind < 0.6:
            resource, scale = random.choice((("gpus", 1_000), ("gpus/H100", 1_000), ("pods", 1)))
            amounts = {name: random.randrange(9) * scale for name in ("nominal", "borrow_max", "lend_max")}
            fields = {**amounts, "lend_max": min(amounts["lend_max"], amounts["nominal"])}
            changes: dict[str, Any] = {resource: None if random.random() < 0.3 else fields}
            await _ask(world, SetQuota(tenant=tenant, changes=changes, **key))
        elif kind < 0.8:
            await _ask(world, SetTenant(tenant=tenant, parent=random.choice(TENANTS), **key))
        else:
            await _ask(world, SetTenant(tenant=tenant, enabled=random.random() < 0.6, **key))
    for tenant in TENANTS:
        await _ask(world, SetTenant(tenant=tenant, enabled=True, by="adm"))
        await _ask(world, SetQuota(tenant=tenant, changes={}, replace=True, by="adm"))


async def _ask(world: World, command: AnyCommand) -> None:
    """A refusal is an answer."""

    async def ask(engine: DaemonEngine) -> None:
        try:
            await engine.ask(command)
        except Refusal as refusal:
            if refusal.code == "storage_full":
                raise

    asked: Callable[[DaemonEngine], Awaitable[None]] = ask
    await world.call(asked)


def document(random: Random, number: int) -> dict[str, Any]:
    """A random document: a small DAG with fan-outs, gangs, retries, conditions, timeouts and finally tasks."""
    names = [f"t{k}" for k in range(random.randrange(1, 7))]
    tasks: dict[str, Any] = {}
    for k, name in enumerate(names):
        task: dict[str, Any] = {"command": ["true"], "env": {"SIM": str(number)}}
        if k and random.random() < 0.7:
            parents = random.sample(names[:k], random.randrange(1, min(k, 3) + 1))
            task["needs"] = {
                parent: random.choice(("success", "success", "success", "done", "failed")) for parent in parents
            }
        if random.random() < 0.3:
            task["foreach"] = list(range(random.randrange(0, 6)))
            if random.random() < 0.4:
                task["max_parallel"] = 2
        elif random.random() < 0.3:
            task["gang"] = random.randrange(2, 5)
            task["resources"] = {"gpus": random.choice((1, 2, 4))}
        if random.random() < 0.5:
            task["retry"] = {"max": random.randrange(1, 4), "backoff": "500ms"}
        if random.random() < 0.2:
            task["timeout"] = {"run": "6s", "queue": "10m"}
        tasks[name] = task
    found: dict[str, Any] = {"name": f"sim{number % 4}", "tasks": tasks, "fail_fast": random.random() < 0.5}
    if random.random() < 0.3:
        found["finally"] = {"tidy": {"command": ["true"]}}
    if random.random() < 0.2:
        found["max_parallel"] = 2
    return found


def behaviour_of(seed: int) -> Callable[[Launch, int], Behaviour]:
    """Each replica's duration and exit code follow from its name and the seed."""

    def behave(order: Launch, rank: int) -> Behaviour:
        random = Random(f"{seed}-{order.attempt.label()}-{rank}")
        return Behaviour(random.choice((0, 50, 800, 3_000, 9_000)), random.choice((0, 0, 0, 0, 0, 0, 1, 3)))

    return behave


def main(seeds: list[str]) -> int:
    broken = 0
    for seed in seeds:
        faults = play(int(seed))
        broken += bool(faults)
        print(seed, "ok" if not faults else "\n  ".join(["BROKEN", *faults[:20]]), flush=True)
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
