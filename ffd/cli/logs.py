"""The verb `logs`: one stream per replica, from its first byte, merged as they come, without gap or duplicate.

On a terminal lines are sanitised; into a pipe or file the bytes are as they were written. Prefixes only where there is
more than one stream. Never here: where logs are kept, reconnecting (the client's).
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import click

from ffd.cli import refs, show, terminal
from ffd.cli.session import Session, Verb, pass_session
from ffd.errors import Refusal

if TYPE_CHECKING:
    from ffd.api.client import Client, LogBatch, LogLines
    from ffd.core.pages import TaskPage

LINE = re.compile(rb"[^\n]*\n|[^\n]+")
FIRST_FAIL = "first-fail"
LINE_BYTES = 64 << 10  # a longer line is given in pieces, so that no line is held without bound
LINE_GUESS_BYTES = 256
LINE_GUESS_GROWTH = 16
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
@click.option("--attempt", type=click.IntRange(1), default=None, help="Only this attempt.")
@pass_session
def logs(
    session: Session, target: refs.Target, follow: bool, tail: int | None, grep: re.Pattern[bytes] | None,
    ranks: tuple[int, ...] | str | None, attempt: int | None,
) -> None:  # fmt: skip
    """Print the logs of a workflow, task (REF/task), item (REF/task[item]) or replica (REF/task[item].rank).

    Replicas, attempts and items are merged as they come, each line headed by where it is from. A pipe or file gets the
    bytes as they were written; on a terminal control bytes are shown, not obeyed.
    """
    chosen = (target.rank,) if ranks is None and target.rank >= 0 else ranks

    async def work(client: Client) -> None:
        query = Query(client, target, (), attempt or target.attempt)
        if isinstance(chosen, str):
            query = await _first_fail(query)
        elif chosen:
            query = query._replace(ranks=chosen)
        tasks = {page.name: page async for page in client.all_tasks(target.workflow)}
        printer = Printer(tasks, query.is_one(tasks), grep)
        cursor = ""
        if tail is not None:
            cursor = await _tail(query, tail, printer)
        if tail is None or follow:
            async for batch in query.batches(follow=follow, cursor=cursor):
                printer.take(batch.lines)
        printer.end()

    session.call(work)


class Query(NamedTuple):
    """Whose logs. `ranks` () and `attempt` 0 = all."""

    client: Client
    target: refs.Target
    ranks: tuple[int, ...]
    attempt: int

    def batches(self, *, follow: bool, offset: int = 0, cursor: str = "") -> AsyncIterator[LogBatch]:
        """What there is, from `offset` of each log (negative: before its end) or after `cursor`."""
        return self.client.follow_log(
            self.target.workflow, self.target.task, item=self.target.item, attempt=self.attempt, ranks=self.ranks,
            offset=offset, follow=follow, cursor=cursor,
        )  # fmt: skip

    def is_one(self, tasks: Mapping[str, TaskPage]) -> bool:
        """Whether it is one replica, as far as can be told now, so that its lines need no head."""
        pages = [page for page in tasks.values() if self.target.task in ("", page.name)]
        return len(pages) == 1 and (
            (self.target.item >= 0 or not pages[0].fanout)
            and (len(self.ranks) == 1 or pages[0].replicas == 1)
            and (self.attempt > 0 or pages[0].attempt <= 1)
        )


async def _tail(query: Query, count: int, printer: Printer) -> str:
    """Print the last `count` lines of each log there is; the cursor behind them. Reads further back until it has them:
    how long lines are, nobody knows before."""
    back_bytes = max(count * LINE_GUESS_BYTES, 1)
    while True:
        tails: dict[Stream, Tail] = {}
        cursor = ""
        async for batch in query.batches(follow=False, offset=-back_bytes):
            cursor = batch.cursor
            for lines in batch.lines:
                start = lines.offset - lines.dropped_bytes
                tails.setdefault(stream_of(lines), Tail(start, count)).take(lines.data)
        if all(tail.is_whole() for tail in tails.values()):
            break
        back_bytes *= LINE_GUESS_GROWTH
    for stream, tail in tails.items():
        printer.lines(stream, tail.kept())
    return cursor


class Tail:
    """The last lines of one log, read from `start`. What stands before the first newline is half a line, unless the
    log begins there."""

    def __init__(self, start: int, count: int) -> None:
        self.start = start
        self.count = count
        self.buffer = b""

    def take(self, data: bytes) -> None:
        lines = split(self.buffer + data)
        self.buffer = b"".join(lines[-self.count - 1 :])

    def is_whole(self) -> bool:
        """Whether nothing further back is needed."""
        return self.start == 0 or self.buffer.count(b"\n") > self.count

    def kept(self) -> list[bytes]:
        return split(self.buffer)[-self.count :] if self.count else []


def split(data: bytes) -> list[bytes]:
    """Lines with their newlines; only those end a line. The last may have none."""
    return LINE.findall(data)


def stream_of(lines: LogLines) -> Stream:
    return Stream(lines.task, lines.item, lines.attempt, lines.rank)


async def _first_fail(query: Query) -> Query:
    """The query for the replica that failed first. Refusal (not_found) when none did."""
    client, target = query.client, query.target
    if target.item >= 0:
        cause = (await show.find_item(client, target)).cause
    elif target.task:
        cause = (await show.find_task(client, target)).cause
    else:
        cause = (await client.get(target.workflow)).cause
    if cause is None or cause.rank < 0:
        raise Refusal("no replica of it has failed", code="not_found", hint=f"ffd why {refs.shown(*target[:3])}")
    where = target._replace(task=cause.task or target.task, item=cause.item if cause.item >= 0 else target.item)
    return Query(client, where, (cause.rank,), query.attempt or cause.attempt)


class Printer:
    """Writes lines to stdout. An unfinished line is held until it is finished, long, or all is over, so that lines of
    two replicas never run into each other."""

    def __init__(self, tasks: Mapping[str, TaskPage], is_one: bool, grep: re.Pattern[bytes] | None = None) -> None:
        self.tasks = tasks
        self.grep = grep
        self.is_raw = not sys.stdout.isatty()
        self.colour = terminal.colours(sys.stdout)
        self.has_heads = not is_one  # and as soon as there is a second one after all
        self.partial: dict[Stream, bytes] = {}
        self.seen: dict[Stream, str] = {}  # its colour

    def take(self, batch: Iterable[LogLines]) -> None:
        """Some bytes of some replicas, in order."""
        for lines in batch:
            stream = stream_of(lines)
            if lines.dropped_bytes:
                self.lines(stream, [self.partial.pop(stream, b"")])
                sys.stdout.flush()
                terminal.say(f"-- {lines.dropped_bytes} bytes of {self._name(stream)} dropped --")
            data = self.partial.pop(stream, b"") + lines.data
            whole = data.rfind(b"\n") + 1
            if len(data) - whole >= LINE_BYTES:
                whole = len(data)
            if whole < len(data):
                self.partial[stream] = data[whole:]
            self.lines(stream, split(data[:whole]))
        sys.stdout.flush()

    def end(self) -> None:
        """Nothing follows: unfinished lines are given as they are."""
        for stream, data in self.partial.items():
            self.lines(stream, [data])
        self.partial = {}
        sys.stdout.flush()

    def lines(self, stream: Stream, lines: Iterable[bytes]) -> None:
        """Whole lines of one replica."""
        for line in lines:
            if line and (self.grep is None or self.grep.search(line)):
                self._line(stream, line)

    def _line(self, stream: Stream, line: bytes) -> None:
        if stream not in self.seen:
            self.seen[stream] = COLOURS[len(self.seen) % len(COLOURS)]
            self.has_heads |= len(self.seen) > 1
        head = f"{self._name(stream)} | " if self.has_heads else ""
        if head and self.colour:
            head = f"\x1b[{self.seen[stream]}m{head}\x1b[0m"
        if self.is_raw:
            sys.stdout.buffer.write(head.encode() + line + (b"" if line.endswith(b"\n") or not head else b"\n"))
            return
        text = line.rstrip(b"\r\n").decode(errors="backslashreplace")
        for part in text.split("\r"):  # progress bars draw over themselves: each state is a line
            sys.stdout.write(f"{head}{terminal.sanitise(part)}\n")

    def _name(self, stream: Stream) -> str:
        """`train[3]#2:5`, without what says nothing."""
        page = self.tasks.get(stream.task)
        item = f"[{stream.item}]" if page is None or page.fanout else ""
        rank = f":{stream.rank}" if page is None or page.replicas > 1 else ""
        return terminal.cell(f"{stream.task}{item}#{stream.attempt}{rank}")
