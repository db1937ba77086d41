"""YAML -> plain values with positions: libyaml's events, scalars by the YAML 1.2 core schema.

So `no`, `on`, `12:30` and `2026-01-01` are texts, `010` is ten, `0o10` is eight, `1e3` is a number. Aliases are
followed by sharing, tags other than the core ones and merge keys are not read, keys are always text. Never builds an
object of any class, never recurses. Called by `ffd.api.source` only; PyYAML is imported on first use.
"""

from __future__ import annotations

import re
from typing import Any

from ffd.api.source.tree import Builder, TooMuch

_INT = re.compile(r"[-+]?[0-9]+", re.ASCII)
_OCTAL = re.compile(r"0o[0-7]+", re.ASCII)
_HEX = re.compile(r"0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_NUMBER_STARTS = frozenset("0123456789+-.")
_LONGEST_NUMBER = 400
_TAG = "tag:yaml.org,2002:"
_CORE_TAGS = ("str", "int", "float", "bool", "null", "map", "seq")

_HINTS = (
    ("did not find expected ',' or", "inside { } and [ ], a text with `{`, `}`, `[`, `]` or `,` must stand in quotes"),
    ("mapping values are not allowed", "a text that holds `: ` must stand in quotes; or the indentation is off"),
    ("cannot start any token", "a text that starts with this character must stand in quotes"),
    ("unexpected end of stream", "a quote is never closed"),
    ("did not find expected key", "check the indentation of this line and the one before"),
    ("did not find expected '-' indicator", "a list and a map cannot stand at the same indentation"),
)


def core_scalar(text: str) -> Any:
    """A plain (unquoted) scalar by the YAML 1.2 core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > _LONGEST_NUMBER:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    return int(text[2:], 16) if _HEX.fullmatch(text) else text


def read_yaml(text: str, builder: Builder) -> None:
    """Feed `text` to the builder, faults included. Raises TooMuch when a limit is exceeded."""
    import yaml

    reader = _Reader(text, builder)
    try:
        reader.read()
    except yaml.reader.ReaderError as error:
        offset = len(text.encode()[: error.position].decode("utf-8", "ignore"))  # libyaml counts bytes here
        builder.fault(f"the character \\x{ord(text[offset]):02x} is not allowed", offset)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        offset = mark.index if mark else 0
        if text[offset : offset + 1] == "\t":
            builder.fault("not YAML: a tab stands in the indentation", offset, "indent with blanks")
            return
        problem = error.problem or "not readable"
        if "nesting depth" in problem:
            raise builder.too_deep(offset) from None  # libyaml's own bound: it looks ahead
        context = f" {error.context}" if error.context else ""
        hint = next((hint for start, hint in _HINTS if start in problem), "")
        builder.fault(f"not YAML: {problem}{context}", offset, hint)


class _Reader:
    """One pass over the events. `anchors` holds finished values and how many nodes each has."""

    def __init__(self, text: str, builder: Builder) -> None:
        import yaml

        self.builder = builder
        self.anchors: dict[str, tuple[Any, int] | None] = {}
        self._open_anchors: list[str | None] = []
        self._loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        self._documents = 0
        self._handlers = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._mapping,
            yaml.SequenceStartEvent: self._sequence,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document,
        }
        self._last = yaml.StreamEndEvent

    def read(self) -> None:
        handlers, next_event = self._handlers, self._loader.get_event
        try:
            while True:
                event = next_event()
                kind = type(event)
                handler = handlers.get(kind)
                if handler is not None:
                    handler(event)
                elif kind is self._last:
                    return
        finally:
            self._loader.dispose()

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            raise TooMuch("a file holds one document, but here a second one starts", event.start_mark.index)

    def _scalar(self, event: Any) -> None:
        builder = self.builder
        start = event.start_mark.index
        value = event.value
        if builder.wants_key:
            builder.key(value, start)
            return
        tag = event.tag
        if tag is None:
            if event.implicit[0]:
                value = core_scalar(value)
        elif tag != "!":
            value = self._tagged(value, tag, start)
        builder.scalar(value, start, event.end_mark.index)
        if event.anchor:
            self.anchors[event.anchor] = (value, 1)

    def _tagged(self, value: str, tag: str, start: int) -> Any:
        self._check_tag(tag, start)
        return value if tag == _TAG + "str" else core_scalar(value)

    def _check_tag(self, tag: str | None, start: int) -> None:
        if tag not in (None, "!") and str(tag).removeprefix(_TAG) not in _CORE_TAGS:
            self.builder.fault("tags are not read here", start, "write the plain value")

    def _mapping(self, event: Any) -> None:
        self.builder.open_map(self._start(event))

    def _sequence(self, event: Any) -> None:
        self.builder.open_list(self._start(event))

    def _start(self, event: Any) -> int:
        start: int = event.start_mark.index
        if self.builder.wants_key:
            raise TooMuch("a key must be text, not a map or a list", start)
        self._check_tag(event.tag, start)
        if event.anchor:
            self.anchors[event.anchor] = None  # not finished: an alias to it now would be a value inside itself
        self._open_anchors.append(event.anchor)
        return start

    def _end(self, event: Any) -> None:
        anchor = self._open_anchors.pop()
        value, nodes_count = self.builder.close()
        if anchor:
            self.anchors[anchor] = (value, nodes_count)

    def _alias(self, event: Any) -> None:
        builder = self.builder
        start, name = event.start_mark.index, event.anchor
        known = self.anchors.get(name)
        if known is None:
            message = f"`*{name}` stands inside the value it names" if name in self.anchors else f"no anchor `&{name}`"
            builder.fault(message, start)
            known = ("", 1)
        value, nodes_count = known
        if builder.wants_key:
            if not isinstance(value, str):
                raise TooMuch("a key must be text", start)
            builder.key(value, start)
            return
        builder.shared(value, nodes_count, start, event.end_mark.index)
