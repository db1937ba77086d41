"""The worlds in which runtimes are tested: this machine with real processes, and a virtual cluster."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from ffd.core.effects import Launch
from ffd.core.model import AttemptId, Node, Place
from ffd.core.reports import ReplicaExited
from ffd.plugins.behaviour import Behaviour
from ffd.plugins.ports import Found
from ffd.plugins.runtime.local import LocalRuntime
from ffd.plugins.runtime.virtual import VirtualCluster, VirtualRuntime
from ffd.plugins.runtime.warden import LOCK
from ffd.testing.conformance.runtime import PATIENCE_S, Wish, attempt_of, opened

FOREVER_MS = 1e9
A = attempt_of("a")


def launch_of(attempt: AttemptId, replicas: int = 1, **more: object) -> Launch:
    """An order on the node `here`."""
    return msgspec.structs.replace(Launch(attempt, "test.7", "team/test", (Place("here"),) * replicas), **more)


async def readable(fd: int) -> None:
    """Wait until a descriptor can be read."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.add_reader(fd, lambda: future.done() or future.set_result(None))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await future
    finally:
        loop.remove_reader(fd)


async def process_ended(pid: int) -> None:
    fd = os.pidfd_open(pid)
    try:
        await readable(fd)
    finally:
        os.close(fd)


class LocalWorld:
    """Scripts that talk to the test through named pipes in `folder`. `settings` go to the runtime."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.settings = settings

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    async def open(self) -> LocalRuntime:
        return LocalRuntime(self.state_dir, **self.settings)

    def order(self, attempt: AttemptId, wish: Wish, replicas: int = 1) -> Launch:
        if wish.cannot_start:
            return launch_of(attempt, replicas, argv=("no-such-command",))
        lines = [f'own="{self._own(attempt)}.$FFD_RANK"', 'echo >> "$own.starts"']
        lines += [f"echo '{name}={value}' >> \"$FFD_OUTPUT\"" for name, value in wish.outputs]
        if wish.ignores_term:
            lines.append("trap '' TERM")
        if wish.waits:
            for rank in range(replicas):
                self.pipe(attempt, rank, "ready")
                self.pipe(attempt, rank, "end")
            lines += ['echo > "$own.ready"', 'read -r _ < "$own.end"']
        lines.append(f"exit {wish.exit_code}")
        return launch_of(attempt, replicas, script="\n".join(lines))

    def _own(self, attempt: AttemptId) -> Path:
        return self.folder / attempt.path().replace("/", "-")

    def pipe(self, attempt: AttemptId, rank: int, name: str) -> str:
        """`ready`: the replica writes to it; `end`: it waits for a line of it."""
        path = f"{self._own(attempt)}.{rank}.{name}"
        if not os.path.exists(path):
            os.mkfifo(path)
        return path

    async def ready(self, attempt: AttemptId, rank: int) -> None:
        fd = os.open(self.pipe(attempt, rank, "ready"), os.O_RDONLY | os.O_NONBLOCK)
        try:
            await readable(fd)
        finally:
            os.close(fd)

    async def finish(self, found: Found) -> None:
        process = os.pidfd_open(int(found.ref))
        pipe = os.open(self.pipe(found.attempt, found.rank, "end"), os.O_RDWR)
        try:
            os.write(pipe, b"\n")
            await readable(process)
        finally:
            os.close(pipe)
            os.close(process)

    def starts(self, attempt: AttemptId, rank: int) -> int:
        path = Path(f"{self._own(attempt)}.{rank}.starts")
        return len(path.read_text().splitlines()) if path.exists() else 0


class VirtualWorld:
    """One virtual cluster, in real time."""

    def __init__(self, folder: Path) -> None:
        self.wishes: dict[AttemptId, Wish] = {}
        self.started: Counter[tuple[AttemptId, int]] = Counter()
        self.cluster = VirtualCluster((Node("here"), Node("there")), self._behave)
        self.cluster.on_start = self._on_start

    async def open(self) -> VirtualRuntime:
        return VirtualRuntime(self.cluster)

    def order(self, attempt: AttemptId, wish: Wish, replicas: int = 1) -> Launch:
        self.wishes[attempt] = wish
        return launch_of(attempt, replicas, argv=("true",))

    def _behave(self, order: Launch, rank: int) -> Behaviour:
        wish = self.wishes[order.attempt]
        return Behaviour(
            FOREVER_MS if wish.waits else 0,
            wish.exit_code,
            wish.outputs,
            ignores_term=wish.ignores_term,
            launch_fault="there is no such command" if wish.cannot_start else "",
        )

    def _on_start(self, order: Launch, rank: int) -> None:
        self.started[order.attempt, rank] += 1

    async def ready(self, attempt: AttemptId, rank: int) -> None:
        pass

    async def finish(self, found: Found) -> None:
        self.cluster.finish(found.attempt, found.rank)

    def starts(self, attempt: AttemptId, rank: int) -> int:
        return self.started[attempt, rank]


def in_loop(test: Callable[[LocalWorld], Awaitable[None]]) -> Callable[[Path], None]:
    """A test of an empty world."""

    def plain(tmp_path: Path) -> None:
        asyncio.run(test(LocalWorld(tmp_path)))

    plain.__name__, plain.__doc__ = test.__name__, test.__doc__
    return plain


async def run(world: LocalWorld, order: Launch) -> ReplicaExited:
    """Launch one replica and wait for its exit."""
    async with opened(world) as watched:
        await watched.launch(order)
        return (await watched.exits(order.attempt))[0]


def log_of(world: LocalWorld, attempt: AttemptId = A, rank: int = 0) -> bytes:
    return (world.state_dir / "runs" / f"{attempt.replica_path(rank)}.log").read_bytes()


def live_entries(world: LocalWorld) -> list[str]:
    return os.listdir(world.state_dir / "runs" / "live")


def warden_pid(world: LocalWorld) -> int:
    return int((world.state_dir / "runs" / LOCK).read_text())
