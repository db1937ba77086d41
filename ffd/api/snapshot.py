"""The rows of a snapshot in pieces of bounded size, and back. Light: the client imports it too.

A piece is msgpack of a `model.Rows` that holds some of the rows. Called by `Cluster.Snapshot` and the client.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ffd.core.model import Rows
from ffd.errors import Refusal

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Rows).decode
ROW_BYTES = 64  # of a row beside its value, about


def pieces(rows: Rows, most_bytes: int) -> Iterator[bytes]:
    """Pieces of about `most_bytes` at most; a row that is larger is one by itself."""
    part, size = Rows(), 0
    for group in Rows.__struct_fields__:
        for key, blob in getattr(rows, group).items():
            if size and size + len(blob) + ROW_BYTES > most_bytes:
                yield _encode(part)
                part, size = Rows(), 0
            getattr(part, group)[key] = blob
            size += len(blob) + ROW_BYTES
    if size:
        yield _encode(part)


def join(rows: Rows, piece: bytes) -> None:
    """Add a piece. Refusal: it is none of ours."""
    try:
        part = _decode(piece)
    except msgspec.DecodeError as error:
        raise Refusal(f"the snapshot cannot be read: {error}", code="unsupported") from None
    for group in Rows.__struct_fields__:
        getattr(rows, group).update(getattr(part, group))
