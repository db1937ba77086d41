"""What the local runtime does in hard times: no descriptors left, arguments too large, locks, a clean close."""

from __future__ import annotations

import asyncio
import errno
import json
import math
import os
import resource
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from runtime_worlds import LocalWorld, in_loop, launch_of, live_entries, warden_pid

from ffd.core.model import Place
from ffd.core.reports import LaunchFailed, ReplicaStarted
from ffd.errors import Unavailable
from ffd.plugins.runtime import warden
from ffd.plugins.runtime.records import Records
from ffd.plugins.runtime.warden import BLANKS, FEW_COUNT, MOST_COUNT, Blanks, Connection, claim
from ffd.testing.conformance.runtime import Wish, attempt_of, launched_waiting, opened

A = attempt_of("a")


@contextmanager
def no_descriptor(more: int = 0) -> Iterator[None]:
    """Not more than `more` can be opened."""
    lowest_free = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest_free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@in_loop
async def test_without_descriptors_a_launch_is_to_be_tried_again(world: LocalWorld) -> None:
    async with opened(world) as watched:
        await watched.runtime.list()
        with no_descriptor(), pytest.raises(Unavailable):
            await watched.launch(launch_of(A, script="exit 0"))
        assert live_entries(world) == []
        await watched.launch(launch_of(A, script="exit 0"))
        assert (await watched.exits(A))[0].exit_code == 0


@in_loop
async def test_a_warden_without_descriptors_cannot_launch(world: LocalWorld) -> None:
    async with opened(world) as watched:
        await watched.runtime.list()
        limits = resource.prlimit(warden_pid(world), resource.RLIMIT_NOFILE, (3, 100))
        await watched.launch(launch_of(A, script="exit 0"))
        await watched.until(lambda told: len(told) == 1)
        (failed,) = watched.reports
        assert isinstance(failed, LaunchFailed)
        assert failed.kind == "launch"
        assert "ulimit -n" in failed.message
        assert live_entries(world) == []
        resource.prlimit(warden_pid(world), resource.RLIMIT_NOFILE, (100, 100))
        await watched.launch(launch_of(A, script="exit 0"))
        assert (await watched.exits(A))[0].exit_code == 0
        assert limits


def test_an_exit_that_cannot_be_looked_at_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor is left when a replica ends; later there is one again."""
    refusals = iter([errno.EMFILE, errno.ENFILE])
    real_open = os.open

    def refusing_open(path: str, *rest: int, **more: int) -> int:
        if str(path).endswith("/7/a.0.1.output"):
            for number in refusals:
                raise OSError(number, os.strerror(number))
        return real_open(path, *rest, **more)

    async def check(world: LocalWorld) -> None:
        async with opened(world) as watched:
            (found,) = await launched_waiting(watched, world, A)
            monkeypatch.setattr(os, "open", refusing_open)
            await world.finish(found)
            assert (await watched.exits(A))[0].exit_code == 0

    asyncio.run(check(LocalWorld(tmp_path)))
    assert list(refusals) == []


@in_loop
async def test_arguments_too_large_are_the_users_fault(world: LocalWorld) -> None:
    async with opened(world) as watched:
        await watched.launch(launch_of(A, argv=("true",), env={"BIG": "x" * (1 << 20)}))
        await watched.until(lambda told: len(told) == 1)
        (failed,) = watched.reports
        assert isinstance(failed, LaunchFailed)
        assert (failed.kind, live_entries(world)) == ("error", [])


@in_loop
async def test_what_cannot_be_executed_is_the_users_fault(world: LocalWorld) -> None:
    for number, (text, words) in enumerate(
        (("no first line", "no program of this machine"), ("#!/no/such/interpreter", "does not exist")), start=1
    ):
        path = world.folder / f"tool{number}"
        path.write_text(text)
        path.chmod(0o755)
        attempt = attempt_of("a", number)
        async with opened(world) as watched:
            await watched.launch(launch_of(attempt, argv=(str(path),)))
            await watched.until(lambda told: len(told) == 1)
            (failed,) = watched.reports
            assert isinstance(failed, LaunchFailed)
            assert failed.kind == "error"
            assert words in failed.message


@in_loop
async def test_closing_leaves_no_descriptor_and_no_zombie(world: LocalWorld) -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with opened(world) as watched:
        for item in range(10):
            await watched.launch(launch_of(attempt_of("many", item=item), argv=("true",)))
            await watched.exits(attempt_of("many", item=item))
        await launched_waiting(watched, world, A)
    assert len(os.listdir("/proc/self/fd")) == before
    async with opened(world) as watched:
        await watched.runtime.list()
        await watched.runtime.stop(A, 1, 0, "cancelled")
        await watched.exits(A)
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)


@in_loop
async def test_a_fan_of_ranks_on_pretend_nodes_runs_here(world: LocalWorld) -> None:
    world.settings["pretend"] = "4x2:H100"
    places = tuple(Place(f"node-{k:04}", (0, 1)) for k in range(4))
    order = msgspec.structs.replace(world.order(A, Wish(), 4), places=places)
    async with opened(world) as watched:
        assert [node.name for node in await watched.runtime.inventory()] == [place.node for place in places]
        await watched.launch(order)
        exits = await watched.exits(A, 4)
        assert [exited.exit_code for exited in exits] == [0, 0, 0, 0]
        assert sum(isinstance(report, ReplicaStarted) for report in watched.reports) == 4


def test_a_record_lock_is_inherited_and_released(tmp_path: Path) -> None:
    """The one thing everything above stands on."""
    records = Records(str(tmp_path))
    records.open()
    held = claim(records.path((A, 0)), "boot")
    os.set_inheritable(held, True)
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    os.close(held)
    sight = records.look((A, 0))
    assert sight is not None
    assert (sight.is_held, sight.facts.is_spent) == (True, True)
    assert claim(records.path((A, 0)), "boot") == -1
    child.communicate()
    after = records.look((A, 0))
    assert after is not None
    assert not after.is_held
    assert claim(records.path((A, 0)), "boot") == -1


def test_what_is_barred_is_never_claimed(tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    records.open()
    records.bar((A, 0))
    assert claim(records.path((A, 0)), "boot") == -1
    records.settle((A, 0))
    assert records.all_live() == []
    sight = records.look((A, 0))
    assert sight is not None
    assert sight.facts.is_barred


def test_a_start_is_told_with_what_follows() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours)
        connection.tell(within_ms=60_000, name="a", told="started")
        assert not connection.is_due()
        connection.tell(name="b", told="ended")
        assert connection.is_due()
        connection.tell(within_ms=60_000, name="c", told="started")
        assert connection.is_due()
        connection.send()
        assert not connection.is_due()
        assert [json.loads(line)["name"] for line in theirs.recv(1000).splitlines()] == ["a", "b", "c"]


# ------------------------------------------------------------------------------------------------- made in advance


@pytest.fixture
def blanks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blanks:
    """As the warden has them when it had rest."""
    monkeypatch.chdir(tmp_path)
    return _filled()


def _filled() -> Blanks:
    made = Blanks()
    while made.are_lacking():
        made.make()
    return made


def test_a_file_made_in_advance_is_like_any_other(blanks: Blanks) -> None:
    blanks.give("second")
    for name in ("first", "second"):
        os.close(claim(name, "boot"))
    assert Path("second").read_bytes() == Path("first").read_bytes() == b"boot boot\nstart\n"
    assert len(blanks.stock) == FEW_COUNT - 1
    blanks.forget_given()
    assert (os.stat("second").st_nlink, len(os.listdir(BLANKS))) == (1, FEW_COUNT - 1)


def test_a_file_made_in_advance_replaces_none(blanks: Blanks) -> None:
    Path("old.log").write_bytes(b"said")
    for name in ("new.log", "old.log", "missing/new.log"):
        blanks.give(name)
    assert (Path("new.log").read_bytes(), Path("old.log").read_bytes()) == (b"", b"said")
    assert len(blanks.stock) == FEW_COUNT - 1


def test_where_files_have_one_name_only_they_are_made_as_needed(
    blanks: Blanks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    blanks.give("second")
    os.close(claim("second", "boot"))
    assert Path("second").read_bytes() == b"boot boot\nstart\n"
    assert len(blanks.stock) == FEW_COUNT


def test_a_full_disk_ends_the_making_until_one_is_asked_for(blanks: Blanks, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    blanks.give("second")
    with monkeypatch.context() as full:
        full.setattr(os, "open", refuse)
        assert blanks.are_lacking()
        blanks.make()
        assert not blanks.are_lacking()
    blanks.give("third")
    assert blanks.are_lacking()


def test_as_many_are_made_as_were_asked_for_without_a_rest(blanks: Blanks, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (FEW_COUNT + 5, FEW_COUNT + 3, MOST_COUNT + 1):
        blanks.demand.asked_s = -math.inf
        monkeypatch.setattr(warden, "REST_MS", 60_000)
        for number in range(count):
            blanks.give(f"{count}.{number}")
        blanks.forget_given()
        while blanks.are_lacking():
            blanks.make()
        assert len(blanks.stock) == min(max(count, FEW_COUNT + 5), MOST_COUNT)


def test_what_a_warden_leaves_the_next_one_uses(blanks: Blanks) -> None:
    """But nothing that somebody had: it was killed before it took away the first name."""
    for name in ("log", "record", "removed"):
        blanks.give(name)
    os.close(claim("removed", "boot"))
    os.unlink("removed")
    Path(BLANKS, "9.record").touch()  # of another version
    again = Blanks()
    assert sorted(again.stock) == sorted(blanks.stock)
    assert len(os.listdir(BLANKS)) == FEW_COUNT - 3
    assert len(_filled().stock) == FEW_COUNT
