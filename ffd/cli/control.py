"""Verbs that change a workflow: cancel, suspend, resume, retry, set; and `wait`, which waits for a change.

Each prints `handle state` after it. With several REFs all are tried; the first refusal decides the exit code.
Never here: waiting by asking again and again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from ffd.cli import exits, output, refs, terminal, words
from ffd.cli.session import Session, Verb, pass_session
from ffd.errors import Refusal

if TYPE_CHECKING:
    from ffd.api.client import Client
    from ffd.core.commands import Done
    from ffd.core.pages import WorkflowPage

ENDED = ("succeeded", "failed", "cancelled")
WAIT_STATES = ("running", "suspended", *ENDED, "ended")
PRIORITY_MAX = 1000

REFS = click.argument("targets", type=refs.WORKFLOW, nargs=-1, required=True)
KEY = click.option("--idempotency-key", "key", default="", help="The same key never acts twice.")


def _each(session: Session, targets: tuple[refs.Target, ...], act: Callable[[Client, str], Awaitable[Done]]) -> int:
    """Act on each REF; say how it went. Refusals of one do not keep the others from it."""

    async def work(client: Client) -> int:
        code = exits.OK
        for target in targets:
            try:
                done = await act(client, target.workflow)
            except Refusal as refusal:
                for line in exits.lines_of(refusal):
                    terminal.say(line)
                code = code or exits.code_of(refusal)
                continue
            output.write(terminal.cell(f"{done.handle} {done.state}") + "\n")
        return code

    return session.call(work)


@click.command(cls=Verb)
@REFS
@click.option("--now", is_flag=True, help="Skip the finally tasks too.")
@KEY
@pass_session
def cancel(session: Session, targets: tuple[refs.Target, ...], now: bool, key: str) -> int:
    """Cancel workflows, for good: once that is acknowledged nothing new starts, but for their finally tasks."""
    return _each(session, targets, lambda client, ref: client.cancel(ref, now=now, key=key))


@click.command(cls=Verb)
@REFS
@KEY
@pass_session
def suspend(session: Session, targets: tuple[refs.Target, ...], key: str) -> int:
    """Start nothing new; what runs goes on."""
    return _each(session, targets, lambda client, ref: client.suspend(ref, key=key))


@click.command(cls=Verb)
@REFS
@KEY
@pass_session
def resume(session: Session, targets: tuple[refs.Target, ...], key: str) -> int:
    """Undo suspend."""
    return _each(session, targets, lambda client, ref: client.resume(ref, key=key))


@click.command(cls=Verb)
@REFS
@KEY
@pass_session
def retry(session: Session, targets: tuple[refs.Target, ...], key: str) -> int:
    """Run again what did not succeed of an ended workflow; what succeeded is kept."""
    return _each(session, targets, lambda client, ref: client.retry(ref, key=key))


@click.command("set", cls=Verb)
@click.argument("target", type=refs.WORKFLOW)
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE")
@KEY
@pass_session
def set_(session: Session, target: refs.Target, changes: tuple[str, ...], key: str) -> int:
    """Change a live workflow. KEY is priority (0-1000): it counts for what has not been admitted yet."""
    priority = -1
    for change in changes:
        name, equals, value = change.partition("=")
        if name != "priority" or not equals:
            raise click.BadParameter(f'"{change}": expected priority=NUMBER')
        if not value.isascii() or not value.isdecimal() or int(value) > PRIORITY_MAX:
            raise click.BadParameter(f'priority: expected a number from 0 to {PRIORITY_MAX}, got "{value}"')
        priority = int(value)
    return _each(session, (target,), lambda client, ref: client.set_priority(ref, priority, key=key))


# ------------------------------------------------------------------------------------------------------------- wait


class DurationType(click.ParamType[int]):
    """A duration as text, in milliseconds; a bare number is seconds."""

    name = "DURATION"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        from ffd.core.document.scalars import Wrong, duration_ms

        try:
            return duration_ms(f"{value}s" if value.isdecimal() else value)
        except Wrong as wrong:
            raise click.BadParameter(wrong.message) from None


@click.command(cls=Verb)
@click.argument("target", type=refs.WORKFLOW)
@click.option(
    "--timeout", "timeout_ms", type=DurationType(), default=0, help="As 90s or 5m; exit code 8 when it is up."
)
@click.option("--for", "wanted", type=click.Choice(WAIT_STATES), default="ended", show_default=True, help="This state.")
@pass_session
def wait(session: Session, target: refs.Target, timeout_ms: int, wanted: str) -> int:
    """Wait until a workflow has ended, or is in another state.

    Exit code: 0 when it is as asked, 1 when it failed, 9 when it was cancelled, 8 when the time is up.
    """
    import anyio

    async def work(client: Client) -> WorkflowPage | None:
        with anyio.move_on_after(timeout_ms / 1000 if timeout_ms else None):
            return await until(client, target.workflow, wanted)
        return None

    page = session.call(work)
    if page is None:
        awaited = "has not ended" if wanted == "ended" else f"is not {wanted}"
        terminal.say(f"error: {target.workflow} {awaited} after {terminal.duration(timeout_ms)}")
        return exits.TIMED_OUT
    terminal.say(words.summary(page))
    if wanted not in ("ended", page.state):
        terminal.say(f"error: it is {page.state} and will not be {wanted} any more")
        return exits.BY_STATE[page.state] or exits.FAILED
    return exits.BY_STATE[page.state] if wanted == "ended" else exits.OK


async def until(client: Client, ref: str, wanted: str) -> WorkflowPage:
    """The workflow's page as soon as it is in `wanted` ("ended" = any end), or has ended otherwise.

    Watches from the commit that the first page reflects, so that no change falls between the two."""
    page = await client.get(ref)
    while page.state != wanted and page.state not in ENDED:
        async for seen in client.watch(str(page.id), token=f"{page.number}.0"):
            if seen.gap or any(not event.task for event in seen.events):
                page = await client.get(str(page.id))
                if page.state == wanted or page.state in ENDED:
                    return page
        page = await client.get(str(page.id))
    return page
