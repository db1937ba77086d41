"""One workflow of 100,000 tasks: time to accept, the daemon's memory per live task, time to finish."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
import msgspec

from bench.daemon import daemon, document, until_idle
from bench.floor import transitions_per_s
from bench.table import show, verdict

COUNT = 100_000
WIDTH = 1000


def layered(count: int, width: int) -> bytes:
    """`count` plain tasks in layers of `width`; each needs the one above it."""
    tasks: dict[str, Any] = {}
    for k in range(count):
        tasks[f"t{k}"] = {"command": ["true"], "needs": [f"t{k - width}"]} if k >= width else {"command": ["true"]}
    return document("big", tasks)


async def measure(source: bytes) -> tuple[float, float, float]:
    """(seconds to accept, bytes per live task, seconds to finish)."""
    args = ("--runtime", "virtual", "--pretend", "64x8:H100")
    async with daemon(*args) as found, found.client() as client:
        number = (await client.status()).commit_number
        before = found.rss_bytes()
        start = time.perf_counter()
        await client.submit(source, params={}, priority=0)
        accepted = time.perf_counter() - start
        per_task = (found.rss_bytes() - before) / COUNT
        await until_idle(client, f"{number}.999999")
        return accepted, per_task, time.perf_counter() - start


def main() -> None:
    source = layered(COUNT, WIDTH)
    start = time.perf_counter()
    msgspec.json.decode(source)
    decode = time.perf_counter() - start
    with tempfile.TemporaryDirectory(prefix="ffd-bench-") as folder:
        floor = 5 * COUNT / transitions_per_s(Path(folder), 5 * COUNT, 500)
    accepted, per_task, finished = anyio.run(measure, source)
    show(
        [
            ("floor: decode the JSON", f"{decode:.2f} s", ""),
            ("accepted: 100,000 plain tasks, in layers", f"{accepted:.2f} s", verdict(accepted, 5, 1.5, less=True)),
            ("memory per live task when accepted", f"{per_task:,.0f} bytes", verdict(per_task, 2048, 1024, less=True)),
            ("floor: bare SQLite, 5 transitions a task", f"{floor:.1f} s", ""),
            ("finished", f"{finished:.1f} s", f"{COUNT / finished:,.0f} tasks/s"),
        ]
    )
