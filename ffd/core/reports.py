"""Reports: facts observed by runtimes, watchers, timers and the task SDK. Never refused with an error that kills the
sender; may be stale, late, duplicated or reordered: `core.observe` is the only place that sorts that out.

Frozen values; made by plugins, `daemon.timers`, `api`; handled through `core.step`. `at_ms`: when the reporter saw it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ffd.core.model import AttemptId, Node, Timer


class Report(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Common head."""


class ReplicaStarted(Report, frozen=True, gc=False):
    """A replica's process or container runs."""

    attempt: AttemptId
    rank: int
    at_ms: int = 0


class ReplicaExited(Report, frozen=True, gc=False):
    """A replica is proven gone. Exactly one of exit_code >= 0 or signal > 0, or neither when the status is unknown.

    `kind` is the runtime's own classification ("" = derive from the code): oom, node-lost, evicted, gpu-error ...
    `outputs`: what it wrote to $FFD_OUTPUT, as (name, value) pairs in file order: raw text, to be read by the declared
    type, unless `outputs_are_json` (the file was a JSON object: its strings are strings). `output_fault` says why that
    file could not be read (too large, malformed). `tail`: last lines of its log, bounded."""

    attempt: AttemptId
    rank: int
    exit_code: int = -1
    signal: int = 0
    kind: str = ""
    message: str = ""
    outputs: tuple[tuple[str, Any], ...] = ()
    output_fault: str = ""
    tail: str = ""
    at_ms: int = 0
    outputs_are_json: bool = False


class LaunchFailed(Report, frozen=True, gc=False):
    """A replica could not be started and does not live. kind: launch | image-pull | node-lost | error (the user's
    fault: no such command or directory)."""

    attempt: AttemptId
    rank: int
    kind: Literal["launch", "image-pull", "node-lost", "error"]
    message: str
    at_ms: int = 0


class InventoryReported(Report, frozen=True, gc=False):
    """The full set of nodes, sorted by name. Level-triggered: replaces what was known."""

    nodes: tuple[Node, ...]


class TimerFired(Report, frozen=True, gc=False):
    """A timer set by an effect came due. For `idle` timers `active_at_ms` is the last sign of life the shell knows."""

    timer: Timer
    active_at_ms: int = 0


class OutputsReported(Report, frozen=True, gc=False):
    """The SDK commits outputs of the current attempt. Refused as `superseded` when stale, `output` when undeclared,
    of the wrong type or too large: the answer goes back to the caller, nothing else happens."""

    attempt: AttemptId
    outputs: dict[str, Any]


class CheckpointReported(Report, frozen=True, gc=False):
    """The SDK saves a checkpoint (small JSON; large data goes to FFD_CHECKPOINT_DIR)."""

    attempt: AttemptId
    value: dict[str, Any]


class Recovered(Report, frozen=True, gc=False):
    """First input of a reign, after State.load: what the runtime really has, sorted. The core re-emits what is missing
    (launches, stops, timers). `living`: (attempt, rank) whose process or pod exists; exits arrive as ReplicaExited."""

    living: tuple[tuple[AttemptId, int], ...]


class Poke(Report, frozen=True, gc=False):
    """Asks for one more step: a scheduling cycle ran out of its work budget."""


AnyReport = (
    ReplicaStarted
    | ReplicaExited
    | LaunchFailed
    | InventoryReported
    | TimerFired
    | OutputsReported
    | CheckpointReported
    | Recovered
    | Poke
)
