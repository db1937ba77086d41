"""How data is written to stdout: `-o table|wide|json|jsonl|yaml|name`. Tables are plain, sanitised text.

Verbs give pages and columns; this module gives bytes. Machine formats hold every field, also those at their default.
Never here: which pages (the verbs), messages to people (`terminal.say`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import click

from ffd.cli import terminal

FORMATS = ("table", "wide", "json", "jsonl", "yaml", "name")
OBJECT_FORMATS = ("text", "json", "jsonl", "yaml", "name")

output_option = click.option(
    "-o", "--output", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to write it."
)
object_option = click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(OBJECT_FORMATS),
    default="text",
    show_default=True,
    help="How to write it.",
)


class Column(NamedTuple):
    """One column of a table: its title, the text of a page in it, and when it is shown."""

    title: str
    text: Callable[[Any], str]
    wide: bool = False  # only with -o wide
    right: bool = False
    state: bool = False  # painted by its word


def write(text: str) -> None:
    """Text to stdout, as it is."""
    sys.stdout.write(text)
    sys.stdout.flush()


def emit_list(
    pages: Iterable[Any], columns: Sequence[Column], form: str, name: Callable[[Any], str], empty: str = ""
) -> None:
    """All pages in one format. A table of nothing is nothing, with `empty` said on stderr."""
    if form == "jsonl":
        for page in pages:
            write(encode(page) + "\n")
        return
    rows = list(pages)
    if form == "json":
        write(encode(rows, indent=2) + "\n")
    elif form == "yaml":
        write(to_yaml(plain(rows)))
    elif form == "name":
        write("".join(f"{terminal.cell(name(row))}\n" for row in rows))
    elif rows:
        write(table(rows, [column for column in columns if form == "wide" or not column.wide]))
    elif empty:
        terminal.say(empty)


def emit_object(page: Any, form: str, text: Callable[[], str], name: str) -> None:
    """One page in one format; `text` makes the one for people (already sanitised)."""
    if form == "text":
        write(text())
    elif form == "yaml":
        write(to_yaml(plain(page)))
    elif form == "name":
        write(f"{terminal.cell(name)}\n")
    else:
        write(encode(page, indent=2 if form == "json" else 0) + "\n")


# ----------------------------------------------------------------------------------------------------------- tables


def table(rows: Sequence[Any], columns: Sequence[Column], indent: str = "") -> str:
    """A table with a head. On a terminal lines are cut to its width, and states are painted."""
    limit = terminal.columns(sys.stdout)
    colour = terminal.colours(sys.stdout)
    grid = [[terminal.cell(column.text(row)) or "-" for column in columns] for row in rows]
    widths = [
        max(terminal.width(cells[index]) for cells in (*grid, [c.title for c in columns]))
        for index in range(len(columns))
    ]
    lines = [_line([column.title for column in columns], columns, widths, indent, limit, False)]
    lines += [_line(cells, columns, widths, indent, limit, colour) for cells in grid]
    return "".join(lines)


def _line(
    cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], indent: str, limit: int, colour: bool
) -> str:
    """One line. Cutting comes before painting, so that no escape sequence is cut in two."""
    parts, used = [], len(indent)
    for index, (text, column, size) in enumerate(zip(cells, columns, widths, strict=True)):
        if limit and used >= limit:
            break
        kept = terminal.fit(text, limit - used) if limit else text
        gap = " " * (size - terminal.width(text))
        last = index == len(cells) - 1
        painted = terminal.paint(kept, text, colour and column.state)
        parts.append(gap + painted if column.right else painted if last else painted + gap)
        used += size + 2
    return (indent + "  ".join(parts)).rstrip() + "\n"


# ------------------------------------------------------------------------------------------------- machine formats


def plain(value: Any) -> Any:
    """Structs, tuples and maps as plain data, with every field (a Page's own encoding leaves defaults out)."""
    fields = getattr(value, "__struct_fields__", None)
    if fields is not None:
        return {field.rstrip("_"): plain(getattr(value, field)) for field in fields}
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value


def encode(value: Any, indent: int = 0) -> str:
    """One JSON text; with `indent`, over several lines."""
    import msgspec

    encoded = msgspec.json.encode(plain(value))
    return terminal.json_safe((msgspec.json.format(encoded, indent=indent) if indent else encoded).decode())


def to_yaml(value: Any) -> str:
    """One YAML document of plain data, in block style, keys in their order, texts of several lines as blocks."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Its own class, because representers are kept by class."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    dumped: str = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    if not terminal.is_safe(dumped):
        dumped = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=False, width=120)
    return dumped
