"""Yardstick 3: gangs are exact. FIFO and SJF without backfill on the Philly trace, against published figures."""

from __future__ import annotations

from collections.abc import Iterator

from bench.scheduling.philly import NODES_COUNT, jobs, reference, replay
from bench.scheduling.reference import queue_times
from bench.scheduling.rows import Row, none_of, told, within
from ffd.core.policy import Policy


def run() -> Iterator[Row]:
    trace, published = list(jobs()), reference()["pooled"]
    for order in ("fifo", "sjf"):
        found = replay(Policy(order=order, placement="bestfit", backfill=False, preempt="off"))
        independent = queue_times(trace, NODES_COUNT, order)
        differ = sum(wait != own for wait, own in zip(independent, found.queue_s, strict=True))
        yield within(f"3 {order}: mean queue", found.mean_s(), published[order]["queue_mean_s"], 0.005)
        yield none_of(f"3 {order}: gangs not whole, or elsewhere", found.partial_count)
        reference_s = sum(independent) / len(independent)
        yield told(
            f"3 {order}: independent reference", f"{reference_s:,.1f} s", f"{differ:,} of {len(trace):,} jobs differ"
        )
        yield told(f"3 {order}: simulated in", f"{found.took_s:.0f} s", f"{found.step_count:,} steps")
