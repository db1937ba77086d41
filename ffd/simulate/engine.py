"""A simulated world on a virtual clock around the real `core.step`: what `ffd simulate` and the benches run.

    world = World(State(limits, policy), lambda order, tag: Behaviour(duration_ms=tag))
    world.send(InventoryReported(nodes))
    world.feed((at_ms, submit(...), duration_ms) for ...)      # ascending; read only as time gets there
    world.on(ev.ItemAdmitted, lambda at_ms, event: ...)
    while world.run(steps_count=10_000):
        ...                                                    # progress, an interrupt

One instant is one step, and ends of tasks come before submits: [what started, exits, timers, other inputs, submits],
then one scheduling pass. What that starts is said in a further step of the same instant. Deterministic: the same state,
inputs and behaviours give the same events, whatever the hash seed. No checks but those asked for, no story, no rows.
Never here: deciding anything, randomness, real time, what is made of the events (see `record`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any

import msgspec

from ffd.core import effects as ef
from ffd.core.commands import Accepted, AnyCommand, Submit
from ffd.core.events import NodesChanged
from ffd.core.invariants import Broken, check
from ffd.core.limits import Limits
from ffd.core.model import AttemptId, Place, Timer
from ffd.core.reports import (
    AnyReport,
    LaunchFailed,
    Poke,
    ReplicaExited,
    ReplicaStarted,
    TimerFired,
)
from ffd.core.state import State
from ffd.core.step import step
from ffd.errors import FfdError
from ffd.plugins.behaviour import Behaviour

AnyInput = AnyCommand | AnyReport
Fed = tuple[int, AnyInput, Any]  # at_ms, what is sent, tag: handed to `behave` for each launch of that workflow
Behave = Callable[[ef.Launch, Any], Behaviour]
Hook = Callable[[int, Any], None]

# A simulated daemon holds what a trace asks for; a cycle goes on until it is done.
UNBOUNDED = Limits(live_workflows_count=1 << 60, live_tasks_count=1 << 60, fanout_items_count=1 << 60)
REFUSALS_COUNT = 20  # refused inputs that are kept with their instant; all are counted
TERM, KILL = 15, 9
LEAST_STALE_COUNT = 1_000  # settings in the heap of timers that no longer count, before a clean-up is worth it


class _Living(msgspec.Struct, gc=False):
    """An attempt that runs: the whole gang. `token` names the one entry of the heap of exits that still counts."""

    token: int
    places: tuple[Place, ...]
    began_at_ms: int
    behaviour: Behaviour
    keeps_checkpoint: bool
    signal: int = 0  # > 0: told to stop, dies by it


class World:
    """A controller, a runtime and timers in one. Reads `state` and changes it through `core.step` alone.

    `behave(order, tag)` says what each replica of a launch does; a gang ends as a whole: when `exit_code` is not 0,
    rank 0 fails with it. An attempt that declares `checkpoint` and is stopped has saved what it did: the next attempt
    of its item runs only for the rest. `check_every_count`: invariants are checked every so many steps (0 = never);
    Broken, when one does not hold."""

    def __init__(self, state: State, behave: Behave, *, now_ms: int = 0, check_every_count: int = 0) -> None:
        self.state = state
        self.behave = behave
        self.now_ms = now_ms
        self.step_count = 0
        self.refused_count = 0
        self.refusals: list[tuple[int, FfdError]] = []
        self.tags: dict[int, Any] = {}  # by live workflow
        self._check_every_count = check_every_count
        self._hooks: dict[type, tuple[Hook, ...]] = {NodesChanged: (self._lose,)}
        self._soon: list[AnyInput] = []  # due at this instant, because of what the last step did
        self._exits: dict[int, list[tuple[int, AttemptId]]] = {}  # by instant, in the order in which they were set
        self._exits_at_ms: list[int] = []  # a heap of those instants
        self._living: dict[AttemptId, _Living] = {}
        self._done_ms: dict[tuple[int, str, int], int] = {}  # saved by stopped attempts, by item
        self._timers: list[tuple[int, int, Timer]] = []
        self._set: dict[int, dict[tuple[str, AttemptId], int]] = {}  # by workflow: kind, attempt -> sequence
        self._set_count = 0
        self._feeds: list[tuple[int, int, AnyInput, Any, Iterator[Fed]]] = []
        self._feed_count = 0
        self._sequence = 0
        self._perform: dict[type, Callable[[Any], None] | None] = {
            ef.Launch: self._launch,
            ef.Stop: self._stop,
            ef.SetTimer: self._set_timer,
            ef.ClearTimers: self._clear_timers,
            ef.Forget: self._forget,
            ef.Again: self._again,
            ef.Settled: None,  # nothing is kept of what ended
        }

    # -------------------------------------------------------------------------------- what goes in

    def send(self, *inputs: AnyInput) -> None:
        """Due now, before anything else of this instant."""
        self._soon += inputs

    def feed(self, inputs: Iterable[Fed]) -> None:
        """A stream of inputs, ascending in time; one of the past is due now. Of one instant, feeds come in the order in
        which they were added."""
        self._feed_count += 1
        self._pull(self._feed_count, iter(inputs))

    def _pull(self, order: int, rest: Iterator[Fed]) -> None:
        found = next(rest, None)
        if found is not None:
            heappush(self._feeds, (found[0], order, found[1], found[2], rest))

    def on(self, kind: type, hook: Hook) -> None:
        """Call `hook(at_ms, event)` for each event of this kind, after the step that decided it."""
        self._hooks[kind] = (*self._hooks.get(kind, ()), hook)

    # -------------------------------------------------------------------------------- the clock

    def run(self, until_ms: int | None = None, steps_count: int | None = None) -> bool:
        """Go on until nothing is left to happen, what is left comes after `until_ms`, or so many steps were made. True
        in the last case only: there may be more to do."""
        last = None if steps_count is None else self.step_count + steps_count
        while last is None or self.step_count < last:
            if not self._soon:
                at_ms = self._next_at_ms()
                if at_ms is None or (until_ms is not None and at_ms > until_ms):
                    self.now_ms = max(self.now_ms, until_ms or 0)
                    return False
                if at_ms > self.now_ms:
                    self.now_ms = at_ms
            self._step()
        return True

    def _next_at_ms(self) -> int | None:
        """When the next thing happens; what no longer counts leaves the heaps here."""
        exits, timers, feeds = self._exits_at_ms, self._timers, self._feeds
        while exits and not any(self._is_due(*entry) for entry in self._exits[exits[0]]):
            del self._exits[heappop(exits)]  # stopped meanwhile, or lost with their nodes
        while timers and not self._is_set(*timers[0]):
            heappop(timers)
        first = exits[0] if exits else None
        if feeds and (first is None or feeds[0][0] < first):
            first = feeds[0][0]
        return timers[0][0] if timers and (first is None or timers[0][0] < first) else first

    def _step(self) -> None:
        """All inputs of this instant in their order, as one step; its effects, its events."""
        now_ms = self.now_ms
        inputs, self._soon = self._soon, []
        exits = self._exits_at_ms
        while exits and exits[0] <= now_ms:
            for token, attempt in self._exits.pop(heappop(exits)):
                living = self._living.get(attempt)
                if living is not None and living.token == token:
                    self._exit(attempt, living, inputs)
        if self._timers and self._timers[0][0] <= now_ms:
            self._fire(inputs)
        tags = self._take_fed(inputs) if self._feeds and self._feeds[0][0] <= now_ms else None
        decision = step(self.state, inputs, now_ms, keeps_rows=False)
        self.step_count += 1
        if decision.answers:
            self._hear(decision.answers, tags or {})
        perform = self._perform
        for effect in decision.effects:
            call = perform[type(effect)]
            if call is not None:
                call(effect)
        hooks = self._hooks
        for event in decision.events:
            found = hooks.get(type(event))
            if found is not None:
                for hook in found:
                    hook(now_ms, event)
        if self._check_every_count and self.step_count % self._check_every_count == 0:
            self._check()

    def _take_fed(self, inputs: list[AnyInput]) -> dict[int, Any]:
        """Add what feeds have for this instant, submits last. Returns the tags of those, by their index."""
        submits: list[AnyInput] = []
        tags: list[Any] = []
        while self._feeds and self._feeds[0][0] <= self.now_ms:
            _, order, given, tag, rest = heappop(self._feeds)
            if type(given) is Submit:
                submits.append(given)
                tags.append(tag)
            else:
                inputs.append(given)
            self._pull(order, rest)
        first = len(inputs)
        inputs += submits
        return dict(enumerate(tags, first))

    def _hear(self, answers: list[tuple[int, Any]], tags: dict[int, Any]) -> None:
        for index, answer in answers:
            if isinstance(answer, Accepted):
                tag = tags.get(index)
                if tag is not None and answer.workflow in self.state.workflows:
                    self.tags[answer.workflow] = tag
            elif isinstance(answer, FfdError):
                self.refused_count += 1
                if len(self.refusals) < REFUSALS_COUNT:
                    self.refusals.append((self.now_ms, answer))

    def _check(self) -> None:
        faults = check(self.state)
        if faults:
            raise Broken("\n".join([f"at {self.now_ms} ms, step {self.step_count}:", *faults]))

    # -------------------------------------------------------------------------------- the runtime

    def _launch(self, order: ef.Launch) -> None:
        attempt, began_at_ms, now_ms = order.attempt, self.now_ms, self.now_ms
        behaviour = self.behave(order, self.tags.get(attempt.workflow))
        if behaviour.launch_fault:
            for rank in range(len(order.places)):
                self._soon.append(LaunchFailed(attempt, rank, "error", behaviour.launch_fault, now_ms))
            return
        if order.report_only:  # it ran before the snapshot
            found = self.state.current(attempt)
            began_at_ms = min(now_ms, found[3].running_at_ms or found[3].admitted_at_ms) if found else now_ms
        for rank in range(len(order.places)):
            self._soon.append(ReplicaStarted(attempt, rank, now_ms))
        duration_ms = round(behaviour.duration_ms)
        if self._done_ms:
            duration_ms -= self._done_ms.get((attempt.workflow, attempt.task, attempt.item), 0)
        self._sequence = token = self._sequence + 1
        self._living[attempt] = _Living(token, order.places, began_at_ms, behaviour, order.keeps_checkpoint)
        self._end_at(max(now_ms, began_at_ms + duration_ms), token, attempt)

    def _end_at(self, at_ms: int, token: int, attempt: AttemptId) -> None:
        due = self._exits.get(at_ms)
        if due is None:
            due = self._exits[at_ms] = []
            heappush(self._exits_at_ms, at_ms)
        due.append((token, attempt))

    def _is_due(self, token: int, attempt: AttemptId) -> bool:
        living = self._living.get(attempt)
        return living is not None and living.token == token

    def _exit(self, attempt: AttemptId, living: _Living, inputs: list[AnyInput]) -> None:
        """The whole gang is gone: by itself, or because it was told to stop."""
        del self._living[attempt]
        now_ms, behaviour, signal = self.now_ms, living.behaviour, living.signal
        if self._done_ms and not signal:
            self._done_ms.pop((attempt.workflow, attempt.task, attempt.item), None)
        for rank in range(len(living.places)):
            if signal or (rank and behaviour.exit_code):
                inputs.append(ReplicaExited(attempt, rank, signal=signal or TERM, at_ms=now_ms))
            elif behaviour.outputs:
                inputs.append(
                    ReplicaExited(
                        attempt, rank, behaviour.exit_code, outputs=behaviour.outputs, at_ms=now_ms,
                        outputs_are_json=behaviour.outputs_are_json,
                    )
                )  # fmt: skip
            else:
                inputs.append(ReplicaExited(attempt, rank, behaviour.exit_code, at_ms=now_ms))

    def _stop(self, order: ef.Stop) -> None:
        """It dies at once, or (`ignores_term`, or it saves a checkpoint) when its grace is over."""
        living = self._living.get(order.attempt)
        if living is None or living.signal:
            return  # it is gone or going: its exits are told, or on their way
        if living.keeps_checkpoint:
            key = (order.attempt.workflow, order.attempt.task, order.attempt.item)
            self._done_ms[key] = self._done_ms.get(key, 0) + self.now_ms - living.began_at_ms
        waits = (living.behaviour.ignores_term or living.keeps_checkpoint) and order.grace_ms > 0
        living.signal = KILL if living.behaviour.ignores_term or order.grace_ms <= 0 else TERM
        self._sequence = living.token = self._sequence + 1
        at_ms = self.now_ms + (order.grace_ms if waits else 0)
        self._end_at(at_ms, living.token, order.attempt)

    def _lose(self, at_ms: int, event: NodesChanged) -> None:
        """What ran on nodes that are gone is gone with them, and the rest of its gang."""
        names = {node.name for node in event.nodes}
        for attempt, living in list(self._living.items()):
            lost = [rank for rank, place in enumerate(living.places) if place.node not in names]
            if not lost:
                continue
            del self._living[attempt]
            for rank in (*lost, *(rank for rank in range(len(living.places)) if rank not in lost)):
                kind = "node-lost" if rank in lost else ""
                self._soon.append(ReplicaExited(attempt, rank, signal=0 if kind else TERM, kind=kind))

    # -------------------------------------------------------------------------------- timers

    def _set_timer(self, order: ef.SetTimer) -> None:
        timer = order.timer
        timers = self._set.setdefault(timer.attempt.workflow, {})
        key = (timer.kind, timer.attempt)
        self._set_count += key not in timers
        self._sequence = timers[key] = self._sequence + 1
        heappush(self._timers, (order.at_ms, self._sequence, timer))
        if len(self._timers) > 2 * self._set_count + LEAST_STALE_COUNT:
            self._timers = [entry for entry in self._timers if self._is_set(*entry)]
            heapify(self._timers)

    def _is_set(self, at_ms: int, sequence: int, timer: Timer) -> bool:
        return self._set.get(timer.attempt.workflow, {}).get((timer.kind, timer.attempt)) == sequence

    def _clear_timers(self, order: ef.ClearTimers) -> None:
        attempt = order.attempt
        timers = self._set.get(attempt.workflow)
        if timers:
            for key in [key for key in timers if attempt.item < 0 or key[1] == attempt]:
                del timers[key]
                self._set_count -= 1

    def _forget(self, order: ef.Forget) -> None:
        self._set_count -= len(self._set.pop(order.workflow, ()))
        self.tags.pop(order.workflow, None)

    def _fire(self, inputs: list[AnyInput]) -> None:
        """Timers that came due; the last sign of life of a simulated replica is now."""
        timers = self._timers
        while timers and timers[0][0] <= self.now_ms:
            at_ms, sequence, timer = heappop(timers)
            if self._is_set(at_ms, sequence, timer):
                del self._set[timer.attempt.workflow][timer.kind, timer.attempt]
                self._set_count -= 1
                inputs.append(TimerFired(timer, self.now_ms))

    def _again(self, order: ef.Again) -> None:
        self._soon.append(Poke())
