"""What the daemon says about itself: metrics (Prometheus text), the lag of its event loop, and its own log on stderr.

One Metrics per daemon with a registry of its own. Counters are bumped per batch, never per event; gauges are read when
somebody asks. Labels never carry a name of a workflow, project or user (S23). Never here: logs of tasks.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ffd.daemon.clock import Clock

LAG_SAMPLE_MS = 1_000.0  # one sample a second costs less than 0.1 % of a core
LAG_SAMPLES_COUNT = 600  # kept: ten minutes
STANDSTILL_S = 5.0
SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """The metrics of one daemon."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.commits = Counter("ffd_commits_total", "Batches made durable", registry=registry)
        self.events = Counter("ffd_events_total", "Events made durable", registry=registry)
        self.inputs = Counter("ffd_inputs_total", "Commands and reports stepped", registry=registry)
        self.launches = Counter("ffd_launches_total", "Orders given to the runtime", registry=registry)
        self.stops = Counter("ffd_stops_total", "Stops given to the runtime", registry=registry)
        self.retries = Counter(
            "ffd_outside_retries_total", "Calls to store or runtime tried again", ["what"], registry=registry
        )
        self.gaps = Counter("ffd_watch_gaps_total", "Gap markers given to slow watchers", registry=registry)
        self.reigns = Counter("ffd_reigns_total", "Times this daemon became leader", registry=registry)
        self.poisoned = Counter("ffd_poisoned_inputs_total", "Inputs dropped because they hit a bug", registry=registry)
        self.step_s = Histogram("ffd_step_seconds", "Time of one step", buckets=SECONDS, registry=registry)
        self.commit_s = Histogram("ffd_commit_seconds", "Time of one commit", buckets=SECONDS, registry=registry)
        self._lag = Gauge("ffd_loop_lag_seconds", "Lag of the event loop", ["quantile"], registry=registry)
        self.gauge("ffd_rss_bytes", "Resident memory", rss_bytes)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A value that is read when somebody asks."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def show_lag(self, lag: LagSampler) -> None:
        for quantile in (0.5, 0.99, 1.0):
            self._lag.labels(str(quantile)).set_function(partial(lag.quantile_s, quantile))

    def text(self) -> str:
        return generate_latest(self.registry).decode()


class LagSampler:
    """How late the event loop is, sampled. `warn_ms`: a longer standstill is logged."""

    def __init__(self, clock: Clock, warn_ms: int, log: Any) -> None:
        self._clock = clock
        self._warn_ms = warn_ms
        self._log = log
        self._samples: deque[float] = deque(maxlen=LAG_SAMPLES_COUNT)

    def quantile_s(self, quantile: float) -> float:
        """Of the samples kept; 0 without any."""
        ordered = sorted(self._samples)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] / 1000 if ordered else 0.0

    async def run(self) -> None:
        """Sample for ever."""
        while True:
            due_ms = self._clock.monotonic_ms() + LAG_SAMPLE_MS
            await self._clock.sleep_ms(LAG_SAMPLE_MS)
            lag_ms = max(0.0, self._clock.monotonic_ms() - due_ms)
            self._samples.append(lag_ms)
            if lag_ms > self._warn_ms:
                self._log.warning("the event loop stood still", lag_ms=round(lag_ms))


async def dump_standstills(clock: Clock) -> None:
    """Until cancelled: when the loop stands still for STANDSTILL_S, the stacks of all threads go to stderr. For a whole
    process only: there is one such alarm in each."""
    try:
        while True:
            faulthandler.dump_traceback_later(STANDSTILL_S)
            await clock.sleep_ms(STANDSTILL_S * 500)
    finally:
        faulthandler.cancel_dump_traceback_later()


def rss_bytes() -> float:
    """Resident memory of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0.0


# ------------------------------------------------------------------------------------------------------------- log


def make_log(level: str) -> Any:
    """The daemon's own log: one line each on stderr, coloured words on a terminal and JSON elsewhere. Not global: each
    daemon has its own. Never called per event or per task."""
    shape: list[Any] = [structlog.processors.JSONRenderer()]
    if sys.stderr.isatty():
        shape = [_printable, structlog.dev.ConsoleRenderer()]
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            *shape,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
    )


def _printable(logger: Any, method: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Control bytes of data never reach a terminal."""
    return {key: _clean(value) if isinstance(value, str) else value for key, value in fields.items()}


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in text)
