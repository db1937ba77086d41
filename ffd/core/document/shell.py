"""Finds where in a shell script something stands: bare, in double quotes, in single quotes, in a here-document.

A reader for warnings only: what a script does never depends on it (each `${{ }}` becomes `${FFD_EXPR_n}` wherever it
stands, and its value comes through the environment). So it knows the common grammar and forgives the rest.
Called by `script.py`.
"""

from __future__ import annotations

import re
from typing import Literal

Place = Literal["bare", "double", "single", "heredoc", "literal heredoc", "comment"]

_PLAIN = re.compile(r"[^\\'\"`$(){}#<\n]+")
_HEREDOC = re.compile(r"<<(-?)[ \t]*(?:'([^'\n]*)'|\"([^\"\n]*)\"|\\?([A-Za-z0-9_.+-]+))")


class ShellReader:
    """Feed it the text between expressions; `place` then says where the next expression stands."""

    def __init__(self) -> None:
        self._stack: list[str] = []  # open constructs: " ( ` { or (( for arithmetic
        self._inside = ""  # what swallows everything up to its end: "'" or "#"
        self._pending: list[tuple[str, bool]] = []  # here-documents announced on this line: (delimiter, literal)
        self._heredoc: tuple[str, bool] | None = None
        self._line = ""  # of a here-document, so far
        self._last = "\n"

    @property
    def place(self) -> Place:
        if self._heredoc:
            return "literal heredoc" if self._heredoc[1] else "heredoc"
        if self._inside:
            return "single" if self._inside == "'" else "comment"
        return "double" if '"' in self._stack[-1:] or self._stack[-2:] == ['"', "{"] else "bare"

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            if self._heredoc:
                at = self._read_heredoc(text, at)
            elif self._inside:
                at = self._read_inside(text, at)
            else:
                at = self._read_code(text, at)

    def _read_heredoc(self, text: str, at: int) -> int:
        end = text.find("\n", at)
        self._line += text[at:] if end < 0 else text[at:end]
        if end < 0:
            return len(text)
        if self._heredoc and self._line.lstrip("\t") == self._heredoc[0]:
            self._heredoc = self._pending.pop(0) if self._pending else None
        self._line = ""
        self._last = "\n"
        return end + 1

    def _read_inside(self, text: str, at: int) -> int:
        end = text.find("'" if self._inside == "'" else "\n", at)
        if end < 0:
            return len(text)
        is_comment = self._inside == "#"
        self._inside = ""
        return end if is_comment else end + 1

    def _read_code(self, text: str, at: int) -> int:
        plain = _PLAIN.match(text, at)
        if plain:
            self._last = text[plain.end() - 1]
            return plain.end()
        char = text[at]
        last, self._last = self._last, char
        top = self._stack[-1] if self._stack else ""
        if char == "\\":
            return at + 2
        if char == '"':
            self._toggle('"')
        elif char == "`":
            self._toggle("`")
        elif char == "'" and top != '"':
            self._inside = "'"
        elif char == "#" and top != '"' and last in " \t\n;(":
            self._inside = "#"
        elif char == "$" or (char == "(" and top != '"'):
            return self._open(text, at, char)
        elif char == "<" and top not in ('"', "(("):
            return self._announce(text, at)
        elif char == "\n" and self._pending:
            self._heredoc = self._pending.pop(0)
        elif char in ")}":
            self._close(char, text, at)
        return at + 1

    def _toggle(self, quote: str) -> None:
        if self._stack and self._stack[-1] == quote:
            self._stack.pop()
        else:
            self._stack.append(quote)

    def _open(self, text: str, at: int, char: str) -> int:
        """`$(`, `$((`, `${`, `((` and `(`; a lone `$` opens nothing."""
        start = at + 1 if char == "$" else at
        if text.startswith("((", start):
            self._stack.append("((")
            return start + 2
        if text.startswith("(", start):
            self._stack.append("(")
            return start + 1
        if char == "$" and text.startswith("{", start):
            self._stack.append("{")
            return start + 1
        return max(start, at + 1)

    def _close(self, char: str, text: str, at: int) -> None:
        if not self._stack:
            return
        top = self._stack[-1]
        if char == "}" and top == "{":
            self._stack.pop()
        elif char == ")" and top == "((":
            self._stack[-1] = "("  # the second `)` closes it
        elif char == ")" and top == "(":
            self._stack.pop()

    def _announce(self, text: str, at: int) -> int:
        match = None if text.startswith("<<<", at) else _HEREDOC.match(text, at)
        if match is None:
            return at + (3 if text.startswith("<<<", at) else 1)
        _, single, double, word = match.groups()
        literal = word is None or "\\" in match.group()
        self._pending.append((next(part for part in (single, double, word) if part is not None), literal))
        return match.end()
