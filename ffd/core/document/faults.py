"""Faults of a document: how they are collected, where they point, how they are shown.

A fault never carries a raw control byte or a regular expression; it says what was expected and what was got. Used by
every module of this room; `render` is what `ffd lint` and a refused submit print.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

Path = tuple[str | int, ...]
_SHOWN_COLUMNS = 120
_COUNTED_PER_LISTED = 10


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong with a document. `line` and `column` count from 1; 0 = unknown. `code` is a stable word."""

    message: str
    path: str = ""
    line: int = 0
    column: int = 0
    hint: str = ""
    code: str = "invalid"


class Locate(Protocol):
    """Where something stands in the source. `(0, 0)` = unknown."""

    def __call__(
        self, path: Path, *, key: bool = False, text: str = "", offset: int = 0, template: int = 0
    ) -> tuple[int, int]:
        """Line and column of the value at `path`; of its key if `key`; of character `offset` of the first occurrence of
        `text` inside that value, if `text` is given: after its `template`-th `${{`, counted from 1, if that is
        given."""

    def lines(self, path: Path) -> Mapping[str, int]:
        """Line of each key of the map at `path`; empty when that is not cheap to tell."""


class Nowhere:
    """The `Locate` of a document that has no source text."""

    def __call__(
        self, path: Path, *, key: bool = False, text: str = "", offset: int = 0, template: int = 0
    ) -> tuple[int, int]:
        return (0, 0)

    def lines(self, path: Path) -> Mapping[str, int]:
        return {}


class Enough(Exception):
    """So many faults that looking for more is pointless. Caught where the compilation started."""


class Faults:
    """Collects faults of one document; equal ones count once. Warnings go apart: they refuse nothing.

    Lists at most `limit_count`, counts ten times as many, then ends it all with Enough. `is_strict`: ends it at the
    first fault or warning.
    """

    def __init__(self, locate: Locate, limit_count: int, *, is_strict: bool = False) -> None:
        self._locate = locate
        self._limit_count = limit_count
        self._is_strict = is_strict
        self._faults: dict[tuple[str, str, int, int], Fault] = {}
        self._warnings: dict[tuple[str, str, int, int], Fault] = {}
        self._more_count = 0
        self._repeated_count = 0
        self.origin: Callable[[Path], Path] = _itself  # where a merged value was really written

    def add(
        self,
        path: Path,
        message: str,
        *,
        hint: str | Callable[[], str] = "",
        code: str = "invalid",
        key: bool = False,
        text: str = "",
        offset: int = 0,
        template: int = 0,
        warning: bool = False,
    ) -> None:
        """`key`, `text`, `offset` and `template` choose the position, as `Locate` says. A hint that is dear to find
        may come as a
        function: it is called only if the fault is listed."""
        if self._is_strict:
            raise Enough
        path = self.origin(path)
        found = self._warnings if warning else self._faults
        if len(found) >= self._limit_count:
            self._count_more(warning)
            return
        shown = show_path(path)
        line, column = self._locate(path, key=key, text=text, offset=offset, template=template)
        same = (shown, message, line, column)
        if same not in found:
            told = hint if isinstance(hint, str) else hint()
            found[same] = Fault(message, shown, line, column, told, code)
        else:
            self._repeated_count += 1
            self._stop_if_enough()

    def _count_more(self, warning: bool) -> None:
        if not warning:
            self._more_count += 1
            self._stop_if_enough()

    def _stop_if_enough(self) -> None:
        if self._more_count + self._repeated_count > _COUNTED_PER_LISTED * self._limit_count:
            raise Enough

    @property
    def is_full(self) -> bool:
        """No more faults will be listed: a check that is dear may stop."""
        return len(self._faults) >= self._limit_count

    def touches(self, path: Path) -> bool:
        """Whether a fault was found at the path or under it."""
        shown = show_path(path)
        return any(at == shown or at.startswith((shown + ".", shown + "[")) for at, *_ in self._faults)

    def __len__(self) -> int:
        return len(self._faults)

    def sorted(self) -> tuple[Fault, ...]:
        """By position; at the end, how many more were seen."""
        faults = _by_position(self._faults.values())
        if self._more_count:
            faults.append(Fault(f"and at least {self._more_count} more faults", code="more"))
        return tuple(faults)

    def sorted_warnings(self) -> tuple[Fault, ...]:
        return tuple(_by_position(self._warnings.values()))


def _itself(path: Path) -> Path:
    return path


def _by_position(faults: Iterable[Fault]) -> list[Fault]:
    return sorted(faults, key=lambda fault: (fault.line, fault.column))


def show_path(path: Path) -> str:
    """`tasks.train.needs[0]`."""
    pieces: list[str] = []
    for step in path:
        pieces.append(f"[{step}]" if isinstance(step, int) else f".{clean(step)}")
    return "".join(pieces).removeprefix(".")


def clean(text: str) -> str:
    """The text with every control, format and surrogate character made visible, so that a terminal only shows it."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char == " " or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else _visible(char)
        for char in text
    )


def _visible(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"


def quote(value: object, *, length: int = 40) -> str:
    """A value from the document as a message shows it: short, in quotes when it is text, without control characters."""
    if isinstance(value, str):
        text = clean(value)
        return f"`{text[:length]}...`" if len(text) > length else f"`{text}`"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, int | float):
        return str(value) if abs(value) < 1e30 else f"{value:.6g}"
    return "a map" if isinstance(value, dict) else "a list"


def render(fault: Fault, source_lines: Sequence[str] | None, filename: str) -> str:
    """`file:line:column: path: message`, the line with a caret under the column, the hint. No colour, no final newline.

    Wide sources are cut around the caret; tabs and control characters of the source are made one column wide.
    """
    where = clean(filename)
    if fault.line:
        where += f":{fault.line}:{fault.column}"
    path = f"{fault.path}: " if fault.path else ""
    lines = [f"{where}: {path}{clean(fault.message)}"]
    if source_lines is not None and 0 < fault.line <= len(source_lines):
        shown, caret = _window(source_lines[fault.line - 1], max(fault.column, 1) - 1)
        number = str(fault.line)
        lines += [f"  {number} | {shown}", f"  {' ' * len(number)} | {' ' * caret}^"]
    if fault.hint:
        lines.append(f"  hint: {clean(fault.hint)}")
    return "\n".join(lines)


def _window(line: str, column: int) -> tuple[str, int]:
    """The part of the line around `column` that is shown, one column per character, and where the caret goes."""
    start = 0 if len(line) <= _SHOWN_COLUMNS else max(0, min(column - _SHOWN_COLUMNS // 2, len(line) - _SHOWN_COLUMNS))
    part = line.rstrip("\r\n")[start : start + _SHOWN_COLUMNS]
    shown = "".join(char if clean(char) == char else " " if char == "\t" else "?" for char in part)
    caret = min(column - start, len(shown))
    return ("..." + shown, caret + 3) if start else (shown, caret)
