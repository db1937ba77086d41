"""The one connection that writes the SQLite database and checkpoints it. Every method here runs in the store's one
writer thread, so nothing that happens to a caller can stop a transaction half-way.

Rows go in as few large statements: each step of a statement gives up the interpreter lock, and getting it back from a
busy event loop can cost a whole switch interval (1,000 rows by `executemany`: seconds instead of milliseconds).

Never here: reading for the API (sqlite), what is due for removal (sqlite_retention).
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from ffd.core.model import Listing, Rows
from ffd.errors import PluginError, Unavailable
from ffd.plugins.ports import Batch, Head, Lease, LeaseInfo, Loaded
from ffd.plugins.store import schema, sqlite_faults, story
from ffd.plugins.store.lease import Candidate, Claim, LeaseRow
from ffd.plugins.store.schema import Put
from ffd.plugins.store.statedir import FileLock, HighWater, lengthen, prepare

Probe = Callable[[str], None]
T = TypeVar("T")

STATEMENT_ROW_COUNT = 512  # rows of the largest statement; a power of two
CACHED_STATEMENTS_COUNT = 256
CHECKPOINT_PAGE_COUNT = 4_000  # of 4 KiB in the write-ahead log: a commit that passes it checkpoints
SWITCH_RETRY_S = 0.002  # between two tries to become a database with a write-ahead log; it takes one disk sync
LOG_LIMIT_BYTES = 64 << 20  # a larger log file is cut after a checkpoint
LOG_FIRST_BYTES = 8 << 20  # what the log file has from the beginning
PRAGMAS = (
    "synchronous = FULL",  # an acknowledged commit survives a power cut
    "fullfsync = ON",  # the same where fsync alone does not reach the disk; no effect elsewhere
    "checkpoint_fullfsync = ON",
    f"wal_autocheckpoint = {CHECKPOINT_PAGE_COUNT}",
    f"journal_size_limit = {LOG_LIMIT_BYTES}",
    "cache_size = -32768",  # KiB
    "temp_store = MEMORY",
    "secure_delete = OFF",
)


class Writer:
    """Jobs of the writer thread. Use each through `call`, which turns SQLite's errors into ours."""

    def __init__(self, database: Path, busy_ms: int, probe: Probe | None) -> None:
        self.database = database
        self.mark = HighWater(database.with_name("high-water"))
        self._busy_ms = busy_ms
        self._probe = probe
        self._connection: sqlite3.Connection | None = None
        self._lock = FileLock(database.with_name("leader.lock"))
        self._candidate = Candidate(self._lock)
        self._committed: Head | None = None  # last commit made here: known durable

    def call(self, job: Callable[..., T], *args: Any) -> T:
        """Run one job."""
        try:
            return job(*args)
        except sqlite3.Error as error:
            raise sqlite_faults.translate(error, self.database) from error
        except OSError as error:
            raise sqlite_faults.translate_os(error, self.database) from error

    # ------------------------------------------------------------------------------------------------- connection

    def open(self) -> None:
        """Make what is missing; refuse what cannot be used (PluginError). Close it also when this fails."""
        prepare(self.database.parent, self.database)
        self._connect()

    def _connect(self) -> None:
        self._connection = db = sqlite3.connect(
            self.database,
            isolation_level=None,  # transactions are ours
            timeout=self._busy_ms / 1000,
            cached_statements=CACHED_STATEMENTS_COUNT,
        )
        if self._journal_mode(db) != "wal":
            raise PluginError(f"the database {self.database} cannot use a write-ahead log", hint="use a local disk")
        for pragma in PRAGMAS:
            db.execute(f"PRAGMA {pragma}")
        self._create(db)
        with contextlib.suppress(OSError, sqlite3.Error):  # then it grows as it is written
            self._lengthen_log()

    def _journal_mode(self, db: sqlite3.Connection) -> str:
        """Use a write-ahead log, if possible. While somebody else makes the same database, SQLite refuses at once,
        without its busy timeout (both hold a shared lock, and waiting for each other would be a deadlock): then ask
        again, as long as that timeout."""
        give_up_at_s = time.monotonic() + self._busy_ms / 1000
        while True:
            try:
                return str(_one(db, "PRAGMA journal_mode = WAL"))
            except sqlite3.OperationalError as error:
                if not sqlite_faults.is_busy(error) or time.monotonic() >= give_up_at_s:
                    raise
            time.sleep(SWITCH_RETRY_S)

    def _lengthen_log(self) -> None:
        """A commit that makes the log longer takes twice as long to sync as one that writes over what is there. Nobody
        else writes to the log meanwhile, and zeros at its end are no commits."""
        log = self.database.with_name(f"{self.database.name}-wal")
        if log.stat().st_size < LOG_FIRST_BYTES:
            with self.transaction():
                lengthen(log, LOG_FIRST_BYTES)

    def _create(self, connection: sqlite3.Connection) -> None:
        """Make the tables in an empty database; refuse one of a newer ffd."""
        version = _one(connection, "PRAGMA user_version")
        if version > schema.VERSION:
            raise PluginError(
                f"the database {self.database} was written by a newer ffd (format {version}, known: {schema.VERSION})",
                code="newer_format",
                hint="start that newer version, or restore a copy from before the upgrade",
            )
        if version == 0:
            with self.transaction() as db:
                if _one(db, "PRAGMA user_version") == 0:  # nobody else made them meanwhile
                    for table in schema.TABLES:
                        db.execute(table)
                    db.execute(f"PRAGMA user_version = {schema.VERSION}")

    @property
    def db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise Unavailable(f"the database {self.database} is not open")
        return self._connection

    @contextlib.contextmanager
    def transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """All or nothing. A full disk has already rolled back: then there is nothing left to roll back."""
        db = self.db
        db.execute(begin)
        try:
            yield db
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    def close(self) -> None:
        """Note the high-water mark and let go of the database and of the lock. The lease stays as it is."""
        try:
            self.tidy()
        finally:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            self._lock.close()

    def tidy(self) -> None:
        """Note the high-water mark and bring the log into the database. Failing (a full disk) loses nothing: the mark
        stays a lower bound and the log as long as it is."""
        with contextlib.suppress(OSError, sqlite3.Error, PluginError):
            if self._committed is not None:
                self.mark.raise_to(self._committed)
            if self._connection is not None:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    # ------------------------------------------------------------------------------------------------------ lease

    def _lease_row(self) -> LeaseRow:
        epoch, owner, address, renewals, held, locked, commit_number = self.db.execute(schema.LEASE).fetchone()
        return LeaseRow(epoch, owner, address, renewals, bool(held), bool(locked), commit_number)

    def hold(self, claim: Claim) -> Lease | LeaseInfo:
        """A standby that only looks does not write, so it never delays the leader's commits."""
        try:
            row = self._lease_row()
            if self._candidate.judge(row, claim) is None:
                return row.info()
            with self.transaction() as db:
                row = self._lease_row()
                mine = self._candidate.judge(row, claim)
                if mine is None:
                    return row.info()
                db.execute(schema.PUT_LEASE, (mine.epoch, mine.owner, mine.address, mine.renewals, 1, mine.locked))
        except (sqlite3.Error, OSError):
            self._candidate.missed()
            raise
        self._candidate.won(mine)
        return claim.lease(mine.epoch)

    def release(self, lease: Lease) -> None:
        with self.transaction() as db:
            mine = db.execute(schema.RELEASE, (lease.epoch, lease.owner)).rowcount
        if mine:
            self._candidate.resigned()

    # ------------------------------------------------------------------------------------------------------- load

    def head(self) -> Head:
        return head_of(self.db)

    def load(self, lease: Lease, accept_loss: bool) -> Loaded:
        with self.transaction("BEGIN") as db:
            current = self._lease_row().epoch
            if current != lease.epoch:
                raise story.fenced(lease.epoch, current)
            self._settle_loss(db, self.head(), accept_loss)
            return loaded_of(db)

    def _settle_loss(self, db: sqlite3.Connection, head: Head, accept_loss: bool) -> None:
        """Refuse to lead a database that lost commits, unless told that this is known."""
        if accept_loss:
            self.mark.write(head)
            return
        loss = lost_commits(db, self.mark)
        if loss:
            raise PluginError(
                loss, code="lost_commits", hint="restore the newest copy, or go on without them: --accept-loss"
            )

    # ----------------------------------------------------------------------------------------------------- commit

    def commit(self, batch: Batch) -> Head:
        entries = story.entries_of(batch)
        self._reach("commit.before")
        try:
            self._committed = self._write(batch, entries)
        except sqlite3.Error as error:
            self._committed = self._outcome(error, batch, entries)
        return self._committed

    def _write(self, batch: Batch, entries: list[story.Entry]) -> Head:
        with self.transaction() as db:
            last = self._fence(db, batch)
            if last is not None and story.is_same(last, batch, entries):
                return last.head
            commit = story.commit_of(batch, entries, story.follow(last, batch))
            self._put_rows(batch)
            self._put(schema.PUT_STORY, [_values(entry) for entry in entries])
            db.execute(schema.PUT_COMMIT, _values(commit))
            self._reach("commit.written")
        self._reach("commit.after")
        return commit.head

    def _outcome(self, error: sqlite3.Error, batch: Batch, entries: list[story.Entry]) -> Head:
        """What became of the commit that `error` interrupted: its head when it is durable after all, else the error."""
        if sqlite_faults.is_unclear(error):
            last = last_commit(self.db)
            if last is not None and story.is_same(last, batch, entries):
                return last.head
        raise error

    def _fence(self, db: sqlite3.Connection, batch: Batch) -> story.Commit | None:
        """The last commit, if the batch may follow it."""
        epoch = _one(db, schema.LEASE_EPOCH)
        if not 0 < batch.epoch == epoch:
            raise story.fenced(batch.epoch, epoch)
        for workflow in story.reopened(batch):
            if db.execute(schema.WORKFLOW_EXISTS, (workflow,)).fetchone() is None:
                raise story.vanished(workflow)
        return last_commit(db)

    def _put_rows(self, batch: Batch) -> None:
        rows, specs = batch.rows, story.accepted_specs(batch)
        for spec in rows.specs.items():  # one by one: they can be large
            self._put(schema.PUT_SPECS, [spec])
        listings = {listing.workflow: listing for listing in batch.listings}
        self._put(
            schema.PUT_WORKFLOWS,
            [(*_values(listings[workflow]), specs.get(workflow, ""), row) for workflow, row in rows.workflows.items()],
        )
        self._put(schema.PUT_TASKS, [(*key, row) for key, row in rows.tasks.items()])
        self._put(schema.PUT_ITEMS, [(*key, row) for key, row in rows.items.items()])
        self._put(schema.PUT_META, list(rows.meta.items()))

    def _put(self, put: Put, rows: list[tuple[Any, ...]]) -> None:
        start, size = 0, STATEMENT_ROW_COUNT
        while start < len(rows):
            while size > len(rows) - start:
                size //= 2
            self.db.execute(schema.put_sql(put, size), list(chain.from_iterable(rows[start : start + size])))
            start += size

    def _reach(self, site: str) -> None:
        if self._probe is not None:
            self._probe(site)


def _one(db: sqlite3.Connection, sql: str) -> Any:
    return db.execute(sql).fetchone()[0]


def _values(row: story.Entry | story.Commit | Listing) -> tuple[Any, ...]:
    """The columns of a row, which are in the order of its fields."""
    return tuple(getattr(row, field) for field in row.__struct_fields__)


def last_commit(db: sqlite3.Connection) -> story.Commit | None:
    row = db.execute(schema.LAST_COMMIT).fetchone()
    return story.Commit(*row) if row else None


def loaded_of(db: sqlite3.Connection) -> Loaded:
    """Within a transaction: what is live as of its commit."""
    rows = Rows(
        workflows=dict(db.execute(schema.LIVE_WORKFLOWS)),
        tasks={(workflow, task): row for workflow, task, row in db.execute(schema.LIVE_TASKS)},
        items={(workflow, task, item): row for workflow, task, item, row in db.execute(schema.LIVE_ITEMS)},
        specs=dict(db.execute(schema.LIVE_SPECS)),
        meta=dict(db.execute(schema.META)),
    )
    return Loaded(head_of(db), rows)


def head_of(db: sqlite3.Connection) -> Head:
    last = last_commit(db)
    return last.head if last else story.GENESIS


def lost_commits(db: sqlite3.Connection, mark: HighWater) -> str:
    """How the database falls short of the high-water mark, in words; "" when it does not."""
    known, head = mark.read(), head_of(db)
    if known is None:
        return ""
    if head.number < known.number:
        return f"the database ends at commit {head.number}, but commit {known.number} was made: commits are lost"
    row = db.execute(schema.COMMIT_DIGEST, (known.number,)).fetchone()
    if row and row[0] != known.digest:
        return f"commit {known.number} in the database is not the one that was made: it comes from another history"
    return ""
