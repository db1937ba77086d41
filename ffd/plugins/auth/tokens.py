"""Static bearer tokens from a TOML file that only the daemon's user may read. The file holds hashes, never a token:

    [[token]]
    name = "ci"                       # shown as who did it
    sha256 = "9f86d081884c7d65..."    # of the token's text
    projects = ["research/llm"]       # what it may use; ["*"] = all
    admin = false                     # may also stop the daemon and read its metrics

Tokens are random (`new_token`), so one round of SHA-256 is enough: there is nothing to guess. An edited file counts
from the next call on. Callers without a token go to `fallback` (the owner on the unix socket), when there is one.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from ffd.errors import PluginError, Refusal
from ffd.plugins.ports import Auth, Principal

TOKEN_PREFIX = "ffd_"
MAX_TOKEN_CHARS = 512
MAX_FILE_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


def new_token() -> tuple[str, str]:
    """A new random token, to be shown once, and the hash to write into the file."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    return token, digest(token)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    sha256: str
    projects: tuple[str, ...]
    admin: bool = False


class _File(msgspec.Struct, forbid_unknown_fields=True):
    token: tuple[_Entry, ...] = ()


class TokenAuth:
    """PluginError at construction, and later at calls, when the file is missing, readable by others or malformed."""

    def __init__(self, path: str | Path, fallback: Auth | None = None) -> None:
        self._path = Path(path)
        self._fallback = fallback
        self._stamp: tuple[int, int, int] | None = None
        self._principals: dict[str, Principal] = {}
        self._refresh()

    async def authenticate(self, token: str, peer: str) -> Principal:
        if not token and self._fallback is not None:
            return await self._fallback.authenticate(token, peer)
        self._refresh()
        principal = self._principals.get(digest(token)) if 0 < len(token) <= MAX_TOKEN_CHARS else None
        if principal is None:
            raise Refusal(
                "the token is not known here" if token else "a token is needed",
                code="unauthenticated",
                hint="log in with a token that the daemon's tokens file lists",
            )
        return principal

    def _refresh(self) -> None:
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
                if stamp == self._stamp:
                    return
                if stat.S_IMODE(status.st_mode) & 0o077:
                    raise PluginError(f"{self._path} can be read by others", hint=f"chmod 600 {self._path}")
                if status.st_size > MAX_FILE_BYTES:
                    raise PluginError(f"{self._path} is larger than {MAX_FILE_BYTES} bytes")
                content = file.read()
        except OSError as error:
            raise PluginError(f"cannot read the tokens file {self._path}: {error.strerror}") from None
        self._principals = self._parse(content)
        self._stamp = stamp

    def _parse(self, content: bytes) -> dict[str, Principal]:
        try:
            tables: dict[str, Any] = tomllib.loads(content.decode())
            entries = msgspec.convert(tables, _File).token
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise PluginError(f"{self._path}: {error}", hint="see the tokens file's format in the reference") from None
        principals = {}
        for entry in entries:
            if not _SHA256.fullmatch(entry.sha256):
                raise PluginError(f"{self._path}: the sha256 of {entry.name!r} is not 64 lower-case hex digits")
            principals[entry.sha256] = Principal(name=entry.name, admin=entry.admin, projects=entry.projects)
        return principals
