"""Binds the sockets the API listens on, and refuses to listen where that would be unsafe. Called by `server`.

The rule: a unix socket (only its owner can connect) and loopback need nothing; anything that another machine could
reach needs TLS and an Auth that knows its callers. Errors are PluginError: the operator must act.
"""

from __future__ import annotations

import os
import socket
import ssl
import stat
from pathlib import Path

import msgspec

from ffd.api.address import Address, parse_address
from ffd.errors import PluginError, Refusal

BACKLOG = 512


class Tls(msgspec.Struct, frozen=True):
    """PEM files of the server's certificate chain and its key. Read once, at start."""

    cert_file: str
    key_file: str


class Bound(msgspec.Struct):
    """A listening socket. `address` holds the real port. `inode` tells our unix socket from a later one."""

    socket: socket.socket
    address: Address
    context: ssl.SSLContext | None
    inode: int = 0

    def close(self) -> None:
        """Close, and remove the unix socket's file if it is still ours. Idempotent."""
        self.socket.close()
        if self.address.scheme == "unix":
            path = Path(self.address.path)
            try:
                if path.lstat().st_ino == self.inode:
                    path.unlink()
            except FileNotFoundError:
                pass


def bind(text: str, schemes: tuple[str, ...], alpn: str, tls: Tls | None, remote_auth: bool) -> Bound:
    """Bind and listen on the address in `text`. `alpn`: what TLS offers. `remote_auth`: callers from other machines
    are told apart. PluginError: not an address, unsafe, no certificate, busy, not permitted."""
    try:
        address = parse_address(text, schemes)
    except Refusal as refusal:
        raise PluginError(refusal.message, hint=refusal.hint, field="daemon.listen") from None
    _check_exposure(address, tls, remote_auth)
    context = _server_context(tls, alpn) if address.is_tls and tls is not None else None
    try:
        if address.scheme == "unix":
            return _bind_unix(address)
        return _bind_tcp(address, context)
    except OSError as error:
        raise PluginError(f"cannot listen on {address}: {error.strerror or error}", hint=_hint(error)) from None


def _check_exposure(address: Address, tls: Tls | None, remote_auth: bool) -> None:
    if address.is_tls and tls is None:
        raise PluginError(f"{address} needs a certificate", hint="set daemon.tls_cert and daemon.tls_key")
    if address.is_loopback:
        return
    if not address.is_tls:
        raise PluginError(
            f"refused to listen on {address}: other machines could reach it and it is not encrypted",
            hint="use grpcs:// or https:// with a certificate and tokens, a loopback address, or a unix socket",
        )
    if not remote_auth:
        raise PluginError(
            f"refused to listen on {address}: other machines could reach it and no tokens tell callers apart",
            hint="set daemon.tokens_file, or use a loopback address or a unix socket",
        )


def _server_context(tls: Tls, alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([alpn])
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        raise PluginError(
            f"cannot use the certificate {tls.cert_file} with the key {tls.key_file}: {error}",
            hint="both must be PEM files that belong together and that the daemon may read",
        ) from None
    return context


def _bind_tcp(address: Address, context: ssl.SSLContext | None) -> Bound:
    host = "127.0.0.1" if address.host == "localhost" else address.host
    family, kind, protocol, _, where = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    real = Address(scheme=address.scheme, host=address.host, port=listener.getsockname()[1])
    return Bound(listener, real, context)


def _bind_unix(address: Address) -> Bound:
    path = Path(address.path).absolute()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), 0o600)  # Linux gives the file this mode at bind: it is never open to others
        listener.bind(str(path))
        listener.listen(BACKLOG)
        listener.setblocking(False)
        inode = path.lstat().st_ino
    except OSError:
        listener.close()
        raise
    return Bound(listener, Address(scheme="unix", path=str(path)), None, inode)


def _remove_stale(path: Path) -> None:
    """Remove the socket a killed daemon left. PluginError when something lives there, or it is not a socket of ours."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.getuid():
        raise PluginError(f"{path} exists and is not a socket of this user", hint="choose another path, or remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except (TimeoutError, BlockingIOError):
            pass  # its backlog is full: somebody is there
    raise PluginError(
        f"another daemon listens on unix:{path}", hint="stop it (`ffd daemon stop`) or use another --state"
    )


def _hint(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "use a port above 1023 and a directory this user may write to"
    if isinstance(error, socket.gaierror):
        return "use an address or a name of this machine"
    return "another process uses it: stop that, or choose another port (0 = any free one)"
