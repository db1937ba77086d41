"""Follow one workflow to its end, and tell how it goes: `--progress auto|tty|plain|json|quiet`.

A Follower reads the tasks once and then lives on events alone; a View tells them. Called by `run` and `submit --wait`.
Never here: the picture itself (`board`), the live drawing (`live`), ctrl+c (`interrupts`).
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

import click

from ffd.cli import exits, output, terminal, words
from ffd.cli.board import Board, Change
from ffd.core.pages import EventPage, WorkflowPage
from ffd.errors import Refusal, Unavailable

if TYPE_CHECKING:
    from ffd.api.client import Client
    from ffd.cli.interrupts import Interrupts

MODES = ("auto", "tty", "plain", "json", "quiet")
START = "0.0"  # the beginning of the story
REASONS_COUNT = 3  # tasks at once that are asked why they wait
SILENCE_SECONDS = 10  # after so long without any event the plain view says what waits

progress_option = click.option(
    "--progress", type=click.Choice(MODES), default="auto", show_default=True, help="How to tell how it goes."
)


class View(Protocol):
    """Tells how a workflow goes. `told` is called for each event, in order, after the board took it in."""

    def begin(self, board: Board) -> None: ...

    def told(self, event: EventPage, changes: list[Change]) -> None: ...

    def ended(self, page: WorkflowPage) -> None: ...

    def pause(self) -> None:
        """Leave the terminal to somebody else, until `resume`."""
        ...

    def resume(self) -> None: ...

    async def keep_fresh(self, client: Client) -> None:
        """Runs beside the events, until cancelled: for what no event tells (durations, reasons)."""
        ...


class Quiet:
    """Says nothing but why it failed."""

    def begin(self, board: Board) -> None:
        self.board = board

    def told(self, event: EventPage, changes: list[Change]) -> None:
        pass

    def ended(self, page: WorkflowPage) -> None:
        say_cause(self.board, page)

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    async def keep_fresh(self, client: Client) -> None:
        pass


class Json(Quiet):
    """Each event as one JSON object per line on stdout; nothing else there."""

    def told(self, event: EventPage, changes: list[Change]) -> None:
        output.write(output.encode(event) + "\n")


class Plain(Quiet):
    """One line per change of a task on stderr; fan-outs in tenths, each of their failures; why nothing goes on."""

    told_count = 0

    def told(self, event: EventPage, changes: list[Change]) -> None:
        self.told_count += 1
        for change in changes:
            terminal.say(f"{_clock(event.at_ms)} {sentence(change, event.at_ms)}")

    def ended(self, page: WorkflowPage) -> None:
        say_cause(self.board, page)
        terminal.say(words.summary(page))

    async def keep_fresh(self, client: Client) -> None:
        import anyio

        said: dict[str, str] = {}
        while True:
            before = self.told_count
            await anyio.sleep(SILENCE_SECONDS)
            if self.told_count == before:
                fresh = await reasons(client, self.board)
                for name, reason in fresh.items():
                    if said.get(name) != reason:
                        terminal.say(terminal.cell(f"{_clock(terminal.now_ms())} {name} waits: {reason}"))
                said = fresh


def _clock(at_ms: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_ms / 1000))


async def reasons(client: Client, board: Board) -> dict[str, str]:
    """Why the first few tasks that could start do not. No event tells: the answer changes with what others do."""
    found = {}
    for row in board.in_state("ready")[:REASONS_COUNT]:
        try:
            found[row.name] = (await client.why(board.handle, row.name)).headline
        except (Refusal, Unavailable):
            continue  # it has moved on meanwhile, or nobody can say now
    return found


def sentence(change: Change, at_ms: int) -> str:
    """One change as text: `train running on n1 (attempt 2)`."""
    if change.row is None:
        said = f"workflow {change.word}"
        return f"{said}: {words.cause_line(change.cause)}" if change.cause else said
    row = change.row
    name = f"{row.name}[{change.item}]" if change.item >= 0 else row.name
    said = f"{name} {change.detail} done" if change.word == "step" else f"{name} {change.word}"
    if change.detail and change.word != "step":
        said += f" {change.detail}"
    if change.attempt > 1:
        said += f" (attempt {change.attempt})"
    if change.word == "backoff" and row.retry_at_ms:
        said += f", next try in {terminal.duration(row.retry_at_ms - at_ms)}"
    return terminal.cell(f"{said}: {words.ended_how(change.cause)}" if change.cause else said)


def say_cause(board: Board, page: WorkflowPage) -> None:
    """Why it failed: the first failing task, attempt and rank, how it ended, its last lines."""
    if page.cause is None or page.state == "succeeded":
        return
    row = board.rows.get(page.cause.task)
    for line in words.cause_block(page.handle, page.cause, row.page if row else None):
        terminal.say(line)


def make_view(mode: str) -> View:
    """The view for a mode; `auto`: live on a terminal, else plain."""
    if mode == "auto":
        mode = "tty" if sys.stderr.isatty() else "plain"
    if mode == "tty":
        from ffd.cli.live import Live

        return Live()
    return {"plain": Plain, "json": Json, "quiet": Quiet}[mode]()


class Follower:
    """Follows one workflow. `follow` may be called again, with another client, after it raised Unavailable: it goes on
    where it was, and tells nothing twice."""

    def __init__(self, workflow: int, handle: str, view: View) -> None:
        self.workflow = workflow
        self.handle = handle
        self.view = view
        self.board: Board | None = None
        self.token = START

    @property
    def ref(self) -> str:
        return str(self.workflow)

    async def follow(self, client: Client, interrupts: Interrupts | None = None) -> WorkflowPage | None:
        """Tell everything until the workflow has ended; its last page. None: `interrupts` made us leave before."""
        import anyio

        if self.board is None:
            self.board = Board(self.handle, [page async for page in client.all_tasks(self.ref)])
            self.view.begin(self.board)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self.view.keep_fresh, client)
                if interrupts is not None:
                    group.start_soon(interrupts.listen, client, self, group.cancel_scope)
                await self._events(client, self.board)
                group.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            self.view.pause()
            raise exits.only(errors) from None
        if interrupts is not None and interrupts.left:
            self.view.pause()
            return None
        page = await client.get(self.ref)
        self.view.ended(page)
        return page

    async def _events(self, client: Client, board: Board) -> None:
        """Every event exactly once. After a gap the stored story is read on from the last event that was told."""
        ended = False
        while not ended:
            ended = True
            async for page in client.watch(self.ref, token=self.token):
                if page.gap:
                    ended = False
                    break
                for event in page.events:
                    self.view.told(event, board.apply(event))
                self.token = page.token
