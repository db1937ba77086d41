"""The daemon is away, slow, in trouble or replaced: what is tried again, what is kept, what counts in the end."""

from __future__ import annotations

import json
import os
from concurrent.futures import CancelledError
from functools import partial

import pytest
from grpclib.const import Status
from sdk_fakes import PATIENCE_S, Daemon, Hold, LoseAnswer, Refuse, Task, in_background

from ffd.errors import Refusal, Unavailable
from ffd.sdk.errors import Superseded
from ffd.sdk.live import BARRIER_AGAIN_S, HEARTBEAT_S, Live
from ffd.sdk.retry import FIRST_DELAY_S, MAX_DELAY_S, delays_s
from ffd.sdk.values import Progress

BUSY = Refuse(Status.UNAVAILABLE, "unavailable", "no leader")


def test_delays_double_up_to_a_bound_and_differ() -> None:
    delays = delays_s()
    first = [next(delays) for _ in range(20)]
    longest = [min(FIRST_DELAY_S * 2**n, MAX_DELAY_S) for n in range(20)]
    assert all(top / 2 <= delay <= top for delay, top in zip(first, longest, strict=True))
    assert len({next(delays) for _ in range(20)}) == 20


def test_a_write_waits_for_a_daemon_that_comes_back(daemon: Daemon, task: Task) -> None:
    task.clock.hold()
    session = task.session()
    writing = in_background(lambda: session.wait(session.set_output("loss", "1")))
    task.clock.wait_held()
    assert not writing.done()
    daemon.start()
    task.clock.release()
    writing.result(PATIENCE_S)
    assert daemon.outputs == {"loss": 1}
    assert task.output_lines() == []


def test_a_lost_answer_is_asked_for_again_with_the_same_request(daemon: Daemon, task: Task) -> None:
    daemon.start()
    daemon.script["SetOutput"] = [LoseAnswer(), LoseAnswer()]
    daemon.script["SaveCheckpoint"] = [LoseAnswer()]
    session = task.session()
    session.wait(session.set_output("loss", "1"))
    session.wait(session.save_checkpoint('{"step":1}'))
    outputs = [call.request for call in daemon.calls if call.method == "SetOutput"]
    assert len(outputs) == 3
    assert outputs[0] == outputs[1] == outputs[2]
    assert daemon.count("SaveCheckpoint") == 2


@pytest.mark.parametrize(
    "fault",
    [
        BUSY,
        Refuse(Status.RESOURCE_EXHAUSTED, "storage_full", "disk full"),
        Refuse(Status.INTERNAL, "internal", "a bug"),
        Refuse(Status.UNKNOWN, "", "what"),
        Refuse(Status.ABORTED, "", "try again"),
    ],
)
def test_a_daemon_in_trouble_is_asked_again(daemon: Daemon, task: Task, fault: Refuse) -> None:
    daemon.start()
    daemon.script["SetOutput"] = [fault] * 3
    session = task.session()
    session.wait(session.set_output("loss", "1"))
    assert daemon.count("SetOutput") == 4
    assert daemon.outputs == {"loss": 1}


def test_a_try_that_hangs_is_given_up_and_made_again(daemon: Daemon, task: Task) -> None:
    daemon.start()
    daemon.script["SetOutput"] = [Hold()]
    session = task.session(try_timeout_s=0.05)
    session.wait(session.set_output("loss", "1"))
    assert daemon.outputs == {"loss": 1}


def test_past_the_deadline_an_output_is_kept_in_the_output_file(
    daemon: Daemon, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    session = task.session()
    before_s = task.clock.now_s()
    session.wait(session.set_output("loss", "0.5"))
    session.wait(session.set_output("name", '"a b=c"'))
    assert task.output_lines() == ["loss=0.5", "name=a b=c"]
    assert 290 < task.clock.now_s() - before_s <= 300
    said = capsys.readouterr().err
    assert said.count("outputs are kept in $FFD_OUTPUT") == 1
    assert said.count("cannot be reached") == 1


def test_an_outage_costs_one_deadline_not_many(daemon: Daemon, task: Task) -> None:
    session = task.session()
    session.wait(session.set_output("loss", "1"))
    slept_count = len(task.clock.slept_s)
    for value in range(10):
        session.wait(session.set_output("loss", str(value)))
    assert session.wait(session.save_checkpoint('{"step":1}')) is False
    assert len([s for s in task.clock.slept_s[slept_count:] if s != HEARTBEAT_S]) == 0
    assert task.output_lines()[-1] == "loss=9"


def test_after_an_outage_calls_wait_again(daemon: Daemon, task: Task) -> None:
    session = task.session()
    session.wait(session.set_output("loss", "1"))
    daemon.start()
    session.wait(session.set_output("loss", "2"))
    daemon.script["SetOutput"] = [BUSY, BUSY]
    session.wait(session.set_output("other", "3"))
    assert daemon.outputs == {"loss": 2, "other": 3}


def test_a_later_value_is_never_beaten_by_one_kept_in_the_file(daemon: Daemon, task: Task) -> None:
    session = task.session()
    session.wait(session.set_output("loss", "1"))
    session.wait(session.set_output("lost", "1"))
    daemon.start()
    session.wait(session.set_output("loss", "2"))
    session.wait(session.set_output("other", "3"))
    assert daemon.outputs == {"loss": 2, "other": 3}
    assert task.output_lines() == ["loss=1", "lost=1", "loss=2"]


def test_a_line_of_the_users_script_is_overruled_too(daemon: Daemon, task: Task) -> None:
    daemon.start()
    with open(task.output_path, "w", encoding="utf-8") as file:
        file.write("loss=1")  # no line end
    session = task.session()
    session.wait(session.set_output("loss", "2"))
    assert task.output_lines() == ["loss=1", "loss=2"]


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ('"two\\nlines"', ""),
        ('"two\\u2028lines"', ""),
        ('" space"', ""),
        ("1", '{"loss": 0}\n'),
        ("1", "directory"),
        ("1", "none"),
    ],
)
def test_what_the_file_cannot_hold_waits_for_the_daemon(daemon: Daemon, task: Task, text: str, file: str) -> None:
    if file == "directory":
        os.mkdir(task.output_path)
    elif file:
        with open(task.output_path, "w", encoding="utf-8") as output:
            output.write(file)
    session = task.session(FFD_SDK_DEADLINE_S="0", FFD_OUTPUT="" if file == "none" else task.output_path)
    task.clock.hold()
    name = "other"  # one that the file does not set
    writing = in_background(lambda: session.wait(session.set_output(name, text)))
    task.clock.wait_held()
    assert not writing.done()
    daemon.start()
    task.clock.release()
    if file == "directory":
        with pytest.raises(Refusal, match="FFD_OUTPUT cannot be used"):
            writing.result(PATIENCE_S)
    else:
        writing.result(PATIENCE_S)
    assert daemon.outputs == {name: json.loads(text)}


def test_a_checkpoint_is_kept_given_back_and_sent_when_the_daemon_is_back(daemon: Daemon, task: Task) -> None:
    session = task.session()
    assert session.wait(session.save_checkpoint('{"step":1}')) is False
    assert session.wait(session.save_checkpoint('{"step":2}')) is False
    assert session.wait(session.load_checkpoint()) == {"step": 2}
    daemon.start()
    task.clock.tick(HEARTBEAT_S)
    daemon.wait_calls("SaveCheckpoint", 1)
    task.clock.tick(HEARTBEAT_S)
    assert json.loads(daemon.checkpoint) == {"step": 2}
    assert daemon.count("SaveCheckpoint") == 1
    assert os.listdir(task.spool_dir) == []


def test_a_kept_checkpoint_never_beats_a_newer_one(daemon: Daemon, task: Task) -> None:
    session = task.session()
    session.wait(session.save_checkpoint('{"step":1}'))
    daemon.start()
    assert session.wait(session.save_checkpoint('{"step":2}')) is True
    task.clock.tick(HEARTBEAT_S)
    session.wait(session.set_output("loss", "1"))
    task.close()
    saved = [json.loads(call.request.value_json) for call in daemon.calls if call.method == "SaveCheckpoint"]
    assert saved == [{"step": 2}]


def test_a_later_process_of_the_attempt_finds_and_sends_it(daemon: Daemon, task: Task) -> None:
    first = task.session()
    first.wait(first.save_checkpoint('{"step":1}'))
    task.close()
    second = task.session()
    assert second.wait(second.load_checkpoint()) == {"step": 1}
    daemon.start()
    task.close()
    assert json.loads(daemon.checkpoint) == {"step": 1}
    assert os.listdir(task.spool_dir) == []


def test_replicas_that_share_the_directory_keep_their_checkpoints_apart(daemon: Daemon, task: Task) -> None:
    first, second = (task.session(FFD_RANK=str(rank)) for rank in range(2))
    assert first.wait(first.save_checkpoint('{"rank":0}')) is False
    assert second.wait(second.save_checkpoint('{"rank":1}')) is False
    assert first.wait(first.load_checkpoint()) == {"rank": 0}
    assert second.wait(second.load_checkpoint()) == {"rank": 1}


def test_without_a_spool_directory_it_is_kept_in_memory_and_sent_at_the_end(daemon: Daemon, task: Task) -> None:
    session = task.session(FFD_SPOOL_DIR="")
    assert session.wait(session.save_checkpoint('{"step":1}')) is False
    assert session.wait(session.load_checkpoint()) == {"step": 1}
    daemon.start()
    task.close()
    assert json.loads(daemon.checkpoint) == {"step": 1}


def test_a_spool_that_cannot_be_written_costs_a_notice_only(
    daemon: Daemon, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    session = task.session(FFD_SPOOL_DIR=os.path.join(os.devnull, "no directory"))
    assert session.wait(session.save_checkpoint('{"step":1}')) is False
    assert session.wait(session.save_checkpoint('{"step":2}')) is False
    assert session.wait(session.load_checkpoint()) == {"step": 2}
    assert capsys.readouterr().err.count("$FFD_SPOOL_DIR cannot keep") == 1
    daemon.start()
    assert session.wait(session.save_checkpoint('{"step":3}')) is True
    assert session.wait(session.load_checkpoint()) == {"step": 3}


def test_reads_that_have_no_answer_say_so_after_the_deadline(daemon: Daemon, task: Task) -> None:
    session = task.session()
    with pytest.raises(Unavailable, match="cannot be reached"):
        session.wait(session.inputs())
    with pytest.raises(Unavailable, match="cannot be reached"):
        session.wait(session.load_checkpoint())


def test_an_outage_is_told_once_and_its_end_too(daemon: Daemon, task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    session = task.session()
    session.wait(session.set_output("loss", "1"))
    session.wait(session.set_output("loss", "2"))
    daemon.start()
    session.wait(session.set_output("loss", "3"))
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "the task goes on" in line] == [lines[0]]
    assert lines[-1] == "ffd: the daemon is reached again"


def test_a_short_outage_is_not_told(daemon: Daemon, task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.start()
    daemon.script["SetOutput"] = [BUSY, BUSY]
    session = task.session()
    session.wait(session.set_output("loss", "1"))
    assert capsys.readouterr().err == ""


def test_a_standby_sends_us_to_the_leader(daemon: Daemon, task: Task) -> None:
    leader = Daemon()
    try:
        daemon.start()
        leader.start()
        daemon.script["SetOutput"] = [Refuse(Status.UNAVAILABLE, "unavailable", "not the leader", leader.address)]
        session = task.session()
        session.wait(session.set_output("loss", "1"))
        assert (daemon.outputs, leader.outputs) == ({}, {"loss": 1})
        leader.kill()
        session.wait(session.set_output("loss", "2"))  # home again
        assert daemon.outputs == {"loss": 2}
        task.close()
    finally:
        leader.close()


def test_a_replaced_daemon_that_refuses_the_token_ends_the_retries(daemon: Daemon, task: Task) -> None:
    task.clock.hold()
    session = task.session()
    writing = in_background(lambda: session.wait(session.set_output("loss", "1")))
    task.clock.wait_held()
    daemon.superseded = True
    daemon.start()
    task.clock.release()
    with pytest.raises(Superseded):
        writing.result(PATIENCE_S)
    assert task.output_lines() == []


def test_progress_waits_in_the_background_with_the_latest(daemon: Daemon, task: Task) -> None:
    task.clock.hold()
    session = task.session()
    session.progress(Progress(1, None, {}))
    task.clock.wait_held()
    session.progress(Progress(2, None, {}))
    session.progress(Progress(3, None, {}))
    daemon.start()
    task.clock.release()
    daemon.wait_for(lambda: len(daemon.progress) == 1)
    assert daemon.progress == [(3, None, {})]


def test_a_session_ends_in_its_time_whatever_the_daemon_does(
    daemon: Daemon, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.start()
    daemon.script["SetOutput"] = [Hold()]
    session = task.session()
    writing = in_background(lambda: session.wait(session.set_output("loss", "1")))
    daemon.wait_calls("SetOutput", 1)
    session._pending.put('{"step":1}')  # what cannot be sent behind a write that hangs
    session.close(0.01)
    task._sessions.clear()
    with pytest.raises(CancelledError):
        writing.result(PATIENCE_S)
    assert "did not answer in time" in capsys.readouterr().err


def test_replicas_meet_at_a_barrier_and_again_at_its_second_use(daemon: Daemon, task: Task) -> None:
    daemon.replicas = 3
    daemon.start()
    sessions = [task.session(FFD_RANK=str(rank), NNODES="3") for rank in range(3)]

    def meet(session: Live) -> None:
        session.wait(session.barrier("loaded", None))

    for use in (1, 2):
        early = [in_background(partial(meet, session)) for session in sessions[:2]]
        daemon.wait_calls("Barrier", 3 * use - 1)
        assert not any(waiting.done() for waiting in early)
        meet(sessions[2])
        for waiting in early:
            waiting.result(PATIENCE_S)
    arrivals = [(call.request.name, call.request.rank) for call in daemon.calls]
    assert sorted(arrivals[:3]) == [("loaded", 0), ("loaded", 1), ("loaded", 2)]
    assert sorted(arrivals[3:]) == [("loaded#2", 0), ("loaded#2", 1), ("loaded#2", 2)]


def test_a_barrier_outlives_a_restart_of_the_daemon(daemon: Daemon, task: Task) -> None:
    daemon.replicas = 2
    daemon.start()
    first, second = (task.session(FFD_RANK=str(rank), FFD_SDK_DEADLINE_S="0") for rank in range(2))
    waiting = in_background(lambda: first.wait(first.barrier("loaded", None)))
    daemon.wait_calls("Barrier", 1)
    daemon.kill()
    daemon.start()
    second.wait(second.barrier("loaded", None))
    waiting.result(PATIENCE_S)


def test_a_replica_that_passed_arrives_again_for_those_the_restart_left_behind(daemon: Daemon, task: Task) -> None:
    daemon.replicas = 1
    daemon.start()
    first, second = (task.session(FFD_RANK=str(rank)) for rank in range(2))
    first.wait(first.barrier("loaded", None))
    daemon.kill()
    daemon.replicas = 2  # as if the second had not heard of the release
    daemon.start()
    waiting = in_background(lambda: second.wait(second.barrier("loaded", None)))
    daemon.wait_calls("Barrier", 2)
    first.wait(first.set_output("loss", "1"))  # it has noticed the restart
    for _ in range(2):  # one of them is the first's
        task.clock.tick(BARRIER_AGAIN_S)
    waiting.result(PATIENCE_S)


def test_a_barrier_gives_up_after_its_timeout(daemon: Daemon, task: Task) -> None:
    daemon.replicas = 2
    daemon.start()
    session = task.session(try_timeout_s=0.05)
    waiting = in_background(lambda: session.wait(session.barrier("loaded", 30)))
    daemon.wait_calls("Barrier", 2)
    task.clock.move(31)
    with pytest.raises(TimeoutError, match="barrier loaded: not all replicas arrived within 30 s"):
        waiting.result(PATIENCE_S)
    daemon.kill()
    with pytest.raises(TimeoutError, match="cannot be reached"):
        session.wait(session.barrier("stored", 30))
