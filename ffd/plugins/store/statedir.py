"""What the SQLite store keeps beside its database: a private directory, the leader's lock, the high-water mark.

Blocking file calls, made from the store's own thread (and once at open). Never here: SQL.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from ffd.errors import PluginError
from ffd.plugins.ports import Head

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
ZEROS_BYTES = 1 << 20  # written at once
NETWORK_FILESYSTEMS = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "fuse.beegfs", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs",
        "fuse.juicefs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
        "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs",
    }
)  # fmt: skip


def prepare(directory: Path, database: Path) -> None:
    """Make the directory and an empty database file, for their owner only. PluginError when that cannot be, or when
    the directory is on a network file system (file locks and shared memory do not work there)."""
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        refuse_network(directory, _mounts())
        # An existing database is never opened here: closing it would drop the locks SQLite holds on it.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(database, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
        database.chmod(FILE_MODE)
    except OSError as error:
        raise PluginError(
            f"the state directory {directory} cannot be used: {error.strerror}",
            hint="make it writable for the user that runs the daemon, or choose another (daemon.state_dir)",
        ) from error


def lengthen(path: Path, size_bytes: int) -> None:
    """Make a file that long, with zeros that are on the disk when this returns. OSError: it is as long as before."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor).st_size
        try:
            missing = max(0, size_bytes - before)
            while missing:
                missing -= os.pwrite(descriptor, bytes(min(missing, ZEROS_BYTES)), size_bytes - missing)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def refuse_network(directory: Path, mounts: str) -> None:
    """PluginError when `directory` is on a network file system by `mounts`, the text of /proc/self/mounts."""
    kind = filesystem_of(directory.resolve(), mounts)
    if kind in NETWORK_FILESYSTEMS:
        raise PluginError(
            f"the state directory {directory} is on a network file system ({kind}): SQLite would lose data there",
            hint="put it on a local disk (daemon.state_dir)",
        )


def filesystem_of(path: Path, mounts: str) -> str:
    """The type of the file system that holds `path`, "" when unknown. Of mounts on one point, the last one counts."""
    depth, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
        if len(point.parts) >= depth and path.is_relative_to(point):
            depth, kind = len(point.parts), fields[2]
    return kind


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""  # not Linux: nothing to tell by


class FileLock:
    """A lock on a file that the system frees when the process dies, also by kill -9. Children that exec do not inherit
    it (the descriptor closes on exec). The descriptor stays open, so running out of them cannot cost the lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self) -> bool:
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Also frees it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class HighWater:
    """The highest commit that was seen durable, in a file outside the database: a lower bound, written now and then.

    A database whose head is below it, or that has another digest at its number, has lost commits."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Head | None:
        """None when nothing was written yet. PluginError when the file is not ours."""
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return None
        number, _, digest = text.strip().partition(b" ")
        try:
            return Head(int(number), bytes.fromhex(digest.decode()))
        except ValueError:
            raise PluginError(
                f"{self._path} is not a high-water mark", code="lost_commits", hint="lead without it: --accept-loss"
            ) from None

    def raise_to(self, head: Head) -> None:
        """Never lowers it: a leader that was paused may come late. OSError when it cannot be written."""
        written = self.read()
        if written is None or written.number < head.number:
            self.write(head)

    def write(self, head: Head) -> None:
        """Replace it, all or nothing."""
        draft = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(f"{head.number} {head.digest.hex()}\n".encode())
            file.flush()
            os.fsync(descriptor)
        draft.replace(self._path)
