"""The inbox: bounded, in order, honest to those who wait."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from world import run, submit_of

from ffd.core.commands import Done
from ffd.core.model import AttemptId
from ffd.core.reports import Poke, ReplicaStarted
from ffd.daemon.failpoints import Failpoints
from ffd.daemon.inbox import Inbox, settle
from ffd.errors import Refusal, Unavailable


def started(rank: int) -> ReplicaStarted:
    return ReplicaStarted(AttemptId(1, "a", 0, 1), rank)


def inbox_of(count: int = 4) -> Inbox:
    return Inbox(count, Failpoints())


@run
async def test_entries_come_out_in_the_order_they_came_in() -> None:
    inbox = inbox_of(10)
    await inbox.report([started(rank) for rank in range(5)])
    assert [entry.given.rank for entry in await inbox.take(3)] == [0, 1, 2]  # type: ignore[union-attr]
    assert [entry.given.rank for entry in await inbox.take(3)] == [3, 4]  # type: ignore[union-attr]


@run
async def test_a_full_inbox_refuses_commands_and_makes_reporters_wait() -> None:
    inbox = inbox_of(4)
    reported: list[str] = []

    async def reporter() -> None:
        await inbox.report([started(rank) for rank in range(10)])
        reported.append("all")

    async with anyio.create_task_group() as group:
        group.start_soon(reporter)
        await anyio.lowlevel.checkpoint()
        assert len(inbox) == 4 and reported == []
        with pytest.raises(Unavailable) as caught:
            await inbox.ask(submit_of())
        assert caught.value.field == "limits.inbox_count"
        ranks = []
        while len(ranks) < 10:
            ranks += [entry.given.rank for entry in await inbox.take(4)]  # type: ignore[union-attr]
            await anyio.lowlevel.checkpoint()
    assert ranks == list(range(10)) and reported == ["all"]


@run
async def test_only_one_poke_waits() -> None:
    inbox = inbox_of(1)
    await inbox.report([started(0)])
    inbox.poke()
    inbox.poke()
    assert [type(entry.given) for entry in await inbox.take(9)] == [ReplicaStarted, Poke]
    inbox.poke()
    assert [type(entry.given) for entry in await inbox.take(9)] == [Poke]


@run
async def test_commands_are_refused_while_the_storage_is_full_and_reports_are_kept() -> None:
    inbox = inbox_of()
    caught: list[Refusal] = []

    async def ask() -> None:
        try:
            await inbox.ask(submit_of())
        except Refusal as error:
            caught.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        await inbox.report([started(0)])
        inbox.refuse_commands(Refusal("full", code="storage_full"))
        group.start_soon(ask)
    assert [error.code for error in caught] == ["storage_full", "storage_full"]
    assert caught[0] is not caught[1]
    assert [entry.given for entry in await inbox.take(9)] == [started(0)]


@run
async def test_a_closed_inbox_answers_everybody() -> None:
    inbox = inbox_of(1)
    outcomes: list[str] = []

    async def tell(rank: int) -> None:
        try:
            await inbox.tell(started(rank))
        except Unavailable as error:
            outcomes.append(error.message)

    async with anyio.create_task_group() as group:
        group.start_soon(tell, 0)  # waits for its answer
        group.start_soon(tell, 1)  # waits for room
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        inbox.close(Unavailable("over"))
    assert outcomes == ["over", "over"]
    with pytest.raises(Unavailable, match="over"):
        await inbox.ask(submit_of())


@run
async def test_an_answer_for_somebody_who_left_is_dropped() -> None:
    inbox = inbox_of()
    with anyio.move_on_after(1):
        await inbox.ask(submit_of())
    entry = (await inbox.take(1))[0]
    settle(entry.waiter, Done(1, "wf.1", "running"))
    assert entry.waiter is not None and entry.waiter.cancelled()
