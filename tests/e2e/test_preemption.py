"""Preemption as a task lives through it: the notice reaches `should_stop`, its grace is honoured, and the next attempt
goes on from the checkpoint that was saved in it. A real daemon, real processes, one GPU that two priorities want."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio
import pytest
from harness import RealDaemon

PATIENCE_S = 120.0

LOW = """\
import os, pathlib, sys, time
import ffd
journal = pathlib.Path(sys.argv[1])
def say(*words):
    with journal.open("a") as file:
        print(os.environ["FFD_ATTEMPT"], *words, file=file, flush=True)
state = ffd.load_checkpoint() or {"step": 0}
say("from", state["step"])
while state["step"] == 0 and not ffd.should_stop():
    time.sleep(0.02)
if state["step"] == 0:
    say("told", ffd.stop_reason())
    time.sleep(0.5)  # what saving takes: the grace is longer
    ffd.save_checkpoint({"step": 7})
    say("saved")
"""


def document(name: str, program: str, journal: Path) -> bytes:
    task = {
        "command": [sys.executable, "-c", program, str(journal)], "resources": {"gpus": 1},
        "checkpoint": {"grace": "60s"},
    }  # fmt: skip
    return json.dumps({"name": name, "tasks": {"train": task}}).encode()


HIGH = """\
import os, pathlib, sys
with pathlib.Path(sys.argv[1]).open("a") as file:
    print("high", os.environ["CUDA_VISIBLE_DEVICES"], file=file)
"""


@pytest.mark.parametrize("is_killed", [False, True], ids=["as-it-is", "daemon-killed"])
def test_a_preempted_task_saves_a_checkpoint_and_goes_on_from_it(tmp_path: Path, is_killed: bool) -> None:
    anyio.run(_preempted, tmp_path, is_killed)


async def _preempted(tmp_path: Path, is_killed: bool) -> None:
    journal = tmp_path / "journal"
    daemon = RealDaemon(tmp_path / "state", "--pretend", "1x1:H100")
    await daemon.start()
    async with daemon.client() as client:
        low = await client.submit(document("low", LOW, journal), priority=400)
        await _until(journal, "1 from 0")
        high = await client.submit(document("high", HIGH, journal), priority=600)
    if is_killed:  # with the notice given: the next one tells it again
        daemon.kill()
        await daemon.start()
    async with daemon.client() as client:
        with anyio.fail_after(PATIENCE_S):
            for workflow in (high.workflow, low.workflow):
                async for _ in client.watch(str(workflow), token="0.0"):
                    pass
        states = [(await client.get(str(one.workflow))).state for one in (low, high)]
    assert states == ["succeeded", "succeeded"]
    assert daemon.stop() == 0
    assert journal.read_text().splitlines() == ["1 from 0", "1 told preempted", "1 saved", "high 0", "2 from 7"]


async def _until(journal: Path, line: str) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not journal.exists() or line not in journal.read_text():
            await anyio.lowlevel.checkpoint()
