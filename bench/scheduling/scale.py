"""Yardstick 8: 10,000 nodes x 8 GPUs, 1,000 projects. What a decision costs with 0, 10k and 1M gangs waiting.

Waiting gangs are of 20 classes (4 sizes x 5 durations), from all projects, as fan-outs. In each timed step one gang of
2 to 16 nodes ends and others are admitted; all its reports are in the figure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from bench.scheduling.load import DAY, SECOND, SIZES, Loop, document, projects, quantile_ms, submit
from bench.scheduling.rows import Row, at_least, at_most, told
from ffd.core.spec import Spec

HOURS = (1, 3, 6, 12, 24)
CLASSES = tuple((size, hours * 3_600 * SECOND) for size in SIZES for hours in HOURS)
BATCH_COUNT = 32  # gangs that end, and are submitted, in one step of a busy loop
BUDGET_MS = 50  # loop lag
PAGE_BYTES = 4_096


def run() -> Iterator[Row]:
    loop = Loop()
    start_s = time.process_time()
    loop.fill()
    took_s = time.process_time() - start_s
    yield told(
        "8 filling 10,000 empty nodes", f"{loop.admitted_count / took_s:,.0f} gangs/s", f"{loop.admitted_count:,} gangs"
    )
    yield at_least("8 admissions/s of the loop alone, churn", churn(loop, 3_000), 1_000, note="aim 3,000")
    yield _cycle("0", loop, 500)
    wait(loop, 10_000)
    yield _cycle("10,000", loop, 500)
    yield at_least("8 the same, 10,000 gangs waiting", churn(loop, 3_000), 1_000, note="aim 3,000")
    before_bytes, start_s = resident_bytes(), time.process_time()
    wait(loop, 990_000)
    took_s, grown = time.process_time() - start_s, resident_bytes() - before_bytes
    yield told(
        "8 memory of 990,000 more", f"{grown / 1e6:,.0f} MB", f"{grown / 990_000:,.0f} bytes each; in {took_s:.0f} s"
    )
    yield _cycle("1,000,000", loop, 300)
    yield from behind()
    loop = Loop(shares=1)
    loop.fill()
    wait(loop, 10_000)
    rate = f"{churn(loop, 300):,.0f}/s"
    yield told("8 the same, 10,000 waiting, while projects reclaim", rate, "most of it goes into choosing victims")


def _cycle(what: str, loop: Loop, count: int) -> Row:
    """Steps in which one gang ends and its place is given away."""
    samples = [_one(loop) for _ in range(count)]
    half, most = quantile_ms(samples, 0.5), max(samples) * 1_000
    note = f"p50 {half:.2f} ms, max {most:.1f} ms"
    return at_most(f"8 p99 of a step, {what} gangs waiting", quantile_ms(samples, 0.99), BUDGET_MS, "ms", note)


def _one(loop: Loop) -> float:
    ended = loop.any_running()
    ranks = loop.running[ended]
    inputs = loop.ends(ended)
    if not loop.state.wants_cycle():
        inputs.append(_new(loop, ranks))
    took_s = loop.step(inputs)
    loop.settle()
    return took_s


def _new(loop: Loop, size: int) -> object:
    hours = loop.draw.choice(HOURS)
    return submit(document(size, hours * 3_600 * SECOND), loop.draw.choice(projects()))


def churn(loop: Loop, count: int) -> float:
    """Admissions per second of steps in which as many gangs end as come."""
    before, took_s = loop.admitted_count, 0.0
    while loop.admitted_count < before + count:
        inputs = []
        for attempt in loop.draw.sample(list(loop.running), BATCH_COUNT):
            inputs.append(_new(loop, loop.running[attempt]))
            inputs = [*loop.ends(attempt), *inputs]
        took_s += loop.step(inputs)
        took_s += loop.settle()
    return (loop.admitted_count - before) / took_s


def wait(loop: Loop, count: int) -> None:
    """So many more gangs wait, of all projects and classes."""
    each = max(1, count // (len(CLASSES) * len(projects())))
    specs = [document(size, run_ms, each) for size, run_ms in CLASSES]
    left, batch = count, []
    while left > 0:
        for spec in specs:
            for project in projects():
                if left > 0:
                    batch.append(submit(spec, project))
                    left -= each
                if len(batch) == 500:
                    loop.step(batch)
                    loop.settle()
                    batch = []
    loop.step(batch)
    loop.settle()


def behind() -> Iterator[Row]:
    """One gang that fits: alone, and behind 100,000 that do not."""
    loop = Loop()
    loop.fill(leave_nodes=2)
    spec, names = document(2, 60 * SECOND), projects()
    alone = [_admit(loop, spec, names) for _ in range(300)]
    blocked = [document(size, DAY, 5) for size in range(18, 58, 2)]
    for first in range(0, len(names), 25):
        loop.step([submit(wide, name) for wide in blocked for name in names[first : first + 25]])
        loop.settle()
    after = [_admit(loop, spec, names) for _ in range(300)]
    for part, word in ((0.5, "p50"), (0.99, "p99")):
        one, other = quantile_ms(alone, part), quantile_ms(after, part)
        yield at_most(
            f"8 {word} of admitting one behind 100,000 blocked", other, 2 * one, "ms", f"2 x {one:.2f} ms alone"
        )


def _admit(loop: Loop, spec: Spec, names: list[str]) -> float:
    """The step that admits it; then it ends."""
    before = set(loop.running)
    took_s = loop.step([submit(spec, loop.draw.choice(names))])
    new = [attempt for attempt in loop.running if attempt not in before]
    assert len(new) == 1, f"{len(new)} admitted"
    loop.settle()
    loop.step(loop.ends(new[0]))
    loop.settle()
    return took_s


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
