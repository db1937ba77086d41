"""50 times kill -9 of the daemon under load: nothing lost, nothing run twice, running tasks adopted."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from harness import RealDaemon

from ffd.errors import Unavailable

CYCLES = 50
PATIENCE_S = 240.0
SAY = 'echo "$FFD_WORKFLOW $FFD_TASK $FFD_ITEM $FFD_ATTEMPT $FFD_RANK'


def document(journal: Path, gate: Path) -> bytes:
    """A fan-out, a gang, an output bound into a later task; `held` runs until the test opens the gate."""
    begin, end = f'{SAY} begin" >> {journal}\n', f'{SAY} end" >> {journal}\n'
    tasks: dict[str, Any] = {
        "many": {
            "foreach": list(range(6)), "outputs": {"rows": "int"},
            "run": f"{begin}echo rows=$FFD_ITEM >> $FFD_OUTPUT\n{end}",
        },
        "gang": {"gang": 2, "run": begin + end},
        "sum": {"run": begin + "test ${{ sum(tasks.many.outputs.rows) }} -eq 15\n" + end},
        "held": {"run": f"{begin}until [ -e {gate} ]; do sleep 0.2; done\n{end}"},
    }  # fmt: skip
    return json.dumps({"name": "load", "tasks": tasks}).encode()


def lines_of(journal: Path) -> list[str]:
    return journal.read_text().splitlines() if journal.exists() else []


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="adoption is tested where pidfds exist")
def test_fifty_kills_under_load(tmp_path: Path) -> None:
    anyio.run(_fifty_kills, tmp_path)


async def _fifty_kills(tmp_path: Path) -> None:
    journal, gate, random = tmp_path / "journal", tmp_path / "gate", Random(50)
    daemon = RealDaemon(tmp_path / "state", "--pretend", "4x8:H100")  # slots for all that is held
    accepted: dict[str, int] = {}
    await daemon.start()
    for cycle in range(CYCLES):
        await _load_then_kill(daemon, document(journal, gate), f"key-{cycle}", accepted, random)
        await daemon.start()
    gate.touch()
    async with daemon.client() as client:
        for key in [f"key-{cycle}" for cycle in range(CYCLES)]:
            result = await client.submit(document(journal, gate), key=key)  # again, or for the first time
            assert accepted.setdefault(key, result.workflow) == result.workflow
        with anyio.fail_after(PATIENCE_S):
            for workflow in accepted.values():
                async for _ in client.watch(str(workflow), token="0.0"):
                    pass
        states = {workflow: (await client.get(str(workflow))).state for workflow in accepted.values()}
    assert Counter(states.values()) == {"succeeded": CYCLES}
    assert daemon.stop() == 0
    _nothing_lost_or_doubled(lines_of(journal), sorted(accepted.values()))
    assert (await anyio.run_process([*_ffd(), "fsck", "--state", str(daemon.state)])).returncode == 0


async def _load_then_kill(
    daemon: RealDaemon, source: bytes, key: str, accepted: dict[str, int], random: Random
) -> None:
    """Submit, and kill after some events of it: the acknowledgement, or any of them, may get lost on the way."""
    events_left = random.randrange(0, 40)
    async with daemon.client() as client:
        try:
            if events_left:
                result = await client.submit(source, key=key)
                accepted[key] = result.workflow
                with anyio.move_on_after(10):
                    async for page in client.watch(str(result.workflow), token="0.0"):
                        events_left -= len(page.events)
                        if events_left <= 0:
                            break
            daemon.kill()
        except Unavailable:
            daemon.kill()


def _nothing_lost_or_doubled(lines: list[str], workflows: list[int]) -> None:
    """Every replica began exactly once and ended exactly once; nothing needed a second attempt."""
    counts = Counter(lines)
    assert [line for line, count in counts.items() if count > 1] == []
    wanted = [f"{w} {task} {item} 1 {rank}" for w in workflows for task, item, rank in _replicas()]
    assert sorted(counts) == sorted(f"{who} {what}" for who in wanted for what in ("begin", "end"))


def _replicas() -> list[tuple[str, int, int]]:
    return [*(("many", item, 0) for item in range(6)), ("gang", 0, 0), ("gang", 0, 1), ("sum", 0, 0), ("held", 0, 0)]


def _ffd() -> list[str]:
    import sys

    return [sys.executable, "-m", "ffd.cli.main"]
