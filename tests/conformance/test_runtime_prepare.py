"""What a replica is given: environment, directories, files, command; and how what it leaves is read."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import anyio.lowlevel
import msgspec
import pytest
from runtime_worlds import LocalWorld, launch_of

from ffd.core.effects import Launch
from ffd.core.model import AttemptId, Place
from ffd.core.reports import LaunchFailed, ReplicaExited
from ffd.core.spec import Resources
from ffd.plugins.runtime import remains, warden
from ffd.plugins.runtime.folders import LEAST_COUNT, MOST_COUNT, Folders
from ffd.plugins.runtime.prepare import INHERITED, Here, Unstartable, prepare
from ffd.plugins.runtime.records import Facts, parse
from ffd.testing.conformance.runtime import CREDENTIALS, attempt_of, exits_of, opened

A = attempt_of("a")
PRINT_ENV = (sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))")
GPUS = Resources(gpu_count=2)
NO_TORCHRUN = "there is no command torchrun on the PATH of the task"


async def launched(world: LocalWorld, order: Launch) -> list[ReplicaExited | LaunchFailed]:
    """Launch and wait until every rank has ended, or could not start; by rank."""
    count = len(order.places)
    async with opened(world) as watched:
        await watched.launch(order)
        ends: list[ReplicaExited | LaunchFailed] = []
        await watched.until(lambda told: sum(isinstance(one, ReplicaExited | LaunchFailed) for one in told) >= count)
        ends = [report for report in watched.reports if isinstance(report, ReplicaExited | LaunchFailed)]
        return sorted(ends, key=lambda report: report.rank)


def run(folder: Path, order: Launch) -> list[ReplicaExited | LaunchFailed]:
    return asyncio.run(launched(LocalWorld(folder), order))


def run_well(folder: Path, order: Launch) -> list[str]:
    """All must succeed; the logs by rank."""
    ends = run(folder, order)
    logs = [own(folder, order, "log", rank).read_text() for rank in range(len(order.places))]
    assert [getattr(end, "exit_code", end) for end in ends] == [0] * len(ends), logs
    return logs


def failure(folder: Path, order: Launch) -> str:
    """It must not start, by the user's fault; the message."""
    (failed,) = run(folder, order)
    assert isinstance(failed, LaunchFailed), failed
    assert failed.kind == "error"
    return failed.message


def own(folder: Path, order: Launch, suffix: str, rank: int = 0) -> Path:
    """A file of a replica."""
    return folder / "state" / "runs" / f"{order.attempt.replica_path(rank)}.{suffix}"


# ------------------------------------------------------------------------------------------------------ environment


@pytest.fixture
def inherited(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The daemon's environment: a few variables that tasks get, and secrets that they must not."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    kept = {"PATH": "/usr/bin:/bin", "HOME": "/home/somebody", "LANG": "C.UTF-8"}
    for name, value in {**kept, "API_KEY": "s3cret", "FFD_TOKEN": "the daemon's", "CUDA_VISIBLE_DEVICES": "7"}.items():
        monkeypatch.setenv(name, value)
    return kept


def expected(folder: Path, order: Launch, rank: int = 0) -> dict[str, str]:
    runs = folder / "state" / "runs"
    return {
        "FFD_RUN": order.handle,
        "FFD_PROJECT": order.project,
        "FFD_WORKFLOW": "7",
        "FFD_TASK": "a",
        "FFD_ITEM": "0",
        "FFD_ATTEMPT": "1",
        "FFD_RANK": str(rank),
        "FFD_OUTPUT": str(own(folder, order, "output", rank)),
        "FFD_STOP_FILE": str(own(folder, order, "stop", rank)),
        "FFD_SPOOL_DIR": str(runs / "7" / "a.0.1"),
        "FFD_CHECKPOINT_DIR": str(runs / "7" / "a.0.checkpoint"),
        **CREDENTIALS,
    }


def environments(folder: Path, order: Launch) -> list[dict[str, str]]:
    """What each rank sees, without what shells and Python add on their own."""
    return [
        {name: value for name, value in json.loads(log).items() if name not in ("PWD", "SHLVL", "_", "LC_CTYPE")}
        for log in run_well(folder, order)
    ]


def test_a_task_sees_exactly_what_it_is_given(tmp_path: Path, inherited: dict[str, str]) -> None:
    order = launch_of(A, argv=PRINT_ENV, env={"LR": "0.1 0.2\n", "LANG": "de"})
    (seen,) = environments(tmp_path, order)
    own_env = {"LR": "0.1 0.2\n", "LANG": "de"}
    assert seen == {**inherited, **own_env, **expected(tmp_path, order)}


def test_what_the_document_says_cannot_replace_what_ffd_says(tmp_path: Path, inherited: dict[str, str]) -> None:
    forged = {
        "FFD_RANK": "9",
        "FFD_TASK": "b",
        "FFD_STOP_FILE": "/tmp/x",
        "FFD_TOKEN": "forged",
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
    }
    places = (Place("here", (4, 5)),)
    order = launch_of(A, argv=PRINT_ENV, env=forged, places=places, resources=GPUS)
    (seen,) = environments(tmp_path, order)
    assert seen == {**inherited, **expected(tmp_path, order), "CUDA_VISIBLE_DEVICES": "4,5"}


def test_a_part_of_a_gpu_and_slices_reach_the_process(tmp_path: Path, inherited: dict[str, str]) -> None:
    half = Resources(gpu_count=1, gpu_millis=500)
    order = launch_of(A, argv=PRINT_ENV, places=(Place("here", (3,), 500),), resources=half)
    (seen,) = environments(tmp_path, order)
    own = {"CUDA_VISIBLE_DEVICES": "3", "FFD_GPU_FRACTION": "0.5"}
    assert seen == {**inherited, **expected(tmp_path, order), **own}
    slices = Resources(mig_profile="1g.10gb", mig_count=2)
    order = launch_of(A, argv=PRINT_ENV, places=(Place("here", mig=(0, 4)),), resources=slices)
    (seen,) = environments(tmp_path / "slices", order)
    assert seen["CUDA_VISIBLE_DEVICES"] == "MIG-1g.10gb-0,MIG-1g.10gb-4"


def test_a_gang_finds_each_other(tmp_path: Path, inherited: dict[str, str]) -> None:
    places = (Place("n0", (0, 1)), Place("n1", (6, 7)))
    order = launch_of(A, argv=PRINT_ENV, places=places, resources=GPUS)
    seen = environments(tmp_path, order)
    port = seen[0]["MASTER_PORT"]
    assert 1024 < int(port) < 65536
    for rank, gpus in ((0, "0,1"), (1, "6,7")):
        rendezvous = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "NNODES": "2",
            "NODE_RANK": str(rank),
            "NPROC_PER_NODE": "2",
        }
        assert seen[rank] == {
            **inherited,
            **expected(tmp_path, order, rank),
            **rendezvous,
            **{f"PET_{name}": value for name, value in rendezvous.items()},
            "WORLD_SIZE": "4",
            "FFD_HOSTS": "127.0.0.1,127.0.0.1",
            "CUDA_VISIBLE_DEVICES": gpus,
        }


def test_the_port_of_a_gang_is_the_same_for_a_later_daemon(tmp_path: Path) -> None:
    order = launch_of(A, 3, argv=("true",))
    folders = Folders(str(tmp_path))
    ports = {prepare(Here(folders), order, rank, {}, "").env["MASTER_PORT"] for rank in (0, 1, 2, 0)}
    assert len(ports) == 1


def test_what_is_inherited_holds_no_secret_and_nothing_of_an_outer_task() -> None:
    assert not [name for name in INHERITED if any(word in name for word in ("TOKEN", "KEY", "SECRET", "FFD_"))]


def test_directories_are_there(tmp_path: Path) -> None:
    script = 'cd "$FFD_CHECKPOINT_DIR"; touch kept; mkdir "$FFD_SPOOL_DIR"; touch "$FFD_SPOOL_DIR/spooled"'
    run_well(tmp_path, launch_of(A, script=script, keeps_checkpoint=True))
    again = 'ls "$FFD_CHECKPOINT_DIR"; ! test -e "$FFD_SPOOL_DIR"'
    assert run_well(tmp_path, launch_of(attempt_of("a", 2), script=again, keeps_checkpoint=True)) == ["kept\n"]


def test_a_checkpoint_path_of_the_document_is_given_as_it_is(tmp_path: Path) -> None:
    order = launch_of(A, script='echo "$FFD_CHECKPOINT_DIR"', checkpoint_path="s3://bucket/run 1")
    assert run_well(tmp_path, order) == ["s3://bucket/run 1\n"]


# ---------------------------------------------------------------------------------------------------------- commands


def test_a_script_stops_at_the_first_failure(tmp_path: Path) -> None:
    (exited,) = run(tmp_path, launch_of(A, script="echo one\nfalse | cat\necho two\n"))
    assert getattr(exited, "exit_code", None) == 1
    assert own(tmp_path, launch_of(A), "log").read_text() == "one\n"


def test_an_unset_variable_is_a_failure(tmp_path: Path) -> None:
    (exited,) = run(tmp_path, launch_of(A, script='echo "$NOT_SET"'))
    assert isinstance(exited, ReplicaExited)
    assert exited.exit_code not in (0, -1)
    assert "NOT_SET" in exited.tail


def test_a_script_is_not_in_the_argument_list(tmp_path: Path) -> None:
    order = launch_of(A, script="tr '\\0' '\\n' < /proc/$$/cmdline; : secret-words")
    (log,) = run_well(tmp_path, order)
    assert "secret-words" not in log


def test_a_function_is_called_with_its_arguments(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "mine.py").write_text("def add(a, b, name):\n    print(name)\n    return {'sum': a + b}\n")
    with_ = {"a": 1, "b": 2.5, "name": "é $x"}
    order = launch_of(A, function="mine:add", with_=with_, base_dir=str(base))
    (exited,) = run(tmp_path, order)
    assert isinstance(exited, ReplicaExited)
    assert (exited.exit_code, dict(exited.outputs), exited.outputs_are_json) == (0, {"sum": 3.5}, True), exited
    assert own(tmp_path, order, "log").read_text() == "é $x\n"


def test_a_command_runs_where_it_is_told(tmp_path: Path) -> None:
    for folder in ("base/inner", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    base = str(tmp_path / "base")
    scratch = own(tmp_path, launch_of(A), "work")
    wanted = {
        ("", ""): str(scratch),
        (base, ""): base,
        (base, "inner"): f"{base}/inner",
        (base, str(tmp_path / "elsewhere")): str(tmp_path / "elsewhere"),
    }
    for number, ((base_dir, workdir), cwd) in enumerate(wanted.items(), start=1):
        order = launch_of(attempt_of("a", number), script="pwd; echo $PWD", base_dir=base_dir, workdir=workdir)
        cwd = cwd.replace("a.0.1/", f"a.0.{number}/")
        assert run_well(tmp_path, order) == [f"{cwd}\n{cwd}\n"]


def test_a_program_of_the_working_directory_is_found_there(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\necho tool $1\n")
    (tmp_path / "tool").chmod(0o755)
    assert run_well(tmp_path, launch_of(A, argv=("./tool", "x"), base_dir=str(tmp_path))) == ["tool x\n"]


def test_a_program_is_looked_for_on_the_path_of_the_task(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "tool").chmod(0o755)
    order = launch_of(A, argv=("tool",), env={"PATH": f"{tmp_path}:/bin"})
    assert run_well(tmp_path, order) == ["found\n"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"argv": ("no-such-tool",)}, "there is no command no-such-tool on the PATH of the task"),
        ({"argv": ("./missing",), "base_dir": "/"}, "the command ./missing does not exist (looked for in /)"),
        ({"argv": ("/etc/passwd",), "base_dir": "/"}, "the command /etc/passwd cannot be executed (looked for in /)"),
        ({"argv": ("true",), "workdir": "/no/such"}, "the working directory /no/such does not exist on this machine"),
        ({"argv": ("true",), "base_dir": "/no/such"}, "the working directory /no/such does not exist on this machine"),
        ({"argv": ("true", "a\0b")}, "the command holds a NUL"),
        ({"argv": ("true",), "env": {"X": "a\0b"}}, "the variable 'X' holds a NUL, which no environment can"),
        ({"argv": ()}, "there is no command to run"),
        ({"script": "x.py", "launcher": "torchrun", "env": {"PATH": "/"}}, NO_TORCHRUN),
        ({"argv": ("true",), "files": {"../x": ""}}, "files: ../x is not inside the working directory"),
        ({"argv": ("true",), "files": {"/tmp/x": ""}}, "files: /tmp/x is not inside the working directory"),
        ({"argv": ("true",), "files": {"a": "", "a/b": ""}}, "files: a/b cannot be written: File exists"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_start_says_why(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    assert failure(tmp_path, launch_of(A, **fields)) == message
    assert os.listdir(tmp_path / "state" / "runs" / "live") == []


def test_files_are_written_before_the_start(tmp_path: Path) -> None:
    files = {"conf/a.json": "{}\n", "conf/b c.txt": "é"}
    order = launch_of(A, script='cat conf/a.json "conf/b c.txt"; ls conf', files=files)
    assert run_well(tmp_path, order) == ["{}\néa.json\nb c.txt\n"]


def test_files_do_not_leave_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "out").symlink_to(tmp_path)
    order = launch_of(A, argv=("true",), base_dir=str(tmp_path / "base"), files={"out/stolen": "x"})
    with pytest.raises(Unstartable, match="not inside"):
        prepare(Here(Folders(str(tmp_path / "root"))), order, 0, {}, "")
    assert not (tmp_path / "stolen").exists()


# --------------------------------------------------------------------------------------------------------- launchers


def tool(folder: Path, name: str, script: str) -> dict[str, str]:
    """A stand-in for a program that is not installed here, on a PATH of its own."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{path.parent}:{os.environ['PATH']}"}


def test_torchrun_gets_script_command_and_function(tmp_path: Path) -> None:
    env = tool(tmp_path, "torchrun", 'echo "$PET_NODE_RANK of $PET_NNODES:" "$@"')
    kinds: list[tuple[dict[str, object], str]] = [
        ({"script": "train.py --lr '0.1 0.2'\n"}, "train.py --lr 0.1 0.2"),
        ({"argv": ("train.py", "--lr", "0.1 0.2")}, "train.py --lr 0.1 0.2"),
        ({"function": "mine:train"}, "-m ffd.sdk.call mine:train"),
    ]
    for number, (fields, words) in enumerate(kinds, start=1):
        order = launch_of(attempt_of("a", number), 2, env=env, launcher="torchrun", **fields)
        assert run_well(tmp_path, order) == [f"0 of 2: {words}\n", f"1 of 2: {words}\n"]


def mpi_gang(folder: Path, attempt: AttemptId, mpirun: str) -> Launch:
    """Of three replicas with two GPUs each."""
    folder.mkdir()
    places = tuple(Place("here", (2 * k, 2 * k + 1)) for k in range(3))
    env = tool(folder, "mpirun", mpirun)
    return launch_of(attempt, argv=("solve", "-n 1"), env=env, launcher="mpi", places=places, resources=GPUS)


def test_mpi_runs_in_rank_0_while_the_others_hold_their_places(tmp_path: Path) -> None:
    """One whose rank 0 is held loses nobody while another, which began later, runs to its end. (Of one gang the exits
    may be told in any order: whoever holds its place sees rank 0 end before anybody else does.)"""
    os.mkfifo(tmp_path / "go")
    held = mpi_gang(tmp_path / "held", A, f'read -r _ < {tmp_path}/go; echo "$@"')
    quick = mpi_gang(tmp_path / "quick", attempt_of("b"), "true")

    async def check(world: LocalWorld) -> None:
        async with opened(world) as watched:
            await watched.launch(held)
            await watched.started(A, 3)
            await watched.launch(quick)
            await watched.exits(quick.attempt, 3)
            assert not exits_of(watched.reports, A), "a place was given up before rank 0 had ended"
            pipe = os.open(tmp_path / "go", os.O_RDWR)
            os.write(pipe, b"\n")
            exits = await watched.exits(A, 3)
            os.close(pipe)
            assert [(exited.rank, exited.exit_code) for exited in exits] == [(0, 0), (1, 0), (2, 0)]

    asyncio.run(check(LocalWorld(tmp_path)))
    log = own(tmp_path, held, "log").read_text()
    assert log == "-np 6 --host 127.0.0.1:6 solve -n 1\n"


# ----------------------------------------------------------------------------------------------------------- remains


@pytest.mark.parametrize(
    ("data", "pairs", "fault"),
    [
        (b"", (), ""),
        (b"\n \n", (), ""),
        (b"rows=3\nname=a=b\n empty=\r\nlast=x", (("rows", "3"), ("name", "a=b"), ("empty", ""), ("last", "x")), ""),
        ("sep=a\u2028b\x0bc\n".encode(), (("sep", "a\u2028b\x0bc"),), ""),
        (b' {"rows": 3, "deep": {"x": [1, null]}}\n', (("rows", 3), ("deep", {"x": [1, None]})), ""),
        (b"rows\n", (), "line 1 of $FFD_OUTPUT is not name=value"),
        (b"ok=1\n=x\n", (), "line 2 of $FFD_OUTPUT is not name=value"),
        (b"name=\xff\n", (), "$FFD_OUTPUT is not UTF-8"),
        (b'{"a": "\xff"}', (), "$FFD_OUTPUT is not UTF-8"),
        (b"x=" + b"y" * 100, (), "$FFD_OUTPUT has more than 100 bytes (limits.output_bytes)"),
    ],
)
def test_outputs_are_read(tmp_path: Path, data: bytes, pairs: tuple[tuple[str, object], ...], fault: str) -> None:
    (tmp_path / "output").write_bytes(data)
    are_json = data.lstrip().startswith(b"{") and not fault
    assert remains.read_outputs(str(tmp_path / "output"), 100) == remains.Outputs(pairs, fault, are_json)


@pytest.mark.parametrize("data", [b"{", b"{}x", b'{"a": }', b'{"a":' * 2000])
def test_what_begins_as_an_object_must_be_one(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "output").write_bytes(data)
    outputs = remains.read_outputs(str(tmp_path / "output"), 1 << 20)
    assert outputs.pairs == ()
    assert outputs.fault.startswith("$FFD_OUTPUT begins with { but is no JSON object: ")


def test_outputs_that_are_no_file_do_not_hold_anybody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        assert remains.read_outputs(str(path), 100).fault == "$FFD_OUTPUT cannot be read: not a regular file"
    assert remains.read_outputs(str(tmp_path / "missing"), 100) == remains.Outputs()


def test_a_good_exit_with_bad_outputs_says_so(tmp_path: Path) -> None:
    (exited,) = run(tmp_path, launch_of(A, script='echo seen; echo nonsense > "$FFD_OUTPUT"'))
    assert isinstance(exited, ReplicaExited)
    assert (exited.exit_code, exited.output_fault) == (0, "line 1 of $FFD_OUTPUT is not name=value")
    assert exited.tail == "seen"


@pytest.mark.parametrize(
    ("data", "tail"),
    [
        (b"", ""),
        (b"one\ntwo\n", "one\ntwo"),
        (b"".join(b"%d\n" % k for k in range(30)), "\n".join(str(k) for k in range(10, 30))),
        (b"x" * 1000, "x" * 100),
        (b"\xff\x00ok\n", "\ufffd\x00ok"),
    ],
)
def test_the_tail_is_the_last_lines(tmp_path: Path, data: bytes, tail: str) -> None:
    (tmp_path / "log").write_bytes(data)
    assert remains.read_tail(str(tmp_path / "log"), 100) == tail


STARTED = Facts("b", has_started=True, pid=5)


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        (msgspec.structs.replace(STARTED, exit_code=0), remains.Exit(0)),
        (msgspec.structs.replace(STARTED, exit_code=137), remains.Exit(137)),
        (msgspec.structs.replace(STARTED, signal=9), remains.Exit(signal=9)),
        (msgspec.structs.replace(STARTED, boot_id="other", exit_code=0), remains.Exit(0)),
        (
            msgspec.structs.replace(STARTED, boot_id="other"),
            remains.Exit(kind="node-lost", message="the machine restarted while it ran"),
        ),
        (Facts(is_barred=True), remains.Exit(message="it was stopped before it started")),
    ],
    ids=str,
)
def test_how_it_ended(facts: Facts, wanted: remains.Exit) -> None:
    assert remains.exit_of(facts, "b") == wanted


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (b"", Facts()),
        (b"boot b\nstart\npid 5\nexit 3\n", Facts("b", True, 5, 3)),
        (b"boot b\nstart\npid 5\nsignal 15\n", Facts("b", True, 5, -1, 15)),
        (b"boot b\nstart\npid 5\nexit 3", Facts("b", True, 5)),
        (b"boot b\nstart", Facts("b")),
        (b"boot \xff\nnonsense\n\npid x\nexit -1\n", Facts("\ufffd")),
        (b"barred\n", Facts(is_barred=True)),
    ],
)
def test_records_are_read_line_by_line(data: bytes, facts: Facts) -> None:
    assert parse(data) == facts


def test_as_many_directories_are_made_in_advance_as_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = tmp_path / "spare"

    async def check() -> None:
        folders = Folders(str(tmp_path))
        folders.open()
        for count in (0, LEAST_COUNT + 5, MOST_COUNT + 1):
            monkeypatch.setattr(warden, "REST_MS", 60_000)
            for number in range(count):
                folders.make(str(tmp_path / f"{count}.{number}"))
            monkeypatch.setattr(warden, "REST_MS", 0)
            folders.fill()
            expected = max(LEAST_COUNT, min(count, MOST_COUNT))
            async with asyncio.timeout(60):
                while len(os.listdir(spare)) < expected:
                    await anyio.lowlevel.checkpoint()
        await folders.close()

    asyncio.run(check())
    again = Folders(str(tmp_path))
    again.open()
    again.make(str(tmp_path / "again"))
    assert len(os.listdir(spare)) == MOST_COUNT - 1
