"""Who gets in, and who may do what."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from pathlib import Path
from typing import Any

import jwt
import pytest

from ffd.api import peers
from ffd.api.authz import ANYBODY, VERBS, Gate, TokenMinter, permit
from ffd.core.model import AttemptId
from ffd.errors import PluginError, Refusal
from ffd.plugins.auth.local import LocalAuth
from ffd.plugins.auth.tokens import TokenAuth, digest, new_token
from ffd.plugins.ports import Principal

KEY = bytes(range(32))
ATTEMPT = AttemptId(42, "train", 3, 2)
NOW_S = 1_000_000.0
MINTER = TokenMinter(KEY, lambda: NOW_S)
USER = Principal(name="u", projects=("a",))
ADMIN = Principal(name="root", admin=True)
TASK = Principal(name="task", kind="task", projects=(), attempt=ATTEMPT)


def refused(code: str, action: Any, *arguments: Any) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        result = action(*arguments)
        if asyncio.iscoroutine(result):
            asyncio.run(result)
    assert refusal.value.code == code
    return refusal.value


# ------------------------------------------------------------------------------------------------------- permissions


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_verb_admits_exactly_whom_its_permission_names(verb: str) -> None:
    admitted = {"public": {ANYBODY, USER, ADMIN, TASK}, "user": {USER, ADMIN}, "admin": {ADMIN}, "task": {TASK}}
    for principal in (USER, ADMIN, TASK):
        if principal in admitted[VERBS[verb]]:
            permit(principal, verb)
        else:
            with pytest.raises(Refusal):
                permit(principal, verb)


# ------------------------------------------------------------------------------------------------------- task tokens


def claims(**changes: Any) -> dict[str, Any]:
    good = {
        "iss": "ffd", "aud": "ffd.task", "iat": int(NOW_S), "exp": int(NOW_S) + 60,
        "workflow": 42, "task": "train", "item": 3, "attempt": 2,
    }  # fmt: skip
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def test_a_token_names_its_attempt_until_it_expires() -> None:
    token = MINTER.mint(ATTEMPT, NOW_S + 60)
    assert MINTER.verify(token) == ATTEMPT
    later = TokenMinter(KEY, lambda: NOW_S + 60)
    assert "expired" in refused("unauthenticated", later.verify, token).message


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "ffd.user"}, {"aud": ["ffd.task", "x"]}, {"iss": "else"}, {"exp": None}, {"iat": None}, {"aud": None},
        {"iss": None}, {"attempt": None}, {"attempt": "2"}, {"workflow": None}, {"exp": "never"}, {"exp": 0},
    ],
    ids=str,
)  # fmt: skip
def test_a_token_with_other_claims_is_refused(changes: dict[str, Any]) -> None:
    MINTER.verify(jwt.encode(claims(), KEY, algorithm="HS256"))  # the unchanged claims are good
    refused("unauthenticated", MINTER.verify, jwt.encode(claims(**changes), KEY, algorithm="HS256"))


def test_a_token_signed_otherwise_is_refused() -> None:
    refused("unauthenticated", MINTER.verify, jwt.encode(claims(), bytes(32), algorithm="HS256"))
    refused("unauthenticated", MINTER.verify, jwt.encode(claims(), KEY * 2, algorithm="HS512"))
    unsigned = jwt.encode(claims(), None, algorithm="none")
    refused("unauthenticated", MINTER.verify, unsigned)
    header, payload, _ = MINTER.mint(ATTEMPT, NOW_S + 60).split(".")
    forged = base64.urlsafe_b64encode(json.dumps(claims(attempt=3)).encode()).rstrip(b"=").decode()
    refused("unauthenticated", MINTER.verify, f"{header}.{forged}.{payload}")


@pytest.mark.parametrize("text", ["", "..", "a.b.c", "x" * 5000, "é.é.é"])
def test_what_is_no_token_is_refused(text: str) -> None:
    refused("unauthenticated", MINTER.verify, text)


def test_a_short_key_is_our_bug() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        TokenMinter(b"abc", lambda: NOW_S)


# ----------------------------------------------------------------------------------------------------- who gets in


def test_the_gate_tells_tasks_from_users(tmp_path: Path) -> None:
    gate = Gate(LocalAuth(7), MINTER)
    token = MINTER.mint(ATTEMPT, NOW_S + 60)
    assert asyncio.run(gate.principal(f"Bearer {token}", "remote")).attempt == ATTEMPT
    assert asyncio.run(gate.principal("", "unix:uid=7")).admin
    refused("unauthenticated", gate.principal, "", "remote")
    refused("unauthenticated", gate.principal, "Basic abc", "unix:uid=7")
    refused("unauthenticated", gate.principal, "Bearer ", "unix:uid=7")
    # a task's expired token never falls back to the owner of the connection
    refused("unauthenticated", gate.principal, f"Bearer {MINTER.mint(ATTEMPT, NOW_S - 1)}", "unix:uid=7")


@pytest.mark.parametrize(
    ("peer", "admitted"),
    [
        ("unix:uid=7", True), ("loopback:uid=7", True), ("unix:uid=0", True), ("loopback:uid=0", False),
        ("unix:uid=8", False), ("loopback:uid=8", False), ("remote", False), ("", False), ("unix:uid=7x", False),
    ],
)  # fmt: skip
def test_a_personal_daemon_serves_its_owner_alone(peer: str, admitted: bool) -> None:
    if admitted:
        assert asyncio.run(LocalAuth(7).authenticate("", peer)).admin
    else:
        refused("unauthenticated", LocalAuth(7).authenticate, "", peer)
    refused("unauthenticated", LocalAuth(7).authenticate, "some-token", peer)


def write_tokens(path: Path, *entries: tuple[str, str, list[str], bool]) -> None:
    path.touch(mode=0o600)
    path.write_text(
        "\n".join(
            f"[[token]]\nname = {name!r}\nsha256 = {sha!r}\nprojects = {projects!r}\nadmin = {str(admin).lower()}"
            for name, sha, projects, admin in entries
        )
    )


def test_tokens_come_from_a_file_of_hashes(tmp_path: Path) -> None:
    token, sha = new_token()
    path = tmp_path / "tokens.toml"
    write_tokens(path, ("ci", sha, ["research/llm"], False))
    auth = TokenAuth(path, LocalAuth(7))
    principal = asyncio.run(auth.authenticate(token, "remote"))
    assert principal == Principal(name="ci", admin=False, projects=("research/llm",))
    assert token not in path.read_text()
    refused("unauthenticated", auth.authenticate, sha, "remote")  # the hash is not the token
    refused("unauthenticated", auth.authenticate, "", "remote")
    assert asyncio.run(auth.authenticate("", "unix:uid=7")).admin
    refused("unauthenticated", TokenAuth(path).authenticate, "", "unix:uid=7")


def test_a_token_is_revoked_by_editing_the_file(tmp_path: Path) -> None:
    token, sha = new_token()
    path = tmp_path / "tokens.toml"
    write_tokens(path, ("ci", sha, ["*"], True))
    auth = TokenAuth(path)
    asyncio.run(auth.authenticate(token, "remote"))
    write_tokens(path)
    refused("unauthenticated", auth.authenticate, token, "remote")


@pytest.mark.parametrize(
    "content",
    ["[[token]]\nname='x'\n", "nonsense", "[[token]]\nname='x'\nsha256='ABC'\nprojects=[]\n", "[[tokens]]\n", "\xff"],
)
def test_a_wrong_tokens_file_is_named_to_the_operator(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.toml"
    path.touch(mode=0o600)
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(PluginError, match=r"tokens\.toml"):
        TokenAuth(path)


def test_a_tokens_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    write_tokens(path, ("ci", digest("x"), ["*"], False))
    path.chmod(0o640)
    with pytest.raises(PluginError, match="read by others"):
        TokenAuth(path)
    with pytest.raises(PluginError, match="cannot read"):
        TokenAuth(tmp_path / "none.toml")


# ------------------------------------------------------------------------------------------------- kernel's testimony


async def connect_and_identify(listener: socket.socket) -> str:
    """Connect to our own listener, and ask who the peer is."""
    accepted: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(await peers.identify(writer.transport))
        writer.close()

    server = await asyncio.start_server(serve, sock=listener)
    client = socket.socket(listener.family)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, listener.getsockname())
    try:
        return await accepted
    finally:
        client.close()
        server.close()
        await server.wait_closed()


def test_the_kernel_names_the_peer_of_a_unix_socket(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    assert asyncio.run(connect_and_identify(listener)) == f"unix:uid={os.getuid()}"


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_kernel_names_the_peer_of_a_loopback_connection(family: socket.AddressFamily, host: str) -> None:
    listener = socket.socket(family)
    try:
        listener.bind((host, 0))
    except OSError:
        listener.close()
        pytest.skip(f"this machine has no {host}")
    assert asyncio.run(connect_and_identify(listener)) == f"loopback:uid={os.getuid()}"


def test_another_machine_is_remote_and_an_unknown_row_too() -> None:
    assert asyncio.run(peers._loopback_peer(("192.0.2.7", 4000), ("192.0.2.1", 80))) == "remote"
    assert asyncio.run(peers._loopback_peer(("127.0.0.1", 1), ("127.0.0.1", 1))) == "remote"
