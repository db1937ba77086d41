"""Reads a CEL source as tokens: which names of ours it uses, which list functions it calls, which loops it runs.

It does not parse CEL; the library does that. It finds only what the library cannot tell us: the names to fetch before
an evaluation, the calls that we compute ourselves, and how much a loop could build. Pure text in, plain records out.
Called by `program.py` (compile), `text.py` (where a `${{ }}` ends) and, through `references`, by `core/document`.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from ffd.core.expr.limits import Problem

FUNCTIONS = ("sum", "min", "max", "avg", "range")  # ours; each takes one argument
LOOPS = ("all", "exists", "exists_one", "map", "filter")  # CEL's own macros
BUILDING_LOOPS = ("map", "filter")
ROOTS = ("params", "tasks", "item", "matrix", "run")

_CLOSER = {"(": ")", "[": "]", "{": "}"}

TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n\f]+|//[^\n]*)
    | (?P<string>[bB]?[rR](?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\n]*"|'[^'\n]*')
                |[bB]?(?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>[0-9][A-Za-z0-9_]*(?:\.[0-9]+(?:[eE][+-]?[0-9]+)?)?)
    | (?P<quoted>`[^`\n]*`)
    | (?P<punct>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class Token(msgspec.Struct, frozen=True, gc=False):
    kind: str
    text: str
    start: int
    end: int


class Reference(msgspec.Struct, frozen=True, gc=False):
    """A use of a name of ours, such as `tasks.train.outputs.loss`, `params.steps` or `item`, at [start, end)."""

    name: str
    start: int
    end: int


class Call(msgspec.Struct, frozen=True, gc=False):
    """A call of one of FUNCTIONS, or of `size` over a bare reference, at [start, end); its argument at [inner_*)."""

    function: str
    start: int
    end: int
    inner_start: int
    inner_end: int


class Loop(msgspec.Struct, frozen=True, gc=False):
    """One macro. `target` is where the list that it goes over starts and ends; `uses` counts its variable in the body.

    `direct`: the target is a name (maybe with fields), a call of ours or another loop, so each step sees one item.
    """

    macro: str
    variable: str
    target_start: int
    target_end: int
    body_start: int
    body_end: int
    uses: int
    direct: bool


class Reading(msgspec.Struct, frozen=True):
    """All that we know of one source. `references` and `loops` are those outside of `calls`; `names` and `nesting` are
    of the whole source, `names` distinct and in order."""

    references: tuple[Reference, ...]
    calls: tuple[Call, ...]
    loops: tuple[Loop, ...]
    names: tuple[str, ...]
    problems: tuple[Problem, ...]
    nesting: int


def tokenize(source: str) -> list[Token]:
    """Tokens without white space and comments."""
    return [
        Token(match.lastgroup, match.group(), match.start(), match.end())
        for match in TOKEN.finditer(source)
        if match.lastgroup is not None and match.lastgroup != "space"
    ]


@lru_cache(maxsize=4096)
def read(source: str) -> Reading:
    """Never raises: what it cannot make sense of stands in `problems`."""
    return _Reader(source).read()


def references(source: str) -> tuple[str, ...]:
    """Distinct names of ours that the source uses, in order: `params.x`, `tasks.t.outputs.o`, `tasks.t.state`,
    `tasks.t.attempts`, `item`, `matrix.k`, `run.f`."""
    return read(source).names


class _Reader:
    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens = tokenize(source)
        self.match = _match_brackets(self.tokens)
        self.problems: list[Problem] = []

    def read(self) -> Reading:
        found = self._references()
        loops = self._loops()
        calls = self._calls(found)
        self._check_calls(calls, loops)

        def outside(start: int) -> bool:
            return not any(call.start <= start < call.end for call in calls)

        return Reading(
            references=tuple(ref for ref in found if outside(ref.start)),
            calls=tuple(calls),
            loops=tuple(loop for loop in loops if outside(loop.body_start)),
            names=tuple(dict.fromkeys(ref.name for ref in found)),
            problems=tuple(self.problems),
            nesting=_nesting(loops),
        )

    def _text(self, index: int) -> str:
        return self.tokens[index].text if 0 <= index < len(self.tokens) else ""

    def _name(self, index: int) -> str:
        """The identifier at `index`, "" when another kind of token stands there."""
        if 0 <= index < len(self.tokens) and self.tokens[index].kind == "name":
            return self.tokens[index].text
        return ""

    def _references(self) -> list[Reference]:
        found: list[Reference] = []
        for index, token in enumerate(self.tokens):
            if token.kind != "name" or self._text(index - 1) == ".":
                continue
            if token.text.startswith("_"):
                self.problems.append(Problem(f"unknown name `{token.text}`: names start with a letter", token.start))
            elif token.text in ROOTS:
                reference = self._reference(index)
                if reference is not None:
                    found.append(reference)
        return found

    def _reference(self, index: int) -> Reference | None:
        token = self.tokens[index]
        root = token.text
        if root == "item":
            return Reference(root, token.start, token.end)
        steps = [self._name(index + 2 * k) for k in (1, 2, 3) if self._text(index + 2 * k - 1) == "."]
        if root == "tasks":
            wanted = 3 if len(steps) > 1 and steps[1] == "outputs" else 2
            if len(steps) < wanted or not all(steps[:wanted]) or steps[1] not in ("outputs", "state", "attempts"):
                self.problems.append(
                    Problem(
                        "`tasks` must be followed by a task and what to read of it",
                        token.start,
                        "write tasks.<task>.outputs.<output>, tasks.<task>.state or tasks.<task>.attempts",
                    )
                )
                return None
        else:
            wanted = 1
            if not steps or not steps[0]:
                hint = f"write {root}.<name>; a loop variable needs another name"
                self.problems.append(Problem(f"`{root}` must be followed by a name", token.start, hint))
                return None
        end = self.tokens[index + 2 * wanted].end
        return Reference(".".join([root, *steps[:wanted]]), token.start, end)

    def _calls(self, found: list[Reference]) -> list[Call]:
        """Outermost calls only: what stands in their arguments is read again when the argument is compiled."""
        calls: list[Call] = []
        for index, token in enumerate(self.tokens):
            if token.kind != "name" or self._text(index + 1) != "(" or self._text(index - 1) == ".":
                continue
            closing = self.match.get(index + 1)
            if closing is None or (calls and token.start < calls[-1].end):
                continue
            inner_start, inner_end = self.tokens[index + 1].end, self.tokens[closing].start
            if token.text == "size":
                first, last = self.tokens[index + 2], self.tokens[closing - 1]
                if not any(ref.start == first.start and ref.end == last.end for ref in found):
                    continue
            elif token.text not in FUNCTIONS:
                continue
            calls.append(Call(token.text, token.start, self.tokens[closing].end, inner_start, inner_end))
        return calls

    def _check_calls(self, calls: list[Call], loops: list[Loop]) -> None:
        """Calls are computed before the expression, so they cannot see the variable of a loop around them."""
        for call in calls:
            depth = 0
            for token in self.tokens:
                if not call.inner_start <= token.start < call.inner_end:
                    continue
                depth += (token.text in _CLOSER) - (token.text in ")]}")
                if token.text == "," and depth == 0:
                    hint = f"write {call.function}([a, b])"
                    self.problems.append(Problem(f"`{call.function}` takes one list", call.start, hint))
                    break
            for loop in loops:
                if loop.body_start <= call.start < loop.body_end and self._mentions(loop.variable, call):
                    self.problems.append(
                        Problem(
                            f"`{call.function}` cannot use the loop variable `{loop.variable}`: "
                            "it is computed once, before the loop",
                            call.start,
                        )
                    )

    def _mentions(self, variable: str, call: Call) -> bool:
        return any(
            token.text == variable and self._text(index - 1) != "."
            for index, token in enumerate(self.tokens)
            if token.kind == "name" and call.inner_start <= token.start < call.inner_end
        )

    def _loops(self) -> list[Loop]:
        loops: list[Loop] = []
        for index, token in enumerate(self.tokens):
            if token.text not in LOOPS or self._text(index - 1) != "." or self._text(index + 1) != "(":
                continue
            closing, variable = self.match.get(index + 1), self._name(index + 2)
            if closing is None or not variable or self._text(index + 3) != ",":
                continue  # not the shape of a macro: the library will say so
            start, direct = self._target(index - 2)
            body = range(index + 4, closing)
            uses = sum(1 for at in body if self.tokens[at].text == variable and self._text(at - 1) != ".")
            loops.append(
                Loop(
                    macro=token.text,
                    variable=variable,
                    target_start=self.tokens[start].start if start >= 0 else 0,
                    target_end=self.tokens[index - 1].start,
                    body_start=self.tokens[index + 2].start,
                    body_end=self.tokens[closing].start,
                    uses=uses,
                    direct=direct,
                )
            )
        return loops

    def _target(self, index: int) -> tuple[int, bool]:
        """First token of the operand that ends at `index`: walks back over `.name`, `(...)` and `[...]`.

        True when it is a plain name of ours or of a loop variable, with fields, or what a loop or a function of ours
        yields.
        """
        direct = True
        while index >= 0:
            text = self.tokens[index].text
            if text in ")]}":
                opening = self.match.get(index)
                if opening is None:
                    return 0, False
                before = self._name(opening - 1)
                postfix = (before and before != "in") or self._text(opening - 1) in (")", "]", "}")
                is_member = self._text(opening - 2) == "."
                known = before in LOOPS if is_member else before in FUNCTIONS
                direct = direct and bool(known or (text == "]" and postfix))
                if not postfix:
                    return opening, False
                index = opening - 1
                if text in "]}" or self._text(index) in ")]}":
                    continue
            if self._text(index - 1) != ".":
                return index, direct and self.tokens[index].kind == "name"
            index -= 2
        return 0, False


def _match_brackets(tokens: list[Token]) -> dict[int, int]:
    """Index of each bracket -> index of its partner, both ways; unmatched ones are absent."""
    stack: list[int] = []
    match: dict[int, int] = {}
    for index, token in enumerate(tokens):
        if token.kind != "punct":
            continue
        if token.text in _CLOSER:
            stack.append(index)
        elif token.text in ")]}" and stack and _CLOSER[tokens[stack[-1]].text] == token.text:
            opening = stack.pop()
            match[opening], match[index] = index, opening
    return match


def _nesting(loops: list[Loop]) -> int:
    return max(
        (sum(1 for outer in loops if outer.body_start <= loop.target_start < outer.body_end) + 1 for loop in loops),
        default=0,
    )
