"""The verb `fsck`: is what a daemon stored sound? Only while none runs on it. Changes nothing."""

from __future__ import annotations

import os

import click

from ffd.cli import exits, output, terminal
from ffd.cli.daemon import settings_of
from ffd.cli.session import Session, pass_session, run_async
from ffd.cli.source import counted
from ffd.errors import Refusal


@click.command()
@click.option("--config", metavar="FILE", envvar="FFD_CONFIG", help="The daemon's settings.")
@click.option("--state", metavar="DIR", help="Its state directory.")
@click.option("--store", metavar="NAME", help="sqlite or memory.")
@click.option("-o", "--output", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@pass_session
def fsck(session: Session, config: str | None, state: str | None, store: str | None, form: str) -> int:
    """Check the stored state: the chain of commits, each event in it, and that the rows follow from the events.

    Exit code 1 when there are faults. Stop the daemon first.
    """
    session.flags["state"] = state or ""
    given = {key: value for key, value in (("state_dir", state), ("store", store)) if value}
    settings = settings_of(session, config, given)
    if not os.path.isdir(settings.daemon.state_dir):
        raise Refusal(f"no state at {settings.daemon.state_dir}", code="not_found", hint="name it with --state")
    from ffd.daemon import wire  # heavy: only once the settings are right

    faults = run_async(lambda: wire.check(settings))
    if form == "json":
        output.write(output.encode({"state": settings.daemon.state_dir, "faults": faults}, indent=2) + "\n")
    else:
        output.write("".join(f"{terminal.cell(fault)}\n" for fault in faults))
        verdict = counted(len(faults), "fault") if faults else "sound"
        terminal.say(f"{settings.daemon.state_dir}: {verdict}")
    return exits.FAILED if faults else exits.OK
