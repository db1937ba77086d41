"""Fixtures: a daemon at the other end, an attempt's environment, and no session left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sdk_fakes import Daemon, Task

from ffd.sdk.session import close_session


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """Made, not started."""
    daemon = Daemon()
    yield daemon
    daemon.close()


@pytest.fixture
def task(daemon: Daemon, tmp_path: Path) -> Iterator[Task]:
    task = Task(daemon, str(tmp_path))
    yield task
    task.close()


@pytest.fixture
def fresh_session(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The public calls, in an environment of the test's own: set it, then call."""
    for name in ("FFD_ADDRESS", "FFD_TOKEN", "FFD_TASK", "FFD_OUTPUT", "FFD_STOP_FILE", "NNODES", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    close_session()
    yield monkeypatch
    close_session()
