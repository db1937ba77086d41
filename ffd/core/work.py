"""The work-list of one step: what stages write to. `emit` applies an event at once; its reactions come in turn.

Made by `core.step`, handed to every stage. A queue, not recursion: skip cascades are deep.
"""

from __future__ import annotations

from ffd.core.commands import Answer
from ffd.core.effects import AnyEffect, Launch
from ffd.core.events import AnyEvent
from ffd.core.model import AttemptId
from ffd.core.spec import Task
from ffd.core.state import Instant, State
from ffd.errors import FfdError


class Work:
    """One step in progress. `now_ms` is the instant of all it decides."""

    __slots__ = ("_at_ms", "answers", "done_count", "effects", "events", "input_index", "now_ms", "orders", "state")

    def __init__(self, state: State, now_ms: int) -> None:
        self.state = state
        self.now_ms = now_ms
        self._at_ms: Instant = now_ms
        self.events: list[AnyEvent] = []
        self.effects: list[AnyEffect] = []
        self.answers: list[tuple[int, Answer | FfdError | None]] = []
        self.done_count = 0  # of the events: what follows from them has been seen to
        self.orders: dict[AttemptId, Launch] = {}  # made when admitted, given out when its launch is an effect
        self.input_index = -1  # of the input being handled

    def emit(self, event: AnyEvent) -> None:
        self.state.apply(event, self._at_ms)
        self.events.append(event)

    def effect(self, effect: AnyEffect) -> None:
        self.effects.append(effect)

    def stop_grace_ms(self, task: Task) -> int:
        """How long a stopped attempt of `task` may go on: its checkpoint's grace, else the daemon's default."""
        return task.checkpoint.grace_ms if task.checkpoint else self.state.limits.stop_grace_ms

    def answer(self, answer: Answer | FfdError | None) -> None:
        """Answer the input being handled; given to its sender once the step is durable."""
        self.answers.append((self.input_index, answer))
