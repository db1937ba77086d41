"""Documents and parameters as they stand on disk, and how their faults are shown: place, line, caret, hint.

Used by every verb that takes a FILE. Never here: whether a document is valid (`core.document` decides).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ffd.cli import exits, terminal
from ffd.errors import Refusal

if TYPE_CHECKING:
    from ffd.core.document import Fault

STDIN = "-"
PARAM_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Source(NamedTuple):
    """One document as it was read."""

    data: bytes
    filename: str


def read_source(path: str) -> Source:
    """The bytes of a file; `-` is stdin. click.FileError when it cannot be read."""
    if path == STDIN:
        return Source(sys.stdin.buffer.read(), "<stdin>")
    try:
        return Source(Path(path).read_bytes(), path)
    except OSError as error:
        raise click.FileError(path, error.strerror or str(error)) from None


def parse_params(pairs: Iterable[str]) -> dict[str, str]:
    """`k=v` options as a dict; the daemon gives each value its declared type."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or PARAM_NAME.fullmatch(name) is None:
            raise click.BadParameter(f'"{pair}": expected NAME=VALUE', param_hint="-p")
        found[name] = value
    return found


def read_params(path: str | None) -> dict[str, Any]:
    """Typed parameters from a YAML or JSON file that holds one map; {} without a file. click.UsageError says what is
    wrong with it, and where."""
    if path is None:
        return {}
    from ffd.api.source import parse_source

    source = read_source(path)
    parsed = parse_source(source.data, source.filename)
    if parsed.faults:
        say_faults(source, parsed.faults)
        raise click.UsageError(f"{source.filename} cannot be read as parameters")
    if not isinstance(parsed.mapping, dict):
        raise click.UsageError(f"{source.filename}: expected a map of parameters")
    return parsed.mapping


def say_refusal(refusal: Refusal, source: Source) -> int:
    """A refusal on stderr, of a document with every fault; the exit code that goes with it."""
    faults = getattr(refusal, "faults", ())
    if not faults:
        for line in exits.lines_of(refusal):
            terminal.say(line)
        return exits.code_of(refusal)
    say_faults(source, faults)
    terminal.say(f"error: {source.filename}: {counted(len(faults), 'fault')}; nothing was submitted")
    return exits.INVALID


def say_faults(source: Source, faults: Iterable[Fault]) -> None:
    """Every fault on stderr, with its line and a caret."""
    for text in rendered(source, faults):
        terminal.say(text)


def rendered(source: Source, faults: Iterable[Fault]) -> list[str]:
    """Every fault as text of several lines."""
    from ffd.api.source import source_lines
    from ffd.core.document import render

    lines = source_lines(source.data)
    return [render(fault, lines, source.filename) for fault in faults]


def counted(count: int, what: str) -> str:
    """`1 fault`, `2 faults`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
