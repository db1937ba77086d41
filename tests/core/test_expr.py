"""Expressions: types, functions, names, errors, laziness, determinism."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffd.core.expr import ExprError, Scope, compile_expr, evaluate, references

SCOPE = Scope(
    params={"n": "int", "x": "float", "s": "string", "flag": "bool", "l": "list<dyn>", "m": "map", "j": "dyn"},
    tasks={"a": {"rows": "list<int>", "acc": "list<float>", "n": "int", "loss": "float", "j": "dyn", "uri": "string"}},
    item="dyn",
    matrix={"k": "string"},
)
VALUES: dict[str, Any] = {
    "params.n": 3,
    "params.x": 0.5,
    "params.s": "hé",
    "params.flag": True,
    "params.l": [1, 2.5, 3],
    "params.m": {"b": None, "a": [1]},
    "params.j": {"rows": [{"x": 1}, {"x": 3}]},
    "tasks.a.outputs.rows": [5, 6, 7],
    "tasks.a.outputs.acc": [0.5, 0.7],
    "tasks.a.outputs.n": 4,
    "tasks.a.outputs.loss": 1,
    "tasks.a.state": "succeeded",
    "tasks.a.attempts": 2,
    "item": {"x": 1},
    "matrix.k": "kk",
    "run.id": "7",
}


def value(source: str, values: Mapping[str, Any] = VALUES, **how: Any) -> Any:
    return evaluate(compile_expr(source, SCOPE, **how), values)


def failure(source: str, values: Mapping[str, Any] = VALUES, **how: Any) -> str:
    with pytest.raises(ExprError) as caught:
        value(source, values, **how)
    return caught.value.message


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("params.n + 1", 4),
        ("params.n", 3),
        ("params.x * 2.0", 1.0),
        ("params.s + matrix.k", "hékk"),
        ("params.flag ? 'yes' : 'no'", "yes"),
        ("params.m", {"b": None, "a": [1]}),
        ("'a' in params.m", True),
        ("params.j.rows.filter(r, r.x > 1).map(r, r.x)", [3]),
        ("item.x + 1", 2),
        ("tasks.a.state == 'succeeded' && tasks.a.attempts == 2", True),
        ("tasks.a.outputs.rows[1]", 6),
        ("tasks . a . outputs . n + 1", 5),
        ("'params.x' + params.s", "params.xhé"),
        ("run.id", "7"),
        ("null", None),
        ("[null, {'a': null}]", [None, {"a": None}]),
        ("{'z': 1, 'a': 2}", {"a": 2, "z": 1}),
        ("tasks.a.outputs.loss < 2.0", True),  # a float output that was set as a whole number
        ("double(params.n) / 2.0", 1.5),
    ],
)
def test_values(source: str, expected: Any) -> None:
    assert value(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("range(0)", []),
        ("range(3)", [0, 1, 2]),
        ("range(params.n).map(i, i * params.n)", [0, 3, 6]),
        ("sum([])", 0),
        ("sum(tasks.a.outputs.rows)", 18),
        ("sum(tasks.a.outputs.acc)", 1.2),
        ("sum(params.l)", 6.5),
        ("sum(tasks.a.outputs.rows.map(r, r * 2))", 36),
        ("min(tasks.a.outputs.rows) + max(tasks.a.outputs.rows)", 12),
        ("min(['b', 'a'])", "a"),
        ("avg(tasks.a.outputs.rows)", 6.0),
        ("size(tasks.a.outputs.rows)", 3),
        ("size(params.s)", 2),
        ("size(params.m)", 2),
        ("[1, 2].map(x, size([x, x]))", [2, 2]),
        ("sum(range(params.n)) + size(range(4))", 7),
        ("size([]) > 0 && max([]) > 1", False),  # the error is not needed
    ],
)
def test_list_functions(source: str, expected: Any) -> None:
    found = value(source)
    assert found == pytest.approx(expected) if isinstance(expected, float) else found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("min([])", "`min` of an empty list has no value"),
        ("max([])", "`max` of an empty list has no value"),
        ("avg([])", "`avg` of an empty list has no value"),
        ("range(-1)", "`range` takes a whole number of at least 0"),
        ("range(100001)", "longer than 100000"),
        ("sum(params.j)", "`sum` takes a list, not a map"),
        ("sum([1, params.s])", "one item is a string"),
        ("sum([9223372036854775807, 1])", "64 bits"),
        ("max([1, params.s])", "numbers or of strings"),
        ("1 / 0", "divide by zero"),
        ("9223372036854775807 + params.n", "integer overflow"),
        ("1.0 / 0.0", "not a finite number"),
        ("item.y", 'Key not found in map : "y"'),
        ("tasks.a.outputs.rows[7]", "Index error"),
        ("[duration('1s')]", "not a JSON value"),
        ("{1: 2}", "keys are not strings"),
        ("params.j + 1", "`+` cannot be applied to (map, int)"),
        ("item.map(k, k)", "lists only"),
    ],
)
def test_failures_when_it_runs(source: str, reason: str) -> None:
    assert reason in failure(source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("params.nn", "unknown param `nn`"),
        ("tasks.b.outputs.x", "unknown task `b`"),
        ("tasks.a.outputs.row", "declares no output `row`"),
        ("tasks.a.outputs", "followed by a task and what to read"),
        ("tasks['a'].state", "followed by a task and what to read"),
        ("params", "followed by a name"),
        ("params.map(params, 1)", "followed by a name"),
        ("run.state", "only to tasks under `finally`"),
        ("run.user", "unknown field of `run`"),
        ("env.HOME", "unknown name `env.HOME`"),
        ("_i0 + 1", "names start with a letter"),
        ("params.n + 'a'", "`+` cannot be applied to (int, string)"),
        ("params.x < 1", "`<` cannot be applied to (float, int)"),
        ("params.n +", "ends too early"),
        ("sum(1)", "`sum` takes a list"),
        ("sum(params.s)", "`sum` takes a list"),
        ("avg(['a'])", "cannot be applied to a list of string"),
        ("min(1, 2)", "takes one list"),
        ("sum()", "takes one argument"),
        ("params.l.sum()", "unknown name `sum`"),
        ("[[1]].map(l, sum(l))", "cannot use the loop variable `l`"),
        ("params.m.map(k, k)", "lists only"),
        ("duration('1s')", "not a JSON value"),
        ("type(params.n)", "not a JSON value"),
        ("b'a'", "not a JSON value"),
        ("(" * 40 + "1" + ")" * 40, "nested too deeply"),
        ("[1].all(x, [1].all(y, [1].all(z, true)))", "nested more than 2 deep"),
        ("'" + "a" * 5000 + "'", "longer than 4096 bytes"),
        ("'\ud800'", "not valid Unicode"),
    ],
)
def test_failures_when_it_is_compiled(source: str, reason: str) -> None:
    with pytest.raises(ExprError) as caught:
        compile_expr(source, SCOPE)
    assert reason in caught.value.message


def test_problems_point_into_the_source() -> None:
    source = "params.n > 1 &&\n  params.nn > tasks.a.outputs.row"
    with pytest.raises(ExprError) as caught:
        compile_expr(source, SCOPE)
    assert [source[problem.offset :].split()[0] for problem in caught.value.problems] == [
        "params.nn",
        "tasks.a.outputs.row",
    ]


def test_a_type_error_points_at_the_operator_whatever_the_names_before_it() -> None:
    source = "sum(tasks.a.outputs.rows) > 1 && params.n < 'a'"
    with pytest.raises(ExprError) as caught:
        compile_expr(source, SCOPE)
    assert caught.value.problems[0].offset == source.index("<")


def test_expected_types() -> None:
    assert value("params.flag", expect="bool") is True
    assert value("params.l", expect="list") == [1, 2.5, 3]
    assert "yields int" in failure("params.n", expect="bool")
    assert "yields a map" in failure("params.j", expect="bool")  # only known when it runs
    assert "yields a map" in failure("params.j", expect="list")


def test_a_missing_output_fails_only_where_it_is_read() -> None:
    assert value("params.n == 3 || tasks.a.outputs.j == 1") is True
    assert value("tasks.a.outputs.j == 1 || params.n == 3") is True
    assert failure("tasks.a.outputs.j == 1 || params.n == 4") == "`tasks.a.outputs.j` was never set"
    assert failure("tasks.a.outputs.uri") == "`tasks.a.outputs.uri` was never set"
    assert failure("size(tasks.a.outputs.uri)") == "`tasks.a.outputs.uri` was never set"


def test_only_the_names_of_the_expression_are_looked_up_once() -> None:
    asked: list[str] = []

    class Recording(Mapping[str, Any]):
        def __getitem__(self, name: str) -> Any:
            asked.append(name)
            return VALUES[name]

        def __iter__(self) -> Iterator[str]:
            raise AssertionError("values are not listed")

        def __len__(self) -> int:
            raise AssertionError("values are not counted")

    assert value("params.n + params.n + sum(tasks.a.outputs.rows)", Recording()) == 24
    assert sorted(asked) == ["params.n", "tasks.a.outputs.rows"]


def test_a_value_of_another_type_than_declared_is_an_error() -> None:
    assert "should be int" in failure("params.n", {"params.n": "3"})
    assert "params.n" in failure("params.n + 1", {"params.n": "3"})
    assert "should be list<int>" in failure("tasks.a.outputs.rows", {"tasks.a.outputs.rows": 1})


def test_references() -> None:
    source = "sum(tasks.a.outputs.rows) > params.n && item.params.y == 'run.id' && tasks.a.state == x.item // matrix.k"
    assert references(source) == ("tasks.a.outputs.rows", "params.n", "item", "tasks.a.state")


def test_strings_and_comments_hold_no_references() -> None:
    assert references("""'params.a' + "params.b" + r'\\' + '''params.c''' + b"params.d" // params.e""") == ()


def test_equal_expressions_share_a_program() -> None:
    assert compile_expr("params.n + 41", SCOPE) is compile_expr("params.n + 41", SCOPE)


def test_a_name_may_have_another_type_in_another_document() -> None:
    other = Scope(params={"n": "string"})
    assert evaluate(compile_expr("params.n + params.n", other), {"params.n": "a"}) == "aa"
    assert value("params.n + params.n") == 6


@given(st.lists(st.integers(-(2**40), 2**40)), st.lists(st.floats(-1e12, 1e12)))
def test_list_functions_agree_with_python(ints: list[int], floats: list[float]) -> None:
    values = {"tasks.a.outputs.rows": ints, "tasks.a.outputs.acc": floats}
    assert value("sum(tasks.a.outputs.rows)", values) == sum(ints)
    if floats:
        assert value("max(tasks.a.outputs.acc) >= min(tasks.a.outputs.acc)", values) is True
        assert value("sum(tasks.a.outputs.acc)", values) == float(sum(map(Fraction, floats)))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_value_survives_the_library(given_value: Any) -> None:
    assert value("[params.j][0]", {"params.j": given_value}) == given_value


@given(st.text(max_size=60))
def test_no_source_can_do_anything_but_yield_or_be_refused(source: str) -> None:
    with contextlib.suppress(ExprError):
        value(source)


def test_results_do_not_depend_on_the_process() -> None:
    code = (
        "from ffd.core.expr import *\n"
        "p = compile_expr('{\"z\": 1, \"y\": params.m, \"a\": [params.m]}', Scope(params={'m': 'map'}))\n"
        "print(list(evaluate(p, {'params.m': {k: 1 for k in 'qwertyuiop'}}).items()))"
    )
    found = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(found) == 1
