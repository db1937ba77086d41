"""The verb `why`: the Explain page in words, the same object that the API and the TUI show."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ffd.cli import output, refs, terminal, words
from ffd.cli.output import Column
from ffd.cli.session import Session, Verb, pass_session

if TYPE_CHECKING:
    from ffd.core.pages import Explain


@click.command(cls=Verb)
@click.argument("target", type=refs.TARGET)
@click.option(
    "--what-if",
    "what_if",
    multiple=True,
    metavar="KEY=VALUE",
    help="Try this on the scheduler's own books, changing nothing; several are tried together: quota.RESOURCE=+N, "
    "gang.replicas=N, gang.min=N, topology=any|preferred|LEVEL, gpu_type=A|B, gpus=N, priority=N, nodes=+2x8:H100, "
    "uncordon=NODE.",
)
@output.object_option
@pass_session
def why(session: Session, target: refs.Target, what_if: tuple[str, ...], form: str) -> None:
    """Say why a workflow, task or item waits, or why it ended as it did: every check, in the scheduler's order."""
    page = session.call(lambda client: client.why(target.workflow, target.task, target.item, what_if))
    output.emit_object(page, form, lambda: text(page), page.subject)


def text(page: Explain) -> str:
    """The page for people."""
    colour = terminal.colours(sys.stdout)
    state = terminal.paint(terminal.cell(page.state), page.state, colour)
    lines = [
        f"{terminal.cell(page.subject)} is {state}: {terminal.cell(page.headline.removeprefix(f'{page.state}: '))}"
    ]
    if page.position:
        lines.append(f"position in the queue: {page.position}" + (" (next)" if page.position == 1 else ""))
    if page.checks:
        columns = [
            Column("CHECK", lambda check: check.name),
            Column("VERDICT", lambda check: check.verdict, state=True),
            Column("DETAIL", lambda check: check.detail),
        ]
        lines += ["", output.table(page.checks, columns, indent="  ").rstrip("\n")]
    if page.groups:
        columns = [
            Column("TASK", lambda group: group.task),
            Column("ITEMS", lambda group: str(group.item_count), right=True),
            Column("WAITS FOR", lambda group: group.reason),
            Column("DETAIL", lambda group: group.detail),
        ]
        lines += ["", output.table(page.groups, columns, indent="  ").rstrip("\n")]
    if page.cause is not None:
        lines += ["", f"cause: {terminal.cell(words.cause_line(page.cause))}"]
        tail = page.tail or page.cause.tail
        lines += [f"  | {line}" for line in terminal.sanitise(tail).splitlines()]
    if page.hints:
        lines += ["", "what would help:"]
        lines += [f"  - {terminal.cell(hint)}" for hint in page.hints]
    return "\n".join(lines) + "\n"
