"""1 -> 1000 -> 1 real processes, 4 at once. Of a daemon that ran the same once before, and then rested: it has made as
many files in advance as that needed."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import mkdtemp

import anyio

from bench.daemon import REST_S, daemon, document, follow, scratch
from bench.floor import fanout_per_s
from bench.table import show, verdict
from ffd.api.client import Client

COUNT, AT_ONCE = 1000, 4
ROUNDS = 3
TRUE = {"command": ["/bin/true"]}


async def measure(folder: str) -> float:
    async with daemon("--runtime", "local", inside=folder) as found, found.client() as client:
        await _run(client, "warm")
        await anyio.sleep(REST_S)
        return await _run(client, "fanout")


async def _run(client: Client, name: str) -> float:
    """Tasks per second from submit to last event."""
    number = (await client.status()).commit_number
    tasks = {
        "first": TRUE,
        "work": {**TRUE, "needs": ["first"], "foreach": list(range(COUNT)), "max_parallel": AT_ONCE},
        "last": {**TRUE, "needs": ["work"]},
    }
    start = time.perf_counter()
    await client.submit(document(name, tasks))
    await follow(client, f"{number}.999999", 1)
    return (COUNT + 2) / (time.perf_counter() - start)


def main() -> None:
    floor = figure = 0.0
    with scratch() as folder:
        for _ in range(ROUNDS):  # in turns, the best of each
            floor = max(floor, fanout_per_s(Path(mkdtemp(dir=folder)), COUNT, AT_ONCE))
            figure = max(figure, anyio.run(measure, folder))
    show(
        [
            ("floor: bare loop, 4 at once, each start and end committed", f"{floor:,.0f} tasks/s", ""),
            ("1 -> 1000 -> 1 /bin/true, 4 at once", f"{figure:,.0f} tasks/s", ""),
            ("ratio", f"{figure / floor:.2f}", verdict(figure / floor, 0.6, 0.9)),
        ]
    )
