"""What only real processes can show: a daemon killed with its tasks running, processes that escape, reused pids,
descriptors, signals, full tables."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from runtime_worlds import LocalWorld, in_loop, launch_of, live_entries, log_of, readable, run, warden_pid

from ffd.core.effects import Launch
from ffd.core.reports import LaunchFailed, ReplicaExited
from ffd.plugins.ports import Found
from ffd.plugins.runtime import processes
from ffd.plugins.runtime.warden import RECORD_FD, SOCKET, claim
from ffd.plugins.runtime.warden_link import start_warden
from ffd.testing.conformance.runtime import NEVER_MS, Watched, Wish, attempt_of, launched_waiting, opened

A = attempt_of("a")


def pid_in(path: Path) -> int:
    return int(path.read_text())


# ------------------------------------------------------------------------------------------------ a daemon is killed


class Doomed:
    """A daemon process that launched `count` replicas of task `a`; `kill` is kill -9."""

    def __init__(self, folder: Path, count: int) -> None:
        script = str(Path(__file__).with_name("doomed_daemon.py"))
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, script, str(folder), "a", str(count)], stdout=subprocess.PIPE, env=env
        )
        assert self._process.stdout is not None
        lines = iter(self._process.stdout.readline, b"")
        self.found = [Found(attempt_of("a", item=item), 0, next(lines).decode().strip()) for item in range(count)]
        assert next(lines) == b"all\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@in_loop
async def test_tasks_outlive_a_killed_daemon_and_the_next_one_learns_everything(world: LocalWorld) -> None:
    doomed = Doomed(world.folder, 5)
    doomed.kill()
    await world.finish(doomed.found[1])  # ends while no daemon is there
    killed_process = os.pidfd_open(int(doomed.found[3].ref))
    signal.pidfd_send_signal(killed_process, signal.SIGKILL)
    await readable(killed_process)
    os.close(killed_process)
    async with opened(world) as watched:
        assert await watched.runtime.list() == [doomed.found[k] for k in (0, 2, 4)]
        (ended,) = await watched.exits(doomed.found[1].attempt)
        (killed,) = await watched.exits(doomed.found[3].attempt)
        assert (ended.exit_code, ended.signal) == (0, 0)
        assert (killed.exit_code, killed.signal, killed.kind) == (-1, signal.SIGKILL, "")
        await world.finish(doomed.found[0])
        assert (await watched.exits(doomed.found[0].attempt))[0].exit_code == 0
        await watched.runtime.stop(doomed.found[2].attempt, 1, NEVER_MS, "cancelled")
        assert (await watched.exits(doomed.found[2].attempt))[0].signal == signal.SIGTERM
        await watched.runtime.stop(doomed.found[4].attempt, 1, 0, "cancelled")
        assert (await watched.exits(doomed.found[4].attempt))[0].signal == signal.SIGKILL
        assert await watched.runtime.list() == []
    assert [world.starts(found.attempt, 0) for found in doomed.found] == [1] * 5


@in_loop
async def test_when_the_warden_is_killed_its_replicas_end_as_lost(world: LocalWorld) -> None:
    """Nobody can learn how they would end. What is launched afterwards has another warden."""
    async with opened(world) as watched:
        found = await launched_waiting(watched, world, A, 3)
        handles = [os.pidfd_open(int(one.ref)) for one in found]
        await kill_warden(world)
        exits = await watched.exits(A, 3)
        assert [(exited.kind, exited.exit_code, exited.signal) for exited in exits] == [("node-lost", -1, 0)] * 3
        assert "warden" in exits[0].message
        assert [has_ended(handle) for handle in handles] == [True] * 3
        for handle in handles:
            os.close(handle)
        after = attempt_of("after")
        await watched.launch(world.order(after, Wish(exit_code=4)))
        assert (await watched.exits(after))[0].exit_code == 4
        await watched.launch(world.order(A, Wish(), 3))
        await watched.exits(A, 6)
    assert [world.starts(A, rank) for rank in range(3)] == [1, 1, 1]


@in_loop
async def test_when_warden_and_daemon_are_killed_the_next_daemon_ends_what_lives(world: LocalWorld) -> None:
    async with opened(world) as watched:
        (found,) = await launched_waiting(watched, world, A)
    process = os.pidfd_open(int(found.ref))
    await kill_warden(world)
    async with opened(world) as watched:
        assert await watched.runtime.list() == []
        (exited,) = await watched.exits(A)
        assert exited.kind == "node-lost"
        assert has_ended(process)
    os.close(process)


async def kill_warden(world: LocalWorld) -> None:
    warden = os.pidfd_open(warden_pid(world))
    signal.pidfd_send_signal(warden, signal.SIGKILL)
    await readable(warden)
    os.close(warden)


@in_loop
async def test_a_warden_killed_before_it_spawned_counts_as_a_start(world: LocalWorld) -> None:
    """Whether its command ran cannot be known, so it must not run again."""
    runs = world.state_dir / "runs"
    (runs / "live").mkdir(parents=True)
    os.close(claim(f"{runs}/live/7.a.0.1.0", processes.boot_id()))
    async with opened(world) as watched:
        assert await watched.runtime.list() == []
        await watched.exits(A)
        await watched.launch(world.order(A, Wish()))
        assert [exited.kind for exited in await watched.exits(A, 2)] == ["node-lost", "node-lost"]
    assert world.starts(A, 0) == 0


@in_loop
async def test_a_warden_goes_when_nobody_needs_it(world: LocalWorld) -> None:
    async with opened(world) as watched:
        await watched.launch(world.order(A, Wish()))
        await watched.exits(A)
        warden = os.pidfd_open(warden_pid(world))
    await readable(warden)
    os.close(warden)


@in_loop
async def test_nonsense_does_not_hurt_the_warden(world: LocalWorld) -> None:
    async with opened(world) as watched:
        await launched_waiting(watched, world, A)
        for nonsense in (b"{}\n", b"no json\n", b'{"do": "start", "name": 5}\n', b"[]\n", b'{"do": "__init__"}\n'):
            reader, writer = await asyncio.open_unix_connection(world.state_dir / "runs" / SOCKET)
            writer.write(nonsense)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        await watched.runtime.stop(A, 1, NEVER_MS, "cancelled")
        assert (await watched.exits(A))[0].signal == signal.SIGTERM


def test_a_state_directory_may_have_a_long_name(tmp_path: Path) -> None:
    world = LocalWorld(tmp_path / ("long" * 30))
    world.folder.mkdir()
    assert asyncio.run(run(world, launch_of(A, script="exit 2"))).exit_code == 2


@in_loop
async def test_many_wardens_started_at_once_are_one(world: LocalWorld) -> None:
    runs = world.state_dir / "runs"
    (runs / "live").mkdir(parents=True)
    await asyncio.gather(*(asyncio.to_thread(start_warden, str(runs)) for _ in range(4)))
    first = warden_pid(world)
    async with opened(world) as watched:
        await watched.launch(world.order(A, Wish()))
        await watched.exits(A)
        assert warden_pid(world) == first


@in_loop
async def test_two_daemons_that_launch_the_same_start_it_once(world: LocalWorld) -> None:
    order = world.order(A, Wish(waits=True), 4)
    async with opened(world) as one, opened(world) as other:
        await asyncio.gather(one.launch(order), other.launch(order))
        for watched in (one, other):
            await watched.until(lambda told: {report.rank for report in told} == {0, 1, 2, 3})
        for rank in range(4):
            await world.ready(A, rank)
        assert [world.starts(A, rank) for rank in range(4)] == [1, 1, 1, 1]
        for watched in (one, other):
            assert [(found.attempt, found.rank) for found in await watched.runtime.list()] == [(A, k) for k in range(4)]
        await one.runtime.stop(A, 4, 0, "cancelled")
        await one.exits(A, 4)
        await other.exits(A, 4)


@in_loop
async def test_what_is_forgotten_costs_nothing_and_never_starts_again(world: LocalWorld) -> None:
    async with opened(world) as watched:
        order = world.order(A, Wish(exit_code=7), 2)
        await watched.launch(order)
        await watched.exits(A, 2)
        assert len(live_entries(world)) == 2
        await watched.runtime.forget([A])
        assert live_entries(world) == []
        await watched.launch(order)
        assert [exited.exit_code for exited in await watched.exits(A, 4)] == [7] * 4
    assert [world.starts(A, rank) for rank in (0, 1)] == [1, 1]


@in_loop
async def test_after_a_restart_of_the_machine_its_replicas_are_lost(world: LocalWorld) -> None:
    async with opened(world) as watched:
        await watched.launch(world.order(A, Wish()))
        await watched.exits(A)
    (world.state_dir / "runs" / "live" / "7.a.0.1.0").write_text("boot another\nstart\npid 1\n")
    async with opened(world) as watched:
        assert await watched.runtime.list() == []
        (exited,) = await watched.exits(A)
        assert (exited.kind, exited.exit_code, exited.signal) == ("node-lost", -1, 0)
        assert "restarted" in exited.message


@in_loop
async def test_files_that_are_not_ours_are_passed_over(world: LocalWorld) -> None:
    live = world.state_dir / "runs" / "live"
    live.mkdir(parents=True)
    for name in ("notes.txt", "1.2.3.4", "1.a.b.1.0", "1.a.0.1.0.new"):
        (live / name).write_text("pid 1\n")
    async with opened(world) as watched:
        assert await watched.runtime.list() == []
        await watched.launch(world.order(A, Wish()))
        await watched.exits(A)
        assert {report.attempt for report in watched.reports} == {A}


# -------------------------------------------------------------------------------------------- whom a stop reaches

# Leaves parent, group and session, closes what it inherited, ignores TERM, says its pid and waits.
ESCAPED = """
rm -f {ready}; mkfifo {ready}
setsid sh -c 'trap "" TERM HUP; exec 9>&-; echo $$ > {pid}; echo > {ready}; while :; do sleep 1000; done' \
    > /dev/null 2>&1 < /dev/null &
read -r _ < {ready}
"""
# Stays in the group, ignores TERM.
BEHIND = """
rm -f {ready}; mkfifo {ready}
sh -c 'trap "" TERM HUP; echo $$ > {pid}; echo > {ready}; while :; do sleep 1000; done' &
read -r _ < {ready}
"""


def with_child(world: LocalWorld, template: str, name: str) -> str:
    return template.format(ready=world.folder / f"{name}.fifo", pid=world.folder / f"{name}.pid")


def waiting_after(world: LocalWorld, script: str) -> Launch:
    order = world.order(A, Wish(waits=True))
    return msgspec.structs.replace(order, script=script + order.script)


def has_ended(pidfd: int) -> bool:
    """Also true of a process that its parent has not reaped."""
    return bool(select.select([pidfd], [], [], 0)[0])


async def stop_and_watch(watched: Watched, pids: list[int], grace_ms: int) -> ReplicaExited:
    """Stop A; all these processes must be gone when its exit is told."""
    handles = [os.pidfd_open(pid) for pid in pids]
    try:
        await watched.runtime.stop(A, 1, grace_ms, "cancelled")
        (exited,) = await watched.exits(A)
        assert [has_ended(handle) for handle in handles] == [True] * len(handles)
    finally:
        for handle in handles:
            os.close(handle)
    return exited


@pytest.mark.parametrize("grace_ms", [0, 50, NEVER_MS])
@pytest.mark.parametrize("is_adopted", [False, True], ids=["own", "adopted"])
def test_a_stop_reaches_what_escaped(tmp_path: Path, grace_ms: int, is_adopted: bool) -> None:
    async def check(world: LocalWorld) -> None:
        script = with_child(world, ESCAPED, "escaped") + with_child(world, BEHIND, "behind")
        async with opened(world) as watched:
            await watched.launch(waiting_after(world, script))
            await world.ready(A, 0)
            pids = [pid_in(world.folder / f"{name}.pid") for name in ("escaped", "behind")]
            if not is_adopted:
                exited = await stop_and_watch(watched, pids, grace_ms)
        if is_adopted:
            async with opened(world) as watched:
                await watched.runtime.list()
                exited = await stop_and_watch(watched, pids, grace_ms)
        assert exited.signal == (signal.SIGTERM if grace_ms else signal.SIGKILL)

    asyncio.run(check(LocalWorld(tmp_path)))


@in_loop
async def test_what_a_task_leaves_behind_ends_with_it(world: LocalWorld) -> None:
    keeps_record = ESCAPED.replace("exec 9>&-; ", "")
    script = with_child(world, BEHIND, "behind") + with_child(world, keeps_record, "escaped")
    async with opened(world) as watched:
        await watched.launch(waiting_after(world, script))
        await world.ready(A, 0)
        handles = [os.pidfd_open(pid_in(world.folder / f"{name}.pid")) for name in ("behind", "escaped")]
        (found,) = await watched.runtime.list()
        await world.finish(found)
        (exited,) = await watched.exits(A)
        assert exited.exit_code == 0
        for handle in handles:
            assert has_ended(handle)
            os.close(handle)


@in_loop
async def test_a_reused_pid_is_never_signalled(world: LocalWorld) -> None:
    """A replica's pid belongs to somebody else by now, who leads a session of that number too."""
    foreign = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    runs = world.state_dir / "runs"
    (runs / "live").mkdir(parents=True)
    held = claim(f"{runs}/live/7.a.0.1.0", processes.boot_id())
    os.write(held, f"pid {foreign.pid}\n".encode())
    try:
        async with opened(world) as watched:
            assert await watched.runtime.list() == []
            await watched.exits(A)
            await watched.runtime.stop(A, 1, 0, "cancelled")
            await watched.exits(A, 2)
        assert foreign.poll() is None
    finally:
        os.close(held)
        foreign.kill()
        foreign.wait()


@in_loop
async def test_the_notice_says_why_before_the_signal_comes(world: LocalWorld) -> None:
    code = """
import os, signal, sys

def stopped(number, frame):
    sys.exit(open(os.environ["FFD_STOP_FILE"]).read())

signal.signal(signal.SIGTERM, stopped)
open(sys.argv[1], "w").write("ready")
signal.pause()
"""
    ready = world.folder / "ready"
    os.mkfifo(ready)
    async with opened(world) as watched:
        await watched.launch(launch_of(A, argv=(sys.executable, "-c", code, str(ready))))
        assert await asyncio.to_thread(ready.read_text) == "ready"
        await watched.runtime.stop(A, 1, NEVER_MS, "preempted")
        await watched.exits(A)
    assert log_of(world) == b"preempted\n"


# ------------------------------------------------------------------------------------------------ what a task inherits


@in_loop
async def test_a_task_inherits_no_descriptor_but_its_own(world: LocalWorld) -> None:
    leaky = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaky, True)
    try:
        await run(world, launch_of(A, argv=(sys.executable, "-c", "import os; print(*os.listdir('/proc/self/fd'))")))
    finally:
        os.close(leaky)
    listing = 3  # the descriptor of the listing itself
    assert sorted(map(int, log_of(world).split())) == [0, 1, 2, listing, RECORD_FD]


@in_loop
async def test_a_task_has_default_signals_a_session_and_no_input(world: LocalWorld) -> None:
    code = """
import os, signal, sys
own = (signal.SIGPIPE, signal.SIGXFSZ)  # what Python itself ignores
ignored = [n for n in range(1, 32) if signal.getsignal(n) == signal.SIG_IGN and n not in own]
blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
print(ignored, blocked, sys.stdin.read() == "", os.getsid(0) == os.getpid())
"""
    previous = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        await run(world, launch_of(A, argv=(sys.executable, "-c", code)))
    finally:
        signal.signal(signal.SIGUSR1, previous)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert log_of(world) == b"[] set() True True\n"


@in_loop
async def test_a_broken_pipe_ends_a_task_as_in_a_login_shell(world: LocalWorld) -> None:
    """Python ignores SIGPIPE; what it starts must not."""
    exited = await run(world, launch_of(A, script="set +o pipefail\n{ yes; echo $? >&2; } | head -n 1\n"))
    assert exited.exit_code == 0
    assert b"Broken pipe" not in log_of(world)


@in_loop
async def test_arguments_arrive_exactly(world: LocalWorld) -> None:
    words = ("", " ", "a b", "-n", "--", "$HOME", "`x`", "*", "é\n\t'\"\\", "x=1")
    code = "import sys; print(ascii(sys.argv[1:]))"
    await run(world, launch_of(A, argv=(sys.executable, "-c", code, *words)))
    assert log_of(world).decode() == f"{list(words)!a}\n"


@in_loop
async def test_a_shell_word_is_no_builtin(world: LocalWorld) -> None:
    """`exit` of the shim would leave no exit code; `true` is the program."""
    async with opened(world) as watched:
        await watched.launch(launch_of(A, argv=("exit", "3")))
        await watched.until(lambda told: len(told) == 1)
        (failed,) = watched.reports
        assert isinstance(failed, LaunchFailed)
        assert failed.message == "there is no command exit on the PATH of the task"


@in_loop
async def test_output_keeps_every_byte_in_order(world: LocalWorld) -> None:
    code = r"import os; [os.write(n % 2 + 1, bytes((n, 0, 255, 254))) for n in range(256)]"
    await run(world, launch_of(A, argv=(sys.executable, "-c", code)))
    assert log_of(world) == b"".join(bytes((n, 0, 255, 254)) for n in range(256))


@in_loop
async def test_the_shell_adds_nothing_to_the_log_of_a_crash(world: LocalWorld) -> None:
    exited = await run(world, launch_of(A, argv=(sys.executable, "-c", "import os; os.kill(os.getpid(), 11)")))
    assert (exited.signal, exited.exit_code) == (signal.SIGSEGV, -1)
    assert log_of(world) == b""


@in_loop
async def test_a_failure_tells_its_last_lines(world: LocalWorld) -> None:
    exited = await run(world, launch_of(A, script='for k in $(seq 100); do echo "line $k"; done; exit 1'))
    assert exited.tail == "\n".join(f"line {k}" for k in range(81, 101))
