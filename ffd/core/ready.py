"""The ready items, grouped by equivalence class: 100,000 blocked gangs cost what their few classes cost.

An index of State: filled by `State.apply`, read by `core.schedule`. Entries are dropped lazily: `State` says which are
still true. Never here: who may go first between tenants (admit), or where it fits (schedule).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush

COMPACT_COUNT = 1024  # a heap below this is never searched for entries that do not hold

Entry = tuple[int, int, int, int]  # -priority, workflow, order of the task in its document, item: smallest goes first


class ReadyClass:
    """All entries of one request. `blocked_head` was found not to fit at the Space.version `blocked_at`."""

    __slots__ = ("blocked_at", "blocked_head", "compact_at_count", "heap", "key")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.heap: list[Entry] = []
        self.blocked_at = -1
        self.blocked_head: Entry | None = None
        self.compact_at_count = COMPACT_COUNT

    def block(self, head: Entry, version: int) -> None:
        """Not to be looked at until something becomes free or another entry is the head (it may have waited longer)."""
        self.blocked_head, self.blocked_at = head, version

    def is_blocked(self, head: Entry, version: int) -> bool:
        return self.blocked_at == version and self.blocked_head == head

    def head(self, is_true: Callable[[Entry], bool]) -> Entry | None:
        """The smallest entry that still holds; drops those that do not."""
        heap = self.heap
        while heap:
            if is_true(heap[0]):
                return heap[0]
            heappop(heap)
        return None

    def pop(self) -> Entry:
        return heappop(self.heap)

    def keep(self, is_true: Callable[[Entry], bool]) -> None:
        """Drop every entry that does not hold, wherever it lies."""
        self.heap = [entry for entry in self.heap if is_true(entry)]
        heapify(self.heap)
        self.compact_at_count = max(COMPACT_COUNT, 2 * len(self.heap))


class ReadyQueue:
    """Classes in the order in which they first appeared (a dict: never a set)."""

    __slots__ = ("classes", "dirty", "seen_version")

    def __init__(self) -> None:
        self.classes: dict[Hashable, ReadyClass] = {}
        self.dirty = False  # something was pushed, or a head may have gone, since the last cycle
        self.seen_version = -1  # the Space.version of the last cycle

    def push(self, key: Hashable, entry: Entry) -> None:
        found = self.classes.get(key)
        if found is None:
            found = self.classes[key] = ReadyClass(key)
        heappush(found.heap, entry)
        self.dirty = True

    def extend(self, key: Hashable, entries: list[Entry], is_true: Callable[[Entry], bool]) -> None:
        """Many at once, ascending: one heapify instead of a push each, where that is less work. A heap that doubled is
        rid of the entries that do not hold, so that dropped work does not pile up behind a blocked head."""
        if not entries:
            return
        self.push(key, entries[0])
        found = self.classes[key]
        rest = entries[1:]
        if len(rest) * 8 < len(found.heap):
            for entry in rest:
                heappush(found.heap, entry)
        else:
            found.heap.extend(rest)
            heapify(found.heap)
        if len(found.heap) >= found.compact_at_count:
            found.keep(is_true)

    def discard(self, key: Hashable, workflow: int) -> None:
        """Drop all entries of one workflow from this class."""
        if key in self.classes:
            self.classes[key].keep(lambda entry: entry[1] != workflow)

    def unblock(self, key: Hashable) -> None:
        """Try the head of this class again although nothing became free (its `wait` is over)."""
        if key in self.classes:
            self.classes[key].blocked_at = -1
            self.dirty = True

    def drop_empty(self) -> None:
        for key in [key for key, found in self.classes.items() if not found.heap]:
            del self.classes[key]
