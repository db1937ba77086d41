"""Reading the files of a simulation: text lines, gzipped or not; YAML and JSON with positions. Refuses by name.

The only place of this room that opens anything. Called by `scenario` and `ffd simulate`.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from ffd.api.source import Parsed, parse_source, source_lines
from ffd.core.document import DocumentLimits, Fault, render
from ffd.core.document.faults import Faults
from ffd.core.document.raw import Raw
from ffd.core.document.shape import read_as
from ffd.errors import Refusal
from ffd.simulate.faults import InputFaults

T = TypeVar("T", bound=Raw)
STDIN = "-"
MAGIC = b"\x1f\x8b"
LINE_CHARS = 32 << 20  # one line of a trace


def text_lines(path: str) -> Iterator[str]:
    """The lines of a text file in UTF-8, `.gz` unpacked as it is read; `-` is stdin."""
    try:
        with _opened(path) as stream:
            binary: Any = gzip.GzipFile(fileobj=stream) if stream.peek(2)[:2] == MAGIC else stream
            text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
            while line := text.readline(LINE_CHARS):
                if len(line) >= LINE_CHARS:
                    raise Refusal(f"{path}: a line has more than {LINE_CHARS} characters (limit LINE_CHARS)")
                yield line
    except (OSError, EOFError, zlib.error) as error:
        raise Refusal(f"{path}: {getattr(error, 'strerror', None) or error}", field=path) from None
    except UnicodeDecodeError as error:
        raise Refusal(f"{path}: not UTF-8: {error.reason} at byte {error.start}", field=path) from None


def _opened(path: str) -> io.BufferedReader:
    """The bytes of a file, or of stdin."""
    return cast(io.BufferedReader, sys.stdin.buffer) if path == STDIN else Path(path).open("rb")


def read_mapping(path: str, kind: type[T], finish: Callable[[T, Faults, Parsed], Any]) -> Any:
    """What `finish(raw, faults, parsed)` makes of a YAML or JSON file that has the shape of `kind`. Raises InputFaults
    with the faults of shape and those that `finish` added; `raw` is without the parts that have a fault."""
    try:
        data = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise Refusal(f"{path}: {error.strerror or error}", field=path) from None
    parsed = parse_source(data, path)
    found: Iterable[Fault] = parsed.faults
    result = None
    if parsed.is_readable:
        faults = Faults(parsed.locate, DocumentLimits().faults_count)
        raw = read_as(kind, parsed.mapping, (), faults)
        if raw is not None:
            result = finish(raw, faults, parsed)
        found = sorted((*parsed.faults, *faults.sorted()), key=lambda fault: (fault.line, fault.column))
    if found:
        lines = source_lines(data)
        raise InputFaults(path, found, [render(fault, lines, path) for fault in found])
    return result
