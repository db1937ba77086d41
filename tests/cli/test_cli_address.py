"""Who is asked and who said so: flag > FFD_* > ./.ffd/config.toml > context > built-in."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from conftest import Ffd

from ffd.cli import address
from ffd.errors import Refusal


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def layers(home: Path) -> Path:
    """A project file above the working directory, and two contexts."""
    write(home / ".ffd/config.toml", 'address = "grpc://project:1"\nproject = "p/project"\n')
    write(
        home / "config/ffd/config.toml",
        'context = "lab"\n[contexts.lab]\naddress = "grpc://lab:1"\nproject = "p/lab"\ntoken = "secret"\n'
        '[contexts.other]\naddress = "grpc://other:1"\n',
    )
    return home


def test_each_layer_hides_the_next(layers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert address.resolve({}).address == ("grpc://project:1", str(layers / ".ffd/config.toml"))
    monkeypatch.setenv("FFD_ADDRESS", "grpc://env:1")
    assert address.resolve({}).address == ("grpc://env:1", "environment FFD_ADDRESS")
    assert address.resolve({"address": "grpc://flag:1"}).address == ("grpc://flag:1", "flag --address")
    monkeypatch.delenv("FFD_ADDRESS")
    (layers / ".ffd/config.toml").unlink()
    assert address.resolve({}).address == ("grpc://lab:1", "context lab")
    (layers / "config/ffd/config.toml").unlink()
    assert address.resolve({}).address == (f"unix:{layers}/runtime/ffd/ffd.sock", "built-in")


def test_a_context_that_was_named_goes_before_the_project_file(layers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert address.resolve({"context": "other"}).address == ("grpc://other:1", "context other")
    monkeypatch.setenv("FFD_CONTEXT", "other")
    assert address.resolve({}).address == ("grpc://other:1", "context other")
    assert address.resolve({}).project.text == "p/project"  # it says nothing about that


def test_the_token_goes_to_its_own_address_only(layers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert address.resolve({}).token.text == ""  # the project file chose the address
    assert address.resolve({"context": "lab"}).token == ("secret", "context lab")
    assert address.resolve({"context": "lab", "address": "grpc://evil:1"}).token.text == ""
    monkeypatch.setenv("FFD_TOKEN", "mine")
    assert address.resolve({}).token == ("mine", "environment FFD_TOKEN")


def test_only_the_built_in_address_may_be_embedded(layers: Path) -> None:
    assert address.resolve({}).chosen
    for path in (".ffd/config.toml", "config/ffd/config.toml"):
        (layers / path).unlink()
    assert not address.resolve({}).chosen
    found = address.resolve({"state": "/some/where"})
    assert (found.address.text, found.chosen) == ("unix:/some/where/ffd.sock", False)


def test_without_a_runtime_directory_the_socket_is_with_the_state(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert address.resolve({}).address.text == f"unix:{home}/state/ffd/ffd.sock"
    assert address.resolve({}).state.text == f"{home}/state/ffd"


def test_a_file_of_somebody_else_is_passed_over(
    layers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.getuid() == 0:
        os.chown(layers / ".ffd/config.toml", 54_321, -1)
    owner = (layers / ".ffd/config.toml").stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert address.resolve({}).address.text == "grpc://lab:1"
    assert f"belongs to user {owner}: not read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('adress = "x"', "adress: unknown key"),
        ('token = "x"', "token: unknown key"),
        ("address = 3", "address: expected a text"),
        ("address = ", "not TOML"),
    ],
)
def test_a_wrong_project_file_is_refused_by_name(home: Path, text: str, said: str) -> None:
    write(home / "work/.ffd/config.toml", text)
    with pytest.raises(Refusal, match=said):
        address.resolve({})


def test_a_context_nobody_made_is_refused_with_the_nearest(layers: Path) -> None:
    with pytest.raises(Refusal) as caught:
        address.resolve({"context": "lba"})
    assert caught.value.hint == "did you mean lab?"


def test_contexts_are_kept_private_and_whole(ffd: Ffd, home: Path) -> None:
    assert ffd("ctx", "set", "lab", "--address", "grpcs://lab:7", "--project", 'we "quote\\ this').exit_code == 0
    assert ffd("ctx", "set", "lab", "--token-stdin", input="hush\n").exit_code == 0
    assert ffd("ctx", "set", "b.2", "--address", "unix:/x").exit_code == 0
    path = home / "config/ffd/config.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert address.read_user_file() == address.UserFile(
        "lab",
        {
            "b.2": {"address": "unix:/x"},
            "lab": {"address": "grpcs://lab:7", "project": 'we "quote\\ this', "token": "hush"},
        },
    )
    assert ffd("ctx", "use", "b.2").exit_code == 0
    assert address.resolve({}).address == ("unix:/x", "context b.2")
    assert ffd("ctx", "ls", "-o", "name").stdout == "b.2\nlab\n"
    assert "hush" not in ffd("ctx", "ls", "-o", "json").stdout
    assert ffd("ctx", "rm", "b.2").exit_code == 0
    assert address.read_user_file().current == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("set", "../x", "--address", "unix:/x"), 2),
        (("set", "new"), 2),
        (("set", "new", "--address", "ftp://x"), 2),
        (("set", "new", "--address", "unix:/x", "--project", "a\nb"), 2),
        (("use", "nobody"), 6),
        (("rm", "nobody"), 6),
    ],
)
def test_wrong_contexts_are_refused(ffd: Ffd, home: Path, arguments: tuple[str, ...], code: int) -> None:
    assert ffd("ctx", *arguments).exit_code == code
    assert not (home / "config/ffd/config.toml").exists()


def test_config_view_says_who_said_so_and_never_the_token(ffd: Ffd, layers: Path) -> None:
    result = ffd("config", "view", "--origin", "--context", "lab")
    assert result.exit_code == 0
    assert "secret" not in result.output
    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in result.stdout.splitlines()}
    assert lines["address"] == ["grpc://lab:1", "context lab"]
    assert lines["project"] == ["p/lab", "context lab"]
    assert lines["token"] == ["(set)", "context lab"]
    assert lines["state"] == [f"{layers}/state/ffd", "built-in"]
