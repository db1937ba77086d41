"""One client's connection to a daemon: opened when needed, again when it broke, to the leader when told where it is.

Turns everything that can go wrong on the way into the errors of `ffd.errors`. Only `client` uses it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
from grpclib.client import Channel
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from h2.exceptions import H2Error

from ffd.api.address import Address, parse_address
from ffd.api.gather import GatheredProtocol
from ffd.api.problem import DetailsCodec, from_grpc
from ffd.errors import FfdError, Refusal, Unavailable

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
CALLS_COUNT = 128  # under way at once; the cost of opening one grows with their number


class Link:
    """`timeout_ms` bounds one call with all its retries, and how long a stream waits for a daemon that went away."""

    def __init__(self, address: Address, token: str, timeout_ms: int) -> None:
        self._home = address
        self._address = address
        self._metadata = {"authorization": f"Bearer {token}"} if token else {}
        self._timeout_s = timeout_ms / 1000
        self._channel: Channel | None = None
        self._stubs: dict[type[Any], Any] = {}
        self._reached = False
        self._turns = asyncio.Semaphore(CALLS_COUNT)

    async def call(self, stub: type[Any], method: str, request: Any) -> Any:
        """One unary call of a service's stub. Errors: those of the server; Unavailable."""
        patience = Patience(self, self._timeout_s)
        while True:
            try:
                async with self._turns:
                    with self._errors():
                        bound = getattr(self._stub(stub), method)
                        reply = await bound(request, timeout=patience.left_s(), metadata=self._metadata)
                    self._reached = True
                    return reply
            except Unavailable as error:
                await patience.wait(error)

    @asynccontextmanager
    async def send(self, stub: type[Any], method: str) -> AsyncIterator[Any]:
        """A call with many requests and one reply: `send_message(..., end=)`, then `recv_message`. Not repeated."""
        with self._errors():
            bound = getattr(self._stub(stub), method)
            async with bound.open(timeout=self._timeout_s, metadata=self._metadata) as stream:
                yield stream
            self._reached = True

    @asynccontextmanager
    async def subscribe(self, stub: type[Any], method: str, request: Any) -> AsyncIterator[AsyncIterator[Any]]:
        """A call with one request and many replies, for as long as it lasts. Not repeated. Errors as in `call`, also
        those that the iteration meets."""
        with self._errors():
            bound = getattr(self._stub(stub), method)
            async with bound.open(metadata=self._metadata) as stream:
                await stream.send_message(request, end=True)
                await stream.recv_initial_metadata()
                self._reached = True
                yield stream

    def patience(self) -> Patience:
        """For a caller that repeats streams by itself."""
        return Patience(self, self._timeout_s)

    async def aclose(self) -> None:
        """Close the connection; a later call opens it again."""
        self._drop()

    # ------------------------------------------------------------------------------------------------------- inside

    def _stub(self, kind: type[Any]) -> Any:
        if self._channel is None:
            self._channel = _open_channel(self._address)
        if kind not in self._stubs:
            self._stubs[kind] = kind(self._channel)
        return self._stubs[kind]

    def _drop(self) -> None:
        self._stubs.clear()
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _move(self, address: Address) -> None:
        if address != self._address:
            self._drop()
            self._address = address

    def _follow(self, hint: str) -> None:
        """Go where a standby says that the leader is; never from an encrypted connection to a plain one."""
        try:
            leader = parse_address(hint)
        except Refusal:
            return  # advice for people
        if leader.is_tls or not self._home.is_tls:
            self._move(leader)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        task = asyncio.current_task()
        cancels_count = task.cancelling() if task else 0
        try:
            yield
        except GRPCError as error:
            self._reached = True
            raise from_grpc(error) from None
        except TimeoutError:
            self._forgive(task, cancels_count)
            raise Unavailable(
                f"the daemon at {self._address} did not answer within {self._timeout_s:g} s",
                hint="look before you repeat it: it may have been done all the same",
            ) from None
        except (OSError, StreamTerminatedError, ProtocolError, H2Error) as error:
            self._forgive(task, cancels_count)
            unreachable = self._unreachable(error)
            self._move(self._home)
            raise unreachable from None

    @staticmethod
    def _forgive(task: asyncio.Task[Any] | None, cancels_count: int) -> None:
        """grpclib wakes a waiting call by cancelling its task and swallows that; the count must not stay, or timeouts
        around us take the next cancellation for somebody else's."""
        if task and task.cancelling() > cancels_count:
            task.uncancel()

    def _unreachable(self, error: Exception) -> Unavailable:
        if isinstance(error, FileNotFoundError):
            why = "there is no such socket"
        elif isinstance(error, ssl.SSLCertVerificationError):
            why = f"its certificate is not trusted: {error.verify_message}"
        else:
            why = getattr(error, "strerror", None) or str(error)
        doing = "lost the daemon" if self._reached else "cannot reach a daemon"
        return Unavailable(f"{doing} at {self._address}: {why}", hint="start one with `ffd daemon run`")


class Patience:
    """How long one call, or one stream that makes no progress, is tried again."""

    def __init__(self, link: Link, timeout_s: float) -> None:
        self._link = link
        self._timeout_s = timeout_s
        self.renew()

    def renew(self) -> None:
        """There was progress."""
        self._until = anyio.current_time() + self._timeout_s
        self._pause_s = FIRST_PAUSE_S

    def left_s(self) -> float:
        return max(0.001, self._until - anyio.current_time())

    async def wait(self, error: FfdError) -> None:
        """Before the next try; raises the error when there is none: the daemon was never there, or the time is up."""
        if not self._link._reached or anyio.current_time() + self._pause_s >= self._until:
            raise error
        self._link._follow(error.hint)
        await anyio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)


class _Channel(Channel):
    def _protocol_factory(self) -> H2Protocol:
        like = super()._protocol_factory()
        return GatheredProtocol(like.handler, like.config, like.h2_config)


def _open_channel(address: Address) -> Channel:
    codec = DetailsCodec()
    if address.scheme == "unix":
        return _Channel(path=address.path, status_details_codec=codec)
    context = None
    if address.is_tls:
        context = ssl.create_default_context()  # SSL_CERT_FILE names another authority
        context.set_alpn_protocols(["h2"])
    return _Channel(address.host, address.port, ssl=context, status_details_codec=codec)
