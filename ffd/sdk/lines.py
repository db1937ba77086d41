"""Log lines of a task: `LEVEL message key=value`, one line each, without control bytes and without the task's token.

Never here: the network; lines go to stdout (the user's) or stderr (the SDK's own). Called by `ffd.sdk.task` and, for
its few notices, by everything else in the SDK.
"""

from __future__ import annotations

import json
import sys

from ffd.errors import Refusal

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
MAX_LINE_CHARS = 16_384
_CUT = "...(cut)"


def format_line(level: str, message: str, fields: dict[str, object], secret: str = "") -> str:
    """One line, without its newline. Values with spaces, quotes or `=` are quoted as JSON. `secret` is masked."""
    word = str(level).upper()
    if word not in LEVELS:
        raise Refusal(f"unknown log level {str(level)[:40]!r}", hint=f"use one of {', '.join(LEVELS)}", field="level")
    parts = [word, clean(str(message))]
    parts += [f"{clean(key)}={clean(_value(value))}" for key, value in fields.items()]
    line = " ".join(parts)
    if secret:
        line = line.replace(secret, "***")
    return line if len(line) <= MAX_LINE_CHARS else line[: MAX_LINE_CHARS - len(_CUT)] + _CUT


def clean(text: str) -> str:
    """The text with everything that could drive a terminal or break the line written as an escape."""
    return text if text.isprintable() else "".join(ch if ch.isprintable() else _escape(ch) for ch in text)


def notice(message: str) -> None:
    """One line of the SDK itself, on stderr. Never raises: a closed stderr must not end a task."""
    try:
        sys.stderr.write(f"ffd: {clean(message)}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return


def _escape(ch: str) -> str:
    return ch.encode("unicode_escape").decode("ascii")


def _value(value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    plain = text != "" and not any(ch in ' "=' or not ch.isprintable() for ch in text)
    return text if plain else json.dumps(text, ensure_ascii=False)
