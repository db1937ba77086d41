"""What `ports.Runtime` promises, as checks. A `World` is what the runtimes under test share: a machine or a cluster, on
which a daemon may end and another begin.

Every check gets an empty world of its own and closes what it opens. Nothing here sleeps: checks wait for reports.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec

from ffd.core.effects import Launch
from ffd.core.model import AttemptId
from ffd.core.reports import AnyReport, LaunchFailed, ReplicaExited, ReplicaStarted
from ffd.plugins.ports import Found, Runtime

PATIENCE_S = 60.0  # after this a promise counts as broken
NEVER_MS = 3_600_000
TERM, KILL = 15, 9
CREDENTIALS = {"FFD_ADDRESS": "unix:/nowhere", "FFD_TOKEN": "t"}


class Wish(msgspec.Struct, frozen=True):
    """What a replica shall do: at once, or when the world says `finish` (`waits`), end with `exit_code` and these
    outputs. `ignores_term`: only KILL ends it. `cannot_start`: its launch fails, by the user's fault."""

    exit_code: int = 0
    outputs: tuple[tuple[str, str], ...] = ()
    waits: bool = False
    ignores_term: bool = False
    cannot_start: bool = False


class World(Protocol):
    """What runs, apart from who looks at it."""

    async def open(self) -> Runtime:
        """One more runtime on this world, as another daemon would have."""
        ...

    def order(self, attempt: AttemptId, wish: Wish, replicas: int = 1) -> Launch:
        """An order whose replicas do as wished."""
        ...

    async def ready(self, attempt: AttemptId, rank: int) -> None:
        """Return when a started replica that waits does as wished, signals included. Once per replica."""
        ...

    async def finish(self, found: Found) -> None:
        """Let a replica that waits end; returns when it has."""
        ...

    def starts(self, attempt: AttemptId, rank: int) -> int:
        """How often the command of this replica really began."""
        ...


Check = Callable[[World], Awaitable[None]]


class Watched:
    """A runtime and everything it told so far, in order."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.reports: list[AnyReport] = []
        self._told = runtime.watch()

    async def until(self, enough: Callable[[list[AnyReport]], bool]) -> None:
        """Wait until what was told is enough."""
        async with asyncio.timeout(PATIENCE_S):
            while not enough(self.reports):
                self.reports += await anext(self._told)

    async def exits(self, attempt: AttemptId, count: int = 1) -> list[ReplicaExited]:
        """The first `count` exits of an attempt, by rank; duplicates of a rank are counted too."""
        await self.until(lambda told: len(exits_of(told, attempt)) >= count)
        return sorted(exits_of(self.reports, attempt)[:count], key=lambda report: report.rank)

    async def started(self, attempt: AttemptId, count: int = 1) -> None:
        """Wait until `count` starts of an attempt were told."""
        await self.until(lambda told: len(starts_of(told, attempt)) >= count)

    async def launch(self, order: Launch) -> None:
        await self.runtime.launch(order, lambda: dict(CREDENTIALS))


def exits_of(told: list[AnyReport], attempt: AttemptId) -> list[ReplicaExited]:
    return [report for report in told if isinstance(report, ReplicaExited) and report.attempt == attempt]


def starts_of(told: list[AnyReport], attempt: AttemptId) -> list[ReplicaStarted]:
    return [report for report in told if isinstance(report, ReplicaStarted) and report.attempt == attempt]


@asynccontextmanager
async def opened(world: World) -> AsyncIterator[Watched]:
    """A runtime as a daemon uses it: listed once, then watched by one consumer, closed at the end."""
    runtime = await world.open()
    try:
        yield Watched(runtime)
    finally:
        await runtime.close()


def attempt_of(task: str, number: int = 1, item: int = 0) -> AttemptId:
    return AttemptId(7, task, item, number)


async def launched_waiting(watched: Watched, world: World, attempt: AttemptId, replicas: int = 1) -> list[Found]:
    """Start replicas that wait; returns them when all do."""
    await watched.launch(world.order(attempt, Wish(waits=True), replicas))
    await watched.started(attempt, replicas)
    for rank in range(replicas):
        await world.ready(attempt, rank)
    return [found for found in await watched.runtime.list() if found.attempt == attempt]


# ------------------------------------------------------------------------------------------------ starting, ending


async def a_replica_starts_and_then_exits(world: World) -> None:
    async with opened(world) as watched:
        attempt = attempt_of("a")
        await watched.launch(world.order(attempt, Wish()))
        (exited,) = await watched.exits(attempt)
        assert (exited.rank, exited.exit_code, exited.signal, exited.kind) == (0, 0, 0, ""), exited
        assert [type(report) for report in watched.reports] == [ReplicaStarted, ReplicaExited]


async def a_failure_has_its_exit_code(world: World) -> None:
    async with opened(world) as watched:
        attempt = attempt_of("a")
        await watched.launch(world.order(attempt, Wish(exit_code=3)))
        (exited,) = await watched.exits(attempt)
        assert (exited.exit_code, exited.signal, exited.kind) == (3, 0, ""), exited


async def a_gang_reports_each_rank(world: World) -> None:
    async with opened(world) as watched:
        attempt = attempt_of("gang")
        await watched.launch(world.order(attempt, Wish(), 4))
        exits = await watched.exits(attempt, 4)
        assert [exited.rank for exited in exits] == [0, 1, 2, 3]
        for rank in range(4):
            kinds = [type(report) for report in watched.reports if getattr(report, "rank", -1) == rank]
            assert kinds == [ReplicaStarted, ReplicaExited], kinds
            assert world.starts(attempt, rank) == 1


async def outputs_come_with_the_exit(world: World) -> None:
    async with opened(world) as watched:
        attempt = attempt_of("a")
        outputs = (("rows", "12"), ("name", "a=b c"), ("rows", "13"))
        await watched.launch(world.order(attempt, Wish(outputs=outputs)))
        (exited,) = await watched.exits(attempt)
        assert exited.outputs == outputs, exited
        assert exited.output_fault == ""


async def what_cannot_start_is_told(world: World) -> None:
    async with opened(world) as watched:
        attempt = attempt_of("a")
        await watched.launch(world.order(attempt, Wish(cannot_start=True), 2))
        await watched.until(lambda told: len(told) >= 2)
        assert [type(report) for report in watched.reports] == [LaunchFailed, LaunchFailed]
        assert all(isinstance(told, LaunchFailed) and told.kind == "error" and told.message for told in watched.reports)
        assert await watched.runtime.list() == []


async def many_at_once_are_all_told(world: World) -> None:
    async with opened(world) as watched:
        attempts = [attempt_of("many", item=item) for item in range(40)]
        for attempt in attempts:
            await watched.launch(world.order(attempt, Wish(exit_code=attempt.item % 3)))
        for attempt in attempts:
            (exited,) = await watched.exits(attempt)
            assert exited.exit_code == attempt.item % 3


# ----------------------------------------------------------------------------------------------------- idempotency


async def launching_twice_starts_once(world: World) -> None:
    async with opened(world) as watched:
        attempt = attempt_of("a")
        order = world.order(attempt, Wish(waits=True, exit_code=5))
        await watched.launch(order)
        await watched.started(attempt)
        await watched.launch(order)
        await watched.started(attempt, 2)
        await world.ready(attempt, 0)
        await world.finish((await watched.runtime.list())[0])
        (exited,) = await watched.exits(attempt)
        assert exited.exit_code == 5
        await watched.launch(order)
        again = await watched.exits(attempt, 2)
        assert [report.exit_code for report in again] == [5, 5]
        assert world.starts(attempt, 0) == 1


async def a_late_launch_completes_a_gang(world: World) -> None:
    """A daemon died between two starts of one gang: the next launches it again."""
    async with opened(world) as watched:
        attempt = attempt_of("gang")
        await launched_waiting(watched, world, attempt)
        await watched.launch(world.order(attempt, Wish(waits=True), 3))
        await watched.until(lambda told: {report.rank for report in starts_of(told, attempt)} == {0, 1, 2})
        for rank in (1, 2):
            await world.ready(attempt, rank)
        assert [world.starts(attempt, rank) for rank in range(3)] == [1, 1, 1]
        await watched.runtime.stop(attempt, 3, 0, "cancelled")
        await watched.exits(attempt, 3)


async def what_never_ran_is_lost_when_only_a_report_is_asked(world: World) -> None:
    async with opened(world) as watched:
        attempt = attempt_of("gang")
        order = world.order(attempt, Wish(waits=True), 2)
        await launched_waiting(watched, world, attempt)
        seen = len(watched.reports)
        await watched.launch(msgspec.structs.replace(order, report_only=True))
        (exited,) = await watched.exits(attempt)
        assert (exited.rank, exited.kind) == (1, "node-lost"), exited
        assert [type(told) for told in watched.reports[seen:]] == [ReplicaStarted, ReplicaExited]
        assert world.starts(attempt, 1) == 0
        await watched.runtime.stop(attempt, 1, 0, "cancelled")
        await watched.exits(attempt, 2)


# --------------------------------------------------------------------------------------------------------- stopping


async def stopping_ends_every_rank(world: World) -> None:
    async with opened(world) as watched:
        attempt = attempt_of("gang")
        await launched_waiting(watched, world, attempt, 3)
        await watched.runtime.stop(attempt, 3, NEVER_MS, "cancelled")
        exits = await watched.exits(attempt, 3)
        assert [(exited.rank, exited.signal) for exited in exits] == [(0, TERM), (1, TERM), (2, TERM)], exits
        assert await watched.runtime.list() == []


async def what_ignores_term_is_killed_after_the_grace(world: World) -> None:
    async with opened(world) as watched:
        attempt = attempt_of("a")
        await watched.launch(world.order(attempt, Wish(waits=True, ignores_term=True)))
        await watched.started(attempt)
        await world.ready(attempt, 0)
        await watched.runtime.stop(attempt, 1, 50, "preempted")
        (exited,) = await watched.exits(attempt)
        assert exited.signal == KILL, exited


async def a_shorter_grace_wins(world: World) -> None:
    async with opened(world) as watched:
        attempt = attempt_of("a")
        await watched.launch(world.order(attempt, Wish(waits=True, ignores_term=True)))
        await watched.started(attempt)
        await world.ready(attempt, 0)
        await watched.runtime.stop(attempt, 1, NEVER_MS, "preempted")
        await watched.runtime.stop(attempt, 1, 0, "cancelled")
        await watched.runtime.stop(attempt, 1, NEVER_MS, "cancelled")
        (exited,) = await watched.exits(attempt)
        assert exited.signal == KILL, exited


async def what_never_started_can_be_stopped(world: World) -> None:
    async with opened(world) as watched:
        attempt = attempt_of("gang")
        await watched.runtime.stop(attempt, 2, 0, "cancelled")
        exits = await watched.exits(attempt, 2)
        assert [exited.rank for exited in exits] == [0, 1]
        await watched.launch(world.order(attempt, Wish(), 2))
        await watched.exits(attempt, 4)
        assert [world.starts(attempt, rank) for rank in (0, 1)] == [0, 0], "it was stopped, and yet it started"


async def what_is_gone_can_be_stopped(world: World) -> None:
    async with opened(world) as watched:
        attempt = attempt_of("a")
        await watched.launch(world.order(attempt, Wish(exit_code=4)))
        await watched.exits(attempt)
        await watched.runtime.stop(attempt, 1, NEVER_MS, "cancelled")
        again = await watched.exits(attempt, 2)
        assert [exited.exit_code for exited in again] == [4, 4]


# --------------------------------------------------------------------------------------------------- another daemon


async def another_daemon_adopts_what_lives(world: World) -> None:
    attempts = [attempt_of("a", item=item) for item in range(3)]
    async with opened(world) as watched:
        for attempt in attempts:
            await launched_waiting(watched, world, attempt)
    async with opened(world) as watched:
        found = await watched.runtime.list()
        assert [(one.attempt, one.rank) for one in found] == [(attempt, 0) for attempt in attempts]
        await world.finish(found[1])
        await watched.exits(attempts[1])
        assert [one.attempt for one in await watched.runtime.list()] == [attempts[0], attempts[2]]
        for attempt in (attempts[0], attempts[2]):
            await watched.runtime.stop(attempt, 1, NEVER_MS, "cancelled")
            (exited,) = await watched.exits(attempt)
            assert exited.signal == TERM, exited
        assert all(world.starts(attempt, 0) == 1 for attempt in attempts)


async def another_daemon_learns_what_ended_meanwhile(world: World) -> None:
    attempt = attempt_of("a")
    async with opened(world) as watched:
        await watched.launch(world.order(attempt, Wish(waits=True, exit_code=6, outputs=(("x", "1"),))))
        await watched.started(attempt)
        await world.ready(attempt, 0)
        (found,) = await watched.runtime.list()
    await world.finish(found)
    async with opened(world) as watched:
        assert await watched.runtime.list() == []
        (exited,) = await watched.exits(attempt)
        assert (exited.exit_code, exited.outputs) == (6, (("x", "1"),)), exited


async def exits_are_told_until_they_are_forgotten(world: World) -> None:
    attempts = [attempt_of("a", item=item) for item in range(3)]
    async with opened(world) as watched:
        for attempt in attempts:
            await watched.launch(world.order(attempt, Wish(exit_code=attempt.item)))
            await watched.exits(attempt)
        await watched.runtime.forget([attempts[1]])
    async with opened(world) as watched:
        assert await watched.runtime.list() == []
        await watched.until(lambda told: len(told) >= 2)
        told = {report.attempt: report.exit_code for report in watched.reports if isinstance(report, ReplicaExited)}
        assert told == {attempts[0]: 0, attempts[2]: 2}, told
        await watched.runtime.forget([attempts[0], attempts[2], attempt_of("unknown")])
    async with opened(world) as watched:
        assert await watched.runtime.list() == []
        last = attempt_of("last")
        await watched.launch(world.order(last, Wish()))
        await watched.exits(last)
        assert {report.attempt for report in watched.reports if isinstance(report, ReplicaExited)} == {last}


async def what_lives_is_not_forgotten(world: World) -> None:
    attempt = attempt_of("gang")
    async with opened(world) as watched:
        await watched.launch(world.order(attempt, Wish(waits=True), 2))
        await watched.started(attempt, 2)
        for rank in (0, 1):
            await world.ready(attempt, rank)
        found = await watched.runtime.list()
        await world.finish(found[0])
        await watched.exits(attempt)
        await watched.runtime.forget([attempt])
        assert [one.rank for one in await watched.runtime.list()] == [1]
    async with opened(world) as watched:
        (found_again,) = await watched.runtime.list()
        assert found_again.rank == 1
        await world.finish(found_again)
        (exited,) = await watched.exits(attempt)
        assert exited.rank == 1


async def another_daemon_reports_what_it_is_told_to_report(world: World) -> None:
    living, ended = attempt_of("living"), attempt_of("ended")
    orders = [world.order(living, Wish(waits=True)), world.order(ended, Wish(exit_code=2))]
    async with opened(world) as watched:
        for order in orders:
            await watched.launch(order)
        await watched.exits(ended)
        await world.ready(living, 0)
    async with opened(world) as watched:
        await watched.runtime.list()
        for order in orders:
            await watched.launch(msgspec.structs.replace(order, report_only=True))
        await watched.started(living)
        assert {exited.exit_code for exited in await watched.exits(ended)} == {2}
        assert (world.starts(living, 0), world.starts(ended, 0)) == (1, 1)
        await watched.runtime.stop(living, 1, 0, "cancelled")
        await watched.exits(living)


async def the_inventory_is_sorted(world: World) -> None:
    async with opened(world) as watched:
        nodes = await watched.runtime.inventory()
        names = [node.name for node in nodes]
        assert names and names == sorted(names) and max(Counter(names).values()) == 1, names
        assert all(node.slot_count > 0 for node in nodes)


CHECKS: tuple[Check, ...] = (
    a_replica_starts_and_then_exits,
    a_failure_has_its_exit_code,
    a_gang_reports_each_rank,
    outputs_come_with_the_exit,
    what_cannot_start_is_told,
    many_at_once_are_all_told,
    launching_twice_starts_once,
    a_late_launch_completes_a_gang,
    what_never_ran_is_lost_when_only_a_report_is_asked,
    stopping_ends_every_rank,
    what_ignores_term_is_killed_after_the_grace,
    a_shorter_grace_wins,
    what_never_started_can_be_stopped,
    what_is_gone_can_be_stopped,
    another_daemon_adopts_what_lives,
    another_daemon_learns_what_ended_meanwhile,
    exits_are_told_until_they_are_forgotten,
    what_lives_is_not_forgotten,
    another_daemon_reports_what_it_is_told_to_report,
    the_inventory_is_sorted,
)
