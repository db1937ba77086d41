"""All that waits: the groups of `core.kinds`, filled and kept exact.

An index of State: filled by `State.apply`, read by `core.admit` and `core.schedule`. Never here: what one group is
(core.kinds), who is next (core.admit.order), or where a gang fits.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterator, Sequence
from contextlib import contextmanager

from ffd.core.kinds import NEVER, Bonus, Branch, Entry, Journal, Kind, Lane, Shape, Truth, duration_class
from ffd.core.spec import Gang, Resources, Task
from ffd.core.tenancy import Tenancy, Tenant


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
        self.patient: dict[Lane, int] = {}  # nobody is stopped for them before this instant; then they are news
        self.roomless: dict[Lane, int] = {}  # nobody was stopped for who lacks quota: no room at this version
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

    def push(self, lane: Lane, entries: list[Entry], truth: Truth) -> None:
        """Ascending entries of one level."""
        self._keep_level(lane, entries[0][0])
        lane.push(entries, truth)
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

    def begin_cycle(self, reserved: Container[Shape], version: int, now_ms: int) -> None:
        """Blocked lanes of reserved shapes are looked at in each cycle, once: for their places in the order."""
        self.cycle_count += 1
        overdue = [lane for lane, until_ms in self.patient.items() if until_ms <= now_ms]
        for lane in (*overdue, *(lane for lane, seen in self.roomless.items() if seen != version)):
            if not self.journal.is_open:
                self.patient.pop(lane, None)
                self.roomless.pop(lane, None)
            self.news[lane] = None
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

    def renew(self) -> None:
        """Rules or nodes are others: all that waits may be due what it was not."""
        self.news.update(dict.fromkeys(self.lanes.values()))

    def renew_for(self, tenant: Tenant) -> None:
        """Something that this tenant runs has another priority: what waits of it may be due that others of it stop."""
        for branch in self.branches.get(tenant.path, {}).values():
            if branch.lane is not None:
                self.news[branch.lane] = None
                self.is_dirty = True

    def unblock_followers(self, workflow: int, tasks: Sequence[Task]) -> None:
        """These tasks follow one of which a gang was admitted: they may go where they might not."""
        keys = [(one.resources, one.gang, workflow, is_small) for one in tasks for is_small in (False, True)]
        shapes = [self.shapes[key] for key in keys if key in self.shapes]
        if not shapes:
            return
        blocked: list[Shape | Lane] = [*shapes, *(lane for lane in self.passed if lane.kind.shape in shapes)]
        for marked in blocked:
            self.journal.changes(marked, "blocked_at")
            marked.blocked_at = NEVER
        self.leave()

    def unblock(self) -> None:
        """Quotas changed: lanes that found no room where theirs let them may find it elsewhere."""
        for lane in self.passed:
            lane.blocked_at = NEVER

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
            branch.forget()
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

    def bonus(self, lane: Lane, every_count: int, most: int) -> Bonus:
        """What waiting earned the entries of this lane."""
        return Bonus(self.admitted.get(lane.project, 0), every_count, most)
