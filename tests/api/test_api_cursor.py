"""A cursor resumes exactly where it was, and fits a header while little is open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffd.api.cursor import Cursor
from ffd.core.model import AttemptId
from ffd.errors import Refusal

ATTEMPTS = st.builds(AttemptId, st.just(0), st.sampled_from(["a", "b_2"]), st.integers(0, 20), st.integers(1, 3))
STEPS = st.lists(
    st.tuples(st.just("advance"), ATTEMPTS, st.integers(0, 3), st.integers(0, 10**12))
    | st.tuples(st.just("finish"), ATTEMPTS, st.just(0), st.just(0)),
    max_size=60,
)


def apply(steps: list[tuple[str, AttemptId, int, int]]) -> Cursor:
    cursor = Cursor()
    for what, attempt, rank, offset in steps:
        if what == "advance":
            cursor.advance(attempt, rank, offset)
        elif not cursor.is_whole(attempt):
            cursor.finish(attempt)
    return cursor


@given(STEPS)
def test_a_cursor_reads_back_as_it_was(steps: list[tuple[str, AttemptId, int, int]]) -> None:
    cursor = apply(steps)
    again = Cursor.decode(cursor.encode())
    assert again.encode() == cursor.encode()
    for _, attempt, rank, _ in steps:
        assert again.is_whole(attempt) == cursor.is_whole(attempt)
        assert again.offset(attempt, rank) == cursor.offset(attempt, rank)


def test_the_text_is_stable_and_small() -> None:
    cursor = Cursor()
    for item in range(10_000):
        if item != 5_000:
            cursor.finish(AttemptId(0, "roll", item, 1))
    cursor.advance(AttemptId(0, "train", 0, 2), 5, 81_920)
    assert cursor.encode() == "roll/1=0-4999,5001-9999;train/0/2/5@81920"


def test_finishing_an_attempt_covers_those_before_it() -> None:
    cursor = Cursor()
    cursor.advance(AttemptId(0, "a", 0, 2), 0, 7)
    cursor.finish(AttemptId(0, "a", 0, 2))
    assert cursor.is_whole(AttemptId(0, "a", 0, 1)) and not cursor.is_whole(AttemptId(0, "a", 0, 3))
    assert cursor.offset(AttemptId(0, "a", 0, 2), 0) is None


@given(st.text(max_size=40) | st.text("ab/=-,@;0123456789", max_size=40))
def test_any_other_text_is_refused_not_a_crash(text: str) -> None:
    try:
        cursor = Cursor.decode(text)
    except Refusal as refusal:
        assert refusal.field == "cursor"
    else:
        assert Cursor.decode(cursor.encode()).encode() == cursor.encode()


@pytest.mark.parametrize("text", ["a/1=0-999999999", "a/1=5-3", "a/1=", "a/1=1-2-3", "A/1=0", "a/0/1/0@-5"])
def test_a_text_that_would_cost_much_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        Cursor.decode(text)
