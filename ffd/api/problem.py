"""Errors on the wire, for both transports: one table from our codes to gRPC statuses and HTTP ones.

gRPC: a status with an ErrorDetail inside google.rpc.Status (see errors.proto), turned back into the same exception by
the client. HTTP: RFC 9457 problem JSON. Never here: which error is raised when.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.exceptions import GRPCError

from ffd.errors import FfdError, PluginError, Refusal, Unavailable
from ffd.proto.ffd.v1 import errors_pb2

if TYPE_CHECKING:
    from ffd.core.document.faults import Fault

CODES: dict[str, tuple[Status, int]] = {
    "invalid": (Status.INVALID_ARGUMENT, 400),
    "output": (Status.INVALID_ARGUMENT, 400),
    "unauthenticated": (Status.UNAUTHENTICATED, 401),
    "forbidden": (Status.PERMISSION_DENIED, 403),
    "not_found": (Status.NOT_FOUND, 404),
    "conflict": (Status.FAILED_PRECONDITION, 409),
    "superseded": (Status.FAILED_PRECONDITION, 409),
    "limit": (Status.RESOURCE_EXHAUSTED, 429),
    "plugin": (Status.INTERNAL, 500),
    "internal": (Status.INTERNAL, 500),
    "unsupported": (Status.UNIMPLEMENTED, 501),
    "unavailable": (Status.UNAVAILABLE, 503),
    "fenced": (Status.UNAVAILABLE, 503),
    "storage_full": (Status.RESOURCE_EXHAUSTED, 507),
}
HTTP_TOO_LARGE = 413
HTTP_BAD_DOCUMENT = 422
MESSAGE_CHARS = 1_000  # of one error; the trailers of a call must fit 64 KiB with all faults, in base64
DETAIL_BYTES = 24 << 10


class DocumentRefusal(Refusal):
    """A document was refused. `faults`: all of them, in the document's order; the message tells the first."""

    def __init__(self, faults: tuple[Fault, ...], filename: str = "") -> None:
        first = faults[0]
        where = f"{filename}:{first.line}:{first.column}: " if first.line else f"{filename}: "
        path = f"{first.path}: " if first.path else ""
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"{where if filename else ''}{path}{first.message}{more}", field=first.path, hint=first.hint)
        self.faults = faults


# -------------------------------------------------------------------------------------------------------------- HTTP


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """RFC 9457, with our own members. For a document `line`, `column` and `path` are those of the first fault."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str = ""
    hint: str = ""
    line: int = 0
    column: int = 0
    path: str = ""
    faults: tuple[Any, ...] = ()


def problem(error: FfdError) -> Problem:
    found = Problem(
        type=f"urn:ffd:error:{error.code}",
        title=error.code.replace("_", " "),
        status=http_status(error),
        detail=error.message,
        code=error.code,
        field=error.field,
        hint=error.hint,
    )
    if isinstance(error, DocumentRefusal):
        first = error.faults[0]
        found.line, found.column, found.path, found.faults = first.line, first.column, first.path, error.faults
    return found


def http_status(error: FfdError) -> int:
    if isinstance(error, DocumentRefusal):
        return HTTP_BAD_DOCUMENT
    if error.code == "limit" and error.field.endswith("_bytes"):
        return HTTP_TOO_LARGE
    return CODES.get(error.code, CODES["internal"])[1]


# -------------------------------------------------------------------------------------------------------------- gRPC


def to_grpc(error: FfdError) -> GRPCError:
    """What a handler raises for `error`."""
    status, _ = CODES.get(error.code, CODES["internal"])
    return GRPCError(status, error.message[:MESSAGE_CHARS], to_detail(error))


def from_grpc(error: GRPCError) -> FfdError:
    """The error that the server raised; for one that is not ours, the nearest."""
    if isinstance(error.details, errors_pb2.ErrorDetail):
        return from_detail(error.details)
    message = error.message or error.status.name.lower()
    if error.status is Status.UNAVAILABLE:
        return Unavailable(message)
    if error.status is Status.DEADLINE_EXCEEDED:
        return Unavailable("the daemon did not answer in time", hint="it may have done it all the same: look first")
    for code, (status, _) in CODES.items():
        if status is error.status and code not in ("plugin", "internal"):
            return Refusal(message, code=code)
    return FfdError(f"the daemon failed: {message}", hint="its log says more")


def to_detail(error: FfdError) -> errors_pb2.ErrorDetail:
    detail = errors_pb2.ErrorDetail(
        code=error.code, message=error.message[:MESSAGE_CHARS], field=error.field[:MESSAGE_CHARS],
        hint=error.hint[:MESSAGE_CHARS],
    )  # fmt: skip
    if isinstance(error, DocumentRefusal):
        detail.faults.extend(_fitting(error.faults))
    return detail


def from_detail(detail: errors_pb2.ErrorDetail) -> FfdError:
    if detail.faults:
        from ffd.core.document.faults import Fault

        faults = tuple(Fault(f.message, f.path, f.line, f.column, f.hint, f.code) for f in detail.faults)
        refusal = DocumentRefusal(faults)
        refusal.message, refusal.args = detail.message, (detail.message,)
        return refusal
    kind = {"unavailable": Unavailable, "fenced": Unavailable, "plugin": PluginError, "internal": FfdError}
    return kind.get(detail.code, Refusal)(detail.message, code=detail.code, field=detail.field, hint=detail.hint)


def _fitting(faults: Iterable[Fault]) -> list[errors_pb2.Fault]:
    """As many faults as trailers can carry, and how many more there were."""
    fitting: list[errors_pb2.Fault] = []
    size = 0
    messages = [_fault(fault) for fault in faults]
    for message in messages:
        size += message.ByteSize() + 4
        if size > DETAIL_BYTES:
            fitting.append(errors_pb2.Fault(code="more", message=f"and {len(messages) - len(fitting)} more faults"))
            break
        fitting.append(message)
    return fitting


def _fault(fault: Fault) -> errors_pb2.Fault:
    return errors_pb2.Fault(
        code=fault.code, message=fault.message[:MESSAGE_CHARS], path=fault.path[:MESSAGE_CHARS],
        hint=fault.hint[:MESSAGE_CHARS], line=fault.line, column=fault.column,
    )  # fmt: skip


class DetailsCodec(StatusDetailsCodecBase):
    """google.rpc.Status in the trailers, with one ErrorDetail; without the googleapis package."""

    def encode(self, status: Status, message: str | None, details: Any) -> bytes:
        found = errors_pb2.Status(code=status.value, message=message or "")
        if details is not None:
            found.details.add().Pack(details)
        return bytes(found.SerializeToString())

    def decode(self, status: Status, message: str | None, data: bytes) -> errors_pb2.ErrorDetail | None:
        detail = errors_pb2.ErrorDetail()
        for packed in errors_pb2.Status.FromString(data).details:
            if packed.Is(errors_pb2.ErrorDetail.DESCRIPTOR):
                packed.Unpack(detail)
                return detail
        return None
