"""doctor, version, completion, and the settings that `daemon run` makes of flags and files."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
from cli_network import Network
from conftest import Ffd

from ffd import __version__
from ffd.cli import doctor
from ffd.cli.daemon import settings_of
from ffd.cli.session import Session
from ffd.core.pages import DaemonPage
from ffd.errors import Refusal

MOUNTS = r"""
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
40 22 0:30 / /home rw shared:1 - nfs4 server:/home rw
41 40 0:31 / /home/me/local\040disk rw - xfs /dev/sdb rw
42 22 0:32 / /homework rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/x", "ext4"),
        ("/home/you", "nfs4"),
        ("/home/me/local disk/state", "xfs"),
        ("/homework/a", "tmpfs"),
        ("/home", "nfs4"),
    ],
)
def test_the_file_system_of_a_path(tmp_path: Path, path: str, kind: str) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS.lstrip())
    assert doctor.filesystem_of(Path(path), tmp_path / "mountinfo") == kind


def test_an_unknown_file_system_is_no_fault(tmp_path: Path) -> None:
    assert doctor.filesystem_of(tmp_path, tmp_path / "none") == ""


def findings(ffd: Ffd, *arguments: str) -> dict[str, str]:
    result = ffd("doctor", "-o", "json", *arguments)
    found = {entry["check"]: entry["verdict"] for entry in json.loads(result.stdout)}
    assert result.exit_code == ("fail" in found.values())
    return found


def test_doctor_leaves_nothing_behind(ffd: Ffd, home: Path) -> None:
    found = findings(ffd)
    assert set(found.values()) <= {"ok", "warn"}
    assert (found["python"], found["state"], found["daemon"]) == ("ok", "ok", "ok")
    assert list((home / "state/ffd").iterdir()) == []


def test_doctor_fails_where_nobody_listens_at_a_named_address(ffd: Ffd, home: Path) -> None:
    assert findings(ffd, "--address", f"unix:{home}/none.sock")["daemon"] == "fail"


def test_doctor_asks_the_daemon_that_is_there(ffd: Ffd, network: Network, home: Path) -> None:
    path = home / "runtime" / "s.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert findings(ffd, "--address", f"unix:{path}")["daemon"] == "ok"
        network.daemon = DaemonPage(version="0.1.0", role="leader", degraded="storage full")
        assert findings(ffd, "--address", f"unix:{path}")["daemon"] == "warn"


def test_doctor_fails_for_a_socket_that_cannot_be(ffd: Ffd, home: Path) -> None:
    assert findings(ffd, "--address", f"unix:{home}/{'x' * 120}")["socket"] == "fail"
    (home / "runtime" / "ffd").mkdir()
    (home / "runtime" / "ffd").chmod(0o777)
    assert findings(ffd)["socket"] == "warn"


def test_doctor_fails_without_a_place_for_the_state(ffd: Ffd, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("FFD_STATE", str(home / "file" / "state"))
    assert findings(ffd)["state"] == "fail"


def test_doctor_counts_gpus_and_survives_a_broken_tool(ffd: Ffd, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = home / "work" / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    for script, verdict in (("echo GPU 0; echo GPU 1", "ok"), ("exit 9", "warn")):
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        assert findings(ffd)["gpus"] == verdict
    tool.write_text("#!/bin/sh\necho GPU 0; echo GPU 1\n")
    assert "2 GPUs" in ffd("doctor").stdout


def test_version(ffd: Ffd) -> None:
    assert ffd("version").stdout == f"ffd {__version__}\n"
    assert json.loads(ffd("version", "-o", "json").stdout)["version"] == __version__


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_ffd(ffd: Ffd, shell: str) -> None:
    script = ffd("completion", shell).stdout
    assert "_FFD_COMPLETE" in script and "ffd" in script
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_completion_offers_verbs(ffd: Ffd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_FFD_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "ffd su")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert ffd().stdout.split() == ["plain,submit", "plain,suspend"]


# ------------------------------------------------------------------------------------------------ settings of daemons


def test_flags_win_over_the_file(home: Path) -> None:
    (home / "d.toml").write_text('[daemon]\nstate_dir = "/from/file"\nstore = "memory"\nruntime = "virtual"\n')
    made = settings_of(Session(), str(home / "d.toml"), {"store": "sqlite"})
    assert (made.daemon.store, made.daemon.runtime, made.daemon.state_dir) == ("sqlite", "virtual", "/from/file")
    assert made.daemon.listen == ("unix:/from/file/ffd.sock",)


def test_nothing_is_left_to_guess(home: Path) -> None:
    made = settings_of(Session(), None, {})
    assert made.daemon.state_dir == f"{home}/state/ffd"
    assert made.daemon.listen == (f"unix:{home}/runtime/ffd/ffd.sock",)


def test_a_named_state_has_its_own_socket_and_clients_find_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFD_STATE", f"{home}/s")
    assert settings_of(Session(), None, {}).daemon.listen == (f"unix:{home}/s/ffd.sock",)
    assert Session().config.address.text == f"unix:{home}/s/ffd.sock"


def test_given_addresses_are_all_there_is(home: Path) -> None:
    made = settings_of(Session(), None, {"state_dir": "/s", "listen": ("grpc://localhost:1",)})
    assert made.daemon.listen == ("grpc://localhost:1",)


def test_a_file_that_cannot_be_read_is_refused(home: Path) -> None:
    with pytest.raises(Refusal, match="No such file"):
        settings_of(Session(), str(home / "none.toml"), {})
