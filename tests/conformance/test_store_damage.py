"""Bytes and rows of the SQLite database changed behind its back: `verify` finds them and says where."""

from __future__ import annotations

import sqlite3
from asyncio import run
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ffd.errors import PluginError
from ffd.plugins.ports import Lease
from ffd.plugins.store.sqlite import SqliteStore
from ffd.testing.conformance.store_setup import (
    AT_MS,
    accepted,
    added,
    batch,
    commit,
    ended,
    inventory,
    lead,
    progress,
    raises,
)


async def commits(store: SqliteStore, lease: Lease, count: int) -> None:
    """Each with rows and story of its own workflow."""
    for number in range(1, count + 1):
        await store.commit(batch(lease.epoch, number, added("a"), accepted(number), progress(number, "t", range(20))))


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
        (_remove("commits", "number = 1"), "commit 1 is missing"),
        (_remove("commits", "number = 6"), "commit 6 is missing"),
        (_remove("commits", "number = 6"), "commits are lost"),  # the high-water mark knows the last one
    ],
)
def test_damage_is_found(tmp_path: Path, damage: Callable[[sqlite3.Connection], None], told: str) -> None:
    async def make() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            await commits(store, await lead(store), 6)
            assert (await store.verify()).faults == ()

    async def check() -> tuple[str, ...]:
        async with await SqliteStore.open(tmp_path) as store:
            return (await store.verify()).faults

    run(make())
    with closing(sqlite3.connect(tmp_path / "ffd.db")) as db, db:
        damage(db)
    faults = run(check())
    assert any(told in fault for fault in faults), faults


def test_a_flipped_byte_of_the_file_is_found_and_does_not_end_the_process(tmp_path: Path) -> None:
    needle = b"needle-in-the-story"

    async def make() -> None:
        async with await SqliteStore.open(tmp_path) as store:
            await commit(store, await lead(store), added("a"), accepted(1), inventory(needle.decode()))
            await commit(store, Lease(1, "leader", 1), ended(1))

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
            await commit(store, await lead(store), added("a"), accepted(1))
            with closing(sqlite3.connect(tmp_path / "ffd.db")) as db, db:
                db.execute("UPDATE story SET events = x'c1' WHERE idx = 1")
            error = await raises(PluginError, store.read_story((0, 0)))
            assert error.code == "damaged"

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
