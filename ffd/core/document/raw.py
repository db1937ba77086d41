"""The document as users may write it: field names and shapes, short forms included. The one place that lists them.

From these structs come the fast reading of a good document (`msgspec.convert`), the faults of a bad one (`shape.py`)
and the JSON Schema (`schema.py`). What the values mean is decided elsewhere (`tasks.py` and its neighbours); there is
no logic here.

Absent fields are UNSET; null is refused everywhere, so an empty `needs:` is a fault and not "none".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ffd.core.document.scalars import duration_ms, size_bytes

_DURATION = r"^([0-9]+(\.[0-9]+)?(ms|[smhdw]))+$"
_SIZE = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|K|M|G|T|P)(B|iB)?$"
_NAME = {"pattern": "^[a-z][a-z0-9_]{0,62}$"}

Scalar = str | int | float | bool
Duration = Annotated[
    str,
    Meta(
        description="a duration: 90s, 15m, 1h30m",
        extra_json_schema={"pattern": _DURATION},
        extra={"parse": duration_ms},
    ),
]
Size = Annotated[
    str, Meta(description="a size: 512Gi, 64Mi, 4G", extra_json_schema={"pattern": _SIZE}, extra={"parse": size_bytes})
]
Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Env = dict[str, Scalar]
Outcome = Literal["success", "failed", "done"]
OutputKind = Literal["string", "int", "float", "bool", "json", "uri"]
ParamKind = Literal["string", "int", "float", "bool", "json", "list", "map"]
Topology = Literal["any", "same-node", "compact", "nvlink", "same-rack"]

# Fields of the document format that this version does not run. Naming one is a fault: nothing is ever ignored.
UNSUPPORTED_TASK_FIELDS = ("use", "approve", "cache", "artifacts", "secrets", "volumes", "template")
UNSUPPORTED_FIELDS = ("storage",)


class Raw(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """Common head. Structs hold no cycles, so they stay out of the garbage collector's sight."""


class RawMig(Raw, frozen=True, gc=False):
    profile: str
    count: Positive | UnsetType = UNSET


class RawResources(Raw, frozen=True, gc=False):
    """What one replica asks for."""

    gpus: int | float | str | UnsetType = UNSET
    gpu_type: str | list[str] | UnsetType = UNSET
    gpu_memory: Size | UnsetType = UNSET
    mig: RawMig | UnsetType = UNSET
    cpus: int | float | str | UnsetType = UNSET
    memory: Size | UnsetType = UNSET
    shm: Size | UnsetType = UNSET
    disk: Size | UnsetType = UNSET
    rdma: bool | UnsetType = UNSET
    labels: Env | UnsetType = UNSET
    tolerate: list[str] | UnsetType = UNSET


class RawTopology(Raw, frozen=True, gc=False, rename={"with_": "with"}):
    level: str | UnsetType = UNSET
    mode: Literal["required", "preferred"] | UnsetType = UNSET
    with_: list[str] | UnsetType = UNSET


class RawGang(Raw, frozen=True, gc=False):
    """A set of replicas that start together or not at all."""

    replicas: Positive | UnsetType = UNSET
    min: Positive | UnsetType = UNSET
    topology: Topology | RawTopology | UnsetType = UNSET
    launcher: Literal["none", "torchrun", "mpi"] | UnsetType = UNSET
    on_failure: Literal["restart-all"] | UnsetType = UNSET
    success: Literal["all", "leader"] | UnsetType = UNSET
    wait: Duration | UnsetType = UNSET


class RawRetry(Raw, frozen=True, gc=False):
    max: Count | UnsetType = UNSET
    backoff: Duration | UnsetType = UNSET
    factor: Annotated[float, Meta(ge=1, le=100)] | UnsetType = UNSET
    max_backoff: Duration | UnsetType = UNSET
    jitter: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    causes: list[str | int] | UnsetType = UNSET


class RawTimeout(Raw, frozen=True, gc=False):
    run: Duration | UnsetType = UNSET
    queue: Duration | UnsetType = UNSET
    start: Duration | UnsetType = UNSET
    idle: Duration | UnsetType = UNSET


class RawCheckpoint(Raw, frozen=True, gc=False):
    path: str | UnsetType = UNSET
    grace: Duration | UnsetType = UNSET


class RawTask(Raw, frozen=True, gc=False, rename={"with_": "with"}):
    """One task. Exactly one of `run`, `command` and `call` says what it does."""

    needs: list[str] | dict[str, Outcome] | UnsetType = UNSET
    when: str | bool | UnsetType = UNSET
    run: str | UnsetType = UNSET
    command: list[Scalar] | UnsetType = UNSET
    args: list[Scalar] | UnsetType = UNSET
    call: str | UnsetType = UNSET
    with_: dict[str, Any] | UnsetType = UNSET
    image: str | UnsetType = UNSET
    env: Env | UnsetType = UNSET
    files: dict[str, str] | UnsetType = UNSET
    workdir: str | UnsetType = UNSET
    resources: RawResources | UnsetType = UNSET
    gang: Positive | RawGang | UnsetType = UNSET
    matrix: dict[str, list[Any]] | UnsetType = UNSET
    foreach: list[Any] | str | UnsetType = UNSET
    max_parallel: Positive | UnsetType = UNSET
    retry: Count | RawRetry | UnsetType = UNSET
    timeout: Duration | RawTimeout | UnsetType = UNSET
    outputs: dict[str, OutputKind] | UnsetType = UNSET
    checkpoint: bool | RawCheckpoint | UnsetType = UNSET


class RawTtl(Raw, frozen=True, gc=False):
    success: Duration | UnsetType = UNSET
    failure: Duration | UnsetType = UNSET


Tasks = Annotated[dict[str, RawTask], Meta(extra_json_schema={"propertyNames": _NAME, "minProperties": 1})]


class RawDocument(Raw, frozen=True, gc=False, rename={"finally_": "finally"}):
    """A workflow. Only `tasks` is needed."""

    tasks: Tasks
    version: Literal["ffd/v1"] | UnsetType = UNSET
    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    labels: Env | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=0, le=1000)] | UnsetType = UNSET
    project: str | UnsetType = UNSET
    params: Annotated[dict[str, Any], Meta(extra_json_schema={"propertyNames": _NAME})] | UnsetType = UNSET
    defaults: RawTask | UnsetType = UNSET
    max_parallel: Positive | UnsetType = UNSET
    fail_fast: bool | UnsetType = UNSET
    timeout: Duration | UnsetType = UNSET
    ttl: Duration | RawTtl | UnsetType = UNSET
    on_exit: Tasks | UnsetType = UNSET
    finally_: Tasks | UnsetType = UNSET


class RawParam(Raw, frozen=True, gc=False):
    """The long form of a parameter: any map under `params` is one."""

    type: ParamKind | UnsetType = UNSET
    default: Any = UNSET
    enum: list[Any] | UnsetType = UNSET
    min: int | float | UnsetType = UNSET
    max: int | float | UnsetType = UNSET
    pattern: str | UnsetType = UNSET
    required: bool | UnsetType = UNSET
    description: str | UnsetType = UNSET
