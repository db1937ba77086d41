"""What may be written to a terminal, and how: sanitised text, widths, colour, durations, sizes. Standard library only.

Every verb sends text that came from data (names, messages, logs) through `sanitise` or `cell`. Never here: what is
shown (the verbs), tables and formats (`output`).
"""

from __future__ import annotations

import os
import re
import sys
import time
import unicodedata
from typing import TextIO

# C0 (but for newline and tab), DEL, C1, marks that reorder or hide text, lone surrogates.
_HIDDEN = (
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
_UNSAFE = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_HIDDEN}]")
_UNSAFE_IN_LINE = re.compile(f"[\x00-\x1f\x7f-\x9f{_HIDDEN}]")
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}

STATE_COLOURS = {
    "succeeded": "32", "pass": "32", "ok": "32",
    "running": "36", "launching": "36", "admitted": "36",
    "failed": "31", "fail": "31", "lost": "31",
    "stopping": "33", "backoff": "33", "cancelled": "33", "suspended": "33", "wait": "33", "warn": "33",
    "waiting": "2", "ready": "2", "accepted": "2", "skipped": "2",
}  # fmt: skip


def _visible(match: re.Match[str]) -> str:
    character = match[0]
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def sanitise(text: str) -> str:
    """`text` with every character that could steer a terminal in visible form (`\\x1b`); newline and tab stay, CR LF
    becomes a newline. Idempotent on its own output."""
    return _UNSAFE.sub(_visible, text.replace("\r\n", "\n"))


def cell(text: str) -> str:
    """`text` as one safe line: as `sanitise`, and newline and tab in visible form too."""
    return _UNSAFE_IN_LINE.sub(_visible, text)


def is_safe(text: str) -> bool:
    """Whether `sanitise` would leave `text` as it is."""
    return _UNSAFE.search(text) is None


def json_safe(text: str) -> str:
    """Encoded JSON with what a terminal might obey as \\u escapes; still the same JSON value."""
    return _UNSAFE.sub(_json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def width(text: str) -> int:
    """Terminal columns of one safe line."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def fit(text: str, columns: int) -> str:
    """`text` cut to at most `columns` columns, with an ellipsis where something is missing."""
    if width(text) <= columns:
        return text
    kept, used = [], 0
    for character in text:
        used += width(character)
        if used > columns - 1:
            break
        kept.append(character)
    return "".join(kept) + "…" if columns > 0 else ""


def columns(stream: TextIO) -> int:
    """Columns of the terminal behind `stream`; 0 = not a terminal, do not cut."""
    if not stream.isatty():
        return 0
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def colours(stream: TextIO) -> bool:
    """Whether colour is wanted there: a terminal, no NO_COLOR (any non-empty value), not a dumb one."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, state: str, on: bool) -> str:
    """`text` in the colour of the word `state`, when `on`. Colour only ever repeats what a word says."""
    code = STATE_COLOURS.get(state, "") if on else ""
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def say(text: str) -> None:
    """One message to people, on stderr."""
    print(sanitise(text), file=sys.stderr, flush=True)


def duration(ms: int) -> str:
    """`850ms`, `12s`, `3m05s`, `2h07m`, `4d03h`: at most two units."""
    if ms < 1_000:
        return f"{max(ms, 0)}ms"
    seconds = ms // 1_000
    if seconds < 60:
        return f"{seconds}s"
    for big, small, big_unit, small_unit in ((60, 1, "m", "s"), (3_600, 60, "h", "m"), (86_400, 3_600, "d", "h")):
        if seconds < big * (60 if big == 60 else 24) or big == 86_400:
            return f"{seconds // big}{big_unit}{seconds % big // small:02d}{small_unit}"
    raise AssertionError(seconds)


def size(count_bytes: int) -> str:
    """`512B`, `1.5KiB`, `64MiB`."""
    value = float(count_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.0f}{unit}" if value >= 100 or value == int(value) else f"{value:.1f}{unit}"
        value /= 1024
    raise AssertionError(count_bytes)


def instant(at_ms: int) -> str:
    """Local date and time with the offset, to the second; "-" for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(at_ms / 1000)) if at_ms else "-"


def now_ms() -> int:
    """The wall clock, for showing ages only."""
    return time.time_ns() // 1_000_000


def since(at_ms: int) -> str:
    """How long ago that instant was; "" for none."""
    return duration(now_ms() - at_ms) if at_ms else ""
