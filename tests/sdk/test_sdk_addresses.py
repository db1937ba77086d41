"""The other ways to a daemon: TCP, TLS, and a standby's word for who leads."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpclib.const import Status
from sdk_fakes import PATIENCE_S, Daemon, Refuse, Task, in_background

from ffd.errors import Unavailable


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """A server's context with a certificate of its own for 127.0.0.1, and the certificate's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "daemon")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(private)
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    context.set_alpn_protocols(["h2"])
    return context, str(tmp_path / "cert.pem")


@pytest.mark.parametrize("form", ["unix:{}", "unix://{}"])
def test_a_unix_socket(daemon: Daemon, task: Task, form: str) -> None:
    daemon.start()
    session = task.session(FFD_ADDRESS=form.format(daemon.path))
    session.wait(session.set_output("loss", "1"))
    assert daemon.outputs == {"loss": 1}


def test_tcp(daemon: Daemon, task: Task) -> None:
    port = free_port()
    daemon.start(port)
    session = task.session(FFD_ADDRESS=f"grpc://127.0.0.1:{port}")
    session.wait(session.set_output("loss", "1"))
    assert daemon.outputs == {"loss": 1}


def test_tls_with_a_trusted_certificate(
    daemon: Daemon, task: Task, tls: tuple[ssl.SSLContext, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    daemon.start(port, tls[0])
    monkeypatch.setenv("SSL_CERT_FILE", tls[1])
    session = task.session(FFD_ADDRESS=f"grpcs://127.0.0.1:{port}")
    session.wait(session.set_output("loss", "1"))
    assert daemon.outputs == {"loss": 1}


def test_tls_with_a_certificate_nobody_vouches_for(daemon: Daemon, task: Task, tls: tuple[ssl.SSLContext, str]) -> None:
    port = free_port()
    daemon.start(port, tls[0])
    session = task.session(FFD_ADDRESS=f"grpcs://127.0.0.1:{port}", FFD_SDK_DEADLINE_S="0")
    with pytest.raises(Unavailable, match="certificate verify failed"):
        session.wait(session.inputs())
    assert daemon.calls == []


def test_no_standby_sends_us_from_tls_to_plain(
    daemon: Daemon, task: Task, tls: tuple[ssl.SSLContext, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    daemon.start(port, tls[0])
    monkeypatch.setenv("SSL_CERT_FILE", tls[1])
    other = Daemon()
    try:
        other.start()
        daemon.script["SetOutput"] = [Refuse(Status.UNAVAILABLE, "unavailable", "not the leader", other.address)]
        session = task.session(FFD_ADDRESS=f"grpcs://127.0.0.1:{port}")
        session.wait(session.set_output("loss", "1"))
        assert (daemon.outputs, other.calls) == ({"loss": 1}, [])
    finally:
        other.close()


def test_something_else_at_the_address_is_no_daemon(daemon: Daemon, task: Task) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(daemon.path)
        listener.listen()
        session = task.session(FFD_SDK_DEADLINE_S="0", try_timeout_s=0.05)
        with pytest.raises(Unavailable, match="did not answer in time"):
            session.wait(session.inputs())


def test_a_frozen_daemon_is_left_for_its_successor(daemon: Daemon, task: Task) -> None:
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(daemon.path)
        frozen.listen()
        task.clock.hold()
        session = task.session(try_timeout_s=0.05)
        writing = in_background(lambda: session.wait(session.set_output("loss", "1")))
        task.clock.wait_held()  # it has tried, in vain; the connection still stands
        daemon.start()
        task.clock.release()
        writing.result(PATIENCE_S)
    assert daemon.outputs == {"loss": 1}
