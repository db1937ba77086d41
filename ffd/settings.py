"""All settings and limits of the daemon, and how they are read from TOML. `config/ffd.toml` shows each, with defaults.

Read once at start by `ffd daemon run` and by an embedded daemon; passed down as arguments; never changed afterwards.
Never here: settings of the command line (`ffd.cli.address`), environment variables, anything that opens a socket.

Units end the names. A `_ms` value may also be written as a text ("30s", "1h30m", "30d"), a `_bytes` value as one
("64MiB", "4G"). Unknown keys are refused with the nearest known name, wrong values by name, all of them at once.
"""

from __future__ import annotations

import difflib
import tomllib
from typing import Any, get_type_hints

import msgspec

from ffd.core.document.scalars import Wrong, duration_ms, size_bytes
from ffd.core.health import FAILURES_COUNT
from ffd.core.limits import Limits as CoreLimits
from ffd.core.policy import Policy
from ffd.errors import Refusal


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Common head of all groups."""


class DaemonSettings(Group, frozen=True, kw_only=True):
    """Where the daemon keeps things, where it listens, what it runs on."""

    state_dir: str = ""  # holds everything that must survive; "" = the user's state directory
    listen: tuple[str, ...] = ()  # unix:PATH | grpc://HOST:PORT | grpcs://HOST:PORT; empty = the user's runtime socket
    http: tuple[str, ...] = ()  # http://HOST:PORT | https://HOST:PORT; empty = no HTTP
    advertise: str = ""  # the address that tasks and other daemons are told; "" = the first of `listen`
    tls_cert: str = ""  # PEM file, for grpcs:// and https://
    tls_key: str = ""  # PEM file
    tokens_file: str = ""  # bearer tokens and who holds them; "" = only the unix socket's own user may call
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")  # names an HTTP client may ask for
    runtime: str = "local"  # local | virtual
    store: str = "sqlite"  # sqlite | memory
    pretend: str = ""  # NODESxGPUS:MODEL, as 16x8:H100: nodes to pretend
    lease_ttl_ms: int = 10_000  # a leader that did not renew for this long has lost
    accept_loss: bool = False  # lead although the store lost commits; command line only (--accept-loss)


class Limits(CoreLimits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the core enforces, and what the shell does. It is a core Limits, so it goes to the core as it is.

    Limits of documents are not here: what a document may be is the same for `ffd lint` and for every daemon."""

    # the writer and those around it
    inbox_count: int = 10_000  # commands and reports that wait for the writer; more are refused as `unavailable`
    batch_count: int = 1_000  # inputs of one step, hence of one commit
    launches_count: int = 32  # launches and stops under way at once
    barriers_count: int = 1_000  # barriers of one attempt that are kept; passed ones make room
    watch_backlog_count: int = 10_000  # events that wait for one slow watcher; ten times more become a gap
    log_bytes: int = 64 << 20  # kept of each replica's log; the middle is dropped, with a marker
    # the API; the names and defaults are those of ffd.api.limits (a test holds them equal)
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
    watchers_count: int = 1_000  # open watch and follow streams
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
    log_event_id_chars: int = 6_000  # position of an HTTP log stream
    metrics_count: int = 256  # metrics of one report of a task


class Scheduling(Policy, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the scheduler decides. It is a core Policy, so it goes to the core as it is."""


class Retention(Group, frozen=True, kw_only=True):
    """How long ended workflows stay readable. 0 = for ever. A document's `ttl` wins."""

    success_ms: int = 30 * 86_400_000
    failure_ms: int = 90 * 86_400_000  # failed and cancelled


class LocalSettings(Group, frozen=True, kw_only=True):
    """The runtime `local`: processes of this machine."""

    slot_count: int = 0  # replicas at once on this machine; 0 = from its processors


class Telemetry(Group, frozen=True, kw_only=True):
    """What the daemon says about itself, on stderr."""

    log_level: str = "info"  # debug | info | warning | error
    loop_lag_ms: int = 50  # a longer standstill of the event loop is logged


class Settings(Group, frozen=True, kw_only=True):
    """Everything. Each attribute is one [table] of the file."""

    daemon: DaemonSettings = DaemonSettings()
    limits: Limits = Limits()
    scheduling: Scheduling = Scheduling()
    retention: Retention = Retention()
    local: LocalSettings = LocalSettings()
    telemetry: Telemetry = Telemetry()


COMMAND_LINE_ONLY = frozenset({"daemon.accept_loss"})
MAY_BE_ZERO = frozenset(
    {
        "retention.success_ms",
        "retention.failure_ms",
        "local.slot_count",
        "limits.stop_grace_ms",
        "scheduling.reservations_count",
        "scheduling.project_reservations_count",
        "scheduling.aging_points_count",
        "scheduling.patience_ms",
        "scheduling.usage_half_life_ms",
        "scheduling.overtakes_count",
    }
)
AT_MOST = {"scheduling.quarantine_failures_count": FAILURES_COUNT, "scheduling.quarantine_nodes_percent": 100}
CHOICES = {
    "telemetry.log_level": ("debug", "info", "warning", "error"),
    "scheduling.order": ("fair", "fifo", "sjf"),
    "scheduling.preempt": ("all", "reclaim", "off"),
    "scheduling.placement": ("default", "fgd", "bestfit"),
}


def load(text: str, filename: str) -> Settings:
    """Settings of a TOML text over the defaults. Refusal (invalid) lists every fault, one per line, with its name."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refusal(f"{filename}: not TOML: {error}", field=filename) from None
    return build(tables, filename)


def build(tables: dict[str, Any], origin: str) -> Settings:
    """Settings of nested plain data (a parsed file) over the defaults; refusals as in `load`."""
    faults: list[str] = []
    groups: dict[str, Any] = {}
    for group, hint in get_type_hints(Settings).items():
        values = tables.get(group, {})
        if isinstance(values, dict):
            groups[group] = _group(group, hint, values, faults)
        else:
            faults.append(f"[{group}]: expected a table, got {_shown(values)}")
    faults += [f"[{key}]: {_unknown('table', key, groups)}" for key in tables if key not in groups]
    if faults:
        raise Refusal("\n".join(f"{origin}: {fault}" for fault in faults), field=origin)
    return Settings(**groups)


def _group(group: str, kind: type[Any], values: dict[str, Any], faults: list[str]) -> Any:
    hints = get_type_hints(kind)
    known = {}
    for key, value in values.items():
        name = f"{group}.{key}"
        if key not in hints:
            faults.append(f"{name}: {_unknown('setting', key, hints)}")
        elif name in COMMAND_LINE_ONLY:
            faults.append(f"{name}: only for the command line (--{key.replace('_', '-')}), once and on purpose")
        else:
            try:
                known[key] = _value(name, hints[key], value)
            except (Wrong, msgspec.ValidationError) as error:
                faults.append(f"{name}: {error}")
    return kind(**known)


def _value(name: str, kind: Any, value: Any) -> Any:
    """One value in its type. Wrong or msgspec.ValidationError says what was expected and what was got."""
    if kind is int and isinstance(value, str):
        if name.endswith("_ms"):
            value = duration_ms(value)
        elif name.endswith("_bytes"):
            value = size_bytes(value)
    converted = msgspec.convert(value, kind)
    if kind is int and converted < (0 if name in MAY_BE_ZERO else 1):
        raise Wrong(f"expected {'0 or more' if name in MAY_BE_ZERO else '1 or more'}, got {converted}")
    if kind is int and converted > AT_MOST.get(name, converted):
        raise Wrong(f"expected {AT_MOST[name]} or less, got {converted}")
    if name in CHOICES and converted not in CHOICES[name]:
        raise Wrong(f"expected one of {', '.join(CHOICES[name])}, got {_shown(converted)}")
    return converted


def _unknown(what: str, key: str, known: Any) -> str:
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"unknown {what}" + (f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}")


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode() if isinstance(value, str | int | float | bool | list) else str(value)
