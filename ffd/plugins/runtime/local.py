"""The local runtime: replicas are processes of this machine, each in a session of its own, writing straight to files.

The daemon is in no data path and may die at any time. The parent of all these processes is the `warden`, a program that
outlives it: it starts and signals them and notes how they end, so that the next daemon adopts what lives and learns how
the rest ended. The life of a replica here:

    launch -> prepared -> started by the warden -> ended -> what it left behind ended too -> reported -> forgotten

A replica is reported gone when nothing of it is to be seen any more. At an ordinary exit that is: its process group is
killed, and the lock that its processes inherit (`records`) is free. After a stop, and when nobody saw the exit, all
processes of the machine are looked through (`hunter`). A process that left the group, closed the descriptor it had
inherited *and* goes on after an ordinary exit is not noticed.

Everything here runs in the event loop and takes some hundred microseconds; what takes longer is in the warden, and in
threads of `hunter` and `keeper`. Never here: what to run or when (core), system differences (`processes`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import anyio.lowlevel
import anyio.to_thread
import msgspec

from ffd.core.effects import Launch
from ffd.core.model import AttemptId, Node
from ffd.core.reports import AnyReport, LaunchFailed, ReplicaExited, ReplicaStarted
from ffd.errors import PluginError, Unavailable
from ffd.plugins.ports import Credentials, Found, Reports
from ffd.plugins.pretend import parse_pretend
from ffd.plugins.runtime import processes, remains
from ffd.plugins.runtime.folders import Folders
from ffd.plugins.runtime.hunter import Hunter
from ffd.plugins.runtime.keeper import Keeper
from ffd.plugins.runtime.machine import this_machine
from ffd.plugins.runtime.prepare import Here, Unstartable, inherited, prepare, replica_path, stop_path
from ffd.plugins.runtime.records import Facts, Key, Records, name_of
from ffd.plugins.runtime.warden_link import Told, WardenLink, start_request

RETRY_S = 0.25  # between tries of what the machine does not let us do now
ANSWER_S = 60.0  # how long the warden may take to say what lives
TURN_COUNT = 64  # entries handled before others get their turn


class Replica(msgspec.Struct, eq=False):
    """One that lives, or is being started or ended. `request`: to start it; only until it has. `is_over`: its main
    process is gone and the rest is being ended. `kill_at_s`: loop time, 0 = it is not being stopped."""

    key: Key
    pid: int = 0
    request: bytes = b""
    is_over: bool = False
    kill_at_s: float = 0
    kill_timer: asyncio.TimerHandle | None = None
    retry_timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Stop following it."""
        for timer in (self.kill_timer, self.retry_timer):
            if timer is not None:
                timer.cancel()


class LocalRuntime:
    """`state_dir` holds `runs/`. `log_bytes`, `output_bytes`, `tail_bytes`: limits per replica. `slot_count`: replicas
    at once, 0 = from the number of processors. `pretend` (`16x8:H100`) replaces this machine's inventory by pretend
    nodes; the processes still run here. Made and used in an event loop. Raises PluginError, Refusal (bad `pretend`)."""

    def __init__(
        self, state_dir: Path, *, pretend: str = "", slot_count: int = 0, log_bytes: int = 64 << 20,
        output_bytes: int = 1 << 20, tail_bytes: int = 4 << 10,
    ) -> None:  # fmt: skip
        self._root = os.path.abspath(f"{state_dir}/runs")
        self._records = Records(self._root)
        self._folders = Folders(self._root)
        self._pretend = parse_pretend(pretend) if pretend else ()
        self._here = Here(self._folders, inherited())
        self._slot_count = slot_count
        self._output_bytes = output_bytes
        self._tail_bytes = tail_bytes
        self._boot_id = processes.boot_id()
        self._replicas: dict[str, Replica] = {}  # by the names of their records
        self._ended: dict[AttemptId, set[int]] = {}  # reported and not yet forgotten: ranks
        self._warden = WardenLink(self._root, self._told, self._warden_lost)
        self._recovering: asyncio.Task[None] | None = None
        self._hunter = Hunter()
        self._keeper = Keeper(log_bytes)
        self._reports: list[AnyReport] = []  # bounded by the replicas: each has few before its consumer takes them
        self._reports_woken = asyncio.Event()
        try:
            self._records.open()
            self._folders.open()
        except OSError as error:
            raise PluginError(f"cannot use {self._root}: {error.strerror}", hint="choose another --state") from None

    # -------------------------------------------------------------------------------------------------- starting

    async def launch(self, order: Launch, credentials: Credentials) -> None:
        await self._warden.open()
        try:
            for rank in range(len(order.places)):
                self._launch(order, rank, credentials)
                if rank % TURN_COUNT == TURN_COUNT - 1:
                    await anyio.lowlevel.checkpoint()
        except OSError as error:
            raise _unavailable(error) from None
        self._folders.fill()
        os.sched_yield()  # often the warden waits for our processor: what it starts comes before what we do next
        await self._warden.drained()

    def _launch(self, order: Launch, rank: int, credentials: Credentials) -> None:
        """OSError when it cannot be known whether it ran: then nothing is started, nor told."""
        key = (order.attempt, rank)
        replica = self._replicas.get(name_of(key))
        sight = None if replica else self._records.look(key)
        if replica is not None:
            self._tell_started(replica)
        elif sight is not None and sight.facts.is_spent:
            self._find([key], self._tell_started)
        elif order.report_only:
            self._bar(key)
            self._tell_exit(ReplicaExited(*key, kind="node-lost", message="it left no trace here", at_ms=_now_ms()))
        else:
            self._start(order, rank, credentials)

    def _start(self, order: Launch, rank: int, credentials: Credentials) -> None:
        key = (order.attempt, rank)
        name = name_of(key)
        try:
            request = self._request(order, rank, credentials)
        except Unstartable as fault:
            self._tell(LaunchFailed(*key, "error", str(fault), _now_ms()))
        except OSError as error:
            self._tell(LaunchFailed(*key, *_launch_fault(error.errno or 0), _now_ms()))
        else:
            self._replicas[name] = Replica(key, request=request)
            self._warden.start(request)

    def _request(self, order: Launch, rank: int, credentials: Credentials) -> bytes:
        """Make the files of a replica, and what has the warden start it. Raises Unstartable, OSError."""
        prepared = prepare(self._here, order, rank, credentials(), self._records.path((order.attempt, 0)))
        return start_request(name_of((order.attempt, rank)), prepared, self._boot_id)

    def _tell_started(self, replica: Replica) -> None:
        """Of one that is being started or ended, the rest comes by itself."""
        if not replica.request and not replica.is_over:
            self._tell(ReplicaStarted(*replica.key, _now_ms()))

    # ------------------------------------------------------------------------------------- what the warden tells

    def _told(self, told: Told) -> None:
        replica = self._replicas.get(told.name)
        if replica is None or replica.is_over:
            return  # another daemon's: it hears of it too
        if told.told == "started":
            self._follow(replica, told.pid)
            self._tell_started(replica)
        elif told.told == "ended":
            self._retrying(partial(self._end, told), replica)
        elif told.told == "known":
            self._retrying(self._start_again, replica)
        else:
            self._drop(replica)
            self._tell(LaunchFailed(*replica.key, *_launch_fault(told.errno), _now_ms()))

    def _follow(self, replica: Replica, pid: int) -> None:
        replica.pid, replica.request = pid, b""
        self._replicas[name_of(replica.key)] = replica
        self._keeper.watch(f"{replica_path(self._root, *replica.key)}.log")

    def _start_again(self, replica: Replica) -> None:
        """The warden did not start it: it ran before, or somebody just looked at its record."""
        sight = self._records.look(replica.key)
        if sight is not None and sight.facts.is_spent:
            self._drop(replica)
            self._find([replica.key], self._tell_started)
        elif replica.request:
            self._warden.start(replica.request)

    def _find(self, keys: Iterable[Key], living: Callable[[Replica], None]) -> asyncio.Future[None]:
        """Ask the warden about replicas that somebody started some time. `living` is called for those that live; the
        others are ended, and reported. The future is done after that."""
        names = {name_of(key): key for key in keys}
        found: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answered(pids: dict[str, int]) -> None:
            for name, key in names.items():
                replica = self._replicas.get(name) or Replica(key)
                if name in pids:
                    self._follow(replica, pids[name])
                    living(replica)
                elif not replica.is_over:
                    self._retrying(self._gone_before, replica)
            if not found.done():
                found.set_result(None)

        self._warden.ask(list(names), answered)
        return found

    def _warden_lost(self) -> None:
        self._recovering = asyncio.get_running_loop().create_task(self._recover())

    async def _recover(self) -> None:
        """The warden is gone. Another is asked what lives: nothing, unless only the link was lost. What was being
        started is started again, by its record at most once."""
        while True:
            try:
                await self._warden.open()
                break
            except Unavailable:
                await asyncio.sleep(RETRY_S)
        replicas = list(self._replicas.values())
        for replica in replicas:
            if replica.request:
                self._retrying(self._start_again, replica)
        self._find([replica.key for replica in replicas if not replica.request], lambda replica: None)

    # ---------------------------------------------------------------------------------------------------- ending

    def _retrying(self, step: Callable[[Replica], None], replica: Replica) -> None:
        """Take a step with a replica; when the machine does not let us (no descriptor left), again later: nothing of
        what happened to it must get lost."""
        self._replicas.setdefault(name_of(replica.key), replica)
        try:
            step(replica)
        except OSError:
            loop = asyncio.get_running_loop()
            replica.retry_timer = loop.call_later(RETRY_S, self._retrying, step, replica)

    def _end(self, told: Told, replica: Replica) -> None:
        """The main process is gone, and its group; in the common case there was nothing else."""
        if replica.kill_at_s:
            self._end_rest(replica)
        elif told.is_free:
            self._gone(replica, Facts(exit_code=told.exit, signal=told.signal))
        else:
            self._gone_before(replica)

    def _gone_before(self, replica: Replica) -> None:
        """It ended while we did not look. If the warden saw it, that was an ordinary end."""
        sight = self._records.look(replica.key)
        if sight is not None and not sight.is_held and (sight.facts.has_ended or sight.facts.is_barred):
            self._gone(replica, sight.facts)
        else:
            self._end_rest(replica)

    def _end_rest(self, replica: Replica) -> None:
        """Until nothing of it is to be seen."""
        replica.is_over = True
        mark = stop_path(self._root, *replica.key)
        self._hunter.hunt(mark, lambda: self._retrying(self._rest_ended, replica))

    def _rest_ended(self, replica: Replica) -> None:
        sight = self._records.look(replica.key)
        self._gone(replica, sight.facts if sight else Facts())

    def _gone(self, replica: Replica, facts: Facts) -> None:
        exited = self._exit_report(replica.key, facts)
        self._drop(replica)
        self._keeper.unwatch(f"{replica_path(self._root, *replica.key)}.log")
        self._tell_exit(exited)

    def _drop(self, replica: Replica) -> None:
        replica.close()
        del self._replicas[name_of(replica.key)]

    def _exit_report(self, key: Key, facts: Facts) -> ReplicaExited:
        own = replica_path(self._root, *key)
        found = remains.exit_of(facts, self._boot_id)
        return remains.exit_report(
            key, found, f"{own}.output", f"{own}.log", self._output_bytes, self._tail_bytes, _now_ms()
        )

    def _tell_exit(self, exited: ReplicaExited) -> None:
        self._ended.setdefault(exited.attempt, set()).add(exited.rank)
        self._tell(exited)

    # -------------------------------------------------------------------------------------------------- stopping

    async def stop(self, attempt: AttemptId, ranks: int, grace_ms: int, reason: str) -> None:
        await self._warden.open()
        try:
            for rank in range(ranks):
                self._stop_any((attempt, rank), grace_ms, reason)
        except OSError as error:
            raise _unavailable(error) from None
        await self._warden.drained()

    def _stop_any(self, key: Key, grace_ms: int, reason: str) -> None:
        replica = self._replicas.get(name_of(key))
        sight = None if replica else self._records.look(key)
        if replica is not None:
            self._stop(replica, grace_ms, reason)
        elif sight is not None and sight.facts.is_spent:
            self._find([key], lambda replica: self._stop(replica, grace_ms, reason))
        else:  # it never ran: now it never will
            self._bar(key)
            self._tell_exit(self._exit_report(key, Facts(is_barred=True)))

    def _bar(self, key: Key) -> None:
        with contextlib.suppress(OSError):  # a full disk: nothing can be started either
            self._records.bar(key)

    def _stop(self, replica: Replica, grace_ms: int, reason: str) -> None:
        loop = asyncio.get_running_loop()
        kill_at_s = loop.time() + grace_ms / 1000
        if replica.is_over or (replica.kill_at_s and replica.kill_at_s <= kill_at_s):
            return
        is_first = not replica.kill_at_s
        replica.kill_at_s = kill_at_s
        if replica.kill_timer is not None:
            replica.kill_timer.cancel()
        if is_first:
            self._notify(replica, reason)
        if grace_ms <= 0:
            self._kill(replica)
            return
        replica.kill_timer = loop.call_at(kill_at_s, self._kill, replica)
        if is_first:
            self._warden.signal(name_of(replica.key), signal.SIGTERM)

    def _notify(self, replica: Replica, reason: str) -> None:
        """A courtesy: a full disk must not keep a replica alive."""
        path = stop_path(self._root, *replica.key)
        with contextlib.suppress(OSError):
            with open(f"{path}.new", "w", encoding="utf-8") as file:
                file.write(reason)
            os.replace(f"{path}.new", path)

    def _kill(self, replica: Replica) -> None:
        """Its exit then has the rest looked for."""
        self._warden.signal(name_of(replica.key), signal.SIGKILL)

    # ----------------------------------------------------------------------------------------------------- ports

    async def list(self) -> list[Found]:
        await self._warden.open()
        self._folders.fill()  # before anything is launched
        try:
            entries = await anyio.to_thread.run_sync(self._records.all_live)
        except OSError as error:
            raise _unavailable(error) from None
        started = [key for key, sight in entries if sight.facts.is_spent]
        living: list[Found] = []
        found = self._find(started, lambda replica: living.append(Found(*replica.key, str(replica.pid or ""))))
        try:
            async with asyncio.timeout(ANSWER_S):
                await found
        except TimeoutError:
            raise Unavailable("the warden does not answer") from None
        return living

    def _tell(self, report: AnyReport) -> None:
        self._reports.append(report)
        self._reports_woken.set()

    async def watch(self) -> AsyncIterator[Reports]:
        while True:
            await self._reports_woken.wait()
            self._reports_woken.clear()
            reports, self._reports = self._reports, []
            if reports:
                yield reports

    async def inventory(self) -> tuple[Node, ...]:
        if self._pretend:
            return self._pretend
        node, self._here.devices = await anyio.to_thread.run_sync(this_machine, Path(self._root), self._slot_count)
        return (node,)

    async def forget(self, attempts: Sequence[AttemptId]) -> None:
        """Ranks of them that live go on being followed: their exits are reported."""
        for number, attempt in enumerate(attempts):
            for rank in self._ended.pop(attempt, ()):
                with contextlib.suppress(OSError):  # a full disk, or removed with its workflow: listed once more
                    self._records.settle((attempt, rank))
            if number % TURN_COUNT == TURN_COUNT - 1:
                await anyio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Stop following. Tasks go on, also those in their grace: the next reign stops them again."""
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.gather(self._recovering, return_exceptions=True)
        for replica in self._replicas.values():
            replica.close()
        self._replicas.clear()
        await self._warden.close()
        await self._hunter.close()
        await self._keeper.close()
        await self._folders.close()


USERS_ERRNOS = {
    errno.E2BIG: "its arguments and environment together are larger than this system takes",
    errno.ENOEXEC: "its command is no program of this machine (a script needs a first line such as #!/bin/sh)",
    errno.ENOENT: "its command or working directory vanished, or the interpreter its first line names does not exist",
    errno.EACCES: "its command or working directory may not be used by this user",
}
HINTS = {
    errno.EMFILE: ": too many open files (`ulimit -n`)",
    errno.ENFILE: ": this machine has too many open files",
    errno.EAGAIN: ": too many processes (`ulimit -u`)",
    errno.ENOSPC: ": the disk of the state directory is full",
}


def _launch_fault(number: int) -> tuple[Literal["error", "launch"], str]:
    """(kind, message) of a replica that could not be started."""
    if number in USERS_ERRNOS:
        return "error", USERS_ERRNOS[number]
    return "launch", f"this machine could not start it: {os.strerror(number)}{HINTS.get(number, '')}"


def _unavailable(error: OSError) -> Unavailable:
    return Unavailable(f"the records of replicas cannot be read: {error.strerror}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
