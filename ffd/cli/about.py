"""The verbs `version` and `completion`."""

from __future__ import annotations

import platform
import sys

import click

from ffd import __version__
from ffd.cli import output

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_FFD_COMPLETE"


@click.command()
@output.object_option
def version(form: str) -> None:
    """Print the version of this program. `ffd daemon status` shows the daemon's."""
    page = {"version": __version__, "python": platform.python_version(), "platform": sys.platform}
    output.emit_object(page, form, lambda: f"ffd {__version__}\n", __version__)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script. For bash: eval "$(ffd completion bash)" in ~/.bashrc."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    output.write(kind(ctx.find_root().command, {}, "ffd", VARIABLE).source() + "\n")
