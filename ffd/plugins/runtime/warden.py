"""The warden: a small program that is the parent of all processes of the local runtime, and outlives the daemon.

    python -I -S warden.py ROOT

It starts commands, signals their groups, notes in their records (`records`) that they start, their pid and how they
ended, and tells whoever is connected. A daemon that comes later connects and asks; nothing of a task depends on it. The
daemon's own loop never waits for a process to start, and every task costs one process, no shell between.

There is one per ROOT (it holds `warden.lock`); it goes when it has neither children nor connections. What it can do is
kept small, so that it need not change: a daemon of a later version finds this one, by PROTOCOL. Should it be killed all
the same, what it started goes on, but nobody can learn how it ends: `local` then ends it.

Stands alone: standard library only, no import of ours. Lines of JSON in both directions; see `warden_link`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import select
import signal
import socket
import sys
import time
from typing import Any

PROTOCOL = "1"
LOCK, SOCKET, LOG = f"warden-{PROTOCOL}.lock", f"warden-{PROTOCOL}.sock", f"warden-{PROTOCOL}.log"
RECORD_FD = 9  # under this number a replica inherits its record, and with it the lock that proves it lives
READ_BYTES = 1 << 16
BACKLOG_COUNT = 16
NEW_MS = 10_000  # how long a new warden waits for its first daemon
HOLD_MS = 3  # a start is told with what follows in this time: of the quickest tasks the exit, in one commit with it
BLANKS = f"blank-{PROTOCOL}"  # directory of empty files made in advance
FEW_COUNT, MOST_COUNT = 16, 2048  # of them in stock; a start takes two. With few, none waits until there is rest
REST_MS = 50  # after a start or an end none is made for so long: who waits for them comes first
FEW_REST_MS = 5  # the same with few left; after an end they are made at once
IN_USE = 3  # exit code: another warden has this ROOT

SPENT = (b"start\n", b"barred\n")


class Connection:
    """A daemon. Never waited for: what it does not read yet is kept, a line for each of its replicas."""

    def __init__(self, link: socket.socket) -> None:
        link.setblocking(False)
        self.link = link
        self.asked = b""  # the line that has not come whole
        self.told = bytearray()
        self.due_s = 0.0  # monotonic: until then what is told may wait
        self.is_full = False  # it did not take all

    def tell(self, within_ms: int = 0, **message: Any) -> None:
        """Together with what was told before it, not later than that after the first of it."""
        due_s = time.monotonic() + within_ms / 1000
        self.due_s = min(self.due_s, due_s) if self.told else due_s
        self.told += json.dumps(message).encode() + b"\n"

    def is_due(self) -> bool:
        return bool(self.told) and (self.is_full or self.due_s <= time.monotonic())

    def send(self) -> None:
        """As much as it takes now. OSError when it is gone."""
        with contextlib.suppress(BlockingIOError):
            while self.told:
                del self.told[: self.link.send(self.told)]
        self.is_full = bool(self.told)

    def receive(self) -> list[dict[str, Any]]:
        """Whole requests that came. EOFError or OSError when it is gone."""
        data = self.link.recv(READ_BYTES)
        if not data:
            raise EOFError
        *lines, self.asked = (self.asked + data).split(b"\n")
        return [json.loads(line) for line in lines]


class Warden:
    """In the directory ROOT; `listener` is where daemons connect."""

    def __init__(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self.listener = listener
        self.connections: dict[int, Connection] = {}
        self.pids: dict[str, int] = {}  # living children by the names of their records
        self.names: dict[int, str] = {}
        self.blanks = Blanks()
        self.rest_s = 0.0  # monotonic: blanks may be made from then on
        self.poll = select.poll()
        self.wakeup, write_end = os.pipe()
        for fd in (self.wakeup, write_end):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # asked to go, it goes when its children have
        self.ignored = [number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN]
        self.root = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
        self.poll.register(self.wakeup, select.POLLIN)
        self.poll.register(listener, select.POLLIN)

    def run(self) -> None:
        """Until nobody needs it any more. The first daemon is about to connect: it is waited for, a while."""
        is_new = True
        while is_new or self.connections or self.pids:
            events = self.poll.poll(NEW_MS if is_new else self.patience_ms())
            if is_new and not events:
                return
            if not events and self.blanks.are_lacking() and self.rest_s <= time.monotonic():
                self.blanks.make()
            for fd, _ in events:
                if fd == self.listener.fileno():
                    is_new = False
                    self.accept()
                elif fd == self.wakeup:
                    self.woken()
                elif fd in self.connections:
                    self.serve(self.connections[fd])
            self.send_all()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            link, _ = self.listener.accept()
            self.connections[link.fileno()] = Connection(link)
            self.poll.register(link, select.POLLIN)

    def serve(self, connection: Connection) -> None:
        """What makes no sense ends the connection, not us."""
        try:
            requests = connection.receive()
            for request in requests:
                getattr(self, f"do_{request['do']}")(connection, request)
        except BlockingIOError:
            return
        except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError):
            self.part(connection)

    def patience_ms(self) -> int | None:
        """How long nothing need be done; None: until something happens."""
        due_s = [each.due_s for each in self.connections.values() if each.told and not each.is_full]
        if self.blanks.are_lacking():
            due_s.append(self.rest_s)
        return max(0, math.ceil((min(due_s) - time.monotonic()) * 1000)) if due_s else None

    def rest(self, few_ms: int) -> None:
        """Make no blanks for a while; for `few_ms` when few are left."""
        self.rest_s = time.monotonic() + (few_ms if self.blanks.are_few() else REST_MS) / 1000

    def send_all(self) -> None:
        """What is due."""
        for fd, connection in list(self.connections.items()):
            if not connection.is_due():
                continue
            try:
                connection.send()
            except OSError:
                self.part(connection)
            else:
                self.poll.modify(fd, select.POLLIN | (select.POLLOUT if connection.is_full else 0))

    def part(self, connection: Connection) -> None:
        fd = connection.link.fileno()
        self.poll.unregister(fd)
        del self.connections[fd]
        connection.link.close()

    # -------------------------------------------------------------------------------------------------- requests

    def do_start(self, connection: Connection, request: dict[str, Any]) -> None:
        """Answers `started` with the pid, `failed` with an errno (then nothing lives and there is no record), or
        `known`: it was started before, or shall not be."""
        name = request["name"]
        path = f"live/{name}"
        is_given, record = self.blanks.give(path), -1
        try:
            record = claim(path, request["boot_id"])
            if record < 0:
                connection.tell(name=name, told="known")
                return
            self.blanks.give(request["log"])
            pid = self.spawn(record, request)
        except (OSError, ValueError) as error:
            if record >= 0 or is_given:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            connection.tell(name=name, told="failed", errno=getattr(error, "errno", errno.EINVAL))
        else:
            self.pids[name], self.names[pid] = pid, name
            self.rest(FEW_REST_MS)
            with contextlib.suppress(OSError):  # for people, and they have it from us as well
                os.write(record, b"pid %d\n" % pid)
            connection.tell(HOLD_MS, name=name, told="started", pid=pid)
        finally:
            if record >= 0:
                os.close(record)
            self.blanks.forget_given()

    def spawn(self, record: int, request: dict[str, Any]) -> int:
        """A session of its own, no input, both outputs appended to the log, the record, no other descriptor, and
        signals as a login shell has them (those we catch have their default again by themselves)."""
        actions = [
            (os.POSIX_SPAWN_DUP2, record, RECORD_FD),
            (os.POSIX_SPAWN_OPEN, 1, request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        try:
            os.chdir(request["cwd"])
            return os.posix_spawn(
                request["program"], request["argv"], request["env"], file_actions=actions, setsid=True,
                setsigdef=self.ignored, setsigmask=(),
            )  # fmt: skip
        finally:
            os.fchdir(self.root)

    def do_signal(self, connection: Connection, request: dict[str, Any]) -> None:
        """To the process group of a child. It is not reaped yet, so its number is nobody else's."""
        pid = self.pids.get(request["name"])
        if pid is not None:
            with contextlib.suppress(OSError):
                os.killpg(pid, request["number"])

    def do_ask(self, connection: Connection, request: dict[str, Any]) -> None:
        """Which of these live: pids by name. Each of them tells `ended` from now on."""
        pids = {name: self.pids[name] for name in request["names"] if name in self.pids}
        connection.tell(told="asked", id=request["id"], pids=pids)

    # ------------------------------------------------------------------------------------------------------ exits

    def woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.wakeup, READ_BYTES)
        while self.pids and (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            self.ended(ended)

    def ended(self, ended: os.waitid_result) -> None:
        """End what is left of its group while its number is its own; note how it ended; then tell."""
        with contextlib.suppress(OSError):
            os.killpg(ended.si_pid, signal.SIGKILL)
        self.rest(0)
        name = self.names.pop(ended.si_pid)
        word = "exit" if ended.si_code == os.CLD_EXITED else "signal"
        is_free = note(f"live/{name}", f"{word} {ended.si_status}\n".encode())
        os.waitpid(ended.si_pid, 0)
        del self.pids[name]
        for connection in self.connections.values():
            connection.tell(name=name, told="ended", is_free=is_free, **{word: ended.si_status})


class Demand:
    """How many of something are wanted in stock: as many as were ever asked for without a rest between, within bounds.
    Also used by `folders`."""

    def __init__(self, least_count: int, most_count: int) -> None:
        self.wanted_count = least_count
        self.most_count = most_count
        self.burst_count = 0  # asked for without a rest
        self.asked_s = -math.inf  # monotonic: the last of them

    def ask(self) -> None:
        """For one more."""
        self.burst_count = 1 if self.is_resting() else self.burst_count + 1
        self.asked_s = time.monotonic()
        self.wanted_count = min(max(self.wanted_count, self.burst_count), self.most_count)

    def is_resting(self) -> bool:
        """None was asked for in the last REST_MS."""
        return time.monotonic() - self.asked_s >= REST_MS / 1000


class Blanks:
    """Empty files made in advance, while there is nothing else to do, for records and logs: on some file systems making
    one costs as much as starting a process, giving it another name costs little. What one warden leaves the
    next one uses."""

    def __init__(self) -> None:
        os.makedirs(BLANKS, mode=0o700, exist_ok=True)
        self.stock: list[str] = []
        self.given: list[str] = []  # these have another name by now
        self.demand = Demand(FEW_COUNT, MOST_COUNT)
        self.made_count = 0
        self.is_stuck = False  # the machine does not let us: tried again when one is asked for
        for name in os.listdir(BLANKS):
            found = os.stat(f"{BLANKS}/{name}")
            if name.isdecimal() and found.st_nlink == 1 and not found.st_size:
                self.stock.append(f"{BLANKS}/{name}")
                self.made_count = max(self.made_count, int(name))
            else:
                self.given.append(f"{BLANKS}/{name}")
        self.forget_given()

    def are_lacking(self) -> bool:
        return len(self.stock) < self.demand.wanted_count and not self.is_stuck

    def are_few(self) -> bool:
        return len(self.stock) < FEW_COUNT

    def make(self) -> None:
        """One more."""
        self.made_count += 1
        path = f"{BLANKS}/{self.made_count}"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError:
            self.is_stuck = True
        else:
            self.stock.append(path)

    def give(self, path: str) -> bool:
        """See to it that there is a file. False, and nothing happens, where there is one, no such directory, or a file
        system that knows no links: who opens it makes it."""
        self.is_stuck = False
        self.demand.ask()
        if not self.stock:
            return False
        try:
            os.link(self.stock[-1], path)
        except OSError:
            return False
        self.given.append(self.stock.pop())
        return True

    def forget_given(self) -> None:
        """Take their first name from those that were given away."""
        while self.given:
            with contextlib.suppress(OSError):  # then the next warden does
                os.unlink(self.given.pop())


def claim(path: str, boot_id: str) -> int:
    """The locked record of a replica that may be started now; -1 when it was, shall not be, or somebody holds it. From
    here on it counts as started, also when we are killed before it is."""
    record = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
        said = os.read(record, READ_BYTES)
        if any(word in said for word in SPENT):
            raise BlockingIOError
        os.write(record, b"boot %s\nstart\n" % boot_id.encode())
    except BlockingIOError:
        os.close(record)
        return -1
    except OSError:
        os.close(record)
        os.unlink(path)
        raise
    return record


def note(path: str, line: bytes) -> bool:
    """Add to a record; True when nobody holds it any more. One that is gone was removed with its workflow; a disk that
    takes no byte more leaves the exit unknown. Then the answer is False: it is to be looked at more closely."""
    try:
        record = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(record, line)
        fcntl.flock(record, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(record)
    return True


def main(root: str) -> int:
    """Returns to the daemon when it can connect; goes on as a process of its own."""
    os.chdir(root)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return IN_USE
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET)
    listener.bind(SOCKET)
    listener.listen(BACKLOG_COUNT)
    if os.fork():
        return 0
    os.setsid()
    os.ftruncate(lock, 0)
    os.write(lock, b"%d\n" % os.getpid())
    Warden(listener).run()
    return 0


if __name__ == "__main__":
    os._exit(main(sys.argv[1]))
