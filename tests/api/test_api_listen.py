"""Addresses, and where the API refuses to listen."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffd.api.address import Address, default_address, parse_address
from ffd.api.listen import Bound, Tls, bind
from ffd.errors import PluginError, Refusal

GRPC = ("unix", "grpc", "grpcs")


def listen(text: str, tls: Tls | None = None, remote_auth: bool = False) -> Bound:
    return bind(text, GRPC, "h2", tls, remote_auth)


@pytest.mark.parametrize(
    "text",
    ["unix:/run/ffd.sock", "grpc://127.0.0.1:7070", "grpcs://ffd.example:443", "grpc://[::1]:1", "grpc://localhost:0"],
)
def test_addresses_read_back_as_written(text: str) -> None:
    assert str(parse_address(text)) == text


def test_bare_host_and_port_take_the_first_scheme() -> None:
    assert parse_address("127.0.0.1:80", ("unix", "http", "https")) == Address("http", host="127.0.0.1", port=80)


@pytest.mark.parametrize(
    "text",
    ["", "unix:", "7070", "ftp://a:1", "http://a:1", "grpc://a:99999", "grpc://a", "grpc://u@a:1", "unix:" + "x" * 200],
)
def test_what_is_not_an_address_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_address(text)
    assert "unix:PATH" in refusal.value.hint


@given(st.text(max_size=40))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except Refusal:
        return
    assert parse_address(str(address)) == address


def test_the_default_address_follows_the_environment(tmp_path: Path) -> None:
    assert default_address({"FFD_ADDRESS": "grpc://h:1"}) == "grpc://h:1"
    assert default_address({"XDG_RUNTIME_DIR": str(tmp_path)}) == f"unix:{tmp_path}/ffd/ffd.sock"
    assert default_address({"XDG_RUNTIME_DIR": "/none", "XDG_STATE_HOME": "/s"}) == "unix:/s/ffd/ffd.sock"
    assert default_address({}) == f"unix:{Path.home()}/.local/state/ffd/ffd.sock"


@pytest.mark.parametrize("text", ["grpc://0.0.0.0:0", "grpc://[::]:0", "grpc://192.0.2.1:0", "grpc://some.example:0"])
def test_listening_wide_without_tls_is_refused(text: str) -> None:
    with pytest.raises(PluginError, match="refused to listen"):
        listen(text, remote_auth=True)


def test_listening_wide_without_tokens_is_refused(certificate: Tls) -> None:
    with pytest.raises(PluginError, match="no tokens"):
        listen("grpcs://0.0.0.0:0", certificate)
    bound = listen("grpcs://0.0.0.0:0", certificate, remote_auth=True)
    bound.close()
    assert bound.address.port > 0


def test_tls_needs_a_certificate_that_works(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="needs a certificate"):
        listen("grpcs://127.0.0.1:0")
    (tmp_path / "bad.pem").write_text("not a certificate")
    bad = str(tmp_path / "bad.pem")
    with pytest.raises(PluginError, match="cannot use the certificate"):
        listen("grpcs://127.0.0.1:0", Tls(bad, bad))
    with pytest.raises(PluginError, match="cannot use the certificate"):
        listen("grpcs://127.0.0.1:0", Tls(str(tmp_path / "none.pem"), bad))


def test_a_busy_port_is_named() -> None:
    first = listen("grpc://127.0.0.1:0")
    with pytest.raises(PluginError, match=f"cannot listen on grpc://127.0.0.1:{first.address.port}"):
        listen(str(first.address))
    first.close()


def test_a_unix_socket_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)  # the mode must not depend on it
    try:
        bound = listen(f"unix:{tmp_path}/run/ffd.sock")
    finally:
        os.umask(before)
    path = tmp_path / "run/ffd.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    bound.close()
    bound.close()
    assert not path.exists()


def test_a_stale_socket_is_taken_over_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "ffd.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()  # a killed daemon leaves the file
    bound = listen(f"unix:{path}")
    with pytest.raises(PluginError, match="another daemon"):
        listen(f"unix:{path}")
    bound.close()


def test_what_is_not_a_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(PluginError, match="not a socket"):
        listen(f"unix:{path}")
    assert path.read_text() == "data"


def test_closing_leaves_a_successors_socket_alone(tmp_path: Path) -> None:
    path = tmp_path / "ffd.sock"
    first = listen(f"unix:{path}")
    path.unlink()
    second = listen(f"unix:{path}")
    first.close()
    assert path.exists()
    second.close()
