"""A validated workflow document, as frozen structs: what `core/document` produces and everybody else only reads.

Nothing here changes after submit. All defaults are resolved (`defaults` merged, short forms expanded), so no reader
ever asks "was it given?". Units are in the names. Equal specs encode to equal bytes: the digest of a Spec names it.

Every text that may hold `${{ cel }}` is a `Text`: a plain `str` when it holds none (the common case costs nothing),
else a `Template`.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

NeedOutcome = Literal["success", "failed", "done"]
TaskKind = Literal["run", "command", "call"]
OutputType = Literal["string", "int", "float", "bool", "json", "uri"]
ParamType = Literal["string", "int", "float", "bool", "json", "list", "map", "secret"]


class Template(msgspec.Struct, frozen=True, tag="template", gc=False):
    """`parts` alternates literal, expression, literal, ...; it always starts and ends with a literal (maybe "").

    A template of exactly ("", expr, "") keeps the expression's type; any other joins everything to a string.
    """

    parts: tuple[str, ...]

    @property
    def expressions(self) -> tuple[str, ...]:
        return self.parts[1::2]


Text = str | Template


class Param(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One declared parameter. `default` is meaningless when `required`."""

    name: str
    type: ParamType
    required: bool = False
    default: Any = None
    enum: tuple[Any, ...] = ()
    min: float | None = None
    max: float | None = None
    pattern: str = ""
    description: str = ""


class Need(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An edge of the DAG: this task waits until `task` is settled as `outcome` asks. One Need per (child, parent)."""

    task: str
    outcome: NeedOutcome = "success"


WHOLE_MILLIS: Final = 1000  # thousandths of a whole GPU; one object, so that `omit_defaults` knows it


class Resources(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, cache_hash=True):
    """What one replica asks for. Zero or empty means "no demand". `gpu_millis` is how much of each GPU, in thousandths:
    below 1000 only with `gpu_count` 1 (a shared GPU). `shm_bytes` count against the node's memory, like `memory_bytes`.
    """

    gpu_count: int = 0
    gpu_types: tuple[str, ...] = ()  # by preference; empty = any model
    gpu_memory_bytes: int = 0  # least memory of each GPU
    mig_profile: str = ""
    mig_count: int = 0
    cpu_millis: int = 0
    memory_bytes: int = 0
    shm_bytes: int = 0
    disk_bytes: int = 0
    rdma: bool = False
    gpu_millis: int = WHOLE_MILLIS
    node_labels: tuple[tuple[str, str], ...] = ()  # labels that the node must have, sorted by key
    tolerate: tuple[str, ...] = ()  # taints that do not keep it away, sorted

    @property
    def held_memory_bytes(self) -> int:
        """What a replica takes of a node's memory."""
        return self.memory_bytes + self.shm_bytes

    @property
    def has_gpus(self) -> bool:
        """Does a replica take GPUs, or slices of some?"""
        return bool(self.gpu_count or self.mig_count)

    @property
    def held_gpu_millis(self) -> int:
        """Thousandths of GPUs that a replica takes; MIG slices are not counted here."""
        return self.gpu_count * self.gpu_millis


class Gang(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, cache_hash=True):
    """All-or-nothing set of replicas. A plain task is a gang of one."""

    replicas: int = 1
    min_replicas: int = 0  # elastic floor; 0 = not elastic
    # any | same-node | compact (every node but one is filled by the gang) | nvlink | same-rack | another level's name
    topology: str = "any"
    topology_required: bool = True
    topology_with: tuple[str, ...] = ()  # tasks whose domain to share
    launcher: Literal["none", "torchrun", "mpi"] = "none"
    on_failure: Literal["restart-all"] = "restart-all"
    success: Literal["all", "leader"] = "all"
    wait_ms: int = 0


class Retry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """When and how often a failed attempt is tried again. `max_count` counts retries, so attempts <= 1 + max_count.

    `causes` empty = any cause. Entries are cause words or exit codes as decimal strings. Infrastructure causes have
    their own budget (`limits.infrastructure_retries`) and do not use up `max_count`.
    Delay before retry n (from 1): min(backoff_ms * factor**(n-1), max_backoff_ms), then +- jitter (a fraction).
    """

    max_count: int = 0
    backoff_ms: int = 1_000
    factor: float = 2.0
    max_backoff_ms: int = 300_000
    jitter: float = 0.1
    causes: tuple[str, ...] = ()


class Timeouts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Milliseconds; 0 = none. run: from running to ended. queue: from ready to admitted. start: from launching to
    running. idle: since the last log line, progress or heartbeat."""

    run_ms: int = 0
    queue_ms: int = 0
    start_ms: int = 0
    idle_ms: int = 0


class Checkpoint(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """`path` "" = a directory the runtime chooses. `grace_ms`: how long a noticed attempt may go on to save."""

    path: Text = ""
    grace_ms: int = 30_000


class Task(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One named node of the DAG, before it runs.

    kind `run`: `script` is a shell script in which each `${{ cel }}` was replaced by `"${FFD_EXPR_k}"`-style variable
    references; `bindings` maps those variable names to their CEL sources (evaluated at launch, passed as environment).
    kind `command`: `argv`, each Text exactly one element. kind `call`: `function` "module:function" with `with_`.
    """

    name: str
    kind: TaskKind
    needs: tuple[Need, ...] = ()  # declared and inferred from expressions, in document order, no duplicates
    when: str = ""  # CEL -> bool; "" = always
    script: str = ""
    bindings: dict[str, str] = {}
    argv: tuple[Text, ...] = ()
    function: str = ""
    # `with_`: plain JSON values; a text with `${{ }}` stands as {"$cel": [part, ...]} (Template.parts)
    with_: dict[str, Any] = {}
    image: str = ""
    env: dict[str, Text] = {}
    files: dict[str, Text] = {}  # relative path -> content
    workdir: Text = ""
    resources: Resources = Resources()
    gang: Gang = Gang()
    matrix: dict[str, tuple[Any, ...]] = {}  # key -> values; the product, last key fastest
    foreach: tuple[Any, ...] | Template | None = None  # a Template is exactly one expression that yields a list
    max_parallel: int = 0  # items of this task at once; 0 = no bound
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    outputs: dict[str, OutputType] = {}
    checkpoint: Checkpoint | None = None
    line: int = 0  # where the task stands in its source, for messages; 0 = unknown

    @property
    def is_fanout(self) -> bool:
        """True when outputs of this task are lists in CEL (even if the list has one item or none)."""
        return self.foreach is not None or bool(self.matrix)


class Spec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A whole validated document. `tasks` is in document order; `finally_tasks` run after all of them."""

    name: str
    tasks: tuple[Task, ...]
    finally_tasks: tuple[Task, ...] = ()
    description: str = ""
    labels: dict[str, str] = {}
    project: str = ""  # "" = from context
    priority: int = 500
    params: tuple[Param, ...] = ()
    max_parallel: int = 0
    fail_fast: bool = True
    timeout_ms: int = 0
    ttl_success_ms: int = 0  # 0 = the store's retention policy
    ttl_failure_ms: int = 0


_EMPTY: dict[str, Any] = {}
_MAPS = ("bindings", "with_", "env", "files", "matrix", "outputs")


def share_empties(spec: Spec) -> None:
    """Let all empty maps of the tasks be one object: 400 bytes less per plain task, and nobody can tell (frozen)."""
    for task in (*spec.tasks, *spec.finally_tasks):
        for field in _MAPS:
            if not getattr(task, field):
                msgspec.structs.force_setattr(task, field, _EMPTY)
