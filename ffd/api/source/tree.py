"""Plain maps and lists built step by step from a text, together with where each part stands in it.

`Builder` is fed by the YAML and the JSON reader; it refuses duplicate keys, too much depth and too many nodes as they
come, so a hostile text costs no more than the part that was read. `Positions` answers the validator's "where is
that?".
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from ffd.core.document import DocumentLimits, Fault, Path, show_path


class Mark(msgspec.Struct, frozen=True, gc=False):
    """Offsets in characters: of the key (or -1), of the value, and of the end of a scalar (else of its start)."""

    key: int
    start: int
    end: int


class TooMuch(Exception):
    """The text exceeds a limit; reading stops here."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


class Positions:
    """Where the parts of one text stand: the `Locate` of the validator. Lines and columns count from 1."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line_starts: list[int] = []
        self._maps: dict[int, dict[str, Mark]] = {}  # id of a map -> its entries
        self._lists: dict[int, list[Mark]] = {}  # id of a list -> its elements
        self.root: Any = None

    def open_map(self, container: dict[str, Any]) -> dict[str, Mark]:
        """The marks of a new map, to be filled. Containers live as long as `root` does, so ids stay unique."""
        marks: dict[str, Mark] = {}
        self._maps[id(container)] = marks
        return marks

    def open_list(self, container: list[Any]) -> list[Mark]:
        marks: list[Mark] = []
        self._lists[id(container)] = marks
        return marks

    def _entry(self, value: Any, step: str | int) -> Mark | None:
        if isinstance(step, int):
            found = self._lists.get(id(value), [])
            return found[step] if step < len(found) else None
        return self._maps.get(id(value), {}).get(step)

    def at(self, offset: int) -> tuple[int, int]:
        if not self._line_starts:
            self._line_starts = line_starts(self._text)
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def __call__(
        self, path: Path, *, key: bool = False, text: str = "", offset: int = 0, template: int = 0
    ) -> tuple[int, int]:
        """The nearest enclosing part stands in for what is not there, such as a missing field."""
        value: Any = self.root
        mark = Mark(0, 0, 0)
        for step in path:
            found = self._entry(value, step)
            if found is None:
                key = True
                break
            mark, value = found, value[step]
        else:
            found_at = self._inside(mark, text, template) if text else -1
            if found_at >= 0:
                return self.at(found_at + offset)
        return self.at(mark.key if key and mark.key >= 0 else mark.start)

    def _inside(self, mark: Mark, text: str, template: int) -> int:
        """Offset of `text` in the value, -1 when it is written another way there (with escapes, over several lines)."""
        start = mark.start
        for _ in range(template):
            start = self._text.find("${{", start, mark.end) + 1
            if start == 0:
                return -1
        return self._text.find(text, start, mark.end)

    def lines(self, path: Path) -> Mapping[str, int]:
        value = self.root
        for step in path:
            if not isinstance(value, dict) or step not in value:
                return {}
            value = value[step]
        return {key: self.at(mark.key)[0] for key, mark in self._maps.get(id(value), {}).items()}


def line_starts(text: str) -> list[int]:
    starts = [0]
    at = text.find("\n")
    while at >= 0:
        starts.append(at + 1)
        at = text.find("\n", at + 1)
    return starts


class _Open(NamedTuple):
    """A map or a list that is being read. `container` and `marks` are of one kind: dict and dict, or list and list."""

    container: Any
    marks: Any
    is_map: bool
    nodes_before: int


class Builder:
    """Builds one value. Scalars and containers come in the order of the text; in a map, keys and values alternate."""

    def __init__(self, text: str, limits: DocumentLimits) -> None:
        self.positions = Positions(text)
        self.faults: list[Fault] = []
        self.limits = limits
        self.nodes_count = 0
        self._stack: list[_Open] = []
        self._key: str | None = None
        self._key_offset = -1

    @property
    def wants_key(self) -> bool:
        """True when the next scalar is a key of the map that is open."""
        return self._key is None and bool(self._stack) and self._stack[-1].is_map

    def key(self, name: str, offset: int) -> None:
        self._key, self._key_offset = name, offset

    def scalar(self, value: Any, start: int, end: int) -> None:
        self.count(1, start)
        self._place(value, start, end)

    def open_map(self, start: int) -> None:
        container: dict[str, Any] = {}
        self._enter(container, start)
        self._stack.append(_Open(container, self.positions.open_map(container), True, self.nodes_count))

    def open_list(self, start: int) -> None:
        container: list[Any] = []
        self._enter(container, start)
        self._stack.append(_Open(container, self.positions.open_list(container), False, self.nodes_count))

    def close(self) -> tuple[Any, int]:
        """End the innermost container; the container and the nodes in it, itself included."""
        opened = self._stack.pop()
        return opened.container, self.nodes_count - opened.nodes_before + 1

    def shared(self, value: Any, nodes_count: int, start: int, end: int) -> None:
        """Place a value that stands elsewhere already (an alias): the same object, counted again."""
        self.count(nodes_count, start)
        self._place(value, start, end)

    def count(self, nodes_count: int, offset: int) -> None:
        self.nodes_count += nodes_count
        if self.nodes_count > self.limits.expanded_nodes_count:
            limit = f"{self.limits.expanded_nodes_count} values (limit expanded_nodes_count)"
            raise TooMuch(f"the document holds more than {limit}, aliases followed", offset)

    def fault(self, message: str, offset: int, hint: str = "", code: str = "syntax") -> None:
        line, column = self.positions.at(offset)
        self.faults.append(Fault(message, "", line, column, hint, code))

    def too_deep(self, offset: int) -> TooMuch:
        limit = f"{self.limits.depth_count} levels (limit depth_count)"
        return TooMuch(f"the document is nested deeper than {limit}", offset)

    def _enter(self, container: Any, start: int) -> None:
        self.count(1, start)
        if len(self._stack) >= self.limits.depth_count:
            raise self.too_deep(start)
        self._place(container, start, start)

    def _place(self, value: Any, start: int, end: int) -> None:
        if not self._stack:
            self.positions.root = value
            return
        container, marks, is_map, _ = self._stack[-1]
        if not is_map:
            container.append(value)
            marks.append(Mark(-1, start, end))
            return
        key, self._key = self._key, None
        if key in marks:
            self._duplicate(key or "", marks[key])
            return
        container[key] = value
        marks[key] = Mark(self._key_offset, start, end)

    def _duplicate(self, key: str, first: Mark) -> None:
        if len(self.faults) >= self.limits.faults_count:
            return
        line, column = self.positions.at(self._key_offset)
        first_line = self.positions.at(first.key)[0]
        message = f"the key `{show_path((key,))}` stands twice in the same map; first on line {first_line}"
        self.faults.append(Fault(message, "", line, column, "remove or rename one of them", "duplicate_key"))
