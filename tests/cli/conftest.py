"""Fixtures: a double of the network, and the command line over it, with a fixed clock and a home of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from cli_network import Network
from click.testing import CliRunner, Result

from ffd.cli import main, terminal
from ffd.cli.session import Connect, Session

NOW_MS = 1_790_000_000_000
Ffd = Callable[..., Result]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home and working directory, no FFD_ variable, UTC, and a clock that stands."""
    for name in ("FFD_ADDRESS", "FFD_PROJECT", "FFD_STATE", "FFD_TOKEN", "FFD_CONTEXT", "FFD_CONFIG", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("config", "state", "runtime", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(terminal, "now_ms", lambda: NOW_MS)
    time.tzset()
    yield tmp_path
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def ffd(network: Network, home: Path) -> Ffd:
    """`ffd("ls", "-o", "json")`: one invocation over the network."""

    def invoke(*arguments: str, input: str | bytes | None = None) -> Result:
        return CliRunner().invoke(main.main, list(arguments), input=input, obj=Session(cast(Connect, network.connect)))

    return invoke
