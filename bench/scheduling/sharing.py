"""Yardstick 5: sharing incentive. Nobody waits longer in the pool than alone in a private partition of its share.

The private figure is the strictest one at hand: the better of published FIFO and backfill (those serve in submit order,
as ffd does inside a tenant). Queue = end - submit - duration: what preemption costs is in it."""

from __future__ import annotations

from collections.abc import Iterator

from bench.scheduling.philly import jobs, reference, replay
from bench.scheduling.rows import Row, at_most, told
from ffd.core.policy import Policy

LEAST_JOBS_COUNT = 20
POOLED_BAR_S = 5_180


def run() -> Iterator[Row]:
    trace, published = jobs(), reference()
    for checkpoint in (False, True):
        found = replay(Policy(), shares=True, checkpoint=checkpoint)
        what = "5 checkpoints" if checkpoint else "5 from scratch"
        above = []
        for tenant, alone in published["private"].items():
            if alone["jobs"] < LEAST_JOBS_COUNT:
                continue
            private_s = min(alone[policy]["queue_mean_s"] for policy in ("fifo", "backfill"))
            own_s = found.mean_s([job.tenant == tenant for job in trace])
            above.append((own_s - (1.05 * private_s + 60), tenant, own_s, private_s))
        _, tenant, own_s, private_s = max(above)
        note = f"{sum(over > 0 for over, *_ in above)} of {len(above)} tenants above; alone {private_s:,.1f} s"
        yield at_most(f"{what}: nearest to its bar, {tenant}", own_s, 1.05 * private_s + 60, note=note)
        yield at_most(f"{what}: pooled mean queue", found.mean_s(), POOLED_BAR_S)
        lost = f"{found.lost_gpu_s / 3600:,.0f} GPU hours {'done before the stop' if checkpoint else 'in vain'}"
        yield told(f"{what}: preempted", f"{found.preempted_count:,}", lost)
    pooled = published["private"]["e13805"]["pooled_queue_mean_s"]
    yield told(
        "5 e13805 under pooled FIFO, backfill, SJF", " ".join(f"{pooled[p]:,.0f}" for p in ("fifo", "backfill", "sjf"))
    )
