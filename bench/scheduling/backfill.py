"""Yardstick 4: backfill without starvation. The default policy on the Philly trace; the mean alone is never the bar.

With the trace's virtual clusters as tenants (as it was submitted), and with everything in one project, where fair order
has nothing to say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.scheduling.philly import Replay, jobs, reference, replay
from bench.scheduling.rows import Row, at_most, none_of, told
from ffd.core.policy import Policy

LARGE = 8  # GPUs; a larger gang needs more than one node


def run() -> Iterator[Row]:
    published = reference()["pooled"]["backfill"]
    for what, found in (("tenants", replay(Policy(), shares=True)), ("one project", replay(Policy()))):
        yield from _rows(what, found, published)


def _rows(what: str, found: Replay, published: dict[str, Any]) -> Iterator[Row]:
    trace = jobs()
    mean_s, large_s = published["queue_mean_s"], published["by_gpus"]["9+"]["queue_mean_s"]
    yield at_most(f"4 {what}: mean queue", found.mean_s(), 1.05 * mean_s, note=f"reference backfill {mean_s:,.1f} s")
    large = found.mean_s([job.gpus > LARGE for job in trace])
    yield at_most(f"4 {what}: mean queue above 8 GPUs", large, 1.10 * large_s, note=f"reference {large_s:,.1f} s")
    yield none_of(f"4 {what}: gangs not whole, or elsewhere", found.partial_count)
    yield told(
        f"4 {what}: preempted", f"{found.preempted_count:,}", f"{found.lost_gpu_s / 3600:,.0f} GPU hours in vain"
    )
    first_s = sum(found.first_s) / len(trace)
    yield told(f"4 {what}: mean until the first start", f"{first_s:,.1f} s", f"simulated in {found.took_s:.0f} s")
