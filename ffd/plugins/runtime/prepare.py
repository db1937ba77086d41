"""What one replica needs before it can start: its directory, its files, its environment, its command line.

    <root>/<workflow>/<task>/<item>/<attempt>/<rank>/    log script output pid exit stop work/ spool/ with.json

Called by `local`. Never here: starting anything, or what becomes of it. Raises Unstartable when the user is at fault.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path, PurePosixPath

import msgspec

from ffd.core.effects import Launch
from ffd.core.model import AttemptId

# What a task inherits from the daemon's own environment; everything else is kept from it (secrets do not leak).
INHERITED = (
    "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "PYTHONPATH", "SHELL", "TERM", "TMPDIR", "TZ",
    "USER", "VIRTUAL_ENV",
)  # fmt: skip
SHELL = shutil.which("bash")
SHELL_COMMAND = (SHELL, "-euo", "pipefail") if SHELL else ("/bin/sh", "-eu")
PORT_FILE = "port"

# Guards against a second run, runs the command, writes its exit code. TERM goes to the whole group: the shim itself
# ignores it, and its child gets the default back. 125 = it ran before.
SHIM = """\
dir=$1
set -C
{ echo $$ > "$dir/pid"; } 2>/dev/null || exit 125
set +C
cd "$2" || { echo 126 > "$dir/exit"; exit 126; }
shift 2
trap : TERM INT HUP QUIT
"$@"
code=$?
echo $code > "$dir/exit"
exit $code
"""


class Unstartable(Exception):
    """The replica cannot be started, and it is the document's fault; the message says what to change."""


class Prepared(msgspec.Struct, frozen=True):
    """Ready to be spawned."""

    folder: Path
    argv: tuple[str, ...]
    env: dict[str, str]


def prepare(root: Path, order: Launch, rank: int, env: dict[str, str]) -> Prepared:
    """Make the directory and files of one replica. Idempotent. OSError when the disk does not let us."""
    folder = root / order.attempt.path() / str(rank)
    work = folder / "work"
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder_env = _environment(root, order, rank, folder, env)
    cwd = _working_directory(order, work)
    _write_files(order, cwd if order.workdir or order.base_dir else work)
    command = _command(order, rank, folder, folder_env)
    if order.script or order.function:
        program = ""
    else:
        program = _program(command[0], cwd, folder_env)
    argv = (
        "/bin/sh",
        "-c",
        SHIM,
        "ffd",
        str(folder),
        str(cwd),
        *((program,) if program else command[:1]),
        *command[1:],
    )
    return Prepared(folder, argv, folder_env)


def _working_directory(order: Launch, work: Path) -> Path:
    """`workdir`, relative to where the workflow was submitted; else that place; else a scratch directory."""
    if not order.workdir:
        return Path(order.base_dir) if order.base_dir else work
    cwd = Path(order.base_dir or work) / order.workdir
    if not cwd.is_dir():
        raise Unstartable(f"the workdir {cwd} is not a directory on this machine")
    return cwd


def _write_files(order: Launch, cwd: Path) -> None:
    for name, content in order.files.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise Unstartable(f"files: {name!r} leaves the working directory")
        path = cwd / pure
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def _command(order: Launch, rank: int, folder: Path, env: dict[str, str]) -> tuple[str, ...]:
    if order.script:
        command = _script(order, folder)
    elif order.function:
        with_file = folder / "with.json"
        with_file.write_bytes(msgspec.json.encode(order.with_))
        env["FFD_WITH_FILE"] = str(with_file)
        command = (sys.executable, "-m", "ffd.sdk.call", order.function)
    else:
        command = order.argv
    if order.launcher == "torchrun" and not order.script:
        return ("torchrun", *command)
    if order.launcher == "mpi":
        return _mpi(command, rank, env)
    return command


def _script(order: Launch, folder: Path) -> tuple[str, ...]:
    """From a file, never as an argument: arguments are public. Under torchrun the script *is* torchrun's arguments."""
    path = folder / "script"
    path.write_text(f"torchrun {order.script}" if order.launcher == "torchrun" else order.script)
    return (*SHELL_COMMAND, str(path))


def _mpi(command: tuple[str, ...], rank: int, env: dict[str, str]) -> tuple[str, ...]:
    """Rank 0 starts all processes with mpirun; the other replicas hold their place until it is done."""
    if rank:
        return ("sleep", "2147483647")
    return ("mpirun", "-np", env["WORLD_SIZE"], "--host", env["FFD_HOSTS"], *command)


def _program(name: str, cwd: Path, env: dict[str, str]) -> str:
    """The absolute path of the program, so that one that does not exist is refused before anything starts."""
    if "/" in name:
        found = cwd / name
        if found.is_file() and os.access(found, os.X_OK):
            return str(found)
    else:
        on_path = shutil.which(name, path=env.get("PATH", os.defpath))
        if on_path:
            return on_path
    raise Unstartable(f"command not found: {name}")


# -------------------------------------------------------------------------------------------------- environment


def _environment(root: Path, order: Launch, rank: int, folder: Path, env: dict[str, str]) -> dict[str, str]:
    checkpoint = order.checkpoint_path or str(checkpoint_folder(root, order.attempt))
    if not order.checkpoint_path:
        Path(checkpoint).mkdir(mode=0o700, parents=True, exist_ok=True)
    found = {name: os.environ[name] for name in INHERITED if name in os.environ}
    found |= order.env | env
    found |= {
        "FFD_RANK": str(rank),
        "FFD_OUTPUT": str(folder / "output"),
        "FFD_CHECKPOINT_DIR": checkpoint,
        "FFD_STOP_FILE": str(folder / "stop"),
        "FFD_SPOOL_DIR": str(folder / "spool"),
    }
    if order.resources.gpu_count:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, order.places[rank].gpus))
    if len(order.places) > 1 or order.launcher != "none":
        found |= _rendezvous(root, order, rank)
    return found


def checkpoint_folder(root: Path, attempt: AttemptId) -> Path:
    """Shared by all attempts of an item."""
    return root / str(attempt.workflow) / attempt.task / str(attempt.item) / "checkpoint"


def _rendezvous(root: Path, order: Launch, rank: int) -> dict[str, str]:
    """How the replicas of a gang find each other; the PET_ names are those torchrun reads."""
    nodes, per_node = len(order.places), order.resources.gpu_count or 1
    port = _port(root / order.attempt.path())
    common = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NNODES": str(nodes), "NODE_RANK": str(rank),
        "NPROC_PER_NODE": str(per_node), "WORLD_SIZE": str(nodes * per_node),
        "FFD_HOSTS": ",".join("127.0.0.1" for _ in order.places),
    }  # fmt: skip
    names = ("MASTER_ADDR", "MASTER_PORT", "NNODES", "NODE_RANK", "NPROC_PER_NODE")
    return common | {f"PET_{name}": common[name] for name in names}


def _port(folder: Path) -> str:
    """A free port of this machine, chosen once per attempt and kept in a file, so that all ranks agree."""
    path = folder / PORT_FILE
    try:
        return path.read_text()
    except FileNotFoundError:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            path.write_text(str(probe.getsockname()[1]))
        return path.read_text()


# ------------------------------------------------------------------------------------------------------ outputs


def read_outputs(path: Path, limit_bytes: int) -> tuple[tuple[tuple[str, object], ...], str]:
    """((name, value) pairs in file order, fault): `name=value` lines, or one JSON object for the whole file."""
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except FileNotFoundError:
        return (), ""
    if len(data) > limit_bytes:
        return (), f"$FFD_OUTPUT has more than {limit_bytes} bytes (limits.output_bytes)"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return (), "$FFD_OUTPUT is not UTF-8"
    if text.lstrip().startswith("{"):
        try:
            values = json.loads(text)
        except ValueError:
            return (), "$FFD_OUTPUT begins with { but is no JSON object"
        return tuple(values.items()), ""
    pairs: list[tuple[str, object]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        name, equals, value = line.partition("=")
        if line.strip() and not equals:
            return (), f"line {number} of $FFD_OUTPUT is not name=value"
        if line.strip():
            pairs.append((name.strip(), value))
    return tuple(pairs), ""
