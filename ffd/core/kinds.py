"""What waits, in groups: what is blocked costs what its few groups cost, and in each group the order is fair.

    Shape   what is asked of space: fits now, or does not fit, for all alike
    Kind    a shape and how long it will take (within a factor): all alike to a reservation, too
    Lane    the ready items of one kind and one project, most urgent first
    Branch  for one kind: a node of the tenant tree with lanes below it, its children in the order of their shares

Made and kept by `core.lanes`; read by `core.admit` and `core.schedule`. Entries are dropped lazily: `State` says which
are still true. Never here: what a share is (core.admit.share), or where a gang fits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from heapq import heapify, heappop, heappush
from typing import Any, Final

from ffd.core.amounts import amounts
from ffd.core.spec import Gang, Resources
from ffd.core.tenancy import Tenant

COMPACT_COUNT: Final = 1024  # a heap below this is never searched for entries that do not hold

# rank (-priority, or what the policy orders by), workflow, -remaining critical path, order of the task, item, born,
# attempt: the smallest goes first. `born`: admissions of the project when it became ready. `attempt`: its number of
# attempts then. These two never decide between two items.
Entry = tuple[int, ...]
NEVER: Final = -1
ANY_STAMP: Final = -2


class Truth(ABC):
    """Who knows which entries still hold: State."""

    @abstractmethod
    def is_eligible(self, entry: Entry, lane: Lane) -> bool: ...


class Bonus:
    """What waiting earned an entry: a point for each `every_count` later admissions of its project, of which there were
    `so_far_count` by now. Counted in admissions, not in time: no clock orders anything (S18)."""

    __slots__ = ("every_count", "most", "so_far_count")

    def __init__(self, so_far_count: int, every_count: int, most: int) -> None:
        self.so_far_count = so_far_count
        self.every_count = every_count
        self.most = most

    def of(self, entry: Entry) -> int:
        return min(self.most, (self.so_far_count - entry[5]) // self.every_count)


class Journal:
    """What a trial does to lanes, to be undone at its end; silent while there is none."""

    __slots__ = ("is_open", "undo")

    def __init__(self) -> None:
        self.is_open = False
        self.undo: list[Callable[[], None]] = []

    def dropped(self, lane: Lane, entry: Entry) -> None:
        """This entry left the lane. To be told while a trial is open only: it happens too often."""
        self.undo.append(partial(lane.put_back, entry))

    def changes(self, marked: object, field: str) -> None:
        """This field of a shape, a lane or a tenant is about to change."""
        if self.is_open:
            self.undo.append(partial(setattr, marked, field, getattr(marked, field)))

    def shuts(self, branch: Branch) -> None:
        """`branch` is about to be passed over from now on. Afterwards it is looked at again: it may come to nothing."""
        if self.is_open:
            self.undo.append(branch.reopen)


class Shape:
    """`blocked_at`: the Space.version at which it was found not to fit. `follows`: the workflow whose task it follows
    (`with`), else 0. `is_small`: an elastic gang that waited for its full size: fewer replicas will do. `asked`: what a
    gang of the least size that will do holds, of these `resources`. `in_vain`: (tenant, priority) for whom nobody could
    be stopped at `vain_at`, and the stamp of all holders for which that is right (`ANY_STAMP`: whatever else changes);
    `patient`: until when nobody is, because they are to start by themselves."""

    __slots__ = (
        "ask",
        "asked",
        "blocked_at",
        "follows",
        "gang",
        "hopeless_at",
        "in_vain",
        "is_small",
        "kinds_count",
        "patient",
        "resources",
        "vain_at",
    )

    def __init__(self, ask: Resources, gang: Gang, follows: int, is_small: bool) -> None:
        self.ask = ask
        self.gang = gang
        self.follows = follows
        self.is_small = is_small
        self.asked = amounts(ask, self.sizes()[-1])
        self.resources = frozenset(self.asked)  # only asked
        self.blocked_at = NEVER
        self.hopeless_at = NEVER  # Space.inventory_version at which even the empty cluster could not take it
        self.kinds_count = 0
        self.in_vain: dict[tuple[str, int], int] = {}
        self.patient: dict[tuple[str, int], tuple[int, int, int]] = {}
        self.vain_at = (NEVER, NEVER, NEVER)

    def was_in_vain(self, who: tuple[str, int], now: tuple[int, int, int], stamp: int) -> bool:
        """Was it found out, as things still are, that nobody can be stopped for such a gang?"""
        return self.vain_at == now and self.in_vain.get(who) in (ANY_STAMP, stamp)

    def is_patient(self, who: tuple[str, int], now: tuple[int, int, int], now_ms: int) -> bool:
        """Is it still to wait for what ends by itself?"""
        until_ms, *known = self.patient.get(who, (0, NEVER, NEVER))
        return now_ms < until_ms and tuple(known) == now[1:]

    def give_up_for(self, who: tuple[str, int], now: tuple[int, int, int], stamp: int) -> None:
        if self.vain_at != now:
            self.in_vain, self.vain_at = {}, now
        self.in_vain[who] = stamp

    def wait_for(self, who: tuple[str, int], until_ms: int, now: tuple[int, int, int]) -> None:
        """Until then, as long as nodes and rules are the same, whoever ends, or goes ahead, meanwhile."""
        self.patient[who] = (until_ms, *now[1:])

    def sizes(self) -> range:
        """Numbers of replicas to try, largest first."""
        least = self.gang.min_replicas if self.is_small else self.gang.replicas
        return range(self.gang.replicas, least - 1, -1)


class Lane:
    """Ready items of one kind and one project, by priority level: within a level a heap. `blocked_at`: the version of
    space at which there was no room where its quota lets it. `emptied`: where it puts itself when nothing is left."""

    __slots__ = (
        "blocked_at",
        "branch",
        "compact_at_count",
        "count",
        "emptied",
        "journal",
        "kind",
        "levels",
        "looked_in_cycle",
        "project",
    )

    def __init__(self, kind: Kind, project: str, branch: Branch, journal: Journal, emptied: list[Lane]) -> None:
        self.journal, self.emptied = journal, emptied
        self.kind = kind
        self.project = project
        self.branch = branch
        self.levels: dict[int, list[Entry]] = {}
        self.looked_in_cycle = NEVER
        self.blocked_at = NEVER
        self.count = 0  # entries, true or not
        self.compact_at_count = COMPACT_COUNT

    def push(self, entries: list[Entry], truth: Truth) -> None:
        """All of one level, ascending. A lane that doubled is rid of the entries that do not hold, so that dropped work
        does not pile up behind a blocked head."""
        heap = self.levels.setdefault(entries[0][0], [])
        if len(entries) * 8 < len(heap):
            for entry in entries:
                heappush(heap, entry)
        else:
            heap.extend(entries)
            heapify(heap)
        self.count += len(entries)
        if self.count >= self.compact_at_count and not self.journal.is_open:
            self.keep(lambda entry: truth.is_eligible(entry, self))

    def keep(self, is_wanted: Callable[[Entry], bool]) -> None:
        """Drop every entry that is not wanted, wherever it lies."""
        for level, heap in list(self.levels.items()):
            kept = [entry for entry in heap if is_wanted(entry)]
            heapify(kept)
            self.levels[level] = kept
            if not kept:
                del self.levels[level]
        self.count = sum(map(len, self.levels.values()))
        self.compact_at_count = max(COMPACT_COUNT, 2 * self.count)
        if not self.count:
            self.emptied.append(self)

    def head(self, truth: Truth, bonus: Bonus | None) -> tuple[int, Entry] | None:
        """(rank less what waiting earned, entry) of the most urgent one that still holds; drops those that do not."""
        best: tuple[int, Entry] | None = None
        levels = self.levels
        for level in levels if len(levels) == 1 else sorted(levels):
            heap = levels[level]
            while heap and not truth.is_eligible(heap[0], self):
                entry = heappop(heap)
                if self.journal.is_open:
                    self.journal.dropped(self, entry)
                self.count -= 1
            if heap:
                first = heap[0]
                found = (level if bonus is None else level - bonus.of(first), first)
                if best is None or found < best:
                    best = found
        if best is None and levels:
            levels.clear()
            self.emptied.append(self)
        return best

    def put_back(self, entry: Entry) -> None:
        """It had been dropped."""
        heappush(self.levels.setdefault(entry[0], []), entry)
        self.count += 1
        self.branch.offer()

    def entries(self) -> Iterator[Entry]:
        for heap in self.levels.values():
            yield from heap

    def ahead(self, urgency: tuple[int, Entry], bonus: Bonus | None, most: int) -> Iterator[Entry]:
        """Entries, true or not, that go before one of this (rank less what waiting earned, entry), in no order; at most
        `most`. What comes later in a heap is not walked."""
        left = most
        for level, heap in self.levels.items():
            places = [0]
            while places and left:
                at = places.pop()
                if at < len(heap) and (level - bonus.of(heap[at]) if bonus else level, heap[at]) < urgency:
                    left -= 1
                    places += (2 * at + 1, 2 * at + 2)
                    yield heap[at]


# borrows, share, admissions before its last one (of equals the one goes first that was served longest ago), path
Key = tuple[Any, ...]  # not of fixed length: compiled code would take it apart whenever it is handed on (decision 14)


class Branch:
    """A node of the tenant tree as one kind sees it. `heap` holds (key, child) of the children with something ready, as
    `core.admit.order` sorts them; an item whose key is not the child's own any more is old. `fresh`: children that wait
    for their key, the `is_stale` ones for another: it is worked out when somebody looks at what is below their parent,
    for most of what changes is of no consequence to most kinds. `is_closed`: a quota refused this kind here.
    `closed_pool`: it has nothing of this to lend to children that borrow ("" = it may have), `is_own_closed`: nothing
    for its own lane. `refused`: branches below that are closed, or their own lanes, until something changes here.
    """

    __slots__ = (
        "children", "closed_pool", "fresh", "heap", "is_closed", "is_own_closed", "is_queued", "is_stale", "key",
        "kind", "lane", "parent", "refused", "tenant",
    )  # fmt: skip

    def __init__(self, kind: Kind, tenant: Tenant, parent: Branch | None) -> None:
        self.kind = kind
        self.tenant = tenant
        self.parent = parent
        self.children: dict[str, Branch] = {}
        self.heap: list[tuple[Key, Branch]] = []
        self.fresh: list[Branch] = []
        self.lane: Lane | None = None
        self.key: Key | None = None
        self.is_queued = False  # in the heap of its parent, or fresh there
        self.is_stale = False
        self.is_closed = False
        self.is_own_closed = False
        self.closed_pool = ""
        self.refused: list[Branch] = []

    def offer(self) -> None:
        """There is something here: it, and all above it, are to be looked at."""
        branch = self
        while branch.parent is not None:
            if not branch.is_queued:
                branch.is_queued = True
                branch.parent.fresh.append(branch)
            branch = branch.parent

    def renew(self) -> None:
        """Something about its tenant is otherwise: what a quota closed is looked at again, and its place among those
        beside it may be another."""
        self.open()
        if self.parent is None:
            return
        if not self.is_queued:
            self.offer()
        elif not self.is_stale:
            self.is_stale = True
            self.parent.fresh.append(self)

    def open(self) -> None:
        """What a quota closed here is looked at again."""
        self.is_closed = self.is_own_closed = False
        self.closed_pool = ""
        if self.refused:
            refused, self.refused = self.refused, []
            for child in refused:
                child.is_closed = child.is_own_closed = False
                child.offer()

    def forget(self) -> None:
        """Nothing is below it any more. What is left of it in the heap of its parent is old; its own is emptied now,
        else all that was in it would wait for the collector of circles."""
        self.is_queued = self.is_stale = False
        self.key = None
        self.heap, self.fresh, self.refused = [], [], []

    def reopen(self) -> None:
        self.open()
        self.offer()

    def __lt__(self, other: Branch) -> bool:
        return self.tenant.path < other.tenant.path


class Kind:
    """Lanes of one shape and one class of duration, as a tree of tenants. `duration_ms`: about, that of the first one;
    0 = unknown. `held_at`: (version of space, stamp of the lanes) at which it fitted, but would have delayed others."""

    __slots__ = ("duration_ms", "held_at", "key", "lanes", "root", "shape")

    def __init__(self, key: Hashable, shape: Shape, duration_ms: int, root: Tenant) -> None:
        self.key = key
        self.shape = shape
        self.duration_ms = duration_ms
        self.held_at = (NEVER, NEVER)
        self.lanes: dict[str, Lane] = {}  # by project
        self.root = Branch(self, root, None)


def duration_class(duration_ms: int) -> int:
    """0 = unknown; else a number that grows by four whenever the duration doubles."""
    bits = duration_ms.bit_length()
    return 0 if duration_ms <= 0 else bits * 4 + ((duration_ms << 2 >> bits - 1) & 3) + 1
