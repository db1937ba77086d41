"""Who may do what: one table of verbs for both transports, task tokens, and the check that stands before every call.

Never here: which workflows a caller may see (`access`), or how a caller proves who it is (Auth plugins).
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jwt
import msgspec

from ffd.core.model import AttemptId
from ffd.errors import Refusal
from ffd.plugins.ports import Auth, Principal

Permission = Literal["public", "user", "admin", "task"]

# public: anybody who can connect. user: a known user, within the projects it may use (`access`). admin: an
# administrator. task: the live attempt that a task token names.
VERBS: Mapping[str, Permission] = {
    "health": "public",
    "ready": "public",
    "schema": "public",
    "openapi": "public",
    "submit": "user",
    "get": "user",
    "list": "user",
    "tasks": "user",
    "items": "user",
    "attempts": "user",
    "spec": "user",
    "explain": "user",
    "watch": "user",
    "story": "user",
    "read_log": "user",
    "follow_log": "user",
    "cancel": "user",
    "suspend": "user",
    "resume": "user",
    "retry": "user",
    "set_priority": "user",
    "nodes": "user",
    "node": "user",
    "gpus": "user",
    "cordon": "admin",
    "uncordon": "admin",
    "drain": "admin",
    "queue": "user",
    "tenants": "user",
    "quotas": "user",
    "shares": "user",
    "set_tenant": "admin",
    "set_quota": "admin",
    "status": "user",
    "leader": "user",
    "metrics": "admin",
    "snapshot": "admin",
    "stop": "admin",
    "inputs": "task",
    "set_output": "task",
    "save_checkpoint": "task",
    "get_checkpoint": "task",
    "progress": "task",
    "heartbeat": "task",
    "barrier": "task",
}
ANYBODY = Principal(name="", projects=())


def permit(principal: Principal, verb: str) -> None:
    """Refusal (forbidden, unauthenticated) unless this caller may use the verb at all."""
    permission = VERBS[verb]
    if permission == "public":
        return
    if permission == "task":
        if principal.attempt is None:
            raise Refusal("only a task may call this", code="unauthenticated", hint="present the task's FFD_TOKEN")
        return
    if principal.kind != "user":
        raise Refusal("a task token may not do this", code="forbidden", hint="use a user's token")
    if permission == "admin" and not principal.admin:
        raise Refusal(f"{verb} needs an administrator, {principal.name} is none", code="forbidden")


class TokenMinter:
    """Makes and checks task tokens: HS256, bound to one attempt, expiring. The daemon keeps the key across restarts.

    `now_s` is the wall clock, in seconds since the Unix epoch. A token is a credential, not a lease: that its attempt
    is the live one is checked by the engine on every call."""

    ISSUER = "ffd"
    AUDIENCE = "ffd.task"
    KEY_BYTES = 32
    CLAIMS = ("iss", "aud", "iat", "exp", "workflow", "task", "item", "attempt")
    MAX_TOKEN_CHARS = 2_048

    def __init__(self, key: bytes, now_s: Callable[[], float]) -> None:
        if len(key) < self.KEY_BYTES:
            raise ValueError(f"the key must have at least {self.KEY_BYTES} bytes")
        self._key = key
        self._now_s = now_s

    def mint(self, attempt: AttemptId, expires_at_s: float) -> str:
        """A token for this attempt, valid until `expires_at_s`. Made by hand: each launch makes one, and a library
        that looks at the key again each time takes ten times as long."""
        claims = {
            "iss": self.ISSUER,
            "aud": self.AUDIENCE,
            "iat": int(self._now_s()),
            "exp": int(expires_at_s),
            "workflow": attempt.workflow,
            "task": attempt.task,
            "item": attempt.item,
            "attempt": attempt.attempt,
        }
        signed = _HEADER + b"." + _base64(msgspec.json.encode(claims))
        return (signed + b"." + _base64(hmac.digest(self._key, signed, "sha256"))).decode()

    def verify(self, token: str) -> AttemptId:
        """The attempt a token names. Refusal (unauthenticated): not ours, altered, for another audience, or expired."""
        if len(token) > self.MAX_TOKEN_CHARS:
            raise _bad_token("it is too long")
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=["HS256"],
                audience=self.AUDIENCE,
                issuer=self.ISSUER,
                leeway=0,
                # the library reads the wall clock itself: expiry is checked below, against the given one
                options={
                    "require": list(self.CLAIMS),
                    "strict_aud": True,
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            named = msgspec.convert(claims, _Claims)
        except (jwt.InvalidTokenError, msgspec.ValidationError) as error:
            raise _bad_token(str(error)) from None
        if named.exp <= self._now_s():
            raise _bad_token("it has expired")
        return AttemptId(named.workflow, named.task, named.item, named.attempt)


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


_HEADER = _base64(b'{"alg":"HS256","typ":"JWT"}')


class _Claims(msgspec.Struct):
    exp: int
    workflow: int
    task: str
    item: int
    attempt: int


def _bad_token(why: str) -> Refusal:
    return Refusal(
        f"the task token is not valid: {why}", code="unauthenticated", hint="use the token of a live attempt"
    )


class Gate:
    """Turns what a connection presents into a Principal: a task token, a user's token, or the connection itself."""

    def __init__(self, auth: Auth, tokens: TokenMinter) -> None:
        self._auth = auth
        self._tokens = tokens

    async def principal(self, authorization: str, peer: str) -> Principal:
        """`authorization` is the header's value, "" = none. Refusal (unauthenticated) when it proves nothing."""
        token = ""
        if authorization:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() != "bearer" or not token.strip():
                raise Refusal("the authorization must be `Bearer TOKEN`", code="unauthenticated", field="authorization")
        token = token.strip()
        if looks_like_task_token(token):
            attempt = self._tokens.verify(token)
            return Principal(name=f"task {attempt.label()}", kind="task", projects=(), attempt=attempt)
        return await self._auth.authenticate(token, peer)


def looks_like_task_token(token: str) -> bool:
    """Task tokens are signed claims (three dotted parts); users' tokens have no dots."""
    return token.count(".") == 2


def bearer(token: str) -> dict[str, Any]:
    """The metadata or headers that present a token; empty for none."""
    return {"authorization": f"Bearer {token}"} if token else {}
