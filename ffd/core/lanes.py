"""The ready items, grouped so that what is blocked costs what its few classes cost, and in each class in fair order.

    Shape   what is asked of space: fits now, or does not fit, for all alike
    Kind    a shape and how long it will take (within a factor): all alike to a reservation, too
    Lane    the ready items of one kind and one project, most urgent first
    Branch  for one kind: a node of the tenant tree with lanes below it, its children in the order of their shares

An index of State: filled by `State.apply`, read by `core.admit` and `core.schedule`. Entries are dropped lazily:
`State` says which are still true. Never here: what a share is (core.admit.share), or where a gang fits.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from heapq import heapify, heappop, heappush

from ffd.core.spec import Gang, Resources
from ffd.core.tenancy import Tenancy, Tenant, amounts

COMPACT_COUNT = 1024  # a heap below this is never searched for entries that do not hold

# rank (-priority, or what the policy orders by), workflow, -remaining critical path, order of the task, item, born,
# attempt: the smallest goes first. `born`: admissions of the project when it became ready. `attempt`: its number of
# attempts then. These two never decide between two items.
Entry = tuple[int, int, int, int, int, int, int]
IsTrue = Callable[[Entry, "Lane"], bool]
NEVER = -1


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
    (`with`), else 0. `is_small`: an elastic gang that waited for its full size: fewer replicas will do. `asked`: the
    resources of which it wants some."""

    __slots__ = ("ask", "asked", "blocked_at", "follows", "gang", "hopeless_at", "is_small", "kinds_count")

    def __init__(self, ask: Resources, gang: Gang, follows: int, is_small: bool) -> None:
        self.ask = ask
        self.asked = frozenset(amounts(ask, 1))
        self.gang = gang
        self.follows = follows
        self.is_small = is_small
        self.blocked_at = NEVER
        self.hopeless_at = NEVER  # Space.inventory_version at which even the empty cluster could not take it
        self.kinds_count = 0

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

    def push(self, entries: list[Entry], is_true: IsTrue) -> None:
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
            self.keep(lambda entry: is_true(entry, self))

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

    def head(self, is_true: IsTrue, bonus: Callable[[Entry], int] | None) -> tuple[int, Entry] | None:
        """(rank less what waiting earned, entry) of the most urgent one that still holds; drops those that do not."""
        best: tuple[int, Entry] | None = None
        levels = self.levels
        for level in levels if len(levels) == 1 else sorted(levels):
            heap = levels[level]
            while heap and not is_true(heap[0], self):
                entry = heappop(heap)
                if self.journal.is_open:
                    self.journal.dropped(self, entry)
                self.count -= 1
            if heap:
                found = (level - bonus(heap[0]) if bonus else level, heap[0])
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

    def ahead(self, urgency: tuple[int, Entry], bonus: Callable[[Entry], int] | None, most: int) -> Iterator[Entry]:
        """Entries, true or not, that go before one of this (rank less what waiting earned, entry), in no order; at most
        `most`. What comes later in a heap is not walked."""
        left = most
        for level, heap in self.levels.items():
            places = [0]
            while places and left:
                at = places.pop()
                if at < len(heap) and (level - bonus(heap[at]) if bonus else level, heap[at]) < urgency:
                    left -= 1
                    places += (2 * at + 1, 2 * at + 2)
                    yield heap[at]


# borrows, share, admissions before its last one (of equals the one goes first that was served longest ago), path
Key = tuple[bool, int, int, str]


class Branch:
    """A node of the tenant tree as one kind sees it. `heap` holds (key, child) of the children with something ready, as
    `core.admit.order` sorts them; an item whose key is not the child's own any more is old. `fresh`: children that wait
    for their key. `is_closed`: a quota refused this kind here. `is_pool_closed`: it has nothing to lend to children
    that borrow, `is_own_closed`: nor to its own lane. `refused`: children that are closed until something changes here.
    """

    __slots__ = (
        "children", "fresh", "heap", "is_closed", "is_own_closed", "is_pool_closed", "is_queued", "key", "kind", "lane",
        "parent", "refused", "tenant",
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
        self.is_closed = False
        self.is_own_closed = False
        self.is_pool_closed = False
        self.refused: list[Branch] = []

    def offer(self) -> None:
        """There is something here: it, and all above it, are to be looked at."""
        branch = self
        while branch.parent is not None:
            if not branch.is_queued:
                branch.is_queued = True
                branch.parent.fresh.append(branch)
            branch = branch.parent

    def open(self) -> None:
        """What a quota closed here is looked at again."""
        self.is_closed = self.is_own_closed = self.is_pool_closed = False
        refused, self.refused = self.refused, []
        for child in refused:
            child.is_closed = False
            child.offer()

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


class Lanes:
    """All lanes. `is_dirty`: something came, or may have left or be freed otherwise than in space, since the last
    cycle, which looked at `seen_version` of space. `small`: (workflow, order, item) of elastic gangs that waited.
    `branches`: by path of the tenant, for each kind. `admitted`: by project, since this memory began; and in all."""

    def __init__(self, tenancy: Tenancy) -> None:
        self.tenancy = tenancy
        self.shapes: dict[Hashable, Shape] = {}
        self.kinds: dict[Hashable, Kind] = {}
        self.lanes: dict[tuple[Hashable, str], Lane] = {}
        self.emptied: list[Lane] = []
        self.projects: dict[str, int] = {}  # -> how many lanes
        self.branches: dict[str, dict[Hashable, Branch]] = {}
        self.admitted: dict[str, int] = {}
        self.admitted_count = 0
        self.stamp = 0  # grows with each admission, when something leaves, and when reservations change
        self.small: set[tuple[int, int, int]] = set()  # only asked, never walked
        self.is_dirty = False
        self.seen_version = NEVER
        self.journal = Journal()
        self.cycle_count = 0
        self.news: dict[Lane, None] = {}  # something came, or is due now, since a cycle was last done: it may preempt
        self.passed: dict[Lane, None] = {}  # blocked, so their branches were passed over

    def lane(self, ask: Resources, gang: Gang, follows: int, is_small: bool, duration_ms: int, project: str) -> Lane:
        """The lane of such items; made when it is not there."""
        shape_key = (ask, gang, follows, is_small)
        key = (shape_key, duration_class(duration_ms))
        found = self.lanes.get((key, project))
        if found is not None:
            return found
        kind = self.kinds.get(key)
        if kind is None:
            shape = self.shapes.get(shape_key)
            if shape is None:
                shape = self.shapes[shape_key] = Shape(ask, gang, follows, is_small)
            shape.kinds_count += 1
            kind = self.kinds[key] = Kind(key, shape, duration_ms, self.tenancy.root)
            self._know(kind.root)
        branch = self._grow(kind, project)
        found = Lane(kind, project, branch, self.journal, self.emptied)
        branch.lane = kind.lanes[project] = self.lanes[key, project] = found
        self.emptied.append(found)  # unless something is pushed
        self.projects[project] = self.projects.get(project, 0) + 1
        return found

    def push(self, lane: Lane, entries: list[Entry], is_true: IsTrue) -> None:
        """Ascending entries of one level."""
        self._keep_level(lane, entries[0][0])
        lane.push(entries, is_true)
        lane.kind.held_at = (NEVER, NEVER)  # there may be another head
        self.news[lane] = None
        self.is_dirty = True
        lane.branch.offer()

    def _keep_level(self, lane: Lane, level: int) -> None:
        """In a trial: its entries are about to change."""
        if self.journal.is_open:
            heap, count = list(lane.levels.get(level, ())), lane.count

            def undo() -> None:
                lane.levels[level], lane.count = heap, count
                if not heap:
                    del lane.levels[level]

            self.journal.undo.append(undo)

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Entries, marks and counts that change inside are as before at its end, lanes that were made are gone, what
        was passed over is looked at again: nothing is decided otherwise afterwards. Trials do not nest."""
        assert not self.journal.is_open
        journal, counts, flags = self.journal, dict(self.admitted), (self.admitted_count, self.is_dirty)
        journal.is_open = True
        try:
            yield
        finally:
            journal.is_open = False
            undo, journal.undo = journal.undo, []
            for one in reversed(undo):
                one()
            self.admitted, (self.admitted_count, self.is_dirty) = counts, flags
            self.stamp += 1  # what was held back inside is not held back outside
            self.drop_empty()

    def block(self, marked: Shape | Lane, version: int) -> None:
        """It does not fit while space has this version."""
        self.journal.changes(marked, "blocked_at")
        marked.blocked_at = version
        if isinstance(marked, Lane):
            self.passed[marked] = None
            marked.looked_in_cycle = self.cycle_count

    def begin_cycle(self, reserved: Container[Shape]) -> None:
        """Blocked lanes of reserved shapes are looked at in each cycle, once: for their places in the order."""
        self.cycle_count += 1
        for lane in self.passed:
            if lane.kind.shape in reserved and lane.branch.lane is lane:
                lane.branch.offer()

    def offer_passed(self, version: int) -> None:
        """Lanes that were blocked until something became free: they are to be looked at again."""
        for lane in [lane for lane in self.passed if lane.blocked_at != version]:
            if not self.journal.is_open:
                del self.passed[lane]
            if lane.branch.lane is lane:
                lane.branch.offer()

    def give_up(self, shape: Shape, inventory_version: int) -> None:
        """Not even the empty cluster could take it."""
        self.journal.changes(shape, "hopeless_at")
        shape.hopeless_at = inventory_version

    def leave(self) -> None:
        """Something waits no more, or may go where it might not: others may be heads, and held back by nobody."""
        self.is_dirty = True
        self.stamp += 1

    def discard(self, workflow: int, lane: Lane) -> None:
        """Drop all entries of one workflow from this lane."""
        lane.keep(lambda entry: entry[1] != workflow)

    def drop_empty(self) -> None:
        """Forget lanes without entries, and what only they needed."""
        for lane in self.emptied:
            name = (lane.kind.key, lane.project)
            if lane.count or self.lanes.get(name) is not lane:
                continue  # filled again, or forgotten already
            del self.lanes[name]
            del lane.kind.lanes[lane.project]
            self.projects[lane.project] -= 1
            if not self.projects[lane.project]:
                del self.projects[lane.project]
                self.admitted.pop(lane.project, None)  # nobody waits whom the count would age
            lane.branch.lane = None
            self._prune(lane.branch)
        self.emptied.clear()

    # ------------------------------------------------------------------------------------------------ the tenant tree

    def _grow(self, kind: Kind, project: str) -> Branch:
        branch = kind.root
        for tenant in reversed(list(self.tenancy.tenant(project).chain())[:-1]):  # the root is there
            child = branch.children.get(tenant.path)
            if child is None:
                child = branch.children[tenant.path] = Branch(kind, tenant, branch)
                self._know(child)
            branch = child
        return branch

    def _know(self, branch: Branch) -> None:
        self.branches.setdefault(branch.tenant.path, {})[branch.kind.key] = branch

    def _prune(self, branch: Branch) -> None:
        while branch.lane is None and not branch.children:
            known = self.branches[branch.tenant.path]
            del known[branch.kind.key]
            if not known:
                del self.branches[branch.tenant.path]
            branch.is_queued, branch.key = False, None  # what is left of it in a heap is old
            if branch.parent is None:
                self._forget(branch.kind)
                return
            del branch.parent.children[branch.tenant.path]
            branch = branch.parent

    def _forget(self, kind: Kind) -> None:
        shape = kind.shape
        del self.kinds[kind.key]
        shape.kinds_count -= 1
        if not shape.kinds_count:
            del self.shapes[shape.ask, shape.gang, shape.follows, shape.is_small]

    def rebuild(self) -> None:
        """The tenant tree has another form: every lane hangs where its project is now."""
        self.branches = {}
        for kind in self.kinds.values():
            kind.root = Branch(kind, self.tenancy.root, None)
            self._know(kind.root)
        for lane in self.lanes.values():
            lane.branch = self._grow(lane.kind, lane.project)
            lane.branch.lane = lane
            lane.branch.offer()
        self.leave()

    def count(self, tenant: Tenant, line: str) -> None:
        """One more gang of this tenant was admitted; `line`: whose lanes it waited in."""
        self.admitted[line] = self.admitted.get(line, 0) + 1
        self.admitted_count += 1
        self.stamp += 1
        for level in tenant.chain():
            if self.journal.is_open:
                self.journal.changes(level, "served_at_count")
            level.served_at_count = self.admitted_count

    def bonus(self, lane: Lane, every_count: int, most: int) -> Callable[[Entry], int]:
        """What waiting earned an entry of this lane: a point for each `every_count` later admissions of its project.
        Counted in admissions, not in time: no clock orders anything (S18)."""
        so_far = self.admitted.get(lane.project, 0)
        return lambda entry: min(most, (so_far - entry[5]) // every_count)
