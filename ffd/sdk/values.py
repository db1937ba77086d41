"""What may travel: plain JSON values, checked and bounded before they leave the process.

Never here: the network and files. Called by `ffd.sdk.task`, `ffd.sdk.aio` and `ffd.sdk.call`.
"""

from __future__ import annotations

import functools
import json
import math
from typing import Any, NamedTuple

from ffd.errors import Refusal
from ffd.sdk.lines import notice

MAX_VALUE_BYTES = 1 << 20  # of one output or checkpoint, as JSON; the daemon's own limits may be lower
MAX_METRICS_COUNT = 64
_INT_BOUND = 1 << 63


class Progress(NamedTuple):
    """How far the work is. `total` None = not known; `metrics` holds finite numbers only."""

    step: int
    total: int | None
    metrics: dict[str, float]


def encode(value: object, what: str) -> str:
    """JSON text of the value, with no loss: decoding it gives an equal value (tuples become lists).

    `what` names it in messages. Refusal(invalid) says where in it the fault is; Refusal(limit): it is too large."""
    try:
        _check(value, what)
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        size_bytes = len(text.encode())
    except RecursionError:
        raise Refusal(f"{what} is nested too deeply, or contains itself", field=what) from None
    except UnicodeEncodeError:
        raise Refusal(f"{what} holds text that is not valid Unicode (a lone surrogate)", field=what) from None
    if size_bytes > MAX_VALUE_BYTES:
        raise Refusal(
            f"{what} is {size_bytes} bytes of JSON, over the limit MAX_VALUE_BYTES = {MAX_VALUE_BYTES}",
            code="limit",
            field="MAX_VALUE_BYTES",
            hint="write large data to FFD_CHECKPOINT_DIR or a shared volume, and pass its path",
        )
    return text


def encode_object(value: object, what: str) -> str:
    """Like `encode`, for a value that must be a dict."""
    if not isinstance(value, dict):
        raise Refusal(f"{what} must be a dict, got {type(value).__name__}", field=what)
    return encode(value, what)


def check_name(name: object, what: str) -> str:
    """An identifier, as in the document's `outputs`; anything else could not be told from a `name=value` line."""
    if not isinstance(name, str) or not (name.isascii() and name.isidentifier()):
        raise Refusal(f"{what} must be an identifier such as `loss` or `row_count`, got {name!r:.80}", field=what)
    return name


def check_progress(step: object, total: object, metrics: dict[str, object]) -> Progress:
    """Takes whatever has `__int__` or `__float__` (numpy, torch). A metric that is NaN or infinite is left out, with
    one notice: JSON cannot hold it, and it is no reason to end a training run."""
    if len(metrics) > MAX_METRICS_COUNT:
        raise Refusal(
            f"{len(metrics)} metrics in one call, over the limit MAX_METRICS_COUNT = {MAX_METRICS_COUNT}",
            code="limit",
            field="MAX_METRICS_COUNT",
        )
    numbers = {name: _number(value, f"metric {name}") for name, value in metrics.items()}
    finite = {name: number for name, number in numbers.items() if math.isfinite(number)}
    if len(finite) < len(numbers):
        _notice_not_finite(", ".join(name for name in numbers if name not in finite))
    return Progress(_count(step, "step"), None if total is None else _count(total, "total"), finite)


@functools.lru_cache(maxsize=64)
def _notice_not_finite(names: str) -> None:
    notice(f"not a finite number, so not sent: metric {names}")


def _check(value: object, where: str) -> None:
    """Refuse what JSON cannot say, by the path to it. Raises RecursionError for a value that contains itself."""
    if value is None or isinstance(value, bool | str):
        return
    if isinstance(value, int):
        if not -_INT_BOUND <= value < _INT_BOUND:
            raise Refusal(f"{where} is a whole number beyond 64 bits", field=where, hint="pass it as text")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Refusal(f"{where} is {value}, which JSON cannot hold", field=where, hint="pass None or a text")
    elif isinstance(value, list | tuple):
        for index, element in enumerate(value):
            _check(element, f"{where}[{index}]")
    elif isinstance(value, dict):
        for key, element in value.items():
            if not isinstance(key, str):
                raise Refusal(f"{where} has the key {key!r:.80}; keys of JSON objects are texts", field=where)
            _check(element, f"{where}.{key:.80}")
    else:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise Refusal(
            f"{where} is a {kind}, which is not JSON",
            field=where,
            hint="pass None, a bool, a number, a text, a list or a dict; for arrays and tensors .item() or .tolist()",
        )


def _number(value: Any, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise Refusal(f"{what} must be a number, got {type(value).__name__}", field=what) from None


def _count(value: Any, what: str) -> int:
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        count = -1
    if not 0 <= count < _INT_BOUND:
        raise Refusal(f"{what} must be a whole number, 0 or more, got {value!r:.80}", field=what)
    return count
