"""Scalars with a grammar of their own: durations, sizes, processors, GPUs, names. Text in, number out, or why not.

Each parser returns its value or raises `Wrong`, whose text says what was expected and what was got. No faults, no
paths here.
"""

from __future__ import annotations

import math
import re
from typing import Any

from ffd.core.document.faults import quote
from ffd.core.spec import WHOLE_MILLIS

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
WORKFLOW_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_DURATION = re.compile(r"(?:\d{1,15}(?:\.\d{1,6})?(?:ms|[smhdw]))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])", re.ASCII)
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)(Ki|Mi|Gi|Ti|Pi|k|K|M|G|T|P)(?:B|iB)?", re.ASCII)
_CPU = re.compile(r"(\d{1,9})m|(\d{1,6}(?:\.\d{1,3})?)", re.ASCII)
_GPUS = re.compile(r"([A-Za-z][A-Za-z0-9_.-]{0,62}):([0-9]{1,4})", re.ASCII)
_GPU_PART = re.compile(r"([A-Za-z][A-Za-z0-9_.-]{0,62}):(0\.[0-9]{1,3})", re.ASCII)
GPU_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}", re.ASCII)

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_UNIT_BYTES = {
    "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50,
}  # fmt: skip
_LONGEST_MS = 10 * 365 * 86_400_000
_LARGEST_BYTES = 1 << 60


class Wrong(Exception):
    """A scalar that cannot be read; `hint` is what to write instead, if that can be told."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def duration_ms(value: object) -> int:
    """`1h30m`, `90s`, `500ms`, `3d` -> milliseconds. Units: w d h m s ms, in any order."""
    if isinstance(value, str) and _DURATION.fullmatch(value):
        total = round(sum(float(number) * _UNIT_MS[unit] for number, unit in _DURATION_PART.findall(value)))
        if total > _LONGEST_MS:
            raise Wrong(f"expected a duration of at most 10 years, got {quote(value)}")
        return total
    hint = ""
    if isinstance(value, int) and not isinstance(value, bool):
        hint = f"write {value}s for seconds, {value}m for minutes"
    elif isinstance(value, str) and value.strip().isdigit():
        hint = f"write {value.strip()}s for seconds, {value.strip()}m for minutes"
    elif isinstance(value, str) and _DURATION.fullmatch(re.sub(r"\s+", "", value)):
        hint = f"write {re.sub(r'[ ]+', '', value)}, without blanks"
    raise Wrong(f"expected a duration such as 90s, 15m, 1h30m or 500ms, got {quote(value)}", hint)


def size_bytes(value: object) -> int:
    """`512Gi`, `64Mi`, `4G` -> bytes. `Ki Mi Gi Ti Pi` are powers of 1024, `k M G T P` powers of 1000."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match:
        total = round(float(match.group(1)) * _UNIT_BYTES[match.group(2)])
        if total > _LARGEST_BYTES:
            raise Wrong(f"expected a size of at most 1024Pi, got {quote(value)}")
        return total
    hint = ""
    digits = str(value).strip()
    if not isinstance(value, bool) and digits.isdigit():
        hint = f"write {digits}Gi for gibibytes, {digits}Mi for mebibytes"
    elif isinstance(value, str) and _SIZE.fullmatch(value.replace(" ", "")):
        hint = f"write {value.replace(' ', '')}, without blanks"
    raise Wrong(f"expected a size such as 512Gi, 64Mi or 4G, got {quote(value)}", hint)


def cpu_millis(value: object) -> int:
    """`4`, `0.5` or `500m` -> thousandths of a processor."""
    match = _CPU.fullmatch(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    if match is None:
        raise Wrong(f"expected a number of processors such as 4, 0.5 or 500m, got {quote(value)}")
    return int(match.group(1)) if match.group(1) else round(float(match.group(2)) * 1_000)


def gpus(value: object) -> tuple[int, str]:
    """`8` -> (8, ""); `H100:8` -> (8, "H100")."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 9_999:
        return value, ""
    match = _GPUS.fullmatch(value) if isinstance(value, str) else None
    if match:
        return int(match.group(2)), match.group(1)
    hint = ""
    if isinstance(value, str) and GPU_TYPE.fullmatch(value):
        hint = f"write {value}:1 for one of them per replica"
    raise Wrong(f"expected a number of GPUs such as 8, or model and number such as H100:8, got {quote(value)}", hint)


def gpu_request(value: object) -> tuple[int, int, str]:
    """What a replica asks for: (GPUs, thousandths of each, model). `8` -> (8, 1000, ""); `0.5` -> (1, 500, ""), half of
    a GPU that it shares; `H100:8` -> (8, 1000, "H100"); `H100:0.5` -> (1, 500, "H100")."""
    match = _GPU_PART.fullmatch(value) if isinstance(value, str) else None
    if not isinstance(value, float) and match is None:
        return _whole(value)
    part = value if isinstance(value, float) else float(match.group(2)) if match else 0.0
    millis = round(part * 1_000) if 0 < part < 1 else 0
    if 1 <= millis <= 999 and abs(part * 1_000 - millis) < 1e-6:
        return 1, millis, match.group(1) if match else ""
    hint = f"write {part:.0f}" if 1 <= part < 10_000 and part.is_integer() else ""
    raise Wrong(f"expected whole GPUs, or a part of one from 0.001 to 0.999 in thousandths, got {quote(value)}", hint)


def _whole(value: object) -> tuple[int, int, str]:
    count, model = gpus(value)
    return count, WHOLE_MILLIS, model


def check_name(name: str, kind: str) -> None:
    """Names of tasks, params, outputs and matrix keys: they stand in expressions, so they are identifiers."""
    if NAME.fullmatch(name):
        return
    better = re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_")[:63]
    hint = f"write {better}" if NAME.fullmatch(better) else ""
    raise Wrong(
        f"{quote(name)} is not a valid {kind} name: expected lower-case letters, digits and `_`, "
        "starting with a letter, at most 63 characters",
        hint,
    )


def check_json(value: Any, depth_count: int) -> None:
    """Refuse what is not a plain JSON value: a number beyond 64 bits or not finite, a key that is not text, too
    deep."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Wrong("expected valid Unicode text") from None
    elif isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise Wrong("expected a whole number of at most 64 bits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Wrong(f"expected a finite number, got {value}")
    elif depth_count == 0:
        raise Wrong("the value is nested too deeply")
    elif isinstance(value, list | tuple):
        for child in value:
            check_json(child, depth_count - 1)
    elif isinstance(value, dict):
        for key, child in value.items():
            if not isinstance(key, str):
                raise Wrong(f"expected text as a key, got {quote(key)}")
            check_json(child, depth_count - 1)
    else:
        raise Wrong(f"expected a JSON value, got a Python {type(value).__name__}")
