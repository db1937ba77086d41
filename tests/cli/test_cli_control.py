"""Verbs that change a workflow, and wait: what is asked, what is said, how it ends."""

from __future__ import annotations

import anyio
import msgspec
import pytest
from cli_network import Network, Story
from conftest import Ffd

from ffd.core.pages import NodePage, WorkflowPage
from ffd.errors import Refusal


@pytest.fixture
def running(network: Network) -> Network:
    network.workflows = [
        WorkflowPage(id=1, handle="hello.1", name="hello", project="default", state="running", number=7),
        WorkflowPage(id=2, handle="hello.2", name="hello", project="default", state="running", number=7),
    ]
    return network


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ("cancel hello.1", ("cancel", {"ref": "hello.1", "now": False, "key": ""})),
        ("cancel hello.1 --now --idempotency-key k", ("cancel", {"ref": "hello.1", "now": True, "key": "k"})),
        ("suspend hello.1", ("suspend", {"ref": "hello.1", "key": ""})),
        ("resume hello.1", ("resume", {"ref": "hello.1", "key": ""})),
        ("retry hello.1", ("retry", {"ref": "hello.1", "key": ""})),
        ("set hello.1 priority=0", ("set_priority", {"ref": "hello.1", "priority": 0, "key": ""})),
        ("daemon stop", ("stop_daemon", {})),
    ],
)
def test_what_is_asked(ffd: Ffd, running: Network, arguments: str, asked: tuple[str, dict[str, object]]) -> None:
    result = ffd(*arguments.split())
    assert result.exit_code == 0, result.stderr
    assert running.asked(asked[0]) == [asked[1]]
    assert result.stdout == ("" if asked[0] == "stop_daemon" else "hello.1 running\n")


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ("nodes n1", ("node", {"name": "n1"})),
        ("nodes show drain", ("node", {"name": "drain"})),
        ("nodes cordon a b -l rack=r7 --why x", ("cordon", {"labels": {"rack": "r7"}, "why": "x", "key": ""})),
        ("nodes uncordon a b --idempotency-key k", ("uncordon", {"labels": {}, "key": "k"})),
        ("nodes drain a b --grace 2m", ("drain", {"labels": {}, "why": "", "grace_ms": 120_000, "key": ""})),
        ("nodes drain a b --dry-run", ("preview_drain", {"labels": {}, "grace_ms": None})),
        ("queue --project p/q", ("queue", {"project": "p/q"})),
        ("queue", ("queue", {"project": ""})),
    ],
)
def test_what_is_asked_of_the_cluster(
    ffd: Ffd, network: Network, arguments: str, asked: tuple[str, dict[str, object]]
) -> None:
    network.node_pages = [NodePage(name="n1"), NodePage(name="drain")]
    result = ffd(*arguments.split())
    assert result.exit_code == 0, result.stderr
    more = {"nodes": ("a", "b")} if "labels" in asked[1] else {}
    assert network.asked(asked[0]) == [{**more, **asked[1]}]


def test_several_at_once_and_one_refusal(ffd: Ffd, running: Network) -> None:
    result = ffd("suspend", "hello.1", "nobody.9", "hello.2")
    assert (result.exit_code, result.stdout) == (6, "hello.1 running\nhello.2 running\n")
    assert 'error: no workflow "nobody.9"' in result.stderr


def test_options_may_stand_before_the_verb_or_behind_it(ffd: Ffd, running: Network) -> None:
    ffd("--address", "grpc://a:1", "--project", "p/q", "nodes")
    ffd("--address", "grpc://a:1", "nodes", "--address", "grpc://b:1")
    assert [call["address"] for call in running.asked("connect")] == ["grpc://a:1", "grpc://b:1"]
    assert running.asked("connect")[0]["project"] == "p/q"


def test_every_connection_is_closed(ffd: Ffd, running: Network) -> None:
    running.fail["nodes"] = Refusal("no", code="forbidden")
    ffd("nodes")
    assert [name for name, _ in running.calls] == ["connect", "nodes", "close"]


# ------------------------------------------------------------------------------------------------------------- wait


def turn(network: Network, story: Story, kind: str, state: str) -> None:
    """The workflow gets into `state`, and its watchers hear of it."""
    story.add(kind, state=state)
    network.workflows[0] = msgspec.structs.replace(network.workflows[0], state=state)


@pytest.mark.parametrize(
    ("wanted", "kind", "state", "code"),
    [
        ("ended", "WorkflowEnded", "succeeded", 0),
        ("ended", "WorkflowEnded", "failed", 1),
        ("ended", "WorkflowEnded", "cancelled", 9),
        ("suspended", "WorkflowSuspended", "suspended", 0),
        ("failed", "WorkflowEnded", "failed", 0),
        ("failed", "WorkflowEnded", "succeeded", 1),
        ("suspended", "WorkflowEnded", "cancelled", 9),
    ],
)
def test_wait_sees_the_change(ffd: Ffd, running: Network, wanted: str, kind: str, state: str, code: int) -> None:
    story = Story(running)
    for _ in range(7):
        story.add("AttemptRunning", "a", 0, 1)  # before the page that wait starts from
    running.hold = anyio.Event()

    def later(_: object) -> None:
        turn(running, story, kind, state)
        assert running.hold is not None
        running.hold.set()

    running.on["hold"] = later
    result = ffd("wait", "hello.1", "--for", wanted)
    assert result.exit_code == code, result.stderr
    assert running.asked("watch") == [{"ref": "1", "token": "7.0"}]


def test_wait_that_is_too_late_for_a_state_says_so(ffd: Ffd, running: Network) -> None:
    running.workflows[0] = msgspec.structs.replace(running.workflows[0], state="succeeded")
    result = ffd("wait", "hello.1", "--for", "running")
    assert result.exit_code == 1
    assert "it is succeeded and will not be running any more" in result.stderr


def test_wait_times_out_with_8(ffd: Ffd, running: Network) -> None:
    running.hold = anyio.Event()
    result = ffd("wait", "hello.1", "--timeout", "1ms")
    assert (result.exit_code, result.stderr) == (8, "error: hello.1 has not ended after 1ms\n")
