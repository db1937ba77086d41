"""The wire: the daemon's `Tasks` service over gRPC, one connection, each call tried once.

Never here: retries, ordering, what to do when the daemon is away (`link`, `live`). Runs in the SDK's thread only.
Errors: Superseded, Refusal (the daemon says no), Unavailable (try again: nobody there, a timeout, a daemon in trouble).
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from h2.exceptions import H2Error

from ffd.errors import FfdError, Refusal, Unavailable
from ffd.proto.ffd.v1 import errors_pb2, tasks_pb2
from ffd.proto.ffd.v1.tasks_grpc import TasksStub
from ffd.sdk.errors import NotYet, Superseded
from ffd.sdk.session import Inputs
from ffd.sdk.values import Progress

T = TypeVar("T")

# Statuses of a call that would be refused again however often it is repeated, and the code when no detail tells it.
_REFUSED = {
    Status.INVALID_ARGUMENT: "invalid",
    Status.OUT_OF_RANGE: "invalid",
    Status.NOT_FOUND: "not_found",
    Status.ALREADY_EXISTS: "conflict",
    Status.FAILED_PRECONDITION: "conflict",
    Status.RESOURCE_EXHAUSTED: "limit",
    Status.PERMISSION_DENIED: "forbidden",
    Status.UNAUTHENTICATED: "unauthenticated",
    Status.UNIMPLEMENTED: "unsupported",
}
# Codes of a daemon in trouble, whatever the status: it, or another one, will do it later.
_LATER = frozenset({"unavailable", "storage_full", "plugin", "internal"})
_SCHEMES = ("unix:", "grpc://", "grpcs://")


class _Details(StatusDetailsCodecBase):
    """Reads the error detail of a failed call (see errors.proto); None when there is none that makes sense."""

    def encode(self, status: Status, message: str | None, details: Any) -> bytes:
        raise AssertionError("a client sends no error details")

    def decode(self, status: Status, message: str | None, data: bytes) -> errors_pb2.ErrorDetail | None:
        detail = errors_pb2.ErrorDetail()
        try:
            packed = errors_pb2.Status.FromString(data).details
            return detail if packed and packed[0].Unpack(detail) else None
        except DecodeError:
            return None


class _Channel(Channel):
    """A channel that is cut rather than closed, and whose finaliser leaves a forked child's copy alone: closing it
    there would take the socket out of the event poll that the child shares with its parent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pid = os.getpid()

    def cut(self) -> None:
        """Close without TLS's goodbye, which takes round trips: the other end may be dead, or our loop near its end."""
        socket = getattr(getattr(self._protocol, "connection", None), "_transport", None)
        self.close()
        if socket is not None:
            socket.abort()

    def __del__(self) -> None:
        if self._pid == os.getpid():
            super().__del__()


class Transport:
    """Calls of one replica. `timeout_s` bounds each try; a timeout drops the connection, for it may be dead."""

    def __init__(self, address: str, token: str, rank: int) -> None:
        self._home = address
        self._address = address  # or the leader's, when a standby told it
        self._metadata = {"authorization": f"Bearer {token}"}
        self._rank = rank
        self._channel: _Channel | None = None

    async def inputs(self, timeout_s: float) -> Inputs:
        answer = await self._try(
            lambda stub: stub.GetInputs(tasks_pb2.GetInputsRequest(), timeout=timeout_s, metadata=self._metadata)
        )
        return Inputs(
            workflow=answer.workflow,
            handle=answer.handle,
            project=answer.project,
            params=json.loads(answer.params_json or b"{}"),
            outputs=json.loads(answer.outputs_json or b"{}"),
            restored=bool(answer.checkpoint_json),
        )

    async def set_output(self, name: str, text: str, timeout_s: float) -> None:
        """`text` is the value's JSON. Repeating is harmless: it says what the output shall be."""
        request = tasks_pb2.SetOutputRequest(outputs_json=f"{{{json.dumps(name)}:{text}}}".encode())
        await self._try(lambda stub: stub.SetOutput(request, timeout=timeout_s, metadata=self._metadata))

    async def save_checkpoint(self, text: str, timeout_s: float) -> None:
        """Repeating is harmless, as above."""
        request = tasks_pb2.SaveCheckpointRequest(value_json=text.encode())
        await self._try(lambda stub: stub.SaveCheckpoint(request, timeout=timeout_s, metadata=self._metadata))

    async def checkpoint(self, timeout_s: float) -> str:
        """The JSON text of the last acknowledged checkpoint; "" = none."""
        request = tasks_pb2.GetCheckpointRequest()
        answer = await self._try(lambda stub: stub.GetCheckpoint(request, timeout=timeout_s, metadata=self._metadata))
        return str(answer.value_json, "utf-8")

    async def progress(self, report: Progress, timeout_s: float) -> None:
        request = tasks_pb2.ReportProgressRequest(
            rank=self._rank,
            step=report.step,
            total=report.total,
            metrics_json=json.dumps(report.metrics, allow_nan=False).encode(),
        )
        await self._try(lambda stub: stub.ReportProgress(request, timeout=timeout_s, metadata=self._metadata))

    async def heartbeat(self, timeout_s: float) -> str:
        """ "" or why the attempt shall stop."""
        request = tasks_pb2.HeartbeatRequest(rank=self._rank)
        answer = await self._try(lambda stub: stub.Heartbeat(request, timeout=timeout_s, metadata=self._metadata))
        return str(answer.stop_reason)

    async def barrier(self, name: str, timeout_s: float) -> None:
        """Arrive and wait until all have. NotYet after the timeout."""
        request = tasks_pb2.BarrierRequest(rank=self._rank, name=name)
        try:
            answer = await self._try(lambda stub: stub.Barrier(request, timeout=timeout_s, metadata=self._metadata))
        except Unavailable as fault:
            if fault.code == "deadline":
                raise NotYet from None
            raise
        if not answer.released:
            raise NotYet

    async def close(self) -> None:
        self._drop()
        await asyncio.sleep(0)  # the socket is closed by the loop's next turn

    async def _try(self, call: Callable[[TasksStub], Awaitable[T]]) -> T:
        """One try, its failure put in our words."""
        try:
            return await call(TasksStub(self._connection()))
        except GRPCError as fault:
            raise self._fault(fault) from None
        except TimeoutError:
            self._drop()
            raise Unavailable(f"the daemon at {self._address} did not answer in time", code="deadline") from None
        except (OSError, StreamTerminatedError, ProtocolError, H2Error) as fault:
            self._drop()
            away = Unavailable(f"the daemon at {self._address} cannot be reached: {fault}")
            self._address = self._home
            raise away from None

    def _fault(self, fault: GRPCError) -> FfdError:
        detail = fault.details if isinstance(fault.details, errors_pb2.ErrorDetail) else errors_pb2.ErrorDetail()
        code = detail.code or _REFUSED.get(fault.status, "unavailable")
        message = detail.message or fault.message or fault.status.name
        if code == "superseded":
            return Superseded(message)
        if fault.status in _REFUSED and code not in _LATER:
            return Refusal(message, code=code, hint=detail.hint, field=detail.field)
        self._drop()
        if code == "unavailable":
            self._follow(detail.hint)
        if fault.status is Status.DEADLINE_EXCEEDED:
            code = "deadline"
        return Unavailable(f"the daemon at {self._home} cannot do it now: {message}", code=code, hint=detail.hint)

    def _follow(self, leader: str) -> None:
        """A standby names the leader: go there next. Never from an encrypted address to one that is not."""
        known = leader.startswith(_SCHEMES) and (leader.startswith("grpcs://") or not self._home.startswith("grpcs://"))
        self._address = leader if known and leader != self._address else self._home

    def _connection(self) -> _Channel:
        if self._channel is None:
            self._channel = _open(self._address)
        return self._channel

    def _drop(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.cut()


def _open(address: str) -> _Channel:
    """A channel; it connects with its first call."""
    codecs = {"codec": ProtoCodec(), "status_details_codec": _Details()}
    if address.startswith("unix:"):
        return _Channel(path=address.removeprefix("unix:").removeprefix("//"), **codecs)
    parts = urlsplit(address)
    context = None
    if parts.scheme == "grpcs":
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2"])
    return _Channel(parts.hostname, parts.port, ssl=context, **codecs)
