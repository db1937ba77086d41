"""Watching: ordered, unique, atomic per commit, resumable, or an explicit gap (S19); one workflow only (S23)."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from world import World, ended, failing, lasting, pages, reign_of, run, submit, task

from ffd.api.engine import WatchPage
from ffd.core.commands import Cancel, Retry
from ffd.daemon.publisher import LAST, Subscription, position_of
from ffd.daemon.tree import Daemon
from ffd.errors import Refusal, Unavailable
from ffd.settings import Limits


def flat(found: list[WatchPage]) -> list[tuple[int, int, str]]:
    return [(event.number, event.index, event.kind) for page in found for event in page.events]


async def everything(daemon: Daemon, workflow: int, token: str = "0.0") -> list[WatchPage]:
    return [page async for page in daemon.engine.watch(workflow, token)]


@run
async def test_a_watcher_sees_every_event_of_its_workflow_once_and_in_order() -> None:
    async with World().daemon() as daemon:
        answer = await submit(daemon, task("a"), task("b", "a"), lasting("c", "5s", "b"))
        other = await submit(daemon, lasting("x", "2s"), name="other")
        found = await everything(daemon, answer.workflow)
        events = flat(found)
        assert events == sorted(set(events))
        assert events[0][2] == "WorkflowAccepted"
        assert [kind for _, _, kind in events][-2:] == ["WorkflowEnded", "WorkflowForgotten"]
        assert {event.workflow for page in found for event in page.events} == {answer.workflow}
        assert {event.handle for page in found for event in page.events} == {"wf.1"}
        assert await ended(daemon, other.workflow) == "succeeded"
        assert flat(await everything(daemon, answer.workflow)) == events  # from the story, the same
        story = await daemon.engine.story(answer.workflow, "0.0", limit=10_000)
        assert flat([story]) == events
        assert (await daemon.engine.story(answer.workflow, story.token)).events == ()


@run
async def test_a_page_holds_a_whole_commit_also_from_the_story() -> None:
    async with World().daemon() as daemon:
        answer = await submit(daemon, *[task(f"t{number}") for number in range(50)])
        live = await everything(daemon, answer.workflow)
        again = await everything(daemon, answer.workflow)
        for found in (live, again):
            numbers = [{event.number for event in page.events} for page in found]
            assert all(len(one) == 1 for one in numbers)
            assert len(numbers) == len({min(one) for one in numbers})


@run
async def test_every_token_resumes_without_gap_or_duplicate() -> None:
    world = World()
    async with world.daemon() as daemon:
        answer = await submit(daemon, lasting("a", "1s"), lasting("b", "1s", "a"), lasting("c", "1s", "b"))
        whole = await everything(daemon, answer.workflow)
    async with world.daemon(owner="two") as daemon:
        for position, page in enumerate(whole):
            rest = await everything(daemon, answer.workflow, page.token)
            assert flat(rest) == flat(whole[position + 1 :])


@run
async def test_resuming_while_commits_go_on_loses_nothing() -> None:
    async with World().daemon() as daemon:
        answer = await submit(daemon, lasting("t0", "1s"), *[lasting(f"t{n}", "1s", f"t{n - 1}") for n in range(1, 30)])
        found: list[WatchPage] = []
        token, is_over = "0.0", False
        while not is_over:
            async for page in daemon.engine.watch(answer.workflow, token):
                found.append(page)
                token = page.token
                if any(event.kind == "TaskEnded" for event in page.events):
                    break  # the connection is lost
            is_over = any(event.kind == "WorkflowForgotten" for event in found[-1].events)
        assert flat(found) == flat(await everything(daemon, answer.workflow))


@run
async def test_a_slow_watcher_gets_one_gap_and_goes_on() -> None:
    async with World().daemon(limits=Limits(watch_backlog_count=4)) as daemon:
        stream = daemon.engine.watch(0)
        first = await submit(daemon, name="first")
        with anyio.move_on_after(1):
            await anext(stream)  # subscribes; nothing happens meanwhile
        stream = daemon.engine.watch(0, str(reign_of(daemon).publisher.number))
        waiting = anyio.Event()

        async def read_one() -> None:
            page = await anext(stream)
            assert not page.gap
            waiting.set()

        async with anyio.create_task_group() as group:
            group.start_soon(read_one)
            await anyio.sleep(1)
            await submit(daemon, name="second")
            await waiting.wait()
        for number in range(20):  # nobody reads
            await ended(daemon, (await submit(daemon, name=f"w{number}")).workflow)
        page = await anext(stream)
        assert page.gap and page.events == ()
        after = await anext(stream)
        assert not after.gap
        assert (after.events[0].number, 0) > tuple(int(part) for part in page.token.split("."))
        assert "ffd_watch_gaps_total 1.0" in daemon.engine.metrics()
        await stream.aclose()
        assert first.handle == "first.1"


@run
async def test_a_watcher_that_falls_behind_a_burst_catches_up_without_a_gap() -> None:
    async with World().daemon(limits=Limits(watch_backlog_count=30)) as daemon:
        stream = daemon.engine.watch(0, "0.0")
        found = [await anext(stream)]
        for number in range(12):  # nobody reads
            await ended(daemon, (await submit(daemon, name=f"w{number}")).workflow)
        last = reign_of(daemon).publisher.number
        while found[-1].events[-1].number < last:
            found.append(await anext(stream))
        assert not any(page.gap for page in found)
        assert len(flat(found)) > 5 * 30
        assert flat(found) == flat([await whole(daemon)])
        await stream.aclose()


async def whole(daemon: Daemon) -> WatchPage:
    """The story of everything."""
    return await reign_of(daemon).publisher.story(0, (0, 0), 1_000_000)


@run
async def test_one_commit_larger_than_the_backlog_is_still_seen() -> None:
    subscription = Subscription(1, 0, limit_count=3)
    from ffd.daemon.publisher import Commit

    subscription.push(Commit(1, 0, [(index, None) for index in range(9)]))  # type: ignore[misc]
    assert subscription.lost is None
    found = subscription.pop()
    assert found is not None and len(found.events) == 9


@run
async def test_watching_an_ended_workflow_ends() -> None:
    async with World().daemon() as daemon:
        answer = await submit(daemon)
        await ended(daemon, answer.workflow)
        assert await everything(daemon, answer.workflow, "") == []
        last = (await everything(daemon, answer.workflow))[-1]
        assert await everything(daemon, answer.workflow, last.token) == []


@run
async def test_a_retried_workflow_is_watched_to_its_second_end() -> None:
    async with World().daemon() as daemon:
        answer = await submit(daemon, failing("a"))
        first = await everything(daemon, answer.workflow)
        await daemon.engine.ask(Retry(workflow=answer.workflow))
        second = await everything(daemon, answer.workflow)
        kinds = [kind for _, _, kind in flat(second)]
        assert kinds.count("WorkflowForgotten") == 2 and kinds[-1] == "WorkflowForgotten"
        assert flat(second)[: len(flat(first))] == flat(first)


@run
async def test_the_end_that_is_decided_but_not_durable_is_not_missed() -> None:
    """A watcher that comes while the commit with the end is under way must still get it."""
    world = World()
    parts = world.parts()
    async with world.daemon(parts) as daemon:
        answer = await submit(daemon, lasting("a", "1h"))
        await pages(daemon.engine.watch(answer.workflow, "0.0"), "AttemptRunning")
        gate, reached = anyio.Event(), anyio.Event()

        async def hold() -> None:
            reached.set()
            await gate.wait()

        parts.failpoints.arm("commit.after", hold)
        token = f"{reign_of(daemon).publisher.number}"
        found: list[WatchPage] = []

        async def watch() -> None:
            found.extend(await everything(daemon, answer.workflow, token))

        async with anyio.create_task_group() as group:
            group.start_soon(daemon.engine.ask, Cancel(workflow=answer.workflow, now=True))
            await reached.wait()
            group.start_soon(watch)
            await anyio.sleep(60)
            assert found == []
            parts.failpoints.disarm("commit.after")
            gate.set()
        assert flat(found)[-1][2] == "WorkflowForgotten"


@run
async def test_watchers_are_told_when_the_leader_steps_down() -> None:
    world = World()
    outcome: list[str] = []
    async with world.daemon() as daemon:
        answer = await submit(daemon, lasting("a", "1h"))

        async def watch() -> None:
            try:
                await everything(daemon, answer.workflow)
            except Unavailable as error:
                outcome.append(error.code)

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await anyio.sleep(1)
            daemon.stop()
    assert outcome == ["unavailable"]
    assert len(reign_count(daemon)) == 0


def reign_count(daemon: Daemon) -> list[object]:
    return [daemon.engine.reign] if daemon.engine.reign else []


@run
async def test_a_watcher_that_leaves_is_forgotten() -> None:
    async with World().daemon() as daemon:
        answer = await submit(daemon, lasting("a", "1h"))
        stream = daemon.engine.watch(answer.workflow, "0.0")
        await anext(stream)
        assert len(reign_of(daemon).publisher) == 1
        await stream.aclose()
        assert len(reign_of(daemon).publisher) == 0


def test_tokens() -> None:
    assert position_of("") is None
    assert position_of("0.0") == (0, 0)
    assert position_of("12.3") == (12, 3)
    assert position_of("12") == (12, LAST)
    for text in ("x", "1.", ".1", "1.2.3", "-1.0", "1.x", "٣.0", "9" * 40, "1 .0"):
        with pytest.raises(Refusal) as caught:
            position_of(text)
        assert caught.value.field == "token"
