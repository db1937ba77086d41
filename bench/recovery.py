"""kill -9 with 100,000 live tasks, to the first new decision of the next daemon; again with 1,000,000 finished tasks in
the same database."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import anyio
import msgspec

from bench.big import COUNT, WIDTH, layered
from bench.daemon import Daemon
from bench.table import show, verdict
from ffd.core.model import Item, Listing, Rows, Task, Workflow
from ffd.plugins.ports import Batch, Lease
from ffd.plugins.store.sqlite import SqliteStore

ARGS = ("--runtime", "virtual", "--pretend", "1x1:H100")
HISTORY_WORKFLOWS, HISTORY_ITEMS = 1000, 1000


async def live_tasks(state: Path) -> Daemon:
    """A daemon that holds 100,000 live tasks, most of them waiting."""
    found = Daemon(state, *ARGS)
    await found.start()
    async with found.client() as client:
        await client.submit(
            layered(COUNT, WIDTH).replace(
                b'"command": ["true"]', b'"command": ["true"], "env": {"VIRTUAL_DURATION": "1h"}'
            )
        )
    return found


async def restart_s(found: Daemon) -> float:
    """SIGKILL, start again; until a commit that was not there before."""
    async with found.client() as client:
        before = (await client.status()).commit_number
    found.kill()
    start = time.perf_counter()
    found.spawn()
    await found.ready()
    while True:
        async with found.client() as client:
            if (await client.status()).commit_number > before:
                return time.perf_counter() - start
        await anyio.sleep(0.005)


async def add_history(state: Path) -> None:
    """1,000,000 finished items in 1,000 ended workflows, written through the store as the daemon writes them."""
    store = await SqliteStore.open(state)
    lease = await store.hold("bench", "", 10_000, 0)
    assert isinstance(lease, Lease)
    head = await store.head()
    item = msgspec.msgpack.encode(Item(state="succeeded", number=1))
    task = msgspec.msgpack.encode(Task(state="succeeded", item_count=HISTORY_ITEMS))
    for k in range(HISTORY_WORKFLOWS):
        workflow = 1_000_000 + k
        row = Workflow(workflow, "old", k + 1, "default", "none", {}, state="succeeded", ended_at_ms=1)
        rows = Rows(
            {workflow: msgspec.msgpack.encode(row)},
            {(workflow, "work"): task},
            {(workflow, "work", number): item for number in range(HISTORY_ITEMS)},
        )
        listing = Listing(workflow, "default", "old", k + 1, "succeeded", "bench", False, 1, 1)
        head = await store.commit(Batch(lease.epoch, head.number + 1, 1, [], rows, [listing]))
    await store.release(lease)
    await store.close()


async def measure(state: Path) -> tuple[float, float]:
    found = await live_tasks(state)
    without = min([await restart_s(found) for _ in range(3)])
    found.stop()
    await add_history(state)
    await found.start()
    with_history = min([await restart_s(found) for _ in range(3)])
    found.stop()
    return without, with_history


async def empty_s(state: Path) -> float:
    """Floor: the same restart with nothing live."""
    found = Daemon(state, *ARGS)
    await found.start()
    found.kill()
    start = time.perf_counter()
    await found.start()
    elapsed = time.perf_counter() - start
    found.stop()
    return elapsed


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ffd-bench-") as folder:
        floor = anyio.run(empty_s, Path(folder))
    with tempfile.TemporaryDirectory(prefix="ffd-bench-") as folder:
        without, with_history = anyio.run(measure, Path(folder))
    ratio = with_history / without
    show(
        [
            ("floor: kill -9 and start of an empty daemon", f"{floor:.2f} s", ""),
            (
                "kill -9 with 100,000 live tasks -> first new commit",
                f"{without:.2f} s",
                verdict(without, 3, 1, less=True),
            ),
            ("the same with 1,000,000 finished tasks in history", f"{with_history:.2f} s", ""),
            ("ratio", f"{ratio:.2f}", verdict(ratio, 1.2, 1.0, less=True)),
        ]
    )
