"""What every yardstick gives: rows of (yardstick, bar, figure, verdict), and how they are printed."""

from __future__ import annotations

from collections.abc import Iterable

Row = tuple[str, str, str, str]  # yardstick, bar, figure, verdict


def at_most(what: str, value: float, bar: float, unit: str = "s", note: str = "") -> Row:
    """`note`: how the bar comes about, or a floor of the same run."""
    word = "met" if value <= bar else f"MISSED by {value / bar - 1:.1%}"
    return what, f"<= {bar:,.1f} {unit}", f"{value:,.1f} {unit}", f"{word}{'; ' + note if note else ''}"


def at_least(what: str, value: float, bar: float, unit: str = "", note: str = "") -> Row:
    word = "met" if value >= bar else f"MISSED by {1 - value / bar:.1%}"
    return (
        what,
        f">= {bar:,.1f} {unit}".rstrip(),
        f"{value:,.1f} {unit}".rstrip(),
        f"{word}{'; ' + note if note else ''}",
    )


def within(what: str, value: float, wanted: float, part: float, unit: str = "s", note: str = "") -> Row:
    """Equal to `wanted` up to a part of it."""
    off = value / wanted - 1
    word = "met" if abs(off) <= part else "MISSED"
    figure = f"{value:,.1f} {unit}"
    return what, f"{wanted:,.1f} {unit} +- {part:.1%}", figure, f"{word} ({off:+.3%}){'; ' + note if note else ''}"


def none_of(what: str, count: int, note: str = "") -> Row:
    return what, "0", f"{count:,}", f"{'met' if count == 0 else 'MISSED'}{'; ' + note if note else ''}"


def told(what: str, figure: str, note: str = "") -> Row:
    """Without a bar: a reference, a floor, what something costs."""
    return what, "", figure, note


def show(rows: Iterable[Row], widths: tuple[int, int, int] = (58, 22, 22)) -> None:
    """As they come: some take minutes."""
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[3]]).rstrip(), flush=True)
