"""The store in memory: the same answers as the others, gone with its database object. For tests, demos, simulation.

Several `MemoryStore`s over one `MemoryDatabase` are as several processes over one database: each has its own view of
the lease, and `close` is the death of its process. Nothing here awaits, so no operation can be seen half done.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from ffd.core.model import Listing, Rows
from ffd.errors import Unavailable
from ffd.plugins.ports import Batch, Head, Lease, LeaseInfo, ListQuery, Loaded, StoryEntry, Verdict
from ffd.plugins.store import story
from ffd.plugins.store.lease import Candidate, Claim, LeaseRow
from ffd.plugins.store.story import Audit, Commit, Entry

_position = attrgetter("number", "index")


class MemoryDatabase:
    """What would be on disk. `entries` is in ascending order of position."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.entries: list[Entry] = []
        self.by_workflow: dict[int, list[Entry]] = {}
        self.listings: dict[int, Listing] = {}
        self.spec_of: dict[int, str] = {}
        self.workflows: dict[int, bytes] = {}
        self.tasks: dict[int, dict[str, bytes]] = {}
        self.items: dict[int, dict[tuple[str, int], bytes]] = {}
        self.specs: dict[str, bytes] = {}
        self.meta: dict[str, bytes] = {}
        self.lease = LeaseRow()
        self.lock_holder: object | None = None

    def rows_of(self, workflow: int) -> Rows:
        """All rows of one workflow, by key."""
        if workflow not in self.workflows:
            return Rows()
        spec = self.spec_of[workflow]
        tasks, items = self.tasks.get(workflow, {}), self.items.get(workflow, {})
        return Rows(
            workflows={workflow: self.workflows[workflow]},
            tasks={(workflow, name): tasks[name] for name in sorted(tasks)},
            items={(workflow, *key): items[key] for key in sorted(items)},
            specs={spec: self.specs[spec]} if spec in self.specs else {},
        )

    def write(self, batch: Batch, commit: Commit, entries: list[Entry]) -> None:
        self.commits.append(commit)
        self.lease = replace(self.lease, commit_number=commit.number)
        self.entries += entries
        for entry in entries:
            self.by_workflow.setdefault(entry.workflow, []).append(entry)
        for digest, row in batch.rows.specs.items():
            self.specs.setdefault(digest, row)  # named by its content: the same digest is the same row
        specs = story.accepted_specs(batch)
        listings = {listing.workflow: listing for listing in batch.listings}
        for workflow, row in batch.rows.workflows.items():
            self.listings[workflow] = listings[workflow]
            self.spec_of.setdefault(workflow, specs.get(workflow, ""))
            self.workflows[workflow] = row
        for (workflow, name), row in batch.rows.tasks.items():
            self.tasks.setdefault(workflow, {})[name] = row
        for (workflow, name, item), row in batch.rows.items.items():
            self.items.setdefault(workflow, {})[name, item] = row
        self.meta.update(batch.rows.meta)

    def remove(self, workflow: int) -> None:
        """Forget an ended workflow, and its document when it was the last to use it."""
        spec = self.spec_of.pop(workflow)
        for rows in (self.listings, self.workflows, self.tasks, self.items, self.by_workflow):
            rows.pop(workflow, None)
        self._keep(lambda entry: entry.workflow != workflow)
        if spec and spec not in self.spec_of.values():
            self.specs.pop(spec, None)
            self._keep(lambda entry: entry.spec != spec)

    def trim(self) -> None:
        """Before the first story of a workflow: of what is replaced (inventories) only the last still matters, and no
        commit."""
        last = self.commits[-1].number if self.commits else 0
        floor = next((entry.number for entry in self.entries if entry.workflow), last)
        early = [entry for entry in self.by_workflow.get(0, ()) if entry.number < floor and entry.count == 1]
        alike = [[entry for entry in early if entry.events.startswith(kind)] for kind in story.REPLACED]
        drop = {_position(entry) for found in alike for entry in found[:-1]}
        self._keep(lambda entry: _position(entry) not in drop)
        self.commits = [commit for commit in self.commits if commit.number >= floor]

    def _keep(self, wanted: Callable[[Entry], bool]) -> None:
        self.entries = [entry for entry in self.entries if wanted(entry)]
        self.by_workflow[0] = [entry for entry in self.by_workflow.get(0, ()) if wanted(entry)]


class _MemoryLock:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def acquire(self) -> bool:
        if self._database.lock_holder is None:
            self._database.lock_holder = self
        return self._database.lock_holder is self

    def release(self) -> None:
        if self._database.lock_holder is self:
            self._database.lock_holder = None


class MemoryStore:
    """`ports.Store` over a `MemoryDatabase`, its own when none is given. `probe` is called with the name of each site a
    commit passes (commit.before, commit.written, commit.after); what it raises happens there."""

    def __init__(self, database: MemoryDatabase | None = None, *, probe: Callable[[str], None] | None = None) -> None:
        self.database = database or MemoryDatabase()
        self._probe = probe
        self._candidate = Candidate(_MemoryLock(self.database))
        self._closed = False

    @classmethod
    async def open(
        cls, state_dir: Path | str = "", *, accept_loss: bool = False, probe: Callable[[str], None] | None = None
    ) -> Self:
        """As every store opens; `state_dir` and `accept_loss` mean nothing here, where nothing can be lost."""
        return cls(probe=probe)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._closed = True
        self._candidate.resigned()

    def _open(self) -> MemoryDatabase:
        if self._closed:
            raise Unavailable("the store is closed")
        return self.database

    # ------------------------------------------------------------------------------------------------------ writing

    async def hold(self, owner: str, address: str, ttl_ms: int, now_ms: int, epoch: int = 0) -> Lease | LeaseInfo:
        db = self._open()
        claim = Claim(owner, address, ttl_ms, now_ms, epoch)
        mine = self._candidate.judge(db.lease, claim)
        if mine is None:
            return db.lease.info()
        db.lease = mine
        self._candidate.won(mine)
        return claim.lease(mine.epoch)

    async def release(self, lease: Lease) -> None:
        db = self._open()
        row = db.lease
        if (row.epoch, row.owner) == (lease.epoch, lease.owner):
            db.lease = replace(row, held=False)
            self._candidate.resigned()

    async def load(self, lease: Lease | None) -> Loaded:
        db = self._open()
        if lease is not None and lease.epoch != db.lease.epoch:
            raise story.fenced(lease.epoch, db.lease.epoch)
        rows = Rows(meta=dict(sorted(db.meta.items())))
        for workflow in sorted(db.listings):
            if db.listings[workflow].live:
                found = db.rows_of(workflow)
                rows.workflows.update(found.workflows)
                rows.tasks.update(found.tasks)
                rows.items.update(found.items)
                rows.specs.update(found.specs)
        rows.specs = dict(sorted(rows.specs.items()))
        return Loaded(await self.head(), rows)

    async def commit(self, batch: Batch) -> Head:
        db = self._open()
        entries = story.entries_of(batch)
        self._reach("commit.before")
        row = db.lease
        if not 0 < batch.epoch == row.epoch:
            raise story.fenced(batch.epoch, row.epoch)
        for workflow in story.reopened(batch):
            if workflow not in db.workflows:
                raise story.vanished(workflow)
        last = db.commits[-1] if db.commits else None
        if last is not None and story.is_same(last, batch, entries):
            return last.head
        commit = story.commit_of(batch, entries, story.follow(last, batch))
        self._reach("commit.written")
        db.write(batch, commit, entries)
        self._reach("commit.after")
        return commit.head

    async def sweep(self, now_ms: int, success_ms: int, failure_ms: int, limit: int) -> list[int]:
        db = self._open()
        policy = {"succeeded": success_ms, "failed": failure_ms, "cancelled": failure_ms}
        due = []
        for workflow, listing in db.listings.items():
            keep_ms = listing.keep_ms or policy.get(listing.state, 0)
            if not listing.live and keep_ms > 0 and listing.ended_at_ms + keep_ms <= now_ms:
                due.append((listing.ended_at_ms + keep_ms, workflow))
        workflows = [workflow for _, workflow in sorted(due)[: max(0, limit)]]
        for workflow in workflows:
            db.remove(workflow)
        db.trim()
        return workflows

    def _reach(self, site: str) -> None:
        if self._probe is not None:
            self._probe(site)

    # ------------------------------------------------------------------------------------------------------ reading

    async def head(self) -> Head:
        commits = self._open().commits
        return commits[-1].head if commits else story.GENESIS

    async def read_workflow(self, workflow: int) -> Rows:
        return self._open().rows_of(workflow)

    async def list_workflows(self, query: ListQuery) -> list[Listing]:
        listings = self._open().listings
        newest = (listings[workflow] for workflow in sorted(listings, reverse=True))
        found = [listing for listing in newest if _matches(listing, query)]
        return found[: max(0, query.limit)]

    async def read_story(self, after: tuple[int, int], workflow: int = 0, limit: int = 1000) -> list[StoryEntry]:
        db = self._open()
        entries = db.by_workflow.get(workflow, []) if workflow else db.entries
        start = bisect_left(entries, (after[0], after[1] + 1), key=_position)
        if start and entries[start - 1].number == after[0]:
            start -= 1  # it may reach beyond the position
        found: list[StoryEntry] = []
        for entry in entries[start:]:
            if len(found) >= limit:
                break
            left = story.story_entry(entry, db.specs.get(entry.spec), after)
            if left is not None:
                found.append(left)
        return found

    async def verify(self) -> Verdict:
        db = self._open()
        audit = Audit(db.specs.get)
        first = db.commits[0].number if db.commits else 0
        entries = iter(db.entries)
        waiting = next(entries, None)
        while waiting is not None and waiting.number < first:
            audit.early(waiting)
            waiting = next(entries, None)
        for commit in db.commits:
            own = []
            while waiting is not None and waiting.number == commit.number:
                own.append(waiting)
                waiting = next(entries, None)
            audit.commit(commit, own)
        return audit.verdict()


def _matches(listing: Listing, query: ListQuery) -> bool:
    return (
        (not query.before or listing.workflow < query.before)
        and query.project in ("", listing.project)
        and query.name in ("", listing.name)
        and query.number in (0, listing.number)
        and query.by in ("", listing.by)
        and (not query.states or listing.state in query.states)
    )
