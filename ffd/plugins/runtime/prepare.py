"""What one replica needs before it can start: its files, its environment, its command.

    <root>/<workflow>/<task>.<item>.<attempt>      AttemptId.path(); `own` below begins with it
        .log .output .stop .script .with.json .work/ .record
        /                                          the attempt's directory, only where it is needed:
            <rank>.log ...                         the same of the other replicas of a gang
            port                                   of a gang
            <rank>.checkpoint.json                 spool of the SDK, which makes the directory for it
    <root>/<workflow>/<task>.<item>.checkpoint/    shared by all attempts of the item

Few files on purpose: making one can cost as much as starting a process. Called by `local`. Never
here: starting anything, or what becomes of it. Raises Unstartable when the user must change something, OSError when the
machine is at fault; both leave nothing that has to be cleaned up.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import msgspec

from ffd.core.effects import Launch
from ffd.core.model import AttemptId
from ffd.core.spec import WHOLE_MILLIS
from ffd.plugins.runtime import gangs
from ffd.plugins.runtime.folders import Folders
from ffd.plugins.runtime.machine import Devices
from ffd.plugins.runtime.processes import MARK

# What a task inherits from the daemon's own environment. Everything else is kept from it: secrets do not leak.
INHERITED = (
    "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "PYTHONPATH", "SHELL", "TERM", "TMPDIR",
    "TZ", "USER", "VIRTUAL_ENV",
)  # fmt: skip
BASH = shutil.which("bash")
SHELL_COMMAND = (BASH, "-euo", "pipefail") if BASH else ("/bin/sh", "-eu")
CALL_MODULE = "ffd.sdk.call"
PACKAGE_HOME = str(Path(__file__).parents[3])


class Unstartable(Exception):
    """The replica cannot be started as its document has it; the message says what to change."""


class Prepared(msgspec.Struct, frozen=True):
    """Ready to be started. `program` is an absolute path; `argv` as the document has it, from the name on."""

    program: str
    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    log: str


def replica_path(root: str, attempt: AttemptId, rank: int) -> str:
    """What the names of all files of a replica begin with."""
    return f"{root}/{attempt.replica_path(rank)}"


def stop_path(root: str, attempt: AttemptId, rank: int) -> str:
    """Where the notice to stop will stand; its name is the replica's mark (processes.MARK)."""
    return f"{replica_path(root, attempt, rank)}.stop"


class Here(msgspec.Struct):
    """What all replicas share: where their files are made, what they inherit of our environment, and what the driver
    calls the GPUs (known once the inventory of this machine was taken)."""

    folders: Folders
    inherited: dict[str, str] = {}
    devices: Devices = Devices()


def inherited() -> dict[str, str]:
    """What tasks get of the environment of this process."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def prepare(here: Here, order: Launch, rank: int, env: dict[str, str], leader_record: str) -> Prepared:
    """Make the directories and files of one replica. Idempotent. `leader_record`: the record of rank 0."""
    folders = here.folders
    own = replica_path(folders.root, order.attempt, rank)
    folders.make(os.path.dirname(own))
    variables = {**here.inherited, **order.env, **order.identity(), **env}
    _add_own(variables, here, order, rank)
    cwd = _working_directory(folders, order, own)
    if order.files:
        _write_files(order.files, cwd)
    command = _command(order, rank, own, variables, leader_record)
    if not command or any("\0" in word for word in command):
        raise Unstartable("the command holds a NUL" if command else "there is no command to run")
    program = _program(command[0], cwd, variables)
    if order.launcher == "torchrun" and order.script:
        _program("torchrun", cwd, variables)
    return Prepared(program, command, cwd, variables, f"{own}.log")


# ------------------------------------------------------------------------------------------------------------ files


def _working_directory(folders: Folders, order: Launch, own: str) -> str:
    """`workdir`, relative to where the workflow was submitted; else that place; else a scratch directory."""
    base = order.base_dir
    if not base and not os.path.isabs(order.workdir):
        base = f"{own}.work"
        folders.make(base)
    cwd = os.path.join(base, order.workdir) if order.workdir else base
    if not os.path.isdir(cwd):
        raise Unstartable(f"the working directory {cwd} does not exist on this machine")
    return cwd


def _write_files(files: dict[str, str], cwd: str) -> None:
    """Each whole or not at all: replicas of a gang may share the directory."""
    inside = os.path.realpath(cwd)
    for name, content in files.items():
        path = os.path.join(inside, name)
        folder = os.path.realpath(os.path.dirname(path))
        if os.path.isabs(name) or os.path.commonpath((inside, folder)) != inside or name.endswith(("/", "..")):
            raise Unstartable(f"files: {name} is not inside the working directory")
        try:
            os.makedirs(folder, exist_ok=True)
            _write(path, content)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise Unstartable(f"files: {name} cannot be written: {error.strerror}") from None


def _write(path: str, content: str | bytes) -> None:
    draft = f"{path}.{os.getpid()}.new"
    with open(draft, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    try:
        os.replace(draft, path)
    except OSError:
        os.unlink(draft)
        raise


# ---------------------------------------------------------------------------------------------------------- command


def _command(order: Launch, rank: int, own: str, env: dict[str, str], leader_record: str) -> tuple[str, ...]:
    if order.script:
        command = _script(order, own)
    elif order.function:
        command = _call(order, own, env)
    else:
        command = ("torchrun", *order.argv) if order.launcher == "torchrun" else order.argv
    if order.launcher == "mpi":
        return gangs.mpi_command(command, rank, env["WORLD_SIZE"], leader_record)
    return command


def _script(order: Launch, own: str) -> tuple[str, ...]:
    """From a file, never as an argument: anybody may read arguments. Under torchrun the script starts with its
    arguments: `run: train.py --steps 5`."""
    path = f"{own}.script"
    _write(path, f"torchrun {order.script.lstrip()}" if order.launcher == "torchrun" else order.script)
    return (*SHELL_COMMAND, path)


def _call(order: Launch, own: str, env: dict[str, str]) -> tuple[str, ...]:
    """Whoever starts the daemon from a source tree has no `ffd` installed: so its own place goes on the path, last."""
    env["FFD_WITH_FILE"] = f"{own}.with.json"
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (env.get("PYTHONPATH", ""), PACKAGE_HOME)))
    _write(env["FFD_WITH_FILE"], msgspec.json.encode(order.with_))
    python = ("torchrun",) if order.launcher == "torchrun" else (sys.executable,)
    return (*python, "-m", CALL_MODULE, order.function)


def _program(name: str, cwd: str, env: dict[str, str]) -> str:
    """The absolute path of a program, as the command's own environment finds it. One that is not there is refused
    before anything starts."""
    if "/" in name:
        path = os.path.join(cwd, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
        problem = "cannot be executed" if os.path.exists(path) else "does not exist"
        raise Unstartable(f"the command {name} {problem} (looked for in {cwd})")
    found = shutil.which(name, path=env.get("PATH", os.defpath))
    if found is None:
        raise Unstartable(f"there is no command {name} on the PATH of the task")
    return os.path.join(cwd, found)


# ------------------------------------------------------------------------------------------------------ environment


def _add_own(found: dict[str, str], here: Here, order: Launch, rank: int) -> None:
    """What belongs to this replica. It wins over what is inherited, what the document says, and what the core and the
    shell add, which win over each other in this order."""
    folders = here.folders
    own = replica_path(folders.root, order.attempt, rank)
    folder = f"{folders.root}/{order.attempt.path()}"
    found["FFD_RANK"] = str(rank)
    found["FFD_OUTPUT"] = f"{own}.output"
    found["FFD_CHECKPOINT_DIR"] = order.checkpoint_path or _checkpoint_folder(folders, order)
    found["FFD_SPOOL_DIR"] = folder
    found[MARK] = f"{own}.stop"
    ask = order.resources
    if ask.gpu_count or ask.mig_count:
        found["CUDA_VISIBLE_DEVICES"] = here.devices.visible(order.places[rank], ask.mig_profile)
    if ask.gpu_count and ask.gpu_millis < WHOLE_MILLIS:
        found["FFD_GPU_FRACTION"] = f"{ask.gpu_millis / WHOLE_MILLIS:g}"
    if len(order.places) > 1 or order.launcher != "none":
        folders.make(folder)
        found.update(gangs.variables(order, rank, folder))
    for name, value in found.items():
        if "\0" in value or "\0" in name:
            raise Unstartable(f"the variable {name!r} holds a NUL, which no environment can")


def _checkpoint_folder(folders: Folders, order: Launch) -> str:
    """Of all attempts of the item. Made only for who declares `checkpoint`."""
    attempt = order.attempt
    path = f"{folders.root}/{attempt.workflow}/{attempt.task}.{attempt.item}.checkpoint"
    if order.keeps_checkpoint:
        folders.make(path)
    return path
