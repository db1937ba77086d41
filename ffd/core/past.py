"""Usage that decays: an exponentially weighted mean of what a tenant held, as whole numbers, in steps of a half-life.

    past(t + d) = usage + (past(t) - usage) * 2 ** (-d / half_life)      while usage does not change

It tends to the usage, and forgets half of the difference within each half-life. Time is counted in ticks of 1/64
half-life, so it is only worked out when somebody asks or usage changes. Whole numbers: equal on every machine, and it
does reach the usage. Pure; kept by `core.tenancy`. Never here: what it means for the order (`admit.share`).
"""

from __future__ import annotations

from collections.abc import Mapping

TICKS = 64  # of one half-life
_BITS = 32
_FACTORS = tuple(round(2 ** (_BITS - tick / TICKS)) for tick in range(TICKS))


def tick_of(now_ms: int, half_life_ms: int) -> int:
    return now_ms * TICKS // half_life_ms


def settled(past: Mapping[str, int], usage: Mapping[str, int], ticks: int) -> dict[str, int]:
    """What `past` is `ticks` later, `usage` having been held since; what became nothing has no entry."""
    found = {}
    for resource in {**past, **usage}:
        held = usage.get(resource, 0)
        value = held + _decayed(past.get(resource, 0) - held, ticks)
        if value and resource != "workflows":
            found[resource] = value
    return found


def _decayed(difference: int, ticks: int) -> int:
    halvings, rest = divmod(ticks, TICKS)
    left = (abs(difference) * _FACTORS[rest] >> _BITS) >> halvings
    return left if difference > 0 else -left
