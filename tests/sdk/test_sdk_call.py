"""`python -m ffd.sdk.call module:function`: arguments in, outputs out, faults in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sdk_fakes import PATIENCE_S

ROOT = Path(__file__).parents[2]

MODULE = """
import asyncio
import ffd

class Holder:
    @staticmethod
    def inner():
        return {"where": "inside"}

def rows(src, shard=0):
    return {"rows": len(src) * 10 + shard, "src": src}

async def later(n):
    return n + 1

def nothing():
    print("hello")

def fails(depth=2):
    if depth:
        return fails(depth - 1)
    raise ValueError("bad data")

async def fails_later():
    raise ValueError("bad data later")

def sets_itself():
    ffd.set_output("early", 1)
    return {"late": "two\\nlines", "more": [1]}

def leaves():
    raise SystemExit(7)

def gives(kind):
    return {"nan": {"x": float("nan")}, "name": {"a-b": 1}, "object": object(), "large": {"x": "y" * (2 << 20)},
            "total": {f"x{n}": "y" * 300_000 for n in range(4)}}[kind]

value = 3
"""


class Place:
    """A task's working directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.output = directory / "output"
        (directory / "steps.py").write_text(MODULE)

    def call(self, *argv: str, arguments: Any = None, **env: str) -> subprocess.CompletedProcess[str]:
        if arguments is not None:
            (self.directory / "with.json").write_text(json.dumps(arguments))
            env["FFD_WITH_FILE"] = str(self.directory / "with.json")
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "ffd.sdk.call", *argv],
            cwd=self.directory,
            env={"PYTHONPATH": str(ROOT), "FFD_OUTPUT": str(self.output), **env},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def outputs(self) -> Any:
        return json.loads(self.output.read_text())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_dict_becomes_outputs_in_one_object(place: Place) -> None:
    done = place.call("steps:rows", arguments={"src": "abc", "shard": 4})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert place.outputs() == {"rows": 34, "src": "abc"}


def test_anything_else_becomes_result_and_coroutines_are_run(place: Place) -> None:
    assert place.call("steps:later", arguments={"n": 1}).returncode == 0
    assert place.outputs() == {"result": 2}


def test_none_sets_nothing(place: Place) -> None:
    done = place.call("steps:nothing")
    assert (done.returncode, done.stdout) == (0, "hello\n")
    assert not place.output.exists()


def test_an_attribute_path_is_followed(place: Place) -> None:
    assert place.call("steps:Holder.inner").returncode == 0
    assert place.outputs() == {"where": "inside"}


def test_without_the_working_directory_on_the_path_it_is_put_there(place: Place) -> None:
    assert place.call("steps:later", arguments={"n": 1}, PYTHONSAFEPATH="1").returncode == 0


def test_of_several_processes_of_a_replica_the_first_speaks(place: Place) -> None:
    for local_rank in ("1", "0", "2"):
        assert place.call("steps:later", arguments={"n": int(local_rank)}, LOCAL_RANK=local_rank).returncode == 0
    assert place.outputs() == {"result": 1}


def test_an_output_file_in_use_is_continued(place: Place) -> None:
    place.output.write_text("shell=1\n")
    assert place.call("steps:later", arguments={"n": 1}).returncode == 0
    assert place.output.read_text() == "shell=1\nresult=2\n"


def test_what_the_function_set_itself_stays(place: Place) -> None:
    done = place.call("steps:sets_itself")
    assert "line break" in done.stderr  # outside ffd there is no daemon to take it
    assert done.returncode == 1
    assert place.output.read_text() == "early=1\n"


def test_a_fault_is_shown_as_the_users_own(place: Place) -> None:
    done = place.call("steps:fails")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: bad data"
    assert [line for line in lines if 'File "' in line] == [
        f'  File "{place.directory}/steps.py", line {number}, in fails' for number in (21, 21, 22)
    ]


def test_a_fault_of_a_coroutine_too(place: Place) -> None:
    done = place.call("steps:fails_later")
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if 'File "' in line]) == 1
    assert "ffd/sdk" not in done.stderr


def test_a_module_that_fails_to_import_shows_where(place: Place) -> None:
    (place.directory / "broken.py").write_text("import not_there_at_all\n")
    done = place.call("broken:f")
    assert done.returncode == 1
    assert "No module named 'not_there_at_all'" in done.stderr
    assert [line for line in done.stderr.splitlines() if 'File "' in line] == [
        f'  File "{place.directory}/broken.py", line 1, in <module>'
    ]


@pytest.mark.parametrize(
    ("argv", "arguments", "words"),
    [
        ((), None, "usage: python -m ffd.sdk.call module:function"),
        (("steps",), None, "'steps' is not module:function"),
        (("nowhere.at_all:f",), None, "there is no module nowhere to call"),
        (("steps:missing",), None, "steps has no missing"),
        (("steps:value",), None, "steps:value is not a function, it is a int"),
        (("steps:rows",), {}, "missing a required argument: 'src'"),
        (("steps:rows",), {"src": "a", "shart": 1}, "got an unexpected keyword argument 'shart'"),
        (("steps:rows",), [1], "FFD_WITH_FILE must hold a JSON object"),
        (("steps:gives",), {"kind": "nan"}, "output x is nan, which JSON cannot hold"),
        (("steps:gives",), {"kind": "name"}, "must be an identifier"),
        (("steps:gives",), {"kind": "object"}, "output result is a builtins.object, which is not JSON"),
        (("steps:gives",), {"kind": "large"}, "over the limit MAX_VALUE_BYTES"),
        (("steps:gives",), {"kind": "total"}, "over the limit MAX_OUTPUT_FILE_BYTES"),
    ],
)
def test_what_cannot_be_called_or_kept_is_said_in_one_line(
    place: Place, argv: tuple[str, ...], arguments: Any, words: str
) -> None:
    done = place.call(*argv, arguments=arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not place.output.exists()


def test_a_missing_or_broken_arguments_file_is_said(place: Place) -> None:
    assert "FFD_WITH_FILE cannot be read" in place.call("steps:rows", FFD_WITH_FILE="/nowhere/with.json").stderr
    (place.directory / "bad.json").write_text("{")
    bad = os.fspath(place.directory / "bad.json")
    assert "FFD_WITH_FILE cannot be read" in place.call("steps:rows", FFD_WITH_FILE=bad).stderr


def test_an_exit_of_the_function_is_its_own(place: Place) -> None:
    assert place.call("steps:leaves").returncode == 7
