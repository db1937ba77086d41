"""What every verb gets: the options that all share, the resolved configuration, and calls to the daemon.

One Session per invocation, as click's `ctx.obj`. `connect` is the only way to the network, so tests put another network
there. Never here: what a verb does, how errors become exit codes (`main`).
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ffd.cli import address

if TYPE_CHECKING:
    from ffd.api.client import Client

T = TypeVar("T")
Connect = Callable[[address.Config], Awaitable["Client"]]


async def connect(config: address.Config) -> Client:
    """A client of the configured daemon; lazy, so an absent daemon shows at the first call."""
    from ffd.api.client import Client

    return await Client.connect(config.address.text, project=config.project.text, token=config.token.text)


class Session:
    """One invocation of the command line."""

    def __init__(self, connect: Connect = connect) -> None:
        self.connect = connect
        self.flags: dict[str, str] = {}
        self.no_input = False
        self._config: address.Config | None = None

    @property
    def config(self) -> address.Config:
        """Resolved once, after all options were read."""
        if self._config is None:
            self._config = address.resolve(self.flags)
        return self._config

    def may_ask(self) -> bool:
        """Whether a person is there to answer a question."""
        return not self.no_input and sys.stdin.isatty() and sys.stderr.isatty()

    @asynccontextmanager
    async def client(self, config: address.Config | None = None) -> AsyncIterator[Client]:
        """A connected client, closed at the end."""
        async with await self.connect(config or self.config) as client:
            yield client

    def call(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Run one asynchronous piece of work with a client, and return what it returns."""

        async def body() -> T:
            async with self.client() as client:
                return await work(client)

        return run_async(body)


def run_async(body: Callable[[], Awaitable[T]]) -> T:
    """Run `body` on a fresh event loop."""
    import anyio

    return anyio.run(body)


# ---------------------------------------------------------------------------------------------------- shared options


def _flag(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Remember an option in the session; the one after the verb wins over the one before it."""
    if value and param.name:
        ctx.ensure_object(Session).flags[param.name] = value


def _no_input(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Session).no_input = True


def shared_options() -> list[click.Option]:
    """The options that go before the verb or behind it."""

    def option(*names: str, **more: Any) -> click.Option:
        return click.Option(names, expose_value=False, **more)

    return [
        option("--address", metavar="ADDR", callback=_flag, help="unix:PATH, grpc://HOST:PORT or grpcs://HOST:PORT."),
        option("--context", metavar="NAME", callback=_flag, help="A context of the user's configuration."),
        option("--project", metavar="PROJECT", callback=_flag, help="The project to work in."),
        option("--no-input", is_flag=True, callback=_no_input, help="Never ask a question."),
    ]


class Verb(click.Command):
    """A verb that talks to a daemon: its own options, and the shared ones behind them."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.params.extend(shared_options())


pass_session = click.make_pass_decorator(Session, ensure=True)
