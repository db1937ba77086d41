"""The real shell and core over a simulated world: seeded faults, then quiet, and nothing may be broken."""

from __future__ import annotations

import pytest

from ffd.testing.simulated import play, preempted, replayed

SEEDS = range(24)
MANY_SEEDS = range(1_000, 1_400)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_broken_by_faults(seed: int) -> None:
    assert play(seed) == []


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_broken_without_faults(seed: int) -> None:
    assert play(seed, faults=False) == []


def test_the_same_seed_plays_the_same_history() -> None:
    first, second, other = replayed(7), replayed(7), replayed(8)
    assert first == second
    assert first != other


def test_some_make_room_for_others() -> None:
    assert sum(map(preempted, (19, 42))) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", MANY_SEEDS)
def test_many_seeds(seed: int) -> None:
    assert play(seed) == []
