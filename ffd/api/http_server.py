"""HTTP: what happens to every request before and after its handler. The handlers are in `routes`.

In order: the Host must be ours and the Origin, when there is one, the same (so no web page reaches a personal daemon,
also not by DNS rebinding); the caller must be permitted; query and body must be of the route's shapes and within
limits. Every error is a problem document.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import anyio
import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

from ffd.api.http_shapes import Body, Query
from ffd.api.limits import ApiLimits, over
from ffd.api.listen import Bound
from ffd.api.problem import Problem, problem
from ffd.api.route import JSON_TYPE, Call, Reply, Route, Streamer
from ffd.api.routes import DOCUMENT_TYPES, ROUTES
from ffd.api.serving import Serving
from ffd.api.traffic import only_error
from ffd.errors import FfdError, Refusal, Unavailable

EVENTS_TYPE = "text/event-stream"
PROBLEM_TYPE = "application/problem+json"
HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
RETRY_AFTER_S = "1"
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:\d+)?")
Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpServer:
    """Serves on one bound socket. `allowed_hosts`: names besides IP addresses and localhost."""

    def __init__(self, serving: Serving, bound: Bound, allowed_hosts: frozenset[str]) -> None:
        self.bound = bound
        self._serving = serving
        self._allowed_hosts = frozenset(name.lower().strip("[]") for name in allowed_hosts) | {"localhost"}
        self._server: asyncio.AbstractServer | None = None
        app = web.Application(middlewares=[self._guard], client_max_size=serving.limits.document_bytes)
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._handler(route))
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1, logger=_Log(server_logger, {})
        )

    async def serve(self) -> None:
        """Accept connections from now on; returns at once."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, sock=self.bound.socket, ssl=self.bound.context)

    async def aclose(self) -> None:
        """Cancel what still runs, close all connections, wait until both is done."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()
        self.bound.close()

    def _protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        if len(server.connections) >= self._serving.limits.connections_count:
            return _Refused()
        return server()

    # ---------------------------------------------------------------------------------------------------- every request

    @web.middleware
    async def _guard(self, request: web.Request, handler: Next) -> web.StreamResponse:
        try:
            self._check_host(request)
            with self._serving.traffic.call():
                return await handler(request)
        except FfdError as error:
            return _refuse(error)
        except web.HTTPException as error:  # no such route or method, or a body over all limits
            return _refuse_http(request, error)

    def _check_host(self, request: web.Request) -> None:
        host = request.headers.get("Host", "")
        match = _HOST.fullmatch(host)
        if match is None or not self._is_ours(match["name"].strip("[]").lower()):
            raise Refusal(
                f"this daemon is not {host[:200]!r}", code="forbidden", field="Host",
                hint="call it by IP address, as localhost, or by a name in daemon.allowed_hosts",
            )  # fmt: skip
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise Refusal("requests from other web pages are refused", code="forbidden", field="Origin")

    def _is_ours(self, name: str) -> bool:
        """A rebinding attack needs a name of its own: IP addresses are safe."""
        if name in self._allowed_hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _handler(self, route: Route) -> Next:
        async def handle(request: web.Request) -> web.StreamResponse:
            authorization = request.headers.get("Authorization", "")
            access = await self._serving.access(route.verb, authorization, request.transport)
            limits = self._serving.limits
            call = Call(
                access=access,
                serving=self._serving,
                path=dict(request.match_info),
                query=_query(request, route.query),
                body=await _body(request, route, limits),
                content_type=request.content_type,
                key=request.headers.get("Idempotency-Key", ""),
                last_event_id=request.headers.get("Last-Event-ID", ""),
            )
            if route.stream is not None and (route.handler is None or EVENTS_TYPE in request.headers.get("Accept", "")):
                return await _stream(request, route.stream, call)
            assert route.handler is not None
            try:
                with anyio.fail_after(limits.request_ms / 1000):
                    return _response(await route.handler(call))
            except TimeoutError:
                raise Unavailable("limits.request_ms is over") from None

        return handle


class _Log(logging.LoggerAdapter[logging.Logger]):
    """What is not HTTP at all is the sender's fault, and it was told: no traceback for that."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **more: Any) -> None:
        if isinstance(exc_info, HttpProcessingError):
            self.debug(msg, *args)
        else:
            super().exception(msg, *args, exc_info=exc_info, **more)


class _Refused(asyncio.Protocol):
    """A connection over the limit: closed as soon as it is made."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


# --------------------------------------------------------------------------------------------------------- requests


def _query(request: web.Request, kind: type[Query]) -> Query:
    many = {field.name for field in msgspec.structs.fields(kind) if isinstance(field.default, tuple)}
    given: dict[str, Any] = {}
    for name in request.query:
        values = request.query.getall(name)
        if name not in many and len(values) > 1:
            raise Refusal(f"{name} is given more than once", field=name)
        given[name] = values if name in many else values[0]
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Refusal(f"the query is wrong: {error}", field="query") from None


async def _body(request: web.Request, route: Route, limits: ApiLimits) -> Body | bytes | None:
    """None for a route without; bytes for a document; else the decoded struct."""
    if route.document:
        _check_type(request, (JSON_TYPE, *DOCUMENT_TYPES))
        return await _read(request, "document_bytes", limits.document_bytes)
    if route.body is None:
        return None
    data = await _read(request, "message_bytes", limits.message_bytes)
    if data:
        _check_type(request, (JSON_TYPE,))
    try:
        return msgspec.json.decode(data or b"{}", type=route.body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal(f"the body is wrong: {error}", field="body") from None


def _check_type(request: web.Request, types: tuple[str, ...]) -> None:
    if request.content_type not in types or request.headers.get("Content-Encoding", "identity") != "identity":
        raise web.HTTPUnsupportedMediaType(reason=f"send {' or '.join(types)}, not compressed")


async def _read(request: web.Request, name: str, limit_bytes: int) -> bytes:
    """The body; refused by its announced length, or as soon as it is over."""
    refusal = over(name, "the body is larger than", limit_bytes)
    if (request.content_length or 0) > limit_bytes:
        raise refusal
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        if len(data) > limit_bytes:
            raise refusal
    return bytes(data)


# ---------------------------------------------------------------------------------------------------------- replies


def _response(result: Any) -> web.Response:
    reply = result if isinstance(result, Reply) else Reply(200, result)
    if reply.body is None:
        return web.Response(status=reply.status, headers={**HEADERS, **reply.headers})
    body = reply.body.encode() if isinstance(reply.body, str) else msgspec.json.encode(reply.body)
    headers = {**HEADERS, **reply.headers, "Content-Type": reply.content_type}
    return web.Response(status=reply.status, body=body, headers=headers)


def _refuse(error: FfdError) -> web.Response:
    found = problem(error)
    headers = {**HEADERS, "Content-Type": PROBLEM_TYPE}
    if found.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if found.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = RETRY_AFTER_S
    return web.Response(status=found.status, body=msgspec.json.encode(found), headers=headers)


def _refuse_http(request: web.Request, error: web.HTTPException) -> web.Response:
    codes = {404: "not_found", 405: "unsupported", 413: "limit", 415: "unsupported"}
    details = {404: f"there is nothing at {request.path[:200]}", 405: f"{request.method} is not possible here"}
    found = Problem(
        type="about:blank", title=HTTPStatus(error.status).phrase, status=error.status,
        detail=details.get(error.status, error.reason), code=codes.get(error.status, "invalid"),
        hint="see /openapi.json",
    )  # fmt: skip
    headers = {**HEADERS, "Content-Type": PROBLEM_TYPE}
    if "Allow" in error.headers:
        headers["Allow"] = error.headers["Allow"]
    return web.Response(status=error.status, body=msgspec.json.encode(found), headers=headers)


class _Events:
    """Server-Sent Events on one response; opened by the streamer, or by the first event."""

    def __init__(self, request: web.Request) -> None:
        self.response = web.StreamResponse(headers={**HEADERS, "Content-Type": EVENTS_TYPE, "X-Accel-Buffering": "no"})
        self._request = request
        self._lock = anyio.Lock()

    async def open(self) -> None:
        await self._write(b": open\n\n")

    async def send(self, identity: str, event: str, data: Any) -> None:
        head = f"id: {identity}\nevent: {event}\ndata: " if identity else f"event: {event}\ndata: "
        await self._write(head.encode() + msgspec.json.encode(data) + b"\n\n")

    async def beat(self, interval_s: float) -> None:
        """A comment now and then, so that both ends notice a dead connection."""
        while True:
            await anyio.sleep(interval_s)
            if self.response.prepared:
                await self._write(b": alive\n\n")

    async def _write(self, text: bytes) -> None:
        async with self._lock:
            if not self.response.prepared:
                await self.response.prepare(self._request)
            await self.response.write(text)


async def _stream(request: web.Request, streamer: Streamer, call: Call) -> web.StreamResponse:
    """Events until the streamer returns (`end`) or fails (`error`; before the first event: a problem)."""
    events = _Events(request)
    with suppress(ConnectionError):  # the reader is gone
        try:
            with call.serving.traffic.stream():
                async with anyio.create_task_group() as group:
                    group.start_soon(events.beat, call.serving.limits.heartbeat_ms / 1000)
                    await streamer(call, events)
                    group.cancel_scope.cancel()
            await events.send("", "end", {})
        except (FfdError, BaseExceptionGroup) as raised:
            error = only_error(raised)
            if not isinstance(error, FfdError) or not events.response.prepared:
                raise error from None
            await events.send("", "error", problem(error))
        await events.response.write_eof()
    return events.response
