"""The verbs `daemon run|status|stop`. `run` builds the settings and hands over; the daemon itself is `ffd.daemon`'s."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffd.cli import address, output, terminal
from ffd.cli.session import Session, Verb, pass_session, run_async
from ffd.errors import Refusal

if TYPE_CHECKING:
    from ffd.core.pages import DaemonPage
    from ffd.settings import Settings


@click.group()
def daemon() -> None:
    """Run, inspect and stop a daemon."""


@daemon.command()
@click.option("--config", metavar="FILE", envvar="FFD_CONFIG", help="Settings; config/ffd.toml shows them all.")
@click.option("--state", metavar="DIR", help="Holds everything that must survive.")
@click.option(
    "--listen", metavar="ADDR", multiple=True, help="unix:PATH, grpc://HOST:PORT, grpcs://HOST:PORT; repeatable."
)
@click.option("--http", metavar="ADDR", multiple=True, help="http://HOST:PORT or https://HOST:PORT; repeatable.")
@click.option("--runtime", metavar="NAME", help="local or virtual.")
@click.option("--store", metavar="NAME", help="sqlite or memory.")
@click.option("--pretend", metavar="NxG:MODEL", help="Nodes to pretend, as 16x8:H100.")
@click.option("--accept-loss", is_flag=True, help="Lead although the store has lost commits.")
@pass_session
def run(
    session: Session, config: str | None, state: str | None, listen: tuple[str, ...], http: tuple[str, ...],
    runtime: str | None, store: str | None, pretend: str | None, accept_loss: bool,
) -> int:  # fmt: skip
    """Run a daemon until it is stopped (TERM, ctrl+c or `ffd daemon stop`). Tasks go on without it.

    Flags win over --config. With neither --listen nor daemon.listen it listens on the user's own socket, or where a
    state directory was named on ffd.sock in that (FFD_STATE=DIR leads the other verbs there).
    """
    session.flags["state"] = state or ""
    given = {
        "state_dir": state, "listen": listen, "http": http, "runtime": runtime, "store": store, "pretend": pretend,
        "accept_loss": accept_loss,
    }  # fmt: skip
    settings = settings_of(session, config, {key: value for key, value in given.items() if value})
    from ffd.daemon import wire  # heavy: only once the settings are right

    return run_async(lambda: wire.run(settings))


def settings_of(session: Session, config: str | None, given: dict[str, Any]) -> Settings:
    """Settings of the file, with what was given on the command line over them, and with nothing left to guess."""
    import msgspec

    loaded = read_settings(config)
    known = msgspec.structs.replace(loaded.daemon, **given)
    state = session.config.state
    is_named = bool(known.state_dir) or state.origin != address.BUILT_IN
    known = msgspec.structs.replace(known, state_dir=known.state_dir or state.text)
    if not known.listen:
        own = address.state_address(known.state_dir) if is_named else address.default_address()
        known = msgspec.structs.replace(known, listen=(own,))
    return msgspec.structs.replace(loaded, daemon=known)


def read_settings(config: str | None) -> Settings:
    """Settings of a file; those that are built in without one."""
    from ffd import settings

    return settings.load(_read(config), config) if config else settings.Settings()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: {getattr(error, 'strerror', None) or error}", field="--config") from None


@daemon.command(cls=Verb)
@output.object_option
@pass_session
def status(session: Session, form: str) -> None:
    """Show the daemon: its role, store, runtime and load."""
    page = session.call(lambda client: client.status())
    output.emit_object(page, form, lambda: _text(page, session.config.address.text), session.config.address.text)


def _text(page: DaemonPage, where: str) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(page.started_at_ms / 1000)) if page.started_at_ms else ""
    rows = [
        ("Daemon", f"ffd {page.version} at {where}"),
        ("Role", f"{page.role}, epoch {page.epoch}"),
        ("Leader", page.leader_address),
        ("Runtime", page.runtime),
        ("Store", f"{page.store}, commit {page.commit_number}"),
        ("Process", f"{page.pid}, since {since}" if page.pid else ""),
        ("Workflows", f"{page.workflow_count} live"),
        ("Items", f"{page.ready_count} ready, {page.running_count} running"),
        ("Degraded", page.degraded),
    ]
    return "".join(f"{key + ':':<12}{terminal.cell(text)}\n" for key, text in rows if text)


@daemon.command(cls=Verb)
@pass_session
def stop(session: Session) -> None:
    """Stop the daemon, as TERM would. What runs goes on; the next daemon adopts it."""
    session.call(lambda client: client.stop_daemon())
    terminal.say("the daemon stops; its tasks go on")
