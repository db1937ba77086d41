"""The documentation is true: what it says one types is typed here, and what it says comes out must come out.

In each document, in order: ```yaml file=NAME, ```csv file=NAME and ```python file=NAME blocks are written into a fresh
directory; ```console blocks are run there. In a console block `$ ffd ...` is typed, the lines below it must come out in
this order (others may come between; `...` stands for anything); `exit=N` is the exit code of the block's last command,
all others are 0; `skip=REASON` is not run. `$ ffd daemon run ... &` starts one and waits until it leads.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w+)([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOCUMENTS = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "parts"),  # parts of generated pages
]
RUNNABLE = [path for path in DOCUMENTS if "\n```console" in path.read_text()]
COMMAND_S = 60.0  # a command that takes longer hangs


class Reader:
    """One who reads a document and does what it says, in a directory and with daemons of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.daemon: subprocess.Popen[str] | None = None
        (home / "work").mkdir()
        (home / "run").mkdir(mode=0o700)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FFD_", "XDG_"))}
        self.environment = {
            **inherited,
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",  # stdout and stderr in the order of a terminal
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "COLUMNS": "120",
        }

    def read(self, text: str) -> int:
        """Do everything the text says; the number of commands that were typed. AssertionError where it is not true."""
        count = 0
        for kind, info, body in FENCE.findall(text):
            options = dict(word.split("=", 1) for word in shlex.split(info) if "=" in word)
            if kind in ("yaml", "python", "toml", "csv") and "file" in options:
                (self.home / "work" / options["file"]).write_text(body)
            elif kind == "console" and "skip" in options:
                print(f"not run: {options['skip']}: {body.splitlines()[0]}")
            elif kind == "console":
                count += self._console(body, int(options.get("exit", "0")))
        return count

    def _console(self, body: str, exit_code: int) -> int:
        steps: list[tuple[str, list[str]]] = []
        for line in body.splitlines():
            if line.startswith("$ "):
                steps.append((line.removeprefix("$ "), []))
            else:
                steps[-1][1].append(line)
        for index, (command, expected) in enumerate(steps):
            self._type(command, expected, exit_code if index == len(steps) - 1 else 0)
        return len(steps)

    def _type(self, command: str, expected: list[str], exit_code: int) -> None:
        words = shlex.split(command)
        assert words[0] == "ffd", f"only ffd can be typed here (or mark the block skip=REASON): {command}"
        if words[-1] == "&":
            self._start(words[1:-1])
            return
        done = subprocess.run(
            [sys.executable, "-m", "ffd.cli.main", *words[1:]], cwd=self.home / "work", env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=COMMAND_S,
        )  # fmt: skip
        assert done.returncode == exit_code, f"$ {command}: exit code {done.returncode}\n{done.stdout}"
        missing = first_missing(expected, done.stdout.splitlines())
        assert missing is None, f"$ {command}: {missing!r} did not come out of\n{done.stdout}"
        if words[1:3] == ["daemon", "stop"]:
            self._wait()

    def _start(self, words: list[str]) -> None:
        assert self.daemon is None
        self.daemon = subprocess.Popen(
            [sys.executable, "-m", "ffd.cli.main", *words], cwd=self.home / "work", env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.daemon.stderr is not None
        lines: list[str] = []
        for line in self.daemon.stderr:
            lines.append(line)
            if '"event": "loaded"' in line:
                return
        raise AssertionError(f"the daemon ended: {''.join(lines)}")

    def leave(self) -> None:
        """Stop the daemon, if there is one, and wait until it is gone."""
        if self.daemon is not None:
            self.daemon.terminate()
            self._wait()

    def _wait(self) -> None:
        if self.daemon is not None:
            self.daemon.communicate(timeout=COMMAND_S)
            self.daemon = None


def first_missing(expected: list[str], lines: list[str]) -> str | None:
    """The first expected line that does not come, in order, in `lines`; None when all do."""
    rest = iter(lines)
    for wanted in expected:
        pattern = re.compile(r"\s*" + ".*".join(map(re.escape, wanted.strip().split("..."))) + r"\s*")
        if wanted.strip() not in ("", "...") and not any(pattern.fullmatch(line) for line in rest):
            return wanted
    return None


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_document_says_is_true(path: Path, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    try:
        reader.read(path.read_text())
    finally:
        reader.leave()


def test_a_document_that_lies_is_found(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    assert reader.read("```console\n$ ffd version\nffd 0...\n```\n") == 1
    with pytest.raises(AssertionError, match="did not come out"):
        reader.read("```console\n$ ffd version\nfff 0...\n```\n")
    with pytest.raises(AssertionError, match="exit code 0"):
        reader.read("```console exit=1\n$ ffd version\n```\n")


def test_lines_are_expected_in_order() -> None:
    assert first_missing(["a", "...", "c ... e"], ["a", "b", "  c d e"]) is None
    assert first_missing(["c", "a"], ["a", "c"]) == "a"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_generated_reference_is_up_to_date() -> None:
    """In a process of its own: what other tests did to the command line must not show."""
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_S)
    assert (found.returncode, found.stderr) == (0, "")
