"""What only the SQLite store promises: its files, what it refuses to open, its threads, that cost follows change."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from asyncio import run
from contextlib import closing
from pathlib import Path

import pytest

from ffd.errors import PluginError, Unavailable
from ffd.plugins.ports import Lease, LeaseInfo
from ffd.plugins.store import schema, sqlite_retention, sqlite_writer
from ffd.plugins.store.sqlite import JOBS_COUNT, SqliteStore
from ffd.plugins.store.sqlite_writer import LOG_FIRST_BYTES, Writer
from ffd.plugins.store.statedir import filesystem_of, refuse_network
from ffd.testing.conformance import store as checks
from ffd.testing.conformance.store_setup import (
    AT_MS,
    TTL_MS,
    Check,
    accepted,
    added,
    all_entries,
    batch,
    commit,
    ended,
    lead,
    progress,
    raises,
)

# --------------------------------------------------------------------------------------------------------- its files


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    async def job() -> None:
        async with SqliteStore(tmp_path / "deep" / "state") as store:
            await commit(store, await lead(store), added("a"), accepted(1))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep" / "state").iterdir()}
            assert {"ffd.db", "ffd.db-wal", "ffd.db-shm", "leader.lock"} <= modes.keys()
            assert set(modes.values()) == {0o600}
            assert stat.S_IMODE((tmp_path / "deep" / "state").stat().st_mode) == 0o700

    old = os.umask(0)
    try:
        run(job())
        (tmp_path / "deep" / "state" / "ffd.db").chmod(0o644)
        run(job())  # an existing one is made private again
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "deep" / "state" / "high-water").stat().st_mode) == 0o600


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
proc /proc proc rw 0 0
server:/export /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/local\\040disk xfs rw 0 0
//host/share /mnt/share cifs rw 0 0
me@host:/ /mnt/ssh fuse.sshfs rw 0 0
tmpfs /mnt/share/over tmpfs rw 0 0
"""


def test_network_file_systems_are_known_by_their_mounts() -> None:
    assert filesystem_of(Path("/var/lib/ffd"), MOUNTS) == "ext4"
    assert filesystem_of(Path("/home/me/state"), MOUNTS) == "nfs4"
    assert filesystem_of(Path("/homeless"), MOUNTS) == "ext4"
    assert filesystem_of(Path("/home/local disk/state"), MOUNTS) == "xfs"
    assert filesystem_of(Path("/mnt/share/over/it"), MOUNTS) == "tmpfs"
    assert filesystem_of(Path("/anywhere"), "") == ""
    for path in ("/home/me", "/mnt/share", "/mnt/ssh/x"):
        with pytest.raises(PluginError, match=path):
            refuse_network(Path(path), MOUNTS)
    refuse_network(Path("/var/lib/ffd"), MOUNTS)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    async def job() -> None:
        error = await raises(PluginError, SqliteStore.open(tmp_path / "file" / "state"))
        assert str(tmp_path / "file" / "state") in error.message

    run(job())


def test_what_is_no_database_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ffd.db").write_bytes(b"not a database, but long enough to look at" * 100)

    async def job() -> None:
        error = await raises(PluginError, SqliteStore.open(tmp_path))
        assert error.code == "damaged"

    run(job())


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    async def make() -> None:
        await (await SqliteStore.open(tmp_path)).close()

    async def job() -> None:
        error = await raises(PluginError, SqliteStore.open(tmp_path))
        assert error.code == "newer_format"
        assert error.hint

    run(make())
    with closing(sqlite3.connect(tmp_path / "ffd.db")) as db:
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    run(job())


def test_several_may_make_the_same_database_at_once(tmp_path: Path) -> None:
    async def job() -> None:
        stores = await asyncio.gather(*(SqliteStore.open(tmp_path) for _ in range(4)))
        answers = [await store.hold(f"number {n}", "", TTL_MS, 0) for n, store in enumerate(stores)]
        assert [isinstance(answer, Lease) for answer in answers] == [True, False, False, False]
        for store in stores:
            await store.close()

    run(job())


def test_who_else_makes_the_database_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself answers at once that it is locked, whatever its busy timeout."""
    with closing(sqlite3.connect(tmp_path / "ffd.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        def others_turn(_seconds: float) -> None:
            if other.in_transaction:
                other.execute("COMMIT")

        monkeypatch.setattr(sqlite_writer.time, "sleep", others_turn)
        writer = Writer(tmp_path / "ffd.db", busy_ms=60_000, probe=None)
        try:
            writer.call(writer.open)
        finally:
            writer.close()


def test_a_document_is_stored_once(tmp_path: Path) -> None:
    async def job() -> None:
        size_bytes = 3_000_000
        large = added("large", size_bytes)
        async with await SqliteStore.open(tmp_path) as store:
            await commit(store, await lead(store), large, accepted(2, "large"))
            entries = await all_entries(store)
            assert entries[0].events == tuple(large.events)
        assert size_bytes < (tmp_path / "ffd.db").stat().st_size < 1.2 * size_bytes

    run(job())


# ------------------------------------------------------------------------------------------------------- its threads


class Gate:
    """A probe that holds the writer thread at a site until told to go on."""

    def __init__(self, site: str) -> None:
        self._site = site
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, site: str) -> None:
        if site == self._site:
            self.reached.set()
            assert self.go_on.wait(60)


@pytest.mark.parametrize("site", ["commit.before", "commit.written", "commit.after"])
def test_a_commit_goes_on_when_its_caller_is_cancelled(tmp_path: Path, site: str) -> None:
    async def job() -> None:
        gate = Gate(site)
        async with await SqliteStore.open(tmp_path, probe=gate) as store:
            lease = await lead(store)
            caller = asyncio.create_task(store.commit(batch(lease.epoch, 1, added("a"), accepted(1))))
            assert await asyncio.to_thread(gate.reached.wait, 60)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            gate.go_on.set()
            assert (await store.head()).number == 1  # behind it in the queue, so it tells
            assert (await store.read_workflow(1)).workflows == {1: b"running"}

    run(job())


def test_what_a_probe_raises_leaves_nothing_before_the_commit_and_all_after(tmp_path: Path) -> None:
    class Planted(Exception):
        pass

    async def job() -> None:
        planted: set[str] = set()

        def probe(site: str) -> None:
            if site in planted:
                planted.remove(site)
                raise Planted

        async with await SqliteStore.open(tmp_path, probe=probe) as store:
            lease = await lead(store)
            first = batch(lease.epoch, 1, added("a"), accepted(1))
            for site in ("commit.before", "commit.written"):
                planted.add(site)
                with pytest.raises(Planted):
                    await store.commit(first)
                assert (await store.head()).number == 0
                assert await all_entries(store) == []
            planted.add("commit.after")
            with pytest.raises(Planted):
                await store.commit(first)
            assert (await store.head()).number == 1
            assert (await store.commit(first)).number == 1
            assert (await commit(store, lease, accepted(2))).number == 2

    run(job())


def test_a_commit_that_waits_is_made_when_its_caller_is_cancelled(tmp_path: Path) -> None:
    async def job() -> None:
        gate = Gate("commit.before")
        async with await SqliteStore.open(tmp_path, probe=gate) as store:
            lease = await lead(store)
            first = asyncio.create_task(store.commit(batch(lease.epoch, 1, added("a"), accepted(1))))
            assert await asyncio.to_thread(gate.reached.wait, 60)
            second = asyncio.create_task(store.commit(batch(lease.epoch, 2, accepted(2))))
            await asyncio.wait([second], timeout=0)  # lets it begin: it waits behind the first
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            gate.go_on.set()
            assert (await first).number == 1
            assert (await store.head()).number == 2

    run(job())


def test_two_that_find_the_lease_free_do_not_both_get_it(tmp_path: Path) -> None:
    async def job() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            with closing(sqlite3.connect(tmp_path / "ffd.db", isolation_level=None, check_same_thread=False)) as other:

                def overtake(statement: str) -> None:
                    if statement.startswith("BEGIN"):  # it has found the lease free and is about to take it
                        other.execute("UPDATE lease SET epoch = 9, owner = 'other', held = 1")

                await store._write(lambda: store._writer.db.set_trace_callback(overtake))
                assert await store.hold("late", "", TTL_MS, 0) == LeaseInfo(9, "other", "")

    run(job())


def test_a_leader_that_lost_its_lease_gives_up_the_lock(tmp_path: Path) -> None:
    async def job() -> None:
        async with await SqliteStore.open(tmp_path) as old, await SqliteStore.open(tmp_path) as third:
            new = await SqliteStore.open(tmp_path)
            await lead(old)
            await new.hold("new", "", TTL_MS, 0)
            assert await new.hold("new", "", TTL_MS, TTL_MS) == Lease(2, "new", TTL_MS)
            assert await old.hold("leader", "", TTL_MS, 0, epoch=1) == LeaseInfo(2, "new", "")
            await new.hold("new", "", TTL_MS, 0, epoch=2)  # now it gets the lock, so its death will show
            await new.close()
            assert await third.hold("third", "", TTL_MS, 0) == Lease(3, "third", TTL_MS)

    run(job())


def test_waiting_writes_are_bounded(tmp_path: Path) -> None:
    async def job() -> None:
        gate = Gate("commit.before")
        async with await SqliteStore.open(tmp_path, probe=gate) as store:
            lease = await lead(store)
            waiting = [asyncio.create_task(store.commit(batch(lease.epoch, 1, accepted(1)))) for _ in range(JOBS_COUNT)]
            assert await asyncio.to_thread(gate.reached.wait, 60)
            error = await raises(Unavailable, store.commit(batch(lease.epoch, 2, accepted(2))))
            assert str(JOBS_COUNT) in error.message
            gate.go_on.set()
            heads = await asyncio.gather(*waiting)
            assert {head.number for head in heads} == {1}
            assert (await commit(store, lease, accepted(2))).number == 2

    run(job())


def test_a_standby_does_not_write_while_it_waits(tmp_path: Path) -> None:
    async def job() -> None:
        gate = Gate("commit.written")
        async with await SqliteStore.open(tmp_path, probe=gate) as leader, SqliteStore(tmp_path, busy_ms=0) as standby:
            lease = await lead(leader)
            caller = asyncio.create_task(leader.commit(batch(lease.epoch, 1, accepted(1))))
            assert await asyncio.to_thread(gate.reached.wait, 60)  # a write transaction is open now
            assert isinstance(await standby.hold("standby", "", TTL_MS, 0), LeaseInfo)
            assert (await standby.head()).number == 0
            gate.go_on.set()
            await caller

    run(job())


def test_a_database_locked_by_another_process_is_unavailable(tmp_path: Path) -> None:
    async def job() -> None:
        async with SqliteStore(tmp_path, busy_ms=1) as store:
            lease = await lead(store)
            with closing(sqlite3.connect(tmp_path / "ffd.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                await raises(Unavailable, store.commit(batch(lease.epoch, 1, accepted(1))))
                await raises(Unavailable, store.hold("leader", "", TTL_MS, 1, lease.epoch))
                assert (await store.head()).number == 0
                other.execute("ROLLBACK")
            assert (await store.commit(batch(lease.epoch, 1, accepted(1)))).number == 1

    run(job())


# ---------------------------------------------------------------------------------------------------- what it costs


def _steps(database: Path, sql: str) -> int:
    """How much work SQLite does for a statement, in steps of its virtual machine."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    with closing(sqlite3.connect(database)) as db:
        db.set_progress_handler(step, 1)
        db.execute(sql).fetchall()
    return count


def test_recovery_costs_nothing_for_history(tmp_path: Path) -> None:
    queries = (schema.LIVE_WORKFLOWS, schema.LIVE_TASKS, schema.LIVE_ITEMS, schema.LIVE_SPECS, schema.META)

    async def job() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            lease = await lead(store)
            await commit(store, lease, added("a"), accepted(1), progress(1, "train", range(20)))
            before = [_steps(tmp_path / "ffd.db", query) for query in queries]
            for first in range(2, 202, 50):
                parts = [p for w in range(first, first + 50) for p in (accepted(w), progress(w, "t", (0, 1)), ended(w))]
                await commit(store, lease, *parts)
            after = [_steps(tmp_path / "ffd.db", query) for query in queries]
            assert max(b - a for a, b in zip(before, after, strict=True)) < 5  # not one per finished workflow

    run(job())


# -------------------------------------------------------------------------------------------------------- retention


@pytest.mark.parametrize(
    "check",
    [
        checks.retention_follows_the_policy,
        checks.retention_removes_all_of_a_workflow_and_nothing_else,
        checks.retention_trims_the_front_of_the_story,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("rows", [1, 3])
def test_retention_in_small_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Check, rows: int) -> None:
    monkeypatch.setattr(sqlite_retention, "SLICE_ROW_COUNT", rows)
    asyncio.run(check(lambda: SqliteStore.open(tmp_path)))


def test_a_removal_that_was_cut_short_is_finished_by_the_next_sweep(tmp_path: Path) -> None:
    async def job() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            lease = await lead(store)
            await commit(store, lease, added("a"), accepted(1), progress(1, "t", range(9)), ended(1), accepted(2))
            policy = sqlite_retention.Policy(AT_MS + 1, 1, 1, 10)
            assert await store._write(sqlite_retention.unlist, store._writer, policy) == [1]
        async with await SqliteStore.open(tmp_path) as store:
            assert (await store.read_workflow(1)).items == {}
            assert await store.sweep(AT_MS + 1, 1, 1, 10) == []
            assert await store.read_story((0, 0), workflow=1) == []
            assert (await store.verify()).faults == ()
        with closing(sqlite3.connect(tmp_path / "ffd.db")) as db:
            assert db.execute("SELECT count(*) FROM items").fetchone() == (0,)

    run(job())


def test_the_log_has_its_length_from_the_beginning(tmp_path: Path) -> None:
    """So that no commit has to make it longer, which would take it twice as long."""

    async def job() -> None:
        log = tmp_path / "ffd.db-wal"
        async with await SqliteStore.open(tmp_path) as store:
            lease = await lead(store)
            await store.commit(batch(lease.epoch, 1, added("a"), accepted(1)))
            assert log.stat().st_size == LOG_FIRST_BYTES
            before = log.read_bytes()
            async with await SqliteStore.open(tmp_path):  # a standby
                assert log.read_bytes() == before
            assert (await store.commit(batch(lease.epoch, 2, accepted(2)))).number == 2
            assert (await store.verify()).faults == ()

    asyncio.run(job())
