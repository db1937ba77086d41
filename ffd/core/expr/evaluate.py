"""Evaluates a program over stored values, within a bounded cost, and turns what comes out into plain JSON values.

Everything that can go wrong ends as an ExprError with a reason a user can act on: the library's error *values*, missing
outputs, wrong types, exhausted budgets. Same program and same values, same answer. Called by the stages that evaluate
(`when`, `foreach`, bindings); never by the document validator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ffd.core.expr.cost import check_cost
from ffd.core.expr.functions import apply, describe, finite
from ffd.core.expr.limits import LIMITS, ExprError, ExprLimits
from ffd.core.expr.program import Program

_NO_VALUE = re.compile(r'No value with name "(_[a-zA-Z]\d+)" found')


def evaluate(program: Program, values: Mapping[str, Any], *, limits: ExprLimits = LIMITS) -> Any:
    """Value of the program: None, bool, int, float, str, list or dict, nothing else; map keys are sorted.

    `values` maps names (`program.names`) to plain JSON values; each name of the program is looked up once, no other.
    One that is missing is an error only when the expression really reads it (`a || b` may not need b). Raises
    ExprError.
    """
    data: dict[str, Any] = {}
    absent: dict[str, ExprError] = {}  # slot -> why it has no value
    for entry in program.inputs:
        try:
            data[entry.slot] = values[entry.name]
        except KeyError:
            absent[entry.slot] = _never_set(entry.name)
    for call in program.computed:
        try:
            data[call.slot] = apply(call, evaluate(call.argument, values, limits=limits), limits)
        except ExprError as error:
            absent[call.slot] = error
    if program.only_slot:
        if program.only_slot in absent:
            raise absent[program.only_slot]
        return _expected(program, _typed(program, data[program.only_slot]))
    check_cost(program, data, limits)
    return _expected(program, _run(program, data, absent, limits))


def _never_set(name: str) -> ExprError:
    if name.startswith("tasks."):
        return ExprError(f"`{name}` was never set", hint="the task ended without setting this output")
    return ExprError(f"`{name}` has no value here")


def _typed(program: Program, value: Any) -> Any:
    """A value that no library call has checked: hold it to its declared type."""
    name, kind = program.source.strip(), program.type
    if kind == "float" and type(value) is int:
        return float(value)
    wanted = {"int": int, "float": float, "string": str, "bool": bool, "map": dict}.get(kind)
    if kind.startswith("list<"):
        wanted = list
    if wanted is not None and type(value) is not wanted:
        raise ExprError(f"`{name}` should be {kind}, but its value is {describe(value)}")
    return value


def _expected(program: Program, value: Any) -> Any:
    if program.expect == "bool" and type(value) is not bool:
        raise ExprError(f"expected true or false, the expression yields {describe(value)}")
    if program.expect == "list" and type(value) is not list:
        raise ExprError(f"expected a list, the expression yields {describe(value)}")
    return value


def _run(program: Program, data: dict[str, Any], absent: Mapping[str, ExprError], limits: ExprLimits) -> Any:
    try:
        result = program.cel.eval(data=data)
    except RuntimeError as error:
        raise _failure(str(error), program, absent) from None
    return _Reader(program, absent, limits).plain(result, limits.input_depth)


class _Reader:
    """Turns the library's values into ours. A null is never asked for its Python value: see `program.py`."""

    def __init__(self, program: Program, absent: Mapping[str, ExprError], limits: ExprLimits) -> None:
        self.program = program
        self.absent = absent
        self.nodes_left = limits.result_nodes
        self.limits = limits

    def plain(self, value: Any, depth: int) -> Any:
        kind: str = value.type().name()
        if kind == "NULL":
            return None
        if kind == "ERROR":
            raise _failure(str(value.value()), self.program, self.absent)
        self.nodes_left -= 1
        if self.nodes_left < 0 or depth == 0:
            raise ExprError("the expression yields more than fits", field="result_nodes")
        if kind in ("INT", "STRING", "BOOL", "UINT"):
            return value.value()
        if kind == "DOUBLE":
            return finite(value.value(), "what the expression yields")
        if kind.startswith("LIST"):
            return [self.plain(item, depth - 1) for item in value.value()]
        if kind.startswith("MAP"):
            items = value.value()
            if not all(isinstance(key, str) for key in items):
                raise ExprError("the expression yields a map whose keys are not strings")
            return {key: self.plain(items[key], depth - 1) for key in sorted(items)}
        raise ExprError(f"the expression yields a {kind.lower()}, which is not a JSON value")


def _failure(text: str, program: Program, absent: Mapping[str, ExprError]) -> ExprError:
    """The library's run-time error as ours: slots named by what they stand for, status codes dropped."""
    missing = _NO_VALUE.search(text)
    if missing and missing.group(1) in absent:
        return absent[missing.group(1)]
    if "Iteration budget exceeded" in text:
        return ExprError(f"the loops of the expression take more than {LIMITS.loop_steps} steps", field="loop_steps")
    names = {entry.slot: entry.name for entry in program.inputs}
    names |= {call.slot: f"{call.function}(...)" for call in program.computed}
    text = re.sub(r"_[a-zA-Z]\d+\b", lambda match: names.get(match.group(), match.group()), text)
    text = re.sub(r"^[A-Z_]+: ", "", text).partition("\n")[0].removesuffix("]").partition(" [")[0]
    text = text.replace("int64", "int").replace("double", "float")
    guarded = re.match(r"No matching overloads found : _\+_\((\w+), list\)", text)
    if guarded and program.builds_lists:
        kind = guarded.group(1).removesuffix("_type")
        return ExprError(f"`map` and `filter` go over lists only, not {kind}")
    text = re.sub(r"No matching overloads found : _(.+)_\((.*)\)", r"`\1` cannot be applied to (\2)", text)
    return ExprError(f"the expression failed: {text[:500]}")
