"""What an evaluation could cost at worst, refused before it runs: the CEL library bounds loop steps, but not memory.

A short source can build gigabytes (`["aa"].map(x, x + x).map(x, x + x)...`), and `map` copies its result at every step.
The bound is an estimate from the weight of the inputs and the shape of the loops, always on the safe side.
Called by `evaluate.py` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ffd.core.expr.limits import ExprError, ExprLimits
from ffd.core.expr.program import Program

_NODE_BYTES = 8


class _Weight(msgspec.Struct):
    """What a value weighs: bytes in all, its longest list or map, its heaviest list item and its heaviest child."""

    total: int = 0
    longest: int = 0
    item: int = 0
    child: int = 0


class _Load(msgspec.Struct):
    """The inputs of one evaluation, added up. `items` are the list items that a loop could go over."""

    total: int = 0
    items: int = 0
    item_bytes: int = 0
    step_bytes: int = 0

    def add(self, weight: _Weight, mentions: int, in_loops: int, indexed: int, *, concatenated: bool) -> None:
        self.total += weight.total * mentions
        self.items = self.items + weight.longest * mentions if concatenated else max(self.items, weight.longest)
        self.item_bytes = max(self.item_bytes, weight.item)
        self.step_bytes += weight.total * (in_loops - indexed) + weight.child * indexed


def check_cost(program: Program, data: Mapping[str, Any], limits: ExprLimits) -> None:
    """Raise ExprError when evaluating the program over these slots could exceed the limits."""
    load = _Load()
    concatenated = not all(loop.direct for loop in program.loops)
    for entry in program.inputs:
        if entry.slot in data:
            weight = _weigh(data[entry.slot], entry.name, limits)
            load.add(weight, entry.mentions, entry.in_loops, entry.indexed, concatenated=concatenated)
    for call in program.computed:
        if call.slot in data:
            weight = _weigh(data[call.slot], call.function, limits)
            load.add(weight, 1, call.in_loops, 0, concatenated=concatenated)
    if load.total > limits.input_bytes:
        message = f"the values that the expression uses weigh {load.total} bytes, more than {limits.input_bytes}"
        raise ExprError(message, field="input_bytes")
    if program.loops:
        _check_loops(program, load, limits)


def _check_loops(program: Program, load: _Load, limits: ExprLimits) -> None:
    """Each step costs its item, as often as the body mentions it (squared: `x + x + x` copies at every `+`), plus what
    else the body names; what one loop builds is what the next one goes over."""
    items = load.items + program.source.count(",")  # lists may be written in the expression itself
    if program.builds_lists and load.items > limits.list_loop_items:
        raise ExprError(
            f"`map` or `filter` over more than {limits.list_loop_items} items",
            field="list_loop_items",
            hint="`all`, `exists`, sum, min, max and avg go over longer lists",
        )
    growth = 1
    per_step = load.step_bytes
    for loop in program.loops:
        growth *= max(1, loop.uses * (loop.uses + 1) // 2)
        per_step += loop.body_end - loop.body_start
    item_bytes = load.item_bytes
    if not all(loop.direct for loop in program.loops):
        item_bytes = load.total + len(program.source)
    if len(program.loops) > 1 and "+" in program.source:
        items = max(items, growth * (item_bytes + per_step) // _NODE_BYTES)  # lists that grow from loop to loop
    steps = min(limits.loop_steps, len(program.loops) * items**program.nesting)
    copies = items if program.builds_lists else 0
    if (growth * (item_bytes + per_step) + copies * _NODE_BYTES) * steps > limits.loop_work_bytes:
        raise ExprError("the loops of the expression could build too much", field="loop_work_bytes")


def _weigh(value: Any, name: str, limits: ExprLimits) -> _Weight:
    weight = _Weight()
    weight.total = _weigh_into(value, name, weight, limits.input_depth)
    return weight


def _weigh_into(value: Any, name: str, weight: _Weight, depth: int) -> int:
    """Weight of one value. Refuses what the library would cut off or crash on: NUL, half characters, deep nesting."""
    if isinstance(value, str):
        return _NODE_BYTES + _weigh_text(value, name)
    if not isinstance(value, list | dict):
        return _NODE_BYTES
    if depth == 0:
        raise ExprError(f"the value of `{name}` is nested too deeply", field="input_depth")
    total = _NODE_BYTES
    weight.longest = max(weight.longest, len(value))
    if isinstance(value, dict):
        for key, child in value.items():
            size = _weigh_into(child, name, weight, depth - 1)
            weight.child = max(weight.child, size)
            total += size + _NODE_BYTES + _weigh_text(key, name)
        return total
    for child in value:
        size = _weigh_into(child, name, weight, depth - 1)
        weight.item = max(weight.item, size)
        total += size
    weight.child = max(weight.child, weight.item)
    return total


def _weigh_text(value: str, name: str) -> int:
    if "\0" in value:
        raise ExprError(f"the value of `{name}` holds a NUL character, which expressions cannot carry")
    if value.isascii():
        return len(value)
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        raise ExprError(f"the value of `{name}` is not valid Unicode") from None
