"""The CEL library's compile errors, in the words of the product, with offsets instead of lines and columns.

Called by `program.py` only.
"""

from __future__ import annotations

import re

from ffd.core.expr.lexer import FUNCTIONS
from ffd.core.expr.limits import Problem

_ERROR = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_OVERLOAD = re.compile(r"found no matching overload for '(.+?)' applied to '\((.*)\)'")
_MIXED = ("(double, int)", "(int, double)")


def explain(text: str, source: str) -> list[Problem]:
    """The library's compile errors as problems: its jargon translated, its line and column as an offset."""
    starts = [0, *(match.end() for match in re.finditer("\n", source))]
    problems: list[Problem] = []
    for line, column, message in _ERROR.findall(text):
        known = 0 < int(line) <= len(starts)
        offset = starts[int(line) - 1] + int(column) - 1 if known else -1
        problem = _translate(message.removesuffix(" [INVALID_ARGUMENT]"), offset, source)
        if problem not in problems:
            problems.append(problem)
    if problems:
        return problems
    if "recursion" in text:
        return [Problem("the expression is nested too deeply (the limit is 32)")]
    return [Problem("the expression does not compile: " + text.partition("\n")[0])]


def _translate(message: str, offset: int, source: str) -> Problem:
    overload = _OVERLOAD.search(message)
    if overload:
        operator, operands = overload.group(1).strip("_!"), overload.group(2)
        operands = operands.replace("double", "float").replace("null_type", "null")
        mixed = any(pair in message for pair in _MIXED)
        hint = "write the number as 2.0 instead of 2, or convert with double(...)" if mixed else ""
        name = {"?_:": "?:", "[_]": "[]", "": "!"}.get(operator, operator)
        return Problem(f"`{name}` cannot be applied to ({operands})", offset, hint)
    unknown = re.match(r"undeclared reference to '(.+?)'", message)
    if unknown:
        name = unknown.group(1)
        start = offset - len(name.rpartition(".")[0])  # the library points at the last dot
        offset = start if source.startswith(name, start) else offset
        hint = "an expression sees params, tasks, item, matrix and run; a text stands in quotes"
        return Problem(f"unknown name `{name}`", offset, f"write {name}(list)" if name in FUNCTIONS else hint)
    if "recursion depth" in message:
        return Problem("the expression is nested too deeply (the limit is 32)", offset)
    if message.startswith("Syntax error: "):
        message = message.removeprefix("Syntax error: ").partition(" expecting ")[0]
        message = "the expression ends too early" if "'<EOF>'" in message else f"not valid here: {message}"
    return Problem(message.replace("double", "float"), offset)
