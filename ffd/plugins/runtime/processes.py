"""The one small door to what differs between systems: hearing of an exit, proving whose a process is, punching holes.

Linux has pidfds, /proc and hole punching. Elsewhere exits are looked for, `ps` tells the environment of processes, and
logs are punched where the system knows how. Nothing here signals a process by a number alone: it is a child that is not
reaped yet (so its number cannot be another's), or it carries the mark of a replica in its environment. Called by
`local` and what is below it. Never here: what is run, what an exit means.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache

MARK = "FFD_STOP_FILE"  # its value is a path of one replica's own: whoever has it in the environment belongs to it
LOOK_S = 0.1  # between looks at a process that cannot be watched
LISTING_TIMEOUT_S = 10.0
MOST_OPEN_FILES = 65_536

_IS_LINUX = sys.platform == "linux"
_MARK_BYTES = f"{MARK}=".encode()
_PUNCH_AND_KEEP_SIZE = 0x02 | 0x01  # Linux: FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
_F_PUNCHHOLE = 99  # macOS: fcntl with struct {flags, reserved, offset, length}

Unwatch = Callable[[], None]

# ------------------------------------------------------------------------------------------------------------- exits


def watch_exit(pid: int, ended: Callable[[], None]) -> Unwatch:
    """Call `ended()` from the running loop once the process has ended (a child is then not reaped yet). Returns a
    function that stops watching. ProcessLookupError when there is no such process."""
    loop = asyncio.get_running_loop()
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):  # another system, a sandbox, or no descriptor left
        return _look_for_exit(loop, pid, ended)
    return _watch_descriptor(loop, fd, ended)


def _watch_descriptor(loop: asyncio.AbstractEventLoop, fd: int, ended: Callable[[], None]) -> Unwatch:
    is_open = True

    def close() -> None:
        nonlocal is_open
        if is_open:
            is_open = False
            loop.remove_reader(fd)
            os.close(fd)

    def ready() -> None:
        close()
        ended()

    loop.add_reader(fd, ready)
    return close


def _look_for_exit(loop: asyncio.AbstractEventLoop, pid: int, ended: Callable[[], None]) -> Unwatch:
    timer: asyncio.Handle

    def look() -> None:
        nonlocal timer
        if exit_status(pid) is not None or not is_alive(pid):
            ended()
        else:
            timer = loop.call_later(LOOK_S, look)

    timer = loop.call_soon(look)
    return lambda: timer.cancel()


def is_alive(pid: int) -> bool:
    """Some process has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_child(pid: int) -> bool:
    """It is a child of this process that was not reaped: until it is, its number is no other's."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def exit_status(pid: int) -> int | None:
    """How a child ended that is not reaped, -n = by signal n; None when it lives, or is not our child."""
    try:
        result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def reap(child: int) -> None:
    """Let go of a child that ended."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, os.WNOHANG)


def signal_group(child: int, number: int) -> None:
    """Signal the process group that a child leads. Only for a child that is not reaped yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, number)


# ---------------------------------------------------------------------------------------------------- whose it is


def has_mark(pid: int, mark: str) -> bool:
    """The process carries this mark. Watch it first and ask then: what was watched is what was asked about."""
    if _IS_LINUX:
        return _mark_of(pid) == mark
    return any(found == pid for found, text in _listing() if f"{MARK}={mark} " in f"{text} ")


def signal_marked(sessions: Mapping[str, int], number: int) -> set[str]:
    """Signal every living process that carries one of these marks, or belongs to the session given with it (0 = none
    is; the session's leader must be an unreaped child). Returns the marks of which something lived. Blocks for some
    milliseconds: for a thread."""
    return _signal_marked(sessions, number) if _IS_LINUX else _signal_listed(sessions, number)


def _signal_marked(sessions: Mapping[str, int], number: int) -> set[str]:
    by_session = {session: mark for mark, session in sessions.items() if session}
    seen: set[str] = set()
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        pid = int(name)
        mark = _mark_of(pid)
        if mark not in sessions:
            mark = by_session.get(_session_of(pid), "")
        if mark and _signal_if_still(pid, mark, sessions[mark], number):
            seen.add(mark)
    return seen


def _signal_if_still(pid: int, mark: str, session: int, number: int) -> bool:
    """Signal through a descriptor: between the last look and the signal the number cannot become another's."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if _mark_of(pid) != mark and not (session and _session_of(pid) == session and not _is_zombie(pid)):
            return False
        signal.pidfd_send_signal(fd, number)
    except OSError:  # gone meanwhile, or not ours to signal (it took on another user's rights)
        return False
    finally:
        os.close(fd)
    return True


def _mark_of(pid: int) -> str:
    """The mark in a process's environment; "" without one, for a zombie, and for what we may not read."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            data = b"\0" + file.readall()
    except OSError:
        return ""
    start = data.find(b"\0" + _MARK_BYTES)
    if start < 0:
        return ""
    start += 1 + len(_MARK_BYTES)
    return os.fsdecode(data[start : data.find(b"\0", start)])


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.readall().rpartition(b") ")[2][:1] in b"ZX"
    except OSError:
        return True


def _signal_listed(sessions: Mapping[str, int], number: int) -> set[str]:
    """For systems without /proc: what `ps` tells of environments."""
    seen: set[str] = set()
    for pid, text in _listing():
        for mark in sessions:
            if f"{MARK}={mark} " in f"{text} " and pid != os.getpid():
                seen.add(mark)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
    return seen


def _listing() -> Iterator[tuple[int, str]]:
    """(pid, command line and environment) of all our processes, as BSD `ps` tells."""
    command = ["/bin/ps", "-axEww", "-o", "pid=,command="]
    told = subprocess.run(command, capture_output=True, check=False, timeout=LISTING_TIMEOUT_S).stdout
    for line in told.decode(errors="replace").splitlines():
        pid, _, text = line.strip().partition(" ")
        if pid.isdecimal():
            yield int(pid), text


# ------------------------------------------------------------------------------------------------------- the rest


def boot_id() -> str:
    """Changes when the machine restarts; "" where that cannot be known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def keep_descriptors() -> None:
    """Let no program that this process starts inherit what it was itself started with, but standard streams."""
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the directory's own descriptor is closed by now
            if int(name) > 2:
                os.set_inheritable(int(name), False)


def raise_open_files() -> str:
    """Let this process have as many open files as it may: it keeps one for each replica. Returns what a task's own
    limit shall be: the one from before, as `ulimit -n` reads it, "" = nothing was changed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return ""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        return ""
    return str(soft)


def punch_hole(path: str, start: int, end: int) -> bool:
    """Give the disk space of bytes [start, end) back; what is beyond keeps its offset. False where the file system or
    the system cannot. OSError when the file cannot be opened."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return _punch(fd, start, end - start)
    finally:
        os.close(fd)


def _punch(fd: int, start: int, size: int) -> bool:
    if not _IS_LINUX:
        try:
            fcntl.fcntl(fd, _F_PUNCHHOLE, struct.pack("IIqq", 0, 0, start, size))
        except OSError:
            return False
        return True
    while _libc().fallocate(fd, _PUNCH_AND_KEEP_SIZE, start, size):
        if ctypes.get_errno() != errno.EINTR:
            return False
    return True


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return libc
