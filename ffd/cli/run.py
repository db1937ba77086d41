"""The verb `run`: submit one document, follow it to its end, exit with its result.

Where nobody named an address and no daemon listens at the built-in one, a daemon runs inside this process (`embedded`).
"""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click

from ffd.cli import embedded, exits, output, terminal
from ffd.cli.interrupts import Interrupts
from ffd.cli.progress import Follower, make_view, progress_option
from ffd.cli.session import Session, Verb, pass_session, run_async
from ffd.cli.source import parse_params, read_params, read_source, say_refusal
from ffd.cli.submit import Order, params_options
from ffd.errors import Refusal, Unavailable

if TYPE_CHECKING:
    from ffd.api.client import SubmitResult
    from ffd.core.pages import WorkflowPage


@click.command(cls=Verb)
@click.argument("file")
@params_options
@click.option("--detach", is_flag=True, help="Print the handle and leave; needs a daemon that stays.")
@click.option("--state", metavar="DIR", default="", help="State of the embedded daemon.")
@click.option("--pretend", metavar="NxG:MODEL", default="", help="Nodes the embedded daemon pretends, as 16x8:H100.")
@progress_option
@pass_session
def run(
    session: Session, file: str, pairs: tuple[str, ...], params_file: str | None, priority: int | None,
    detach: bool, state: str, pretend: str, progress: str,
) -> int:  # fmt: skip
    """Submit a document and follow it; exit with its result: 0 succeeded, 1 failed, 9 cancelled. FILE - is stdin.

    With no daemon at the built-in address one runs inside this command; --state says where it keeps its state. ctrl+c
    asks: detach or cancel. Without a terminal it cancels and waits; a second ctrl+c leaves at once.
    """
    session.flags["state"] = state
    if state and session.config.chosen:
        raise click.UsageError(f"--state is for an embedded daemon, and {session.config.address.origin} names another")
    order = Order(read_source(file), read_params(params_file), parse_params(pairs), priority, secrets.token_hex(16))
    return run_async(_Run(session, order, pretend, detach, progress).to_the_end)


class _Run:
    """One `ffd run`. Survives the loss of somebody else's embedded daemon: then it goes on with its own."""

    def __init__(self, session: Session, order: Order, pretend: str, detach: bool, mode: str) -> None:
        self.session = session
        self.order = order
        self.pretend = pretend
        self.detach = detach
        self.mode = mode
        self.interrupts = Interrupts(session.may_ask())
        self.follower: Follower | None = None

    async def to_the_end(self) -> int:
        """Submit (once: the key sees to that), follow, and turn the end into an exit code."""
        while True:
            is_embedded = self._must_embed()
            try:
                return await self._with_daemon(is_embedded)
            except Unavailable:
                if is_embedded or not self._must_embed():
                    raise
                terminal.say("the daemon that was there has gone")

    def _must_embed(self) -> bool:
        config = self.session.config
        if config.chosen or embedded.is_listening(config.address.text):
            if self.pretend:
                raise click.UsageError(f"--pretend is for an embedded daemon; one runs at {config.address.text}")
            return False
        if self.detach:
            raise Unavailable(
                f"no daemon at {config.address.text}, and --detach needs one that stays",
                hint="ffd daemon run starts one",
            )
        return True

    async def _with_daemon(self, is_embedded: bool) -> int:
        async with AsyncExitStack() as stack:
            if is_embedded:
                await stack.enter_async_context(embedded.daemon(self.session.config, self.pretend))
            client = await stack.enter_async_context(self.session.client())
            if self.follower is None:
                try:
                    result = await self.order.send(client, self.session)
                except Refusal as refusal:
                    return say_refusal(refusal, self.order.source)
                if self.detach:
                    output.write(terminal.cell(result.handle) + "\n")
                    return exits.OK
                self.follower = self._begin(result)
            return self._code(await self.follower.follow(client, self.interrupts), is_embedded)

    def _begin(self, result: SubmitResult) -> Follower:
        for warning in result.warnings:
            terminal.say(f"warning: {warning}")
        if self.mode != "quiet":
            terminal.say(f"{result.handle} submitted to project {result.project}")
        return Follower(result.workflow, result.handle, make_view(self.mode))

    def _code(self, page: WorkflowPage | None, is_embedded: bool) -> int:
        if page is not None:
            return exits.BY_STATE[page.state]
        handle = self.follower.handle if self.follower else ""
        if is_embedded:
            state = self.session.config.state.text
            terminal.say(
                f"what runs of {handle} goes on; the rest waits for the next daemon: ffd daemon run --state {state}"
            )
        else:
            terminal.say(f"{handle} goes on; ffd wait {handle} waits for it")
        return exits.INTERRUPTED
