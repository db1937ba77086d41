"""gRPC: the machinery under all services. The only module that knows grpclib from inside.

Why from inside: grpclib reads any message whole, whatever its size, and does not say who is at the other end;
`_receive` and `_transport` do. Handlers are methods decorated with `unary` or `streaming`: they get an Access and a
request, and return (or send) messages, or structs that `codec` turns into messages. Errors of `ffd.errors` become
statuses. Deadlines are grpclib's business: it cancels the handler.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import anyio
import grpclib.server
import msgspec
from google.protobuf.message import DecodeError
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from h2.settings import SettingCodes

from ffd.api.access import Access
from ffd.api.codec import to_proto
from ffd.api.gather import GatheredProtocol
from ffd.api.limits import ApiLimits, over
from ffd.api.listen import Bound
from ffd.api.problem import DetailsCodec, to_grpc
from ffd.api.serving import Serving
from ffd.errors import FfdError, Refusal

if TYPE_CHECKING:
    from grpclib._typing import IServable

Stream = grpclib.server.Stream[Any, Any]
Handler = Callable[[Any, Stream], Coroutine[Any, Any, None]]
Send = Callable[[Any], Awaitable[None]]
CLOSE_WAIT_S = 1.0
_PREFIX = struct.Struct(">?I")  # compressed, size


# ------------------------------------------------------------------------------------------------------------ handlers


def unary(
    verb: str, *, many: bool = False, waits: bool = False
) -> Callable[[Callable[[Any, Access, Any], Awaitable[Any]]], Handler]:
    """One reply to one request, or (`many`) to an iterator of requests. Without a deadline of its own a call gets
    `limits.request_ms`; one that `waits` for others gets none, and ends when the server stops."""

    def decorate(method: Callable[[Any, Access, Any], Awaitable[Any]]) -> Handler:
        @wraps(method)
        async def handler(self: Any, stream: Stream) -> None:
            serving: Serving = self.serving
            with _as_status(), serving.traffic.call():
                access = await _access(serving, verb, stream)
                with serving.traffic.stream(counted=False) if waits else _time_limit(stream, serving.limits):
                    request = _requests(stream, serving.limits) if many else await _only(stream, serving.limits)
                    reply = await method(self, access, request)
                await stream.send_message(_message(reply))
                # still within the call: a server that stops closes its connections when no call is left
                await stream.send_trailing_metadata()

        return handler

    return decorate


def streaming(verb: str) -> Callable[[Callable[[Any, Access, Any, Send], Awaitable[None]]], Handler]:
    """Many replies to one request, each by `await send(reply)`, where a slow reader makes the handler wait."""

    def decorate(method: Callable[[Any, Access, Any, Send], Awaitable[None]]) -> Handler:
        @wraps(method)
        async def handler(self: Any, stream: Stream) -> None:
            serving: Serving = self.serving
            with _as_status(), serving.traffic.call():
                access = await _access(serving, verb, stream)
                request = await _only(stream, serving.limits)
                with serving.traffic.stream():
                    await stream.send_initial_metadata()  # the client knows now that it is admitted
                    await method(self, access, request, lambda reply: stream.send_message(_message(reply)))

        return handler

    return decorate


def _message(reply: Any) -> Any:
    return to_proto(reply) if isinstance(reply, msgspec.Struct) else reply


@contextmanager
def _as_status() -> Iterator[None]:
    try:
        yield
    except FfdError as error:
        raise to_grpc(error) from None


@contextmanager
def _time_limit(stream: Stream, limits: ApiLimits) -> Iterator[None]:
    if stream.deadline is not None:
        yield
        return
    try:
        with anyio.fail_after(limits.request_ms / 1000):
            yield
    except TimeoutError:
        raise GRPCError(Status.DEADLINE_EXCEEDED, "limits.request_ms is over") from None


async def _access(serving: Serving, verb: str, stream: Stream) -> Access:
    authorization = str(stream.metadata.get("authorization", "")) if stream.metadata else ""
    return await serving.access(verb, authorization, _transport(stream))


# ------------------------------------------------------------------------------------------------------- from inside


def _transport(stream: Stream) -> asyncio.BaseTransport | None:
    return getattr(stream.peer, "_transport", None)


async def _requests(stream: Stream, limits: ApiLimits) -> AsyncIterator[Any]:
    while (request := await _receive(stream, limits.message_bytes)) is not None:
        yield request


async def _only(stream: Stream, limits: ApiLimits) -> Any:
    request = await _receive(stream, limits.message_bytes)
    if request is None:
        raise Refusal("the call has no message")
    return request


async def _receive(stream: Stream, limit_bytes: int) -> Any:
    """The next message; None when the client has no more. Refused by its announced size, before it is read."""
    raw = stream._stream
    try:
        prefix = await raw.recv_data(_PREFIX.size)
        if not prefix:
            return None
        compressed, size = _PREFIX.unpack(prefix)
        if compressed:
            raise Refusal("compressed messages are not supported", code="unsupported", hint="send them as they are")
        if size > limit_bytes:
            raise over("message_bytes", "the message is larger than", limit_bytes, hint="large documents: SubmitStream")
        data = await raw.recv_data(size)
    except AssertionError:  # grpclib's way to say that the stream ended within a message
        raise Refusal("the message is cut short") from None
    try:
        return stream._recv_type.FromString(data)
    except DecodeError:
        raise Refusal(f"the message is not a {stream._recv_type.DESCRIPTOR.full_name}") from None


class _Connection(GatheredProtocol):
    """One client's connection. Beyond the limit it is closed as soon as it is made."""

    def __init__(self, like: H2Protocol, everyone: set[_Connection], limits: ApiLimits) -> None:
        super().__init__(like.handler, like.config, like.h2_config)
        self._everyone = everyone
        self._limits = limits

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._everyone.add(self)
        if len(self._everyone) > self._limits.connections_count:
            self.close()
        else:
            limit = self._limits.connection_streams_count
            self.connection._connection.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: limit})
            self.connection.flush()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._everyone.discard(self)
        super().connection_lost(exc)

    def close(self) -> None:
        """After what is written already was sent."""
        self.processor.close("the server closes the connection")


class GrpcServer(grpclib.server.Server):
    """Serves on one bound socket."""

    def __init__(self, handlers: Collection[IServable], bound: Bound, limits: ApiLimits) -> None:
        super().__init__(handlers, status_details_codec=DetailsCodec())
        self.bound = bound
        self._connections: set[_Connection] = set()
        self._limits = limits

    def _protocol_factory(self) -> H2Protocol:
        return _Connection(super()._protocol_factory(), self._connections, self._limits)

    async def serve(self) -> None:
        """Accept connections from now on; returns at once."""
        await self.start(sock=self.bound.socket, ssl=self.bound.context)

    async def aclose(self) -> None:
        """Cancel what still runs, close all connections, wait until both is done."""
        self.close()
        for connection in tuple(self._connections):
            connection.close()
        with anyio.move_on_after(CLOSE_WAIT_S):  # a client in the middle of a TLS handshake may never end it
            await self.wait_closed()
        self.bound.close()
