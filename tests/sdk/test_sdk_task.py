"""The public calls, blocking and awaited, with a daemon and without."""

from __future__ import annotations

import asyncio
import inspect
import os
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from sdk_fakes import Daemon, Hold, Refuse, Task

import ffd
import ffd.sdk
from ffd.errors import Refusal


@pytest.fixture
def inside(daemon: Daemon, task: Task, fresh_session: pytest.MonkeyPatch) -> Daemon:
    """The public calls run in a task of a started daemon."""
    for name, value in task.env.items():
        fresh_session.setenv(name, value)
    daemon.start()
    return daemon


def test_current_tells_the_environment(inside: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFD_RANK", "5")
    monkeypatch.setenv("NNODES", "16")
    monkeypatch.setenv("WORLD_SIZE", "128")
    context = ffd.current()
    assert (context.run, context.handle, context.workflow, context.project) == ("demo.1", "demo.1", 42, "team/demo")
    assert (context.task, context.item, context.attempt, context.rank) == ("train", 3, 1, 5)
    assert context.world_size == 16
    assert inside.calls == []


def test_world_size_without_nnodes(inside: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert ffd.current().world_size == 4


def test_restored_asks_the_daemon_only_after_the_first_attempt(inside: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    inside.checkpoint = b'{"step": 3}'
    assert not ffd.current().restored
    assert inside.calls == []
    monkeypatch.setenv("FFD_ATTEMPT", "2")
    assert ffd.current().restored
    assert inside.count("GetInputs") == 1


def test_inputs_and_params(inside: Daemon) -> None:
    assert ffd.get_input("tokenize.rows") == [1, 2, 3]
    assert ffd.get_input("tokenize.size") == 7
    ffd.get_input("tokenize.rows").append(4)
    assert ffd.get_input("tokenize.rows") == [1, 2, 3]
    assert ffd.params() == {"lr": 0.1}


@pytest.mark.parametrize(
    ("reference", "code", "message"),
    [
        ("tokenise.rows", "not_found", "did you mean tokenize?"),
        ("tokenize.row", "not_found", "did you mean rows?"),
        ("tokenize.zzz", "not_found", "there is rows, size"),
        ("tokenize", "invalid", "'task.output'"),
        (".rows", "invalid", "'task.output'"),
    ],
)
def test_an_unknown_input_says_what_there_is(inside: Daemon, reference: str, code: str, message: str) -> None:
    with pytest.raises(Refusal, match=message) as caught:
        ffd.get_input(reference)
    assert caught.value.code == code


def test_a_stop_file_tells_its_reason(inside: Daemon, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFD_STOP_FILE", task.stop_path)
    assert not ffd.should_stop()
    Path(task.stop_path).write_text("preempted\n")
    assert ffd.should_stop()
    assert ffd.stop_reason() == "preempted"
    os.unlink(task.stop_path)
    assert ffd.should_stop()


def test_an_empty_stop_file_is_a_reason_too(inside: Daemon, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFD_STOP_FILE", task.stop_path)
    Path(task.stop_path).touch()
    assert ffd.stop_reason() == "stop"


def test_log_lines(inside: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    ffd.log("loaded", shard=3)
    ffd.log("a\x1b[31mb\nc", level="warning", path="/a b", empty="", token=os.environ["FFD_TOKEN"])
    assert capsys.readouterr().out.splitlines() == [
        "INFO loaded shard=3",
        'WARNING a\\x1b[31mb\\nc path="/a b" empty="" token=***',
    ]
    with pytest.raises(Refusal, match="unknown log level"):
        ffd.log("x", level="LOUD")


def test_bad_values_never_leave_the_process(inside: Daemon) -> None:
    bad: list[Any] = [float("nan"), float("inf"), object(), {1: 2}, {"a": [1, {2}]}, 1 << 64, "\ud800", b"bytes"]
    for value in bad:
        with pytest.raises(Refusal):
            ffd.set_output("loss", value)
    for name in ("", "a=b", "a\nb", "1a", "a-b", "ä", 3):
        with pytest.raises(Refusal, match="identifier"):
            ffd.set_output(name, 1)  # type: ignore[arg-type]
    with pytest.raises(Refusal, match="must be a dict"):
        ffd.save_checkpoint([1])  # type: ignore[arg-type]
    with pytest.raises(Refusal, match="identifier"):
        ffd.barrier("a b")
    assert inside.calls == []


def test_the_awaited_calls_do_the_same(inside: Daemon) -> None:
    async def work() -> None:
        assert await ffd.aio.get_input("tokenize.size") == 7
        assert await ffd.aio.params() == {"lr": 0.1}
        await ffd.aio.set_output("loss", 0.5)
        assert await ffd.aio.save_checkpoint({"step": 2})
        assert await ffd.aio.load_checkpoint() == {"step": 2}
        await ffd.aio.barrier("loaded", timeout_s=30)
        await asyncio.gather(*(ffd.aio.set_output(f"out_{n}", n) for n in range(20)))
        with pytest.raises(Refusal):
            await ffd.aio.get_input("tokenize.none")
        inside.script["SetOutput"] = [Refuse(Status.INVALID_ARGUMENT, "output", "not declared")]
        with pytest.raises(Refusal, match="not declared"):
            await ffd.aio.set_output("loss", 1)

    asyncio.run(work())
    assert inside.outputs == {"loss": 0.5, **{f"out_{n}": n for n in range(20)}}


def test_an_awaited_call_can_be_cancelled(inside: Daemon) -> None:
    inside.script["SetOutput"] = [Hold()]

    async def work() -> None:
        writing = asyncio.create_task(ffd.aio.set_output("loss", 1))
        await asyncio.to_thread(inside.wait_calls, "SetOutput", 1)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await ffd.aio.set_output("loss", 2)  # the order of writes is free again

    asyncio.run(work())
    assert inside.outputs == {"loss": 2}


def test_the_two_faces_have_the_same_calls() -> None:
    calls = {name for name in ffd.sdk.__all__ if name not in ("Context", "Superseded")}
    assert calls == set(ffd.aio.__all__)
    for name in calls:
        assert inspect.signature(getattr(ffd.aio, name)) == inspect.signature(getattr(ffd.sdk, name)), name


# ------------------------------------------------------------------------------------------------------- outside


def test_outside_ffd_everything_is_local_with_one_line(
    fresh_session: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ffd.load_checkpoint() is None
    ffd.progress(1, 2, loss=0.1)
    ffd.set_output("loss", 0.1)
    assert ffd.save_checkpoint({"step": 1})
    assert ffd.load_checkpoint() == {"step": 1}
    ffd.barrier("loaded")
    assert not ffd.should_stop()
    ffd.log("hello")
    context = ffd.current()
    assert (context.run, context.task, context.attempt, context.world_size, context.restored) == ("", "", 0, 1, False)
    said = capsys.readouterr()
    assert said.out == "INFO hello\n"
    assert said.err.splitlines() == [
        "ffd: not inside an ffd task: inputs are unknown; outputs, checkpoints and progress stay in this process"
    ]


def test_outside_ffd_there_are_no_inputs(fresh_session: pytest.MonkeyPatch) -> None:
    for ask in (ffd.params, lambda: ffd.get_input("a.b")):
        with pytest.raises(Refusal, match="outside an ffd task") as caught:
            ask()
        assert caught.value.code == "unsupported"


def test_outside_ffd_bad_values_are_refused_as_inside(fresh_session: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refusal, match="JSON cannot hold"):
        ffd.set_output("loss", float("nan"))


def test_outside_ffd_an_output_file_is_used_where_there_is_one(
    fresh_session: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fresh_session.setenv("FFD_OUTPUT", str(tmp_path / "out"))
    ffd.set_output("loss", 0.1)
    ffd.set_output("rows", [1, 2])
    assert (tmp_path / "out").read_text() == "loss=0.1\nrows=[1,2]\n"


def test_outside_ffd_the_awaited_calls_work_too(fresh_session: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        await ffd.aio.set_output("loss", 1)
        await ffd.aio.save_checkpoint({"step": 1})
        assert await ffd.aio.load_checkpoint() == {"step": 1}
        await ffd.aio.barrier("loaded")

    asyncio.run(work())


@pytest.mark.parametrize(
    ("name", "value"),
    [("FFD_ATTEMPT", "one"), ("FFD_RANK", "-1"), ("FFD_SDK_DEADLINE_S", "soon"), ("FFD_SDK_DEADLINE_S", "nan")],
)
def test_a_wrong_variable_is_refused_by_name(fresh_session: pytest.MonkeyPatch, name: str, value: str) -> None:
    fresh_session.setenv(name, value)
    with pytest.raises(Refusal, match=name):
        ffd.current()
