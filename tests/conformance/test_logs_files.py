"""Logs in files: offsets for ever, gaps said, waits that end with the write; and the keeper that bounds them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from runtime_worlds import LocalWorld, launch_of

from ffd.plugins.logs import inotify
from ffd.plugins.logs.files import FileLogs
from ffd.plugins.ports import Chunk
from ffd.plugins.runtime import keeper
from ffd.plugins.runtime.keeper import BLOCK_BYTES, LEAST_BYTES, trim
from ffd.plugins.runtime.processes import punch_hole
from ffd.testing.conformance.runtime import PATIENCE_S, attempt_of, opened

A = attempt_of("a")
PATIENCE_MS = int(PATIENCE_S * 1000)


class Log:
    """A log as a replica writes it, and its readers."""

    def __init__(self, folder: Path) -> None:
        self.store = FileLogs(folder)
        self.path = folder / "runs" / f"{A.replica_path(0)}.log"

    def write(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(data)

    def read(self, offset: int, limit_bytes: int = 1000) -> Chunk:
        return asyncio.run(self.store.read(A, 0, offset, limit_bytes))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def in_loop(test: Callable[[Log], Awaitable[None]]) -> Callable[[Path], None]:
    def plain(tmp_path: Path) -> None:
        async def run() -> None:
            log = Log(tmp_path)
            try:
                await test(log)
            finally:
                await log.store.close()

        asyncio.run(run())

    plain.__name__, plain.__doc__ = test.__name__, test.__doc__
    return plain


# ----------------------------------------------------------------------------------------------------------- reading


def test_reading_goes_on_where_it_stopped(log: Log) -> None:
    data = bytes(range(256)) * 3
    log.write(data)
    given, offset = b"", 0
    while True:
        chunk = log.read(offset, 100)
        assert (chunk.offset, chunk.next_offset, chunk.dropped_bytes) == (offset, offset + len(chunk.data), 0)
        given += chunk.data
        offset = chunk.next_offset
        if chunk.eof:
            break
    assert given == data
    assert log.read(offset) == Chunk(offset, b"", offset, eof=True)
    log.write(b"more")
    assert log.read(offset) == Chunk(offset, b"more", offset + 4, eof=True)


@pytest.mark.parametrize(("offset", "data"), [(-4, b"tail"), (-1, b"l"), (-100, b"the tail"), (0, b"the tail")])
def test_a_negative_offset_counts_from_the_end(log: Log, offset: int, data: bytes) -> None:
    log.write(b"the tail")
    assert log.read(offset) == Chunk(8 - len(data), data, 8, eof=True)


@pytest.mark.parametrize("offset", [0, -5, 7])
def test_an_unknown_log_is_empty(log: Log, offset: int) -> None:
    assert log.read(offset) == Chunk(max(0, offset), b"", max(0, offset), eof=True)


def test_a_log_that_is_no_file_is_empty(log: Log) -> None:
    log.path.parent.mkdir(parents=True)
    os.mkfifo(log.path)
    assert log.read(0) == Chunk(0, b"", 0, eof=True)


def test_ranks_and_age(log: Log) -> None:
    async def check() -> None:
        assert await log.store.ranks(A) == []
        assert await log.store.touched_at_ms(A) == 0
        log.write(b"x")
        others = log.path.with_suffix("")
        others.mkdir()
        for name in ("2.log", "10.log", "1.output", "x.log", "2.log.new"):
            (others / name).touch()
        for path, at_s in ((log.path, 100), (others / "2.log", 2_000), (others / "10.log", 300)):
            os.utime(path, (at_s, at_s))
        assert await log.store.ranks(A) == [0, 2, 10]
        assert await log.store.touched_at_ms(A) == 2_000_000

    asyncio.run(check())


def test_removing_a_workflow_removes_all_of_it_and_nothing_else(log: Log, tmp_path: Path) -> None:
    log.write(b"x")
    other = tmp_path / "runs" / "77" / "a.0.1.log"
    other.parent.mkdir(parents=True)
    other.touch()
    asyncio.run(log.store.remove(7))
    asyncio.run(log.store.remove(8))
    assert os.listdir(tmp_path / "runs") == ["77"]


# ----------------------------------------------------------------------------------------------------------- waiting


@asynccontextmanager
async def waiting(log: Log, offset: int) -> Iterator[asyncio.Task[bool]]:
    """A waiter that has looked once, and found nothing."""
    task = asyncio.ensure_future(log.store.wait(A, 0, offset, PATIENCE_MS))
    for _ in range(3):
        await asyncio.to_thread(int)
    assert not task.done()
    yield task


@in_loop
async def test_a_wait_ends_with_the_write(log: Log) -> None:
    log.write(b"old")
    async with waiting(log, 3) as one, waiting(log, 3) as two, waiting(log, 5) as far:
        log.write(b"n")
        assert await one is True
        assert await two is True
        assert not far.done()
        log.write(b"ew")
        assert await far is True


@in_loop
async def test_a_wait_for_a_log_that_is_not_there_yet(log: Log) -> None:
    async with waiting(log, 0) as task:
        log.write(b"first")
        assert await task is True


@in_loop
async def test_a_wait_for_what_is_there_returns_at_once(log: Log) -> None:
    log.write(b"abc")
    assert await log.store.wait(A, 0, 2, 0) is True


@in_loop
async def test_a_wait_ends_with_its_time(log: Log) -> None:
    log.write(b"abc")
    assert await log.store.wait(A, 0, 3, 1) is False
    assert await log.store.wait(attempt_of("unknown"), 0, 0, 1) is False


@in_loop
async def test_a_waiter_that_went_away_leaves_nothing(log: Log) -> None:
    log.write(b"abc")
    async with waiting(log, 3) as gone, waiting(log, 3) as task:
        gone.cancel()
        log.write(b"d")
        assert await task is True


@in_loop
async def test_closing_lets_waiters_look_for_themselves(log: Log) -> None:
    log.write(b"abc")
    async with waiting(log, 3) as task:
        before = len(os.listdir("/proc/self/fd"))
        await log.store.close()
        assert len(os.listdir("/proc/self/fd")) == before - 1
        log.write(b"d")
        assert await task is True


def test_without_inotify_a_wait_looks_from_time_to_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inotify.Changes, "next_of", lambda self, path: None)
    in_loop(_waits)(tmp_path)


async def _waits(log: Log) -> None:
    log.write(b"abc")
    async with waiting(log, 3) as task:
        log.write(b"d")
        assert await task is True


# ----------------------------------------------------------------------------------------------------------- keeper

LIMIT = 64 * BLOCK_BYTES


def test_a_log_within_its_limit_is_left_alone(log: Log) -> None:
    log.write(b"x" * LIMIT)
    assert trim(str(log.path), LIMIT) == LIMIT
    assert not log.path.with_suffix(".dropped").exists()
    assert trim(str(log.path.with_name("missing.log")), LIMIT) == 0


def numbered(first: int, count: int) -> bytes:
    """Lines of 16 bytes, each with its number."""
    return b"".join(b"%015d\n" % number for number in range(first, first + count))


def test_a_log_over_its_limit_keeps_head_and_tail(log: Log) -> None:
    """Time after time; readers are told how much is missing, and offsets stay true."""
    lines = 0
    for _ in range(5):
        log.write(numbered(lines, 3 * LIMIT // 16))
        lines += 3 * LIMIT // 16
        trim(str(log.path), LIMIT)
        size = lines * 16
        assert log.path.stat().st_blocks * 512 <= LIMIT
        head = log.read(0, size)
        assert head.data == numbered(0, LIMIT // 4 // 16)
        assert (head.dropped_bytes, head.eof) == (0, False)
        tail = log.read(head.next_offset, size)
        assert tail.offset == head.next_offset + tail.dropped_bytes
        assert tail.dropped_bytes > 0
        assert tail.data == numbered(tail.offset // 16, (size - tail.offset) // 16)
        assert len(tail.data) >= LIMIT // 2
        assert (tail.next_offset, tail.eof) == (size, True)
        middle = log.read(head.next_offset + 100, 16)
        assert (middle.offset, middle.dropped_bytes) == (tail.offset, tail.dropped_bytes - 100)
        assert log.read(-32).data == numbered(lines - 2, 2)


def test_what_is_dropped_while_it_is_read_is_not_given_as_zeros(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write(numbered(0, 4 * LIMIT // 16))
    real_pread = os.pread
    trims = iter([LIMIT])

    def late_pread(fd: int, size: int, offset: int) -> bytes:
        for limit in trims:  # once, between the look at what is dropped and the read
            trim(str(log.path), limit)
        return real_pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", late_pread)
    chunk = log.read(LIMIT, 160)
    assert list(trims) == []
    assert chunk.dropped_bytes > 0
    assert chunk.data == numbered(chunk.offset // 16, 10)


def test_a_disk_that_cannot_punch_keeps_everything_and_readers_get_it(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "punch_hole", lambda path, start, end: False)
    log.write(numbered(0, 4 * LIMIT // 16))
    trim(str(log.path), LIMIT)
    assert log.read(0, 5 * LIMIT).data == numbered(0, 4 * LIMIT // 16)


def test_a_hole_reads_as_zeros_and_moves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3 * BLOCK_BYTES)
    assert punch_hole(str(path), BLOCK_BYTES, 2 * BLOCK_BYTES) is True
    assert path.read_bytes() == b"x" * BLOCK_BYTES + bytes(BLOCK_BYTES) + b"x" * BLOCK_BYTES


FLOOD = r"""
import os, sys, time
block = b"".join(b"%015d\n" % n for n in range(4096))
for _ in range(256):
    os.write(1, block)
while os.stat(sys.argv[1]).st_blocks * 512 > int(sys.argv[2]):
    time.sleep(0.01)
os.write(1, b"the end\n")
"""


def test_a_flood_is_bounded_while_the_task_runs(tmp_path: Path) -> None:
    """The task itself waits until its log was trimmed, then ends well."""
    limit = 16 * LEAST_BYTES

    async def check(world: LocalWorld) -> None:
        log = Log(world.state_dir)
        async with opened(world) as watched:
            argv = (sys.executable, "-c", FLOOD, str(log.path), str(limit))
            await watched.launch(launch_of(A, argv=argv))
            (exited,) = await watched.exits(A)
            assert exited.exit_code == 0, exited
        assert log.path.stat().st_blocks * 512 <= limit
        assert (await log.store.read(A, 0, -8, 100)).data == b"the end\n"
        head = await log.store.read(A, 0, 0, limit)
        assert head.data.startswith(b"%015d\n" % 0)
        assert (await log.store.read(A, 0, head.next_offset, 16)).dropped_bytes > limit

    asyncio.run(check(LocalWorld(tmp_path, log_bytes=limit)))
