"""Amounts of quotas as people write them, in the units of `core.tenancy`. Called by `api.tenants`, `ffd simulate`."""

from __future__ import annotations

from typing import Any

from ffd.core.document.scalars import Wrong, size_bytes
from ffd.core.tenancy import BYTES, COUNTS
from ffd.errors import Refusal

LARGEST = 2.0**60  # of any amount, in its unit


def amount_of(resource: str, value: Any) -> int:
    """An amount as people write it, in the resource's unit (core.tenancy). Refusal: invalid."""
    field = f"quotas.{resource[:80]}"
    try:
        if resource in BYTES and isinstance(value, str):
            return size_bytes(value)
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else -1.0
        scaled = number if resource in COUNTS or resource in BYTES else number * 1_000
        if 0 <= scaled <= LARGEST and abs(scaled - round(scaled)) < 1e-6:
            return round(scaled)
    except (ValueError, OverflowError):
        pass
    except Wrong as wrong:
        raise Refusal(f"{resource[:80]}: {wrong.message}", field=field) from None
    what = "a number, to thousandths"
    if resource in COUNTS or resource in BYTES:
        what = "a whole number" if resource in COUNTS else 'bytes, or a size as "512Gi"'
    raise Refusal(f"{resource[:80]}: expected {what}, 0 or more, got {str(value)[:80]!r}", field=field)
