"""The verb `doctor`: what this machine offers a daemon, check by check, with a word and what to do.

Looks only; what it creates to try things out it removes. Never here: repairs.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from ffd.cli import embedded, exits, output, terminal
from ffd.cli.address import Config
from ffd.cli.output import Column
from ffd.cli.session import Session, Verb, pass_session
from ffd.errors import FfdError

OK, WARN, FAIL = "ok", "warn", "fail"
PYTHON_LEAST = (3, 11)
SPACE_FAIL_BYTES = 256 << 20
SPACE_WARN_BYTES = 5 << 30
SKEW_MS = 2_000
SOCKET_PATH_BYTES = 107
NVIDIA_SECONDS = 10
NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "lustre", "ceph", "gpfs", "beegfs", "fuse.sshfs", "fuse.s3fs"}
)
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE = 0x01, 0x02


class Finding(NamedTuple):
    """One check. `verdict` is ok, warn (it works, with less) or fail (a daemon will not)."""

    check: str
    verdict: str
    detail: str
    hint: str = ""


@click.command(cls=Verb)
@output.output_option
@pass_session
def doctor(session: Session, form: str) -> int:
    """Check what a daemon needs of this machine. Exit code 1 when something fails."""
    findings = [check(session.config) for check in CHECKS]
    findings.append(_daemon(session))
    columns = [
        Column("CHECK", lambda finding: finding.check),
        Column("VERDICT", lambda finding: finding.verdict, state=True),
        Column("DETAIL", lambda finding: finding.detail),
    ]
    if form in ("json", "jsonl", "yaml"):
        output.emit_list([finding._asdict() for finding in findings], columns, form, str)
    else:
        output.emit_list(findings, columns, form, lambda finding: str(finding.check))
    for finding in findings:
        if finding.hint:
            terminal.say(f"{finding.verdict}: {finding.check}: {finding.hint}")
    return exits.FAILED if any(finding.verdict == FAIL for finding in findings) else exits.OK


def _python(config: Config) -> Finding:
    found = platform.python_version()
    if sys.version_info < PYTHON_LEAST:
        return Finding("python", FAIL, found, "install Python 3.11 or newer")
    return Finding("python", OK, found)


def _pidfd(config: Config) -> Finding:
    """Without it a daemon cannot watch processes that are not its children."""
    if not hasattr(os, "pidfd_open"):
        return Finding("pidfd", FAIL, f"not on {sys.platform}", "local tasks need Linux 5.3 or newer")
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return Finding(
            "pidfd", FAIL, str(error.strerror), "local tasks need Linux 5.3 or newer, and a sandbox that lets"
        )
    return Finding("pidfd", OK, f"Linux {platform.release()}")


def _bash(config: Config) -> Finding:
    found = shutil.which("bash")
    if found is None:
        return Finding("bash", WARN, "not found: scripts run with sh -eu", "install bash for pipefail")
    return Finding("bash", OK, found)


@contextmanager
def _trial_file(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(prefix=".doctor-", dir=folder)
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        os.unlink(name)


def _state(config: Config) -> Finding:
    try:
        with _trial_file(Path(config.state.text)) as path:
            path.write_bytes(b"ffd")
            return Finding("state", OK, f"{config.state.text} is writable")
    except OSError as error:
        detail = f"{config.state.text}: {error.strerror}"
        return Finding("state", FAIL, detail, "choose another directory with --state or FFD_STATE")


def _filesystem(config: Config) -> Finding:
    kind = filesystem_of(Path(config.state.text), Path("/proc/self/mountinfo"))
    if kind in NETWORK_FILESYSTEMS:
        return Finding("filesystem", FAIL, kind, "SQLite on a network file system loses data: put the state on a disk")
    return Finding("filesystem", OK, kind or "unknown")


def filesystem_of(path: Path, mountinfo: Path) -> str:
    """The type of the file system that `path` is on; "" where the kernel does not tell."""
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    whole = os.path.realpath(path) + "/"
    best, kind = "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = left.split()[4].encode().decode("unicode_escape")  # blanks are written as \\040
        if whole.startswith(mount.rstrip("/") + "/") and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    return kind


def _punch_hole(config: Config) -> Finding:
    """Log files are kept small by giving back their middle."""
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    try:
        with _trial_file(Path(config.state.text)) as path, path.open("wb") as stream:
            stream.truncate(1 << 20)
            mode = FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE
            length = ctypes.c_long(1 << 16)
            if fallocate is not None and fallocate(stream.fileno(), mode, ctypes.c_long(0), length) == 0:
                return Finding("punch-hole", OK, "files can give back their middle")
    except OSError as error:
        return Finding("punch-hole", WARN, str(error.strerror))
    return Finding("punch-hole", WARN, "files cannot give back their middle", "logs over their limit take more space")


def _space(config: Config) -> Finding:
    folder = Path(config.state.text)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    detail = f"{terminal.size(free)} free"
    if free < SPACE_FAIL_BYTES:
        return Finding("space", FAIL, detail, "a full disk refuses submissions: make room")
    return Finding("space", WARN if free < SPACE_WARN_BYTES else OK, detail)


def _clock(config: Config) -> Finding:
    """The wall clock orders nothing; a file system with another one shows that a server's clock is off."""
    try:
        with _trial_file(Path(config.state.text)) as path:
            skew_ms = abs(int((path.stat().st_mtime - time.time()) * 1000))
    except OSError as error:
        return Finding("clock", WARN, str(error.strerror))
    detail = f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}, files within {terminal.duration(skew_ms)}"
    if skew_ms > SKEW_MS:
        return Finding("clock", WARN, detail, "the clock of the file system is another one: shown times will not agree")
    return Finding("clock", OK, detail)


def _socket(config: Config) -> Finding:
    address = config.address.text
    if not address.startswith("unix:"):
        return Finding("socket", OK, f"not used: {address}")
    path = Path(address.removeprefix("unix:"))
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        return Finding("socket", FAIL, f"{path} is too long", f"the kernel takes {SOCKET_PATH_BYTES} bytes: --address")
    if not path.parent.exists():
        return Finding("socket", OK, f"{path} (its directory will be made)")
    found = path.parent.stat()
    if found.st_uid != os.getuid():
        return Finding("socket", FAIL, f"{path.parent} belongs to user {found.st_uid}", "use another --address")
    if found.st_mode & 0o022:
        return Finding("socket", WARN, f"{path.parent} is writable for others", f"chmod go-w {path.parent}")
    return Finding("socket", OK, str(path))


def _gpus(config: Config) -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding("gpus", OK, "none: no nvidia-smi")
    try:
        done = subprocess.run([program, "-L"], capture_output=True, timeout=NVIDIA_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("gpus", WARN, f"nvidia-smi: {error}", "GPUs will not be offered to tasks")
    if done.returncode != 0:
        return Finding("gpus", WARN, f"nvidia-smi: exit code {done.returncode}", "GPUs will not be offered to tasks")
    return Finding("gpus", OK, f"{len(done.stdout.splitlines())} GPUs")


def _daemon(session: Session) -> Finding:
    address = session.config.address
    if not embedded.is_listening(address.text):
        if session.config.chosen:
            return Finding("daemon", FAIL, f"nobody listens at {address.text} ({address.origin})", "ffd daemon run")
        return Finding("daemon", OK, f"none at {address.text}: ffd run brings its own")
    try:
        page = session.call(lambda client: client.status())
    except FfdError as error:
        return Finding("daemon", FAIL, error.message, error.hint)
    detail = f"ffd {page.version}, {page.role}, at {address.text}"
    return Finding("daemon", WARN if page.degraded else OK, f"{detail}: {page.degraded}" if page.degraded else detail)


CHECKS: tuple[Callable[[Config], Finding], ...] = (
    _python, _pidfd, _bash, _state, _filesystem, _punch_hole, _space, _clock, _socket, _gpus,
)  # fmt: skip
