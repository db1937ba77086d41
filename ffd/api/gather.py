"""Writes of one turn of the event loop leave as one. grpclib writes each HTTP/2 frame by itself, three for a reply;
with many calls at once the system calls, and the wake-ups at the other end, would cost more than the calls.

Used on both ends, by `grpc_server` and `link`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from grpclib.protocol import H2Protocol

TURN_BYTES = 64 << 10  # more leaves at once, so that the transport's own flow control sees it


class Gathered(asyncio.Transport):
    """What grpclib uses of a transport, over a real one."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._call_soon = asyncio.get_running_loop().call_soon
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> None:
        if not self._pieces:
            self._call_soon(self._flush)
        self._pieces.append(bytes(data))
        self._size += len(data)
        if self._size > TURN_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


class GatheredProtocol(H2Protocol):
    """grpclib's protocol over such a transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(Gathered(transport))
