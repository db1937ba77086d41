"""Who is at the other end of a connection, as the kernel tells: the `peer` text that Auth plugins get.

`unix:uid=N` for a unix socket, `loopback:uid=N` for a process of this machine that came over TCP, `remote` for
everybody else and whenever the kernel does not tell. Called by `server` once per connection without a token.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import anyio.to_thread

REMOTE = "remote"
_ESTABLISHED = "01"  # in other states the kernel reports uid 0
_UCRED = struct.Struct("iII")  # pid, uid, gid


async def identify(transport: asyncio.BaseTransport) -> str:
    """The peer text of a connection. Never raises."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return REMOTE
    if sock.family == socket.AF_UNIX:
        return _unix_peer(sock)
    return await _loopback_peer(transport.get_extra_info("peername"), transport.get_extra_info("sockname"))


def _unix_peer(sock: Any) -> str:
    if not hasattr(socket, "SO_PEERCRED"):
        return REMOTE
    _, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return f"unix:uid={uid}"


async def _loopback_peer(theirs: tuple[Any, ...], ours: tuple[Any, ...]) -> str:
    """A file permission keeps other users from a unix socket; over TCP only the kernel's table tells whose it is."""
    ip = ipaddress.ip_address(str(theirs[0]).partition("%")[0])
    if not ip.is_loopback:
        return REMOTE
    table = Path("/proc/net/tcp" if ip.version == 4 else "/proc/net/tcp6")
    wanted = [_row(theirs), _row(ours), _ESTABLISHED]
    uid = await anyio.to_thread.run_sync(_find_uid, table, wanted)
    return REMOTE if uid is None else f"loopback:uid={uid}"


def _find_uid(table: Path, wanted: list[str]) -> int | None:
    try:
        with table.open() as rows:
            for row in rows:
                columns = row.split(maxsplit=8)
                if columns[1:4] == wanted:
                    return int(columns[7])
    except OSError:
        return None  # another kernel
    return None


def _row(address: tuple[Any, ...]) -> str:
    """ADDRESS:PORT as the kernel writes it: 32-bit words in the machine's own byte order."""
    packed = ipaddress.ip_address(str(address[0]).partition("%")[0]).packed
    words = (int.from_bytes(packed[start : start + 4], sys.byteorder) for start in range(0, len(packed), 4))
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
