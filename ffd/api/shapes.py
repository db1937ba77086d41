"""What the API takes and gives that the core has no shape for. Light: the client imports it too."""

from __future__ import annotations

from typing import Any

import msgspec


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One document and how to start it. `source` is YAML or JSON; `format` auto, yaml or json. `params` are typed,
    `params_text` as a person typed them. `project` wins over the document's; `default_project` counts when neither
    says ("" = "default"). `key` "" = not idempotent. `base_dir`: where relative paths of local tasks start. `dry_run`:
    check everything, start nothing."""

    source: bytes
    filename: str = "<stdin>"
    format: str = "auto"
    params: dict[str, Any] = {}
    params_text: dict[str, str] = {}
    project: str = ""
    default_project: str = ""
    priority: int | None = None
    key: str = ""
    base_dir: str = ""
    dry_run: bool = False
    labels: dict[str, str] = {}


class SubmitResult(msgspec.Struct, frozen=True):
    """What became of it. `duplicate`: the key had been used for the same. A dry run has workflow 0 and no handle."""

    workflow: int
    handle: str
    project: str
    duplicate: bool = False
    warnings: tuple[str, ...] = ()


class SnapshotHead(msgspec.Struct, frozen=True):
    """What comes before the rows of a snapshot. `number`: the commit they reflect; `policy` and `limits`: msgpack of
    the core's structs. Rows can be read by the same `version` only."""

    version: str
    number: int
    at_ms: int
    policy: bytes
    limits: bytes


class LogChunk(msgspec.Struct, frozen=True):
    """A piece of one replica's log: `data` starts at `offset`, read on at `next_offset`. `dropped_bytes` were lost
    before it. `eof`: nothing follows now. `attempt` is the one it is of; 0 = none has started yet."""

    attempt: int
    rank: int
    offset: int
    data: bytes
    next_offset: int
    dropped_bytes: int = 0
    eof: bool = False


class LogLines(msgspec.Struct, frozen=True):
    """Some bytes of one replica, from `offset`; whole lines, unless a line is long or its writer paused within it.
    `dropped_bytes` were lost before `offset`."""

    task: str
    item: int
    attempt: int
    rank: int
    offset: int
    data: bytes
    dropped_bytes: int
    next_offset: int


class LogBatch(msgspec.Struct, frozen=True):
    """What was there to give. `cursor` resumes after all of it."""

    lines: tuple[LogLines, ...]
    cursor: str
