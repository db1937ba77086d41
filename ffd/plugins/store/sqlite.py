"""The store in one SQLite file: `<state_dir>/ffd.db`, for one machine. Survives kill -9, power cuts and full disks.

This is the asynchronous face. Whatever writes runs in one thread with one connection (sqlite_writer), in the order it
was asked, and is finished there even when the caller is cancelled. Reads go through a read-only connection of their
own. A lease renewal queues behind at most the commits under way and one slice of a removal: each is bounded, and a
commit proves life as well as a renewal does.

Errors are those of `ports.Store`. Never here: SQL (schema), rules (story, lease).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Self, TypeVar

import aiosqlite
import msgspec

from ffd.core.model import Listing, Rows
from ffd.errors import PluginError, Unavailable
from ffd.plugins.ports import Batch, Head, Lease, LeaseInfo, ListQuery, Loaded, StoryEntry, Verdict
from ffd.plugins.store import schema, sqlite_faults, sqlite_retention, story
from ffd.plugins.store.lease import Claim
from ffd.plugins.store.sqlite_writer import Probe, Writer, loaded_of, lost_commits
from ffd.plugins.store.statedir import HighWater
from ffd.plugins.store.story import Audit, Commit, Entry

T = TypeVar("T")

JOBS_COUNT = 256  # jobs of the writer thread that wait or run; more are refused as Unavailable
BUSY_MS = 2_000  # how long to wait for another process that has the database locked
TIDY_MS = 1_000  # at most this often, while there are commits, the high-water mark is noted and the log brought in
AUDIT_PAGE_COUNT = 500  # commits that verify reads at once


class SqliteStore:
    """`ports.Store` in `state_dir`. Open it with `await SqliteStore.open(...)` or `async with SqliteStore(...)`.

    `accept_loss`: lead although commits are lost (`load` resets the high-water mark). `probe` is called in the writer
    thread with the name of each site a commit passes (commit.before, commit.written, commit.after); what it raises
    happens there."""

    def __init__(
        self,
        state_dir: Path | str,
        *,
        accept_loss: bool = False,
        probe: Probe | None = None,
        busy_ms: int = BUSY_MS,
        tidy_ms: int = TIDY_MS,
    ) -> None:
        self._database = Path(state_dir).absolute() / "ffd.db"
        self._accept_loss = accept_loss
        self._tidy_ms = tidy_ms
        self._writer = Writer(self._database, busy_ms, probe)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ffd-store")
        self._jobs = BoundedSemaphore(JOBS_COUNT)
        self._reader: aiosqlite.Connection | None = None  # None before open and after close
        self._tidying: asyncio.TimerHandle | None = None

    @classmethod
    async def open(
        cls, state_dir: Path | str, *, accept_loss: bool = False, probe: Probe | None = None, tidy_ms: int = TIDY_MS
    ) -> Self:
        """PluginError when the directory or the database cannot be used; it names the path."""
        return await cls(state_dir, accept_loss=accept_loss, probe=probe, tidy_ms=tidy_ms).__aenter__()

    async def __aenter__(self) -> Self:
        if self._reader is not None:
            return self  # `async with await SqliteStore.open(...)`
        try:
            await self._submit(self._writer.open)
            self._reader = await aiosqlite.connect(_read_only(self._database), uri=True)
        except sqlite3.Error as error:
            await self._shut()
            raise sqlite_faults.translate(error, self._database) from error
        except BaseException:
            await self._shut()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish what was asked, note the high-water mark, let go of files. The lease stays: release it before."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()
            await self._shut()

    async def _shut(self) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
        await self._submit(self._writer.close)
        self._thread.shutdown()

    # -------------------------------------------------------------------------------------------------- the threads

    def _open(self) -> aiosqlite.Connection:
        if self._reader is None:
            raise Unavailable("the store is closed")
        return self._reader

    async def _write(self, job: Callable[..., T], *args: Any) -> T:
        self._open()
        if not self._jobs.acquire(blocking=False):
            raise Unavailable(f"{JOBS_COUNT} writes wait for the disk already")
        return await self._submit(job, *args, done=self._jobs.release)

    def _submit(self, job: Callable[..., T], *args: Any, done: Callable[[], None] = lambda: None) -> asyncio.Future[T]:
        """Run a job in the writer thread. Cancelling the caller does not take it out of the queue. Its outcome comes
        back in one turn of the loop, where asyncio's own way takes three: every commit waits for it."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()

        def tell(outcome: Future[T]) -> None:
            done()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, waiter, outcome)

        self._thread.submit(self._writer.call, job, *args).add_done_callback(tell)
        return waiter

    async def _read(self, sql: str, parameters: Iterable[Any]) -> list[Any]:
        try:
            return list(await self._open().execute_fetchall(sql, parameters))
        except sqlite3.Error as error:
            raise sqlite_faults.translate(error, self._database) from error

    def _tidy_soon(self) -> None:
        if self._tidying is None:
            self._tidying = asyncio.get_running_loop().call_later(self._tidy_ms / 1000, self._tidy)

    def _tidy(self) -> None:
        self._tidying = None
        future = self._submit(self._writer.tidy)
        future.add_done_callback(lambda done: done.result())  # what it raises is our mistake: to the loop's handler

    # ------------------------------------------------------------------------------------------------------ writing

    async def hold(self, owner: str, address: str, ttl_ms: int, now_ms: int, epoch: int = 0) -> Lease | LeaseInfo:
        """As `ports.Store.hold`; beyond it, a holder that died on this machine is succeeded at once: it had a lock on
        `leader.lock`, which the system frees with the process. One that is merely frozen keeps it: then the time to
        live decides. (Frozen in the middle of a commit it also keeps the database locked, and all others get
        Unavailable until it goes on or is killed.)"""
        return await self._write(self._writer.hold, Claim(owner, address, ttl_ms, now_ms, epoch))

    async def release(self, lease: Lease) -> None:
        await self._write(self._writer.release, lease)

    async def load(self, lease: Lease | None) -> Loaded:
        """PluginError(lost_commits) when the database falls short of the high-water mark. A loss is accepted once. Who
        only looks does so in a thread and over a connection of its own."""
        if lease is None:
            self._open()
            try:
                return await asyncio.to_thread(_look, self._database)
            except sqlite3.Error as error:
                raise sqlite_faults.translate(error, self._database) from error
        loaded = await self._write(self._writer.load, lease, self._accept_loss)
        self._accept_loss = False
        return loaded

    async def commit(self, batch: Batch) -> Head:
        self._open()
        self._tidy_soon()
        return await self._write(self._writer.commit, batch)

    async def sweep(self, now_ms: int, success_ms: int, failure_ms: int, limit: int) -> list[int]:
        policy = sqlite_retention.Policy(now_ms, success_ms, failure_ms, limit)
        workflows = await self._write(sqlite_retention.unlist, self._writer, policy)
        for remove in (sqlite_retention.remove_slice, sqlite_retention.trim_slice):
            while await self._write(remove, self._writer):
                pass
        return workflows

    # ------------------------------------------------------------------------------------------------------ reading

    async def head(self) -> Head:
        """Behind the commits under way, so it also tells what became of one whose caller was cancelled."""
        return await self._write(self._writer.head)

    async def read_workflow(self, workflow: int) -> Rows:
        found = Rows()
        for kind, name, item, row in await self._read(schema.WORKFLOW, (workflow,)):
            if kind == "workflow":
                found.workflows[workflow] = row
            elif kind == "spec":
                found.specs[name] = row
            elif kind == "task":
                found.tasks[workflow, name] = row
            else:
                found.items[workflow, name, item] = row
        return found

    async def list_workflows(self, query: ListQuery) -> list[Listing]:
        rows = await self._read(*_listing_sql(query))
        return [
            Listing(id_, project, name, number, state, by, bool(live), accepted_at_ms, ended_at_ms, keep_ms)
            for id_, project, name, number, state, by, live, accepted_at_ms, ended_at_ms, keep_ms in rows
        ]

    async def read_story(self, after: tuple[int, int], workflow: int = 0, limit: int = 1000) -> list[StoryEntry]:
        limit = max(0, limit)
        parameters = (*after, limit + 1)  # the first one may be cut away wholly
        if workflow:
            rows = await self._read(schema.WORKFLOW_STORY, (*parameters, workflow))
        else:
            rows = await self._read(schema.STORY, parameters)
        try:  # in a thread: an entry may hold thousands of events, or a document of megabytes
            return (await asyncio.to_thread(_decoded, rows, after))[:limit]
        except msgspec.DecodeError as error:
            raise sqlite_faults.damaged(self._database, str(error)) from error

    async def verify(self) -> Verdict:
        """Also runs SQLite's own check of its pages. Reads one snapshot in a thread of its own."""
        self._open()
        try:
            return await asyncio.to_thread(_verify, self._database, self._writer.mark)
        except sqlite3.Error as error:
            raise sqlite_faults.translate(error, self._database) from error


def _look(database: Path) -> Loaded:
    with closing(sqlite3.connect(_read_only(database), uri=True, isolation_level=None)) as db:
        db.execute("BEGIN")
        return loaded_of(db)


def _settle(waiter: asyncio.Future[T], outcome: Future[T]) -> None:
    if waiter.done():
        return  # cancelled
    error = outcome.exception()
    if error is None:
        waiter.set_result(outcome.result())
    else:
        waiter.set_exception(error)


def _read_only(database: Path) -> str:
    return f"{database.as_uri()}?mode=ro"


def _decoded(rows: list[Any], after: tuple[int, int]) -> list[StoryEntry]:
    found = (story.story_entry(Entry(*row), spec_row, after) for *row, spec_row in rows)
    return [entry for entry in found if entry is not None]


def _listing_sql(query: ListQuery) -> tuple[str, list[Any]]:
    """One ordered walk of an index per state (or one over all), each ended after `limit`, then the newest of them."""
    conditions, values = [], []
    columns = (("project", query.project), ("name", query.name), ("number", query.number), ("by", query.by))
    for column, value in columns:
        if value:
            conditions.append(f"{column} = ?")
            values.append(value)
    if query.before:
        conditions.append("id < ?")
        values.append(query.before)
    walks, parameters = [], []
    limit = max(0, query.limit)
    for state in dict.fromkeys(query.states) or (None,):
        own = [*conditions, "state = ?"] if state is not None else conditions
        where = f"WHERE {' AND '.join(own)}" if own else ""
        walks.append(f"SELECT * FROM ({schema.LISTING} {where} ORDER BY id DESC LIMIT ?)")
        parameters += [*values, *((state,) if state is not None else ()), limit]
    return f"{' UNION ALL '.join(walks)} ORDER BY 1 DESC LIMIT ?", [*parameters, limit]


def _verify(database: Path, mark: HighWater) -> Verdict:
    with closing(sqlite3.connect(_read_only(database), uri=True, isolation_level=None)) as db:
        audit = Audit(lambda digest: next((row for (row,) in db.execute(schema.SPEC_ROW, (digest,))), None))
        try:
            db.execute("BEGIN")
            for (text,) in db.execute("PRAGMA quick_check"):
                if text != "ok":
                    audit.fault(text)
            _audit_story(db, audit)
            loss = lost_commits(db, mark)
            if loss:
                audit.fault(loss)
        except sqlite3.DatabaseError as error:
            audit.fault(f"the database cannot be read on: {error}")
        except PluginError as error:  # of the mark
            audit.fault(error.message)
        return audit.verdict()


def _audit_story(db: sqlite3.Connection, audit: Audit) -> None:
    first: int = db.execute(schema.FIRST_COMMIT).fetchone()[0]
    for row in db.execute(schema.ENTRIES, (0, first - 1)):
        audit.early(Entry(*row))
    while page := [Commit(*row) for row in db.execute(schema.COMMITS, (first, AUDIT_PAGE_COUNT))]:
        entries = (Entry(*row) for row in db.execute(schema.ENTRIES, (first, page[-1].number)))
        by_number = {number: list(group) for number, group in groupby(entries, attrgetter("number"))}
        for commit in page:
            audit.commit(commit, by_number.get(commit.number, ()))
        first = page[-1].number + 1
    for row in db.execute(schema.ENTRIES, (first, schema.LAST_NUMBER)):
        audit.stray(Entry(*row))
