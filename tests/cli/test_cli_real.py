"""The command line as a process, with a real daemon inside `ffd run`: exit codes, output, and what stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-W", "error", "-m", "ffd.cli.main")


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """Our own environment, in an empty home."""
    return {**os.environ, "HOME": str(home), "FFD_DEBUG": "1", "PYTHONPATH": str(ROOT)}


def ffd(environment: dict[str, str], *arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, env=environment, input=input, timeout=120
    )


@pytest.mark.parametrize(
    ("document", "code", "said"),
    [
        ("tasks: {a: {run: echo hello}}", 0, "stdin.1 succeeded in "),
        ("tasks: {a: {run: exit 3}}", 1, "cause: a"),
        ("tasks: {a: {runn: exit 3}}", 3, "did you mean `run`?"),
        ("tasks: {a: {run: x, needs: [nobody]}}", 3, "unknown task `nobody`"),
    ],
)
def test_run_ends_with_the_result(environment: dict[str, str], document: str, code: int, said: str) -> None:
    result = ffd(environment, "run", "-", input=document)
    assert result.returncode == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_params_go_all_the_way(environment: dict[str, str], home: Path) -> None:
    document = "params: {n: {type: int, required: true}}\ntasks: {a: {run: 'test \"${{ params.n + 1 }}\" = 42'}}\n"
    assert ffd(environment, "run", "-", "-p", "n=41", input=document).returncode == 0
    wrong = ffd(environment, "run", "-", "-p", "n=many", input=document)
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_json_progress_of_a_gang_on_pretended_nodes(environment: dict[str, str]) -> None:
    document = "tasks: {g: {gang: 2, resources: {gpus: 'H100:8'}, run: 'exit $FFD_RANK'}}"
    result = ffd(environment, "run", "-", "--pretend", "2x8:H100", "--progress", "json", input=document)
    assert result.returncode == 1, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[0]["kind"] == "WorkflowAccepted"
    assert "WorkflowEnded" in {event["kind"] for event in events}
    assert "cause: g rank 1" in result.stderr


def test_what_ran_is_sound_afterwards(environment: dict[str, str], home: Path) -> None:
    state = str(home / "s")
    assert ffd(environment, "run", "-", "--state", state, input="tasks: {a: {run: 'true'}}").returncode == 0
    checked = ffd(environment, "fsck", "--state", state, "-o", "json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout) == {"state": state, "faults": []}


def test_fsck_makes_nothing(environment: dict[str, str], home: Path) -> None:
    assert ffd(environment, "fsck", "--state", str(home / "nowhere")).returncode == 6
    assert not (home / "nowhere").exists()


def test_nobody_there_is_5(environment: dict[str, str], home: Path) -> None:
    result = ffd(environment, "ls", "--address", f"unix:{home}/none.sock")
    assert (result.returncode, result.stdout) == (5, "")
    assert result.stderr.startswith("error: cannot reach a daemon")


def test_a_wrong_address_is_2(environment: dict[str, str]) -> None:
    assert ffd(environment, "ls", "--address", "ftp://x").returncode == 2


def test_a_daemon_that_cannot_start_says_why(environment: dict[str, str], home: Path) -> None:
    (home / "file").write_text("")
    blocked = ffd(environment, "daemon", "run", "--state", str(home / "file" / "x"))
    assert blocked.returncode == 7
    assert "error: " in blocked.stderr and "Traceback" not in blocked.stderr
    (home / "bad.toml").write_text("[limits]\ninbox = 1\n")
    wrong = ffd(environment, "daemon", "run", "--config", str(home / "bad.toml"))
    assert wrong.returncode == 2
    assert "limits.inbox: unknown setting; did you mean inbox_count?" in wrong.stderr
    assert ffd(environment, "daemon", "run", "--config", str(home / "none.toml")).returncode == 2


def test_a_reader_that_leaves_is_no_error(environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [*COMMAND, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_full_disk_behind_stdout_is_said(environment: dict[str, str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "schema"], stdout=full, stderr=subprocess.PIPE, env=environment, text=True, check=False
        )
    assert done.returncode == 7
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
