"""Compiles an expression: names of ours become typed slots, our list functions become sub-programs, the rest is CEL's.

The CEL library works on a fixed set of variables, the slots: `_i0` is the first int, `_S2` the third list of strings.
Before it compiles, each name (`tasks.train.outputs.loss`) is overwritten by a slot of its type, padded with blanks so
that columns in its messages stay right. So one environment serves all documents, and equal expressions share a program.

Three facts about cel-expr-python 0.1.3 shape this room; each has a test that fails when it is forgotten:
- turning a null into a Python object drops a reference to None that it does not own: in the end the process aborts;
- a function written in Python leaks its arguments, so `sum` and friends are computed here, before the expression;
- maps have a random order, so `map` and `filter` are compiled as `(target + []).map(...)`, which a map cannot satisfy.

Called by `core/document` (to check) and by the stages that evaluate. Never evaluates: see `evaluate.py`.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

import msgspec

from ffd.core.expr.lexer import BUILDING_LOOPS, Call, Loop, Reading, read
from ffd.core.expr.limits import LIMITS, Expect, ExprError, ExprLimits, Problem
from ffd.core.expr.messages import explain
from ffd.core.expr.scope import Scope, element_type

_SLOT_LETTERS = {
    "int": "i",
    "float": "f",
    "string": "s",
    "bool": "b",
    "dyn": "d",
    "list<int>": "I",
    "list<float>": "F",
    "list<string>": "S",
    "list<bool>": "B",
    "list<dyn>": "D",
    "map": "M",
}
_SLOTS_PER_TYPE = 100  # two digits: `_d99` still fits where `item` stood

# What the library calls the types that an expression may yield.
_RESULT_TYPES = {
    "INT": "int",
    "UINT": "int",
    "DOUBLE": "float",
    "STRING": "string",
    "BOOL": "bool",
    "NULL": "dyn",
    "DYN": "dyn",
    "LIST<INT>": "list<int>",
    "LIST<DOUBLE>": "list<float>",
    "LIST<STRING>": "list<string>",
    "LIST<BOOL>": "list<bool>",
}
_NUMERIC = ("int", "float", "dyn")
_INDEXED = re.compile(r"\s*(?:\[|\.\s*[A-Za-z_]\w*\s*(?![\w\s(]))")  # one element of a value, not a method of all of it


class Input(msgspec.Struct, frozen=True, gc=False):
    """A name to fetch before an evaluation and the slot that carries it. `in_loops` counts its mentions in bodies of
    loops, `indexed` those of them that take one element at once."""

    slot: str
    name: str
    type: str
    mentions: int
    in_loops: int
    indexed: int


class Computed(msgspec.Struct, frozen=True):
    """A list function, computed before the expression; its result travels in `slot`."""

    slot: str
    function: str
    argument: Program
    in_loops: int


class Program(msgspec.Struct, frozen=True):
    """A compiled expression; `type` is what it yields. When the whole expression is one slot, `only_slot` names it and
    `cel` is None: nothing is left for the library to do."""

    source: str
    type: str
    expect: Expect
    inputs: tuple[Input, ...]
    computed: tuple[Computed, ...]
    loops: tuple[Loop, ...]
    nesting: int
    only_slot: str = ""
    cel: Any = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of ours that an evaluation may fetch."""
        return read(self.source).names

    @property
    def builds_lists(self) -> bool:
        return any(loop.macro in BUILDING_LOOPS for loop in self.loops)


def compile_expr(source: str, scope: Scope, *, expect: Expect = "any", limits: ExprLimits = LIMITS) -> Program:
    """Compile and type-check. Equal sources over equal types give the same program, from a bounded cache.

    `expect` "bool" or "list": refuse an expression known to yield something else (one of type `dyn` is checked when it
    runs). Raises ExprError with all problems.
    """
    if len(source) > limits.source_bytes or _size_bytes(source) > limits.source_bytes:
        raise ExprError(f"the expression is longer than {limits.source_bytes} bytes", field="source_bytes")
    reading = read(source)
    problems = list(reading.problems)
    if reading.nesting > limits.loop_nesting:
        problems.append(Problem(f"loops are nested more than {limits.loop_nesting} deep"))
    if len(reading.names) > limits.references:
        problems.append(Problem(f"the expression uses more than {limits.references} different names"))
    types: dict[str, str] = {}
    for name in reading.names:
        found = scope.type_of(name)
        if isinstance(found, Problem):
            problems.append(msgspec.structs.replace(found, offset=_offset_of(name, source)))
        else:
            types[name] = found
    if problems:
        raise ExprError.of(problems)
    return _compile(source, tuple(types.items()), expect)


def _size_bytes(source: str) -> int:
    try:
        return len(source.encode())
    except UnicodeEncodeError:
        raise ExprError("the expression is not valid Unicode") from None


def _offset_of(name: str, source: str) -> int:
    pattern = r"\s*\.\s*".join(map(re.escape, name.split(".")))
    match = re.search(rf"(?<![\w.]){pattern}(?!\w)", source)
    return match.start() if match else -1


@lru_cache(maxsize=2048)
def _compile(source: str, types: tuple[tuple[str, str], ...], expect: Expect) -> Program:
    reading = read(source)
    builder = _Builder(source, reading, dict(types))
    slotted = builder.slotted()
    stripped = slotted.strip()
    if stripped in builder.slot_types:
        cel, yielded, only_slot = None, builder.slot_types[stripped], stripped
    else:
        cel, yielded, only_slot = *_library_compile(source, slotted, reading), ""
    if expect != "any" and yielded != "dyn" and not yielded.startswith(expect):
        wanted = "true or false" if expect == "bool" else "a list"
        raise ExprError(f"expected an expression that yields {wanted}, this one yields {yielded}")
    return Program(
        source=source,
        type=yielded,
        expect=expect,
        inputs=builder.inputs(),
        computed=tuple(builder.computed),
        loops=reading.loops,
        nesting=reading.nesting,
        only_slot=only_slot,
        cel=cel,
    )


class _Builder:
    """Replaces names and calls of one source by slots."""

    def __init__(self, source: str, reading: Reading, types: dict[str, str]) -> None:
        self.source = source
        self.reading = reading
        self.types = types
        self.slots: dict[str, str] = {}  # name -> slot
        self.slot_types: dict[str, str] = {}
        self.computed: list[Computed] = []
        self._used: dict[str, int] = {}

    def slotted(self) -> str:
        """The source with every name and call overwritten by its slot, at the same columns."""
        spans: list[tuple[int, int, str]] = []
        for ref in self.reading.references:
            if ref.name not in self.slots:
                self.slots[ref.name] = self._new_slot(self.types[ref.name])
            spans.append((ref.start, ref.end, self.slots[ref.name]))
        spans.extend((call.start, call.end, self._compute(call)) for call in self.reading.calls)
        pieces: list[str] = []
        at = 0
        for start, end, slot in sorted(spans):
            padding = "".join(c if c == "\n" else " " for c in self.source[start + len(slot) : end])
            pieces += [self.source[at:start], slot, padding]
            at = end
        return "".join([*pieces, self.source[at:]])

    def inputs(self) -> tuple[Input, ...]:
        return tuple(self._input(name, slot) for name, slot in self.slots.items())

    def _input(self, name: str, slot: str) -> Input:
        mentions = [ref for ref in self.reading.references if ref.name == name]
        in_loops = [ref for ref in mentions if self._in_loop(ref.start)]
        indexed = [ref for ref in in_loops if _INDEXED.match(self.source, ref.end)]
        return Input(slot, name, self.types[name], len(mentions), len(in_loops), len(indexed))

    def _new_slot(self, kind: str) -> str:
        letter = _SLOT_LETTERS[kind]
        number = self._used.get(letter, 0)
        if number >= _SLOTS_PER_TYPE:
            raise ExprError("the expression uses too many names and list functions", field="references")
        self._used[letter] = number + 1
        slot = f"_{letter}{number}"
        self.slot_types[slot] = kind
        return slot

    def _in_loop(self, start: int) -> bool:
        return any(loop.body_start <= start < loop.body_end for loop in self.reading.loops)

    def _compute(self, call: Call) -> str:
        inner = self.source[call.inner_start : call.inner_end]
        if not inner.strip():
            raise ExprError.of([Problem(f"`{call.function}` takes one argument", call.start)])
        names = read(inner).names
        try:
            argument = _compile(inner, tuple((name, self.types[name]) for name in names), "any")
            kind = _result_of(call.function, argument.type)
        except ExprError as error:
            raise ExprError.of(
                [
                    msgspec.structs.replace(problem, offset=call.inner_start + max(problem.offset, 0))
                    for problem in error.problems
                ]
            ) from None
        slot = self._new_slot(kind)
        self.computed.append(Computed(slot, call.function, argument, int(self._in_loop(call.start))))
        return slot


def _result_of(function: str, argument: str) -> str:
    """Type that one of `lexer.FUNCTIONS` (or `size`) yields over an argument of the given type."""
    if function == "size":
        if argument in ("int", "float", "bool"):
            raise ExprError(f"`size` takes a list, a map or a string, not {argument}")
        return "int"
    if function == "range":
        if argument not in ("int", "dyn"):
            raise ExprError(f"`range` takes a whole number, not {argument}", hint="range(3) yields [0, 1, 2]")
        return "list<int>"
    element = element_type(argument)
    if not element:
        raise ExprError(f"`{function}` takes a list, not {argument}", hint=f"write {function}([a, b])")
    allowed = (*_NUMERIC, "string") if function in ("min", "max") else _NUMERIC
    if element not in allowed:
        raise ExprError(f"`{function}` cannot be applied to a list of {element}")
    return "float" if function == "avg" else element


@cache
def _environment() -> Any:
    """The one CEL environment of the process: variables are immutable declarations, so sharing it is safe."""
    from cel_expr_python import cel

    kinds = {"int": cel.Type.INT, "float": cel.Type.DOUBLE, "string": cel.Type.STRING, "bool": cel.Type.BOOL}
    kinds["dyn"] = cel.Type.DYN
    types = {
        name: cel.Type.List(kinds[name[5:-1]]) if name.startswith("list<") else kinds.get(name)
        for name in _SLOT_LETTERS
    }
    types["map"] = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    return cel.NewEnv(
        variables={
            f"_{letter}{number}": types[name]
            for name, letter in _SLOT_LETTERS.items()
            for number in range(_SLOTS_PER_TYPE)
        }
    )


def _library_compile(source: str, slotted: str, reading: Reading) -> tuple[Any, str]:
    """Program and type of result. Compiled once as written, for messages; once more with guarded targets if it builds
    lists by loops."""
    try:
        checked = _environment().compile(slotted)
    except RuntimeError as error:
        raise ExprError.of(explain(str(error), source)) from None
    library_type = checked.return_type().name()
    yielded = _RESULT_TYPES.get(library_type)
    if yielded is None:
        yielded = {"L": "list<dyn>", "M": "map"}.get(library_type[0]) if "<" in library_type else None
    if yielded is None or library_type.startswith("TYPE"):
        raise ExprError(
            f"the expression yields a {library_type.lower()}, which is not a JSON value",
            hint="convert it with string(...) or int(...)",
        )
    guarded = _guard_targets(slotted, reading.loops)
    if guarded == slotted:
        return checked, yielded
    try:
        return _environment().compile(guarded), yielded
    except RuntimeError as error:
        if "recursion" in str(error):
            raise ExprError("the expression is nested too deeply (the limit is 32)") from None
        raise ExprError(
            "`map` and `filter` go over lists only: the order of a map is not defined",
            hint="`all`, `exists` and `exists_one` accept a map",
        ) from None


def _guard_targets(slotted: str, loops: tuple[Loop, ...]) -> str:
    """`X.map(v, e)` -> `(X+[]).map(v, e)`: the same list, and an error for a map."""
    inserts: list[tuple[int, int, str]] = []
    for order, loop in enumerate(loops):
        if loop.macro in BUILDING_LOOPS:
            inserts.append((loop.target_start, -order, "("))
            inserts.append((loop.target_end, order, "+[])"))
    pieces: list[str] = []
    at = 0
    for position, _, text in sorted(inserts):
        pieces += [slotted[at:position], text]
        at = position
    return "".join([*pieces, slotted[at:]])
