"""The list functions that we compute ourselves: `sum`, `min`, `max`, `avg`, `range`, and `size` of a bare name.

Plain Python over plain JSON values, each bounded, each failing with a reason. Called by `evaluate.py` only.
"""

from __future__ import annotations

import math
from typing import Any

from ffd.core.expr.limits import ExprError, ExprLimits
from ffd.core.expr.program import Computed

_INT_MIN, _INT_MAX = -(1 << 63), (1 << 63) - 1


def describe(value: Any) -> str:
    """The kind of a value, as a message names it."""
    names = {bool: "a bool", int: "an int", float: "a float", str: "a string", list: "a list", dict: "a map"}
    return names.get(type(value), "null" if value is None else type(value).__name__)


def apply(call: Computed, value: Any, limits: ExprLimits) -> Any:
    """`sum([])` is 0; `min`, `max` and `avg` of an empty list are errors. `avg` is always a float."""
    function = call.function
    if function == "size":
        if not isinstance(value, list | dict | str):
            raise ExprError(f"`size` takes a list, a map or a string, not {describe(value)}")
        return len(value)
    if function == "range":
        return _range(value, limits)
    if not isinstance(value, list):
        raise ExprError(f"`{function}` takes a list, not {describe(value)}")
    if function == "sum":
        return _sum(value, 0.0 if call.argument.type == "list<float>" else 0)
    if not value:
        raise ExprError(f"`{function}` of an empty list has no value", hint="test size(...) > 0 first")
    if function == "avg":
        return finite(float(_sum(value, 0.0)) / len(value), "`avg`")
    _numbers(value, function, allow_strings=True)
    return min(value) if function == "min" else max(value)


def _range(value: Any, limits: ExprLimits) -> list[int]:
    if type(value) is not int or value < 0:
        raise ExprError(f"`range` takes a whole number of at least 0, not {describe(value)} {value!r:.40}")
    if value > limits.range_items:
        raise ExprError(f"`range({value})` is longer than {limits.range_items}", field="range_items")
    return list(range(value))


def _sum(value: list[Any], empty: float) -> float:
    """Exact for ints; correctly rounded for floats, whatever the order and the Python version."""
    if not value:
        return empty
    _numbers(value, "sum", allow_strings=False)
    if all(type(item) is int for item in value) and type(empty) is int:
        total = sum(value)
        if not _INT_MIN <= total <= _INT_MAX:
            raise ExprError("`sum` exceeds 64 bits")
        return int(total)
    try:
        return finite(math.fsum(value), "`sum`")
    except OverflowError:
        raise ExprError("`sum` is not a finite number") from None


def _numbers(value: list[Any], function: str, *, allow_strings: bool) -> None:
    kinds = {type(item) for item in value}
    if kinds <= {int, float} or (allow_strings and kinds == {str}):
        return
    wrong = next(item for item in value if type(item) not in (int, float))
    also = " or of strings" if allow_strings else ""
    raise ExprError(f"`{function}` takes a list of numbers{also}, but one item is {describe(wrong)}")


def finite(value: float, what: str) -> float:
    """The value, unless it is infinite or not a number: JSON has no such values."""
    if not math.isfinite(value):
        raise ExprError(f"{what} is not a finite number")
    return value
