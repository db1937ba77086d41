"""A daemon as tasks see it, and a clock that tests move.

`Daemon` is a real gRPC server on a unix socket, in its own thread: the process boundary is real, only what is behind it
is scripted. What was acknowledged (outputs, checkpoint) survives its restarts; barriers do not, as in the real one.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError
from grpclib.server import Server

from ffd.proto.ffd.v1 import errors_pb2, pages_pb2, tasks_pb2
from ffd.proto.ffd.v1.tasks_grpc import TasksBase
from ffd.sdk.context import read_env
from ffd.sdk.live import BARRIER_AGAIN_S, HEARTBEAT_S, Live

PATIENCE_S = 60  # how long a test waits for what must come; only a broken one ever does
TOKEN = "token-of-this-attempt"


class Call(NamedTuple):
    method: str
    token: str
    request: Any


class Refuse(NamedTuple):
    """Answer once with this fault."""

    status: Status
    code: str
    message: str = "no"
    hint: str = ""


class LoseAnswer(NamedTuple):
    """Do it, then drop the connection before the answer."""


class Hold(NamedTuple):
    """Answer nothing until the caller gives up or the daemon ends."""


class Gate(NamedTuple):
    """Answer well, but only when the test opens it."""

    open: threading.Event


class _Details(StatusDetailsCodecBase):
    def encode(self, status: Status, message: str | None, details: Any) -> bytes:
        packed = errors_pb2.Status(code=status.value, message=message or "")
        packed.details.add().Pack(details)
        return bytes(packed.SerializeToString())

    def decode(self, status: Status, message: str | None, data: bytes) -> Any:
        raise AssertionError("a server reads no error details")


class _Server(Server):
    def __init__(self, handlers: Any) -> None:
        super().__init__(handlers, codec=ProtoCodec(), status_details_codec=_Details())
        self.protocols: list[Any] = []

    def _protocol_factory(self) -> Any:
        protocol = super()._protocol_factory()
        self.protocols.append(protocol)
        return protocol

    def hang_up(self) -> None:
        for protocol in self.protocols:
            if hasattr(protocol, "processor"):  # it got past the handshake
                protocol.processor.close()


class Daemon:
    """`calls` are those received, in order; `script[method]` is what happens to the next ones instead of an answer."""

    def __init__(self, replicas: int = 1) -> None:
        self.directory = tempfile.mkdtemp(prefix="ffd-sdk-")
        self.path = os.path.join(self.directory, "d.sock")
        self.calls: list[Call] = []
        self.script: dict[str, list[Refuse | LoseAnswer | Hold | Gate]] = defaultdict(list)
        self.outputs: dict[str, Any] = {}
        self.checkpoint = b""
        self.params: dict[str, Any] = {"lr": 0.1}
        self.upstream: dict[str, dict[str, Any]] = {"tokenize": {"rows": [1, 2, 3], "size": 7}}
        self.stop_reason = ""
        self.superseded = False
        self.replicas = replicas
        self.progress: list[tuple[int, int | None, dict[str, float]]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def address(self) -> str:
        return f"unix:{self.path}"

    def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """On its unix socket; with a port on that one of 127.0.0.1 instead."""
        up = threading.Event()
        where: dict[str, Any] = {"host": "127.0.0.1", "port": port, "ssl": tls} if port else {"path": self.path}
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(up, where)))
        self._thread.start()
        assert up.wait(PATIENCE_S)

    @property
    def connections(self) -> int:
        """How many were made to it since it was started."""
        return len(self.server.protocols)

    def kill(self) -> None:
        """Gone at once: connections drop, nothing is answered any more."""
        if self._thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(PATIENCE_S)
            assert not self._thread.is_alive()
            self._thread = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.directory)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until it holds; looked at after each call received and each answer given."""
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_S), [call.method for call in self.calls]

    def count(self, method: str) -> int:
        return sum(call.method == method for call in self.calls)

    def wait_calls(self, method: str, count: int) -> None:
        self.wait_for(lambda: self.count(method) >= count)

    async def _serve(self, up: threading.Event, where: dict[str, Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._arrived: dict[str, set[int]] = defaultdict(set)
        self._arrival = asyncio.Condition()
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.server = _Server([_Tasks(self)])
        await self.server.start(**where)
        up.set()
        await self._end.wait()
        self.server.close()
        self.server.hang_up()
        await self.server.wait_closed()

    async def answer(self, method: str, stream: Any, do: Callable[[Any], Any]) -> None:
        request = await stream.recv_message()
        with self._changed:
            self.calls.append(Call(method, stream.metadata.get("authorization", ""), request))
            self._changed.notify_all()
        fault = self.script[method].pop(0) if self.script[method] else None
        if self.superseded:
            fault = Refuse(Status.PERMISSION_DENIED, "superseded", "attempt 1 is over")
        if isinstance(fault, Hold):
            await asyncio.get_running_loop().create_future()
        if isinstance(fault, Gate):
            assert await asyncio.to_thread(fault.open.wait, PATIENCE_S)
        if isinstance(fault, Refuse):
            detail = errors_pb2.ErrorDetail(code=fault.code, message=fault.message, hint=fault.hint)
            raise GRPCError(fault.status, fault.message, detail)
        reply = do(request)
        if asyncio.iscoroutine(reply):
            reply = await reply
        if isinstance(fault, LoseAnswer):
            self.server.hang_up()
            return
        await stream.send_message(reply)
        with self._changed:
            self._changed.notify_all()

    async def arrive(self, request: Any) -> Any:
        async with self._arrival:
            arrived = self._arrived[request.name]
            arrived.add(request.rank)
            self._arrival.notify_all()
            await self._arrival.wait_for(lambda: len(arrived) >= self.replicas)
        return pages_pb2.BarrierState(arrived_count=self.replicas, replicas=self.replicas, released=True)


class _Tasks(TasksBase):
    def __init__(self, daemon: Daemon) -> None:
        self.d = daemon

    async def GetInputs(self, stream: Any) -> None:
        await self.d.answer(
            "GetInputs",
            stream,
            lambda _: pages_pb2.TaskInputs(
                workflow=42,
                handle="demo.1",
                project="team/demo",
                params_json=json.dumps(self.d.params).encode(),
                outputs_json=json.dumps(self.d.upstream).encode(),
                checkpoint_json=self.d.checkpoint,
            ),
        )

    async def SetOutput(self, stream: Any) -> None:
        def do(request: Any) -> Any:
            self.d.outputs.update(json.loads(request.outputs_json))
            return tasks_pb2.SetOutputReply()

        await self.d.answer("SetOutput", stream, do)

    async def SaveCheckpoint(self, stream: Any) -> None:
        def do(request: Any) -> Any:
            self.d.checkpoint = request.value_json
            return tasks_pb2.SaveCheckpointReply()

        await self.d.answer("SaveCheckpoint", stream, do)

    async def GetCheckpoint(self, stream: Any) -> None:
        await self.d.answer("GetCheckpoint", stream, lambda _: tasks_pb2.Checkpoint(value_json=self.d.checkpoint))

    async def ReportProgress(self, stream: Any) -> None:
        def do(request: Any) -> Any:
            total = request.total if request.HasField("total") else None
            self.d.progress.append((request.step, total, json.loads(request.metrics_json)))
            return tasks_pb2.ReportProgressReply()

        await self.d.answer("ReportProgress", stream, do)

    async def UpdateStatus(self, stream: Any) -> None:
        raise AssertionError("the SDK does not call it")

    async def EmitMetrics(self, stream: Any) -> None:
        raise AssertionError("the SDK does not call it")

    async def Heartbeat(self, stream: Any) -> None:
        reply = tasks_pb2.HeartbeatReply(stop_reason=self.d.stop_reason)
        await self.d.answer("Heartbeat", stream, lambda _: reply)

    async def Barrier(self, stream: Any) -> None:
        await self.d.answer("Barrier", stream, self.d.arrive)


class TestClock:
    """Time passes only by sleeping or by the test's hand.

    Waits between tries and between progress reports end at once and move the clock by their length, unless `hold()`.
    The background's own periods (heartbeat, barrier) end only with `tick`."""

    __test__ = False
    PERIODS_S = (HEARTBEAT_S, BARRIER_AGAIN_S)

    def __init__(self) -> None:
        self._now_s = 1000.0
        self._held = False
        self._changed = threading.Condition()
        self._sleepers: list[tuple[float, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self.slept_s: list[float] = []

    def now_s(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        awake: asyncio.Future[None] = loop.create_future()
        with self._changed:
            self.slept_s.append(seconds)
            entry = (seconds, loop, awake)
            self._sleepers.append(entry)
            self._changed.notify_all()
            if seconds not in self.PERIODS_S and not self._held:
                self._wake(entry)
        try:
            await awake
        finally:
            with self._changed:
                if entry in self._sleepers:
                    self._sleepers.remove(entry)

    def hold(self) -> None:
        """From now on waits between tries last until `release`."""
        with self._changed:
            self._held = True

    def release(self) -> None:
        with self._changed:
            self._held = False
            for entry in [one for one in self._sleepers if one[0] not in self.PERIODS_S]:
                self._wake(entry)

    def wait_held(self) -> None:
        """Until somebody waits between tries, that is, has failed."""
        self._wait_sleeper(lambda seconds: seconds not in self.PERIODS_S)

    def tick(self, period_s: float) -> None:
        """End one sleep of that length, which somebody is in or will soon be."""
        self._wait_sleeper(lambda seconds: seconds == period_s)
        with self._changed:
            self._wake(next(entry for entry in self._sleepers if entry[0] == period_s))

    def move(self, seconds: float) -> None:
        self._now_s += seconds

    def _wait_sleeper(self, matches: Callable[[float], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: any(matches(one[0]) for one in self._sleepers), PATIENCE_S)

    def _wake(self, entry: tuple[float, asyncio.AbstractEventLoop, asyncio.Future[None]]) -> None:
        seconds, loop, awake = entry
        self._sleepers.remove(entry)
        self._now_s += seconds

        def wake() -> None:
            if not awake.done():
                awake.set_result(None)

        loop.call_soon_threadsafe(wake)


class Task:
    """One attempt's environment and files, and sessions in it."""

    def __init__(self, daemon: Daemon, directory: str) -> None:
        self.daemon = daemon
        self.clock = TestClock()
        self.output_path = os.path.join(directory, "output")
        self.spool_dir = os.path.join(directory, "spool")
        os.mkdir(self.spool_dir)
        self.stop_path = os.path.join(directory, "stop")
        self.env = {
            "FFD_ADDRESS": daemon.address,
            "FFD_TOKEN": TOKEN,
            "FFD_RUN": "demo.1",
            "FFD_WORKFLOW": "42",
            "FFD_PROJECT": "team/demo",
            "FFD_TASK": "train",
            "FFD_ITEM": "3",
            "FFD_ATTEMPT": "1",
            "FFD_RANK": "0",
            "FFD_OUTPUT": self.output_path,
            "FFD_SPOOL_DIR": self.spool_dir,
            "FFD_SDK_DEADLINE_S": "300",
        }
        self._sessions: list[Live] = []

    def session(self, try_timeout_s: float = PATIENCE_S, **env: str) -> Live:
        session = Live(read_env({**self.env, **env}), self.clock, try_timeout_s)
        self._sessions.append(session)
        return session

    def output_lines(self) -> list[str]:
        if not os.path.exists(self.output_path):
            return []
        with open(self.output_path, encoding="utf-8") as file:
            return file.read().splitlines()

    def close(self) -> None:
        while self._sessions:
            self._sessions.pop().close(PATIENCE_S)


def in_background(call: Callable[[], Any]) -> Future[Any]:
    """Begin the call in another thread. `.result(PATIENCE_S)` gives what it returned or raised."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call)
    pool.shutdown(wait=False)
    return future
