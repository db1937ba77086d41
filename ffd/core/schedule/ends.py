"""When what runs will have ended, by forecast: a row that is kept sorted from one cycle to the next.

Sorting all that runs for each forecast would cost what the cluster holds; this costs what changed. The row may hold
attempts that ended meanwhile, or one attempt twice (it is being stopped now): who reads it skips those. Kept in
`Holders`, filled and read here; called by `schedule.cycle` and `schedule.explain` through `ends_of`.
"""

from __future__ import annotations

from bisect import bisect_right, insort

from ffd.core.holders import End
from ffd.core.model import AttemptId
from ffd.core.state import State

FOREVER_MS = 1 << 62
OVERDUE_PART = 4  # what should have ended by now is taken to go on for a quarter of what it ran, at least
OVERDUE_LEAST_MS = 60_000
STOPPING_LEAST_MS = 1_000
SPARE_COUNT = 64  # entries beside one for each holder, before the row is made anew


def ends_of(state: State, now_ms: int) -> list[End]:
    """(when, sequence, attempt), all after `now_ms`; of equals the one that was admitted first. Whoever is in it and
    holds nothing any more has ended; of an attempt that is in it twice the first counts."""
    holders = state.holders
    if len(holders.ends) > 2 * len(holders) + SPARE_COUNT:
        holders.forget_ends()
    fresh = holders.take_fresh()
    if len(fresh) * 8 > len(holders.ends):
        holders.ends += (_end(state, *one, now_ms) for one in fresh)
        holders.ends.sort()
    else:
        for sequence, attempt in fresh:
            insort(holders.ends, _end(state, sequence, attempt, now_ms))
    overdue = bisect_right(holders.ends, (now_ms, 1 << 62))
    late, holders.ends[:overdue] = holders.ends[:overdue], []
    for _, sequence, attempt in late:
        if attempt in holders:
            insort(holders.ends, _end(state, sequence, attempt, now_ms))
    return holders.ends


def _end(state: State, sequence: int, attempt: AttemptId, now_ms: int) -> End:
    return end_at_ms(state, attempt, now_ms), sequence, attempt


def end_at_ms(state: State, attempt: AttemptId, now_ms: int) -> int:
    """When this attempt will have ended, about; after `now_ms`; FOREVER_MS when nobody knows."""
    live = state.workflows[attempt.workflow]
    task, item = live.dag.tasks[attempt.task], live.tasks[attempt.task].items[attempt.item]
    running = item.live
    assert running is not None
    if item.state == "stopping":
        return max(now_ms + STOPPING_LEAST_MS, item.since_at_ms + running.stop_grace_ms)
    duration_ms = state.forecast.duration_ms(live.series, task)
    if not duration_ms:
        return FOREVER_MS
    began_at_ms = running.running_at_ms or now_ms
    if began_at_ms + duration_ms > now_ms:
        return began_at_ms + duration_ms
    return now_ms + max(OVERDUE_LEAST_MS, (now_ms - began_at_ms) // OVERDUE_PART)
