"""What the SDK keeps on this machine while the daemon is away. Two small files, no log to replay in order:

- `$FFD_OUTPUT` (`OutputFile`): the runtime reads it when the process has ended and the exit report commits it, so an
  output written there is as safe as the exit itself. Lines `name=value`; the last line of a name wins. A text is
  written raw, anything else as JSON; the core types it by the task's declaration.
- `$FFD_SPOOL_DIR/<rank>.checkpoint.json` (`PendingCheckpoint`): the newest checkpoint that the daemon has not
  acknowledged. A newer one replaces it, so one slot is the whole spool. It is on disk so that a later process of the
  same replica finds it (a script of several steps). The directory belongs to one attempt; its replicas may share it.

Never here: the network. Called by `ffd.sdk.live` (in its thread), `ffd.sdk.outside` and `ffd.sdk.call`.
"""

from __future__ import annotations

import errno
import json
import os

from ffd.errors import Refusal
from ffd.sdk.lines import notice
from ffd.sdk.values import MAX_VALUE_BYTES

MAX_OUTPUT_FILE_BYTES = 1 << 20


class OutputFile:
    """`$FFD_OUTPUT`. Each append is durable when it returns; several processes of the replica may share the file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def mentions(self, name: str) -> bool:
        """True when the file (a line of ours or of the user's script) sets this name already. At exit the file wins
        over what the daemon was told, so a later value must go there too."""
        present = self._read()
        if _is_object(present):
            return json.dumps(name).encode() in present
        return any(line.startswith(f"{name}=".encode()) for line in present.splitlines())

    @property
    def is_given(self) -> bool:
        return bool(self._path)

    def is_empty(self) -> bool:
        return not self._read().strip()

    def append(self, name: str, text: str) -> None:
        """Add the line of one output (`text` is its JSON) and fsync. Refusal when that cannot be: no such file, a full
        disk, a text that a line would not give back as it is, a file that is a JSON object or over its bound."""
        value = json.loads(text)
        line = value if isinstance(value, str) else text
        if line != line.strip() or len(line.splitlines()) > 1:
            raise Refusal(f"output {name} has a line break or outer spaces, which $FFD_OUTPUT cannot hold", field=name)
        present = self._read()
        if _is_object(present):
            raise Refusal("$FFD_OUTPUT is a JSON object, which no line can follow", field="FFD_OUTPUT")
        gap = "\n" if present and not present.endswith(b"\n") else ""
        data = f"{gap}{name}={line}\n".encode()
        if len(present) + len(data) > MAX_OUTPUT_FILE_BYTES:
            raise Refusal(
                f"$FFD_OUTPUT would grow over the limit MAX_OUTPUT_FILE_BYTES = {MAX_OUTPUT_FILE_BYTES}",
                code="limit",
                field="MAX_OUTPUT_FILE_BYTES",
            )
        self._write(data)

    def write_object(self, text: str) -> None:
        """Make the (empty) file one JSON object, and fsync. Refusal when the disk refuses."""
        self._write(text.encode() + b"\n")

    def _read(self) -> bytes:
        if not self._path:
            return b""
        try:
            with open(self._path, "rb") as file:
                return file.read(MAX_OUTPUT_FILE_BYTES + 1)
        except FileNotFoundError:
            return b""
        except OSError as fault:
            raise _refused(fault) from None

    def _write(self, data: bytes) -> None:
        if not self._path:
            raise Refusal("there is no $FFD_OUTPUT to keep outputs in", field="FFD_OUTPUT")
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                while data:
                    data = data[os.write(fd, data) :]
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as fault:
            raise _refused(fault) from None


class PendingCheckpoint:
    """The newest checkpoint not yet acknowledged: on disk, or in memory when there is no spool directory or its disk
    refuses (one notice: a full disk must not end a training run)."""

    def __init__(self, directory: str, rank: int) -> None:
        self._path = os.path.join(directory, f"{rank}.checkpoint.json") if directory else ""
        self._in_memory: str | None = None
        self._warned = False

    def put(self, text: str) -> None:
        """Hold the JSON text instead of what was held."""
        self._in_memory = text
        if not self._path:
            return
        temporary = f"{self._path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
            self._in_memory = None
        except OSError as fault:
            self._warn(fault)

    def get(self) -> str | None:
        """Reads the disk each time: another process of this attempt may have left it there, or sent it."""
        if self._in_memory is not None or not self._path:
            return self._in_memory
        try:
            with open(self._path, "rb") as file:
                return file.read(MAX_VALUE_BYTES).decode()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as fault:
            self._warn(fault)
            return None

    def clear(self, text: str) -> None:
        """The daemon has it, or refused it. A newer one that came meanwhile stays."""
        if self.get() != text:
            return
        self._in_memory = None
        if not self._path:
            return
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            return
        except OSError as fault:
            self._warn(fault)

    def _warn(self, fault: Exception) -> None:
        if not self._warned:
            notice(f"$FFD_SPOOL_DIR cannot keep a checkpoint ({fault}); it is held in memory only")
        self._warned = True


def _is_object(data: bytes) -> bool:
    return data.lstrip().startswith(b"{")


def _refused(fault: OSError) -> Refusal:
    reason = fault.strerror or type(fault).__name__
    code = "storage_full" if fault.errno == errno.ENOSPC else "invalid"
    return Refusal(f"$FFD_OUTPUT cannot be used: {reason}", code=code, field="FFD_OUTPUT")
