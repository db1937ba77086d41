"""The verb `logs`: one stream per replica, from its first byte, merged as they come, without gap or duplicate.

On a terminal lines are sanitised; into a pipe or file the bytes are as they were written. Prefixes only where there is
more than one stream. Never here: where logs are kept, reconnecting (the client's).
"""

from __future__ import annotations

import re
import sys
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import click

from ffd.cli import refs, show, terminal
from ffd.cli.session import Session, Verb, pass_session
from ffd.errors import Refusal

if TYPE_CHECKING:
    from ffd.api.client import Client, LogLines

FIRST_FAIL = "first-fail"
LINE_BYTES = 64 << 10  # a longer line is given in pieces, so that no line is held without bound
COLOURS = ("36", "35", "33", "32", "34", "31")


class Stream(NamedTuple):
    """One replica's log."""

    task: str
    item: int
    attempt: int
    rank: int


class RanksType(click.ParamType["tuple[int, ...] | str"]):
    """`0,7` or `first-fail`."""

    name = "RANKS"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...] | str:
        if not isinstance(value, str) or value == FIRST_FAIL:
            return value
        if not re.fullmatch(r"\d{1,6}(,\d{1,6})*", value):
            raise click.BadParameter(f'expected numbers like 0,7 or {FIRST_FAIL}, got "{value}"')
        return tuple(sorted({int(part) for part in value.split(",")}))


class PatternType(click.ParamType["re.Pattern[bytes]"]):
    """A regular expression over the bytes of a line."""

    name = "REGEX"

    def convert(
        self, value: str | re.Pattern[bytes], param: click.Parameter | None, ctx: click.Context | None
    ) -> re.Pattern[bytes]:
        try:
            return re.compile(value.encode()) if isinstance(value, str) else value
        except re.error as error:
            raise click.BadParameter(f'"{value}" is not a regular expression: {error}') from None


@click.command(cls=Verb)
@click.argument("target", type=refs.TARGET)
@click.option("-f", "--follow", is_flag=True, help="Go on until it has ended.")
@click.option(
    "--tail", type=click.IntRange(0, 1_000_000), default=None, help="Begin with the last N lines of each replica."
)
@click.option("--grep", type=PatternType(), default=None, help="Only lines in which this is found.")
@click.option("--rank", "ranks", type=RanksType(), default=None, help="Only these replicas: 0,7 or first-fail.")
@click.option("--attempt", type=click.IntRange(1), default=0, help="Only this attempt.")
@pass_session
def logs(
    session: Session, target: refs.Target, follow: bool, tail: int | None, grep: re.Pattern[bytes] | None,
    ranks: tuple[int, ...] | str | None, attempt: int,
) -> None:  # fmt: skip
    """Print the logs of a workflow, task (REF/task), item (REF/task[item]) or replica (REF/task[item].rank).

    Replicas, attempts and items are merged as they come, each line headed by where it is from. A pipe or file gets the
    bytes as they were written; on a terminal control bytes are shown, not obeyed.
    """
    if ranks is None and target.rank >= 0:
        ranks = (target.rank,)

    async def work(client: Client) -> None:
        chosen, which = ranks, attempt or target.attempt
        if isinstance(chosen, str):
            chosen, which = await _first_fail(client, target, which)
        printer = Printer(grep)
        if tail is not None:
            printer.hold(tail)
        batches = client.follow_log(
            target.workflow, target.task, item=target.item, attempt=which, ranks=chosen, follow=follow
        )
        async for batch in batches:
            printer.take(batch)
        printer.end()

    session.call(work)


async def _first_fail(client: Client, target: refs.Target, attempt: int) -> tuple[tuple[int, ...], int]:
    """Rank and attempt of the replica that failed first. Refusal (not_found) when none did."""
    if target.item >= 0:
        cause = (await show.find_item(client, target)).cause
    elif target.task:
        cause = (await show.find_task(client, target)).cause
    else:
        cause = (await client.get(target.workflow)).cause
    if cause is None or cause.rank < 0:
        raise Refusal("no replica of it has failed", code="not_found", hint=f"ffd why {refs.shown(*target[:3])}")
    return (cause.rank,), attempt or cause.attempt


class Printer:
    """Turns batches into lines on stdout. Holds a partial line per stream until its end is known, at most LINE_BYTES;
    with `hold(n)`, the last n lines of each stream until the batches of what was there are through."""

    def __init__(self, grep: re.Pattern[bytes] | None = None) -> None:
        self.grep = grep
        self.out = sys.stdout.buffer
        self.safe = sys.stdout.isatty()
        self.colour = terminal.colours(sys.stdout)
        self.partial: dict[Stream, bytes] = {}
        self.seen: list[Stream] = []
        self.held: dict[Stream, deque[bytes]] | None = None
        self.tail = 0
