from ffd.proto.ffd.v1 import pages_pb2 as _pages_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodesRequest(_message.Message):
    __slots__ = ("after",)
    AFTER_FIELD_NUMBER: _ClassVar[int]
    after: str
    def __init__(self, after: _Optional[str] = ...) -> None: ...

class NodesReply(_message.Message):
    __slots__ = ("nodes", "more")
    NODES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[_pages_pb2.NodePage]
    more: bool
    def __init__(self, nodes: _Optional[_Iterable[_Union[_pages_pb2.NodePage, _Mapping]]] = ..., more: bool = ...) -> None: ...

class NodeRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GpusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GpusReply(_message.Message):
    __slots__ = ("gpus",)
    GPUS_FIELD_NUMBER: _ClassVar[int]
    gpus: _containers.RepeatedCompositeFieldContainer[_pages_pb2.GpuPage]
    def __init__(self, gpus: _Optional[_Iterable[_Union[_pages_pb2.GpuPage, _Mapping]]] = ...) -> None: ...

class CordonRequest(_message.Message):
    __slots__ = ("nodes", "labels", "why", "key")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    why: str
    key: str
    def __init__(self, nodes: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., why: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class UncordonRequest(_message.Message):
    __slots__ = ("nodes", "labels", "key")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    key: str
    def __init__(self, nodes: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., key: _Optional[str] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("nodes", "labels", "why", "grace_ms", "preview", "key")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    why: str
    grace_ms: int
    preview: bool
    key: str
    def __init__(self, nodes: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., why: _Optional[str] = ..., grace_ms: _Optional[int] = ..., preview: bool = ..., key: _Optional[str] = ...) -> None: ...

class DrainReply(_message.Message):
    __slots__ = ("marked", "preview")
    MARKED_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    marked: _pages_pb2.NodesMarked
    preview: _pages_pb2.DrainPage
    def __init__(self, marked: _Optional[_Union[_pages_pb2.NodesMarked, _Mapping]] = ..., preview: _Optional[_Union[_pages_pb2.DrainPage, _Mapping]] = ...) -> None: ...

class QueueRequest(_message.Message):
    __slots__ = ("project",)
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    project: str
    def __init__(self, project: _Optional[str] = ...) -> None: ...

class QueueReply(_message.Message):
    __slots__ = ("queue",)
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    queue: _containers.RepeatedCompositeFieldContainer[_pages_pb2.QueuePage]
    def __init__(self, queue: _Optional[_Iterable[_Union[_pages_pb2.QueuePage, _Mapping]]] = ...) -> None: ...

class TenantsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TenantsReply(_message.Message):
    __slots__ = ("tenants",)
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    tenants: _containers.RepeatedCompositeFieldContainer[_pages_pb2.TenantPage]
    def __init__(self, tenants: _Optional[_Iterable[_Union[_pages_pb2.TenantPage, _Mapping]]] = ...) -> None: ...

class QuotasRequest(_message.Message):
    __slots__ = ("tenant",)
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    def __init__(self, tenant: _Optional[str] = ...) -> None: ...

class QuotasReply(_message.Message):
    __slots__ = ("quotas",)
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    quotas: _containers.RepeatedCompositeFieldContainer[_pages_pb2.QuotaPage]
    def __init__(self, quotas: _Optional[_Iterable[_Union[_pages_pb2.QuotaPage, _Mapping]]] = ...) -> None: ...

class SharesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SharesReply(_message.Message):
    __slots__ = ("shares",)
    SHARES_FIELD_NUMBER: _ClassVar[int]
    shares: _containers.RepeatedCompositeFieldContainer[_pages_pb2.SharePage]
    def __init__(self, shares: _Optional[_Iterable[_Union[_pages_pb2.SharePage, _Mapping]]] = ...) -> None: ...

class SetTenantRequest(_message.Message):
    __slots__ = ("tenant", "key", "weight", "enabled", "parent")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    key: str
    weight: float
    enabled: bool
    parent: str
    def __init__(self, tenant: _Optional[str] = ..., key: _Optional[str] = ..., weight: _Optional[float] = ..., enabled: bool = ..., parent: _Optional[str] = ...) -> None: ...

class SetQuotaRequest(_message.Message):
    __slots__ = ("tenant", "key", "changes_json", "replace")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    CHANGES_JSON_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    key: str
    changes_json: bytes
    replace: bool
    def __init__(self, tenant: _Optional[str] = ..., key: _Optional[str] = ..., changes_json: _Optional[bytes] = ..., replace: bool = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LeaderRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LeaderReply(_message.Message):
    __slots__ = ("address", "epoch")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    address: str
    epoch: int
    def __init__(self, address: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SnapshotPiece(_message.Message):
    __slots__ = ("head", "rows")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    head: SnapshotHead
    rows: bytes
    def __init__(self, head: _Optional[_Union[SnapshotHead, _Mapping]] = ..., rows: _Optional[bytes] = ...) -> None: ...

class SnapshotHead(_message.Message):
    __slots__ = ("version", "number", "at_ms", "policy", "limits")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    version: str
    number: int
    at_ms: int
    policy: bytes
    limits: bytes
    def __init__(self, version: _Optional[str] = ..., number: _Optional[int] = ..., at_ms: _Optional[int] = ..., policy: _Optional[bytes] = ..., limits: _Optional[bytes] = ...) -> None: ...

class StopRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
