"""An independent reference for yardsticks 3 and 4: gangs on equal nodes, by brute force, without a line of ffd.

When ffd's figure is off, it says which side deviates. It reproduces the published FIFO, SJF and backfill results of
`philly_2017_10_reference.json` exactly. Never here: anything of ffd.
"""

from __future__ import annotations

from bisect import insort
from heapq import heappop, heappush
from typing import NamedTuple

GPUS = 8  # of each node
WINDOW_COUNT = 256  # how far behind a blocked head the published backfill looks


class Job(NamedTuple):
    """One gang of the trace."""

    at_s: int
    duration_s: int
    gpus: int
    tenant: str


def queue_times(jobs: list[Job], node_count: int, policy: str) -> list[int]:
    """Seconds that each job waited, under `fifo`, `sjf` (both stop at the first that does not fit) or `backfill` (EASY:
    those behind a blocked head start when they fit now and end before its start)."""
    free, ends = [GPUS] * node_count, list[tuple[int, int]]()
    places: dict[int, dict[int, int]] = {}
    waits, queue, coming = [0] * len(jobs), list[tuple[int, int]](), list(range(len(jobs)))[::-1]

    def shift(places_of_job: dict[int, int], sign: int) -> None:
        for node, count in places_of_job.items():
            free[node] += sign * count

    while coming or ends:
        instants = [ends[0][0]] if ends else []
        now_s = min([*instants, jobs[coming[-1]].at_s] if coming else instants)
        while ends and ends[0][0] == now_s:
            shift(places.pop(heappop(ends)[1]), 1)
        while coming and jobs[coming[-1]].at_s == now_s:
            k = coming.pop()
            insort(queue, (jobs[k].duration_s if policy == "sjf" else 0, k))
        for k in _starts(jobs, [k for _, k in queue], free, ends, places, now_s, policy):
            queue.remove((jobs[k].duration_s if policy == "sjf" else 0, k))
            waits[k] = now_s - jobs[k].at_s
            heappush(ends, (now_s + jobs[k].duration_s, k))
    return waits


def _starts(
    jobs: list[Job], queue: list[int], free: list[int], ends: list[tuple[int, int]],
    places: dict[int, dict[int, int]], now_s: int, policy: str,
) -> list[int]:  # fmt: skip
    """One pass: who starts now; `free` and `places` are changed for them."""
    started: list[int] = []
    head_s: int | None = None  # when the blocked head will start
    too_large = GPUS * len(free) + 1  # the smallest gang that was seen not to fit in this pass
    seen_count = 0
    for k in queue:
        job = jobs[k]
        if head_s is not None:
            seen_count += 1
            if seen_count > WINDOW_COUNT:
                break
            if now_s + job.duration_s > head_s or job.gpus >= too_large:
                continue
        place = place_gang(free, job.gpus)
        if place is not None:
            for node, count in place.items():
                free[node] -= count
            places[k] = place
            started.append(k)
            continue
        if policy != "backfill":
            break
        too_large = min(too_large, job.gpus) if job.gpus <= GPUS else too_large
        if head_s is None:
            now_running = [(now_s + jobs[s].duration_s, s) for s in started]
            head_s = _earliest_s(free, sorted([*ends, *now_running]), places, job.gpus)
    return started


def place_gang(free: list[int], gpus: int) -> dict[int, int] | None:
    """Up to 8 GPUs: the node with the fewest free that fits. More: whole empty nodes, and the tightest other node for
    the rest. Lowest number on ties. {node: GPUs}, or None: all or nothing."""
    empty = [node for node, count in enumerate(free) if count == GPUS][: gpus // GPUS]
    whole, rest = (dict.fromkeys(empty, GPUS), gpus % GPUS) if gpus >= GPUS else ({}, gpus)
    if len(whole) < gpus // GPUS:
        return None
    if rest:
        others = [(count, node) for node, count in enumerate(free) if count >= rest and node not in whole]
        if not others:
            return None
        whole[min(others)[1]] = rest
    return whole


def _earliest_s(free: list[int], ends: list[tuple[int, int]], places: dict[int, dict[int, int]], gpus: int) -> int:
    """When enough of what runs will have ended."""
    then = list(free)
    for k, (end_s, job) in enumerate(ends):
        for node, count in places[job].items():
            then[node] += count
        is_last = k + 1 == len(ends) or ends[k + 1][0] > end_s
        if is_last and place_gang(then, gpus) is not None:
            return end_s
    raise ValueError(f"a gang of {gpus} does not fit the empty cluster")
