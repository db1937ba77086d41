"""What `ports.Store` promises, as checks. An opener gives one more handle on a database, as another process would have.

Every check gets an opener on an empty database of its own and closes what it opens. `store_random` adds random
operations that several stores must answer alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import get_args

from ffd.core.events import AnyEvent, NodesChanged, QuotaChanged, SpecAdded
from ffd.core.model import Quota, Rows
from ffd.errors import Fenced, Unavailable
from ffd.plugins.ports import Head, Lease, LeaseInfo, ListQuery, Store
from ffd.testing.conformance.store_setup import (
    AT_MS,
    DAY_MS,
    SAMPLES,
    TTL_MS,
    Check,
    Opener,
    Part,
    accepted,
    added,
    all_entries,
    batch,
    commit,
    ended,
    inventory,
    leading,
    opened,
    progress,
    raises,
    reopened,
)

# -------------------------------------------------------------------------------------------------------- the lease


async def empty_store_answers(opener: Opener) -> None:
    async with leading(opener) as (store, lease):
        head = await store.head()
        assert head.number == 0
        loaded = await store.load(lease)
        assert loaded.head == head
        assert loaded.rows == Rows()
        assert await store.read_workflow(1) == Rows()
        assert await store.list_workflows(ListQuery()) == []
        assert await store.read_story((0, 0)) == []
        assert await store.sweep(AT_MS, 1, 1, 10) == []
        assert (await store.verify()).faults == ()


async def a_free_lease_is_taken_at_once(opener: Opener) -> None:
    async with opened(opener) as one, opened(opener) as two:
        lease = await one.hold("one", "here:1", TTL_MS, 50)
        assert lease == Lease(1, "one", TTL_MS)
        assert await two.hold("two", "here:2", TTL_MS, 50) == LeaseInfo(1, "one", "here:1")
        assert await one.hold("one", "here:3", TTL_MS, 60, epoch=1) == lease
        assert await two.hold("two", "here:2", TTL_MS, 60) == LeaseInfo(1, "one", "here:3")
        await one.release(lease)
        assert await two.hold("two", "here:2", TTL_MS, 60) == Lease(2, "two", TTL_MS)
        assert await one.hold("one", "here:1", TTL_MS, 60, epoch=1) == LeaseInfo(2, "two", "here:2")
        await one.release(lease)  # not ours any more: no-op
        assert await one.hold("one", "here:1", TTL_MS, 60) == LeaseInfo(2, "two", "here:2")


async def a_silent_holder_is_succeeded_after_its_time(opener: Opener) -> None:
    async with opened(opener) as one, opened(opener) as two:
        lease = await one.hold("one", "here:1", TTL_MS, 0)
        start_ms = 987_654  # the standby's clock has nothing to do with the holder's
        waiting = LeaseInfo(1, "one", "here:1")
        assert await two.hold("two", "", TTL_MS, start_ms) == waiting
        assert await two.hold("two", "", TTL_MS, start_ms + TTL_MS - 1) == waiting
        await one.hold("one", "here:1", TTL_MS, 5, epoch=1)
        assert await two.hold("two", "", TTL_MS, start_ms + TTL_MS) == waiting  # it renewed: the time starts over
        assert await two.hold("two", "", TTL_MS, start_ms + 2 * TTL_MS - 1) == waiting
        assert await two.hold("two", "", TTL_MS, start_ms + 2 * TTL_MS) == Lease(2, "two", TTL_MS)
        assert isinstance(lease, Lease)
        assert await one.hold("one", "here:1", TTL_MS, 6, epoch=1) == LeaseInfo(2, "two", "")


async def a_commit_proves_life(opener: Opener) -> None:
    async with leading(opener) as (store, lease), opened(opener) as standby:
        assert isinstance(await standby.hold("standby", "", TTL_MS, 0), LeaseInfo)
        await commit(store, lease, inventory("n1"))
        assert isinstance(await standby.hold("standby", "", TTL_MS, TTL_MS), LeaseInfo)
        assert isinstance(await standby.hold("standby", "", TTL_MS, 2 * TTL_MS), Lease)


async def an_old_epoch_is_fenced(opener: Opener) -> None:
    async with leading(opener) as (old, lease), opened(opener) as new:
        await commit(old, lease, added("a"), accepted(1))
        await new.hold("new", "", TTL_MS, 0)
        taken = await new.hold("new", "", TTL_MS, TTL_MS)
        assert isinstance(taken, Lease)
        head = await new.head()
        late = batch(lease.epoch, head.number + 1, accepted(2))
        await raises(Fenced, old.commit(late))
        await raises(Fenced, old.load(lease))
        assert await new.head() == head
        assert await new.read_workflow(2) == Rows()
        await commit(new, taken, accepted(3))
        await raises(Fenced, old.commit(late))
        assert (await new.load(taken)).rows.workflows == {1: b"running", 3: b"running"}
        assert (await new.verify()).faults == ()


# -------------------------------------------------------------------------------------------------------- the commit


async def only_the_next_number_is_taken(opener: Opener) -> None:
    async with opened(opener) as store:
        await raises(Fenced, store.commit(batch(0, 1, inventory("n1"))))  # nobody leads
        await raises(Fenced, store.commit(batch(1, 1, inventory("n1"))))
    async with leading(opener) as (store, lease):
        await raises(Fenced, store.commit(batch(lease.epoch + 1, 1, inventory("n1"))))
        await raises(Fenced, store.commit(batch(lease.epoch, 2, inventory("n1"))))
        first = batch(lease.epoch, 1, added("a"), accepted(1))
        head = await store.commit(first)
        assert head.number == 1
        assert await store.commit(first) == head  # the caller had not learnt of it
        assert await store.head() == head
        await raises(Fenced, store.commit(batch(lease.epoch, 1, accepted(2))))  # the same number, but not the same
        await raises(Fenced, store.commit(batch(lease.epoch, 3, accepted(2))))
        second = await store.commit(batch(lease.epoch, 2))  # nothing but a number
        assert second.digest != head.digest
        await raises(Fenced, store.commit(first))
        assert len(await all_entries(store)) == 2


async def rows_are_replaced_and_only_live_ones_load(opener: Opener) -> None:
    async with leading(opener) as (store, lease):
        await commit(store, lease, added("a"), accepted(1), accepted(2), added("b"), accepted(3, "b"))
        await commit(store, lease, progress(1, "train", (0, 2)), progress(2, "train", (0,)), progress(3, "x", (9,)))
        await commit(store, lease, progress(1, "train", (2, 3), b"newer"), ended(2), inventory("n1"))
        rows = (await store.load(lease)).rows
        assert rows.workflows == {1: b"running", 3: b"running"}
        assert rows.tasks == {(1, "train"): b"task", (3, "x"): b"task"}
        assert list(rows.items.items()) == [
            ((1, "train", 0), b"item"),
            ((1, "train", 2), b"newer"),
            ((1, "train", 3), b"newer"),
            ((3, "x", 9), b"item"),
        ]
        assert rows.specs == {**added("a").rows.specs, **added("b").rows.specs}
        assert rows.meta == {"next_workflow": b"4", **inventory("n1").rows.meta}
        old = await store.read_workflow(2)
        assert old.workflows == {2: b"succeeded"}
        assert old.tasks == {(2, "train"): b"task"}
        assert old.items == {(2, "train", 0): b"item"}
        assert old.specs == added("a").rows.specs
        assert old.meta == {}
        await commit(store, lease, reopened(2))
        assert (await store.load(lease)).rows.workflows[2] == b"reopened"


async def large_batches_are_whole(opener: Opener) -> None:
    counts = {"one": 1, "odd": 777, "many": 1_300}
    async with leading(opener) as (store, lease):
        parts = [progress(1, task, range(count), task.encode()) for task, count in counts.items()]
        await commit(store, lease, added("a"), accepted(1), *parts)
        found = await store.read_workflow(1)
        expected = {(1, task, item): task.encode() for task, count in counts.items() for item in range(count)}
        assert found.items == expected
        entries = await store.read_story((0, 0), workflow=1)
        assert [len(entry.events) for entry in entries] == [2 + 2 * sum(counts.values())]


async def what_was_committed_is_there_for_the_next_process(opener: Opener) -> None:
    async with leading(opener) as (store, lease):
        head = await commit(store, lease, added("a"), accepted(1), progress(1, "train", (0,)))
        loaded = await store.load(lease)
        entries = await all_entries(store)
    async with opened(opener) as store:
        assert await store.head() == head
        await store.release(lease)
        again = await store.hold("next", "", TTL_MS, 0)
        assert again == Lease(2, "next", TTL_MS)
        assert isinstance(again, Lease)
        assert await store.load(again) == loaded
        assert await all_entries(store) == entries
        assert (await commit(store, again, accepted(2))).number == head.number + 1
        assert (await store.verify()).faults == ()


async def anybody_may_look_at_what_is_live(opener: Opener) -> None:
    """Without a lease: the same rows as a new reign would get, as of the last commit; nobody is fenced off."""
    async with leading(opener) as (store, lease):
        assert await store.load(None) == await store.load(lease)
        await commit(store, lease, added("a"), accepted(1), progress(1, "train", (0,)), accepted(2), ended(2))
        async with opened(opener) as other:
            seen = await other.load(None)
        assert seen == await store.load(lease)
        assert seen.rows.workflows.keys() == {1}
        assert (await commit(store, lease, accepted(3))).number == seen.head.number + 1


async def a_cancelled_caller_leaves_no_half_commit(opener: Opener) -> None:
    async with leading(opener) as (store, lease):
        asked = [batch(lease.epoch, 1, added("a"), accepted(1)), batch(lease.epoch, 2, accepted(2))]
        callers = [asyncio.create_task(_swallow(store.commit(one))) for one in asked]
        await asyncio.wait(callers, timeout=0)  # lets them begin
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        for one in asked[(await store.head()).number :]:  # `head` tells what became of them
            await store.commit(one)
        assert (await store.head()).number == 2
        assert len(await all_entries(store)) == 3
        assert (await store.verify()).faults == ()


async def _swallow(awaitable: Awaitable[Head]) -> Head | None:
    try:
        return await awaitable
    except asyncio.CancelledError:
        return None


async def a_closed_store_says_so(opener: Opener) -> None:
    store = await opener()
    await store.close()
    await store.close()
    await raises(Unavailable, store.head())
    await raises(Unavailable, store.hold("me", "", TTL_MS, 0))
    await raises(Unavailable, store.commit(batch(1, 1)))
    await raises(Unavailable, store.verify())


# --------------------------------------------------------------------------------------------------------- the story


async def every_event_comes_back_as_it_was(opener: Opener) -> None:
    assert {type(event) for event in SAMPLES} == set(get_args(AnyEvent)), "a kind of event has no sample"
    async with leading(opener) as (store, lease):
        await commit(store, lease, accepted(7))
        await commit(store, lease, Part(list(SAMPLES), added("b").rows))
        await commit(store, lease, Part(list(reversed(SAMPLES))))
        told = [event for entry in await all_entries(store) for event in entry.events]
        assert told == [*accepted(7).events, *SAMPLES, *reversed(SAMPLES)]
        verdict = await store.verify()
        assert (verdict.commits, verdict.events, verdict.faults) == (3, len(told), ())


async def entries_are_runs_of_one_workflow(opener: Opener) -> None:
    async with leading(opener) as (store, lease):
        parts = (added("a"), accepted(1), accepted(2), progress(1, "t", (0,)), progress(1, "u", (0,)), inventory("n1"))
        await commit(store, lease, *parts)
        entries = await store.read_story((0, 0))
        assert [(entry.number, entry.index, len(entry.events)) for entry in entries] == [
            (1, 0, 1), (1, 1, 2), (1, 3, 2), (1, 5, 4), (1, 9, 1),
        ]  # fmt: skip
        assert {entry.at_ms for entry in entries} == {AT_MS + 1000}
        assert isinstance(entries[0].events[0], SpecAdded)
        ours = await store.read_story((0, 0), workflow=1)
        assert [(entry.number, entry.index) for entry in ours] == [(1, 1), (1, 5)]
        assert await store.read_story((0, 0), workflow=3) == []


async def reading_goes_on_after_any_position(opener: Opener) -> None:
    async with leading(opener) as (store, lease):
        await commit(store, lease, added("a"), accepted(1), accepted(2))
        await commit(store, lease, progress(1, "t", (0, 1)), progress(2, "t", (0,)), inventory("n1"))
        for workflow in (0, 1, 2):
            whole = await store.read_story((0, 0), workflow=workflow)
            places = [(entry.number, entry.index + offset, event)
                      for entry in whole for offset, event in enumerate(entry.events)]  # fmt: skip
            for number in range(4):
                for index in range(9):
                    left = await store.read_story((number, index), workflow=workflow)
                    told = [(entry.number, entry.index + offset, event)
                            for entry in left for offset, event in enumerate(entry.events)]  # fmt: skip
                    assert told == [place for place in places if place[:2] > (number, index)]
                    for limit in (0, 1, 2):
                        page = await store.read_story((number, index), workflow=workflow, limit=limit)
                        assert page == left[:limit]


# --------------------------------------------------------------------------------------------------------- listings


async def listings_are_paged_newest_first(opener: Opener) -> None:
    async with leading(opener) as (store, lease):
        await commit(store, lease, added("a"), *(accepted(workflow) for workflow in range(1, 21)))
        await commit(store, lease, *(ended(workflow, "failed") for workflow in (3, 4, 9)), ended(12))
        everything = await store.list_workflows(ListQuery())
        assert [one.workflow for one in everything] == list(range(20, 0, -1))
        assert everything[11].state == "failed"
        assert not everything[11].live
        for query in (
            ListQuery(project="project-1"),
            ListQuery(name="name-2"),
            ListQuery(name="name-2", number=3),
            ListQuery(by="user-1", project="project-0"),
            ListQuery(states=("failed",)),
            ListQuery(states=("failed", "running"), project="project-1"),
            ListQuery(states=("no-such-state",)),
            ListQuery(before=10),
        ):
            expected = [
                one
                for one in everything
                if (not query.project or one.project == query.project)
                and (not query.name or one.name == query.name)
                and (not query.number or one.number == query.number)
                and (not query.by or one.by == query.by)
                and (not query.states or one.state in query.states)
                and (not query.before or one.workflow < query.before)
            ]
            assert await _paged(store, query, 100) == expected
            assert await _paged(store, query, 3) == expected


async def _paged(store: Store, query: ListQuery, limit: int) -> list[object]:
    found: list[object] = []
    before = query.before
    while page := await store.list_workflows(
        ListQuery(query.project, query.name, query.number, query.states, query.by, before, limit)
    ):
        assert len(page) <= limit
        found += page
        before = page[-1].workflow
    return found


# --------------------------------------------------------------------------------------------------------- retention


async def retention_follows_the_policy(opener: Opener) -> None:
    async with leading(opener) as (store, lease):
        await commit(store, lease, added("a"), *(accepted(workflow) for workflow in range(1, 8)))
        await commit(
            store,
            lease,
            ended(1, "succeeded", AT_MS),
            ended(2, "succeeded", AT_MS - 5),
            ended(3, "failed", AT_MS),
            ended(4, "cancelled", AT_MS - 1),
            ended(5, "failed", AT_MS, keep_ms=10),
            ended(6, "succeeded", AT_MS, keep_ms=10 * DAY_MS),
        )
        assert await store.sweep(AT_MS + 9, 0, 0, 100) == []
        assert await store.sweep(AT_MS + 10, 0, 0, 100) == [5]
        assert await store.sweep(AT_MS + DAY_MS - 6, DAY_MS, 0, 100) == []
        assert await store.sweep(AT_MS + DAY_MS, DAY_MS, DAY_MS, 0) == []
        assert await store.sweep(AT_MS + DAY_MS, DAY_MS, DAY_MS, 3) == [2, 4, 1]  # longest due first
        assert await store.sweep(AT_MS + DAY_MS, DAY_MS, DAY_MS, 3) == [3]
        assert await store.sweep(AT_MS + 9 * DAY_MS, DAY_MS, DAY_MS, 3) == []
        assert [one.workflow for one in await store.list_workflows(ListQuery())] == [7, 6]


async def retention_removes_all_of_a_workflow_and_nothing_else(opener: Opener) -> None:
    async with leading(opener) as (store, lease):
        await commit(store, lease, added("a"), accepted(1), accepted(2), added("b"), accepted(3, "b"))
        await commit(store, lease, progress(1, "t", range(20)), progress(2, "t", (0,)), ended(1), ended(3))
        kept = await store.read_workflow(2)
        story = await store.read_story((0, 0), workflow=2)
        assert await store.sweep(AT_MS + 1, 1, 1, 10) == [1, 3]
        assert await store.read_workflow(1) == Rows()
        assert await store.read_story((0, 0), workflow=1) == []
        assert await store.read_workflow(2) == kept
        assert await store.read_story((0, 0), workflow=2) == story
        documents = [e.digest for entry in await all_entries(store) for e in entry.events if isinstance(e, SpecAdded)]
        assert documents == ["a"]  # nobody uses "b" any more
        assert (await store.verify()).faults == ()
        await commit(store, lease, added("b"), accepted(4, "b"))
        assert (await store.read_workflow(4)).specs == added("b").rows.specs
        assert (await store.verify()).faults == ()
        await raises(Fenced, commit(store, lease, reopened(1)))  # decided on rows that are gone


async def retention_trims_the_front_of_the_story(opener: Opener) -> None:
    quota = QuotaChanged("lab", "gpus", Quota(8_000), "me")
    async with leading(opener) as (store, lease):
        await commit(store, lease, inventory("n1"))
        await commit(store, lease, added("a"), accepted(1))
        await commit(store, lease, inventory("n1", "n2"))
        await commit(store, lease, ended(1))
        await commit(store, lease, inventory("n2"))
        await commit(store, lease, Part([quota]))
        await commit(store, lease, added("a"), accepted(2))
        await commit(store, lease, inventory("n3"))
        assert await store.sweep(AT_MS + 1, 1, 1, 10) == [1]
        left = await all_entries(store)
        assert [entry.number for entry in left if isinstance(entry.events[0], NodesChanged)] == [5, 8]
        assert [entry.number for entry in left if entry.events == (quota,)] == [6], "nothing replaces it"
        verdict = await store.verify()
        assert verdict.faults == ()
        assert verdict.commits == 2  # 7 and 8: everything before belongs to no workflow
        await commit(store, lease, ended(2))
        assert await store.sweep(AT_MS + 1, 1, 1, 10) == [2]
        verdict = await store.verify()
        assert (verdict.commits, verdict.faults) == (1, ())  # the head stays: the next one is chained to it
        assert (await commit(store, lease, accepted(3))).number == 10
        assert (await store.verify()).faults == ()


CHECKS: tuple[Check, ...] = (
    empty_store_answers,
    a_free_lease_is_taken_at_once,
    a_silent_holder_is_succeeded_after_its_time,
    a_commit_proves_life,
    an_old_epoch_is_fenced,
    only_the_next_number_is_taken,
    rows_are_replaced_and_only_live_ones_load,
    large_batches_are_whole,
    what_was_committed_is_there_for_the_next_process,
    a_cancelled_caller_leaves_no_half_commit,
    a_closed_store_says_so,
    every_event_comes_back_as_it_was,
    entries_are_runs_of_one_workflow,
    reading_goes_on_after_any_position,
    listings_are_paged_newest_first,
    retention_follows_the_policy,
    retention_removes_all_of_a_workflow_and_nothing_else,
    retention_trims_the_front_of_the_story,
)
