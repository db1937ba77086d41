"""What an SQLite error means to the caller of a store: who must act, and whether the outcome is known."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from ffd.errors import FfdError, PluginError, Refusal, Unavailable

PRIMARY_MASK = 0xFF  # the low byte of an extended result code
LITTLE_SPACE_BYTES = 1 << 20  # with less than this left, a failed write was a full disk


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", -1)) & PRIMARY_MASK


def is_unclear(error: sqlite3.Error) -> bool:
    """An I/O error: whether the transaction became durable must be read back. SQLite shows a commit to its connections
    only after the log was synced, so what can be read is durable."""
    return _code(error) == sqlite3.SQLITE_IOERR


def is_busy(error: sqlite3.Error) -> bool:
    """Somebody else holds a lock that is needed; nothing was done."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_full(error: sqlite3.Error, database: Path) -> bool:
    """No space. SQLite reports some of these (its shared memory file) as I/O errors."""
    return _code(error) == sqlite3.SQLITE_FULL or (is_unclear(error) and _free_bytes(database) < LITTLE_SPACE_BYTES)


def _free_bytes(database: Path) -> int:
    status = os.statvfs(database.parent)
    return status.f_bavail * status.f_frsize


def translate(error: sqlite3.Error, database: Path) -> FfdError | sqlite3.Error:
    """What to raise instead of `error`, after which nothing of the failed operation is stored. Errors that only our own
    mistakes cause come back as they are."""
    code = _code(error)
    if is_full(error, database):
        return Refusal(
            f"no space is left for the database {database}",
            code="storage_full",
            hint="free some disk space; nothing was written, and the daemon goes on by itself",
        )
    if is_busy(error):
        return Unavailable(f"another process keeps the database {database} locked", hint="close what else has it open")
    if code == sqlite3.SQLITE_IOERR:
        return Unavailable(f"the disk failed under the database {database}: {error}", hint="check the disk")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return PluginError(
            f"the database {database} cannot be written: {error}",
            hint="make it writable for the user that runs the daemon, or choose another directory (daemon.state_dir)",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(database, str(error))
    return error


def translate_os(error: OSError, database: Path) -> FfdError:
    """The same for a failed file operation beside the database."""
    where = error.filename or database.parent
    if error.errno == errno.ENOSPC:
        return Refusal(f"no space is left for {where}", code="storage_full", hint="free some disk space")
    return Unavailable(f"{where}: {error.strerror}")


def damaged(database: Path, how: str) -> PluginError:
    return PluginError(
        f"the database {database} is damaged: {how}", code="damaged", hint="see `ffd fsck`, or restore a copy"
    )
