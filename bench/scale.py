"""The scheduler at 10,000 nodes and 1,000 projects: yardstick 8, see `bench.scheduling.scale`."""

from __future__ import annotations

from bench.scheduling.rows import show
from bench.scheduling.scale import run


def main() -> None:
    show(run())
