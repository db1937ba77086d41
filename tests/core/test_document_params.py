"""Parameters: declared types, given values, texts from the command line."""

from __future__ import annotations

from typing import Any

import pytest

from ffd.core.document import DocumentLimits, compile_document, resolve_params
from ffd.core.spec import Param, Spec
from ffd.errors import Refusal


def spec(**params: Any) -> Spec:
    result = compile_document({"params": params, "tasks": {"a": {"run": "echo"}}})
    assert result.spec is not None, result.faults
    return result.spec


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (1, Param("p", "int", default=1)),
        (0.5, Param("p", "float", default=0.5)),
        (True, Param("p", "bool", default=True)),
        ("x", Param("p", "string", default="x")),
        ([1], Param("p", "list", default=[1])),
        ({"default": {"a": 1}}, Param("p", "map", default={"a": 1})),
        ({"type": "float", "default": 1, "min": 0, "max": 2}, Param("p", "float", default=1.0, min=0, max=2)),
        ({"type": "int"}, Param("p", "int", required=True)),
        ({"type": "int", "required": True}, Param("p", "int", required=True)),
        ({"enum": ["a", "b"]}, Param("p", "string", required=True, enum=("a", "b"))),
        ({"type": "json", "default": None}, Param("p", "json")),
    ],
)
def test_declarations(declared: Any, expected: Param) -> None:
    assert spec(p=declared).params == (expected,)


def test_defaults_apply_and_given_values_are_checked() -> None:
    declared = spec(steps={"type": "int", "default": 10, "min": 1}, lr=0.1, data={"type": "string", "required": True})
    assert resolve_params(declared, {"data": "d", "lr": 1}) == {"steps": 10, "lr": 1.0, "data": "d"}
    assert type(resolve_params(declared, {"data": "d", "lr": 1})["lr"]) is float


@pytest.mark.parametrize(
    ("declared", "text", "value"),
    [
        (1, "42", 42),
        (0.1, "3e-4", 3e-4),
        (0.1, "2", 2.0),
        (True, "False", False),
        ("x", "42", "42"),
        (["a"], '["b", 1]', ["b", 1]),
        ({"default": {}}, '{"a": null}', {"a": None}),
        ({"type": "json", "default": 1}, '"x"', "x"),
    ],
)
def test_texts_are_read_as_the_declared_type(declared: Any, text: str, value: Any) -> None:
    found = resolve_params(spec(p=declared), {"p": text}, from_text=True)["p"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("declared", "given", "reason"),
    [
        ({"type": "int"}, {}, "required"),
        (1, {"p": "x"}, "expected a whole number, got `x`"),
        (1, {"p": True}, "expected a whole number, got true"),
        (1, {"p": 1.5}, "expected a whole number"),
        (1, {"p": 2**64}, "at most 64 bits"),
        ("x", {"p": 5}, "put it in quotes"),
        ({"type": "int", "min": 3}, {"p": 2}, "at least 3"),
        ({"type": "int", "max": 3}, {"p": 4}, "at most 3"),
        ({"enum": ["a", "b"]}, {"p": "c"}, "one of `a`, `b`"),
        ({"type": "string", "pattern": "v[0-9]+"}, {"p": "v1x"}, "text that matches"),
        ({"type": "string", "pattern": "a|b"}, {"p": "ax"}, "text that matches"),
        (1, {"p": 1, "q": 2}, "unknown param `q`"),
        (1, {"pp": 1}, "did you mean `p`?"),
    ],
)
def test_refusals(declared: Any, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        resolve_params(spec(p=declared), given)
    assert reason in caught.value.message
    assert caught.value.code == "invalid"


@pytest.mark.parametrize(
    ("declared", "text"), [(1, "1.5"), (1, ""), (True, "yes"), ([1], "a,b"), ([1], "{}"), (0.1, "nan")]
)
def test_texts_that_do_not_fit(declared: Any, text: str) -> None:
    with pytest.raises(Refusal, match="param `p`: expected"):
        resolve_params(spec(p=declared), {"p": text}, from_text=True)


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(Refusal) as caught:
        resolve_params(spec(a=1, b={"type": "int"}, c="x"), {"a": "x", "d": 1})
    assert [word in caught.value.message for word in ("`a`", "`b`", "`d`")] == [True, True, True]
    assert caught.value.field == "params"


def test_values_together_are_bounded() -> None:
    with pytest.raises(Refusal) as caught:
        resolve_params(spec(a="x"), {"a": "y" * 100}, limits=DocumentLimits(param_bytes=50))
    assert (caught.value.code, caught.value.field) == ("limit", "param_bytes")


def test_a_pattern_cannot_run_away() -> None:
    declared = spec(p={"type": "string", "pattern": "(a+)+b"})
    with pytest.raises(Refusal):
        resolve_params(declared, {"p": "a" * 50_000})


def test_a_pattern_holds_for_the_whole_value_whatever_it_contains() -> None:
    declared = spec(p={"type": "string", "pattern": "a|b"})
    assert resolve_params(declared, {"p": "b"}) == {"p": "b"}
    result = compile_document(
        {"params": {"p": {"type": "string", "pattern": "a)|(b"}}, "tasks": {"a": {"run": "echo"}}}
    )
    assert result.spec is None
