"""Texts that hold `${{ cel }}`: cutting them into parts, and joining the values back.

A template is data all the way: a value is never read again as an expression, nor as shell (see `shell.py` for scripts).
Called by `core/document` (parse) and by the stages that evaluate (render).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ffd.core.expr.lexer import TOKEN
from ffd.core.expr.limits import LIMITS, ExprError, Problem
from ffd.core.spec import Template, Text

OPEN, CLOSE = "${{", "}}"


def parse_text(source: str) -> Text:
    """The text itself when it holds no `${{`, else a Template whose expressions are stripped of blanks.

    Quotes and braces inside an expression are understood: `${{ "}}" }}` and `${{ {"a": {"b": 1}}.a.b }}` are each one
    expression. Raises ExprError with the offset of a `${{` that is empty or never closed. To write a literal `${{`, let
    an expression yield it: `${{ "${{" }}`.
    """
    at = source.find(OPEN)
    if at < 0:
        return source
    parts: list[str] = []
    done = 0
    while at >= 0:
        end = _closing(source, at + len(OPEN))
        if end < 0 and len(source) - at > LIMITS.source_bytes:
            raise ExprError.of(
                [Problem(f"the expression is never closed, or longer than {LIMITS.source_bytes} bytes", at)]
            )
        if end < 0:
            hint = f"every {OPEN} needs a {CLOSE}; quotes and brackets inside it must be closed too"
            raise ExprError.of([Problem(f"`{OPEN}` is never closed", at, hint)])
        expression = source[at + len(OPEN) : end].strip()
        if not expression:
            raise ExprError.of([Problem(f"`{OPEN} {CLOSE}` holds no expression", at)])
        parts += [source[done:at], expression]
        done = end + len(CLOSE)
        at = source.find(OPEN, done)
    return Template((*parts, source[done:]))


def _closing(source: str, start: int) -> int:
    """Offset of the `}}` that ends the expression at `start`, -1 when there is none within the longest expression."""
    depth = 0
    at = start
    last = min(len(source), start + LIMITS.source_bytes + len(CLOSE))
    while at < last:
        match = TOKEN.match(source, at, last)
        if match is None:
            return -1
        text = match.group()
        if text.startswith("//"):
            at += 2  # a comment may hold the end: `${{ a // why }}`
            continue
        if text == "{":
            depth += 1
        elif text == "}":
            if depth == 0:
                return at if source.startswith(CLOSE, at) else -1
            depth -= 1
        at = match.end()
    return -1


def render_text(text: Text, evaluate: Callable[[str], Any], *, limit_bytes: int = LIMITS.text_bytes) -> Any:
    """The text with each expression replaced by what `evaluate(source)` gives.

    A text that is exactly one expression keeps the value's type; any other becomes a string, bounded by `limit_bytes`.
    """
    if isinstance(text, str):
        return text
    if len(text.parts) == 3 and not text.parts[0] and not text.parts[2]:
        return evaluate(text.parts[1])
    pieces = [part if index % 2 == 0 else render_string(evaluate(part)) for index, part in enumerate(text.parts)]
    return _bounded("".join(pieces), limit_bytes)


def render_string(value: Any, *, limit_bytes: int = LIMITS.text_bytes) -> str:
    """How a value looks in a command, a variable or a file: a string as it is, anything else as compact JSON.

    Raises ExprError when it is longer than `limit_bytes` or holds a NUL, which arguments and variables cannot carry.
    """
    if isinstance(value, str):
        return _bounded(value, limit_bytes)
    try:
        return _bounded(msgspec.json.encode(value).decode(), limit_bytes)
    except UnicodeEncodeError:
        raise ExprError("a value holds text that is not valid Unicode") from None


def _bounded(text: str, limit_bytes: int) -> str:
    if "\0" in text:
        raise ExprError("a text holds a NUL character, which arguments and variables cannot carry")
    if len(text) > limit_bytes or len(text.encode("utf-8", "replace")) > limit_bytes:
        raise ExprError(f"a text is longer than {limit_bytes} bytes", field="text_bytes")
    return text
