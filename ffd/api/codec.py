"""Core structs <-> protobuf messages, both ways, from one table of pairs. Called by the gRPC services and the client.

A struct and its message have the same fields by name. A free-form value (`params: dict[str, Any]`) travels as JSON
bytes in `params_json`: empty bytes = {} (or None where the struct allows None). Values are always written, never left
to a default, so the defaults of the two sides need not agree. The plans are derived from both definitions at first use;
a field that only one side has raises TypeError then (and fails a test).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from ffd.api.engine import BarrierState, TaskInputs, WatchPage
from ffd.api.shapes import LogBatch, LogChunk, LogLines, SnapshotHead
from ffd.core import pages
from ffd.core.commands import Accepted, Done, NodesMarked, TenantSet
from ffd.core.model import AttemptId, Cause
from ffd.errors import Refusal
from ffd.proto.ffd.v1 import cluster_pb2, logs_pb2, pages_pb2

S = TypeVar("S", bound=msgspec.Struct)
Convert = Callable[[Any], Any]

MESSAGES: dict[type[msgspec.Struct], type[Message]] = {
    AttemptId: pages_pb2.AttemptId,
    Cause: pages_pb2.Cause,
    pages.WorkflowPage: pages_pb2.WorkflowPage,
    pages.TaskPage: pages_pb2.TaskPage,
    pages.ItemPage: pages_pb2.ItemPage,
    pages.NodePage: pages_pb2.NodePage,
    pages.HoldPage: pages_pb2.HoldPage,
    pages.NodeDetail: pages_pb2.NodeDetail,
    pages.GpuPage: pages_pb2.GpuPage,
    pages.StopPage: pages_pb2.StopPage,
    pages.DrainPage: pages_pb2.DrainPage,
    pages.Check: pages_pb2.Check,
    pages.HolderPage: pages_pb2.HolderPage,
    pages.WhatIfPage: pages_pb2.WhatIfPage,
    pages.WaitPage: pages_pb2.WaitPage,
    pages.Explain: pages_pb2.Explain,
    pages.QueuePage: pages_pb2.QueuePage,
    pages.TenantPage: pages_pb2.TenantPage,
    pages.QuotaPage: pages_pb2.QuotaPage,
    pages.SharePage: pages_pb2.SharePage,
    pages.EventPage: pages_pb2.EventPage,
    pages.DaemonPage: pages_pb2.DaemonPage,
    WatchPage: pages_pb2.WatchPage,
    TaskInputs: pages_pb2.TaskInputs,
    BarrierState: pages_pb2.BarrierState,
    Accepted: pages_pb2.Accepted,
    Done: pages_pb2.Done,
    NodesMarked: pages_pb2.NodesMarked,
    TenantSet: pages_pb2.TenantSet,
    SnapshotHead: cluster_pb2.SnapshotHead,
    LogChunk: logs_pb2.LogChunk,
    LogLines: logs_pb2.LogLines,
    LogBatch: logs_pb2.LogBatch,
}
_STRUCTS = {message.DESCRIPTOR.full_name: struct for struct, message in MESSAGES.items()}


class _Field(NamedTuple):
    struct_name: str
    proto_name: str
    encode: Convert | None  # None = as it is
    decode: Convert | None
    is_optional: bool  # a single message, or said to be optional: absent = None


def to_proto(value: msgspec.Struct) -> Any:
    """The message of a struct of MESSAGES."""
    kind = type(value)
    fields = {}
    for field in _plan(kind):
        raw = getattr(value, field.struct_name)
        if raw is not None:
            fields[field.proto_name] = raw if field.encode is None else field.encode(raw)
    return MESSAGES[kind](**fields)


def from_proto(kind: type[S], message: Any) -> S:
    """The struct of a message; `kind` is the struct's type. Refusal (invalid) when JSON bytes are not JSON."""
    values: dict[str, Any] = {}
    for field in _plan(kind):
        if field.is_optional and not message.HasField(field.proto_name):
            values[field.struct_name] = None
            continue
        raw = getattr(message, field.proto_name)
        values[field.struct_name] = raw if field.decode is None else field.decode(raw)
    return kind(**values)


def many(values: Iterable[msgspec.Struct]) -> list[Any]:
    return [to_proto(value) for value in values]


def fitting(values: Iterable[msgspec.Struct], limit_bytes: int) -> tuple[list[Any], bool]:
    """Messages of as many structs as fit, at least one; True when there were more."""
    messages: list[Any] = []
    size = 0
    for value in values:
        message = to_proto(value)
        size += message.ByteSize()
        if messages and size > limit_bytes:
            return messages, True
        messages.append(message)
    return messages, False


def encode_json(value: Any) -> bytes:
    """A free-form value as JSON bytes; an empty object as no bytes at all."""
    return b"" if value == {} else msgspec.json.encode(value)


def decode_object(data: bytes, field: str) -> dict[str, Any]:
    """The JSON object in `data` (empty bytes = {}). Refusal (invalid) names `field`."""
    if not data:
        return {}
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal(f"{field} is not a JSON object: {error}", field=field) from None


@cache
def _plan(kind: type[msgspec.Struct]) -> tuple[_Field, ...]:
    proto_fields = dict(MESSAGES[kind].DESCRIPTOR.fields_by_name)
    plan = []
    for info in msgspec.structs.fields(kind):
        as_json = f"{info.name}_json"
        if as_json in proto_fields:
            del proto_fields[as_json]
            plan.append(_json_field(info.name, as_json, info.type))
        elif info.name in proto_fields:
            plan.append(_field(info.name, proto_fields.pop(info.name)))
        else:
            raise TypeError(f"{kind.__name__}.{info.name} has no field in {MESSAGES[kind].DESCRIPTOR.full_name}")
    if proto_fields:
        raise TypeError(f"{kind.__name__} has no {', '.join(proto_fields)}, its message does")
    return tuple(plan)


def _json_field(name: str, proto_name: str, kind: Any) -> _Field:
    if get_origin(kind) is tuple:
        decoder = msgspec.json.Decoder(kind)
        return _Field(name, proto_name, msgspec.json.encode, lambda data: decoder.decode(data or b"[]"), False)
    if NoneType in get_args(kind):  # {} is told apart from None
        return _Field(
            name, proto_name, msgspec.json.encode, lambda data: decode_object(data, name) if data else None, False
        )
    return _Field(name, proto_name, encode_json, lambda data: decode_object(data, name), False)


def _field(name: str, proto: FieldDescriptor) -> _Field:
    if proto.message_type is not None and proto.message_type.GetOptions().map_entry:
        return _Field(name, name, None, dict, False)
    if proto.message_type is None:
        repeated = proto.label == FieldDescriptor.LABEL_REPEATED
        return _Field(name, name, None, tuple if repeated else None, proto.containing_oneof is not None)
    struct = _STRUCTS[proto.message_type.full_name]
    if proto.label == FieldDescriptor.LABEL_REPEATED:
        return _Field(name, name, many, lambda values: tuple(from_proto(struct, value) for value in values), False)
    return _Field(name, name, to_proto, lambda value: from_proto(struct, value), True)
