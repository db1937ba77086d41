"""The entry point: which verbs there are, and how their errors end. Verbs are imported when they are called.

Keep this module light: it is what `ffd --help` costs.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

import click

from ffd import __version__
from ffd.cli import exits, terminal
from ffd.cli.session import Session, shared_options
from ffd.errors import FfdError


class Place(NamedTuple):
    """Where a verb lives and what the list of verbs says of it."""

    section: str
    target: str  # module:command
    text: str


DAILY, DOCUMENTS, CLUSTER, SETUP = "Daily", "Documents", "Cluster and daemon", "Set-up"

VERBS: dict[str, Place] = {
    "run": Place(DAILY, "run:run", "Submit a document and follow it to its end."),
    "submit": Place(DAILY, "submit:submit", "Submit documents; print their handles."),
    "ls": Place(DAILY, "show:ls", "List workflows, newest first."),
    "get": Place(DAILY, "show:get", "Show one workflow or task in a line."),
    "describe": Place(DAILY, "describe:describe", "Show everything about a workflow or a task."),
    "why": Place(DAILY, "why:why", "Say why something waits, or why it ended as it did."),
    "logs": Place(DAILY, "logs:logs", "Print logs, and follow them."),
    "watch": Place(DAILY, "show:watch", "Stream events as they happen."),
    "events": Place(DAILY, "show:events", "Print the story of a workflow."),
    "wait": Place(DAILY, "control:wait", "Wait until a workflow has ended."),
    "cancel": Place(DAILY, "control:cancel", "Cancel workflows, for good."),
    "suspend": Place(DAILY, "control:suspend", "Start nothing new; what runs goes on."),
    "resume": Place(DAILY, "control:resume", "Undo suspend."),
    "retry": Place(DAILY, "control:retry", "Run again what did not succeed."),
    "set": Place(DAILY, "control:set_", "Change a live workflow, as priority=700."),
    "lint": Place(DOCUMENTS, "document:lint", "Check documents; show every fault."),
    "explain": Place(DOCUMENTS, "document:explain", "Show a document resolved, and what it asks for."),
    "graph": Place(DOCUMENTS, "document:graph", "Draw a document's tasks as text."),
    "schema": Place(DOCUMENTS, "document:schema", "Print the JSON Schema of documents."),
    "nodes": Place(CLUSTER, "cluster:nodes", "List nodes, look at one, cordon and drain them."),
    "gpus": Place(CLUSTER, "cluster:gpus", "List GPUs by model: free, in use, and what fits."),
    "queue": Place(CLUSTER, "cluster:queue", "List what waits, in the order it will start."),
    "simulate": Place(CLUSTER, "simulate:simulate", "Simulate a workload, to plan capacity and policy."),
    "tenant": Place(CLUSTER, "tenants:tenant", "See and change the tree of tenants."),
    "quota": Place(CLUSTER, "tenants:quota", "See and change what tenants may hold."),
    "share": Place(CLUSTER, "tenants:share", "See shares of the cluster, and change weights."),
    "daemon": Place(CLUSTER, "daemon:daemon", "Run, inspect and stop a daemon."),
    "fsck": Place(CLUSTER, "fsck:fsck", "Check the stored state of a daemon that is not running."),
    "doctor": Place(SETUP, "doctor:doctor", "Check this machine, and say what to do."),
    "ctx": Place(SETUP, "config:ctx", "Keep daemons under names, and choose one."),
    "config": Place(SETUP, "config:config", "Show the configuration and where it comes from."),
    "completion": Place(SETUP, "about:completion", "Print the completion script of a shell."),
    "version": Place(SETUP, "about:version", "Print the version."),
}


class Verbs(click.Group):
    """A group whose verbs are imported on first use. The list of verbs needs no import at all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = VERBS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.target.partition(":")
        command: click.Command = getattr(importlib.import_module(f"ffd.cli.{module}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in VERBS and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(name, VERBS, n=1)
            ctx.fail(f'There is no verb "{name}".' + (f" Did you mean {near[0]}?" if near else " See ffd --help."))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in dict.fromkeys(place.section for place in VERBS.values()):
            with formatter.section(section):
                formatter.write_dl([(name, place.text) for name, place in VERBS.items() if place.section == section])

    def invoke(self, ctx: click.Context) -> Any:
        """As click's, but a reader that left is no error (click would make it exit code 1)."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _reader_left()

    def __call__(self, *arguments: Any, **more: Any) -> NoReturn:
        """As the process `ffd`: what nobody foresaw is told too, and no text is too odd for the terminal's encoding."""
        sys.excepthook = _bug
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        self.main(*arguments, **more)

    def main(self, *arguments: Any, **more: Any) -> NoReturn:
        """Run, and leave with an exit code of `exits`. Errors of ours are one line and a hint on stderr."""
        more["standalone_mode"] = False
        more["prog_name"] = "ffd"
        try:
            code = self._run(*arguments, **more)
            sys.stdout.flush()
        except BrokenPipeError:
            code = _reader_left()
        sys.exit(code)

    def _run(self, *arguments: Any, **more: Any) -> int:
        try:
            result = super().main(*arguments, **more)
        except click.exceptions.NoArgsIsHelpError as error:
            terminal.say(error.format_message())
            return exits.USAGE
        except click.ClickException as error:
            return _usage(error)
        except (click.Abort, KeyboardInterrupt):
            return exits.INTERRUPTED
        except FfdError as error:
            return _said(error)
        except BaseExceptionGroup as group:
            cause = exits.only(group)
            if isinstance(cause, FfdError):
                return _said(cause)
            if isinstance(cause, KeyboardInterrupt):
                return exits.INTERRUPTED
            raise cause from None
        except BrokenPipeError:
            raise
        except OSError as error:  # a full disk behind stdout, a directory that may not be written
            terminal.say(f"error: {error}")
            return exits.REFUSED
        return result if isinstance(result, int) else exits.OK


def _usage(error: click.ClickException) -> int:
    """A wrong call. click's own message, sanitised: it quotes what was typed."""
    context = getattr(error, "ctx", None)
    if context is not None:
        terminal.say(context.get_usage())
    terminal.say(f"error: {error.format_message()}")
    if context is not None and not context.resilient_parsing:
        terminal.say(f"hint: {context.command_path} --help")
    return exits.USAGE


def _said(error: FfdError) -> int:
    for line in exits.lines_of(error):
        terminal.say(line)
    return exits.code_of(error)


def _reader_left() -> int:
    """Whoever read our stdout has seen enough, as in `ffd logs | head`. Not an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return exits.OK


@click.command("ffd", cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="ffd %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """ffd runs workflows of tasks, on this machine or on a cluster.

    `ffd run FILE` is all you need to begin. Exit codes: 0 ok, 1 workflow failed, 2 usage, 3 document invalid,
    4 forbidden, 5 no daemon, 6 not found, 7 refused, 8 timed out, 9 cancelled, 130 interrupted.
    """
    ctx.ensure_object(Session)


main.params.extend(shared_options())


def _bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Last resort for an error that nobody foresaw: our bug, said in one line; the trace with FFD_DEBUG=1."""
    if os.environ.get("FFD_DEBUG"):
        sys.__excepthook__(kind, error, trace)
    terminal.say(f"error: a bug in ffd: {kind.__name__}: {error}")
    terminal.say("hint: FFD_DEBUG=1 shows the trace; please report it")


if __name__ == "__main__":
    main()
