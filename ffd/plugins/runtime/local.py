"""The local runtime: replicas are processes of this machine, each in a session of its own, writing straight to files.

The daemon is in no data path and may die at any time. What proves that a replica lives is a lock on its entry under
`<root>/live/`, inherited by its processes: it is free exactly when they are all gone, whatever happened to us, and pids
may be reused as they like. A tiny shell shim writes the exit code, so a later daemon learns what it missed.

Never here: what to run or when (core), where files of a replica stand (`prepare`), system differences (`processes`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import anyio.to_thread
import msgspec

from ffd.core.effects import Launch
from ffd.core.model import AttemptId, Node
from ffd.core.reports import AnyReport, LaunchFailed, ReplicaExited, ReplicaStarted
from ffd.errors import PluginError
from ffd.plugins.ports import Credentials, Found, Reports
from ffd.plugins.pretend import parse_pretend
from ffd.plugins.runtime import processes
from ffd.plugins.runtime.keeper import Keeper
from ffd.plugins.runtime.machine import this_machine
from ffd.plugins.runtime.prepare import Unstartable, prepare, read_outputs

RAN_BEFORE = 125  # exit code of a shim that found another had been there first
LINGER_S = 0.02  # between looks at a lock that killed processes still hold

Key = tuple[AttemptId, int]


class Living(msgspec.Struct):
    """A replica that lives, as this daemon follows it. `pid` leads its session. `unwatch` stops following."""

    pid: int
    unwatch: Callable[[], None]
    kill_timer: asyncio.TimerHandle | None = None
    was_killed: bool = False


class LocalRuntime:
    """`state_dir` holds `runs/`. `log_bytes`, `output_bytes`, `tail_bytes`: limits per replica. `pretend` replaces this
    machine's inventory by pretend nodes; the processes still run here."""

    def __init__(
        self, state_dir: Path, *, pretend: str = "", slot_count: int = 0, log_bytes: int = 256 << 20,
        output_bytes: int = 1 << 20, tail_bytes: int = 4 << 10,
    ) -> None:  # fmt: skip
        self.root = Path(state_dir) / "runs"
        self._live_dir = self.root / "live"
        self._pretend = parse_pretend(pretend) if pretend else ()
        self._slot_count = slot_count
        self._output_bytes = output_bytes
        self._tail_bytes = tail_bytes
        self._boot_id = processes.boot_id()
        self._living: dict[Key, Living] = {}
        self._keeper = Keeper(log_bytes)
        self._reports: list[AnyReport] = []
        self._some = asyncio.Event()
        try:
            self._live_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise PluginError(f"cannot use {self.root}: {error.strerror}") from None

    # -------------------------------------------------------------------------------------------------- starting

    async def launch(self, order: Launch, credentials: Credentials) -> None:
        for rank in range(len(order.places)):
            self._launch_one(order, rank, credentials)

    def _launch_one(self, order: Launch, rank: int, credentials: Credentials) -> None:
        key = (order.attempt, rank)
        folder = self._folder(key)
        if key in self._living:
            self._tell(ReplicaStarted(order.attempt, rank))
        elif (folder / "pid").exists():
            self._find(key)
        elif order.report_only:
            self._tell(ReplicaExited(order.attempt, rank, kind="node-lost", message="it left no trace on this machine"))
        else:
            try:
                self._start(order, rank, credentials)
            except Unstartable as fault:
                self._entry(key).unlink(missing_ok=True)
                self._tell(LaunchFailed(order.attempt, rank, "error", str(fault)))
            except OSError as error:
                self._entry(key).unlink(missing_ok=True)
                self._tell(LaunchFailed(order.attempt, rank, "launch", f"cannot start it: {error.strerror}"))

    def _start(self, order: Launch, rank: int, credentials: Credentials) -> None:
        """The entry first: whatever happens from here on, the next daemon looks at this replica."""
        key = (order.attempt, rank)
        lock = os.open(self._entry(key), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not processes.try_lock(lock):  # spawned by a daemon that died before it said so
                self._retry_find(key)
                return
            os.write(lock, self._boot_id.encode())
            prepared = prepare(self.root, order, rank, credentials())
            pid = processes.spawn(prepared.argv, prepared.env, prepared.folder / "log", lock)
        finally:
            os.close(lock)
        self._follow(key, pid)
        self._tell(ReplicaStarted(order.attempt, rank))

    def _follow(self, key: Key, pid: int) -> None:
        try:
            unwatch = processes.watch_exit(pid, lambda: self._shim_ended(key))
        except ProcessLookupError:
            self._living[key] = Living(pid, lambda: None)
            self._shim_ended(key)
            return
        self._living[key] = Living(pid, unwatch)
        self._keeper.watch(self._folder(key))

    # ---------------------------------------------------------------------------------------------------- ending

    def _shim_ended(self, key: Key) -> None:
        """The shim is gone. What its command left behind in the session goes too; then the replica is gone."""
        living = self._living[key]
        status = processes.reap(living.pid)
        if status is not None and os.waitstatus_to_exitcode(status) == RAN_BEFORE and self._pid(key) != living.pid:
            del self._living[key]  # not ours: another shim runs, or ran, this replica
            self._find(key)
            return
        if self._is_locked(key):
            processes.kill_session(living.pid)
            asyncio.get_running_loop().call_later(LINGER_S, self._shim_ended_again, key)
            return
        self._gone(key)

    def _shim_ended_again(self, key: Key) -> None:
        if key in self._living:
            if self._is_locked(key):
                processes.kill_session(self._living[key].pid)
                asyncio.get_running_loop().call_later(LINGER_S, self._shim_ended_again, key)
            else:
                self._gone(key)

    def _gone(self, key: Key) -> None:
        living = self._living.pop(key)
        living.unwatch()
        if living.kill_timer is not None:
            living.kill_timer.cancel()
        self._keeper.unwatch(self._folder(key))
        self._tell(self._exit_report(key))

    def _exit_report(self, key: Key) -> ReplicaExited:
        """How a replica that is gone ended. 128+n is told as signal n: shells say it so, and nobody can know better."""
        attempt, rank = key
        folder = self._folder(key)
        try:
            code = int((folder / "exit").read_text())
        except (OSError, ValueError):
            return self._lost(key)
        outputs, fault = read_outputs(folder / "output", self._output_bytes)
        number = code - 128 if 128 < code <= 128 + signal.NSIG else 0
        return ReplicaExited(
            attempt, rank, -1 if number else code, number, outputs=outputs, output_fault=fault,
            tail=self._tail(folder) if code else "",
        )  # fmt: skip

    def _lost(self, key: Key) -> ReplicaExited:
        """No exit code: the shim was killed, or the machine went down with it."""
        attempt, rank = key
        tail = self._tail(self._folder(key))
        try:
            boot_id = self._entry(key).read_text()
        except OSError:
            boot_id = self._boot_id
        if boot_id and boot_id != self._boot_id:
            return ReplicaExited(attempt, rank, kind="node-lost", message="the machine restarted", tail=tail)
        return ReplicaExited(attempt, rank, signal=signal.SIGKILL, tail=tail)

    def _tail(self, folder: Path) -> str:
        """The last lines of the log, bounded."""
        try:
            with (folder / "log").open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - self._tail_bytes))
                return file.read(self._tail_bytes).decode(errors="replace")
        except OSError:
            return ""

    # -------------------------------------------------------------------------------------------------- stopping

    async def stop(self, attempt: AttemptId, ranks: int, grace_ms: int, reason: str) -> None:
        for rank in range(ranks):
            key = (attempt, rank)
            if key not in self._living:
                self._find(key)
            if key in self._living:
                self._stop_one(key, grace_ms, reason)

    def _stop_one(self, key: Key, grace_ms: int, reason: str) -> None:
        living = self._living[key]
        with contextlib.suppress(OSError):  # the notice is a courtesy; a full disk must not keep it alive
            (self._folder(key) / "stop").write_text(reason)
        processes.signal_group(living.pid, signal.SIGTERM)
        if living.kill_timer is not None:
            living.kill_timer.cancel()
        loop = asyncio.get_running_loop()
        living.kill_timer = loop.call_later(grace_ms / 1000, processes.kill_session, living.pid)

    # -------------------------------------------------------------------------------------------------- adoption

    async def list(self) -> list[Found]:
        for name in sorted(os.listdir(self._live_dir)):
            key = _key_of(name)
            if key is not None and key not in self._living:
                self._find(key)
        return sorted(Found(attempt, rank, str(living.pid)) for (attempt, rank), living in self._living.items())

    def _find(self, key: Key) -> None:
        """Follow a replica that some daemon started, or report how it ended. One that never was is reported gone."""
        pid = self._pid(key)
        if not self._is_locked(key):
            self._tell(self._exit_report(key) if pid else ReplicaExited(*key, message="it was never started"))
        elif pid and str(self._folder(key)) in processes.command_line(pid):
            self._follow(key, pid)
            self._tell(ReplicaStarted(*key))
        elif pid:  # the shim was killed, its command lives on: end that too
            self._living[key] = Living(pid, lambda: None)
            self._shim_ended_again(key)
        else:
            self._retry_find(key)  # its shim is just starting

    def _retry_find(self, key: Key) -> None:
        asyncio.get_running_loop().call_later(LINGER_S, self._find_again, key)

    def _find_again(self, key: Key) -> None:
        if key not in self._living:
            self._find(key)

    def _is_locked(self, key: Key) -> bool:
        try:
            lock = os.open(self._entry(key), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not processes.try_lock(lock)
        finally:
            os.close(lock)

    def _pid(self, key: Key) -> int:
        try:
            return int((self._folder(key) / "pid").read_text())
        except (OSError, ValueError):
            return 0

    def _folder(self, key: Key) -> Path:
        return self.root / key[0].path() / str(key[1])

    def _entry(self, key: Key) -> Path:
        attempt, rank = key
        return self._live_dir / f"{attempt.workflow}.{attempt.task}.{attempt.item}.{attempt.attempt}.{rank}"

    # ----------------------------------------------------------------------------------------------------- ports

    def _tell(self, report: AnyReport) -> None:
        self._reports.append(report)
        self._some.set()

    async def watch(self) -> AsyncIterator[Reports]:
        while True:
            await self._some.wait()
            self._some.clear()
            reports, self._reports = self._reports, []
            yield reports

    async def inventory(self) -> tuple[Node, ...]:
        if self._pretend:
            return self._pretend
        return (await anyio.to_thread.run_sync(this_machine, self.root, self._slot_count),)

    async def forget(self, attempts: Sequence[AttemptId]) -> None:
        for attempt in attempts:
            folder = self.root / attempt.path()
            ranks = [name for name in _names(folder) if name.isdecimal()]
            for rank in ranks:
                self._entry((attempt, int(rank))).unlink(missing_ok=True)

    async def close(self) -> None:
        """Stop following; tasks go on, also those in their grace (the next daemon stops them again)."""
        for living in self._living.values():
            living.unwatch()
            if living.kill_timer is not None:
                living.kill_timer.cancel()
        self._living.clear()
        self._keeper.close()


def _names(folder: Path) -> Sequence[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return ()


def _key_of(name: str) -> Key | None:
    """The replica an entry names; None for a file that is not ours."""
    parts = name.split(".")
    if len(parts) != 5 or not all(part.isdecimal() for part in (parts[0], *parts[2:])):
        return None
    return AttemptId(int(parts[0]), parts[1], int(parts[2]), int(parts[3])), int(parts[4])
