"""Killed, frozen, torn and restored: what the SQLite store still knows afterwards. Real processes, real files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from asyncio import run
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ffd
from ffd.errors import PluginError
from ffd.plugins.ports import Head, Lease, LeaseInfo, ListQuery
from ffd.plugins.store.sqlite import SqliteStore
from ffd.plugins.store.statedir import HighWater
from ffd.testing.conformance.store_setup import (
    TTL_MS,
    accepted,
    added,
    all_entries,
    batch,
    commit,
    inventory,
    lead,
    progress,
    raises,
)

ROOT = Path(ffd.__file__).parent.parent
CHILD = Path(__file__).with_name("store_child.py")


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
    entries = await all_entries(store)
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
            await commit(store, lease, accepted(number + 1))
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
                assert isinstance(await store.hold("next", "", TTL_MS, 0), LeaseInfo)
                process.kill()
                process.wait()
                assert await store.hold("next", "", TTL_MS, 0) == Lease(2, "next", TTL_MS)

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
                assert isinstance(await store.hold("next", "", TTL_MS, 0), LeaseInfo)
                assert isinstance(await store.hold("next", "", TTL_MS, TTL_MS - 1), LeaseInfo)
                lease = await store.hold("next", "", TTL_MS, TTL_MS)
                assert lease == Lease(2, "next", TTL_MS)
                assert isinstance(lease, Lease)
                await commit(store, lease, accepted(2))
                process.send_signal(signal.SIGCONT)
                assert ask(process) == "Fenced"
                process.kill()
                process.wait()
            # The dead one had the lock, not we: that it is free must not cost us the lease.
            assert await third.hold("third", "", TTL_MS, 0) == LeaseInfo(2, "next", "")
            assert await store.hold("next", "", TTL_MS, 0, epoch=2) == lease  # renewed, now with the lock
        async with await SqliteStore.open(tmp_path) as third:
            assert await third.hold("third", "", TTL_MS, 0) == Lease(3, "third", TTL_MS)

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
            error = await raises(PluginError, store.load(lease))
            assert error.code == "lost_commits"
            assert "--accept-loss" in error.hint
            assert [entry.number for entry in await all_entries(store)] == [
                n for n in range(1, number + 1) for _ in range(2)
            ]

    run(job())


async def lead_anew(store: SqliteStore) -> Lease:
    """Take over from a holder of another machine: no lock, so after its time."""
    for now_ms in (0, TTL_MS):
        answer = await store.hold("next", "", TTL_MS, now_ms)
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
                await commit(store, lease, inventory("n1"))
            await store.release(lease)

    async def refused(how: str) -> None:
        async with await SqliteStore.open(state) as store:
            lease = await lead(store)
            error = await raises(PluginError, store.load(lease))
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
            error = await raises(PluginError, store.load(lease))
            assert error.code == "lost_commits"
            assert (await store.verify()).faults == (error.message,)

    run(job())


def test_a_loss_is_accepted_once(tmp_path: Path) -> None:
    async def job() -> None:
        async with await SqliteStore.open(tmp_path, accept_loss=True) as store:
            lease = await lead(store)
            HighWater(tmp_path / "high-water").write(Head(5, bytes(32)))
            assert (await store.load(lease)).head.number == 0
            HighWater(tmp_path / "high-water").write(Head(5, bytes(32)))
            await raises(PluginError, store.load(lease))

    run(job())


def test_the_mark_is_noted_soon_and_never_lowered(tmp_path: Path) -> None:
    mark = HighWater(tmp_path / "high-water")

    async def job() -> None:
        async with await SqliteStore.open(tmp_path, tidy_ms=0) as store:
            lease = await lead(store)
            head = await commit(store, lease, inventory("n1"))
            await store.head()  # behind the tidying that the commit asked for
            assert mark.read() == head
            higher = Head(9, b"\1" * 32)
            mark.write(higher)
            await commit(store, lease, inventory("n2"))
            await store.head()
            assert mark.read() == higher

    run(job())
