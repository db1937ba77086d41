"""Every bound of the API, as one frozen struct. The daemon builds it from its settings; the names are the same.

Full means a refusal whose `field` is "limits.<name>", never an unbounded list and never silent loss. HTTP/2 flow
control adds its own bound below these: at most 4 MiB under way per connection and direction.
"""

from __future__ import annotations

import msgspec

from ffd.errors import Refusal


class ApiLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Counts, bytes and milliseconds, as the names end. All are positive."""

    message_bytes: int = 4 << 20  # one gRPC message, or an HTTP body that is not a document
    document_bytes: int = 16 << 20  # one submitted document
    params_bytes: int = 256 << 10  # all parameters of one workflow, as JSON
    name_chars: int = 512  # a reference, a project, a key, a label or another short text
    labels_count: int = 64  # labels of one submit
    submits_count: int = 1_000  # documents of one SubmitBatch
    page_count: int = 1_000  # entries of one page of any list
    reply_bytes: int = 3 << 20  # one page of workflows, tasks or items; a larger one is cut, and says so
    connections_count: int = 2_000  # open connections of each listener
    connection_streams_count: int = 1_000  # calls and streams at once on one gRPC connection; more wait at the client
    watchers_count: int = 1_000  # open watch and follow streams, gRPC and HTTP together
    request_ms: int = 60_000  # a call that is not a stream and has no deadline of its own
    heartbeat_ms: int = 15_000  # between signs of life of an idle HTTP event stream
    compile_inline_bytes: int = 8 << 10  # a larger document is compiled in a thread
    compile_threads_count: int = 2  # documents compiled at once
    compile_cache_bytes: int = 4 << 20  # sources of the compiled documents that are kept
    log_read_bytes: int = 1 << 20  # one piece of a log that is asked for
    log_chunk_bytes: int = 64 << 10  # one piece of a followed log; a longer line is given in pieces
    log_buffer_count: int = 16  # pieces that wait for one reader of followed logs
    log_streams_count: int = 256  # replicas that one reader follows at once; the others wait their turn
    log_backlog_count: int = 200_000  # replicas that wait their turn
    log_partial_ms: int = 1_000  # how long an unfinished line is held back
    log_event_id_chars: int = 6_000  # position of an HTTP log stream; more replicas at once do not fit a header
    metrics_count: int = 256  # metrics of one report of a task


def over(name: str, what: str, limit: int, hint: str = "") -> Refusal:
    """The refusal of one that is over the limit `name`: "the document is larger than limits.document_bytes (…)"."""
    field = f"limits.{name}"
    return Refusal(f"{what} {field} ({limit:,})", code="limit", field=field, hint=hint)


def check_name(text: str, field: str, limits: ApiLimits) -> str:
    """A short text of a request, as it is. Refusal (limit) when it is not short."""
    if len(text) > limits.name_chars:
        raise over("name_chars", f"{field} is longer than", limits.name_chars)
    return text


def page_size(asked: int, limits: ApiLimits) -> int:
    """Entries of one page; 0 = as many as one page may have. Never clamped: a short page means "the last"."""
    if asked < 0:
        raise Refusal(f"limit must be positive, got {asked}", field="limit")
    if asked > limits.page_count:
        raise over("page_count", "limit is above", limits.page_count, hint="ask for several pages")
    return asked or limits.page_count
