"""A daemon inside this process, for `ffd run` where none listens. It lives as long as the command.

What it started goes on without it, and the next daemon on the same state adopts it. Never here: a daemon of its own
(`daemon`), anything for an address that somebody named.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ffd.cli import terminal
from ffd.cli.address import Config
from ffd.settings import DaemonSettings, Settings, Telemetry

PROBE_SECONDS = 2.0


def is_listening(address: str) -> bool:
    """Whether somebody accepts connections on this unix socket. Other addresses count as listened on."""
    path = address.removeprefix("unix:")
    if path == address:
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(path)
        except TimeoutError:
            return True  # it is there, and busy
        except OSError:
            return False
    return True


def settings_of(config: Config, pretend: str) -> Settings:
    """Settings of an embedded daemon: all defaults, on the configured state, quiet."""
    return Settings(
        daemon=DaemonSettings(state_dir=config.state.text, listen=(config.address.text,), pretend=pretend),
        telemetry=Telemetry(log_level="error"),
    )


@asynccontextmanager
async def daemon(config: Config, pretend: str) -> AsyncIterator[None]:
    """Run one until the end of the block, and say so."""
    from ffd.daemon.wire import running

    settings = settings_of(config, pretend)
    async with running(settings):
        terminal.say(f"no daemon at {config.address.text}: running one in here, with state in {config.state.text}")
        yield
