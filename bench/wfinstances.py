"""87 real workflow graphs (WfInstances, 29,438 tasks) submitted at once as no-op tasks; order checked edge by edge.

Reads the data from a folder beside the project; says so when it is absent."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio

from bench.daemon import daemon, document, follow
from bench.floor import transitions_per_s
from bench.table import show, verdict
from ffd.core.pages import EventPage

DATA = Path(os.environ.get("FFD_BENCH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
FILE = DATA / "dag" / "wfinstances.jsonl.gz"

Graph = dict[str, list[str]]  # task -> parents


def graphs() -> list[Graph]:
    """One graph per execution; tasks are renamed t0, t1, ... (their names are not identifiers)."""
    with gzip.open(FILE, "rt") as lines:
        executions = [json.loads(line) for line in lines]
    return [
        {f"t{k}": [f"t{p}" for p in task["parents"]] for k, task in enumerate(execution["tasks"])}
        for execution in executions
    ]


def source(k: int, graph: Graph) -> bytes:
    tasks: dict[str, Any] = {
        name: {"command": ["true"], "needs": parents} if parents else {"command": ["true"]}
        for name, parents in graph.items()
    }
    return document(f"wf{k}", tasks)


async def measure(found: list[Graph]) -> tuple[float, list[EventPage], dict[int, int]]:
    async with daemon("--runtime", "virtual", "--pretend", "64x8:H100") as server, server.client() as client:
        sources = [source(k, graph) for k, graph in enumerate(found)]
        numbers: dict[int, int] = {}

        async def submit(k: int) -> None:
            numbers[(await client.submit(sources[k])).workflow] = k

        commit = (await client.status()).commit_number
        start = time.perf_counter()
        async with anyio.create_task_group() as group:
            for k in range(len(sources)):
                group.start_soon(submit, k)
        events = await follow(client, f"{commit}.999999", len(sources))
        return time.perf_counter() - start, events, numbers


def wrong_edges(found: list[Graph], events: list[EventPage], numbers: dict[int, int]) -> tuple[int, int]:
    """(edges checked, edges whose child was admitted before its parent had ended, or tasks that never ran)."""
    position = {(e.number, e.index): k for k, e in enumerate(events)}
    ended: dict[tuple[int, str], int] = {}
    admitted: dict[tuple[int, str], int] = {}
    for event in events:
        key = (event.workflow, event.task)
        if event.kind == "TaskEnded":
            ended[key] = position[(event.number, event.index)]
        elif event.kind == "ItemAdmitted":
            admitted[key] = position[(event.number, event.index)]
    checked = wrong = 0
    for workflow, k in numbers.items():
        for name, parents in found[k].items():
            wrong += (workflow, name) not in ended
            for parent in parents:
                checked += 1
                wrong += not ended.get((workflow, parent), 1 << 60) < admitted.get((workflow, name), -1)
    return checked, wrong


def main() -> None:
    if not FILE.exists():
        print(f"skipped: {FILE} is not there (set FFD_BENCH_DATA to the folder of the open workload data)")
        return
    found = graphs()
    count = sum(map(len, found))
    with tempfile.TemporaryDirectory(prefix="ffd-bench-") as folder:
        floor = transitions_per_s(Path(folder), 5 * count, 500) / 5
    elapsed, events, numbers = anyio.run(measure, found)
    checked, wrong = wrong_edges(found, events, numbers)
    show(
        [
            ("floor: bare SQLite, 5 transitions a task, 500 a commit", f"{floor:,.0f} tasks/s", ""),
            (
                f"{len(found)} graphs, {count:,} tasks at once",
                f"{count / elapsed:,.0f} tasks/s",
                verdict(count / elapsed, 3000, 10000),
            ),
            ("edges checked", f"{checked:,}", "exact" if not wrong else f"{wrong} WRONG"),
        ]
    )
