"""What an entry of the HTTP API's table is: a route, the call that its handler gets, the reply it may give.

Used by `routes`, by parts of the table that have a file of their own, and by the server. Never here: handlers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from ffd.api import http_shapes as shapes
from ffd.api.access import Access
from ffd.api.authz import VERBS
from ffd.api.serving import Serving

JSON_TYPE = "application/json"
PREFIX = "/api/v1"


class Call(NamedTuple):
    """One request, permitted, checked and decoded. `body` is the decoded JSON, or for a document its bytes."""

    access: Access
    serving: Serving
    path: dict[str, str]
    query: Any
    body: Any
    content_type: str
    key: str  # Idempotency-Key
    last_event_id: str


class Reply(NamedTuple):
    """A reply that is more than a struct with status 200."""

    status: int
    body: Any = None  # a struct, JSON data, or text
    headers: dict[str, str] = {}
    content_type: str = JSON_TYPE


class EventSink(Protocol):
    """Where a streamer puts its events. Errors before `open` become a problem, later ones an `error` event."""

    async def open(self) -> None: ...

    async def send(self, identity: str, event: str, data: Any) -> None: ...


Handler = Callable[[Call], Awaitable[Any]]
Streamer = Callable[[Call, EventSink], Awaitable[None]]


class Route(NamedTuple):
    """`document`: the body is a workflow document, or an envelope with one. `stream`: what events to send."""

    method: str
    path: str
    verb: str
    summary: str
    handler: Handler | None
    reply: Any
    query: type[shapes.Query] = shapes.Query
    body: type[shapes.Body] | None = None
    document: bool = False
    stream: Streamer | None = None
    event: Any = None
    status: int = 200

    @property
    def permission(self) -> str:
        return VERBS[self.verb]
