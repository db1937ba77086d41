"""A document's text -> `Compiled`: reads YAML or JSON, then lets `core.document` decide. Used by the CLI and the
daemon.

`compile_source(data, filename=...)` does it all; `parse_source` stops at the plain mapping. Both are pure functions
of their arguments and take seconds at most (10 MB of YAML): call them in a thread where an event loop must not wait.
`source_lines(data)` are the lines that `core.document.render` wants. Nothing here reads a file.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from ffd.api.source.json_text import has_duplicate_keys, read_json, syntax_fault
from ffd.api.source.tree import Builder, Positions, TooMuch
from ffd.api.source.yaml_text import read_yaml
from ffd.core.document import Compiled, DocumentLimits, Fault, Locate, RawDocument, compile_document, compile_raw


class Parsed(msgspec.Struct, frozen=True):
    """`mapping` is meaningless when `is_readable` is false: then `faults` say why. Faults of a readable text (a key
    that
    stands twice) are to be shown together with those of the validator."""

    mapping: Any
    locate: Locate
    faults: tuple[Fault, ...]
    is_readable: bool


def compile_source(
    data: bytes, filename: str = "", format: str = "auto", *, limits: DocumentLimits | None = None
) -> Compiled:
    """Every fault of a document, or its Spec. A document without `name` is named after its file."""
    limits = limits or DocumentLimits()
    name = name_of(filename)
    if chosen_format(data, filename, format) == "json" and len(data) <= limits.source_bytes:
        compiled = _compile_json(data, limits, name)
        if compiled is not None:
            return compiled
    parsed = parse_source(data, filename, format, limits=limits)
    if not parsed.is_readable:
        return Compiled(None, parsed.faults)
    compiled = compile_document(parsed.mapping, locate=parsed.locate, limits=limits, default_name=name)
    if not parsed.faults:
        return compiled
    faults = sorted((*parsed.faults, *compiled.faults), key=lambda fault: (fault.line, fault.column))
    return Compiled(None, tuple(faults), compiled.warnings)


def parse_source(
    data: bytes, filename: str = "", format: str = "auto", *, limits: DocumentLimits | None = None
) -> Parsed:
    """The plain mapping with positions. `auto`: by the file's ending, else JSON if the text starts with `{`, else YAML
    (a text that starts with `{` and is not JSON is tried as YAML)."""
    limits = limits or DocumentLimits()
    chosen = chosen_format(data, filename, format)
    limit = limits.source_bytes if chosen == "json" else limits.yaml_bytes
    if len(data) > limit:
        named = "source_bytes" if chosen == "json" else "yaml_bytes"
        hint = "" if chosen == "json" else f"as JSON, up to {limits.source_bytes} bytes are read"
        message = f"the document takes {len(data)} bytes, at most {limit} are allowed (limit {named})"
        return _unreadable(Fault(message, hint=hint, code="limit"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        line, column = Positions(before + " ").at(len(before))
        return _unreadable(Fault("the text is not UTF-8", "", line, column, code="syntax"))
    if chosen == "json":
        parsed = _parse_json(data.removeprefix(b"\xef\xbb\xbf"), text, limits)
        if parsed.is_readable or format == "json" or filename.endswith(".json"):
            return parsed
    return _parse_yaml(text, limits)


def source_lines(data: bytes) -> list[str]:
    """The lines of the text as positions count them; never fails."""
    return re.split(r"\r?\n", data.decode("utf-8-sig", "replace"))


def chosen_format(data: bytes, filename: str, format: str) -> Literal["yaml", "json"]:
    """`format` is auto, yaml or json."""
    if format != "auto" or filename.endswith(".json"):
        return "yaml" if format == "yaml" else "json"
    is_named_yaml = filename.endswith((".yaml", ".yml"))
    return "json" if not is_named_yaml and data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" else "yaml"


def name_of(filename: str) -> str:
    """A workflow name made from a file name: `configs/My Run.yaml` -> `my-run`; `workflow` when nothing is left."""
    stem = re.split(r"[/\\]", filename)[-1].partition(".")[0].lower()
    name = re.sub(r"[^a-z0-9_-]+", "-", stem).strip("-_")[:63]
    return name if re.match(r"[a-z]", name) else "workflow"


def _compile_json(data: bytes, limits: DocumentLimits, name: str) -> Compiled | None:
    """The whole way in C and one pass, for a document with nothing to complain about; None for any other."""
    if data.count(b",") + data.count(b":") > limits.expanded_nodes_count:
        return None  # maybe too many values: they are counted exactly where positions are kept
    try:
        raw = msgspec.json.decode(data, type=RawDocument)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if raw.defaults is not msgspec.UNSET or has_duplicate_keys(data, raw):
        return None
    spec = compile_raw(raw, limits=limits, default_name=name)
    return None if spec is None else Compiled(spec)


def _parse_json(data: bytes, text: str, limits: DocumentLimits) -> Parsed:
    builder = Builder(text, limits)
    try:
        msgspec.json.decode(data)
        read_json(text, builder)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = error if isinstance(error, msgspec.DecodeError) else msgspec.DecodeError("invalid text in a string")
        syntax_fault(data, text, problem, builder)
        return _unreadable(*builder.faults)
    except RecursionError:
        return _unreadable(Fault("the document is nested too deeply (limit depth_count)", code="limit"))
    except TooMuch as error:
        builder.fault(error.message, error.offset, code="limit")
        return _unreadable(*builder.faults)
    return Parsed(builder.positions.root, builder.positions, tuple(builder.faults), True)


def _parse_yaml(text: str, limits: DocumentLimits) -> Parsed:
    builder = Builder(text, limits)
    try:
        read_yaml(text, builder)
    except TooMuch as error:
        builder.fault(error.message, error.offset, code="limit")
        return _unreadable(*builder.faults)
    if any(fault.code == "syntax" for fault in builder.faults):
        return _unreadable(*builder.faults)
    return Parsed(builder.positions.root, builder.positions, tuple(builder.faults), True)


def _unreadable(*faults: Fault) -> Parsed:
    return Parsed(None, Positions(""), faults, False)
