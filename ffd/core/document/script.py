"""`run`: a shell script in which each `${{ cel }}` becomes a reference to an environment variable.

`${FFD_EXPR_0}` means the same bare, inside double quotes and in a here-document, and the value comes through the
environment: it is never pasted into the script, so no value can become shell. Called by `tasks.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from ffd.core.document.shell import Place, ShellReader
from ffd.core.expr import parse_text
from ffd.core.spec import Template

VARIABLE = "FFD_EXPR_"


class Use(NamedTuple):
    """One `${{ }}` of a script: its expression, its variable and where it stands."""

    source: str
    variable: str
    place: Place


class Script(NamedTuple):
    """`bindings` maps each variable to its expression; equal expressions share one."""

    text: str
    bindings: dict[str, str]
    uses: tuple[Use, ...]


def compile_script(source: str) -> Script:
    """Raises ExprError when a `${{` is empty or never closed."""
    parsed = parse_text(source)
    if not isinstance(parsed, Template):
        return Script(source, {}, ())
    variables: dict[str, str] = {}
    uses: list[Use] = []
    pieces: list[str] = []
    reader = ShellReader()
    for index, part in enumerate(parsed.parts):
        if index % 2 == 0:
            pieces.append(part)
            reader.feed(part)
            continue
        variable = variables.setdefault(part, f"{VARIABLE}{len(variables)}")
        uses.append(Use(part, variable, reader.place))
        pieces.append(f"${{{variable}}}")
        reader.feed("x")  # the value: a word character
    return Script("".join(pieces), {variable: part for part, variable in variables.items()}, tuple(uses))
