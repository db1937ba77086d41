from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttemptId(_message.Message):
    __slots__ = ("workflow", "task", "item", "attempt")
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    workflow: int
    task: str
    item: int
    attempt: int
    def __init__(self, workflow: _Optional[int] = ..., task: _Optional[str] = ..., item: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class Cause(_message.Message):
    __slots__ = ("kind", "message", "rank", "exit_code", "signal", "tail", "task", "item", "attempt", "node")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    TAIL_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    message: str
    rank: int
    exit_code: int
    signal: int
    tail: str
    task: str
    item: int
    attempt: int
    node: str
    def __init__(self, kind: _Optional[str] = ..., message: _Optional[str] = ..., rank: _Optional[int] = ..., exit_code: _Optional[int] = ..., signal: _Optional[int] = ..., tail: _Optional[str] = ..., task: _Optional[str] = ..., item: _Optional[int] = ..., attempt: _Optional[int] = ..., node: _Optional[str] = ...) -> None: ...

class WorkflowPage(_message.Message):
    __slots__ = ("id", "handle", "name", "project", "state", "verdict", "priority", "by", "round", "description", "labels", "params_json", "task_count", "counts", "accepted_at_ms", "started_at_ms", "ended_at_ms", "cause", "number")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class CountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PARAMS_JSON_FIELD_NUMBER: _ClassVar[int]
    TASK_COUNT_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    id: int
    handle: str
    name: str
    project: str
    state: str
    verdict: str
    priority: int
    by: str
    round: int
    description: str
    labels: _containers.ScalarMap[str, str]
    params_json: bytes
    task_count: int
    counts: _containers.ScalarMap[str, int]
    accepted_at_ms: int
    started_at_ms: int
    ended_at_ms: int
    cause: Cause
    number: int
    def __init__(self, id: _Optional[int] = ..., handle: _Optional[str] = ..., name: _Optional[str] = ..., project: _Optional[str] = ..., state: _Optional[str] = ..., verdict: _Optional[str] = ..., priority: _Optional[int] = ..., by: _Optional[str] = ..., round: _Optional[int] = ..., description: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., params_json: _Optional[bytes] = ..., task_count: _Optional[int] = ..., counts: _Optional[_Mapping[str, int]] = ..., accepted_at_ms: _Optional[int] = ..., started_at_ms: _Optional[int] = ..., ended_at_ms: _Optional[int] = ..., cause: _Optional[_Union[Cause, _Mapping]] = ..., number: _Optional[int] = ...) -> None: ...

class TaskPage(_message.Message):
    __slots__ = ("workflow", "name", "state", "finally_", "item_count", "fanout", "counts", "needs", "replicas", "attempt", "nodes", "reason", "outputs_json", "opened_at_ms", "started_at_ms", "ended_at_ms", "cause")
    class CountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FINALLY__FIELD_NUMBER: _ClassVar[int]
    ITEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    FANOUT_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    NEEDS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_JSON_FIELD_NUMBER: _ClassVar[int]
    OPENED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    workflow: str
    name: str
    state: str
    finally_: bool
    item_count: int
    fanout: bool
    counts: _containers.ScalarMap[str, int]
    needs: _containers.RepeatedScalarFieldContainer[str]
    replicas: int
    attempt: int
    nodes: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    outputs_json: bytes
    opened_at_ms: int
    started_at_ms: int
    ended_at_ms: int
    cause: Cause
    def __init__(self, workflow: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[str] = ..., finally_: bool = ..., item_count: _Optional[int] = ..., fanout: bool = ..., counts: _Optional[_Mapping[str, int]] = ..., needs: _Optional[_Iterable[str]] = ..., replicas: _Optional[int] = ..., attempt: _Optional[int] = ..., nodes: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., outputs_json: _Optional[bytes] = ..., opened_at_ms: _Optional[int] = ..., started_at_ms: _Optional[int] = ..., ended_at_ms: _Optional[int] = ..., cause: _Optional[_Union[Cause, _Mapping]] = ...) -> None: ...

class ItemPage(_message.Message):
    __slots__ = ("workflow", "task", "item", "state", "attempt", "user_failures", "infra_failures", "nodes", "since_at_ms", "retry_at_ms", "outputs_json", "progress_json", "cause")
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    USER_FAILURES_FIELD_NUMBER: _ClassVar[int]
    INFRA_FAILURES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    SINCE_AT_MS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AT_MS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_JSON_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_JSON_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    workflow: str
    task: str
    item: int
    state: str
    attempt: int
    user_failures: int
    infra_failures: int
    nodes: _containers.RepeatedScalarFieldContainer[str]
    since_at_ms: int
    retry_at_ms: int
    outputs_json: bytes
    progress_json: bytes
    cause: Cause
    def __init__(self, workflow: _Optional[str] = ..., task: _Optional[str] = ..., item: _Optional[int] = ..., state: _Optional[str] = ..., attempt: _Optional[int] = ..., user_failures: _Optional[int] = ..., infra_failures: _Optional[int] = ..., nodes: _Optional[_Iterable[str]] = ..., since_at_ms: _Optional[int] = ..., retry_at_ms: _Optional[int] = ..., outputs_json: _Optional[bytes] = ..., progress_json: _Optional[bytes] = ..., cause: _Optional[_Union[Cause, _Mapping]] = ...) -> None: ...

class NodePage(_message.Message):
    __slots__ = ("name", "gpu_type", "gpu_count", "gpu_used_count", "cpu_millis", "cpu_used_millis", "memory_bytes", "memory_used_bytes", "slot_count", "slot_used_count", "labels", "state", "why", "until_at_ms", "gpu_free_millis", "mig", "mig_free", "numa", "taints")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class MigEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class MigFreeEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    GPU_TYPE_FIELD_NUMBER: _ClassVar[int]
    GPU_COUNT_FIELD_NUMBER: _ClassVar[int]
    GPU_USED_COUNT_FIELD_NUMBER: _ClassVar[int]
    CPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    CPU_USED_MILLIS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SLOT_COUNT_FIELD_NUMBER: _ClassVar[int]
    SLOT_USED_COUNT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    UNTIL_AT_MS_FIELD_NUMBER: _ClassVar[int]
    GPU_FREE_MILLIS_FIELD_NUMBER: _ClassVar[int]
    MIG_FIELD_NUMBER: _ClassVar[int]
    MIG_FREE_FIELD_NUMBER: _ClassVar[int]
    NUMA_FIELD_NUMBER: _ClassVar[int]
    TAINTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    gpu_type: str
    gpu_count: int
    gpu_used_count: int
    cpu_millis: int
    cpu_used_millis: int
    memory_bytes: int
    memory_used_bytes: int
    slot_count: int
    slot_used_count: int
    labels: _containers.ScalarMap[str, str]
    state: str
    why: str
    until_at_ms: int
    gpu_free_millis: _containers.RepeatedScalarFieldContainer[int]
    mig: _containers.ScalarMap[str, int]
    mig_free: _containers.ScalarMap[str, int]
    numa: _containers.RepeatedScalarFieldContainer[int]
    taints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., gpu_type: _Optional[str] = ..., gpu_count: _Optional[int] = ..., gpu_used_count: _Optional[int] = ..., cpu_millis: _Optional[int] = ..., cpu_used_millis: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., memory_used_bytes: _Optional[int] = ..., slot_count: _Optional[int] = ..., slot_used_count: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., state: _Optional[str] = ..., why: _Optional[str] = ..., until_at_ms: _Optional[int] = ..., gpu_free_millis: _Optional[_Iterable[int]] = ..., mig: _Optional[_Mapping[str, int]] = ..., mig_free: _Optional[_Mapping[str, int]] = ..., numa: _Optional[_Iterable[int]] = ..., taints: _Optional[_Iterable[str]] = ...) -> None: ...

class HoldPage(_message.Message):
    __slots__ = ("workflow", "project", "task", "item", "attempt", "state", "replica_count", "gpus", "since_at_ms")
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REPLICA_COUNT_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    SINCE_AT_MS_FIELD_NUMBER: _ClassVar[int]
    workflow: str
    project: str
    task: str
    item: int
    attempt: int
    state: str
    replica_count: int
    gpus: _containers.RepeatedScalarFieldContainer[int]
    since_at_ms: int
    def __init__(self, workflow: _Optional[str] = ..., project: _Optional[str] = ..., task: _Optional[str] = ..., item: _Optional[int] = ..., attempt: _Optional[int] = ..., state: _Optional[str] = ..., replica_count: _Optional[int] = ..., gpus: _Optional[_Iterable[int]] = ..., since_at_ms: _Optional[int] = ...) -> None: ...

class NodeDetail(_message.Message):
    __slots__ = ("node", "holds")
    NODE_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    node: NodePage
    holds: _containers.RepeatedCompositeFieldContainer[HoldPage]
    def __init__(self, node: _Optional[_Union[NodePage, _Mapping]] = ..., holds: _Optional[_Iterable[_Union[HoldPage, _Mapping]]] = ...) -> None: ...

class GpuPage(_message.Message):
    __slots__ = ("model", "node_count", "total_count", "used_count", "free_count", "fragmented_count", "cordoned_count", "quarantined_count", "gang_replicas", "gang_gpus_count", "domains")
    class DomainsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NODE_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    USED_COUNT_FIELD_NUMBER: _ClassVar[int]
    FREE_COUNT_FIELD_NUMBER: _ClassVar[int]
    FRAGMENTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    CORDONED_COUNT_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_COUNT_FIELD_NUMBER: _ClassVar[int]
    GANG_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    GANG_GPUS_COUNT_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    model: str
    node_count: int
    total_count: int
    used_count: int
    free_count: int
    fragmented_count: int
    cordoned_count: int
    quarantined_count: int
    gang_replicas: int
    gang_gpus_count: int
    domains: _containers.ScalarMap[str, int]
    def __init__(self, model: _Optional[str] = ..., node_count: _Optional[int] = ..., total_count: _Optional[int] = ..., used_count: _Optional[int] = ..., free_count: _Optional[int] = ..., fragmented_count: _Optional[int] = ..., cordoned_count: _Optional[int] = ..., quarantined_count: _Optional[int] = ..., gang_replicas: _Optional[int] = ..., gang_gpus_count: _Optional[int] = ..., domains: _Optional[_Mapping[str, int]] = ...) -> None: ...

class StopPage(_message.Message):
    __slots__ = ("workflow", "project", "task", "item", "attempt", "replica_count", "gpu_millis", "lost_ms", "has_checkpoint", "grace_ms", "elsewhere")
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REPLICA_COUNT_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    LOST_MS_FIELD_NUMBER: _ClassVar[int]
    HAS_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    ELSEWHERE_FIELD_NUMBER: _ClassVar[int]
    workflow: str
    project: str
    task: str
    item: int
    attempt: int
    replica_count: int
    gpu_millis: int
    lost_ms: int
    has_checkpoint: bool
    grace_ms: int
    elsewhere: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, workflow: _Optional[str] = ..., project: _Optional[str] = ..., task: _Optional[str] = ..., item: _Optional[int] = ..., attempt: _Optional[int] = ..., replica_count: _Optional[int] = ..., gpu_millis: _Optional[int] = ..., lost_ms: _Optional[int] = ..., has_checkpoint: bool = ..., grace_ms: _Optional[int] = ..., elsewhere: _Optional[_Iterable[str]] = ...) -> None: ...

class DrainPage(_message.Message):
    __slots__ = ("nodes", "stops", "replica_count", "gpu_millis", "lost_gpu_ms", "waiting_count")
    NODES_FIELD_NUMBER: _ClassVar[int]
    STOPS_FIELD_NUMBER: _ClassVar[int]
    REPLICA_COUNT_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    LOST_GPU_MS_FIELD_NUMBER: _ClassVar[int]
    WAITING_COUNT_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    stops: _containers.RepeatedCompositeFieldContainer[StopPage]
    replica_count: int
    gpu_millis: int
    lost_gpu_ms: int
    waiting_count: int
    def __init__(self, nodes: _Optional[_Iterable[str]] = ..., stops: _Optional[_Iterable[_Union[StopPage, _Mapping]]] = ..., replica_count: _Optional[int] = ..., gpu_millis: _Optional[int] = ..., lost_gpu_ms: _Optional[int] = ..., waiting_count: _Optional[int] = ...) -> None: ...

class NodesMarked(_message.Message):
    __slots__ = ("nodes", "stopping_count", "duplicate")
    NODES_FIELD_NUMBER: _ClassVar[int]
    STOPPING_COUNT_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    stopping_count: int
    duplicate: bool
    def __init__(self, nodes: _Optional[_Iterable[str]] = ..., stopping_count: _Optional[int] = ..., duplicate: bool = ...) -> None: ...

class Check(_message.Message):
    __slots__ = ("name", "verdict", "detail", "facts_json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    FACTS_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    verdict: str
    detail: str
    facts_json: bytes
    def __init__(self, name: _Optional[str] = ..., verdict: _Optional[str] = ..., detail: _Optional[str] = ..., facts_json: _Optional[bytes] = ...) -> None: ...

class HolderPage(_message.Message):
    __slots__ = ("workflow", "project", "task", "item", "gang_count", "replica_count", "gpu_millis", "nodes", "since_at_ms", "ends_at_ms", "basis")
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    GANG_COUNT_FIELD_NUMBER: _ClassVar[int]
    REPLICA_COUNT_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    SINCE_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ENDS_AT_MS_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    workflow: str
    project: str
    task: str
    item: int
    gang_count: int
    replica_count: int
    gpu_millis: int
    nodes: _containers.RepeatedScalarFieldContainer[str]
    since_at_ms: int
    ends_at_ms: int
    basis: str
    def __init__(self, workflow: _Optional[str] = ..., project: _Optional[str] = ..., task: _Optional[str] = ..., item: _Optional[int] = ..., gang_count: _Optional[int] = ..., replica_count: _Optional[int] = ..., gpu_millis: _Optional[int] = ..., nodes: _Optional[_Iterable[str]] = ..., since_at_ms: _Optional[int] = ..., ends_at_ms: _Optional[int] = ..., basis: _Optional[str] = ...) -> None: ...

class WhatIfPage(_message.Message):
    __slots__ = ("changes", "outcome", "check", "detail", "nodes", "start_at_ms")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    START_AT_MS_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedScalarFieldContainer[str]
    outcome: str
    check: str
    detail: str
    nodes: _containers.RepeatedScalarFieldContainer[str]
    start_at_ms: int
    def __init__(self, changes: _Optional[_Iterable[str]] = ..., outcome: _Optional[str] = ..., check: _Optional[str] = ..., detail: _Optional[str] = ..., nodes: _Optional[_Iterable[str]] = ..., start_at_ms: _Optional[int] = ...) -> None: ...

class WaitPage(_message.Message):
    __slots__ = ("task", "item_count", "reason", "detail")
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    task: str
    item_count: int
    reason: str
    detail: str
    def __init__(self, task: _Optional[str] = ..., item_count: _Optional[int] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Explain(_message.Message):
    __slots__ = ("subject", "state", "headline", "checks", "position", "hints", "cause", "tail", "reason", "start_at_ms", "holders", "what_ifs", "groups")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    HEADLINE_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    TAIL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    START_AT_MS_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    WHAT_IFS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    subject: str
    state: str
    headline: str
    checks: _containers.RepeatedCompositeFieldContainer[Check]
    position: int
    hints: _containers.RepeatedScalarFieldContainer[str]
    cause: Cause
    tail: str
    reason: str
    start_at_ms: int
    holders: _containers.RepeatedCompositeFieldContainer[HolderPage]
    what_ifs: _containers.RepeatedCompositeFieldContainer[WhatIfPage]
    groups: _containers.RepeatedCompositeFieldContainer[WaitPage]
    def __init__(self, subject: _Optional[str] = ..., state: _Optional[str] = ..., headline: _Optional[str] = ..., checks: _Optional[_Iterable[_Union[Check, _Mapping]]] = ..., position: _Optional[int] = ..., hints: _Optional[_Iterable[str]] = ..., cause: _Optional[_Union[Cause, _Mapping]] = ..., tail: _Optional[str] = ..., reason: _Optional[str] = ..., start_at_ms: _Optional[int] = ..., holders: _Optional[_Iterable[_Union[HolderPage, _Mapping]]] = ..., what_ifs: _Optional[_Iterable[_Union[WhatIfPage, _Mapping]]] = ..., groups: _Optional[_Iterable[_Union[WaitPage, _Mapping]]] = ...) -> None: ...

class QueuePage(_message.Message):
    __slots__ = ("position", "project", "gang", "waiting_count", "head", "reason", "expected_at_ms")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    GANG_FIELD_NUMBER: _ClassVar[int]
    WAITING_COUNT_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    position: int
    project: str
    gang: str
    waiting_count: int
    head: str
    reason: str
    expected_at_ms: int
    def __init__(self, position: _Optional[int] = ..., project: _Optional[str] = ..., gang: _Optional[str] = ..., waiting_count: _Optional[int] = ..., head: _Optional[str] = ..., reason: _Optional[str] = ..., expected_at_ms: _Optional[int] = ...) -> None: ...

class TenantPage(_message.Message):
    __slots__ = ("tenant", "parent", "weight", "enabled", "admits", "declared", "workflow_count", "pod_count")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    ADMITS_FIELD_NUMBER: _ClassVar[int]
    DECLARED_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_COUNT_FIELD_NUMBER: _ClassVar[int]
    POD_COUNT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    parent: str
    weight: float
    enabled: bool
    admits: bool
    declared: bool
    workflow_count: int
    pod_count: int
    def __init__(self, tenant: _Optional[str] = ..., parent: _Optional[str] = ..., weight: _Optional[float] = ..., enabled: bool = ..., admits: bool = ..., declared: bool = ..., workflow_count: _Optional[int] = ..., pod_count: _Optional[int] = ...) -> None: ...

class QuotaPage(_message.Message):
    __slots__ = ("tenant", "resource", "used", "borrowed", "nominal", "borrow_max", "lend_max", "capacity")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    BORROWED_FIELD_NUMBER: _ClassVar[int]
    NOMINAL_FIELD_NUMBER: _ClassVar[int]
    BORROW_MAX_FIELD_NUMBER: _ClassVar[int]
    LEND_MAX_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    resource: str
    used: float
    borrowed: float
    nominal: float
    borrow_max: float
    lend_max: float
    capacity: float
    def __init__(self, tenant: _Optional[str] = ..., resource: _Optional[str] = ..., used: _Optional[float] = ..., borrowed: _Optional[float] = ..., nominal: _Optional[float] = ..., borrow_max: _Optional[float] = ..., lend_max: _Optional[float] = ..., capacity: _Optional[float] = ...) -> None: ...

class SharePage(_message.Message):
    __slots__ = ("tenant", "parent", "weight", "dominant", "share")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    DOMINANT_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    parent: str
    weight: float
    dominant: str
    share: float
    def __init__(self, tenant: _Optional[str] = ..., parent: _Optional[str] = ..., weight: _Optional[float] = ..., dominant: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...

class TenantSet(_message.Message):
    __slots__ = ("tenant", "duplicate")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    duplicate: bool
    def __init__(self, tenant: _Optional[str] = ..., duplicate: bool = ...) -> None: ...

class EventPage(_message.Message):
    __slots__ = ("number", "index", "at_ms", "kind", "workflow", "handle", "task", "item", "attempt", "text", "data_json")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DATA_JSON_FIELD_NUMBER: _ClassVar[int]
    number: int
    index: int
    at_ms: int
    kind: str
    workflow: int
    handle: str
    task: str
    item: int
    attempt: int
    text: str
    data_json: bytes
    def __init__(self, number: _Optional[int] = ..., index: _Optional[int] = ..., at_ms: _Optional[int] = ..., kind: _Optional[str] = ..., workflow: _Optional[int] = ..., handle: _Optional[str] = ..., task: _Optional[str] = ..., item: _Optional[int] = ..., attempt: _Optional[int] = ..., text: _Optional[str] = ..., data_json: _Optional[bytes] = ...) -> None: ...

class DaemonPage(_message.Message):
    __slots__ = ("version", "role", "epoch", "leader_address", "runtime", "store", "pid", "started_at_ms", "commit_number", "workflow_count", "ready_count", "running_count", "degraded")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LEADER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    COMMIT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_COUNT_FIELD_NUMBER: _ClassVar[int]
    READY_COUNT_FIELD_NUMBER: _ClassVar[int]
    RUNNING_COUNT_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    version: str
    role: str
    epoch: int
    leader_address: str
    runtime: str
    store: str
    pid: int
    started_at_ms: int
    commit_number: int
    workflow_count: int
    ready_count: int
    running_count: int
    degraded: str
    def __init__(self, version: _Optional[str] = ..., role: _Optional[str] = ..., epoch: _Optional[int] = ..., leader_address: _Optional[str] = ..., runtime: _Optional[str] = ..., store: _Optional[str] = ..., pid: _Optional[int] = ..., started_at_ms: _Optional[int] = ..., commit_number: _Optional[int] = ..., workflow_count: _Optional[int] = ..., ready_count: _Optional[int] = ..., running_count: _Optional[int] = ..., degraded: _Optional[str] = ...) -> None: ...

class WatchPage(_message.Message):
    __slots__ = ("token", "events_json", "gap")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EVENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    token: str
    events_json: bytes
    gap: bool
    def __init__(self, token: _Optional[str] = ..., events_json: _Optional[bytes] = ..., gap: bool = ...) -> None: ...

class TaskInputs(_message.Message):
    __slots__ = ("workflow", "handle", "project", "params_json", "outputs_json", "binding_json", "checkpoint_json")
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    PARAMS_JSON_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_JSON_FIELD_NUMBER: _ClassVar[int]
    BINDING_JSON_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_JSON_FIELD_NUMBER: _ClassVar[int]
    workflow: int
    handle: str
    project: str
    params_json: bytes
    outputs_json: bytes
    binding_json: bytes
    checkpoint_json: bytes
    def __init__(self, workflow: _Optional[int] = ..., handle: _Optional[str] = ..., project: _Optional[str] = ..., params_json: _Optional[bytes] = ..., outputs_json: _Optional[bytes] = ..., binding_json: _Optional[bytes] = ..., checkpoint_json: _Optional[bytes] = ...) -> None: ...

class BarrierState(_message.Message):
    __slots__ = ("arrived_count", "replicas", "released")
    ARRIVED_COUNT_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    arrived_count: int
    replicas: int
    released: bool
    def __init__(self, arrived_count: _Optional[int] = ..., replicas: _Optional[int] = ..., released: bool = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("workflow", "handle", "project", "duplicate", "warnings")
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    workflow: int
    handle: str
    project: str
    duplicate: bool
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, workflow: _Optional[int] = ..., handle: _Optional[str] = ..., project: _Optional[str] = ..., duplicate: bool = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("workflow", "handle", "state", "duplicate")
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    workflow: int
    handle: str
    state: str
    duplicate: bool
    def __init__(self, workflow: _Optional[int] = ..., handle: _Optional[str] = ..., state: _Optional[str] = ..., duplicate: bool = ...) -> None: ...
