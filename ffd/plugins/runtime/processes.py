"""The one small door to what differs between systems: whose a process is, punching holes, when the machine started.

Linux has /proc, pidfds and hole punching. Elsewhere `ps` tells the environment of processes, and logs are punched where
the system knows how. Nothing here signals a process by its number alone: it carries the mark of a replica in its
environment. Called by `hunter`, `keeper` and `local`. Never here: what is run, what an exit means.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Set
from functools import cache

MARK = "FFD_STOP_FILE"  # its value is a path of one replica's own: whoever has it in the environment belongs to it
LISTING_TIMEOUT_S = 10.0

_IS_LINUX = sys.platform == "linux"
_MARK_BYTES = f"{MARK}=".encode()
_PUNCH_AND_KEEP_SIZE = 0x02 | 0x01  # Linux: FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
_F_PUNCHHOLE = 99  # macOS: fcntl with struct {flags, reserved, offset, length}


def signal_marked(marks: Set[str], number: int) -> set[str]:
    """Signal every living process that carries one of these marks. Returns the marks of which something lived. Blocks
    for some milliseconds: for a thread. OSError when processes cannot be listed."""
    return _signal_marked(marks, number) if _IS_LINUX else _signal_listed(marks, number)


def _signal_marked(marks: Set[str], number: int) -> set[str]:
    seen: set[str] = set()
    for name in os.listdir("/proc"):
        if name.isdecimal():
            mark = _mark_of(int(name))
            if mark in marks and _signal_if_still(int(name), mark, number):
                seen.add(mark)
    return seen


def _signal_if_still(pid: int, mark: str, number: int) -> bool:
    """Signal through a descriptor: between the last look and the signal the number cannot become another's."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if _mark_of(pid) != mark:
            return False
        signal.pidfd_send_signal(fd, number)
    except (ProcessLookupError, PermissionError):  # gone meanwhile, or it took on another user's rights
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


def _signal_listed(marks: Set[str], number: int) -> set[str]:
    """For systems without /proc: what `ps` tells of environments."""
    seen: set[str] = set()
    for pid, text in _listing():
        for mark in marks:
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


def boot_id() -> str:
    """Changes when the machine restarts; "" where that cannot be known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


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
