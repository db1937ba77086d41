"""Small parts of the shell: failpoints, pace, backoff, lag, the log, and rules that hold for the whole room."""

from __future__ import annotations

import ast
import io
import json
import re
import sys
from pathlib import Path

import anyio
import msgspec
import pytest
import structlog
from world import SimClock, SimEntropy, World, ended, run, submit

import ffd.daemon
from ffd.core.commands import Cordon, Retry, SetQuota
from ffd.core.health import UNMARKED
from ffd.core.model import TenantRow
from ffd.daemon.clock import Backoff, SystemClock, SystemEntropy
from ffd.daemon.controller import LEAST_INPUTS, Pace
from ffd.daemon.failpoints import NAMES, Failpoints
from ffd.daemon.fsck import check
from ffd.daemon.retention import Retention
from ffd.daemon.telemetry import LagSampler, make_log
from ffd.errors import Refusal
from ffd.plugins.ports import ListQuery
from ffd.plugins.store.memory import MemoryStore
from ffd.settings import Retention as Policy
from ffd.settings import Settings

SOURCES = sorted(Path(ffd.daemon.__file__).parent.glob("*.py"))


def test_failpoints_are_exactly_those_that_are_used() -> None:
    text = "\n".join(path.read_text() for path in SOURCES if path.name != "failpoints.py")
    sites = re.findall(r"failpoints\.reach\((.*)\)", text)
    assert sorted(re.findall(r'"([a-z.]+)"', " ".join(sites))) == sorted(NAMES)


def test_only_the_roots_catch_every_exception() -> None:
    found = [
        path.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
    ]
    assert found == ["roots.py"]


def test_only_the_clock_reads_a_clock_or_draws_a_random_number() -> None:
    for path in SOURCES:
        if path.name == "clock.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {"time", "random", "secrets", "uuid", "datetime"}
            elif isinstance(node, ast.Attribute):
                assert node.attr not in ("urandom", "current_time") or path.name == "controller.py"


@run
async def test_an_armed_failpoint_acts_until_it_is_disarmed() -> None:
    failpoints, reached = Failpoints(), []

    async def note() -> None:
        reached.append("commit.before")

    await failpoints.reach("commit.before")
    failpoints.arm("commit.before", note)
    await failpoints.reach("commit.before")
    await failpoints.reach("commit.after")
    failpoints.disarm("commit.before")
    await failpoints.reach("commit.before")
    assert reached == ["commit.before"]
    with pytest.raises(ValueError, match="no failpoint"):
        failpoints.arm("commit.befor", note)


def test_the_pace_follows_what_inputs_cost() -> None:
    pace = Pace(1_000)
    for _ in range(50):
        pace.took(100, 0.9)
    assert pace.most == 1_000
    for _ in range(50):
        pace.took(100, 20.0)
    assert 45 <= pace.most <= 55
    for _ in range(50):
        pace.took(1, 500.0)
    assert pace.most == LEAST_INPUTS


def test_backoff_doubles_up_to_its_most() -> None:
    backoff = Backoff(SimEntropy(), 100.0, 1_000.0)
    assert [backoff.next_ms() for _ in range(6)] == [100, 200, 400, 800, 1_000, 1_000]
    backoff.reset()
    assert backoff.next_ms() == 100
    assert all(500 <= Backoff(SystemEntropy(), 1_000.0, 1_000.0).next_ms() <= 1_000 for _ in range(100))


def test_the_real_clock_calls_when_it_is_due() -> None:
    async def test() -> None:
        clock, called = SystemClock(), anyio.Event()
        clock.call_at(clock.monotonic_ms() + 1, called.set)
        clock.call_at(clock.monotonic_ms(), lambda: pytest.fail("cancelled")).cancel()
        await called.wait()
        assert abs(clock.wall_ms() - clock.wall_ms()) < 60_000

    anyio.run(test)


@run
async def test_lag_is_sampled_and_a_standstill_is_logged() -> None:
    log = structlog.testing.CapturingLogger()

    class Late(SimClock):
        async def sleep_ms(self, duration_ms: float) -> None:
            await super().sleep_ms(duration_ms + 80)

    lag = LagSampler(Late(), 50, log)
    assert lag.quantile_s(0.99) == 0
    with anyio.move_on_after(60):
        await lag.run()
    assert lag.quantile_s(0.5) == pytest.approx(0.08)
    assert log.calls[0].kwargs == {"lag_ms": 80}


def test_the_log_is_json_lines_or_clean_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain = io.StringIO()
    monkeypatch.setattr(sys, "stderr", plain)
    make_log("info").info("loaded", commit=3)
    make_log("error").info("not said")
    (line,) = plain.getvalue().splitlines()
    assert json.loads(line)["commit"] == 3
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    make_log("info").info("odd", reason="\x1b[2Jgone")
    assert "\x1b[2J" not in terminal.getvalue() and "\\x1b[2Jgone" in terminal.getvalue()


@run
async def test_retention_removes_what_is_old_and_its_logs() -> None:
    world = World()
    policy = Policy(success_ms=3_600_000, failure_ms=0)
    parts = msgspec.structs.replace(world.parts(), settings=Settings(retention=policy))
    async with world.daemon(parts) as daemon:
        old = await submit(daemon)
        await ended(daemon, old.workflow)
        await anyio.sleep(2 * 3_600 + 60)
        assert world.logs.removed == [old.workflow]
        new = await submit(daemon)
        await ended(daemon, new.workflow)
        assert await Retention(parts, daemon.engine).sweep() == 0
        assert [page.id for page in await daemon.engine.workflows(ListQuery())] == [new.workflow]
        for reading in (daemon.engine.workflow(old.workflow), daemon.engine.story(old.workflow)):
            with pytest.raises(Refusal) as caught:
                await reading
            assert caught.value.code == "not_found"
        with pytest.raises(Refusal) as caught:
            await daemon.engine.ask(Retry(workflow=old.workflow))
        assert caught.value.code == "not_found"
    assert await check(MemoryStore(world.database)) == []


@run
async def test_fsck_finds_rows_that_do_not_follow_from_the_story() -> None:
    world = World()
    async with world.daemon() as daemon:
        answer = await submit(daemon)
        await ended(daemon, answer.workflow)
    assert await check(MemoryStore(world.database)) == []
    key = next(iter(world.database.items[answer.workflow]))
    good = world.database.items[answer.workflow].pop(key)
    assert await check(MemoryStore(world.database)) == ["workflow 1: its rows do not follow from its story"]
    world.database.items[answer.workflow][key] = good
    del world.database.entries[2:4]
    assert await check(MemoryStore(world.database)) != []


@run
async def test_fsck_compares_what_outlives_workflows() -> None:
    world = World()
    async with world.daemon() as daemon:
        quota = SetQuota(tenant="lab", changes={"gpus": {"nominal": 8_000}}, key="k", payload_digest="d")
        await daemon.engine.ask(quota)
        await ended(daemon, (await submit(daemon)).workflow)
        await daemon.engine.ask(Cordon(nodes=("n0",), by="ann"))
    meta = world.database.meta
    assert await check(MemoryStore(world.database)) == []
    encode = msgspec.msgpack.encode
    for name, row, who in (
        ("tenant/lab", encode(TenantRow(enabled=False)), "tenant lab"),
        ("node/n0", encode(UNMARKED), "the mark of node n0"),
        ("nodes", encode(()), "the inventory"),
        ("next_workflow", encode(9), "the number of the next workflow"),
        ("key/0", encode((0, "default/SetQuota/k", "e", 0)), "idempotency key default/SetQuota/k"),
        ("learnt/0", encode((0, "default/w/a", 1, 5_000)), "the learnt duration of default/w/a"),
    ):
        good = meta.get(name)
        meta[name] = row
        assert await check(MemoryStore(world.database)) == [f"{who}: what is stored does not follow from the story"]
        if good is None:
            del meta[name]
        else:
            meta[name] = good
    assert await MemoryStore(world.database).sweep(1 << 50, 1, 1, 10) == [1], "its story goes, not that of others"
    assert await check(MemoryStore(world.database)) == []
    del meta["tenant/lab"]
    assert await check(MemoryStore(world.database)) == ["tenant lab: what is stored does not follow from the story"]
    meta["tenant/lab"] = b"\xc1"
    (fault,) = await check(MemoryStore(world.database))
    assert fault.startswith("the rows of tenants")
