from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReadLogRequest(_message.Message):
    __slots__ = ("ref", "project", "task", "item", "attempt", "rank", "offset", "limit_bytes")
    REF_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    ref: str
    project: str
    task: str
    item: int
    attempt: int
    rank: int
    offset: int
    limit_bytes: int
    def __init__(self, ref: _Optional[str] = ..., project: _Optional[str] = ..., task: _Optional[str] = ..., item: _Optional[int] = ..., attempt: _Optional[int] = ..., rank: _Optional[int] = ..., offset: _Optional[int] = ..., limit_bytes: _Optional[int] = ...) -> None: ...

class LogChunk(_message.Message):
    __slots__ = ("attempt", "rank", "offset", "data", "next_offset", "dropped_bytes", "eof")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DROPPED_BYTES_FIELD_NUMBER: _ClassVar[int]
    EOF_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    rank: int
    offset: int
    data: bytes
    next_offset: int
    dropped_bytes: int
    eof: bool
    def __init__(self, attempt: _Optional[int] = ..., rank: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., next_offset: _Optional[int] = ..., dropped_bytes: _Optional[int] = ..., eof: bool = ...) -> None: ...

class FollowLogRequest(_message.Message):
    __slots__ = ("ref", "project", "task", "item", "attempt", "ranks", "offset", "follow", "cursor")
    REF_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    ref: str
    project: str
    task: str
    item: int
    attempt: int
    ranks: _containers.RepeatedScalarFieldContainer[int]
    offset: int
    follow: bool
    cursor: str
    def __init__(self, ref: _Optional[str] = ..., project: _Optional[str] = ..., task: _Optional[str] = ..., item: _Optional[int] = ..., attempt: _Optional[int] = ..., ranks: _Optional[_Iterable[int]] = ..., offset: _Optional[int] = ..., follow: bool = ..., cursor: _Optional[str] = ...) -> None: ...

class LogBatch(_message.Message):
    __slots__ = ("lines", "cursor")
    LINES_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[LogLines]
    cursor: str
    def __init__(self, lines: _Optional[_Iterable[_Union[LogLines, _Mapping]]] = ..., cursor: _Optional[str] = ...) -> None: ...

class LogLines(_message.Message):
    __slots__ = ("task", "item", "attempt", "rank", "offset", "data", "dropped_bytes", "next_offset")
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    DROPPED_BYTES_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    task: str
    item: int
    attempt: int
    rank: int
    offset: int
    data: bytes
    dropped_bytes: int
    next_offset: int
    def __init__(self, task: _Optional[str] = ..., item: _Optional[int] = ..., attempt: _Optional[int] = ..., rank: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., dropped_bytes: _Optional[int] = ..., next_offset: _Optional[int] = ...) -> None: ...
