"""Logs over replicas, attempts and items: each byte once, in order, whatever happens in between."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import anyio
import msgspec
import pytest
from scripted import ScriptedEngine, served

from ffd.api import logs
from ffd.api.client import Client
from ffd.api.limits import ApiLimits
from ffd.api.logs import LogQuery
from ffd.api.shapes import LogBatch
from ffd.core.model import AttemptId
from ffd.errors import Refusal

pytestmark = pytest.mark.anyio
LIMITS = ApiLimits()
Key = tuple[str, int, int, int]


def run(engine: ScriptedEngine, attempt: AttemptId, data: bytes = b"", *, ranks: int = 1, ended: bool = True) -> None:
    """An attempt in the story, with the same log for each rank, and its end."""
    engine.attempt_event("ItemAdmitted", attempt)
    for rank in range(ranks):
        engine.logs.grow(attempt, rank, data)
    if ended:
        engine.attempt_event("AttemptEnded", attempt)


class Reader:
    """Checks order and gaps while it collects."""

    def __init__(self) -> None:
        self.data: dict[Key, bytes] = defaultdict(bytes)
        self.order: list[Key] = []
        self.cursor = ""
        self.sizes: list[int] = []

    def take(self, batch: LogBatch) -> None:
        self.cursor = batch.cursor
        for lines in batch.lines:
            key = (lines.task, lines.item, lines.attempt, lines.rank)
            assert lines.offset == len(self.data[key]), f"gap or duplicate in {key}"
            assert lines.next_offset == lines.offset + len(lines.data)
            self.data[key] += lines.data
            self.order.append(key)
            self.sizes.append(len(lines.data))

    async def read(self, engine: ScriptedEngine, query: LogQuery, limits: ApiLimits = LIMITS) -> Reader:
        async with logs.follow(engine, query, limits) as batches:
            async for batch in batches:
                self.take(batch)
        return self

    async def until(self, batches: AsyncIterator[LogBatch], enough: Callable[[], bool]) -> None:
        while not enough():
            self.take(await anext(batches))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[ScriptedEngine]:
    engine = ScriptedEngine(tmp_path)
    engine.add()
    yield engine
    await engine.logs.close()


# ------------------------------------------------------------------------------------------------------- what is past


async def test_all_replicas_attempts_and_items_from_the_beginning(engine: ScriptedEngine) -> None:
    engine.add_task(1, "prep")
    engine.add_task(1, "train", items=2, replicas=3)
    run(engine, AttemptId(1, "prep", 0, 1), b"one\n")
    run(engine, AttemptId(1, "train", 0, 1), b"first\ntry\n", ranks=3)
    run(engine, AttemptId(1, "train", 1, 1), b"other\n", ranks=3)
    run(engine, AttemptId(1, "train", 0, 2), b"second\n", ranks=3)
    found = await Reader().read(engine, LogQuery(workflow=1, follow=False))
    assert found.data[("prep", 0, 1, 0)] == b"one\n"
    assert {key[2:]: data for key, data in found.data.items() if key[:2] == ("train", 0)} == {
        **{(1, rank): b"first\ntry\n" for rank in range(3)},
        **{(2, rank): b"second\n" for rank in range(3)},
    }
    assert found.data[("train", 1, 1, 2)] == b"other\n"
    item_0 = [key[2] for key in found.order if key[:2] == ("train", 0)]
    assert item_0 == sorted(item_0)  # attempts one after the other


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            {"task": "b"},
            {("b", 0, 1, 0), ("b", 0, 1, 1), ("b", 0, 2, 0), ("b", 0, 2, 1), ("b", 1, 1, 0), ("b", 1, 1, 1)},
        ),
        ({"task": "b", "item": 1}, {("b", 1, 1, 0), ("b", 1, 1, 1)}),
        ({"task": "b", "item": 0, "attempt": 2}, {("b", 0, 2, 0), ("b", 0, 2, 1)}),
        ({"task": "b", "ranks": (1, 9)}, {("b", 0, 1, 1), ("b", 0, 2, 1), ("b", 1, 1, 1)}),
        ({"task": "a", "ranks": (1,)}, set()),
    ],
)
async def test_only_what_was_asked_for(engine: ScriptedEngine, query: dict[str, object], expected: set[Key]) -> None:
    engine.add_task(1, "a")
    engine.add_task(1, "b", items=2, replicas=2)
    run(engine, AttemptId(1, "a", 0, 1), b"a\n")
    for item, attempt in ((0, 1), (1, 1), (0, 2)):
        run(engine, AttemptId(1, "b", item, attempt), b"b\n", ranks=2)
    found = await Reader().read(engine, LogQuery(workflow=1, follow=False, **query))  # type: ignore[arg-type]
    assert set(found.data) == expected


async def test_what_does_not_exist_is_refused(engine: ScriptedEngine) -> None:
    engine.add_task(1, "a")
    for query, field in ((LogQuery(workflow=1, task="z"), "task"), (LogQuery(workflow=1, item=0), "item")):
        with pytest.raises(Refusal) as refusal:
            await Reader().read(engine, query)
        assert refusal.value.field == field
    with pytest.raises(Refusal):
        await Reader().read(engine, LogQuery(workflow=1, cursor="nonsense"))


async def test_the_end_of_each_log_alone(engine: ScriptedEngine) -> None:
    engine.add_task(1, "a", replicas=2)
    run(engine, AttemptId(1, "a", 0, 1), b"0123456789\n", ranks=2)
    async with logs.follow(engine, LogQuery(workflow=1, offset=-4, follow=False), LIMITS) as batches:
        lines = [line for batch in [batch async for batch in batches] for line in batch.lines]
    assert [(line.offset, line.data) for line in lines] == [(7, b"789\n")] * 2


async def test_long_lines_and_missing_newlines_come_in_pieces(engine: ScriptedEngine) -> None:
    limits = ApiLimits(log_chunk_bytes=10)
    engine.add_task(1, "a")
    data = b"short\n" + b"x" * 35 + b"\n\n\xff\xfe\x00 no newline"
    run(engine, AttemptId(1, "a", 0, 1), data)
    found = await Reader().read(engine, LogQuery(workflow=1, follow=False), limits)
    assert found.data[("a", 0, 1, 0)] == data
    assert found.sizes[0] == len(b"short\n")  # whole lines where there are any
    assert max(found.sizes) <= 10


async def test_what_was_given_back_to_the_disk_is_said(engine: ScriptedEngine) -> None:
    engine.add_task(1, "a")
    attempt = AttemptId(1, "a", 0, 1)
    run(engine, attempt, b"first\nhalf a lost\nrow\nlast\n")
    engine.logs.drop(attempt, 0, 12, 18)
    async with logs.follow(engine, LogQuery(workflow=1, follow=False), ApiLimits(log_chunk_bytes=100)) as batches:
        lines = [line for batch in [batch async for batch in batches] for line in batch.lines]
    assert [(line.offset, line.data, line.dropped_bytes) for line in lines] == [
        (0, b"first\n", 0),
        (6, b"half a", 0),
        (18, b"row\nlast\n", 6),
    ]


async def test_a_task_that_never_started_has_no_lines(engine: ScriptedEngine) -> None:
    engine.add_task(1, "a")
    assert not (await Reader().read(engine, LogQuery(workflow=1, follow=False))).data
    piece = await logs.read(engine, LogQuery(workflow=1, task="a", item=0), 0, 100, LIMITS)
    assert (piece.attempt, piece.data, piece.eof) == (0, b"", True)


# ----------------------------------------------------------------------------------------------------------- following


async def test_follows_until_the_workflow_has_ended(engine: ScriptedEngine) -> None:
    engine.add_task(1, "a", replicas=2)
    attempt, found = AttemptId(1, "a", 0, 1), Reader()
    run(engine, attempt, b"1\n", ranks=2, ended=False)
    async with logs.follow(engine, LogQuery(workflow=1), LIMITS) as batches:
        await found.until(batches, lambda: len(found.data) == 2)
        engine.logs.grow(attempt, 1, b"2\n3")
        await found.until(batches, lambda: found.data[("a", 0, 1, 1)].startswith(b"1\n2\n"))
        engine.logs.grow(attempt, 1, b"3\nlast")
        engine.attempt_event("AttemptEnded", attempt)
        engine.commit({"kind": "WorkflowEnded", "workflow": 1})
        async for batch in batches:
            found.take(batch)
    assert found.data == {("a", 0, 1, 0): b"1\n", ("a", 0, 1, 1): b"1\n2\n33\nlast"}
    assert engine.watchers_count == 0


async def test_an_unfinished_line_is_given_after_a_while(engine: ScriptedEngine) -> None:
    engine.add_task(1, "a")
    attempt, found = AttemptId(1, "a", 0, 1), Reader()
    run(engine, attempt, b"50 %", ended=False)
    async with logs.follow(engine, LogQuery(workflow=1), ApiLimits(log_partial_ms=1)) as batches:
        await found.until(batches, lambda: bool(found.data))
    assert found.data[("a", 0, 1, 0)] == b"50 %"


@pytest.mark.parametrize(
    ("query", "last"),
    [
        (LogQuery(workflow=1, task="a"), {"kind": "TaskEnded", "workflow": 1, "task": "a"}),
        (
            LogQuery(workflow=1, task="a", item=0),
            {"kind": "ItemEnded", "workflow": 1, "task": "a", "item": 0, "attempt": 1},
        ),
        (LogQuery(workflow=1, task="a", item=0, attempt=1), None),
    ],
)
async def test_ends_with_what_was_asked_for(
    engine: ScriptedEngine, query: LogQuery, last: dict[str, object] | None
) -> None:
    engine.add_task(1, "a")
    attempt, found = AttemptId(1, "a", 0, 1), Reader()
    run(engine, attempt, b"1\n", ended=False)
    async with logs.follow(engine, query, LIMITS) as batches:
        await found.until(batches, lambda: bool(found.data))
        await engine.watching.wait()
        engine.attempt_event("AttemptEnded", attempt)
        if last is not None:
            engine.commit(last)
        async for batch in batches:
            found.take(batch)
    assert found.data == {("a", 0, 1, 0): b"1\n"}


async def test_what_had_ended_before_needs_no_event_to_end(engine: ScriptedEngine) -> None:
    """The workflow goes on without a word: nothing would wake a reader that waited for one."""
    engine.add_task(1, "done", ended_at_ms=5)
    engine.add_task(1, "items", items=2)
    engine.item_pages[(1, "items")][1] = msgspec.structs.replace(engine.item_pages[(1, "items")][1], state="failed")
    for attempt in (AttemptId(1, "done", 0, 1), AttemptId(1, "items", 1, 1), AttemptId(1, "items", 0, 1)):
        run(engine, attempt, b"x\n")
    for query in (
        LogQuery(workflow=1, task="done"),
        LogQuery(workflow=1, task="items", item=1),
        LogQuery(workflow=1, task="items", item=0, attempt=1),
    ):
        assert len((await Reader().read(engine, query)).data) == 1


async def test_a_retry_is_followed_into_the_next_attempt(engine: ScriptedEngine) -> None:
    engine.add_task(1, "a")
    found = Reader()
    run(engine, AttemptId(1, "a", 0, 1), b"bad\n", ended=False)
    async with logs.follow(engine, LogQuery(workflow=1, task="a"), LIMITS) as batches:
        await found.until(batches, lambda: bool(found.data))
        engine.logs.grow(AttemptId(1, "a", 0, 1), 0, b"its last words")  # comes before anything of the next
        engine.attempt_event("AttemptEnded", AttemptId(1, "a", 0, 1))
        run(engine, AttemptId(1, "a", 0, 2), b"good\n", ended=False)
        await found.until(batches, lambda: ("a", 0, 2, 0) in found.data)
    assert found.order == [("a", 0, 1, 0), ("a", 0, 1, 0), ("a", 0, 2, 0)]


async def test_a_gap_in_the_events_loses_no_line(engine: ScriptedEngine) -> None:
    engine.add_task(1, "a", items=2)
    found = Reader()
    run(engine, AttemptId(1, "a", 0, 1), b"0\n", ended=False)
    async with logs.follow(engine, LogQuery(workflow=1), LIMITS) as batches:
        await engine.watching.wait()
        engine.gap_before = len(engine.commits) + 2
        run(engine, AttemptId(1, "a", 1, 1), b"1\n")
        await found.until(batches, lambda: len(found.data) == 2)
    assert found.data[("a", 1, 1, 0)] == b"1\n"


async def test_few_readers_at_once_still_read_everything(engine: ScriptedEngine) -> None:
    limits = ApiLimits(log_streams_count=2, log_buffer_count=1, log_chunk_bytes=64)
    engine.add_task(1, "a", items=50, replicas=2)
    for item in range(50):
        for attempt in (1, 2):
            run(engine, AttemptId(1, "a", item, attempt), b"line\n" * 20, ranks=2)
    found = await Reader().read(engine, LogQuery(workflow=1, follow=False), limits)
    assert len(found.data) == 200
    assert set(found.data.values()) == {b"line\n" * 20}
    with pytest.raises(Refusal) as refusal:
        await Reader().read(engine, LogQuery(workflow=1, follow=False), ApiLimits(log_backlog_count=10))
    assert refusal.value.field == "limits.log_backlog_count"


async def test_a_reader_that_stops_reading_stops_the_reading(engine: ScriptedEngine) -> None:
    """A follower buffers no more than its limit, however much there is."""
    limits = ApiLimits(log_buffer_count=2, log_chunk_bytes=10)
    engine.add_task(1, "a")
    run(engine, AttemptId(1, "a", 0, 1), b"123456789\n" * 1_000, ended=False)
    async with logs.follow(engine, LogQuery(workflow=1), limits) as batches:
        await anext(batches)
        reads_count = engine.logs.reads_count
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert engine.logs.reads_count <= reads_count + 4


# ------------------------------------------------------------------------------------------------------------ resuming


@pytest.mark.parametrize("seed", range(20))
async def test_resuming_anywhere_neither_loses_nor_repeats(engine: ScriptedEngine, seed: int) -> None:
    """A reader that is cut off at random places, while logs grow and attempts come and go."""
    rng = random.Random(seed)
    limits = ApiLimits(
        log_chunk_bytes=16, log_buffer_count=rng.choice([1, 4]), log_streams_count=rng.choice([1, 3, 99])
    )
    engine.add_task(1, "a", items=3, replicas=2)
    written: dict[Key, bytes] = {}
    live: dict[int, int] = {}
    found = Reader()

    def act() -> None:
        item = rng.randrange(3)
        if item not in live:
            live[item] = max((key[2] for key in written if key[1] == item), default=0) + 1
            engine.attempt_event("ItemAdmitted", AttemptId(1, "a", item, live[item]))
        attempt, rank = AttemptId(1, "a", item, live[item]), rng.randrange(2)
        for each in range(2):
            written.setdefault(("a", item, live[item], each), b"")
        data = rng.choice([b"x\n", b"long line\n" * 4, b"half a line", b"y" * 40])
        engine.logs.grow(attempt, rank, data)
        written[("a", item, live[item], rank)] += data
        if rng.random() < 0.3:
            engine.attempt_event("AttemptEnded", attempt)
            del live[item]

    for _ in range(12):
        for _ in range(rng.randrange(6)):
            act()
        query = LogQuery(workflow=1, follow=False, cursor=found.cursor)
        async with logs.follow(engine, query, limits) as batches:
            for _ in range(rng.randrange(8)):
                async for batch in batches:
                    found.take(batch)
                    break
    await found.read(engine, LogQuery(workflow=1, follow=False, cursor=found.cursor), limits)
    assert dict(found.data) == {key: data for key, data in written.items() if data}


async def test_over_the_wire_with_reconnects(tmp_path: Path) -> None:
    engine, found = ScriptedEngine(tmp_path), Reader()
    engine.add()
    engine.add_task(1, "a")
    attempt = AttemptId(1, "a", 0, 1)
    run(engine, attempt, b"1\n", ended=False)
    async with served(tmp_path, engine=engine) as server:
        client = await Client.connect(server.unix)
        batches = client.follow_log("hello", "a")
        await found.until(batches, lambda: bool(found.data))
    engine.logs.grow(attempt, 0, b"while away\n")
    async with served(tmp_path, engine=engine), client, aclosing(batches):
        await found.until(batches, lambda: len(found.data[("a", 0, 1, 0)]) > 3)
        assert (await client.read_log("hello", "a", offset=2, limit_bytes=5)).data == b"while"
        assert (await client.read_log("hello", "a", offset=-5)).data == b"away\n"
        with pytest.raises(Refusal) as refusal:
            await client.read_log("hello", "a", attempt=7)
        assert refusal.value.code == "not_found"
        with pytest.raises(Refusal) as refusal:
            await client.read_log("hello", "a", limit_bytes=1 << 30)
        assert refusal.value.field == "limits.log_read_bytes"
    assert found.data == {("a", 0, 1, 0): b"1\nwhile away\n"}
