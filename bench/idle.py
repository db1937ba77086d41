"""A daemon with nothing to do: cpu and memory."""

from __future__ import annotations

import time

import anyio

from bench.daemon import daemon
from bench.table import show, verdict

SECONDS = 20


async def measure() -> tuple[float, float]:
    """(percent of one core, MB resident)."""
    async with daemon("--runtime", "local") as found:
        await anyio.sleep(3)
        before, start = found.cpu_s(), time.perf_counter()
        await anyio.sleep(SECONDS)
        return 100 * (found.cpu_s() - before) / (time.perf_counter() - start), found.rss_bytes() / 1e6


def main() -> None:
    cpu, memory = anyio.run(measure)
    show(
        [
            ("idle daemon, cpu", f"{cpu:.2f} % of a core", verdict(cpu, 1, 0.1, less=True)),
            ("idle daemon, memory", f"{memory:.0f} MB", verdict(memory, 120, 80, less=True)),
        ]
    )
