"""Expressions (CEL): compile, type-check, evaluate within a bounded cost; `${{ }}` texts and how values become strings.

`compile_expr(source, scope)` -> `Program`; `evaluate(program, values)` -> plain JSON value; both raise `ExprError`.
Functions beyond CEL's own, over a list:

- `range(n)`: [0, 1, ..., n - 1]; n from 0 to `limits.range_items`.
- `sum(list)`: an int for ints, else a float; `sum([])` is 0. More than 64 bits is an error.
- `min(list)`, `max(list)`: of numbers or of strings; of an empty list, an error.
- `avg(list)`: always a float; of an empty list, an error.
- `size(x)`: items of a list or map, characters of a string (CEL's own; also over lists of any length).

They take one argument, are computed before the expression around them, and so cannot use a loop variable; an error in
one counts only if the expression really needs it. `map` and `filter` go over lists only, as the order of a map is not
defined. Expressions see `params`, `tasks`, `item`, `matrix`, `run`: no environment, no clock, no files.

Called by `core/document` and by the stages that evaluate. The CEL library is named here and nowhere else.
"""

from ffd.core.expr.evaluate import evaluate
from ffd.core.expr.lexer import read, references
from ffd.core.expr.limits import LIMITS, Expect, ExprError, ExprLimits, Problem
from ffd.core.expr.program import Program, compile_expr
from ffd.core.expr.scope import Scope, declared_type, element_type, nearest, value_type
from ffd.core.expr.text import parse_text, render_string, render_text

__all__ = [
    "LIMITS",
    "Expect",
    "ExprError",
    "ExprLimits",
    "Problem",
    "Program",
    "Scope",
    "compile_expr",
    "declared_type",
    "element_type",
    "evaluate",
    "nearest",
    "parse_text",
    "read",
    "references",
    "render_string",
    "render_text",
    "value_type",
]
