"""What a simulated replica does: how long it runs, how it ends. And how a document says so, through its environment:

    env: {VIRTUAL_DURATION: 5s, VIRTUAL_EXIT: "1"}      (default: ends at once, with exit code 0)

Shared by the virtual runtime (`ffd.plugins.runtime.virtual`) and by `ffd simulate`. Never here: time, randomness.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ffd.core.effects import Launch

_TOLD = frozenset({"VIRTUAL_DURATION", "VIRTUAL_EXIT", "VIRTUAL_OUTPUTS"})
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)?")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Behaviour(msgspec.Struct, frozen=True, gc=False):
    """What one replica does: runs for `duration_ms`, then exits. `outputs` as if written to $FFD_OUTPUT, as lines or
    (`outputs_are_json`) as an object.
    `ignores_term`: it lives until the grace is over. `launch_fault`: why it cannot be started, the user's fault."""

    duration_ms: float = 0
    exit_code: int = 0
    outputs: tuple[tuple[str, Any], ...] = ()
    ignores_term: bool = False
    launch_fault: str = ""
    outputs_are_json: bool = False


NOOP = Behaviour()


def told_by_environment(order: Launch, rank: int) -> Behaviour:
    """The default: VIRTUAL_DURATION (`90s`, `500ms`, a bare number is seconds), VIRTUAL_EXIT (0-255) and
    VIRTUAL_OUTPUTS (a JSON object). What makes no sense is a launch fault."""
    env = order.env
    if not _TOLD.intersection(env):
        return NOOP
    duration, code = env.get("VIRTUAL_DURATION", "0"), env.get("VIRTUAL_EXIT", "0")
    found = _DURATION.fullmatch(duration)
    if found is None:
        return Behaviour(launch_fault=f"VIRTUAL_DURATION is {duration!r}, expected a duration such as 90s or 500ms")
    if not (code.isascii() and code.isdecimal() and int(code) < 256):
        return Behaviour(launch_fault=f"VIRTUAL_EXIT is {code!r}, expected an exit code, 0 to 255")
    try:
        outputs = msgspec.json.decode(env.get("VIRTUAL_OUTPUTS", "{}"), type=dict[str, Any])
    except msgspec.DecodeError as error:
        return Behaviour(launch_fault=f"VIRTUAL_OUTPUTS is {env['VIRTUAL_OUTPUTS']!r}, expected a JSON object: {error}")
    duration_ms = float(found[1]) * _UNIT_MS[found[2] or "s"]
    return Behaviour(duration_ms, int(code), tuple(outputs.items()), outputs_are_json=bool(outputs))
