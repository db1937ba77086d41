"""Learnt durations: a mean that forgets slowly, in a bounded number of rows."""

from __future__ import annotations

from ffd.core.forecast import SLOW_COUNT, Forecast
from ffd.testing.builders import task


def test_the_mean_moves_less_with_each_attempt_and_never_stops_moving() -> None:
    forecast = Forecast(4)
    for duration_ms in (1_000, 3_000):
        slot, learnt = forecast.learn("p/flow", "a", duration_ms)
    assert (slot, learnt) == (0, (0, "p/flow/a", 2, 2_000))
    for _ in range(100 * SLOW_COUNT):
        forecast.learn("p/flow", "a", 12_000)
    assert 11_980 <= forecast.duration_ms("p/flow", task("a")) <= 12_000
    assert forecast.duration_ms("p/flow", task("b")) == forecast.duration_ms("p/other", task("a")) == 0


def test_the_name_that_was_learnt_first_makes_room() -> None:
    forecast = Forecast(2)
    slots = [forecast.learn("p/flow", name, 5_000)[0] for name in "abc"]
    assert slots == [0, 1, 0]
    assert [learnt[1] for learnt in forecast] == ["p/flow/b", "p/flow/c"]
    assert forecast.of("p/flow")
    for name in "de":
        forecast.learn("p/other", name, 5_000)
    assert not forecast.of("p/flow")


def test_rows_of_a_time_when_more_were_kept_do_no_harm() -> None:
    """The same name may stand in two rows then: the later one counts, whichever slot is taken first."""
    forecast = Forecast(2)
    for row in ((4, "p/flow/a", 1, 1_000), (7, "p/flow/a", 1, 9_000)):
        forecast.keep(row)
    assert forecast.duration_ms("p/flow", task("a")) == 9_000
    forecast.learn("p/flow", "b", 5_000)  # sequence 8: where the first of them was
    assert forecast.duration_ms("p/flow", task("a")) == 9_000
    forecast.learn("p/flow", "c", 5_000)
    assert forecast.duration_ms("p/flow", task("a")) == 0
