"""Texts with `${{ }}`: cutting, rendering, and how values become strings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffd.core.expr import ExprError, parse_text, render_string, render_text
from ffd.core.spec import Template


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("${{ a }}", ("", "a", "")),
        ("x ${{a}} y ${{ b }}", ("x ", "a", " y ", "b", "")),
        ("${{ '}}' }}!", ("", "'}}'", "!")),
        ('${{ "${{" }}', ("", '"${{"', "")),
        ("${{ {'a': {'b': 1}}.a.b }}", ("", "{'a': {'b': 1}}.a.b", "")),
        ("${{ r'\\' }}x", ("", "r'\\'", "x")),
        ("${{ 'it\\'s }}' }}", ("", "'it\\'s }}'", "")),
        ("${{ a // why }}b", ("", "a // why", "b")),
        ("${{\n  a\n}}", ("", "a", "")),
        ("$${{ a }}}", ("$", "a", "}")),
    ],
)
def test_parts(source: str, parts: tuple[str, ...]) -> None:
    assert parse_text(source) == Template(parts)


def test_text_without_expressions_is_itself() -> None:
    assert parse_text("${ a } $( ) {{ b }} }}") == "${ a } $( ) {{ b }} }}"


@pytest.mark.parametrize(
    ("source", "offset"), [("ab ${{ x", 3), ("${{ { }}", 0), ("${{ a }} ${{ }}", 9), ("${{ a } }", 0)]
)
def test_unfinished_expressions_point_at_their_start(source: str, offset: int) -> None:
    with pytest.raises(ExprError) as caught:
        parse_text(source)
    assert caught.value.problems[0].offset == offset


def test_a_lone_expression_keeps_its_type_and_others_join_to_text() -> None:
    values = {"a": 1, "b": [1, "x"], "c": None, "d": "té", "e": {"k": True}, "f": 0.5}
    assert render_text(Template(("", "b", "")), values.__getitem__) == [1, "x"]
    text = Template(("<", "a", "|", "b", "|", "c", "|", "d", "|", "e", "|", "f", ">"))
    assert render_text(text, values.__getitem__) == '<1|[1,"x"]|null|té|{"k":true}|0.5>'
    assert render_text("plain", values.__getitem__) == "plain"


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (3, "3"), (3.0, "3.0"), (1e-7, "1e-07"), ("a b", "a b"), (None, "null"), ([], "[]")],
)
def test_strings(value: Any, text: str) -> None:
    assert float(render_string(value)) == value if value == 1e-7 else render_string(value) == text


@pytest.mark.parametrize("value", ["a\0b", "x" * 200_000, ["x" * 200_000], ["\ud800"], "é" * 70_000])
def test_what_no_process_can_be_given_is_refused(value: Any) -> None:
    with pytest.raises(ExprError):
        render_string(value)


@given(st.lists(st.text(max_size=8) | st.integers() | st.booleans(), max_size=5))
def test_lists_come_back_from_their_text(value: list[Any]) -> None:
    fits = all(not isinstance(item, int) or -(2**63) <= item < 2**63 for item in value)
    fits = fits and not any(isinstance(item, str) and not item.isprintable() for item in value)
    if fits:
        assert msgspec.json.decode(render_string(value)) == value


@given(st.text(alphabet="${}' \"ab\\/", max_size=30))
def test_any_text_is_cut_or_refused(source: str) -> None:
    try:
        parsed = parse_text(source)
    except ExprError:
        return
    if isinstance(parsed, Template):
        assert len(parsed.parts) % 2 == 1
        assert all(expression.strip() == expression != "" for expression in parsed.expressions)
    else:
        assert parsed == source


def test_an_expression_that_never_ends_is_given_up_early() -> None:
    with pytest.raises(ExprError) as caught:
        parse_text("${{ " + "a + " * 50_000)
    assert "longer than" in caught.value.message
