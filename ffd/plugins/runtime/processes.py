"""The one small door to what differs between systems: spawning, hearing of an exit, killing a session, punching holes.

Linux has pidfds and hole punching; elsewhere a thread waits for each child and logs keep their full size. Called by
`local` only. Never here: what is run, or where its files are.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

IS_LINUX = sys.platform == "linux"
LOCK_FD = 9  # the number under which a replica inherits the lock that proves it lives
_HOLE = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


def spawn(argv: Sequence[str], env: Mapping[str, str], log: Path, lock_fd: int) -> int:
    """Start a process in a session of its own: no input, both outputs appended to `log`, `lock_fd` inherited as
    LOCK_FD, nothing else. Returns its pid; OSError when it cannot be started."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        (os.POSIX_SPAWN_DUP2, lock_fd, LOCK_FD),
    ]
    return os.posix_spawn(argv[0], list(argv), dict(env), file_actions=actions, setsid=True)


def watch_exit(pid: int, ended: Callable[[], None]) -> Callable[[], None]:
    """Call `ended()` from the running loop once the process is gone (a child: not yet reaped). Returns a function that
    stops watching. ProcessLookupError when there is no such process."""
    loop = asyncio.get_running_loop()
    if not hasattr(os, "pidfd_open"):
        return _watch_by_thread(loop, pid, ended)
    fd = os.pidfd_open(pid)
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


def _watch_by_thread(loop: asyncio.AbstractEventLoop, pid: int, ended: Callable[[], None]) -> Callable[[], None]:
    """For systems without pidfds: a thread that waits (a child), or looks twice a second (an adopted process)."""
    stopped = threading.Event()

    def wait() -> None:
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            while is_alive(pid) and not stopped.wait(0.5):
                pass
        if not stopped.is_set():
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know
                loop.call_soon_threadsafe(ended)

    threading.Thread(target=wait, name=f"wait-{pid}", daemon=True).start()
    return stopped.set


def reap(pid: int) -> int | None:
    """The wait status of a child that ended; None when it is not our child (an adopted process)."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return status if found else None


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def command_line(pid: int) -> str:
    """The arguments of a process, joined by blanks; "" when it is gone or unreadable."""
    if not IS_LINUX:
        return _ps("command=", pid)
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _ps(field: str, pid: int) -> str:
    import subprocess

    found = subprocess.run(["/bin/ps", "-o", field, "-p", str(pid)], capture_output=True, check=False, timeout=10)
    return found.stdout.decode(errors="replace")


def signal_group(leader: int, number: signal.Signals) -> None:
    """Signal the process group that `leader` leads. No-op when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def kill_session(leader: int) -> None:
    """KILL everything in the session of `leader`: its group, and on Linux also what moved to other groups of it."""
    signal_group(leader, signal.SIGKILL)
    for pid in session_members(leader):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def session_members(leader: int) -> list[int]:
    """Processes of the session `leader` made, ascending."""
    if not IS_LINUX:
        return []
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                fields = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] not in "ZX":
                found.append(int(name))
    return sorted(found)


def try_lock(fd: int) -> bool:
    """Take the lock on an open file for whoever inherits it; False when a living replica holds it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def boot_id() -> str:
    """Changes when the machine restarts; "" where that cannot be known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def punch_hole(path: Path, start: int, end: int) -> bool:
    """Give the disk space of [start, end) back; offsets stay. False where the file system or system cannot."""
    if not IS_LINUX or end <= start:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        call = libc.fallocate
        call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        return bool(call(fd, _HOLE, start, end - start) == 0)
    finally:
        os.close(fd)
