"""Effects: what the shell must do now that the events are durable. An ordered to-do list, each entry idempotent.

Frozen values; made by the EFFECT table of `core.step`; performed by `daemon.launcher` and `daemon.timers`. Performing
one twice, or after a crash again, has the effect of once: each names its attempt.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ffd.core.model import AttemptId, Place, Timer
from ffd.core.spec import Resources


class Effect(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Common head."""


class Launch(Effect, frozen=True, gc=False):
    """Start the whole gang. Results come back as reports (ReplicaStarted, ReplicaExited, LaunchFailed per rank).

    Exactly one of `script`, `argv`, `function` is set. `env` holds the user's variables and expression bindings; the
    runtime adds its `identity`, FFD_OUTPUT, FFD_CHECKPOINT_DIR, rank variables and MASTER_ADDR/MASTER_PORT, the shell
    FFD_ADDRESS and FFD_TOKEN. `places[rank]` says where each replica runs."""

    attempt: AttemptId
    handle: str  # name.number of the workflow
    project: str
    places: tuple[Place, ...]
    script: str = ""
    argv: tuple[str, ...] = ()
    function: str = ""
    with_: dict[str, Any] = {}
    env: dict[str, str] = {}
    files: dict[str, str] = {}
    workdir: str = ""
    base_dir: str = ""
    image: str = ""
    resources: Resources = Resources()
    launcher: str = "none"  # none | torchrun | mpi
    idle_ms: int = 0  # > 0: the runtime reports signs of life
    keeps_checkpoint: bool = False  # it declares `checkpoint`: its directory must be there
    checkpoint_path: str = ""  # where, when the document says so
    restored: dict[str, Any] | None = None  # checkpoint of an earlier attempt
    report_only: bool = False  # it ran before a restart: start nothing, report each replica as it is (lost: node-lost)

    def identity(self) -> dict[str, str]:
        """Variables that tell a task which attempt of what it is."""
        attempt = self.attempt
        return {
            "FFD_RUN": self.handle,
            "FFD_PROJECT": self.project,
            "FFD_WORKFLOW": str(attempt.workflow),
            "FFD_TASK": attempt.task,
            "FFD_ITEM": str(attempt.item),
            "FFD_ATTEMPT": str(attempt.attempt),
        }


class Stop(Effect, frozen=True, gc=False):
    """Stop every living replica of the attempt: notice and TERM, `grace_ms` later KILL, whole process groups.
    Replicas that do not exist any more (or never did) are reported as exited again."""

    attempt: AttemptId
    ranks: int  # how many replicas it has
    grace_ms: int
    reason: str  # a CauseKind


class Settled(Effect, frozen=True, gc=False):
    """The end of this attempt is durable (or it never mattered): the runtime may forget its replicas."""

    attempt: AttemptId


class SetTimer(Effect, frozen=True, gc=False):
    """Report TimerFired(timer) at `at_ms`; replaces an earlier setting of the same timer."""

    timer: Timer
    at_ms: int


class ClearTimers(Effect, frozen=True, gc=False):
    """Timers of this attempt matter no more (attempt.attempt 0 and item -1: those of the whole workflow)."""

    attempt: AttemptId


class Forget(Effect, frozen=True, gc=False):
    """The workflow left memory: drop what the shell keeps for it (progress, barriers, timers)."""

    workflow: int


class Again(Effect, frozen=True, gc=False):
    """The scheduling cycle used up its work budget: send Poke after other inputs had their turn."""


AnyEffect = Launch | Stop | Settled | SetTimer | ClearTimers | Forget | Again
