"""JSON -> plain values with positions. Only for documents that have a fault: a good one is decoded in C instead.

Called by `ffd.api.source` only.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ffd.api.source.tree import Builder

_TOKEN = re.compile(r'[ \t\r\n]*(?:("[^"\\]*(?:\\.[^"\\]*)*")|([{}\[\],:])|([^\s{}\[\],:"]+)|(.))', re.DOTALL)
_BYTE = re.compile(r"\(byte (\d+)\)")


def has_duplicate_keys(data: bytes, decoded: Any) -> bool:
    """Whether decoding dropped a repeated key: then the text holds more strings than what came out of it.

    Strings are counted by their quotes, which is exact: a repeated key takes at least its own two quotes away.
    """
    return _quotes(data) != _quotes(msgspec.json.encode(decoded))


def _quotes(data: bytes) -> int:
    plain = data.replace(b"\\\\", b"") if b"\\" in data else data
    return plain.count(b'"') - plain.count(b'\\"')


def read_json(text: str, builder: Builder) -> None:
    """Feed a text that is known to be JSON to the builder. Raises TooMuch when a limit is exceeded."""
    for match in _TOKEN.finditer(text):
        string, mark, word, _ = match.groups()
        start, end = match.start(match.lastindex or 0), match.end()
        if mark == "{":
            builder.open_map(start)
        elif mark == "[":
            builder.open_list(start)
        elif mark in ("}", "]"):
            builder.close()
        elif string:
            value = msgspec.json.decode(string) if "\\" in string else string[1:-1]
            if builder.wants_key:
                builder.key(value, start)
            else:
                builder.scalar(value, start, end)
        elif word:
            builder.scalar(msgspec.json.decode(word), start, end)


def syntax_fault(data: bytes, text: str, error: msgspec.DecodeError, builder: Builder) -> None:
    """The decoder's complaint, at its place."""
    message = str(error)
    found = _BYTE.search(message)
    offset = len(data[: int(found.group(1))].decode("utf-8", "replace")) if found else max(len(text.rstrip()) - 1, 0)
    message = _BYTE.sub("", message).removeprefix("JSON is malformed: ").strip()
    if "truncated" in message:
        message = "the text ends too early"
    builder.fault(f"not JSON: {message}", min(offset, max(len(text) - 1, 0)))
