"""run and submit: what is sent, how it is followed, what ctrl+c does, how it ends."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest
from cli_network import Network, Story
from conftest import Ffd

from ffd.cli import embedded
from ffd.cli.address import Config
from ffd.core.document import Fault
from ffd.core.model import Cause
from ffd.core.pages import Explain, TaskPage, WorkflowPage
from ffd.errors import Refusal, Unavailable

DOCUMENT = "name: hello\ntasks:\n  hi: {run: exit 3}\n"


class InvalidDocument(Refusal):
    """As the client raises it."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("invalid")
        self.faults = faults


@pytest.fixture
def document(home: Path) -> Path:
    path = home / "work" / "hello.yaml"
    path.write_text(DOCUMENT)
    return path


@pytest.fixture
def story(network: Network) -> Story:
    """hello.1 with a task `hi` and a fan-out `many` after it; its story is empty yet."""
    page = WorkflowPage(id=1, handle="hello.1", name="hello", project="default", state="running", accepted_at_ms=1000)
    network.workflows = [page]
    network.task_pages["hello.1"] = [
        TaskPage(workflow="hello.1", name="hi", state="waiting"),
        TaskPage(workflow="hello.1", name="many", state="waiting", fanout=True, needs=("hi",)),
    ]
    story = Story(network)
    story.add("WorkflowAccepted")
    story.add("WorkflowStarted")
    return story


def fail_hi(story: Story) -> None:
    """`hi` fails with exit code 3, and with it the workflow."""
    network = story.network
    cause = {
        "kind": "error",
        "exit_code": 3,
        "tail": "one\ntwo \x1b[31m\n",
        "task": "hi",
        "item": 0,
        "attempt": 1,
        "rank": 0,
    }
    story.add("TaskOpened", "hi", item_count=1, foreach=None)
    story.attempt("hi", "failed", cause)
    story.add("TaskEnded", "hi", state="failed", cause=cause)
    story.add("WorkflowDoomed", verdict="failed", skip_finally=False, cause=cause)
    story.add("TaskEnded", "many", state="skipped", cause=None)
    story.add("WorkflowEnded", state="failed", cause=cause)
    network.workflows[0] = msgspec.structs.replace(
        network.workflows[0], state="failed", ended_at_ms=61_000, counts={"failed": 1, "skipped": 1},
        cause=msgspec.convert(cause, Cause),
    )  # fmt: skip


def end(story: Story, state: str) -> None:
    story.add("WorkflowEnded", state=state, cause=None)
    page = story.network.workflows[0]
    story.network.workflows[0] = msgspec.structs.replace(page, state=state, ended_at_ms=61_000)


ADDRESS = ("--address", "grpc://there:1")


def test_run_ends_with_the_result_and_says_why(ffd: Ffd, document: Path, story: Story) -> None:
    fail_hi(story)
    result = ffd("run", str(document), *ADDRESS)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "hello.1 submitted to project default",
        "00:00:01 workflow accepted",
        "00:00:02 workflow running",
        "00:00:06 hi running on n1",
        "00:00:09 hi failed: exit code 3",
        "00:00:10 workflow will be failed: hi: exit code 3",
        "00:00:11 many skipped",
        "cause: hi: exit code 3",
        "  | one",
        "  | two \\x1b[31m",
        "logs:  ffd logs 'hello.1/hi#1:0'",
        "hello.1 failed in 1m00s: 1 failed, 1 skipped",
    ]


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("cancelled", 9)])
def test_the_other_ends(ffd: Ffd, document: Path, story: Story, state: str, code: int) -> None:
    end(story, state)
    assert ffd("run", str(document), *ADDRESS, "--progress", "quiet").exit_code == code


def test_json_progress_is_one_event_per_line(ffd: Ffd, document: Path, story: Story) -> None:
    fail_hi(story)
    result = ffd("run", str(document), *ADDRESS, "--progress", "json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["kind"] for event in events] == [commit[0].kind for commit in story.network.commits]
    assert all("data" in event and "attempt" in event for event in events)


def test_a_gap_is_read_again_from_the_story(ffd: Ffd, document: Path, story: Story) -> None:
    fail_hi(story)
    story.network.gaps = [5]
    result = ffd("run", str(document), *ADDRESS, "--progress", "json")
    assert [json.loads(line)["number"] for line in result.stdout.splitlines()] == list(range(1, 13))
    assert [call["token"] for call in story.network.asked("watch")] == ["0.0", "5.1"]


def test_what_is_sent(ffd: Ffd, document: Path, home: Path, story: Story) -> None:
    end(story, "succeeded")
    (home / "work/params.yaml").write_text("steps: 3\nnames: [no, 'yes']\n")
    params = ("-p", "lr=1e-4", "-p", "x=a=b", "--params-file", "params.yaml")
    ffd("run", str(document), *ADDRESS, *params, "--priority", "7", "--project", "p/q")
    (sent,) = story.network.asked("submit")
    assert sent["source"] == DOCUMENT.encode()
    assert sent["filename"] == str(document)
    assert (sent["params"], sent["params_text"]) == ({"steps": 3, "names": ["no", "yes"]}, {"lr": "1e-4", "x": "a=b"})
    assert (sent["priority"], sent["project"], sent["base_dir"]) == (7, "p/q", "")
    assert len(sent["key"]) >= 16


def test_the_working_directory_goes_to_daemons_of_this_machine_only(ffd: Ffd, network: Network, document: Path) -> None:
    ffd("submit", str(document), "--address", "unix:/some/socket")
    ffd("submit", str(document), *ADDRESS)
    assert [sent["base_dir"] for sent in network.asked("submit")] == [os.getcwd(), ""]


def test_submit_prints_the_handle_alone(ffd: Ffd, network: Network) -> None:
    result = ffd("submit", "-", "--address", "unix:/some/socket", input=DOCUMENT)
    assert (result.stdout, result.stderr, result.exit_code) == ("hello.1\n", "", 0)
    (sent,) = network.asked("submit")
    assert (sent["filename"], sent["base_dir"]) == ("<stdin>", os.getcwd())


def test_dry_run_submits_nothing_and_says_so(ffd: Ffd, network: Network, document: Path) -> None:
    result = ffd("submit", str(document), "--dry-run")
    assert network.asked("submit")[0]["dry_run"] is True
    assert (result.stdout, result.exit_code) == ("", 0)
    assert "is valid; nothing was submitted" in result.stderr


def test_an_invalid_document_is_3_with_every_fault(ffd: Ffd, network: Network, document: Path) -> None:
    network.fail["submit"] = InvalidDocument(Fault("unknown field `rn`", "tasks.hi.rn", 3, 8, "did you mean `run`?"))
    for verb in ("submit", "run"):
        result = ffd(verb, str(document), *ADDRESS)
        assert (result.exit_code, result.stdout) == (3, "")
        assert f"{document}:3:8: tasks.hi.rn: unknown field" in result.stderr
        assert "  3 |   hi: {run: exit 3}" in result.stderr
        assert result.stderr.endswith("1 fault; nothing was submitted\n")


def test_one_refused_document_does_not_keep_the_others_back(ffd: Ffd, network: Network, document: Path) -> None:
    def refuse_first(_: object) -> None:
        if len(network.asked("submit")) == 1:
            raise Refusal("too many", code="limit", field="limits.live_workflows_count")

    network.on["submit"] = refuse_first
    result = ffd("submit", str(document), str(document))
    assert (result.exit_code, result.stdout) == (7, "hello.1\n")
    assert "error: too many (limits.live_workflows_count)" in result.stderr


def test_a_wrong_params_file_is_usage_with_its_place(ffd: Ffd, home: Path, document: Path) -> None:
    (home / "work/p.yaml").write_text("a: 1\na: 2\n")
    result = ffd("submit", str(document), "--params-file", "p.yaml")
    assert result.exit_code == 2
    assert "p.yaml:2:1" in result.stderr
    (home / "work/p.yaml").write_text("[1]\n")
    assert ffd("submit", str(document), "--params-file", "p.yaml").exit_code == 2


# ------------------------------------------------------------------------------------------------------- interrupts


def interrupt(_: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_without_a_terminal_cancels_and_waits(ffd: Ffd, document: Path, story: Story) -> None:
    network = story.network
    network.hold = anyio.Event()
    network.on["hold"] = interrupt

    def cancelled(_: object) -> None:
        end(story, "cancelled")
        assert network.hold is not None
        network.hold.set()

    network.on["cancel"] = cancelled
    result = ffd("run", str(document), *ADDRESS)
    assert result.exit_code == 9
    assert network.asked("cancel") == [{"ref": "1", "now": False, "key": ""}]
    assert "cancelling hello.1; ctrl+c again leaves at once" in result.stderr


def test_a_second_ctrl_c_leaves_at_once(ffd: Ffd, document: Path, story: Story) -> None:
    story.network.hold = anyio.Event()
    story.network.on["hold"] = interrupt
    story.network.on["cancel"] = interrupt
    result = ffd("run", str(document), *ADDRESS)
    assert result.exit_code == 130
    assert "hello.1 goes on; ffd wait hello.1 waits for it" in result.stderr


# --------------------------------------------------------------------------------------------------------- embedded


@pytest.fixture
def daemons(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses of the embedded daemons that were started, in place of real ones."""
    started: list[str] = []

    @asynccontextmanager
    async def start(config: Config, pretend: str) -> AsyncIterator[None]:
        started.append(f"{config.address.text} {pretend}".strip())
        yield

    monkeypatch.setattr(embedded, "daemon", start)
    return started


def test_without_a_daemon_one_is_embedded(
    ffd: Ffd, document: Path, story: Story, daemons: list[str], home: Path
) -> None:
    end(story, "succeeded")
    assert ffd("run", str(document), "--pretend", "2x8:H100").exit_code == 0
    assert daemons == [f"unix:{home}/runtime/ffd/ffd.sock 2x8:H100"]
    assert story.network.asked("submit")[0]["base_dir"] == os.getcwd()


def test_state_gives_it_a_socket_of_its_own(
    ffd: Ffd, document: Path, story: Story, daemons: list[str], home: Path
) -> None:
    end(story, "succeeded")
    assert ffd("run", str(document), "--state", "s").exit_code == 0
    assert daemons == [f"unix:{home}/work/s/ffd.sock"]


def test_never_embedded_where_an_address_was_named(
    ffd: Ffd, network: Network, document: Path, daemons: list[str]
) -> None:
    network.fail["submit"] = Unavailable("cannot reach a daemon at unix:/no/where")
    assert ffd("run", str(document), "--address", "unix:/no/where").exit_code == 5
    assert daemons == []


@pytest.mark.parametrize(
    ("options", "code"),
    [(("--detach",), 5), (("--state", "s", "--address", "unix:/x"), 2), (("--pretend", "1x1:A", *ADDRESS), 2)],
)
def test_what_embedding_cannot_do(
    ffd: Ffd, document: Path, daemons: list[str], options: tuple[str, ...], code: int
) -> None:
    assert ffd("run", str(document), *options).exit_code == code
    assert daemons == []


def test_detach_prints_the_handle_and_leaves(ffd: Ffd, network: Network, document: Path) -> None:
    result = ffd("run", str(document), *ADDRESS, "--detach")
    assert (result.exit_code, result.stdout) == (0, "hello.1\n")
    assert network.asked("watch") == []


def test_it_goes_on_when_somebody_elses_embedded_daemon_leaves(
    ffd: Ffd, document: Path, story: Story, daemons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = story.network
    there = [True, False, False]  # it listens when we start, and not any more when the watch breaks
    monkeypatch.setattr(embedded, "is_listening", lambda address: there.pop(0))
    network.hold = anyio.Event()

    def lost(_: object) -> None:
        fail_hi(story)
        network.hold = None
        network.on.clear()
        raise Unavailable("lost the daemon")

    network.on["hold"] = lost
    result = ffd("run", str(document), "--progress", "json")
    assert result.exit_code == 1
    assert len(daemons) == 1
    assert len(network.asked("submit")) == 1
    assert [json.loads(line)["number"] for line in result.stdout.splitlines()] == list(range(1, 13))


def test_the_live_view_shows_what_matters(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn without a terminal: running first, then failed, then waiting with the reason, then counts."""
    from rich.console import Console

    from ffd.cli.board import Board
    from ffd.cli.live import Live

    network = story.network
    network.task_pages["hello.1"] += [
        TaskPage(workflow="hello.1", name="a", state="waiting", finally_=True),
        TaskPage(workflow="hello.1", name="b", state="waiting"),
    ]
    story.add("TaskOpened", "hi", item_count=1, foreach=None)
    story.attempt("hi", "failed", {"kind": "oom"}, ends=False)
    story.add("TaskOpened", "many", item_count=4, foreach=None)
    story.attempt("many", "succeeded", item=0)
    story.add("ItemAdmitted", "many", 1, 1, places=[["n1", []]])
    story.add("AttemptRunning", "many", 1, 1)
    story.add("TaskOpened", "b", item_count=1, foreach=None)
    board = Board("hello.1", network.task_pages["hello.1"])
    for commit in network.commits:
        board.apply(commit[0])
    live = Live(Console(file=open(os.devnull, "w"), width=100, height=40))  # noqa: SIM115
    with live.console.file:
        live.board = board
        live.reasons = {"b": "no room: 8 H100 asked, 0 free"}
        assert live.draw(now_ms=60_000).plain.splitlines() == [
            "hello.1 running  59s",
            "  running    many                     ━━━━━───────────────  1/4  1 running  45s",
            "  ended      hi                       53s  n1",
            "  ready      b                        no room: 8 H100 asked, 0 free  44s",
            "  waiting    a                        runs at the end",
            "  1 running, 3 ready, 1 waiting, 1 succeeded, 1 ended",
        ]


def test_plain_progress_says_why_nothing_goes_on(
    ffd: Ffd, document: Path, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ffd.cli import progress

    network = story.network
    story.add("TaskOpened", "hi", item_count=1, foreach=None)
    network.explains["hello.1", "hi", -1] = Explain(subject="hello.1/hi", state="ready", headline="no room")
    network.hold = anyio.Event()
    monkeypatch.setattr(progress, "SILENCE_SECONDS", 0.001)

    def asked(_: object) -> None:
        if network.hold is not None:
            end(story, "cancelled")
            network.hold.set()

    network.on["why"] = asked
    result = ffd("run", str(document), *ADDRESS)
    assert "hi waits: no room" in result.stderr
