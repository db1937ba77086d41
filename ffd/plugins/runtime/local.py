"""The local runtime: replicas are processes of this machine, each in a session of its own, writing straight to files.

The daemon is in no data path and may die at any time. What proves that a replica lives is a lock that its processes
inherit (`records`); a shell shim notes pid and exit code (`shim`), so that the next daemon adopts what lives and learns
how the rest ended. The life of a replica here:

    launch -> claimed -> spawned, watched -> main process gone -> what it left behind ended too -> reported -> forgotten

A replica is reported gone when nothing of it is to be seen any more: at an ordinary exit its process group is killed
and its lock is free; after a stop, or when it was not our child, all processes of the machine were looked through. A
process that left the group, closed the descriptor it inherited *and* lives on after an ordinary exit is not noticed.

Everything here runs in the event loop and takes some hundred microseconds; what may take longer is in threads of
`hunter` and `keeper`. Never here: what to run or when (core), system differences (`processes`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
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
from ffd.plugins.runtime.hunter import Hunter
from ffd.plugins.runtime.keeper import Keeper
from ffd.plugins.runtime.machine import this_machine
from ffd.plugins.runtime.prepare import Unstartable, prepare, replica_path, stop_path
from ffd.plugins.runtime.records import Facts, Key, Records, Sight
from ffd.plugins.runtime.shim import spawn

PID_LOOK_S = 0.005  # between looks at a record whose shim is just starting; only right after a daemon was killed
RETRY_S = 0.25  # between tries to look at what a replica left, when the machine does not let us
TURN_COUNT = 64  # entries handled before others get their turn


class Replica(msgspec.Struct, eq=False):
    """One that lives, or is being ended. `is_child`: ours to reap, so its pid is no other's until we do. `is_over`: its
    main process is gone and the rest is being ended. `kill_at_s`: loop time, 0 = it is not being stopped."""

    key: Key
    facts: Facts = Facts()
    pid: int = 0
    is_child: bool = False
    is_over: bool = False
    kill_at_s: float = 0
    kill_timer: asyncio.TimerHandle | None = None
    retry_timer: asyncio.TimerHandle | None = None
    unwatch: processes.Unwatch | None = None

    def close(self) -> None:
        """Stop following it."""
        for timer in (self.kill_timer, self.retry_timer):
            if timer is not None:
                timer.cancel()
        if self.unwatch is not None:
            self.unwatch()


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
        self._pretend = parse_pretend(pretend) if pretend else ()
        self._slot_count = slot_count
        self._output_bytes = output_bytes
        self._tail_bytes = tail_bytes
        self._boot_id = processes.boot_id()
        processes.keep_descriptors()
        self._open_files = processes.raise_open_files()
        self._replicas: dict[Key, Replica] = {}
        self._ended: dict[AttemptId, set[int]] = {}  # reported and not yet forgotten: ranks
        self._hunter = Hunter()
        self._keeper = Keeper(log_bytes)
        self._reports: list[AnyReport] = []  # bounded by the replicas: each has few before its consumer takes them
        self._reports_woken = asyncio.Event()
        try:
            self._records.open()
        except OSError as error:
            raise PluginError(f"cannot use {self._root}: {error.strerror}", hint="choose another --state") from None

    # -------------------------------------------------------------------------------------------------- starting

    async def launch(self, order: Launch, credentials: Credentials) -> None:
        for rank in range(len(order.places)):
            self._launch(order, rank, credentials)
            if rank % TURN_COUNT == TURN_COUNT - 1:
                await anyio.lowlevel.checkpoint()

    def _launch(self, order: Launch, rank: int, credentials: Credentials) -> None:
        key = (order.attempt, rank)
        try:
            if self._tell_known(key):
                return
        except OSError as error:
            raise _unavailable(error) from None
        if order.report_only:
            self._bar(key)
            self._tell_exit(ReplicaExited(*key, kind="node-lost", message="it left no trace here", at_ms=_now_ms()))
            return
        try:
            self._start(order, rank, credentials)
        except Unstartable as fault:
            self._tell(LaunchFailed(*key, "error", str(fault), _now_ms()))
        except OSError as error:
            self._tell(LaunchFailed(*key, *_launch_fault(error), _now_ms()))

    def _tell_known(self, key: Key) -> bool:
        """Say again what is known of a replica; False when it may be started."""
        replica = self._replicas.get(key)
        if replica is None:
            sight = self._records.look(key)
            if sight is None or not (sight.is_held or sight.facts.is_spent):
                return False
            if not sight.is_held:
                self._tell_exit(self._exit_report(key, sight.facts, None))
                return True
            replica = self._adopt(key, sight.facts)
        if not replica.is_over:
            self._tell(ReplicaStarted(*key, _now_ms()))
        return True

    def _start(self, order: Launch, rank: int, credentials: Credentials) -> None:
        """The record first: whatever happens from here on, the next daemon knows where to look."""
        key = (order.attempt, rank)
        record = self._records.claim(key, self._boot_id)
        if record < 0:  # somebody else was faster by a blink
            self._tell_known(key)
            return
        try:
            leader_record = self._records.path((order.attempt, 0))
            prepared = prepare(self._root, order, rank, credentials(), leader_record)
            label = f"{order.attempt.label()}:{rank}"
            pid = spawn(label, prepared.command, prepared.cwd, prepared.env, prepared.log, record, self._open_files)
        except (Unstartable, OSError):
            self._records.drop(key)
            raise
        finally:
            os.close(record)
        self._follow(Replica(key, pid=pid, is_child=True))
        self._tell(ReplicaStarted(*key, _now_ms()))

    def _follow(self, replica: Replica) -> None:
        self._replicas[replica.key] = replica
        self._keeper.watch(f"{replica_path(self._root, *replica.key)}.log")
        with contextlib.suppress(ProcessLookupError):
            replica.unwatch = processes.watch_exit(replica.pid, lambda: self._main_ended(replica))

    # ------------------------------------------------------------------------------------------------- adopting

    def _adopt(self, key: Key, facts: Facts) -> Replica:
        """Follow a replica that some daemon started, maybe this very process in an earlier reign."""
        replica = Replica(key, facts)
        self._replicas[key] = replica
        if facts.pid:
            self._adopt_main(replica)
        else:
            self._await_pid(replica)
        return replica

    def _adopt_main(self, replica: Replica) -> None:
        """Its pid proves nothing, its mark does: asked for after the watch began, so both speak of one process."""
        replica.pid = replica.facts.pid
        self._follow(replica)
        if replica.unwatch is not None and processes.has_mark(replica.pid, stop_path(self._root, *replica.key)):
            replica.is_child = processes.is_child(replica.pid)
        else:  # its shim is gone, others of it hold the lock: nobody will know how its command ends
            replica.is_child = processes.exit_status(replica.pid) is not None
            self._main_ended(replica)

    def _await_pid(self, replica: Replica) -> None:
        """Its shim was spawned and is about to note its pid, or not to."""
        try:
            sight = self._records.look(replica.key)
        except OSError:  # looked for again
            sight = Sight(replica.facts, is_held=True)
        if sight is None or not sight.is_held:
            self._main_ended(replica)
        elif sight.facts.pid:
            replica.facts = sight.facts
            self._adopt_main(replica)
        else:
            loop = asyncio.get_running_loop()
            replica.retry_timer = loop.call_later(PID_LOOK_S, self._await_pid, replica)

    async def list(self) -> list[Found]:
        try:
            found = await anyio.to_thread.run_sync(self._records.all_live)
        except OSError as error:
            raise _unavailable(error) from None
        living: list[Found] = []
        for number, (key, sight) in enumerate(found):
            replica = self._replicas.get(key)
            if replica is None and sight.is_held:
                replica = self._adopt(key, sight.facts)
            if replica is not None and not replica.is_over:
                living.append(Found(*key, str(replica.pid or "")))
            elif replica is None and sight.facts.is_spent:  # it ended while nobody looked
                pid = sight.facts.pid
                self._end_rest(Replica(key, sight.facts, pid, is_child=processes.exit_status(pid) is not None))
            if number % TURN_COUNT == TURN_COUNT - 1:
                await anyio.lowlevel.checkpoint()
        return living

    # ---------------------------------------------------------------------------------------------------- ending

    def _main_ended(self, replica: Replica) -> None:
        """The main process is gone; what it left behind goes too. In the common case that is nothing."""
        if not replica.is_over:
            self._retrying(self._end, replica)

    def _retrying(self, step: Callable[[Replica], None], replica: Replica) -> None:
        """Take a step of an ending; when the machine does not let us (no descriptor left), again later: the exit of
        what is gone must not get lost."""
        try:
            step(replica)
        except OSError:
            loop = asyncio.get_running_loop()
            replica.retry_timer = loop.call_later(RETRY_S, self._retrying, step, replica)

    def _end(self, replica: Replica) -> None:
        if replica.is_child and processes.is_child(replica.pid):
            processes.signal_group(replica.pid, signal.SIGKILL)
            sight = self._records.look(replica.key)
            if sight is not None and not sight.is_held and not replica.kill_at_s:
                self._gone(replica, sight.facts)
                return
        self._end_rest(replica)

    def _end_rest(self, replica: Replica) -> None:
        """Until nothing of it is to be seen. The unreaped main process pins the number of its session meanwhile."""
        replica.is_over = True
        self._replicas[replica.key] = replica
        replica.is_child = replica.is_child and processes.is_child(replica.pid)
        session = replica.pid if replica.is_child else 0
        mark = stop_path(self._root, *replica.key)
        self._hunter.hunt(mark, session, lambda: self._retrying(self._rest_ended, replica))

    def _rest_ended(self, replica: Replica) -> None:
        sight = self._records.look(replica.key)
        self._gone(replica, sight.facts if sight else replica.facts)

    def _gone(self, replica: Replica, facts: Facts) -> None:
        status = processes.exit_status(replica.pid) if replica.is_child else None
        exited = self._exit_report(replica.key, facts, status)
        if replica.is_child:
            processes.reap(replica.pid)
        replica.close()
        del self._replicas[replica.key]
        self._keeper.unwatch(f"{replica_path(self._root, *replica.key)}.log")
        self._tell_exit(exited)

    def _exit_report(self, key: Key, facts: Facts, status: int | None) -> ReplicaExited:
        own = replica_path(self._root, *key)
        found = remains.exit_of(facts, status, self._boot_id)
        return remains.exit_report(
            key, found, f"{own}.output", f"{own}.log", self._output_bytes, self._tail_bytes, _now_ms()
        )

    def _tell_exit(self, exited: ReplicaExited) -> None:
        self._ended.setdefault(exited.attempt, set()).add(exited.rank)
        self._tell(exited)

    # -------------------------------------------------------------------------------------------------- stopping

    async def stop(self, attempt: AttemptId, ranks: int, grace_ms: int, reason: str) -> None:
        for rank in range(ranks):
            key = (attempt, rank)
            try:
                replica = self._replicas.get(key) or self._find_living(key)
                if replica is None:
                    self._report_no_more(key)
            except OSError as error:
                raise _unavailable(error) from None
            if replica is not None and not replica.is_over:
                self._stop(replica, grace_ms, reason)

    def _find_living(self, key: Key) -> Replica | None:
        sight = self._records.look(key)
        return self._adopt(key, sight.facts) if sight is not None and sight.is_held else None

    def _report_no_more(self, key: Key) -> None:
        """It ended before, or it never ran: then it never will."""
        self._bar(key)
        sight = self._records.look(key)
        self._tell_exit(self._exit_report(key, sight.facts if sight else Facts(is_barred=True), None))

    def _bar(self, key: Key) -> None:
        with contextlib.suppress(OSError):  # a full disk: nothing can be started either
            self._records.bar(key, self._boot_id)

    def _stop(self, replica: Replica, grace_ms: int, reason: str) -> None:
        loop = asyncio.get_running_loop()
        kill_at_s = loop.time() + grace_ms / 1000
        if replica.kill_at_s and replica.kill_at_s <= kill_at_s:
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
        if is_first and replica.is_child:
            processes.signal_group(replica.pid, signal.SIGTERM)
        elif is_first:
            self._hunter.ask(stop_path(self._root, *replica.key))

    def _notify(self, replica: Replica, reason: str) -> None:
        """A courtesy: a full disk must not keep a replica alive."""
        path = stop_path(self._root, *replica.key)
        with contextlib.suppress(OSError):
            with open(f"{path}.new", "w", encoding="utf-8") as file:
                file.write(reason)
            os.replace(f"{path}.new", path)

    def _kill(self, replica: Replica) -> None:
        if replica.is_child and not replica.is_over:
            processes.signal_group(replica.pid, signal.SIGKILL)  # its exit then has the rest looked for
        elif not replica.is_over:
            self._end_rest(replica)

    # ----------------------------------------------------------------------------------------------------- ports

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
        return (await anyio.to_thread.run_sync(this_machine, Path(self._root), self._slot_count),)

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
        for replica in self._replicas.values():
            replica.close()
        self._replicas.clear()
        await self._hunter.close()
        await self._keeper.close()


def _launch_fault(error: OSError) -> tuple[Literal["error", "launch"], str]:
    """(kind, message) of a replica that could not be started."""
    if error.errno == errno.E2BIG:
        return "error", "its arguments and environment together are larger than this system takes"
    hint = {
        errno.EMFILE: ": the daemon has too many open files (raise its limit, `ulimit -n`)",
        errno.ENFILE: ": this machine has too many open files",
        errno.EAGAIN: ": too many processes (`ulimit -u`)",
        errno.ENOSPC: ": the disk of the state directory is full",
    }.get(error.errno or 0, "")
    return "launch", f"this machine could not start it: {error.strerror}{hint}"


def _unavailable(error: OSError) -> Unavailable:
    return Unavailable(f"the records of replicas cannot be read: {error.strerror}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
