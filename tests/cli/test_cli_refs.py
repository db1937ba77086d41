"""What people type to name a workflow, task, item, attempt or replica."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffd.cli.refs import Target, parse, shown


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("llm.42", Target("llm.42")),
        ("@latest", Target("@latest")),
        ("42", Target("42")),
        ("llm@latest/train", Target("llm@latest", "train")),
        ("llm.42/train[3]", Target("llm.42", "train", 3)),
        ("llm.42/train.5", Target("llm.42", "train", -1, 0, 5)),
        ("llm.42/train[3].5", Target("llm.42", "train", 3, 0, 5)),
        ("llm.42/train#2:5", Target("llm.42", "train", -1, 2, 5)),
        ("llm.42/train[3]#2", Target("llm.42", "train", 3, 2)),
        ("llm.42/", Target("llm.42")),
    ],
)
def test_forms(text: str, target: Target) -> None:
    assert parse(text) == target


@pytest.mark.parametrize(
    "text",
    ["", "/", "/a", "a b", "a/B", "a/b[", "a/b[x]", "a/b[-1]", "a/b#", "a/b.", "a/b/c", "a/b[1][2]", "a/b[9999999999]"],
)
def test_what_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="names nothing"):
        parse(text)


@given(
    st.from_regex(r"[a-z@][a-z0-9.@-]{0,20}", fullmatch=True),
    st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True),
    st.integers(-1, 10**9 - 1),
    st.integers(0, 10**9 - 1),
    st.integers(-1, 10**9 - 1),
)
def test_what_is_shown_is_read_back(workflow: str, task: str, item: int, attempt: int, rank: int) -> None:
    assert parse(shown(workflow, task, item, attempt, rank)) == Target(workflow, task, item, attempt, rank)
