"""What a replica left when it ended: outputs, the last lines of its log, and words for its exit. Called by `local`."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

import msgspec

from ffd.core.reports import ReplicaExited
from ffd.plugins.runtime.records import Facts, Key

TAIL_LINES_COUNT = 20
NOT_THE_FILES_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})


class Outputs(msgspec.Struct, frozen=True):
    """(name, value) pairs in file order: raw texts, or JSON values; or the fault of the file, in words."""

    pairs: tuple[tuple[str, Any], ...] = ()
    fault: str = ""
    are_json: bool = False


class Exit(msgspec.Struct, frozen=True):
    """Exactly one of `code` >= 0 or `signal` > 0, or neither. `kind` as in ReplicaExited."""

    code: int = -1
    signal: int = 0
    kind: str = ""
    message: str = ""


def exit_of(facts: Facts, boot_id: str) -> Exit:
    """How a replica ended, as its record tells; `boot_id`: of the machine now."""
    if facts.has_ended:
        return Exit(facts.exit_code, facts.signal)
    if facts.is_barred:
        return Exit(message="it was stopped before it started")
    if facts.boot_id != boot_id:
        return Exit(kind="node-lost", message="the machine restarted while it ran")
    return Exit(kind="node-lost", message="the warden of its processes was killed, so nobody saw how it ended")


def exit_report(
    key: Key, found: Exit, outputs_path: str, log_path: str, output_bytes: int, tail_bytes: int, at_ms: int
) -> ReplicaExited:
    """The report of an exit, with outputs, and with the end of the log where something went wrong."""
    outputs = read_outputs(outputs_path, output_bytes)
    is_well = found.code == 0 and not outputs.fault
    return ReplicaExited(
        *key, found.code, found.signal, found.kind, found.message, outputs.pairs, outputs.fault,
        "" if is_well else read_tail(log_path, tail_bytes), at_ms, outputs.are_json,
    )  # fmt: skip


def read_tail(path: str, limit_bytes: int) -> str:
    """The last lines of a log: at most TAIL_LINES_COUNT and `limit_bytes`; what is not UTF-8 is replaced."""
    try:
        data = _read(path, limit_bytes, is_tail=True)
    except OSError:
        return ""
    lines = data.rstrip(b"\n").split(b"\n")[-TAIL_LINES_COUNT:]
    return b"\n".join(lines).decode(errors="replace")


def read_outputs(path: str, limit_bytes: int) -> Outputs:
    """`name=value` lines whose values are raw text, or one JSON object that is the whole file. No file, no outputs.
    OSError when the machine has no descriptor or memory left."""
    try:
        data = _read(path, limit_bytes + 1)
    except FileNotFoundError:
        return Outputs()
    except OSError as error:
        if error.errno in NOT_THE_FILES_FAULT:
            raise
        return Outputs(fault=f"$FFD_OUTPUT cannot be read: {error.strerror}")
    if len(data) > limit_bytes:
        return Outputs(fault=f"$FFD_OUTPUT has more than {limit_bytes} bytes (limits.output_bytes)")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return Outputs(fault="$FFD_OUTPUT is not UTF-8")
    return _read_object(text) if text.lstrip().startswith("{") else _read_lines(text)


def _read(path: str, most_bytes: int, *, is_tail: bool = False) -> bytes:
    """The first, or last, bytes of a file. The task may have put anything there: a pipe must not make us wait."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if is_tail:
            os.lseek(fd, max(0, about.st_size - most_bytes), os.SEEK_SET)
        parts: list[bytes] = []
        while most_bytes > 0 and (part := os.read(fd, most_bytes)):
            parts.append(part)
            most_bytes -= len(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def _read_object(text: str) -> Outputs:
    try:
        values = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        return Outputs(fault=f"$FFD_OUTPUT begins with {{ but is no JSON object: {error}")
    return Outputs(tuple(values.items()), are_json=True)


def _read_lines(text: str) -> Outputs:
    pairs: list[tuple[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        name, equals, value = line.partition("=")
        if equals and name.strip():
            pairs.append((name.strip(), value))
        elif line.strip():
            return Outputs(fault=f"line {number} of $FFD_OUTPUT is not name=value")
    return Outputs(tuple(pairs))
