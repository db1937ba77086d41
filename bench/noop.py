"""1 -> 5000 -> 1 no-op tasks on the virtual runtime, SQLite FULL, from submit to the last event at the client."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import anyio

from bench.daemon import daemon, document, follow
from bench.floor import transitions_per_s
from bench.table import show, verdict

COUNT = 5000
NOOP = {"command": ["true"]}


async def measure() -> float:
    async with daemon("--runtime", "virtual", "--pretend", "64x8:H100") as found, found.client() as client:
        tasks = {
            "first": NOOP,
            "work": {**NOOP, "needs": ["first"], "foreach": list(range(COUNT))},
            "last": {**NOOP, "needs": ["work"]},
        }
        number = (await client.status()).commit_number
        start = time.perf_counter()
        await client.submit(document("noop", tasks))
        await follow(client, f"{number}.999999", 1)
        return (COUNT + 2) / (time.perf_counter() - start)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ffd-bench-") as folder:
        floor = transitions_per_s(Path(folder), 5 * COUNT, 500)
    figure = max(anyio.run(measure) for _ in range(3))
    show(
        [
            ("floor: bare SQLite, 5 transitions a task, 500 a commit", f"{floor / 5:,.0f} tasks/s", ""),
            ("1 -> 5000 -> 1 no-op tasks", f"{figure:,.0f} tasks/s", verdict(figure, 5000, 12000)),
            ("ratio", f"{figure / (floor / 5):.2f}", ""),
        ]
    )
