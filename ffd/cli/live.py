"""The live view on a terminal, drawn in place with Rich: what runs, what failed, what waits and why, then counts.

Redrawn at most five times a second, and only as many lines as fit: the cost does not grow with the workflow.
Never here: what happened (`board`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live as RichLive
from rich.text import Text

from ffd.cli import progress, terminal, words
from ffd.cli.board import Board, Change, Row
from ffd.core.model import TERMINAL
from ffd.core.pages import EventPage, WorkflowPage

if TYPE_CHECKING:
    from ffd.api.client import Client

REDRAW_SECONDS = 0.2
REASONS_EVERY = 10  # redraws: what waits is asked about every two seconds
BAR_COLUMNS = 20
ROWS_SHOWN = {"running": 10, "failed": 5, "waiting": 5}
RUNNING = ("running", "stopping", "launching", "admitted", "ended", "backoff")
STYLES = {
    "running": "cyan", "failed": "red", "succeeded": "green", "backoff": "yellow", "stopping": "yellow",
    "cancelled": "yellow", "ready": "dim", "waiting": "dim",
}  # fmt: skip


class Live:
    """A View (see `progress`). It leaves a summary behind, and nothing of itself."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        self.reasons: dict[str, str] = {}
        self.live: RichLive | None = None

    def begin(self, board: Board) -> None:
        self.board = board
        self.resume()

    def told(self, event: EventPage, changes: list[Change]) -> None:
        for change in changes:
            if change.word == "failed" and self.live is not None:
                self.live.console.print(Text(terminal.cell(progress.sentence(change, event.at_ms)), "red"))

    def ended(self, page: WorkflowPage) -> None:
        self.pause()
        progress.say_cause(self.board, page)
        terminal.say(words.summary(page))

    def pause(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def resume(self) -> None:
        self.live = RichLive(
            console=self.console,
            auto_refresh=False,
            transient=True,
            get_renderable=lambda: self.draw(terminal.now_ms()),
        )
        self.live.start(refresh=True)

    async def keep_fresh(self, client: Client) -> None:
        import anyio

        turn = 0
        while True:
            if self.live is not None:
                self.live.refresh()
            if turn % REASONS_EVERY == 0:
                self.reasons = await progress.reasons(client, self.board)
            turn += 1
            await anyio.sleep(REDRAW_SECONDS)

    # ------------------------------------------------------------------------------------------------------ drawing

    def draw(self, now_ms: int) -> Text:
        """The whole view now."""
        board = self.board
        head = f"{board.handle} {board.state}"
        head += f", will be {board.verdict}" if board.verdict and board.state not in TERMINAL else ""
        head += f"  {terminal.duration(now_ms - board.accepted_at_ms)}" if board.accepted_at_ms else ""
        text = Text(no_wrap=True, overflow="ellipsis").append(terminal.cell(head), "bold")
        self._rows(text, board.in_state(*RUNNING), "running", now_ms)
        self._rows(text, board.in_state("failed"), "failed", now_ms)
        self._rows(text, board.in_state("ready", "waiting"), "waiting", now_ms)
        text.append(f"\n  {words.counts(board.counts)}", "dim")
        return text

    def _rows(self, text: Text, rows: list[Row], group: str, now_ms: int) -> None:
        limit = min(ROWS_SHOWN[group], max(self.console.height // 4, 1))
        for row in rows[:limit]:
            line = f"\n  {row.word:<10} {terminal.fit(row.name, 24):<24} {self._told(row, now_ms)}"
            text.append(terminal.fit(line, self.console.width), STYLES.get(row.word, ""))
        if len(rows) > limit:
            text.append(f"\n  ... and {len(rows) - limit} more {group}", "dim")

    def _told(self, row: Row, now_ms: int) -> str:
        """What is said of one task: a bar for a fan-out, else where it runs, why it failed or what it waits for."""
        since = terminal.duration(now_ms - row.since_at_ms) if row.since_at_ms else ""
        if row.fanout and row.word not in ("waiting", "ready"):
            return f"{bar(row)}  {since}"
        if row.word == "backoff":
            return terminal.cell(
                f"next try in {terminal.duration(row.retry_at_ms - now_ms)}, attempt {row.attempt} failed"
            )
        if row.word == "failed" and row.cause is not None:
            return terminal.cell(words.ended_how(row.cause))
        if row.word == "ready":
            return terminal.cell(f"{self.reasons.get(row.name, '')}  {since}".strip())
        if row.word == "waiting":
            return self._needs(row)
        where = ", ".join(row.nodes[:2]) + (f" +{len(row.nodes) - 2}" if len(row.nodes) > 2 else "")
        tries = f"attempt {row.attempt}" if row.attempt > 1 else ""
        return terminal.cell("  ".join(part for part in (since, where, tries) if part))

    def _needs(self, row: Row) -> str:
        left = [need for need in row.page.needs if self.board.rows[need].word not in ("succeeded", "skipped")]
        if not left:
            return "runs at the end" if row.page.finally_ else ""
        return f"needs {', '.join(left[:3])}" + (f" and {len(left) - 3} more" if len(left) > 3 else "")


def bar(row: Row) -> str:
    """`━━━━━━──────────────  40/64  8 running, 1 failed`."""
    filled = row.settled_count * BAR_COLUMNS // max(row.item_count, 1)
    others = words.counts({word: count for word, count in row.counts.items() if word not in ("succeeded", "ready")})
    return f"{'━' * filled}{'─' * (BAR_COLUMNS - filled)}  {row.settled_count}/{row.item_count}  {others}".rstrip()
