"""The named limits of expressions: what keeps a hostile or careless one cheap in time and in memory.

Read by the other modules of `core/expr` and by `core/document`. Holds numbers and the one error of this room; no code.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ffd.errors import Refusal

Expect = Literal["any", "bool", "list"]


class ExprLimits(msgspec.Struct, frozen=True):
    """Units are in the names. The CEL library adds its own: nesting of 32 and 10,000 loop steps per evaluation."""

    source_bytes: int = 4_096
    loop_nesting: int = 2
    references: int = 64  # distinct names of ours in one expression
    input_bytes: int = 1 << 20  # values handed to one evaluation, counted once per mention
    input_depth: int = 64  # lists in maps in lists of one value
    list_loop_items: int = 1_000  # items that `map` and `filter` may go over: the library copies the list at each step
    loop_steps: int = 10_000  # what the library stops at; used to estimate, not to enforce
    loop_work_bytes: int = 32 << 20  # worst-case bytes that the loops of one evaluation may build
    range_items: int = 100_000
    result_nodes: int = 200_000
    text_bytes: int = 128 * 1024 - 1_024  # one rendered text: the kernel takes 128 KiB per argument or variable


LIMITS = ExprLimits()


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong with an expression; `offset` counts characters from its start, -1 = nowhere in particular."""

    message: str
    offset: int = -1
    hint: str = ""


class ExprError(Refusal):
    """An expression that does not compile, or whose evaluation failed. `problems` lists all that is known."""

    code = "expression"

    def __init__(self, message: str, *, hint: str = "", field: str = "", problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message, hint=hint, field=field, code="limit" if field else "")
        self.problems = problems or (Problem(message, hint=hint),)

    @classmethod
    def of(cls, problems: list[Problem]) -> ExprError:
        first = problems[0]
        return cls(first.message, hint=first.hint, problems=tuple(problems))
