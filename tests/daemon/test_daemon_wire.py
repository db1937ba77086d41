"""What `wire` puts together, over a real socket: start, stop, stand by, and refuse to start with a reason."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from world import submit_of, task

from ffd.api.client import Client
from ffd.core.commands import Accepted
from ffd.core.model import AttemptId
from ffd.daemon import wire
from ffd.errors import PluginError, Refusal, Unavailable
from ffd.settings import DaemonSettings, Settings, Telemetry


@pytest.fixture
def state() -> Iterator[Path]:
    """A short path: sockets allow no long ones."""
    with TemporaryDirectory(prefix="ffd-") as name:
        yield Path(name)


def settings_of(state: Path, **daemon: object) -> Settings:
    given = {"state_dir": str(state), "runtime": "virtual", **daemon}
    return Settings(daemon=DaemonSettings(**given), telemetry=Telemetry(log_level="error"))  # type: ignore[arg-type]


def run(test) -> None:  # type: ignore[no-untyped-def]
    async def bounded() -> None:
        with anyio.fail_after(60):
            await test()

    asyncio.run(bounded())


def test_a_daemon_serves_its_state_directory(state: Path) -> None:
    async def test() -> None:
        async with wire.running(settings_of(state)) as daemon:
            assert daemon.address == f"unix:{state}/ffd.sock" and daemon.http_address == ""
            async with await Client.connect(daemon.address) as client:
                assert (await client.status()).role == "leader"
                result = await client.submit(b"name: hi\ntasks: {a: {run: echo}}\n")
                async for _ in client.watch(result.handle, token="0.0"):
                    pass
                assert (await client.get("hi")).state == "succeeded"
        assert await wire.check(settings_of(state)) == []

    run(test)
    assert not (state / "ffd.sock").exists()
    assert stat.S_IMODE((state / "token.key").stat().st_mode) == 0o600
    assert len((state / "token.key").read_bytes()) == 32


def test_a_check_refuses_while_a_daemon_leads(state: Path) -> None:
    async def test() -> None:
        async with wire.running(settings_of(state)) as daemon:
            await daemon.engine.ask(submit_of(task("a")))
            with pytest.raises(Refusal, match="a daemon runs on this state") as caught:
                await wire.check(settings_of(state))
            assert caught.value.code == "conflict"
        assert await wire.check(settings_of(state)) == []
        async with wire.running(settings_of(state)) as daemon:  # and the check let go of it
            assert (await daemon.engine.status()).role == "leader"

    run(test)


def test_tokens_stay_valid_across_restarts(state: Path) -> None:
    async def key() -> bytes:
        async with wire.running(settings_of(state)):
            return (state / "token.key").read_bytes()

    assert asyncio.run(key()) == asyncio.run(key())


def test_errors_in_the_block_come_out_as_they_are(state: Path) -> None:
    async def test() -> None:
        with pytest.raises(Refusal, match="mine"):
            async with wire.running(settings_of(state)):
                raise Refusal("mine")

    run(test)


def test_a_second_daemon_stands_by_and_takes_over(state: Path) -> None:
    async def test() -> None:
        async with wire.running(settings_of(state)) as first:
            answer = await first.engine.ask(submit_of(task("a")))
            assert isinstance(answer, Accepted)
            async with wire.running(settings_of(state, listen=(f"unix:{state}/two.sock",))) as second:
                assert (await second.engine.status()).role == "standby"
                with pytest.raises(Unavailable) as caught:
                    await second.engine.workflow(1)
                assert caught.value.hint == first.address
                first.stop()
                entered = second.daemon.entered
                await entered.wait()
                assert (await second.engine.workflow(answer.workflow)).handle == "wf.1"

    run(test)


def test_it_refuses_to_start_with_a_reason(state: Path) -> None:
    (state / "file").write_text("")
    busy = f"unix:{state}/busy.sock"

    async def refusal(settings: Settings) -> str:
        with pytest.raises(PluginError) as caught:
            async with wire.running(settings):
                raise AssertionError("it started")
        return f"{caught.value.message} {caught.value.hint}"

    async def test() -> None:
        assert "state directory" in await refusal(settings_of(state / "file"))
        assert "did you mean virtual?" in await refusal(settings_of(state, runtime="virtul"))
        async with wire.running(settings_of(state, listen=(busy,))):
            assert "another daemon listens" in await refusal(settings_of(state, listen=(busy,)))
        (state / "token.key").write_bytes(b"short")
        assert "damaged" in await refusal(settings_of(state))

    run(test)


def test_refusing_a_wide_address_leaves_nothing_behind(state: Path) -> None:
    async def test() -> None:
        with pytest.raises(PluginError, match="refused to listen"):
            async with wire.running(settings_of(state, listen=("grpc://0.0.0.0:0",))):
                raise AssertionError("it started")
        async with wire.running(settings_of(state)) as daemon:
            assert (await daemon.engine.status()).role == "leader"

    run(test)


def test_a_task_token_names_its_attempt(state: Path) -> None:
    async def test() -> None:
        async with wire.running(settings_of(state)) as daemon:
            await daemon.engine.ask(submit_of(task("a")))
            with pytest.raises(Refusal) as caught:
                await daemon.engine.check(AttemptId(1, "a", 0, 9))
            assert caught.value.code == "superseded"

    run(test)


def test_term_is_a_clean_stop_and_running_tasks_go_on(state: Path) -> None:
    """A real process with real tasks: TERM ends it with 0, the task outlives it, the next daemon adopts the task."""
    gate = state / "gate"
    os.mkfifo(gate)
    document = {"name": "adopted", "tasks": {"a": {"run": f"cat {gate}"}, "b": {"run": "true", "needs": ["a"]}}}

    async def begin(client: Client) -> None:
        result = await client.submit(json.dumps(document).encode(), format="json")
        async for page in client.watch(result.handle, token="0.0"):
            if any(event.kind == "AttemptRunning" for event in page.events):
                return

    async def finish(client: Client) -> None:
        gate.write_text("go on\n")
        async for _ in client.watch("adopted", token="0.0"):
            pass
        page = await client.get("adopted")
        assert page.state == "succeeded"
        assert (await client.attempts("adopted", "a"))[-1].attempt == 1
        assert (await client.read_log("adopted", "a")).data == b"go on\n"

    for work in (begin, finish):
        process = subprocess.Popen(
            [sys.executable, "-m", "ffd.cli.main", "daemon", "run", "--state", str(state), "--listen", _socket(state)],
            stderr=subprocess.PIPE, cwd=Path(wire.__file__).parents[2],
        )  # fmt: skip
        assert process.stderr is not None
        with process.stderr as lines:
            while "loaded" not in (line := lines.readline().decode()):
                assert line, "the daemon ended"
            asyncio.run(_with_client(state, work))
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            assert b"error" not in lines.read()


def _socket(state: Path) -> str:
    return f"unix:{state}/d.sock"


async def _with_client(state: Path, work) -> None:  # type: ignore[no-untyped-def]
    async with await Client.connect(_socket(state)) as client:
        with anyio.fail_after(60):
            await work(client)
