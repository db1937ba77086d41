"""Shows a refusal of a document: every fault with its place, its line and a caret; else the message and its hint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ffd.cli import exits, terminal
from ffd.errors import Refusal

if TYPE_CHECKING:
    from ffd.cli.submit import Source


def say(refusal: Refusal, source: Source) -> int:
    """On stderr; returns the exit code that goes with it."""
    faults = getattr(refusal, "faults", ())
    if not faults:
        for line in exits.lines_of(refusal):
            terminal.say(line)
        return exits.code_of(refusal)
    from ffd.core.document import render

    lines = source.lines()
    for fault in faults:
        terminal.say(render(fault, lines, source.filename))
    count = len(faults)
    terminal.say(f"error: {source.filename}: {count} {'fault' if count == 1 else 'faults'}; nothing was submitted")
    return exits.INVALID
