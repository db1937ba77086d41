"""Reading and following logs over replicas, attempts, items and tasks: in order, no gap, no duplicate.

A follower learns from the workflow's story which attempts there are and when each is proven gone, and reads their bytes
from the LogStore: first what is past, then what comes. Order: bytes of one replica ascending; attempts of one item one
after the other; items side by side. What is read is bounded by the reader: a slow one makes the follower wait, never
the writer of the log. Used by both transports; never here: how a batch is encoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ffd.api.cursor import Cursor
from ffd.api.engine import Engine
from ffd.api.limits import ApiLimits, over
from ffd.api.shapes import LogBatch, LogChunk, LogLines
from ffd.api.traffic import closing, only_error
from ffd.core.model import TERMINAL, AttemptId
from ffd.core.pages import EventPage, TaskPage
from ffd.errors import FfdError, Refusal
from ffd.plugins.ports import Chunk

FROM_THE_BEGINNING = "0.0"
IDLE_WAIT_MS = 60_000  # a wait ends with the attempt anyway; this only bounds one call of the LogStore


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which logs. `task` "" = all, `item` -1 = all, `attempt` 0 = all, `ranks` () = all. `offset`: where to start in
    each replica's log, negative = before its end. `cursor` resumes an earlier reader of the same query."""

    workflow: int
    task: str = ""
    item: int = -1
    attempt: int = 0
    ranks: tuple[int, ...] = ()
    offset: int = 0
    follow: bool = True
    cursor: str = ""

    def wants(self, event: EventPage) -> bool:
        return (
            event.attempt > 0
            and self.task in ("", event.task)
            and self.item in (-1, event.item)
            and self.attempt in (0, event.attempt)
        )

    def ends_with(self, event: EventPage) -> bool:
        """True when nothing that was asked for can follow this event (a user's retry apart)."""
        if event.kind == "TaskEnded":
            return bool(self.task) and event.task == self.task
        if self.item < 0 or (event.task, event.item) != (self.task, self.item):
            return False
        return event.kind == "ItemEnded" or (event.kind == "AttemptEnded" and event.attempt == self.attempt)


async def read(engine: Engine, query: LogQuery, rank: int, limit_bytes: int, limits: ApiLimits) -> LogChunk:
    """One piece of one replica's log. `attempt` 0 = the last. An item that never started has an empty log. Refusal:
    not_found (no such attempt), limit (log_read_bytes), invalid."""
    if limit_bytes > limits.log_read_bytes:
        raise over("log_read_bytes", "limit_bytes is above", limits.log_read_bytes, hint="read on at next_offset")
    if not query.task:
        raise Refusal("whose log? name a task", field="task")
    if query.item < 0 or rank < 0 or limit_bytes < 0:
        raise Refusal("item, rank and limit_bytes must not be negative", field="item")
    attempts = await engine.attempts(query.workflow, query.task, query.item)
    number = query.attempt or (attempts[-1].attempt if attempts else 0)
    wanted = next((attempt for attempt in attempts if attempt.attempt == number), None)
    if wanted is not None:
        c = await engine.logs.read(wanted, rank, query.offset, limit_bytes or limits.log_read_bytes)
        return LogChunk(number, rank, c.offset, c.data, c.next_offset, c.dropped_bytes, c.eof)
    if number == 0:
        return LogChunk(0, rank, 0, b"", 0, eof=True)
    raise Refusal(f"{query.task}[{query.item}] has no attempt {number}", code="not_found", field="attempt")


@asynccontextmanager
async def follow(engine: Engine, query: LogQuery, limits: ApiLimits) -> AsyncIterator[AsyncIterator[LogBatch]]:
    """`async with follow(...) as batches: async for batch in batches`. Ends when what was asked for has ended (or, with
    `follow` False, when everything written so far was given). Errors of the engine are raised by the iterator."""
    cursor = Cursor.decode(query.cursor)
    send, receive = anyio.create_memory_object_stream[_Given](limits.log_buffer_count)
    follower = _Follower(engine, query, limits, Cursor.decode(query.cursor), send)
    try:
        async with anyio.create_task_group() as group, receive:
            group.start_soon(follower.run)
            yield _batches(receive, cursor, limits.log_chunk_bytes * limits.log_buffer_count)
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        raise only_error(errors) from None


_Given = LogLines | AttemptId | FfdError  # some lines; "this attempt was given whole"; how it ended


async def _batches(
    receive: MemoryObjectReceiveStream[_Given], cursor: Cursor, batch_bytes: int
) -> AsyncIterator[LogBatch]:
    """Everything that waits becomes one batch, so that a cursor costs little when much is written."""
    async for first in receive:
        given: _Given | None = first
        lines: list[LogLines] = []
        size = 0
        while given is not None and not isinstance(given, FfdError):
            if isinstance(given, LogLines):
                lines.append(given)
                size += len(given.data)
                cursor.advance(_attempt_of(given), given.rank, given.next_offset)
            else:
                cursor.finish(given)
            given = _next_waiting(receive) if size < batch_bytes else None
        if lines:
            yield LogBatch(tuple(lines), cursor.encode())
        if given is not None:
            raise given


def _next_waiting(receive: MemoryObjectReceiveStream[_Given]) -> _Given | None:
    try:
        return receive.receive_nowait()
    except (anyio.WouldBlock, anyio.EndOfStream):
        return None


def _attempt_of(lines: LogLines) -> AttemptId:
    return AttemptId(0, lines.task, lines.item, lines.attempt)


class _Reading:
    """One attempt that is being read, over all its wanted ranks."""

    def __init__(self, attempt: AttemptId, ranks: tuple[int, ...], before: _Reading | None) -> None:
        self.attempt = attempt
        self.before = before  # the item's previous attempt: given first
        self.ended = False  # what is there now is all that is to be given
        self.gone = False  # and all there will ever be: nothing of it lives
        self.given = anyio.Event()
        self.ranks_left = len(ranks)
        self.waits: set[anyio.CancelScope] = set()

    def end(self, *, gone: bool) -> None:
        self.ended = True
        self.gone = self.gone or gone
        for scope in self.waits:
            scope.cancel()


class _Follower:
    """Discovers attempts and runs at most `log_streams_count` readers, oldest attempt first."""

    def __init__(
        self, engine: Engine, query: LogQuery, limits: ApiLimits, start: Cursor, send: MemoryObjectSendStream[_Given]
    ) -> None:
        self._engine = engine
        self._query = query
        self._limits = limits
        self._given = start  # what needs no reading any more, and where to begin
        self._send = send
        self._tasks: dict[str, TaskPage] = {}
        self._readings: dict[AttemptId, _Reading] = {}
        self._latest: dict[tuple[str, int], _Reading] = {}
        self._backlog: deque[tuple[_Reading, int]] = deque()
        self._readers_count = 0
        self._attempt_ended = False  # the one attempt that was asked for

    async def run(self) -> None:
        async with self._send:
            try:
                async with anyio.create_task_group() as group:
                    await self._discover(group)
            except* FfdError as errors:
                await self._send.send(_refusal_in(errors))

    # ------------------------------------------------------------------------------------------------- discovery

    async def _discover(self, group: TaskGroup) -> None:
        await self._learn_tasks()
        # asked before the story is read, so that the story then holds everything up to that end
        has_ended = not self._query.follow or await self._has_ended()
        token = await self._read_story(group, FROM_THE_BEGINNING)
        has_ended = has_ended or self._attempt_ended
        while not has_ended:
            has_ended = True  # the watch ends with the workflow; after a gap it begins again behind what was read
            async with closing(self._engine.watch(self._query.workflow, token)) as pages:
                async for page in pages:
                    if page.gap:
                        has_ended = False
                        break
                    token = page.token
                    self._take(group, page.events)
                    if any(self._query.ends_with(event) for event in page.events):
                        break
        for reading in self._readings.values():
            reading.end(gone=False)

    async def _learn_tasks(self) -> None:
        after, size = "", self._limits.page_count
        while True:
            tasks = await self._engine.tasks(self._query.workflow, after, size)
            self._tasks.update((task.name, task) for task in tasks)
            if len(tasks) < size:
                break
            after = tasks[-1].name
        if self._query.task and self._query.task not in self._tasks:
            raise Refusal(f"there is no task {self._query.task}", code="not_found", field="task")
        if self._query.item >= 0 and not self._query.task:
            raise Refusal("item needs a task", field="item")

    async def _has_ended(self) -> bool:
        query = self._query
        if query.item >= 0:
            items = await self._engine.items(query.workflow, query.task, query.item - 1, 1)
            return any(item.item == query.item and item.state in TERMINAL for item in items)
        return bool(query.task) and self._tasks[query.task].ended_at_ms > 0  # of a whole workflow the watch knows

    async def _read_story(self, group: TaskGroup, token: str) -> str:
        while True:
            page = await self._engine.story(self._query.workflow, token, self._limits.page_count)
            if not page.events:
                return token
            token = page.token
            self._take(group, page.events)

    def _take(self, group: TaskGroup, events: tuple[EventPage, ...]) -> None:
        for event in filter(self._query.wants, events):
            attempt = AttemptId(self._query.workflow, event.task, event.item, event.attempt)
            self._attempt_ended |= self._query.attempt > 0 and self._query.ends_with(event)
            if self._given.is_whole(attempt):
                continue
            reading = self._readings.get(attempt) or self._begin(group, attempt)
            if event.kind == "AttemptEnded":
                reading.end(gone=True)

    def _begin(self, group: TaskGroup, attempt: AttemptId) -> _Reading:
        ranks = tuple(range(self._tasks[attempt.task].replicas))
        if self._query.ranks:
            ranks = tuple(rank for rank in ranks if rank in self._query.ranks)
        place = (attempt.task, attempt.item)
        reading = _Reading(attempt, ranks, self._latest.get(place))
        self._readings[attempt] = self._latest[place] = reading
        if not ranks:
            self._finish(reading)
        if len(self._backlog) + len(ranks) > self._limits.log_backlog_count:
            hint = "follow one task, or one item"
            raise over("log_backlog_count", "these are more logs than", self._limits.log_backlog_count, hint)
        for rank in ranks:
            self._backlog.append((reading, rank))
            if self._readers_count < self._limits.log_streams_count:
                self._readers_count += 1
                group.start_soon(self._reader)
        return reading

    # --------------------------------------------------------------------------------------------------- reading

    async def _reader(self) -> None:
        while self._backlog:
            reading, rank = self._backlog.popleft()
            if reading.before is not None:
                await reading.before.given.wait()
            await self._read_whole(reading, rank)
            reading.ranks_left -= 1
            if reading.ranks_left == 0:
                if reading.gone:
                    await self._send.send(reading.attempt)
                self._finish(reading)
        self._readers_count -= 1

    def _finish(self, reading: _Reading) -> None:
        self._given.finish(reading.attempt)
        del self._readings[reading.attempt]
        reading.before = None
        reading.given.set()

    async def _read_whole(self, reading: _Reading, rank: int) -> None:
        """Give one replica's log up to its end. An unfinished line is held back until it is finished, long, its writer
        pauses, or the attempt has ended."""
        logs, attempt, chunk_bytes = self._engine.logs, reading.attempt, self._limits.log_chunk_bytes
        known = self._given.offset(attempt, rank)
        offset = self._query.offset if known is None else known
        paused = False
        while True:
            ended = reading.ended  # looked at before reading: then "nothing there" is final
            chunk = await logs.read(attempt, rank, offset, chunk_bytes)
            given = _lines(attempt, rank, chunk, unfinished=ended or paused)
            if given is not None:
                await self._send.send(given)
                offset, paused = given.next_offset, False
            elif not chunk.eof:
                offset = chunk.next_offset
            elif ended:
                return
            else:
                offset = offset if chunk.data else chunk.next_offset
                wait_ms = self._limits.log_partial_ms if chunk.data else IDLE_WAIT_MS
                grew = await self._wait(reading, rank, chunk.next_offset, wait_ms)
                paused = bool(chunk.data) and not grew

    async def _wait(self, reading: _Reading, rank: int, offset: int, timeout_ms: int) -> bool:
        """Until there is more, the attempt has ended (both True), or the time is up (False)."""
        grew = True
        with anyio.CancelScope() as scope:
            if not reading.ended:
                reading.waits.add(scope)
                try:
                    grew = await self._engine.logs.wait(reading.attempt, rank, offset, timeout_ms)
                finally:
                    reading.waits.discard(scope)
        return grew


def _lines(attempt: AttemptId, rank: int, chunk: Chunk, *, unfinished: bool) -> LogLines | None:
    """The whole lines of a chunk; None when it has none. An unfinished line is given too when it fills the chunk, or at
    the end when it is to be given `unfinished`."""
    data, next_offset = chunk.data, chunk.next_offset
    whole_bytes = data.rfind(b"\n") + 1
    if not (unfinished and chunk.eof) and (whole_bytes or chunk.eof):
        data, next_offset = data[:whole_bytes], chunk.offset + whole_bytes
    if not data:
        return None
    return LogLines(
        attempt.task, attempt.item, attempt.attempt, rank, chunk.offset, data, chunk.dropped_bytes, next_offset
    )


def _refusal_in(errors: BaseExceptionGroup[FfdError]) -> FfdError:
    error = only_error(errors)
    assert isinstance(error, FfdError)
    return error
