from ffd.proto.ffd.v1 import errors_pb2 as _errors_pb2
from ffd.proto.ffd.v1 import pages_pb2 as _pages_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubmitRequest(_message.Message):
    __slots__ = ("source", "filename", "format", "params_json", "params_text", "project", "priority", "key", "base_dir", "dry_run", "labels", "default_project")
    class ParamsTextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    PARAMS_JSON_FIELD_NUMBER: _ClassVar[int]
    PARAMS_TEXT_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BASE_DIR_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_PROJECT_FIELD_NUMBER: _ClassVar[int]
    source: bytes
    filename: str
    format: str
    params_json: bytes
    params_text: _containers.ScalarMap[str, str]
    project: str
    priority: int
    key: str
    base_dir: str
    dry_run: bool
    labels: _containers.ScalarMap[str, str]
    default_project: str
    def __init__(self, source: _Optional[bytes] = ..., filename: _Optional[str] = ..., format: _Optional[str] = ..., params_json: _Optional[bytes] = ..., params_text: _Optional[_Mapping[str, str]] = ..., project: _Optional[str] = ..., priority: _Optional[int] = ..., key: _Optional[str] = ..., base_dir: _Optional[str] = ..., dry_run: bool = ..., labels: _Optional[_Mapping[str, str]] = ..., default_project: _Optional[str] = ...) -> None: ...

class SubmitPart(_message.Message):
    __slots__ = ("header", "source")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    header: SubmitRequest
    source: bytes
    def __init__(self, header: _Optional[_Union[SubmitRequest, _Mapping]] = ..., source: _Optional[bytes] = ...) -> None: ...

class SubmitReply(_message.Message):
    __slots__ = ("accepted", "warnings")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    accepted: _pages_pb2.Accepted
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, accepted: _Optional[_Union[_pages_pb2.Accepted, _Mapping]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class SubmitBatchRequest(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[SubmitRequest]
    def __init__(self, entries: _Optional[_Iterable[_Union[SubmitRequest, _Mapping]]] = ...) -> None: ...

class SubmitBatchReply(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[SubmitBatchEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[SubmitBatchEntry, _Mapping]]] = ...) -> None: ...

class SubmitBatchEntry(_message.Message):
    __slots__ = ("reply", "error")
    REPLY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    reply: SubmitReply
    error: _errors_pb2.ErrorDetail
    def __init__(self, reply: _Optional[_Union[SubmitReply, _Mapping]] = ..., error: _Optional[_Union[_errors_pb2.ErrorDetail, _Mapping]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("ref", "project")
    REF_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ref: str
    project: str
    def __init__(self, ref: _Optional[str] = ..., project: _Optional[str] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("project", "name", "states", "by", "before", "limit")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    project: str
    name: str
    states: _containers.RepeatedScalarFieldContainer[str]
    by: str
    before: int
    limit: int
    def __init__(self, project: _Optional[str] = ..., name: _Optional[str] = ..., states: _Optional[_Iterable[str]] = ..., by: _Optional[str] = ..., before: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ListReply(_message.Message):
    __slots__ = ("workflows", "more")
    WORKFLOWS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    workflows: _containers.RepeatedCompositeFieldContainer[_pages_pb2.WorkflowPage]
    more: bool
    def __init__(self, workflows: _Optional[_Iterable[_Union[_pages_pb2.WorkflowPage, _Mapping]]] = ..., more: bool = ...) -> None: ...

class TasksRequest(_message.Message):
    __slots__ = ("ref", "project", "after", "limit")
    REF_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ref: str
    project: str
    after: str
    limit: int
    def __init__(self, ref: _Optional[str] = ..., project: _Optional[str] = ..., after: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class TasksReply(_message.Message):
    __slots__ = ("tasks", "more")
    TASKS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[_pages_pb2.TaskPage]
    more: bool
    def __init__(self, tasks: _Optional[_Iterable[_Union[_pages_pb2.TaskPage, _Mapping]]] = ..., more: bool = ...) -> None: ...

class ItemsRequest(_message.Message):
    __slots__ = ("ref", "project", "task", "after", "limit")
    REF_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ref: str
    project: str
    task: str
    after: int
    limit: int
    def __init__(self, ref: _Optional[str] = ..., project: _Optional[str] = ..., task: _Optional[str] = ..., after: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ItemsReply(_message.Message):
    __slots__ = ("items", "more")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[_pages_pb2.ItemPage]
    more: bool
    def __init__(self, items: _Optional[_Iterable[_Union[_pages_pb2.ItemPage, _Mapping]]] = ..., more: bool = ...) -> None: ...

class AttemptsRequest(_message.Message):
    __slots__ = ("ref", "project", "task", "item")
    REF_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ref: str
    project: str
    task: str
    item: int
    def __init__(self, ref: _Optional[str] = ..., project: _Optional[str] = ..., task: _Optional[str] = ..., item: _Optional[int] = ...) -> None: ...

class AttemptsReply(_message.Message):
    __slots__ = ("attempts",)
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    attempts: _containers.RepeatedCompositeFieldContainer[_pages_pb2.AttemptId]
    def __init__(self, attempts: _Optional[_Iterable[_Union[_pages_pb2.AttemptId, _Mapping]]] = ...) -> None: ...

class SpecReply(_message.Message):
    __slots__ = ("spec_json",)
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    spec_json: bytes
    def __init__(self, spec_json: _Optional[bytes] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("ref", "project", "task", "item", "what_if")
    REF_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    WHAT_IF_FIELD_NUMBER: _ClassVar[int]
    ref: str
    project: str
    task: str
    item: int
    what_if: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ref: _Optional[str] = ..., project: _Optional[str] = ..., task: _Optional[str] = ..., item: _Optional[int] = ..., what_if: _Optional[_Iterable[str]] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("ref", "project", "key", "now")
    REF_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    ref: str
    project: str
    key: str
    now: bool
    def __init__(self, ref: _Optional[str] = ..., project: _Optional[str] = ..., key: _Optional[str] = ..., now: bool = ...) -> None: ...

class ControlRequest(_message.Message):
    __slots__ = ("ref", "project", "key")
    REF_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ref: str
    project: str
    key: str
    def __init__(self, ref: _Optional[str] = ..., project: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class SetPriorityRequest(_message.Message):
    __slots__ = ("ref", "project", "key", "priority")
    REF_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    ref: str
    project: str
    key: str
    priority: int
    def __init__(self, ref: _Optional[str] = ..., project: _Optional[str] = ..., key: _Optional[str] = ..., priority: _Optional[int] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("ref", "project", "token")
    REF_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ref: str
    project: str
    token: str
    def __init__(self, ref: _Optional[str] = ..., project: _Optional[str] = ..., token: _Optional[str] = ...) -> None: ...

class StoryRequest(_message.Message):
    __slots__ = ("ref", "project", "token", "limit")
    REF_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ref: str
    project: str
    token: str
    limit: int
    def __init__(self, ref: _Optional[str] = ..., project: _Optional[str] = ..., token: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...
