"""The limits that the core itself enforces, as one frozen struct that travels into it as a plain argument.

Full means a visible refusal that names the limit (`field="limits.<name>"`), never silent loss. Never here: limits of
the shell (inbox, connections, log files): those live in `ffd.settings`, whose `[limits]` group extends this struct.
"""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every value is a positive whole number; the unit ends the name. The defaults are those of the product."""

    live_workflows_count: int = 100_000  # workflows in memory; a submit beyond it is refused
    live_tasks_count: int = 2_000_000  # tasks and opened items of all live workflows together
    fanout_items_count: int = 100_000  # items of one task
    infrastructure_retries_count: int = 10  # tries per item lost to infrastructure, apart from the user's
    output_bytes: int = 1 << 20  # all outputs of one attempt, as JSON
    output_value_bytes: int = 256 << 10  # one output value, as JSON
    tail_bytes: int = 4 << 10  # last lines of a log that are kept in a cause
    idempotency_keys_count: int = 100_000  # remembered; the oldest of ended workflows go first
    stop_grace_ms: int = 10_000  # from TERM to KILL, for tasks without a checkpoint grace
    cycle_work_count: int = 2_000  # work of one scheduling cycle, about 10 us each: then others have their turn
    learnt_durations_count: int = 10_000  # names of tasks whose durations are learnt; the oldest makes room
    tenants_count: int = 10_000  # declared tenants, and those with live work; each level of a path is one
