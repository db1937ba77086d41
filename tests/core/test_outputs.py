"""Outputs of tasks: typed by their declaration, bounded, all or nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ffd.core.limits import Limits
from ffd.core.outputs import OutputFault, typed_outputs
from ffd.testing.builders import task

DECLARED = task("t", outputs={"s": "string", "i": "int", "f": "float", "b": "bool", "j": "json", "u": "uri"})


def typed(name: str, value: Any, *, is_text: bool = False) -> Any:
    return typed_outputs(DECLARED, [(name, value)], {}, Limits(), is_text=is_text)[name]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("s", "7", "7"),
        ("i", "-7", -7),
        ("f", "7", 7.0),
        ("f", "1e3", 1000.0),
        ("b", "true", True),
        ("b", "false", False),
        ("j", '{"a": [1, null]}', {"a": [1, None]}),
        ("u", "s3://bucket/key", "s3://bucket/key"),
        ("s", "", ""),
    ],
)
def test_text_is_read_by_the_declared_type(name: str, text: str, value: Any) -> None:
    found = typed(name, text, is_text=True)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("i", "7.0"), ("i", "seven"), ("i", ""), ("i", "1_000"), ("i", "\uff17"), ("f", "nan"), ("f", "inf"),
        ("b", "True"), ("b", "1"), ("j", "{"),
    ],
)  # fmt: skip
def test_text_that_does_not_read_is_refused(name: str, text: str) -> None:
    with pytest.raises(OutputFault, match=f"output '{name}' is declared"):
        typed(name, text, is_text=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("s", 7), ("i", True), ("i", 7.0), ("i", 2**63), ("f", True), ("f", math.nan), ("f", math.inf), ("f", "7"),
        ("b", 1), ("u", None),
    ],
)  # fmt: skip
def test_json_of_another_type_is_refused(name: str, value: Any) -> None:
    with pytest.raises(OutputFault) as caught:
        typed(name, value)
    assert (caught.value.field, caught.value.code) == (name, "output")


def test_a_json_string_is_not_read_as_text() -> None:
    assert typed("j", '{"a": 1}') == '{"a": 1}'


def test_a_whole_number_is_a_float_where_one_is_declared() -> None:
    assert type(typed("f", 7)) is float


def test_an_output_that_is_not_declared_is_refused_and_the_declared_ones_are_named() -> None:
    with pytest.raises(OutputFault, match=r"not declared by task t \(declared: s, i, f, b, j, u\)"):
        typed("other", 1)


def test_one_wrong_output_refuses_all() -> None:
    with pytest.raises(OutputFault):
        typed_outputs(DECLARED, [("i", 1), ("f", "x")], {}, Limits())


def test_the_later_of_two_values_counts() -> None:
    assert typed_outputs(DECLARED, [("i", "1"), ("i", "2")], {}, Limits(), is_text=True) == {"i": 2}


def test_sizes_are_bounded_by_named_limits() -> None:
    limits = Limits(output_value_bytes=10, output_bytes=40)
    assert typed_outputs(DECLARED, [("s", "12345678")], {}, limits) == {"s": "12345678"}
    with pytest.raises(OutputFault) as caught:
        typed_outputs(DECLARED, [("s", "123456789")], {}, limits)
    assert (caught.value.field, caught.value.code) == ("limits.output_value_bytes", "limit")
    with pytest.raises(OutputFault) as caught:
        typed_outputs(DECLARED, [("i", 1)], {"s": "1" * 8, "u": "2" * 8, "j": "3" * 8}, limits)
    assert (caught.value.field, caught.value.code) == ("limits.output_bytes", "limit")


def test_a_huge_wrong_value_is_shown_short() -> None:
    with pytest.raises(OutputFault) as caught:
        typed("i", "x" * 100_000)
    assert len(str(caught.value)) < 120
