"""Calls with a daemon that is there: what they send and give."""

from __future__ import annotations

import json
import threading
from functools import partial

import pytest
from grpclib.const import Status
from sdk_fakes import PATIENCE_S, TOKEN, Daemon, Gate, Hold, Refuse, Task, in_background

from ffd.errors import Refusal
from ffd.sdk.errors import Superseded
from ffd.sdk.live import HEARTBEAT_S
from ffd.sdk.values import Progress


def test_an_output_is_with_the_daemon_when_the_call_returns(daemon: Daemon, task: Task) -> None:
    daemon.start()
    session = task.session()
    session.wait(session.set_output("loss", "0.25"))
    assert daemon.outputs == {"loss": 0.25}
    assert daemon.calls[0].token == f"Bearer {TOKEN}"
    assert task.output_lines() == []


def test_inputs_are_asked_for_once(daemon: Daemon, task: Task) -> None:
    daemon.start()
    session = task.session()
    first = session.wait(session.inputs())
    assert session.wait(session.inputs()) is first
    assert first.outputs == {"tokenize": {"rows": [1, 2, 3], "size": 7}}
    assert first.params == {"lr": 0.1}
    assert (first.workflow, first.handle, first.project, first.restored) == (42, "demo.1", "team/demo", False)
    assert daemon.count("GetInputs") == 1


def test_a_checkpoint_is_given_back(daemon: Daemon, task: Task) -> None:
    daemon.start()
    session = task.session()
    assert session.wait(session.load_checkpoint()) is None
    assert session.wait(session.save_checkpoint('{"step":7}')) is True
    assert session.wait(session.load_checkpoint()) == {"step": 7}
    assert json.loads(daemon.checkpoint) == {"step": 7}
    assert session.wait(session.inputs()).restored


def test_a_refused_output_is_raised_with_code_and_hint(daemon: Daemon, task: Task) -> None:
    daemon.start()
    daemon.script["SetOutput"] = [Refuse(Status.INVALID_ARGUMENT, "output", "loss is not declared", "declare it")]
    session = task.session()
    with pytest.raises(Refusal) as caught:
        session.wait(session.set_output("loss", "1"))
    assert (caught.value.code, caught.value.message, caught.value.hint) == (
        "output",
        "loss is not declared",
        "declare it",
    )
    assert task.output_lines() == []
    assert daemon.count("SetOutput") == 1


def test_a_refused_checkpoint_is_not_kept_for_later(daemon: Daemon, task: Task) -> None:
    daemon.start()
    daemon.script["SaveCheckpoint"] = [Refuse(Status.RESOURCE_EXHAUSTED, "limit", "too large")]
    session = task.session()
    with pytest.raises(Refusal, match="too large"):
        session.wait(session.save_checkpoint('{"step":7}'))
    assert session.wait(session.load_checkpoint()) is None


def test_a_superseded_attempt_is_told_at_its_next_call_and_every_one_after(daemon: Daemon, task: Task) -> None:
    daemon.start()
    session = task.session()
    session.wait(session.set_output("loss", "1"))
    daemon.superseded = True
    assert session.stop.reason() == ""
    with pytest.raises(Superseded, match="attempt 1 is over"):
        session.wait(session.set_output("loss", "2"))
    assert session.stop.reason() == "superseded"
    daemon.superseded = False
    with pytest.raises(Superseded):
        session.wait(session.save_checkpoint("{}"))
    with pytest.raises(Superseded):
        session.progress(Progress(1, None, {}))
    assert daemon.count("SetOutput") == 2
    assert daemon.count("SaveCheckpoint") == 0
    assert task.output_lines() == []


def test_a_heartbeat_learns_that_the_attempt_is_superseded(daemon: Daemon, task: Task) -> None:
    daemon.start()
    session = task.session()
    session.wait(session.load_checkpoint())
    daemon.superseded = True
    task.clock.tick(HEARTBEAT_S)
    daemon.wait_calls("Heartbeat", 1)
    with pytest.raises(Superseded):
        session.wait(session.inputs())
    assert session.stop.reason() == "superseded"


def test_a_heartbeat_brings_the_reason_to_stop(daemon: Daemon, task: Task) -> None:
    daemon.start()
    daemon.stop_reason = "preempted"
    session = task.session()
    session.listen_for_stop()
    for _ in range(2):  # the second begins after the answer of the first
        task.clock.tick(HEARTBEAT_S)
        session.listen_for_stop()
        daemon.wait_calls("Heartbeat", 1)
    assert session.stop.reason() == "preempted"


def test_no_heartbeat_speaks_for_a_program_that_does_nothing(daemon: Daemon, task: Task) -> None:
    daemon.start()
    session = task.session()
    session.wait(session.load_checkpoint())
    for _ in range(4):
        task.clock.tick(HEARTBEAT_S)
    session.wait(session.load_checkpoint())
    task.clock.tick(HEARTBEAT_S)
    daemon.wait_calls("Heartbeat", 2)
    assert daemon.count("Heartbeat") == 2


def test_progress_is_sent_latest_first_and_never_waits(daemon: Daemon, task: Task) -> None:
    daemon.start()
    daemon.script["ReportProgress"] = [Hold()]
    session = task.session()
    session.progress(Progress(0, 100, {}))
    daemon.wait_calls("ReportProgress", 1)
    for step in range(1, 50):
        session.progress(Progress(step, 100, {"loss": step / 2}))
    session.progress(Progress(50, None, {"loss": 0.5}))
    daemon.kill()
    daemon.start()
    daemon.wait_for(lambda: len(daemon.progress) == 1)
    assert daemon.progress == [(50, None, {"loss": 0.5})]


def test_progress_made_while_an_older_one_is_on_its_way_is_sent_after_it(daemon: Daemon, task: Task) -> None:
    daemon.start()
    gate = Gate(threading.Event())
    daemon.script["ReportProgress"] = [gate]
    session = task.session()
    session.progress(Progress(1, None, {}))
    daemon.wait_calls("ReportProgress", 1)
    session.progress(Progress(2, None, {}))
    gate.open.set()
    daemon.wait_for(lambda: len(daemon.progress) == 2)
    assert [step for step, _, _ in daemon.progress] == [1, 2]


def test_the_last_progress_is_sent_when_the_session_ends(daemon: Daemon, task: Task) -> None:
    daemon.start()
    task.clock.hold()
    session = task.session()
    session.progress(Progress(1, 2, {}))
    daemon.wait_calls("ReportProgress", 1)
    task.clock.wait_held()
    session.progress(Progress(2, 2, {}))
    task.close()
    assert [step for step, _, _ in daemon.progress] == [1, 2]


def test_writes_of_many_threads_are_made_one_at_a_time(daemon: Daemon, task: Task) -> None:
    daemon.start()
    session = task.session()

    def write(name: str) -> None:
        for value in range(20):
            session.wait(session.set_output(name, str(value)))

    names = [f"out_{index}" for index in range(8)]
    for writing in [in_background(partial(write, name)) for name in names]:
        writing.result(PATIENCE_S)
    for name in names:
        values = [json.loads(call.request.outputs_json).get(name) for call in daemon.calls]
        assert [value for value in values if value is not None] == list(range(20))
    assert daemon.outputs == dict.fromkeys(names, 19)
