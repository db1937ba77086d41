"""The eight yardsticks of the scheduler, each by ffd's own core on a virtual clock: yardstick, bar, figure, verdict.

    ./dev bench scheduling          all of them
    ./dev bench scheduling 3 4      some

Each file says its protocol. Open workload data is read from beside the project.
"""

from __future__ import annotations

import importlib
import sys

from bench.scheduling.rows import show
from bench.wfinstances import DATA

YARDSTICKS = {
    "1": "openb",
    "2": "openb",
    "3": "gangs",
    "4": "backfill",
    "5": "sharing",
    "6": "dag",
    "7": "kueue",
    "8": "scale",
}


def main(*wanted: str) -> None:
    """Print the rows of these yardsticks (default: of all)."""
    unknown = [number for number in wanted if number not in YARDSTICKS]
    if unknown:
        print(f"no yardstick {', '.join(unknown)}; there are: {', '.join(YARDSTICKS)}", file=sys.stderr)
    if not DATA.exists():
        print(f"skipped: {DATA} is not there (set FFD_BENCH_DATA to the folder of the open workload data)")
        return
    show([("yardstick", "bar", "figure", "verdict")])
    for name in dict.fromkeys(YARDSTICKS[number] for number in wanted or YARDSTICKS if number in YARDSTICKS):
        show(importlib.import_module(f"bench.scheduling.{name}").run())
