"""Where a reader of many replicas' logs stands, as one text that the reader hands back to resume exactly there.

Two facts: attempts that were given whole (per item, all up to one), and offsets within the others. Pure; used by
`logs` and, as opaque text, by clients. The text has no spaces and fits an HTTP header while few replicas are open.

    roll/1=0-57,60;train/0/2/5@81920      items 0-57 and 60 of roll: attempt 1 whole; train, attempt 2, rank 5: 81,920
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ffd.core.model import AttemptId
from ffd.errors import Refusal

MAX_ITEMS = 1_000_000  # what a cursor may name, however short its text
_WHOLE = re.compile(r"([a-z0-9_]{1,64})/(\d{1,9})=([\d,-]+)")
_OPEN = re.compile(r"([a-z0-9_]{1,64})/(\d{1,9})/(\d{1,9})/(\d{1,9})@(\d{1,18})")
_SPAN = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


class Cursor:
    """Mutable; one per reader. Attempts of one item are finished in ascending order."""

    def __init__(self) -> None:
        self._whole: dict[tuple[str, int], int] = {}
        self._open: dict[tuple[str, int, int], dict[int, int]] = {}
        self._whole_text: str | None = ""

    def offset(self, attempt: AttemptId, rank: int) -> int | None:
        """Where to read on; None when nothing of this replica was given yet."""
        return self._open.get((attempt.task, attempt.item, attempt.attempt), {}).get(rank)

    def is_whole(self, attempt: AttemptId) -> bool:
        """True when everything of this attempt was given."""
        return self._whole.get((attempt.task, attempt.item), 0) >= attempt.attempt

    def advance(self, attempt: AttemptId, rank: int, next_offset: int) -> None:
        self._open.setdefault((attempt.task, attempt.item, attempt.attempt), {})[rank] = next_offset

    def finish(self, attempt: AttemptId) -> None:
        """Everything of this attempt was given, and of all before it."""
        self._open.pop((attempt.task, attempt.item, attempt.attempt), None)
        self._whole[(attempt.task, attempt.item)] = attempt.attempt
        self._whole_text = None

    def encode(self) -> str:
        if self._whole_text is None:
            self._whole_text = ";".join(self._encode_whole())
        opened = (
            f"{task}/{item}/{attempt}/{rank}@{offset}"
            for (task, item, attempt), ranks in sorted(self._open.items())
            for rank, offset in sorted(ranks.items())
        )
        return ";".join(filter(None, (self._whole_text, *opened)))

    def _encode_whole(self) -> Iterator[str]:
        groups: dict[tuple[str, int], list[int]] = {}
        for (task, item), attempt in sorted(self._whole.items()):
            groups.setdefault((task, attempt), []).append(item)
        for (task, attempt), items in groups.items():
            spans = (str(first) if first == last else f"{first}-{last}" for first, last in _spans(items))
            yield f"{task}/{attempt}={','.join(spans)}"

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """The cursor of a text that `encode` made; "" = the start. Refusal (invalid) for anything else."""
        cursor = cls()
        for entry in filter(None, text.split(";")):
            if match := _WHOLE.fullmatch(entry):
                for item in _items(match[3], MAX_ITEMS - len(cursor._whole)):
                    cursor._whole[(match[1], item)] = int(match[2])
            elif match := _OPEN.fullmatch(entry):
                attempt = AttemptId(0, match[1], int(match[2]), int(match[3]))
                cursor.advance(attempt, int(match[4]), int(match[5]))
            else:
                raise _refusal()
        cursor._whole_text = None
        return cursor


def _spans(items: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending items as inclusive spans."""
    spans: list[tuple[int, int]] = []
    for item in items:
        if spans and spans[-1][1] == item - 1:
            spans[-1] = (spans[-1][0], item)
        else:
            spans.append((item, item))
    return spans


def _items(text: str, at_most: int) -> Iterator[int]:
    for part in text.split(","):
        match = _SPAN.fullmatch(part)
        if match is None:
            raise _refusal()
        first, last = int(match[1]), int(match[2] or match[1])
        at_most -= last - first + 1
        if last < first or at_most < 0:
            raise _refusal()
        yield from range(first, last + 1)


def _refusal() -> Refusal:
    return Refusal("the cursor is not one that this API gave", field="cursor", hint='start over with cursor ""')
