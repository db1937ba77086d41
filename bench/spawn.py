"""The local runtime alone: /bin/true one after the other, and 16 at once, beside the bare cost of a process.

The floor starts a process, hears of its exit through a pidfd and reaps it: no directory, no log, no shell, no record.
Floor and figure take turns in one run, so that whatever else the machine does falls on both."""

from __future__ import annotations

import os
import select
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from bench.floor import spawn_true
from bench.table import show
from ffd.core.effects import Launch
from ffd.core.model import AttemptId, Place
from ffd.core.reports import ReplicaExited
from ffd.plugins.runtime.local import LocalRuntime

ROUNDS, PER_ROUND, AT_ONCE = 20, 16, 16


def floor_ms(count: int, at_once: int) -> float:
    """Milliseconds per process."""
    start = time.perf_counter()
    waiting = select.poll()
    pids: dict[int, int] = {}
    started = 0
    while started < count or pids:
        while started < count and len(pids) < at_once:
            pid = spawn_true()
            fd = os.pidfd_open(pid)
            pids[fd] = pid
            waiting.register(fd, select.POLLIN)
            started += 1
        for fd, _ in waiting.poll():
            waiting.unregister(fd)
            os.waitpid(pids.pop(fd), 0)
            os.close(fd)
    return (time.perf_counter() - start) * 1e3 / count


class Spawner:
    """Launches /bin/true over and over. Each is a task of its own, as in a workflow."""

    def __init__(self, runtime: LocalRuntime) -> None:
        self.runtime = runtime
        self.reports = runtime.watch()
        self.number = 0

    async def ms(self, count: int, at_once: int) -> float:
        """Milliseconds per replica, from the order to the report of its exit."""
        start = time.perf_counter()
        started = ended = 0
        while ended < count:
            while started < count and started - ended < at_once:
                await self._launch()
                started += 1
            exits = [report for report in await anext(self.reports) if isinstance(report, ReplicaExited)]
            assert all(report.exit_code == 0 for report in exits)
            ended += len(exits)
            await self.runtime.forget([report.attempt for report in exits])
        return (time.perf_counter() - start) * 1e3 / count

    async def _launch(self) -> None:
        self.number += 1
        attempt = AttemptId(1, f"t{self.number}", 0, 1)
        order = Launch(attempt, "spawn.1", "bench", (Place("here"),), argv=("/bin/true",), base_dir="/")
        await self.runtime.launch(order, dict)


async def measure(at_once: int) -> tuple[float, float]:
    """(floor, figure): medians over the rounds."""
    floors, figures = [], []
    with tempfile.TemporaryDirectory(prefix="ffd-bench-") as folder:
        runtime = LocalRuntime(Path(folder))
        spawner = Spawner(runtime)
        run: Callable[[], Awaitable[float]] = lambda: spawner.ms(PER_ROUND, at_once)  # noqa: E731
        await run()
        for _ in range(ROUNDS):
            floors.append(floor_ms(PER_ROUND, at_once))
            figures.append(await run())
        await runtime.close()
    return statistics.median(floors), statistics.median(figures)


def main() -> None:
    rows = []
    for words, at_once in (("one after the other", 1), (f"{AT_ONCE} at once", AT_ONCE)):
        floor, figure = anyio.run(measure, at_once)
        share = f"{figure:.2f} ms, {floor / figure:.2f} of the floor"
        rows += [
            (f"floor: bare process, {words}", f"{1e3 / floor:,.0f}/s", f"{floor:.2f} ms"),
            (f"local runtime, {words}", f"{1e3 / figure:,.0f}/s", share),
        ]
    show(rows)


if __name__ == "__main__":
    main()
