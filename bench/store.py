"""How fast the SQLite store commits, recovers and reads, beside the floor of bare sqlite3 in the same run.

Ratios travel between machines; absolute figures do not. Every figure is a median.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import median, quantiles

from bench.table import show, verdict
from ffd.core import events as ev
from ffd.core.model import AttemptId, Listing, Place, Rows
from ffd.plugins.ports import Batch, Lease, ListQuery
from ffd.plugins.store.sqlite import SqliteStore
from ffd.plugins.store.sqlite_writer import PRAGMAS

ROW = b"\x84\xa5state\xa7running\xa6number\x01\xacsince_at_ms\xcf\x00\x00\x01\x8b\xcf\xe5h\x00" * 2  # an item's size
PLACES = (Place("node-17", (0, 1, 2, 3)),)
HISTORY_COUNT = 1_000_000  # finished tasks before recovery
SWITCH_INTERVALS_S = (0.005, 0.0005)  # Python's default, and what suits a daemon with a writer thread


class Author:
    """Makes batches: each moves `items` items of `workflows` workflows, two events and one row per item."""

    def __init__(self, lease: Lease, workflows: int) -> None:
        self.lease, self.workflows, self.number, self._turn = lease, workflows, 0, 0

    def next(self, rows: Rows, events: list[ev.AnyEvent], listings: list[Listing] | None = None) -> Batch:
        self.number += 1
        return Batch(self.lease.epoch, self.number, 1_700_000_000_000 + self.number, events, rows, listings or [])

    def accept(self, workflows: range, live: bool, items: int) -> Batch:
        """Workflows with everything they have, in one commit each way."""
        rows, listings = Rows(), []
        events: list[ev.AnyEvent] = []
        for workflow in workflows:
            name, state = f"name-{workflow % 50}", "running" if live else "succeeded"
            events.append(ev.WorkflowAccepted(workflow, name, workflow, "default", "d", {}, 500, "me", "", {}))
            rows.workflows[workflow] = ROW * 2
            ended_at_ms = 0 if live else workflow
            listings.append(Listing(workflow, "default", name, workflow, state, "me", live, workflow, ended_at_ms))
            rows.tasks[workflow, "train"] = ROW
            events += self._moves(rows, workflow, range(items))
        return self.next(rows, events, listings)

    def progress(self, items: int) -> Batch:
        rows = Rows()
        events: list[ev.AnyEvent] = []
        each = max(1, items // self.workflows)
        for _ in range(items // each):
            self._turn += 1
            first = self._turn // self.workflows * each % 10_000
            events += self._moves(rows, 1 + self._turn % self.workflows, range(first, first + each))
        return self.next(rows, events)

    @staticmethod
    def _moves(rows: Rows, workflow: int, items: range) -> list[ev.AnyEvent]:
        events: list[ev.AnyEvent] = []
        for item in items:
            attempt = AttemptId(workflow, "train", item, 1)
            events += (ev.ItemAdmitted(attempt, PLACES), ev.AttemptLaunching(attempt))
            rows.items[workflow, "train", item] = ROW
        return events


@contextmanager
def busy_interpreter() -> Iterator[None]:
    """Another thread that never waits: the event loop of a loaded daemon."""
    stop = threading.Event()

    def burn() -> None:
        while not stop.is_set():
            sum(range(300))

    thread = threading.Thread(target=burn)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def floor_ms(directory: Path, rows: int, rounds: int) -> list[float]:
    """Milliseconds per commit of a bare loop that only upserts rows, by executemany."""
    took = []
    with closing(sqlite3.connect(directory / "floor.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        for pragma in PRAGMAS:
            db.execute(f"PRAGMA {pragma}")
        db.execute(
            "CREATE TABLE IF NOT EXISTS t(a INTEGER, b TEXT, c INTEGER, row BLOB, PRIMARY KEY(a, b, c)) WITHOUT ROWID"
        )
        for turn in range(rounds):
            data = [(turn % 10, "train", item, ROW) for item in range(rows)]
            start = time.perf_counter()
            db.execute("BEGIN IMMEDIATE")
            db.executemany("REPLACE INTO t VALUES(?, ?, ?, ?)", data)
            db.execute("COMMIT")
            took.append((time.perf_counter() - start) * 1000)
    return took


async def commits_ms(store: SqliteStore, make: Callable[[], Batch], rounds: int) -> list[float]:
    took = []
    for _ in range(rounds):
        asked = make()
        start = time.perf_counter()
        await store.commit(asked)
        took.append((time.perf_counter() - start) * 1000)
    return took


def told(took: list[float], items: int, floor: float | None = None) -> tuple[str, str]:
    """Figure and remark of one row of a table."""
    middle = median(took)
    remark = f"p99 {quantiles(took, n=100)[98]:.2f} ms, {items / middle * 1000:,.0f} items/s"
    return f"{middle:.2f} ms", f"{remark}, {middle / floor:.1f}x floor" if floor else remark


async def commit_table(directory: Path) -> None:
    rows = []
    for items, rounds in ((1, 2_000), (100, 300), (1_000, 100)):
        floor = floor_ms(directory, items, rounds)
        rows.append((f"floor: bare sqlite3, {items} rows", *told(floor, items)))
        for workflows in sorted({1, min(10, items), items}):
            async with await SqliteStore.open(directory / f"commit-{items}-{workflows}") as store:
                author = await lead(store, workflows)
                took = await commits_ms(store, partial(author.progress, items), rounds)
            what = f"commit of {items} items of {workflows} workflows, {2 * items} events"
            rows.append((what, *told(took, items, median(floor))))
    for interval_s in SWITCH_INTERVALS_S:
        sys.setswitchinterval(interval_s)
        for items in (1, 1_000):
            async with await SqliteStore.open(directory / f"busy-{items}-{interval_s}") as store:
                author = await lead(store, min(10, items))
                with busy_interpreter():
                    took = await commits_ms(store, partial(author.progress, items), 60)
            rows.append(
                (f"the same beside a busy thread, {items} items, switch {interval_s * 1000:g} ms", *told(took, items))
            )
    sys.setswitchinterval(SWITCH_INTERVALS_S[0])
    show(rows)


async def lead(store: SqliteStore, workflows: int) -> Author:
    lease = await store.hold("bench", "", 60_000, 0)
    assert isinstance(lease, Lease)
    return Author(lease, workflows)


async def concurrent_table(directory: Path) -> None:
    """The next batch is being made while one is under way."""
    async with await SqliteStore.open(directory / "concurrent") as store:
        author = await lead(store, 10)
        start, rounds, items = time.perf_counter(), 300, 100
        waiting: asyncio.Task[object] | None = None
        for _ in range(rounds):
            coming = asyncio.create_task(store.commit(author.progress(items)))
            if waiting:
                await waiting
            waiting = coming
        assert waiting is not None
        await waiting
        took = time.perf_counter() - start
    show([(f"two commits of {items} items under way", f"{rounds * items / took:,.0f} items/s", "")])


async def recovery_table(directory: Path, history: int) -> None:
    """Load of 100 live workflows of 100 items, without and with finished ones before them."""
    paths = {finished: directory / f"recovery-{finished}" for finished in (0, history)}
    for finished, path in paths.items():
        async with await SqliteStore.open(path) as store:
            author = await lead(store, 1)
            last = finished // 100
            for first in range(1, last + 1, 50):
                await store.commit(author.accept(range(first, min(first + 50, last + 1)), live=False, items=100))
            await store.commit(author.accept(range(last + 1, last + 101), live=True, items=100))
    took: dict[int, list[float]] = {0: [], history: []}
    for _ in range(25):
        for finished, path in paths.items():  # in turns, so that both meet the same machine
            start = time.perf_counter()
            async with await SqliteStore.open(path) as store:
                loaded = await store.load((await lead(store, 1)).lease)
                took[finished].append((time.perf_counter() - start) * 1000)
            assert len(loaded.rows.items) == 10_000
    ratio = median(took[history]) / median(took[0])
    show(
        [
            ("recovery of 10,000 live items", f"{median(took[0]):.2f} ms", "open, take the lease, load"),
            (f"the same after {history:,} finished tasks", f"{median(took[history]):.2f} ms", ""),
            ("ratio", f"{ratio:.2f}", verdict(ratio, 1.2, 1.05, less=True)),
        ]
    )
    await reads(paths[history], history // 100)


async def reads(path: Path, finished: int) -> None:
    size_bytes = (path / "ffd.db").stat().st_size
    rows = [("database with that history", f"{size_bytes / 2**20:,.0f} MiB", "")]
    async with await SqliteStore.open(path) as store:
        asks: dict[str, Callable[[], Awaitable[object]]] = {
            "newest 100 workflows": lambda: store.list_workflows(ListQuery()),
            "100 workflows of one name": lambda: store.list_workflows(ListQuery(name="name-7")),
            "one handle": lambda: store.list_workflows(ListQuery(name="name-7", number=57)),
            "a state nobody is in": lambda: store.list_workflows(ListQuery(states=("suspended",))),
            "one ended workflow of 100 items": lambda: store.read_workflow(finished // 2),
            "story of that workflow": lambda: store.read_story((0, 0), workflow=finished // 2),
            "100 entries in the middle of the story": lambda: store.read_story((50, 0), limit=100),
        }
        for name, ask in asks.items():
            took = []
            for _ in range(20):
                start = time.perf_counter()
                await ask()
                took.append((time.perf_counter() - start) * 1000)
            rows.append((name, f"{median(took):.2f} ms", ""))
        jobs: dict[str, Callable[[], Awaitable[object]]] = {
            "verify": store.verify,
            "sweep of 100 workflows (100 items each)": lambda: store.sweep(10**9, 1, 1, 100),
        }
        for name, job in jobs.items():
            start = time.perf_counter()
            await job()
            rows.append((name, f"{time.perf_counter() - start:.1f} s", ""))
    show(rows)


async def measure() -> None:
    with tempfile.TemporaryDirectory(prefix="ffd-bench-") as folder:
        await commit_table(Path(folder))
        await concurrent_table(Path(folder))
        await recovery_table(Path(folder), HISTORY_COUNT)


def main() -> None:
    asyncio.run(measure())
