"""A personal daemon: its owner is the administrator, nobody else gets in. Needs no secret.

The kernel says who is at the other end (`peer`): over a unix socket the owner or root, over loopback TCP the owner only
(root there may be a proxy that speaks for others). Everybody else, and every token, is refused.
"""

from __future__ import annotations

import os
import pwd
import re
from functools import cache

from ffd.errors import Refusal
from ffd.plugins.ports import Principal

_PEER = re.compile(r"(unix|loopback):uid=(\d+)")
ROOT_UID = 0


class LocalAuth:
    """`owner_uid` defaults to the user this process runs as."""

    def __init__(self, owner_uid: int | None = None) -> None:
        self._owner_uid = os.getuid() if owner_uid is None else owner_uid

    async def authenticate(self, token: str, peer: str) -> Principal:
        if token:
            raise Refusal(
                "this daemon knows no such token",
                code="unauthenticated",
                hint="call without a token over its unix socket, or start it with a tokens file",
            )
        match = _PEER.fullmatch(peer)
        uid = int(match[2]) if match else -1
        if match and (uid == self._owner_uid or (match[1] == "unix" and uid == ROOT_UID)):
            return Principal(name=_user_name(uid), admin=True)
        raise Refusal(
            "this daemon serves only its owner",
            code="unauthenticated",
            hint=f"call as the user {_user_name(self._owner_uid)}, or present a token if it has a tokens file",
        )


@cache
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container's user without an entry
        return f"uid-{uid}"
