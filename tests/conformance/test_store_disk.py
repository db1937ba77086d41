"""A full disk, a read-only one, one that fails: what the SQLite store refuses, and that it goes on afterwards."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import subprocess
from asyncio import run
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ffd.errors import Fenced, FfdError, PluginError, Refusal, Unavailable
from ffd.plugins.store.sqlite import SqliteStore
from ffd.testing.conformance.store_setup import (
    TTL_MS,
    accepted,
    added,
    all_entries,
    batch,
    commit,
    lead,
    progress,
    raises,
)


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
            await commit(store, lease, added("a"), accepted(1), progress(1, "t", range(100)))
            ballast = disk / "ballast"
            _fill(ballast)
            large = batch(lease.epoch, 2, accepted(2), progress(2, "t", range(2_000), b"x" * 300))
            for _ in range(3):
                error = await raises(Refusal, store.commit(large))
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
            await raises(Refusal, store.commit(large))
            for now_ms in range(20):
                assert await store.hold("leader", "", TTL_MS, now_ms, lease.epoch) == lease

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
                error = await raises(PluginError, SqliteStore.open(state))
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
            await commit(store, lease, added("a"), accepted(1))
            large = batch(lease.epoch, 2, accepted(2), progress(2, "t", range(3_000), b"x" * 3_000))
            with _file_size_limit((tmp_path / "ffd.db-wal").stat().st_size + 100_000):
                await raises(Unavailable, store.commit(large))
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
                await raises(kind, store.commit(asked))
            assert (await store.head()).number == number
            assert (await store.commit(asked)).number == 1
            await raises(Fenced, store.commit(batch(lease.epoch, 1, accepted(2))))
            assert len(await all_entries(store)) == 2

    run(job())
