"""Faults of what a simulation reads: all at once, each with its place, a caret and a hint, like those of documents.

Used by everything here that reads a text. Bounded: the first are listed, some more are counted, then reading stops.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ffd.core.document import Fault, clean, render
from ffd.errors import Refusal

LISTED_COUNT = 50
COUNTED_COUNT = 1_000


class InputFaults(Refusal):
    """A file that cannot be simulated. `faults` are what is wrong; `texts` the same as a terminal shows it."""

    def __init__(self, filename: str, faults: Iterable[Fault], texts: list[str], more: str = "") -> None:
        self.faults = tuple(faults)
        self.texts = texts
        count = len(self.faults)
        told = f"{count} fault{'' if count == 1 else 's'}"
        super().__init__(f"{clean(filename)}: {told}{more}; nothing was simulated")


class TooMany(Exception):
    """So many faults that reading on is pointless. Caught where reading started."""


class FaultList:
    """Collects the faults of one file with the lines they stand in."""

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.count = 0
        self._found: list[tuple[Fault, str]] = []

    def add(self, fault: Fault, line_text: str = "") -> None:
        self.count += 1
        if len(self._found) < LISTED_COUNT:
            self._found.append((fault, line_text))
        if self.count >= COUNTED_COUNT:
            raise TooMany

    def refuse(self) -> None:
        """Raise InputFaults if there are any."""
        if not self.count:
            return
        texts = [render(fault, _OneLine(fault.line, text), self.filename) for fault, text in self._found]
        rest = self.count - len(self._found)
        more = f" and at least {rest} more" if rest else ""
        raise InputFaults(self.filename, (fault for fault, _ in self._found), texts, more)


class _OneLine(list[str]):
    """The lines of a file of which only one is known."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__([text] if text else [])
        self._number = number

    def __len__(self) -> int:
        return self._number if super().__len__() else 0

    def __getitem__(self, index: object) -> str:  # type: ignore[override]  # `render` asks for one line by its number
        return super().__getitem__(0)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint: the nearest of what is known, else all of it."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known: {', '.join(names)}"
