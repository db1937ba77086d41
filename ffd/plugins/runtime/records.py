"""Records: one small file per replica tells whether it ran, lives, and how it ended, whatever happened to the daemon.

    <root>/live/<workflow>.<task>.<item>.<attempt>.<rank>     from the launch until the core has settled the attempt
    <root>/<replica's path>.record                            from then on: nothing starts it again

Lines, appended by the warden: `boot <id>` and `start` before anything is started, `pid <n>`, then `exit <code>` or
`signal <n>`; by the daemon: `barred`, it shall never start. At most one process per replica, for all time: one is
started only under the file's lock, and only while neither `start` nor `barred` stands there.

The file is also a lock (flock). The replica's processes inherit the open file and with it the lock, so it is free
exactly when all that kept it are gone. No pid is ever trusted.

Called by `local`. Never here: processes, reports. The warden writes records without this module: it stands alone.
"""

from __future__ import annotations

import fcntl
import os

import msgspec

from ffd.core.model import AttemptId

Key = tuple[AttemptId, int]  # a replica: attempt and rank

MOST_BYTES = 4096  # a record has a hundred


class Facts(msgspec.Struct, frozen=True):
    """What a record says. `pid` led the replica's session, 0 = not known. At most one of `exit_code` >= 0 and `signal`
    > 0. `is_barred`: it was stopped before it started, and never will."""

    boot_id: str = ""
    has_started: bool = False
    pid: int = 0
    exit_code: int = -1
    signal: int = 0
    is_barred: bool = False

    @property
    def is_spent(self) -> bool:
        """It may not be started any more."""
        return self.is_barred or self.has_started

    @property
    def has_ended(self) -> bool:
        return self.exit_code >= 0 or self.signal > 0


class Sight(msgspec.Struct, frozen=True):
    """A record as it was found. `is_held`: some process that inherited it lives."""

    facts: Facts
    is_held: bool


class Records:
    """All records below `root`."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._live = f"{root}/live"

    def open(self) -> None:
        """Make the directory. OSError when that cannot be."""
        os.makedirs(self._live, mode=0o700, exist_ok=True)

    def path(self, key: Key) -> str:
        return f"{self._live}/{name_of(key)}"

    def _settled_path(self, key: Key) -> str:
        return f"{self._root}/{key[0].replica_path(key[1])}.record"

    def bar(self, key: Key) -> None:
        """See to it that a replica that never started never will. No-op when it has, after all."""
        if os.path.exists(self._settled_path(key)):
            return
        fd = os.open(self.path(key), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if _lock(fd, fcntl.LOCK_EX) and not parse(os.read(fd, MOST_BYTES)).is_spent:
                os.write(fd, b"barred\n")
        finally:
            os.close(fd)

    def look(self, key: Key) -> Sight | None:
        """None when there is no trace of it."""
        return _look(self.path(key)) or _look(self._settled_path(key))

    def all_live(self) -> list[tuple[Key, Sight]]:
        """Every replica that is not settled, sorted. Costs one open per entry, and nothing for history."""
        keys = filter(None, map(key_of, os.listdir(self._live)))
        found = ((key, _look(self.path(key))) for key in sorted(keys))
        return [(key, sight) for key, sight in found if sight is not None]

    def settle(self, key: Key) -> None:
        """The core knows its end for good: `all_live` need not have it any more. No-op when it is not there."""
        settled = self._settled_path(key)
        try:
            os.rename(self.path(key), settled)
        except FileNotFoundError:
            if os.path.exists(self.path(key)):  # barred before it had a directory
                os.makedirs(os.path.dirname(settled), mode=0o700, exist_ok=True)
                os.rename(self.path(key), settled)


def _look(path: str) -> Sight | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        is_held = not _lock(fd, fcntl.LOCK_SH)
        return Sight(parse(os.read(fd, MOST_BYTES)), is_held)
    finally:
        os.close(fd)


def _lock(fd: int, kind: int) -> bool:
    """False when somebody else holds it."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def parse(data: bytes) -> Facts:
    """Whole lines only; what is not ours is passed over."""
    said: dict[bytes, bytes] = {}
    for line in data.split(b"\n")[:-1]:
        word, _, rest = line.partition(b" ")
        said[word] = rest
    return Facts(
        said.get(b"boot", b"").decode(errors="replace"),
        b"start" in said,
        _number(said.get(b"pid"), 0),
        _number(said.get(b"exit"), -1),
        _number(said.get(b"signal"), 0),
        b"barred" in said,
    )


def _number(text: bytes | None, default: int) -> int:
    return int(text) if text is not None and text.isdigit() else default


def name_of(key: Key) -> str:
    """What a replica's record is called."""
    attempt, rank = key
    return f"{attempt.workflow}.{attempt.task}.{attempt.item}.{attempt.attempt}.{rank}"


def key_of(name: str) -> Key | None:
    """The replica whose record is called so; None for a file that is not ours."""
    parts = name.split(".")
    if len(parts) != 5 or not all(part.isascii() and part.isdecimal() for part in (parts[0], *parts[2:])):
        return None
    return AttemptId(int(parts[0]), parts[1], int(parts[2]), int(parts[3])), int(parts[4])
