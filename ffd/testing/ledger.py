"""The ledger: holds a history against the invariants that speak of histories, one decision at a time.

It keeps what a store would (rows, by upsert) and folds the events into a second State of its own, so that after any
step rows, fold and the live State can be compared (S22). Used by the core's tests and by the simulation; each fault
begins with the name of its invariant. Never here: what must hold of one state (`core.invariants`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from ffd.core import events as ev
from ffd.core.amounts import amounts_on
from ffd.core.decision import Decision
from ffd.core.effects import Launch, Stop
from ffd.core.limits import Limits
from ffd.core.model import INFRASTRUCTURE_CAUSES, REQUEUED_CAUSES, TERMINAL, AttemptId, Rows
from ffd.core.spec import Spec, Task
from ffd.core.state import State

Item = tuple[int, str, int]


class Ledger:
    """Of one database: `record` each decision that was made durable, in order. `rows` is what the store holds now,
    `live` which workflows recovery would load."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.rows = Rows()
        self.live: dict[int, bool] = {}
        self.fold = State(self.limits)
        self._ended: dict[int, Rows] = {}  # workflows that left the fold, as they left it
        self._specs: dict[str, Spec] = {}
        self._digest_of: dict[int, str] = {}
        self._verdict: dict[int, str] = {}  # of workflows that are doomed
        self._round: dict[int, int] = {}
        self._last: dict[Item, int] = {}  # the last attempt that was admitted
        self._tries: dict[tuple[Item, int], list[int]] = {}  # in a round: attempts; failed, lost, requeued ones
        self._settled: dict[tuple[int, str], str] = {}  # tasks that ended, and how
        self._judged: dict[tuple[int, str, int], str] = {}  # task and round -> how it left `waiting`
        self._launched: dict[AttemptId, Launch] = {}

    # ----------------------------------------------------------------------------------------------------- recording

    def record(self, decision: Decision, now_ms: int) -> list[str]:
        """Take one durable decision in; returns what it broke."""
        faults: list[str] = []
        for event in decision.events:
            check = _CHECKS.get(type(event))
            if check is not None:
                faults.extend(check(self, event))
            self._fold(event, now_ms)
        faults.extend(self._orders(decision))
        self._store(decision)
        return faults

    def _fold(self, event: ev.AnyEvent, now_ms: int) -> None:
        if isinstance(event, ev.WorkflowReopened):
            self.fold.adopt(self._ended.pop(event.workflow))
        elif isinstance(event, ev.WorkflowForgotten):
            self._ended[event.workflow] = self.fold.rows_of(event.workflow)
        self.fold.apply(event, now_ms)
        self.fold.take_rows()

    def _store(self, decision: Decision) -> None:
        rows = decision.rows
        self.rows.workflows.update(rows.workflows)
        self.rows.tasks.update(rows.tasks)
        self.rows.items.update(rows.items)
        self.rows.specs.update(rows.specs)
        self.rows.meta.update(rows.meta)
        self.live.update((listing.workflow, listing.live) for listing in decision.listings)

    # --------------------------------------------------------------------------------------------------- what is held

    def rows_of(self, workflow: int) -> Rows:
        """All stored rows of one workflow, as Store.read_workflow gives them."""
        found = Rows(
            workflows={key: blob for key, blob in self.rows.workflows.items() if key == workflow},
            tasks={key: blob for key, blob in self.rows.tasks.items() if key[0] == workflow},
            items={key: blob for key, blob in self.rows.items.items() if key[0] == workflow},
        )
        digest = self._digest_of.get(workflow, "")
        found.specs = {key: blob for key, blob in self.rows.specs.items() if key == digest}
        return found

    def loadable(self) -> Rows:
        """What recovery loads: rows of live workflows, and all meta."""
        found = Rows(meta=dict(self.rows.meta))
        for workflow, is_live in self.live.items():
            if is_live:
                one = self.rows_of(workflow)
                found.workflows |= one.workflows
                found.tasks |= one.tasks
                found.items |= one.items
                found.specs |= one.specs
        return found

    def compare(self, state: State) -> list[str]:
        """S22: what is stored, what the events fold to, and what is in memory are the same."""
        faults = []
        stored = State.load(self.loadable(), self.limits)
        for what, other in (("the stored rows", stored), ("the events", self.fold)):
            if sorted(other.workflows) != sorted(state.workflows):
                faults.append(f"S22 {what} hold workflows {sorted(other.workflows)}, memory {sorted(state.workflows)}")
                continue
            faults += [
                f"S22 {what} of workflow {workflow} differ from memory"
                for workflow in state.workflows
                if other.rows_of(workflow) != state.rows_of(workflow)
            ]
            for name in ("nodes", "next_workflow", "numbers", "keys", "key_count", "item_count", "reserved_count"):
                if getattr(other, name) != getattr(state, name):
                    faults.append(f"S22 {what} give {name} {getattr(other, name)}, memory has {getattr(state, name)}")
            if other.health.marks != state.health.marks or other.space.closed != state.space.closed:
                faults.append(f"S22 {what} give marks {other.health.marks}, memory has {state.health.marks}")
            if other.tenancy.books() != state.tenancy.books():
                faults.append(f"S22 {what} give {other.tenancy.books()}, memory has {state.tenancy.books()}")
        return faults

    # ------------------------------------------------------------------------------------------------------- histories

    def _spec_added(self, e: ev.SpecAdded) -> Iterator[str]:
        self._specs[e.digest] = e.spec
        yield from ()

    def _accepted(self, e: ev.WorkflowAccepted) -> Iterator[str]:
        if e.workflow in self._digest_of:
            yield f"S10 workflow {e.workflow} was accepted twice"
        self._digest_of[e.workflow] = e.spec
        self._round[e.workflow] = 1

    def _doomed(self, e: ev.WorkflowDoomed) -> Iterator[str]:
        if self._verdict.get(e.workflow) == "cancelled" and e.verdict != "cancelled":
            yield f"S16 workflow {e.workflow} was cancelled and is now to be {e.verdict}"
        self._verdict[e.workflow] = "cancelled --now" if e.skip_finally else e.verdict

    def _workflow_ended(self, e: ev.WorkflowEnded) -> Iterator[str]:
        verdict = self._verdict.get(e.workflow, "")
        if verdict and not verdict.startswith(e.state):
            yield f"S10 workflow {e.workflow} was to be {verdict} and is {e.state}"
        failed = [name for name in self._failed(e.workflow) if not self._is_handled(e.workflow, name)]
        if not verdict and (e.state == "failed") != bool(failed):
            yield f"S10 workflow {e.workflow} is {e.state}, failed tasks that nobody handles: {failed}"
        if e.state == "failed" and (e.cause is None or not (e.cause.task or e.cause.kind == "workflow-timeout")):
            yield f"S10 workflow {e.workflow} failed and names no task: {e.cause}"

    def _failed(self, workflow: int) -> list[str]:
        return [name for (one, name), state in self._settled.items() if one == workflow and state == "failed"]

    def _is_handled(self, workflow: int, name: str) -> bool:
        tasks = self._tasks(workflow).values()
        return any(need.task == name and need.outcome != "success" for task in tasks for need in task.needs)

    def _reopened(self, e: ev.WorkflowReopened) -> Iterator[str]:
        self._round[e.workflow] += 1
        if e.round != self._round[e.workflow]:
            yield f"S10 workflow {e.workflow} is in round {self._round[e.workflow]}, the event says {e.round}"
        self._verdict.pop(e.workflow, None)
        again = dict.fromkeys((*e.waiting, *(name for name, _ in e.items)))
        for name in again:
            if self._settled.pop((e.workflow, name), "") == "succeeded" and not self._is_finally(e.workflow, name):
                yield f"S10 {name} of workflow {e.workflow} succeeded and is run again"
        for name in dict.fromkeys(name for name, _ in e.items):
            unsettled = [
                n.task for n in self._tasks(e.workflow)[name].needs if (e.workflow, n.task) not in self._settled
            ]
            if unsettled:
                yield f"S21 {name} of workflow {e.workflow} is open again before {unsettled}, which it needs"

    def _spec(self, workflow: int) -> Spec:
        return self._specs[self._digest_of[workflow]]

    def _tasks(self, workflow: int) -> dict[str, Task]:
        spec = self._spec(workflow)
        return {task.name: task for task in (*spec.tasks, *spec.finally_tasks)}

    def _is_finally(self, workflow: int, name: str) -> bool:
        return any(task.name == name for task in self._spec(workflow).finally_tasks)

    def _task_opened(self, e: ev.TaskOpened) -> Iterator[str]:
        yield from self._leave_waiting(e.workflow, e.task, "opened")
        if self._verdict.get(e.workflow) and not self._is_finally(e.workflow, e.task):
            yield f"S16 {e.task} of workflow {e.workflow} opened, which is to be {self._verdict[e.workflow]}"
        for need in self._tasks(e.workflow)[e.task].needs:
            state = self._settled.get((e.workflow, need.task), "not settled")
            met = state in TERMINAL if need.outcome == "done" else state == _STATE_OF_NEED[need.outcome]
            if not met:
                yield f"S21 {e.task} of workflow {e.workflow} opened, its need {need} is {state}"
        if self._is_finally(e.workflow, e.task):
            names = [task.name for task in self._spec(e.workflow).tasks]
            left = [name for name in names if (e.workflow, name) not in self._settled]
            if left:
                yield f"S21 {e.task} of workflow {e.workflow} runs after everything else, and {left} are not settled"

    def _leave_waiting(self, workflow: int, name: str, how: str) -> Iterator[str]:
        """`when` is evaluated once a round: a task leaves `waiting` once."""
        key = (workflow, name, self._round[workflow])
        before = self._judged.setdefault(key, how)
        if before != how or (how == "opened" and (workflow, name) in self._settled):
            yield f"S21 {name} of workflow {workflow} left waiting twice: {before}, {how}"

    def _task_ended(self, e: ev.TaskEnded) -> Iterator[str]:
        if (e.workflow, e.task) in self._settled:
            yield f"S10 {e.task} of workflow {e.workflow} ended twice"
        self._settled[e.workflow, e.task] = e.state
        if e.state == "skipped":
            yield from self._leave_waiting(e.workflow, e.task, "skipped")
            needs = [need.task for need in self._tasks(e.workflow)[e.task].needs]
            if e.cause is None or (e.cause.kind == "need" and e.cause.task not in needs):
                yield f"S21 {e.task} of workflow {e.workflow} was skipped for {e.cause}"

    def _admitted(self, e: ev.ItemAdmitted) -> Iterator[str]:
        a = e.attempt
        closed = [place.node for place in e.places if self.fold.health.mark(place.node).is_closed]
        if closed:
            yield f"S17 {a.label()} was admitted to {closed}, closed to new work"
        item: Item = (a.workflow, a.task, a.item)
        if a.attempt <= self._last.get(item, 0):
            yield f"S4 {a.label()} was admitted, the last one was #{self._last[item]}"
        self._last[item] = a.attempt
        verdict = self._verdict.get(a.workflow, "")
        if verdict and (not self._is_finally(a.workflow, a.task) or verdict == "cancelled --now"):
            yield f"S16 {a.label()} was admitted, the workflow is to be {verdict}"
        tries = self._tries.setdefault((item, self._round[a.workflow]), [0, 0, 0, 0])
        tries[0] += 1
        retries = self._tasks(a.workflow)[a.task].retry.max_count
        if tries[0] > 1 + min(tries[1], retries) + tries[2] + tries[3]:
            yield f"S26 {a.label()} is try {tries[0]} of its round, failed {tries[1]} times, machines {tries[2:]}"
        if tries[2] > self.limits.infrastructure_retries_count:
            yield f"S26 {a.label()} was lost to infrastructure {tries[2]} times"
        yield from self._allowed(e)

    def _allowed(self, e: ev.ItemAdmitted) -> Iterator[str]:
        """S17: nothing is admitted below a disabled tenant. S6: with it, no level is above its bound."""
        fold, label = self.fold, e.attempt.label()
        ask = self._tasks(e.attempt.workflow)[e.attempt.task].resources
        held = amounts_on(ask, len(e.places), fold.models_of(e.places, ask))
        for node in fold.workflows[e.attempt.workflow].tenant.chain():
            if not node.row.enabled:
                yield f"S17 {label} was admitted, and tenant {node.label} is disabled"
            for resource, amount in held.items():
                quota, used = node.row.quotas.get(resource), node.usage.get(resource, 0)
                if quota is not None and quota.bound is not None and used + amount > quota.bound:
                    yield f"S6 {label} has {amount} {resource} more, {node.label} had {used} of {quota.bound}"

    def _attempt_ended(self, e: ev.AttemptEnded) -> Iterator[str]:
        a = e.attempt
        if a.attempt != self._last.get((a.workflow, a.task, a.item), 0):
            yield f"S4 {a.label()} ended and is not the last one"
        if e.outcome == "failed":
            tries = self._tries[(a.workflow, a.task, a.item), self._round[a.workflow]]
            kind = e.cause.kind if e.cause is not None else ""
            tries[3 if kind in REQUEUED_CAUSES else 2 if kind in INFRASTRUCTURE_CAUSES else 1] += 1

    def _orders(self, decision: Decision) -> Iterator[str]:
        """S4: an attempt is launched once; said again it says the same, but for a checkpoint that it saved since. S8: a
        gang is stopped whole."""
        for effect in decision.effects:
            if isinstance(effect, Launch) and not effect.report_only:
                order = replace(effect, restored=None)
                if self._launched.setdefault(effect.attempt, order) != order:
                    yield f"S4 {effect.attempt.label()} was launched with two different orders"
            elif isinstance(effect, Stop):
                found = self.fold.current(effect.attempt)
                if found is not None and effect.ranks != len(found[3].places):
                    yield f"S8 {effect.attempt.label()} is stopped in part: {effect.ranks} of {len(found[3].places)}"


_STATE_OF_NEED = {"success": "succeeded", "failed": "failed"}
_CHECKS: dict[type, Callable[[Ledger, Any], Iterator[str]]] = {
    ev.SpecAdded: Ledger._spec_added,
    ev.WorkflowAccepted: Ledger._accepted,
    ev.WorkflowDoomed: Ledger._doomed,
    ev.WorkflowEnded: Ledger._workflow_ended,
    ev.WorkflowReopened: Ledger._reopened,
    ev.TaskOpened: Ledger._task_opened,
    ev.TaskEnded: Ledger._task_ended,
    ev.ItemAdmitted: Ledger._admitted,
    ev.AttemptEnded: Ledger._attempt_ended,
}
