"""How long tasks take whose duration nobody gave: what is known of them, best first; and what that rests on, for the
reader of the result.

1. the document's own VIRTUAL_DURATION, 2. what was learnt from earlier attempts of its name, 3. `timeout.run`, 4. an
assumption. An attempt that has already run longer than that is taken to run as long again as it has so far. Called by
`scenario`, for what a snapshot or a submitted document holds.
"""

from __future__ import annotations

from collections import Counter

from ffd.core.effects import Launch
from ffd.core.live import LiveWorkflow
from ffd.core.spec import Task
from ffd.core.state import State
from ffd.core.story import duration_text
from ffd.plugins.behaviour import NOOP, Behaviour, told_by_environment

ASSUMED_MS = 3_600_000
TOLD = "as their documents tell (VIRTUAL_DURATION)"
LEARNT = "by the mean of earlier attempts"
TIMEOUT = "by their timeout.run"
NAMES_COUNT = 5


class Estimates:
    """Of one world. `assumed_ms`: how long a task takes of which nothing is known."""

    def __init__(self, state: State, assumed_ms: int = ASSUMED_MS) -> None:
        self.state = state
        self.assumed_ms = assumed_ms
        self.bases: Counter[str] = Counter()
        self.unknown: dict[str, None] = {}  # names of tasks whose duration was assumed; in order, bounded

    def behave(self, order: Launch, now_ms: int) -> Behaviour:
        """How long this attempt takes, from its start; it succeeds, if its document does not tell otherwise."""
        found = self.state.current(order.attempt)
        assert found is not None
        live, _, _, attempt = found
        task = live.dag.tasks[order.attempt.task]
        told = told_by_environment(_with_environment(order, task), 0)
        if told is not NOOP:
            self.bases[TOLD] += 1
            return told
        length_ms = self._length_ms(live, task)
        ran_ms = now_ms - (attempt.running_at_ms or now_ms)
        return Behaviour(length_ms if ran_ms < length_ms else 2 * ran_ms)

    def _length_ms(self, live: LiveWorkflow, task: Task) -> int:
        learnt = self.state.forecast.learnt(live.series, task.name)
        if learnt is not None:
            self.bases[LEARNT] += 1
            return learnt[3]
        if task.timeouts.run_ms:
            self.bases[TIMEOUT] += 1
            return task.timeouts.run_ms
        self.bases[f"assumed {duration_text(self.assumed_ms)}"] += 1
        if len(self.unknown) <= NAMES_COUNT:
            self.unknown[f"{live.row.name}/{task.name}"] = None
        return self.assumed_ms

    def notes(self) -> list[str]:
        """What the durations rest on."""
        if not self.bases:
            return []
        parts = ", ".join(f"{count} {basis}" for basis, count in sorted(self.bases.items()))
        found = [f"durations of attempts: {parts}"]
        if self.unknown:
            names = list(self.unknown)
            more = " and others" if len(names) > NAMES_COUNT else ""
            found.append(f"nothing is known of the duration of {', '.join(names[:NAMES_COUNT])}{more}")
        return found


def _with_environment(order: Launch, task: Task) -> Launch:
    """An order to report what runs has no environment: what the document says plainly stands in."""
    if not order.report_only:
        return order
    env = {name: text for name, text in task.env.items() if isinstance(text, str)}
    return Launch(order.attempt, order.handle, order.project, order.places, env=env)
