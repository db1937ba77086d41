"""A task that writes 200 MB/s to its log for some seconds: does the daemon's loop notice?

The lag is seen from outside: how late a round trip on an idle connection is, beside the same without the flood."""

from __future__ import annotations

import time

import anyio

from bench.daemon import Daemon, daemon, document
from bench.table import show, verdict

SECONDS = 8
WRITER = f"""
import os, time
block = (b"x" * 99 + b"\\n") * 10_000
end = time.monotonic() + {SECONDS}
sent, start = 0, time.monotonic()
while time.monotonic() < end:
    os.write(1, block)
    sent += len(block)
    ahead = sent / 200e6 - (time.monotonic() - start)
    if ahead > 0:
        time.sleep(ahead)
"""


async def lags_ms(found: Daemon, seconds: float) -> list[float]:
    """Round trips of a status call, ten a second."""
    lags = []
    async with found.client() as client:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            await client.status()
            lags.append((time.perf_counter() - start) * 1e3)
            await anyio.sleep(0.02)
    return sorted(lags)


async def measure() -> tuple[list[float], list[float]]:
    async with daemon("--runtime", "local") as found, found.client() as client:
        quiet = await lags_ms(found, 3)
        await client.submit(document("flood", {"write": {"command": ["python3", "-c", WRITER]}}))
        return quiet, await lags_ms(found, SECONDS - 1)


def p99(values: list[float]) -> float:
    return values[int(len(values) * 0.99)]


def main() -> None:
    quiet, flooded = anyio.run(measure)
    lag = p99(flooded)
    show(
        [
            ("floor: status round trip, quiet daemon, p99", f"{p99(quiet):.1f} ms", ""),
            ("the same while a task writes 200 MB/s, p99", f"{lag:.1f} ms", verdict(lag, 50, 10, less=True)),
        ]
    )
