"""Exit codes are a promise to scripts; errors are one line and a hint, never a trace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_network import Network
from conftest import Ffd

from ffd.cli import exits
from ffd.core.pages import WorkflowPage
from ffd.errors import Fenced, FfdError, PluginError, Refusal, Unavailable

ROOT = Path(__file__).parents[2]
HELLO = WorkflowPage(id=1, handle="hello.1", name="hello", project="default", state="succeeded")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refusal("no", code="invalid"), 2),
        (Refusal("no", code="forbidden"), 4),
        (Refusal("no", code="unauthenticated"), 4),
        (Unavailable("no"), 5),
        (Fenced("no"), 5),
        (FfdError("the daemon failed"), 5),
        (Refusal("no", code="not_found"), 6),
        (Refusal("no", code="conflict"), 7),
        (Refusal("no", code="limit"), 7),
        (Refusal("no", code="unsupported"), 7),
        (Refusal("no", code="superseded"), 7),
        (Refusal("no", code="storage_full"), 7),
        (Refusal("no", code="a word of tomorrow"), 7),
        (PluginError("no"), 7),
    ],
)
def test_each_refusal_has_its_code(ffd: Ffd, network: Network, error: FfdError, code: int) -> None:
    error.hint = "do that"
    network.fail["status"] = error
    result = ffd("daemon", "status")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == f"error: {error.message}\nhint: do that\n"


def test_the_error_of_a_task_group_is_told_like_any_other(ffd: Ffd, network: Network) -> None:
    def fail(_: object) -> None:
        raise ExceptionGroup("many", [ExceptionGroup("inner", [ValueError("x"), Unavailable("gone")])])

    network.on["status"] = fail
    result = ffd("daemon", "status")
    assert (result.exit_code, result.stderr) == (5, "error: gone\n")


def test_ctrl_c_is_130(ffd: Ffd, network: Network) -> None:
    def press(_: object) -> None:
        raise KeyboardInterrupt

    network.on["status"] = press
    assert ffd("daemon", "status").exit_code == exits.INTERRUPTED


@pytest.mark.parametrize(
    "arguments",
    [
        ("lss",),
        ("ls", "--stat", "running"),
        ("ls", "--state", "runing"),
        ("ls", "-o", "xml"),
        ("get",),
        ("get", "a/b/c"),
        ("cancel", "hello.1/hi"),
        ("set", "hello.1", "prio=3"),
        ("set", "hello.1", "priority=1001"),
        ("set", "hello.1", "priority=-1"),
        ("wait", "hello.1", "--timeout", "soon"),
        ("logs", "hello.1", "--rank", "first"),
        ("logs", "hello.1", "--grep", "("),
        ("run", "no-such-file.yaml"),
        ("run", "x.yaml", "-p", "novalue"),
        ("submit",),
    ],
)
def test_a_wrong_call_is_2_and_says_so(ffd: Ffd, network: Network, arguments: tuple[str, ...]) -> None:
    network.workflows = [HELLO]
    result = ffd(*arguments)
    assert result.exit_code == 2, result.output
    assert "error: " in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_a_mistyped_verb_gets_the_nearest(ffd: Ffd) -> None:
    assert "Did you mean cancel?" in ffd("cancl").stderr


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 9)])
def test_wait_ends_with_the_result(ffd: Ffd, network: Network, state: str, code: int) -> None:
    network.workflows = [WorkflowPage(id=1, handle="hello.1", name="hello", project="default", state=state)]
    assert ffd("wait", "hello.1").exit_code == code


def test_what_a_name_cannot_be_reaches_the_terminal_in_visible_form(ffd: Ffd) -> None:
    result = ffd("get", "evil\x1b[31m\x07.1")
    assert result.exit_code == 6
    assert "\x1b" not in result.stderr and "\x07" not in result.stderr
    assert "evil\\x1b[31m\\x07.1" in result.stderr


def run_real(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program as a process of its own."""
    command = [sys.executable, "-W", "error", "-m", "ffd.cli.main", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
    )


def test_no_verb_is_usage() -> None:
    result = run_real()
    assert (result.returncode, result.stdout) == (2, "")
    assert "ffd run FILE" in result.stderr


def test_a_bug_is_one_line_unless_asked() -> None:
    script = (
        "import sys; from ffd.cli import main; "
        "main.VERBS['ls'] = main.Place('Daily', 'about:no_such_command', ''); "
        "sys.argv = ['ffd', 'ls']; main.main()"
    )
    command = [sys.executable, "-c", script]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    assert plain.returncode == 1
    assert plain.stderr.startswith("error: a bug in ffd: AttributeError: ")
    assert "Traceback" not in plain.stderr
    asked = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "FFD_DEBUG": "1"})
    assert "Traceback" in asked.stderr
