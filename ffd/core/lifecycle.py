"""The lifecycles, as tables: (state, trigger) -> next state. A missing key is an illegal transition.

A trigger is an event's name, with `.outcome` where the event decides between ends. `State.apply` is the only caller of
`advance`; the diagrams in docs/reference/lifecycles.md are generated from these tables.
Terminal states have no way out but a user's retry (`WorkflowReopened`), which opens a new round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from ffd.core.model import ItemState, TaskState, WorkflowState

S = TypeVar("S", bound=str)

WORKFLOW: Final[dict[tuple[str, str], WorkflowState]] = {
    ("accepted", "WorkflowStarted"): "running",
    ("accepted", "WorkflowSuspended"): "suspended",
    ("running", "WorkflowSuspended"): "suspended",
    ("suspended", "WorkflowResumed"): "running",
    ("running", "WorkflowDoomed.failed"): "running",
    ("running", "WorkflowDoomed.cancelled"): "running",
    ("suspended", "WorkflowDoomed.failed"): "suspended",  # its finally tasks wait for a resume
    ("suspended", "WorkflowDoomed.cancelled"): "running",  # a cancel is the user's last word: they run
    ("running", "WorkflowEnded.succeeded"): "succeeded",
    ("running", "WorkflowEnded.failed"): "failed",
    ("running", "WorkflowEnded.cancelled"): "cancelled",
    ("suspended", "WorkflowEnded.succeeded"): "succeeded",
    ("suspended", "WorkflowEnded.failed"): "failed",
    ("suspended", "WorkflowEnded.cancelled"): "cancelled",
    ("failed", "WorkflowReopened"): "running",
    ("cancelled", "WorkflowReopened"): "running",
}

TASK: Final[dict[tuple[str, str], TaskState]] = {
    ("waiting", "TaskOpened"): "open",
    ("waiting", "TaskEnded.failed"): "failed",
    ("waiting", "TaskEnded.skipped"): "skipped",
    ("waiting", "TaskEnded.cancelled"): "cancelled",
    ("open", "TaskEnded.succeeded"): "succeeded",
    ("open", "TaskEnded.failed"): "failed",
    ("open", "TaskEnded.cancelled"): "cancelled",
    ("succeeded", "WorkflowReopened.waiting"): "waiting",  # finally tasks run again at the end of each round
    ("failed", "WorkflowReopened.waiting"): "waiting",
    ("skipped", "WorkflowReopened.waiting"): "waiting",
    ("cancelled", "WorkflowReopened.waiting"): "waiting",
    ("failed", "WorkflowReopened.open"): "open",
    ("cancelled", "WorkflowReopened.open"): "open",
}

ITEM: Final[dict[tuple[str, str], ItemState]] = {
    ("ready", "ItemAdmitted"): "admitted",
    ("ready", "ItemEnded.failed"): "failed",  # its queue timeout
    ("ready", "ItemEnded.cancelled"): "cancelled",
    ("admitted", "AttemptLaunching"): "launching",
    ("admitted", "AttemptEnded"): "ended",
    ("launching", "AttemptRunning"): "running",
    ("launching", "AttemptStopping"): "stopping",
    ("launching", "AttemptEnded"): "ended",
    ("running", "AttemptStopping"): "stopping",
    ("running", "AttemptEnded"): "ended",
    ("stopping", "AttemptEnded"): "ended",
    ("ended", "ItemEnded.succeeded"): "succeeded",  # `ended` never outlives the step that entered it
    ("ended", "ItemEnded.failed"): "failed",
    ("ended", "ItemEnded.cancelled"): "cancelled",
    ("ended", "ItemBackedOff"): "backoff",
    ("ended", "ItemReady"): "ready",  # it was preempted: back to the queue at once
    ("backoff", "ItemReady"): "ready",
    ("backoff", "ItemEnded.failed"): "failed",
    ("backoff", "ItemEnded.cancelled"): "cancelled",
    ("failed", "WorkflowReopened"): "ready",
    ("cancelled", "WorkflowReopened"): "ready",
}


class IllegalTransition(AssertionError):
    """Our bug: a stage decided an event that the object's state does not allow. Carries the object's story."""


def advance(table: Mapping[tuple[str, str], S], state: S, trigger: str, who: str) -> S:
    """The state after `trigger`; raises IllegalTransition naming `who`, the state and the trigger."""
    after = table.get((state, trigger))
    if after is None:
        raise IllegalTransition(f"{who} is {state}: {trigger} is not in its lifecycle")
    return after
