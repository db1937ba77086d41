from ffd.proto.ffd.v1 import pages_pb2 as _pages_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetInputsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetOutputRequest(_message.Message):
    __slots__ = ("outputs_json",)
    OUTPUTS_JSON_FIELD_NUMBER: _ClassVar[int]
    outputs_json: bytes
    def __init__(self, outputs_json: _Optional[bytes] = ...) -> None: ...

class SetOutputReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SaveCheckpointRequest(_message.Message):
    __slots__ = ("value_json",)
    VALUE_JSON_FIELD_NUMBER: _ClassVar[int]
    value_json: bytes
    def __init__(self, value_json: _Optional[bytes] = ...) -> None: ...

class SaveCheckpointReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCheckpointRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("value_json",)
    VALUE_JSON_FIELD_NUMBER: _ClassVar[int]
    value_json: bytes
    def __init__(self, value_json: _Optional[bytes] = ...) -> None: ...

class ReportProgressRequest(_message.Message):
    __slots__ = ("rank", "step", "total", "metrics_json")
    RANK_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    METRICS_JSON_FIELD_NUMBER: _ClassVar[int]
    rank: int
    step: int
    total: int
    metrics_json: bytes
    def __init__(self, rank: _Optional[int] = ..., step: _Optional[int] = ..., total: _Optional[int] = ..., metrics_json: _Optional[bytes] = ...) -> None: ...

class ReportProgressReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UpdateStatusRequest(_message.Message):
    __slots__ = ("rank", "status")
    RANK_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    rank: int
    status: str
    def __init__(self, rank: _Optional[int] = ..., status: _Optional[str] = ...) -> None: ...

class UpdateStatusReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EmitMetricsRequest(_message.Message):
    __slots__ = ("rank", "metrics_json")
    RANK_FIELD_NUMBER: _ClassVar[int]
    METRICS_JSON_FIELD_NUMBER: _ClassVar[int]
    rank: int
    metrics_json: bytes
    def __init__(self, rank: _Optional[int] = ..., metrics_json: _Optional[bytes] = ...) -> None: ...

class EmitMetricsReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("rank",)
    RANK_FIELD_NUMBER: _ClassVar[int]
    rank: int
    def __init__(self, rank: _Optional[int] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("stop_reason",)
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    stop_reason: str
    def __init__(self, stop_reason: _Optional[str] = ...) -> None: ...

class BarrierRequest(_message.Message):
    __slots__ = ("rank", "name")
    RANK_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    rank: int
    name: str
    def __init__(self, rank: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...
