"""Killed, frozen, starved and damaged: what the SQLite store still knows afterwards. Real processes, real files."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ffd
from ffd.errors import Fenced, FfdError, PluginError, Refusal, Unavailable
from ffd.plugins.ports import Head, Lease, LeaseInfo, ListQuery, Verdict
from ffd.plugins.store.sqlite import SqliteStore
from ffd.plugins.store.statedir import HighWater
from ffd.testing.conformance import store as suite
from ffd.testing.conformance.store_batches import AT_MS, accepted, added, batch, ended, inventory, progress

ROOT = Path(ffd.__file__).parent.parent
CHILD = Path(__file__).with_name("store_child.py")


def run(job: Coroutine[Any, Any, None]) -> None:
    asyncio.run(job)


async def lead(store: SqliteStore, owner: str = "leader") -> Lease:
    lease = await store.hold(owner, "", suite.TTL_MS, 0)
    assert isinstance(lease, Lease), lease
    return lease


async def commits(store: SqliteStore, lease: Lease, count: int) -> None:
    """Each with rows and story of its own workflow."""
    for number in range(1, count + 1):
        await store.commit(batch(lease.epoch, number, added("a"), accepted(number), progress(number, "t", range(20))))


@contextmanager
def child(directory: Path, *mode: str, inherited: int = -1) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(CHILD), str(directory), *mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=() if inherited < 0 else (inherited,),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    process.stdin.write("commit\n")
    process.stdin.flush()
    return heard(process)


async def check_whole(store: SqliteStore, number: int) -> None:
    """Rows, story and head agree that exactly the child's commits up to `number` happened."""
    assert (await store.head()).number == number
    assert (await store.verify()).faults == ()
    entries = await suite.all_entries(store)
    assert {entry.number for entry in entries} == set(range(1, number + 1))
    listings = await store.list_workflows(ListQuery(limit=number + 2))
    assert [one.workflow for one in listings] == list(range(number, 0, -1))
    if number:
        assert len((await store.read_workflow(number)).items) == 50


# ------------------------------------------------------------------------------------------------- killed and frozen


@pytest.mark.parametrize("acknowledged", [1, 7, 40])
def test_kill_in_the_middle_of_commits_loses_no_acknowledged_one(tmp_path: Path, acknowledged: int) -> None:
    with child(tmp_path, "loop") as process:
        assert heard(process) == "leading 1"
        for number in range(1, acknowledged + 1):
            assert heard(process) == str(number)
        process.kill()
        assert process.stdout is not None
        last = [int(number) for number in process.stdout.read().split()[-1:]] or [acknowledged]

    async def job() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            lease = await lead(store)  # at once: the lock of a dead holder is free
            assert lease.epoch == 2
            number = (await store.head()).number
            assert number in (last[0], last[0] + 1)  # the last one may not have been told any more
            await check_whole(store, number)
            await suite.commit(store, lease, accepted(number + 1))
            assert (await store.verify()).faults == ()

    run(job())


@pytest.mark.parametrize(("site", "durable"), [("commit.before", 2), ("commit.written", 2), ("commit.after", 3)])
def test_kill_at_each_site_of_a_commit(tmp_path: Path, site: str, durable: int) -> None:
    with child(tmp_path, "die", site, "3") as process:
        assert process.stdout is not None
        assert process.stdout.read().split() == ["leading", "1", "1", "2"]

    async def job() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            await check_whole(store, durable)

    run(job())


def test_a_killed_holder_is_succeeded_at_once_although_its_children_live(tmp_path: Path) -> None:
    async def job(read_end: int) -> None:
        async with await SqliteStore.open(tmp_path) as store:
            with child(tmp_path, "hold", str(read_end), inherited=read_end) as process:
                assert heard(process) == "leading 1"
                assert ask(process) == "committed 1"  # by now it has its child
                assert isinstance(await store.hold("next", "", suite.TTL_MS, 0), LeaseInfo)
                process.kill()
                process.wait()
                assert await store.hold("next", "", suite.TTL_MS, 0) == Lease(2, "next", suite.TTL_MS)

    read_end, write_end = os.pipe()
    try:
        run(job(read_end))
    finally:
        os.close(read_end)
        os.close(write_end)  # its child ends


def test_a_frozen_holder_is_succeeded_after_its_time_and_fenced(tmp_path: Path) -> None:
    async def job() -> None:
        async with await SqliteStore.open(tmp_path) as store, await SqliteStore.open(tmp_path) as third:
            with child(tmp_path, "hold") as process:
                assert heard(process) == "leading 1"
                assert ask(process) == "committed 1"
                process.send_signal(signal.SIGSTOP)
                assert isinstance(await store.hold("next", "", suite.TTL_MS, 0), LeaseInfo)
                assert isinstance(await store.hold("next", "", suite.TTL_MS, suite.TTL_MS - 1), LeaseInfo)
                lease = await store.hold("next", "", suite.TTL_MS, suite.TTL_MS)
                assert lease == Lease(2, "next", suite.TTL_MS)
                assert isinstance(lease, Lease)
                await suite.commit(store, lease, accepted(2))
                process.send_signal(signal.SIGCONT)
                assert ask(process) == "Fenced"
                process.kill()
                process.wait()
            # The dead one had the lock, not we: that it is free must not cost us the lease.
            assert await third.hold("third", "", suite.TTL_MS, 0) == LeaseInfo(2, "next", "")
            assert await store.hold("next", "", suite.TTL_MS, 0, epoch=2) == lease  # renewed, now with the lock
        async with await SqliteStore.open(tmp_path) as third:
            assert await third.hold("third", "", suite.TTL_MS, 0) == Lease(3, "third", suite.TTL_MS)

    run(job())


# --------------------------------------------------------------------------------------------------- torn and restored


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a database whose last 12 commits are in the write-ahead log only, as a power cut would leave it."""
    live, copy = tmp_path_factory.mktemp("live"), tmp_path_factory.mktemp("copy")

    async def job() -> None:
        async with await SqliteStore.open(live) as store:
            await commits(store, await lead(store), 12)
            for name in ("ffd.db", "ffd.db-wal"):
                shutil.copy(live / name, copy / name)
        shutil.copy(live / "high-water", copy / "high-water")

    run(job())
    return copy


@given(cut=st.floats(0, 1), fill=st.sampled_from((b"", b"\0" * 5000, b"garbage" * 700)))
@settings(max_examples=30, deadline=None)
def test_a_torn_log_opens_with_a_prefix_and_the_loss_is_noticed(
    torn: Path, tmp_path_factory: pytest.TempPathFactory, cut: float, fill: bytes
) -> None:
    directory = tmp_path_factory.mktemp("torn")
    for name in ("ffd.db", "high-water"):
        shutil.copy(torn / name, directory / name)
    log = (torn / "ffd.db-wal").read_bytes()
    (directory / "ffd.db-wal").write_bytes(log[: int(len(log) * cut)] + fill)

    async def job() -> None:
        async with await SqliteStore.open(directory) as store:
            number = (await store.head()).number
            faults = (await store.verify()).faults
            lease = await lead_anew(store)
            if cut == 1:
                assert number == 12
            if number == 12:
                assert faults == ()
                assert (await store.load(lease)).head.number == 12
                return
            assert len(faults) == 1
            assert "commits are lost" in faults[0]
            error = await suite.raises(PluginError, store.load(lease))
            assert error.code == "lost_commits"
            assert "--accept-loss" in error.hint
            assert [entry.number for entry in await suite.all_entries(store)] == [
                n for n in range(1, number + 1) for _ in range(2)
            ]

    run(job())


async def lead_anew(store: SqliteStore) -> Lease:
    """Take over from a holder of another machine: no lock, so after its time."""
    for now_ms in (0, suite.TTL_MS):
        answer = await store.hold("next", "", suite.TTL_MS, now_ms)
        if isinstance(answer, Lease):
            return answer
    raise AssertionError("not taken over")


def _restore(directory: Path, copies: Path, name: str) -> None:
    shutil.copy(copies / name, directory / "ffd.db")


def test_an_older_copy_is_led_only_when_told_so(tmp_path: Path) -> None:
    state, copies = tmp_path / "state", tmp_path / "copies"
    copies.mkdir()

    async def session(count: int) -> None:
        async with await SqliteStore.open(state) as store:
            lease = await lead(store)
            for _ in range(count):
                await suite.commit(store, lease, inventory("n1"))
            await store.release(lease)

    async def refused(how: str) -> None:
        async with await SqliteStore.open(state) as store:
            lease = await lead(store)
            error = await suite.raises(PluginError, store.load(lease))
            assert (error.code, how in error.message) == ("lost_commits", True)
            assert how in (await store.verify()).faults[0]
            await store.release(lease)

    async def accepted_loss(number: int) -> None:
        async with await SqliteStore.open(state, accept_loss=True) as store:
            lease = await lead(store)
            assert (await store.load(lease)).head.number == number
            assert (await store.verify()).faults == ()
            await store.release(lease)

    run(session(3))
    shutil.copy(state / "ffd.db", copies / "three")
    run(session(3))
    shutil.copy(state / "ffd.db", copies / "six")
    _restore(state, copies, "three")
    run(refused("commits are lost"))
    run(accepted_loss(3))
    run(session(5))  # another history: its commit 6 is not that of the copy
    assert HighWater(state / "high-water").read() != Head(6, b"")
    _restore(state, copies, "six")
    (state / "high-water").write_text(f"6 {'00' * 32}\n")
    run(refused("another history"))
    run(accepted_loss(6))
    (state / "high-water").write_text("rubbish\n")
    run(accepted_loss(6))


def test_a_mark_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "high-water").write_text("rubbish\n")

    async def job() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            lease = await lead(store)
            error = await suite.raises(PluginError, store.load(lease))
            assert error.code == "lost_commits"

    run(job())


def test_the_mark_is_noted_soon_and_never_lowered(tmp_path: Path) -> None:
    mark = HighWater(tmp_path / "high-water")

    async def job() -> None:
        async with await SqliteStore.open(tmp_path, tidy_ms=0) as store:
            lease = await lead(store)
            head = await suite.commit(store, lease, inventory("n1"))
            await store.head()  # behind the tidying that the commit asked for
            assert mark.read() == head
            higher = Head(9, b"\1" * 32)
            mark.write(higher)
            await suite.commit(store, lease, inventory("n2"))
            await store.head()
            assert mark.read() == higher

    run(job())


# ---------------------------------------------------------------------------------------------------------- damaged


def _flip(blob: bytes) -> bytes:
    return blob[:-1] + bytes([blob[-1] ^ 1])


def _change(column: str, table: str, where: str) -> Callable[[sqlite3.Connection], None]:
    def change(db: sqlite3.Connection) -> None:
        (value,) = db.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()
        changed = _flip(value) if isinstance(value, bytes) else value + 1
        db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (changed,))

    return change


def _remove(table: str, where: str) -> Callable[[sqlite3.Connection], None]:
    def remove(db: sqlite3.Connection) -> None:
        assert db.execute(f"DELETE FROM {table} WHERE {where}").rowcount == 1

    return remove


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_change("events", "story", "number = 4 AND idx = 1"), "the story entry at commit 4, event 1"),
        (_change("workflow", "story", "number = 4 AND idx = 1"), "the story entry at commit 4, event 1"),
        (_change("at_ms", "story", "number = 4 AND idx = 1"), "the story entry at commit 4, event 1"),
        (_change("count", "story", "number = 4 AND idx = 1"), "the story entry at commit 4, event 1"),
        (_change("idx", "story", "number = 4 AND idx = 1"), "the story entry at commit 4, event 2"),
        (_change("digest", "story", "number = 4 AND idx = 1"), "the story entries of commit 4"),
        (_change("digest", "commits", "number = 4"), "commit 4 does not match its digest"),
        (_change("payload", "commits", "number = 4"), "commit 4 does not match its digest"),
        (_change("epoch", "commits", "number = 4"), "commit 4 does not match its digest"),
        (_change("at_ms", "commits", "number = 4"), "commit 4 does not match its digest"),
        (_change("row", "specs", "digest = 'a'"), "document a does not match"),
        (_remove("specs", "digest = 'a'"), "document a, which is missing"),
        (_remove("commits", "number = 4"), "commits 4 to 4 are missing"),
        (_remove("commits", "number = 6"), "commits are lost"),  # the high-water mark knows the last one
    ],
)
def test_damage_is_found(tmp_path: Path, damage: Callable[[sqlite3.Connection], None], told: str) -> None:
    async def make() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            await commits(store, await lead(store), 6)
            assert (await store.verify()).faults == ()

    async def check() -> Verdict:
        async with await SqliteStore.open(tmp_path) as store:
            return await store.verify()

    run(make())
    with closing(sqlite3.connect(tmp_path / "ffd.db")) as db, db:
        damage(db)
    faults = asyncio.run(check()).faults
    assert any(told in fault for fault in faults), faults


def test_a_flipped_byte_of_the_file_is_found_and_does_not_end_the_process(tmp_path: Path) -> None:
    needle = b"needle-in-the-story"

    async def make() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            await suite.commit(store, await lead(store), added("a"), accepted(1), inventory(needle.decode()))
            await suite.commit(store, Lease(1, "leader", 1), ended(1))

    async def check() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            faults = (await store.verify()).faults
            assert any("commit 1" in fault for fault in faults), faults
            assert (await store.head()).number == 2

    run(make())
    path = tmp_path / "ffd.db"
    content = path.read_bytes()
    assert needle in content
    path.write_bytes(content.replace(needle, b"needle-on-the-story"))
    run(check())


def test_unreadable_events_are_damage_not_a_traceback(tmp_path: Path) -> None:
    async def job() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            await suite.commit(store, await lead(store), added("a"), accepted(1))
            with closing(sqlite3.connect(tmp_path / "ffd.db")) as db, db:
                db.execute("UPDATE story SET events = x'c1' WHERE idx = 1")
            error = await suite.raises(PluginError, store.read_story((0, 0)))
            assert error.code == "damaged"

    run(job())


# ------------------------------------------------------------------------------------------------- no space, bad disk


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[Path]:
    """A small memory file system, where we may mount one."""
    directory.mkdir(exist_ok=True)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system to fill")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"cannot mount a small file system to fill: {made.stderr.decode().strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_refuses_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    async def job(disk: Path) -> None:
        async with await SqliteStore.open(disk / "state") as store:
            lease = await lead(store)
            await suite.commit(store, lease, added("a"), accepted(1), progress(1, "t", range(100)))
            ballast = disk / "ballast"
            _fill(ballast)
            large = batch(lease.epoch, 2, accepted(2), progress(2, "t", range(2_000), b"x" * 300))
            for _ in range(3):
                error = await suite.raises(Refusal, store.commit(large))
                assert error.code == "storage_full"
                assert (await store.head()).number == 1
                assert (await store.read_workflow(1)).workflows == {1: b"running"}
                assert (await store.read_workflow(2)).items == {}
                assert (await store.verify()).faults == ()
            ballast.unlink()
            assert (await store.commit(large)).number == 2
            assert len((await store.read_workflow(2)).items) == 2_000
            assert (await store.verify()).faults == ()

    with mounted(tmp_path / "disk", "size=6m") as disk:
        run(job(disk))


def test_a_leader_keeps_its_lease_on_a_full_disk(tmp_path: Path) -> None:
    async def job(disk: Path) -> None:
        async with await SqliteStore.open(disk / "state", tidy_ms=0) as store:
            lease = await lead(store)  # with the log brought in now and then, renewals need no new space
            for number in range(1, 6):
                await store.commit(batch(lease.epoch, number, added("a"), accepted(number)))
            _fill(disk / "ballast")
            large = batch(lease.epoch, 6, accepted(6), progress(6, "t", range(2_000), b"x" * 300))
            await suite.raises(Refusal, store.commit(large))
            for now_ms in range(20):
                assert await store.hold("leader", "", suite.TTL_MS, now_ms, lease.epoch) == lease

    with mounted(tmp_path / "disk", "size=6m") as disk:
        run(job(disk))


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=6m") as disk:
        asyncio.run(_make(disk / "state"))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)

        async def job() -> None:
            for state in (disk / "state", disk / "new"):
                error = await suite.raises(PluginError, SqliteStore.open(state))
                assert str(state) in error.message
                assert error.hint

        run(job())


async def _make(state: Path) -> None:
    await (await SqliteStore.open(state)).close()


def test_a_failed_write_is_not_taken_for_a_commit(tmp_path: Path) -> None:
    """A file size limit makes the log's growth fail in the middle of a commit, with an I/O error."""

    async def job() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            lease = await lead(store)
            await suite.commit(store, lease, added("a"), accepted(1))
            large = batch(lease.epoch, 2, accepted(2), progress(2, "t", range(3_000), b"x" * 300))
            with _file_size_limit((tmp_path / "ffd.db-wal").stat().st_size + 100_000):
                await suite.raises(Unavailable, store.commit(large))
            assert (await store.head()).number == 1
            assert (await store.commit(large)).number == 2
            assert (await store.verify()).faults == ()

    run(job())


@contextmanager
def _file_size_limit(size_bytes: int) -> Iterator[None]:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def _sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("planted")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "site", "number", "kind"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, "commit.written", 0, Unavailable),
        (sqlite3.SQLITE_IOERR_FSYNC, "commit.after", 1, None),
        (sqlite3.SQLITE_FULL, "commit.written", 0, Refusal),
        (sqlite3.SQLITE_BUSY, "commit.written", 0, Unavailable),
        (sqlite3.SQLITE_READONLY, "commit.written", 0, PluginError),
        (sqlite3.SQLITE_CORRUPT, "commit.written", 0, PluginError),
    ],
)
def test_the_outcome_of_a_failed_commit_is_read_back(
    tmp_path: Path, code: int, site: str, number: int, kind: type[FfdError] | None
) -> None:
    async def job() -> None:
        planted = [site]

        def probe(reached: str) -> None:
            if planted == [reached]:
                planted.clear()
                raise _sqlite_error(code)

        async with await SqliteStore.open(tmp_path, probe=probe) as store:
            lease = await lead(store)
            asked = batch(lease.epoch, 1, added("a"), accepted(1))
            if kind is None:
                assert (await store.commit(asked)).number == 1
            else:
                await suite.raises(kind, store.commit(asked))
            assert (await store.head()).number == number
            assert (await store.commit(asked)).number == 1
            await suite.raises(Fenced, store.commit(batch(lease.epoch, 1, accepted(2))))
            assert len(await suite.all_entries(store)) == 2

    run(job())


def test_sqlite_checks_its_own_pages_too(tmp_path: Path) -> None:
    async def make() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            await commits(store, await lead(store), 3)
            assert await store.sweep(AT_MS, 0, 0, 10) == []

    async def check() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            assert (await store.verify()).faults

    run(make())
    path = tmp_path / "ffd.db"
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'items'").fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 : (page - 1) * 4096 + 16] = b"\xff" * 16
    path.write_bytes(content)
    run(check())
