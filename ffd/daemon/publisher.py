"""The publisher: durable commits -> watchers. Ordered, unique, atomic per commit, or an explicit gap (S19).

`publish` only hands a commit to those who watch, and costs nothing while nobody does; pages are made by each watcher in
its own task. One that falls behind by more than `limits.watch_backlog_count` events catches up from the story; one that
is ten times as far behind gets one gap marker and goes on from there: a slow reader never slows the writer, nor fills
memory. A watcher of one workflow sees only that one (S23).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from operator import attrgetter
from typing import NamedTuple

import anyio.lowlevel

from ffd.api.engine import WatchPage
from ffd.core import events as ev
from ffd.core.pages import EventPage
from ffd.core.views import event_page
from ffd.daemon.barrier import copy_of
from ffd.daemon.names import Names
from ffd.daemon.telemetry import Metrics
from ffd.errors import FfdError, Refusal
from ffd.plugins.ports import Batch, Store, StoryEntry

Position = tuple[int, int]  # of an event: commit number, index in the commit
LAST = 1 << 62  # an index after every event of a commit
CATCH_UP_TIMES = 10  # how many backlogs a watcher may have lost and still catch up from the story
HasEnded = Callable[[], Awaitable[bool]]
Pages = AsyncGenerator[WatchPage, None]
STORY_ENTRIES_COUNT = 500  # read from the store at once
TURN_COUNT = 200  # pages of events made before others have their turn


class Commit(NamedTuple):
    """What a watcher may see of one commit: its events, each with its index."""

    number: int
    at_ms: int
    events: list[tuple[int, ev.AnyEvent]]


def _workflow_of(kind: type[ev.Event]) -> Callable[[ev.AnyEvent], int]:
    if "workflow" in kind.__struct_fields__:
        return attrgetter("workflow")
    if "attempt" in kind.__struct_fields__:
        return attrgetter("attempt.workflow")
    return lambda event: 0


_WORKFLOW_OF = {kind: _workflow_of(kind) for kind in ev.Event.__subclasses__()}


def workflow_of(event: ev.AnyEvent) -> int:
    """Whose event it is; 0 = of no workflow."""
    return _WORKFLOW_OF[type(event)](event)


class Subscription:
    """What waits for one watcher. `since` is the last commit before it; commits after that are here, or were lost."""

    def __init__(self, workflow: int, since: int, limit_count: int) -> None:
        self.workflow = workflow
        self.since = since
        self.lost: Position | None = None  # the last event that was dropped
        self.lost_count = 0
        self.closed: FfdError | None = None
        self._limit_count = limit_count
        self._commits: deque[Commit] = deque()
        self._count = 0
        self._woken = asyncio.Event()

    def push(self, commit: Commit) -> None:
        """One more commit; when there are too many events, all that wait are dropped. One commit alone is never too
        large, else a large one could not be watched at all."""
        if self._commits and self._count + len(commit.events) > self._limit_count:
            last = self._commits[-1]
            self.lost = (last.number, last.events[-1][0])
            self.lost_count += self._count
            self._commits.clear()
            self._count = 0
        self._commits.append(commit)
        self._count += len(commit.events)
        self._woken.set()

    def close(self, reason: FfdError) -> None:
        self.closed = reason
        self._woken.set()

    def pop(self) -> Commit | None:
        """The oldest that waits."""
        if not self._commits:
            return None
        commit = self._commits.popleft()
        self._count -= len(commit.events)
        return commit

    async def wait(self) -> None:
        """Until something waits. Raises the reason when none will come."""
        while not self._commits and self.lost is None:
            if self.closed is not None:
                raise copy_of(self.closed)
            self._woken.clear()
            await self._woken.wait()


class Publisher:
    """Of one reign. `number` is the last commit that was published; `settled` waits until all that was decided is."""

    def __init__(self, store: Store, names: Names, number: int, limit_count: int, metrics: Metrics) -> None:
        self.number = number
        self._store = store
        self._names = names
        self._limit_count = limit_count
        self._metrics = metrics
        self._subscriptions: dict[int, list[Subscription]] = {}  # by workflow; 0 = all

    def __len__(self) -> int:
        return sum(len(found) for found in self._subscriptions.values())

    # ------------------------------------------------------------------------------------------------------ commits

    def publish(self, batch: Batch) -> None:
        """This commit is durable."""
        self.number = batch.number
        if not self._subscriptions:
            return
        scoped: dict[int, list[tuple[int, ev.AnyEvent]]] = {workflow: [] for workflow in self._subscriptions}
        everything = scoped.get(0)
        for index, event in enumerate(batch.events):
            if everything is not None:
                everything.append((index, event))
            workflow = workflow_of(event)
            if workflow and workflow in scoped:
                scoped[workflow].append((index, event))
        for workflow, events in scoped.items():
            if events:
                commit = Commit(batch.number, batch.at_ms, events)
                for subscription in self._subscriptions[workflow]:
                    subscription.push(commit)

    def close(self, reason: FfdError) -> None:
        """No further commits: watchers are told why, once they have read what waits."""
        for found in self._subscriptions.values():
            for subscription in found:
                subscription.close(reason)

    # ----------------------------------------------------------------------------------------------------- watchers

    async def watch(
        self, workflow: int, after: Position | None, has_ended: HasEnded
    ) -> AsyncGenerator[WatchPage, None]:
        """Pages from after `after` (None = from now), first from the story, then live. Ends when the workflow has ended
        and all was given. `has_ended` is asked once, when nothing can be missed any more: has it ended, and has its
        end been published?"""
        subscription = self._subscribe(workflow)
        given, is_behind = after or (subscription.since, LAST), after is not None
        try:
            is_over = await has_ended()
            while True:
                while is_behind:
                    async for commit in self._replay(workflow, given, subscription.since):
                        is_over = ended_after(commit, workflow, is_over)
                        yield await self._page(commit)
                    given = (subscription.since, LAST)
                    is_behind = subscription.lost is not None
                    subscription = self._renew(subscription) if is_behind else subscription
                if not is_over:
                    await subscription.wait()
                if subscription.lost is not None:
                    if subscription.lost_count <= CATCH_UP_TIMES * self._limit_count:
                        subscription, is_behind = self._renew(subscription), True
                        continue
                    yield self._gap(subscription)
                live = subscription.pop()
                if live is not None:
                    given, is_over = (live.number, LAST), ended_after(live, workflow, is_over)
                    yield await self._page(live)
                elif is_over:
                    return
        finally:
            self._unsubscribe(subscription)

    async def story(self, workflow: int, after: Position, limit: int) -> WatchPage:
        """Whole commits after a position, as one page of at least one commit and about `limit` events."""
        pages: list[EventPage] = []
        async for commit in self._replay(workflow, after, self.number):
            pages.extend((await self._page(commit)).events)
            after = (commit.number, commit.events[-1][0])
            if len(pages) >= limit:
                break
        return WatchPage(token_of(after), tuple(pages))

    def _subscribe(self, workflow: int) -> Subscription:
        subscription = Subscription(workflow, self.number, self._limit_count)
        self._subscriptions.setdefault(workflow, []).append(subscription)
        return subscription

    def _renew(self, subscription: Subscription) -> Subscription:
        """Begin again from the last commit: what came before is to be read from the story."""
        self._unsubscribe(subscription)
        return self._subscribe(subscription.workflow)

    def _unsubscribe(self, subscription: Subscription) -> None:
        found = self._subscriptions.get(subscription.workflow, [])
        if subscription in found:
            found.remove(subscription)
        if not found:
            self._subscriptions.pop(subscription.workflow, None)

    def _gap(self, subscription: Subscription) -> WatchPage:
        assert subscription.lost is not None
        page = WatchPage(token_of(subscription.lost), gap=True)
        subscription.lost, subscription.lost_count = None, 0
        self._metrics.gaps.inc()
        return page

    async def _page(self, commit: Commit) -> WatchPage:
        pages, handles = [], {0: ""}
        for turn, (index, event) in enumerate(commit.events, start=1):
            if turn % TURN_COUNT == 0:
                await anyio.lowlevel.checkpoint()
            workflow = workflow_of(event)
            handle = handles.get(workflow)
            if handle is None:
                handle = handles[workflow] = await self._names.handle(workflow)
            pages.append(event_page(commit.number, index, commit.at_ms, event, handle))
        return WatchPage(token_of((commit.number, commit.events[-1][0])), tuple(pages))

    async def _replay(self, workflow: int, after: Position, until: int) -> AsyncIterator[Commit]:
        """Whole commits of the story, oldest first, up to commit `until`."""
        limit, pending = STORY_ENTRIES_COUNT, Commit(0, 0, [])
        while after[0] <= until:
            entries = await self._store.read_story(after, workflow, limit)
            for entry in entries:
                if entry.number > until:
                    break
                if entry.number != pending.number:
                    if pending.events:
                        yield pending
                    pending = Commit(entry.number, entry.at_ms, [])
                pending.events.extend(_numbered(entry))
            if len(entries) < limit or entries[-1].number > until:
                break
            after = (entries[-1].number, entries[-1].index + len(entries[-1].events) - 1)
        if pending.events:
            yield pending


def _numbered(entry: StoryEntry) -> list[tuple[int, ev.AnyEvent]]:
    return list(enumerate(entry.events, start=entry.index))


def ended_after(commit: Commit, workflow: int, is_over: bool) -> bool:
    """Is the watched workflow over after this commit? A user's retry opens it again."""
    if workflow:
        for _, event in commit.events:
            if isinstance(event, ev.WorkflowForgotten):
                is_over = True
            elif isinstance(event, ev.WorkflowReopened):
                is_over = False
    return is_over


# ---------------------------------------------------------------------------------------------------- resume tokens


def token_of(position: Position) -> str:
    return f"{position[0]}.{position[1]}"


def position_of(token: str) -> Position | None:
    """The position a token names; "" = none. A number alone = after the whole of that commit. Refusal (invalid)."""
    if not token:
        return None
    number, dot, index = token.partition(".")
    digits = number + index
    if not (digits.isascii() and digits.isdecimal() and number) or (dot and not index) or len(digits) > 36:
        raise Refusal("not a token of this API", field="token", hint='"0.0" starts at the beginning, "" now')
    return int(number), int(index) if dot else LAST
