"""Addresses, as people write them: `unix:PATH`, `grpc://HOST:PORT`, `grpcs://HOST:PORT`, `http://…`, `https://…`.

Used by both ends: `listen` binds them, `client` connects to them. Never here: a socket.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from ffd.errors import Refusal

Scheme = Literal["unix", "grpc", "grpcs", "http", "https"]
SOCKET_PATH_BYTES = 107  # what the kernel takes

_HOST_PORT = re.compile(
    r"(?P<scheme>[a-z]+)://(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]*)):(?P<port>\d{1,5})/?"
)


class Address(msgspec.Struct, frozen=True):
    """`path` for unix, `host` and `port` for the others; port 0 = any free one (only to listen)."""

    scheme: Scheme
    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def is_tls(self) -> bool:
        return self.scheme in ("grpcs", "https")

    @property
    def is_loopback(self) -> bool:
        """True when only this machine can reach it: a unix socket, a loopback IP, or the name `localhost`."""
        if self.scheme == "unix" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False  # a name: it may resolve to anything

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_address(text: str, schemes: tuple[str, ...] = ("unix", "grpc", "grpcs")) -> Address:
    """The address in `text`. Refusal (invalid, field `address`) says what was expected. A bare HOST:PORT means the
    first scheme of `schemes` that is not unix."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if "unix" in schemes and path and "\0" not in path:
            if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
                raise _refusal(text, schemes, f"the path of a unix socket may have {SOCKET_PATH_BYTES} bytes")
            return Address(scheme="unix", path=path)
        raise _refusal(text, schemes, "")
    named = text if "://" in text else f"{next(one for one in schemes if one != 'unix')}://{text}"
    match = _HOST_PORT.fullmatch(named)
    if match is None or match["scheme"] not in schemes or not 0 <= int(match["port"]) <= 65_535:
        raise _refusal(text, schemes, "")
    return msgspec.convert(
        {"scheme": match["scheme"], "host": match["six"] or match["host"], "port": int(match["port"])}, Address
    )


def default_address(environ: Mapping[str, str] = os.environ) -> str:
    """Where a user's own daemon listens, and is looked for, when nobody says otherwise: FFD_ADDRESS, else a socket in
    the user's runtime directory, else (where there is none) in the user's state directory."""
    if environ.get("FFD_ADDRESS"):
        return environ["FFD_ADDRESS"]
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.path.isdir(runtime):
        return f"unix:{runtime}/ffd/ffd.sock"
    state = environ.get("XDG_STATE_HOME", "")
    home = Path(state) if os.path.isabs(state) else Path.home() / ".local/state"
    return f"unix:{home}/ffd/ffd.sock"


def _refusal(text: str, schemes: tuple[str, ...], why: str) -> Refusal:
    forms = ["unix:PATH" if scheme == "unix" else f"{scheme}://HOST:PORT" for scheme in schemes]
    return Refusal(
        f"not an address: {text[:200]!r}" + (f" ({why})" if why else ""),
        field="address",
        hint=f"write {' or '.join(forms)}",
    )
