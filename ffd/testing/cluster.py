"""A toy cluster on a virtual clock: turns the effects of the core into reports, as scripted. Pure and deterministic.

For tests of the core alone: no event loop, no store but a `Ledger`, no time but `now_ms`. Every step is checked
(`core.invariants`, the ledger) and written to the story. Never here: the shell; see the simulation for that.

    cluster = Cluster(nodes(2), {"a": Behaviour(exit_code=1), "b#2": Behaviour(run_ms=50)})
    cluster.send(submit(spec(task("a"), task("b", "a"))))
    cluster.run()
    assert cluster.states() == {...}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import Any

import msgspec

from ffd.core import effects as ef
from ffd.core import events as ev
from ffd.core import reports
from ffd.core.commands import Answer, AnyCommand, Retry
from ffd.core.decision import Decision
from ffd.core.invariants import check
from ffd.core.limits import Limits
from ffd.core.model import AttemptId, Node, Timer
from ffd.core.policy import Policy
from ffd.core.reports import AnyReport
from ffd.core.state import State
from ffd.core.step import step
from ffd.core.story import event_text
from ffd.errors import FfdError
from ffd.testing.ledger import Ledger

STEPS_COUNT = 100_000  # of one `run`: more means that it never ends


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica does. `refuse`: it cannot be started, for this cause. `stop_ms`: how long it takes to die when
    told to; without a `start_ms` it is never heard of until it exits (a lost report)."""

    start_ms: int | None = 100
    run_ms: int = 1_000
    exit_code: int = 0
    signal: int = 0
    kind: str = ""
    message: str = ""
    tail: str = ""
    outputs: Mapping[str, Any] = {}
    output_fault: str = ""
    checkpoint: dict[str, Any] | None = None  # saved half-way
    refuse: Any = ""
    stop_ms: int = 200


Script = Mapping[str, Behaviour] | Callable[[AttemptId, int], Behaviour]


class Broken(AssertionError):
    """An invariant does not hold, or a run never ends; carries the story so far."""


class _Replica:
    """One process. `ended` is its only exit, however often it is told."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.is_living = True
        self.ended: AnyReport | None = None


class Cluster:
    """A controller, a runtime and timers in one. `script` says how replicas behave, most telling name first:
    `train[3]#2:5` (item, attempt, rank), each part may be left out; what it does not name runs 1 s and exits 0."""

    def __init__(
        self,
        inventory: tuple[Node, ...],
        script: Script | None = None,
        *,
        limits: Limits | None = None,
        policy: Policy | None = None,
        now_ms: int = 0,
        is_checked: bool = True,
    ) -> None:
        self.limits = limits or Limits()
        self.policy = policy or Policy()
        self.state = State(self.limits, self.policy)
        self.ledger = Ledger(self.limits)
        self.now_ms = now_ms
        self.is_checked = is_checked
        self.is_broken = False  # a step raised, or broke an invariant: nothing more can be said of this cluster
        self.behaviours: Script = script or {}
        self.story: list[tuple[int, ev.AnyEvent]] = []
        self.effects: list[ef.AnyEffect] = []  # all that were ordered, in order
        self.orders: dict[AttemptId, ef.Launch] = {}
        self.pages: dict[int, dict[str, str]] = {}  # how the tasks of ended workflows ended
        self._replicas: dict[tuple[AttemptId, int], _Replica] = {}
        self._timers: dict[Timer, int] = {}
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._began_at_ms = now_ms
        self.send(reports.InventoryReported(inventory))

    # -------------------------------------------------------------------------------------------------- the controller

    def send(self, *inputs: AnyCommand | AnyReport) -> list[Answer | FfdError | None]:
        """One step over these inputs, made durable, its effects performed. Returns the answers, in order."""
        given = [self._with_rows(one) for one in inputs]
        self.is_broken = True  # unless it returns
        decision = step(self.state, given, self.now_ms)
        self.story += [(self.now_ms, event) for event in decision.events]
        self._remember_ends(decision)
        faults = self.ledger.record(decision, self.now_ms)
        if self.is_checked:
            faults += check(self.state)
        if faults:
            raise Broken("\n".join([*faults, *self.lines()]))
        self.is_broken = False
        self.effects += decision.effects
        for effect in decision.effects:
            _PERFORM[type(effect)](self, effect)
        return [answer for _, answer in decision.answers]

    def _with_rows(self, given: AnyCommand | AnyReport) -> AnyCommand | AnyReport:
        if isinstance(given, Retry) and given.rows is None and given.workflow not in self.state.workflows:
            return msgspec.structs.replace(given, rows=self.ledger.rows_of(given.workflow))
        return given

    def _remember_ends(self, decision: Decision) -> None:
        for event in decision.events:
            if isinstance(event, ev.WorkflowAccepted):
                spec = self.state.dags.get(event.spec)
                self.pages[event.workflow] = dict.fromkeys(spec.names if spec else (), "waiting")
            elif isinstance(event, ev.TaskEnded):
                self.pages[event.workflow][event.task] = event.state
            elif isinstance(event, ev.WorkflowEnded):
                self.pages[event.workflow][""] = event.state

    def restart(self) -> None:
        """Kill the controller: a new one loads what is durable and meets what still lives. Timers are lost."""
        faults = self.ledger.compare(self.state)
        if faults:
            raise Broken("\n".join([*faults, *self.lines()]))
        self.state = State.load(self.ledger.loadable(), self.limits, self.policy)
        self._timers.clear()
        living = sorted(name for name, replica in self._replicas.items() if replica.is_living)
        self.send(reports.Recovered(tuple(living)))

    # -------------------------------------------------------------------------------------------------------- the time

    def at(self, at_ms: int, action: Callable[[], Any]) -> None:
        """Do something at a moment of the virtual clock (counted from the start of the cluster)."""
        self._do_at(self._began_at_ms + at_ms, action)

    def _do_at(self, at_ms: int, action: Callable[[], Any]) -> None:
        self._sequence += 1
        heappush(self._agenda, (max(at_ms, self.now_ms), self._sequence, action))

    def run(self, for_ms: int | None = None) -> None:
        """Until nothing is left to happen, or for this long."""
        until_ms = None if for_ms is None else self.now_ms + for_ms
        for _ in range(STEPS_COUNT):
            timer = min(self._timers, key=lambda timer: (self._timers[timer], timer), default=None)
            timer_ms = self._timers[timer] if timer is not None else None
            agenda_ms = self._agenda[0][0] if self._agenda else None
            due = [ms for ms in (timer_ms, agenda_ms) if ms is not None]
            if not due or (until_ms is not None and min(due) > until_ms):
                self.now_ms = max(self.now_ms, until_ms or 0)
                return
            self.now_ms = max(self.now_ms, min(due))
            if agenda_ms is not None and agenda_ms == min(due):
                heappop(self._agenda)[2]()
            elif timer is not None:
                del self._timers[timer]
                self.send(reports.TimerFired(timer))
        raise Broken("\n".join(["L6 the run never ends", *self.lines()[-50:]]))

    # ----------------------------------------------------------------------------------------------------- the runtime

    def _behaviour(self, attempt: AttemptId, rank: int) -> Behaviour:
        if callable(self.behaviours):
            return self.behaviours(attempt, rank)
        item, number, own_rank = f"[{attempt.item}]", f"#{attempt.attempt}", f":{rank}"
        for whose in (own_rank, ""):
            for which in (item + number, number, item, ""):
                found = self.behaviours.get(attempt.task + which + whose)
                if found is not None:
                    return found
        return Behaviour()

    def _launch(self, order: ef.Launch) -> None:
        if not order.report_only:
            self.orders[order.attempt] = order
        for rank in range(len(order.places)):
            known = self._replicas.get((order.attempt, rank))
            if known is not None:
                self._tell_again(order.attempt, rank, known)
            elif order.report_only:
                lost = reports.ReplicaExited(order.attempt, rank, kind="node-lost", message="left no trace")
                self._do_at(self.now_ms, partial(self.send, lost))
            else:
                self._start(order.attempt, rank)

    def _tell_again(self, attempt: AttemptId, rank: int, replica: _Replica) -> None:
        told = replica.ended or reports.ReplicaStarted(attempt, rank)
        self._do_at(self.now_ms, partial(self.send, told))

    def _start(self, attempt: AttemptId, rank: int) -> None:
        behaviour = self._behaviour(attempt, rank)
        replica = self._replicas[attempt, rank] = _Replica(behaviour)
        begin_ms = self.now_ms + (behaviour.start_ms or 0)
        if behaviour.refuse:
            failed = reports.LaunchFailed(attempt, rank, behaviour.refuse, behaviour.message or "cannot be started")
            self._do_at(begin_ms, partial(self._end, attempt, rank, failed))
            return
        if behaviour.start_ms is not None:
            self._do_at(begin_ms, lambda: replica.is_living and self.send(reports.ReplicaStarted(attempt, rank)))
        if behaviour.checkpoint is not None:
            saved = reports.CheckpointReported(attempt, behaviour.checkpoint)
            self._do_at(begin_ms + behaviour.run_ms // 2, lambda: replica.is_living and self.send(saved))
        ended = _exit(attempt, rank, behaviour)
        self._do_at(begin_ms + behaviour.run_ms, partial(self._end, attempt, rank, ended))

    def _end(self, attempt: AttemptId, rank: int, report: AnyReport) -> None:
        replica = self._replicas[attempt, rank]
        if replica.is_living:
            replica.is_living, replica.ended = False, report
            self.send(report)

    def _stop(self, effect: ef.Stop) -> None:
        for rank in range(effect.ranks):
            replica = self._replicas.get((effect.attempt, rank))
            if replica is None:
                gone = reports.ReplicaExited(effect.attempt, rank, message="never started")
                self._replicas[effect.attempt, rank] = replica = _Replica(Behaviour())
                replica.is_living, replica.ended = False, gone
            if replica.is_living:
                killed = reports.ReplicaExited(effect.attempt, rank, signal=15)
                at_ms = self.now_ms + min(replica.behaviour.stop_ms, effect.grace_ms)
                self._do_at(at_ms, partial(self._end, effect.attempt, rank, killed))
            else:
                self._tell_again(effect.attempt, rank, replica)

    def lose(self, node: str) -> None:
        """The node is gone, and what ran there with it: first the inventory says so, then each replica."""
        self.send(reports.InventoryReported(tuple(one for one in self.state.nodes if one.name != node)))
        for (attempt, rank), replica in sorted(self._replicas.items(), key=lambda pair: pair[0]):
            order = self.orders.get(attempt)
            if replica.is_living and order is not None and order.places[rank].node == node:
                lost = reports.ReplicaExited(attempt, rank, kind="node-lost", message=f"{node} is gone")
                self._end(attempt, rank, lost)

    # ------------------------------------------------------------------------------------------------------ the timers

    def _set_timer(self, effect: ef.SetTimer) -> None:
        self._timers[effect.timer] = effect.at_ms

    def _clear_timers(self, effect: ef.ClearTimers) -> None:
        for timer in [timer for timer in self._timers if timer.attempt == effect.attempt]:
            del self._timers[timer]

    def _forget(self, effect: ef.Forget) -> None:
        for timer in [timer for timer in self._timers if timer.attempt.workflow == effect.workflow]:
            del self._timers[timer]

    def _settled(self, effect: ef.Settled) -> None:
        """The toy keeps its replicas: a late question about them is answered."""

    def _again(self, effect: ef.Again) -> None:
        self._do_at(self.now_ms, partial(self.send, reports.Poke()))

    # ------------------------------------------------------------------------------------------------------- the story

    def lines(self, *, workflow: int = 0) -> list[str]:
        """The story as people read it: `  1.100  a[0]#1 running`, seconds since the start."""
        return [
            f"{(at_ms - self._began_at_ms) / 1000:9.3f}  {event_text(event)}"
            for at_ms, event in self.story
            if not isinstance(event, _SILENT) and (not workflow or _workflow_of(event) in (0, workflow))
        ]

    def of(self, kind: type[ev.AnyEvent]) -> Sequence[Any]:
        """All events of one type so far."""
        return [event for _, event in self.story if isinstance(event, kind)]

    def states(self, workflow: int = 1) -> dict[str, str]:
        """How each task of a workflow stands, by name; "" is the workflow itself."""
        live = self.state.workflows.get(workflow)
        if live is None:
            return self.pages[workflow]
        return {"": live.row.state, **{name: task.row.state for name, task in live.tasks.items()}}


_SILENT = (ev.SpecAdded, ev.KeyRemembered, ev.WorkflowForgotten, ev.NodesChanged)
_PERFORM: dict[type, Callable[[Cluster, Any], None]] = {
    ef.Launch: Cluster._launch,
    ef.Stop: Cluster._stop,
    ef.Settled: Cluster._settled,
    ef.SetTimer: Cluster._set_timer,
    ef.ClearTimers: Cluster._clear_timers,
    ef.Forget: Cluster._forget,
    ef.Again: Cluster._again,
}


def _exit(attempt: AttemptId, rank: int, behaviour: Behaviour) -> reports.ReplicaExited:
    has_code = not behaviour.signal and behaviour.kind in ("", "oom")
    return reports.ReplicaExited(
        attempt,
        rank,
        exit_code=behaviour.exit_code if has_code else -1,
        signal=behaviour.signal,
        kind=behaviour.kind,
        message=behaviour.message,
        outputs=tuple(behaviour.outputs.items()),
        output_fault=behaviour.output_fault,
        tail=behaviour.tail,
    )


def _workflow_of(event: Any) -> int:
    attempt = getattr(event, "attempt", None)
    return attempt.workflow if attempt is not None else getattr(event, "workflow", 0)
