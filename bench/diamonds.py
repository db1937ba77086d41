"""300 diamonds of 4 no-op tasks, submitted at once over gRPC, until the last event of all of them."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import anyio

from bench.daemon import daemon, document, follow
from bench.floor import transitions_per_s
from bench.table import show, verdict

COUNT = 300
NOOP = {"command": ["true"]}
DIAMOND = {
    "a": NOOP,
    "b": {**NOOP, "needs": ["a"]},
    "c": {**NOOP, "needs": ["a"]},
    "d": {**NOOP, "needs": ["b", "c"]},
}


async def measure() -> tuple[float, float]:
    """Tasks per second: 300 single submits in flight together; the same in batches (SubmitBatch)."""
    async with daemon("--runtime", "virtual", "--pretend", "64x8:H100") as found, found.client() as client:
        sources = [document(f"diamond{k}", DIAMOND) for k in range(COUNT)]
        number = (await client.status()).commit_number
        start = time.perf_counter()
        async with anyio.create_task_group() as group:
            for source in sources:
                group.start_soon(client.submit, source)
        await follow(client, f"{number}.999999", COUNT)
        single = 4 * COUNT / (time.perf_counter() - start)
        number = (await client.status()).commit_number
        start = time.perf_counter()
        await client.submit_many(sources)
        await follow(client, f"{number}.999999", COUNT)
        return single, 4 * COUNT / (time.perf_counter() - start)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ffd-bench-") as folder:
        floor = transitions_per_s(Path(folder), 20 * COUNT, 500) / 5
    found = [anyio.run(measure) for _ in range(3)]
    single, batch = (max(figures) for figures in zip(*found, strict=True))
    show(
        [
            ("floor: bare SQLite, 5 transitions a task, 500 a commit", f"{floor:,.0f} tasks/s", ""),
            ("300 diamonds, one Submit each", f"{single:,.0f} tasks/s", verdict(single, 3000, 8000)),
            ("300 diamonds, one SubmitBatch", f"{batch:,.0f} tasks/s", verdict(batch, 3000, 8000)),
        ]
    )
