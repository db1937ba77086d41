"""What a simulation found, as frozen structs: what `-o json` prints and the table and the page are made from.

`result_of(recorder)` may be taken at any moment; what runs then is counted up to it, what waits is told apart. Units
end the names: `_s` seconds, `_hours` GPU-hours (slot-hours where the cluster has no GPUs: see `unit`).
"""

from __future__ import annotations

from heapq import nlargest

import msgspec

from ffd.core.model import AttemptId
from ffd.simulate.measure import Distribution, Series
from ffd.simulate.record import BARS_COUNT, SIZES, STARTS_COUNT, Bar, Recorder, Start, Tenant, name_of

PLOTTED_COUNT = 12  # tenants with a line of their own in the plots; the rest is drawn together
OTHERS = "(others)"
_HOUR = 1_000 * 3_600_000  # thousandths x ms


class Waits(msgspec.Struct, frozen=True):
    """Of gangs that started and are settled."""

    count: int
    mean_s: float
    p50_s: float
    p90_s: float
    p99_s: float
    max_s: float


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one project (`tenant`; "" of the total) got. `gangs` became ready; `waiting` and `running` are not settled.
    `utilisation`: what it held of what there was. `lost_hours`: held by attempts that failed or were preempted, less
    what a checkpoint saved."""

    tenant: str
    gangs: int
    started: int
    succeeded: int
    failed: int
    cancelled: int
    waiting: int
    running: int
    wait: Waits
    used_hours: float
    utilisation: float
    preemptions: int
    lost_hours: float
    workflows: int
    turnaround_mean_s: float


class SizeWaits(msgspec.Struct, frozen=True):
    """Waits of gangs that hold `least` to `most` GPUs (slots) in all; `most` 0 = no upper end, unless `least` is 0."""

    least: int
    most: int
    wait: Waits


class Line(msgspec.Struct, frozen=True):
    """One tenant in the plots: mean level over each bin."""

    tenant: str
    used: list[float]  # GPUs (slots)
    waiting: list[float]  # gangs


class Plot(msgspec.Struct, frozen=True):
    bin_s: float
    capacity: list[float]
    lines: list[Line]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """`label` names the policy. `makespan_s`: from the begin to the last end of a gang. `notes`: assumptions that were
    made, and what could not be said. `refused`: submits that the scheduler refused."""

    label: str
    begin_ms: int
    end_ms: int
    makespan_s: float
    unit: str
    capacity: float
    total: Share
    tenants: list[Share]
    sizes: list[SizeWaits]
    steps: int
    refused: int
    plot: Plot
    gantt: list[Bar]
    starts: list[Start]
    notes: list[str] = []


def result_of(recorder: Recorder, label: str = "", notes: list[str] | None = None) -> Result:
    """The figures up to now: everything that the recorder heard."""
    begin_ms, end_ms = recorder.begin_ms, max(recorder.end_ms, recorder.begin_ms)
    if recorder.running or recorder.total.waiting.level:  # cut off: it goes on, so the last end says little
        end_ms = max(end_ms, recorder.world.now_ms)
    tenants = [recorder.tenants[name] for name in sorted(recorder.tenants)]
    for series in (recorder.capacity, *(s for t in (recorder.total, *tenants) for s in (t.used, t.waiting))):
        series.advance(end_ms)
    running: dict[str, int] = {}
    for gang in recorder.running.values():
        if gang.state == "running":
            running[gang.flow.tenant.name] = running.get(gang.flow.tenant.name, 0) + 1
    there = recorder.capacity.integral
    return Result(
        label=label,
        begin_ms=begin_ms,
        end_ms=end_ms,
        makespan_s=(recorder.end_ms - begin_ms) / 1_000,
        unit=recorder.unit or "slot",
        capacity=recorder.capacity.peak / 1_000,
        total=_share(recorder.total, sum(running.values()), there),
        tenants=[_share(tenant, running.get(tenant.name, 0), there) for tenant in tenants],
        sizes=[_size(most, recorder.sizes[most]) for most in sorted(recorder.sizes)],
        steps=recorder.world.step_count,
        refused=recorder.world.refused_count,
        plot=_plot(recorder, tenants, end_ms),
        gantt=_bars(recorder, end_ms),
        starts=_starts(recorder, end_ms),
        notes=notes or [],
    )


def _bars(recorder: Recorder, end_ms: int) -> list[Bar]:
    """Those that were kept, and what runs now."""
    bars = [bar for _, _, bar in recorder.bars]
    bars += [recorder.bar(gang, end_ms, "running") for gang in recorder.running.values() if gang.state == "running"]
    largest = nlargest(BARS_COUNT, bars, key=lambda bar: (bar.amount * (bar.end_ms - bar.begin_ms), bar.name))
    return sorted(largest, key=lambda bar: (bar.begin_ms, bar.name))


def _starts(recorder: Recorder, end_ms: int) -> list[Start]:
    """Of what was there at the begin: those that started, in their order, and those that still wait at the end."""
    found = list(recorder.starts)
    for live in recorder.world.state.workflows.values():
        if live.row.accepted_at_ms > recorder.begin_ms:
            continue
        for name, task in live.tasks.items():
            for number, item in enumerate(task.items):
                if len(found) >= 2 * STARTS_COUNT:
                    return found
                if item.state == "ready" and not item.number:
                    attempt = AttemptId(live.row.id, name, number, 0)
                    waited_s = (end_ms - task.row.opened_at_ms) / 1_000
                    found.append(Start(name_of(live, attempt), live.row.project, -1.0, waited_s))
    return found


def _waits(found: Distribution) -> Waits:
    p50, p90, p99 = (found.quantile(share) / 1_000 for share in (0.5, 0.9, 0.99))
    return Waits(found.count, found.mean / 1_000, p50, p90, p99, found.max / 1_000)


def _share(tenant: Tenant, running: int, there: int) -> Share:
    return Share(
        tenant=tenant.name,
        gangs=tenant.gang_count,
        started=tenant.started_count,
        succeeded=tenant.succeeded_count,
        failed=tenant.failed_count,
        cancelled=tenant.cancelled_count,
        waiting=tenant.waiting.level,
        running=running,
        wait=_waits(tenant.wait),
        used_hours=tenant.used.integral / _HOUR,
        utilisation=tenant.used.integral / there if there else 0.0,
        preemptions=tenant.preemption_count,
        lost_hours=tenant.lost / _HOUR,
        workflows=tenant.workflow_count,
        turnaround_mean_s=tenant.turnaround.mean / 1_000,
    )


def _size(most: int, found: Distribution) -> SizeWaits:
    below = [bound for bound in SIZES if bound < most]
    return SizeWaits(below[-1] + 1 if below else 0, most if most in SIZES else 0, _waits(found))


def _plot(recorder: Recorder, tenants: list[Tenant], end_ms: int) -> Plot:
    """The largest tenants have a line of their own; all lines have the same bins."""
    ranked = sorted(tenants, key=lambda tenant: (-tenant.used.integral, tenant.name))
    shown = sorted(ranked[:PLOTTED_COUNT], key=lambda tenant: tenant.name)
    series = [recorder.capacity, recorder.total.used, recorder.total.waiting]
    series += [one for tenant in shown for one in (tenant.used, tenant.waiting)]
    width_ms = max(one.width_ms for one in series)

    def line(found: Series, scale: int) -> list[float]:
        return [round(mean / scale, 3) for mean in found.means(width_ms, end_ms)]

    lines = [Line(tenant.name, line(tenant.used, 1_000), line(tenant.waiting, 1)) for tenant in shown]
    if len(ranked) > len(shown):
        used, waiting = line(recorder.total.used, 1_000), line(recorder.total.waiting, 1)
        for one in lines:
            used = [round(max(0.0, all_ - own), 3) for all_, own in zip(used, one.used, strict=True)]
            waiting = [round(max(0.0, all_ - own), 3) for all_, own in zip(waiting, one.waiting, strict=True)]
        lines.append(Line(OTHERS, used, waiting))
    return Plot(width_ms / 1_000, line(recorder.capacity, 1_000), lines)
