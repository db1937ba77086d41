"""The books of free space: exact after any takes and gives, and without a trace of what was only tried."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from place_strategies import PHASES, clusters, gangs, requests

from ffd.core.model import Node, Place
from ffd.core.nodespace import misfit
from ffd.core.schedule.place import find_places
from ffd.core.space import Space
from ffd.core.spec import Gang, Resources
from ffd.testing.builders import gpus, nodes

Held = list[tuple[tuple[Place, ...], Resources]]
property_test = settings(max_examples=100, deadline=None, derandomize=True, print_blob=True, phases=PHASES)


def told(space: Space) -> Any:
    """All that can be asked of the books."""
    return [one.free() for one in space.order], space.version, dict(space.closed)


def busy(draw: Any, space: Space, held: Held, depth: int = 0) -> None:
    """Random takes, gives, closings, openings, and trials of the same."""
    for _ in range(draw(st.integers(0, 5))):
        what = draw(st.sampled_from(("take", "take", "give", "close", "open", "trial")))
        if what == "take":
            ask, gang = draw(requests()), draw(gangs())
            places = find_places(space, ask, gang, gang.replicas)
            if places is not None:
                space.take(places, ask)
                held.append((places, ask))
        elif what == "give" and held:
            space.give(*held.pop(draw(st.integers(0, len(held) - 1))))
        elif what == "close":
            space.close(draw(st.sampled_from(("n0", "n1", "elsewhere"))), "test")
        elif what == "open":
            space.open(draw(st.sampled_from(("n0", "n1"))))
        elif what == "trial" and depth < 2:
            before = told(space)
            with space.trial():
                busy(draw, space, list(held), depth + 1)
            assert told(space) == before


@property_test
@given(there=clusters(), data=st.data())
def test_the_books_equal_their_recomputation_and_trials_leave_no_trace(
    there: tuple[Node, ...], data: st.DataObject
) -> None:
    space, held = Space(), Held()
    space.replace(there)
    busy(data.draw, space, held)
    fresh = Space()
    fresh.closed = dict(space.closed)
    fresh.replace(there)
    for places, ask in held:
        fresh.take(places, ask)
    assert [one.free() for one in space.order] == [one.free() for one in fresh.order]
    for one in space.order:
        assert one.gpus == [k for k, free in enumerate(one.gpu_millis) if free == 1000]
        assert one.whole_count == len(one.gpus) and min(one.gpu_millis, default=0) >= 0 and one.slots >= 0
    for ask in (gpus(1), Resources(gpu_count=1, gpu_millis=300), Resources()):
        gang = Gang(replicas=2)
        assert find_places(space, ask, gang, 2) == find_places(fresh, ask, gang, 2), "a trace of what was tried"


def test_a_trial_is_undone_also_when_it_fails() -> None:
    space = Space()
    space.replace(nodes(2, gpu_count=2, mig={"1g": 2}))
    before = told(space)
    with pytest.raises(ZeroDivisionError), space.trial() as trial:
        trial.take((Place("n1", (0,), 400), Place("n2", mig=(1,))), Resources(mig_profile="1g"))
        trial.close("n2", "what if")
        trial.give((Place("n1", (0,), 100),), Resources())
        _ = 1 / 0
    assert told(space) == before


def test_changes_are_told_to_those_who_follow_as_long_as_they_are_remembered() -> None:
    space = Space()
    space.replace(nodes(2))
    start = space.change_count
    space.take((Place("n2"),), Resources())
    assert space.changed_since(start) == [1] and space.changed_since(space.change_count) == []
    for _ in range(5_000):
        space.take((Place("n1"),), Resources())
    assert space.changed_since(start) is None
    space.replace(nodes(1))
    assert space.changed_since(space.change_count) == []


@pytest.mark.parametrize(
    ("places", "ask", "why"),
    [
        ((Place("n1", (0,)),), gpus(1), ""),
        ((Place("n1", (0,)), Place("n1", (1,))), gpus(1), ""),
        ((Place("n1", (0,)), Place("n1", (0,))), gpus(1), "n1 has GPU 0 in use"),
        ((Place("n1", (2,)),), gpus(1), "n1 has GPU 2 in use"),
        ((Place("n1", (0,)),), Resources(), "n1 is asked for GPUs (0,) and slices (): not what a replica gets"),
        ((Place("n1", (0, 0)),), gpus(2), "n1 is asked for GPUs (0, 0) and slices (): not what a replica gets"),
        ((Place("n1", (0,), 500),), gpus(1), "n1 is asked for 500 thousandths of a GPU where a replica gets 1000"),
        ((Place("n1", (2,), 400),), Resources(gpu_count=1, gpu_millis=400), ""),
        ((Place("n1", (2,), 600),), Resources(gpu_count=1, gpu_millis=600), "n1 has GPU 2 in use"),
        ((Place("n1", mig=(1,)),), Resources(mig_profile="1g", mig_count=1), ""),
        ((Place("n1", mig=(7,)),), Resources(mig_profile="1g", mig_count=1), "n1 has slice 7 of 1g in use"),
        ((Place("n9"),), Resources(), "n9 is not in the inventory"),
        ((Place("n2"),), Resources(), "n2 takes nothing new"),
        ((Place("n1"),) * 2, Resources(cpu_millis=3_000), "n1 has 5000 of cpu free, 6000 are asked"),
        ((Place("n1"),) * 9, Resources(), "n1 has 7 of slots free, 9 are asked"),
        ((Place("n1"),), Resources(shm_bytes=9), "n1 has 8 of memory free, 9 are asked"),
        ((Place("n1"),), Resources(memory_bytes=5, shm_bytes=3), ""),
        ((Place("n3"),), Resources(), "n3 has the taint spot"),
        ((Place("n3"),), Resources(tolerate=("spot",), node_labels=(("disk", "fast"),)), "n3 has no label disk=fast"),
        ((Place("n3"),), Resources(tolerate=("other", "spot")), ""),
    ],
)
def test_what_does_not_fit_is_said(places: tuple[Place, ...], ask: Resources, why: str) -> None:
    space = Space()
    one = Node("n1", gpu_count=4, cpu_millis=5_000, memory_bytes=8, slot_count=8, mig={"1g": 3})
    space.replace((one, Node("n2"), Node("n3", taints=("spot",))))
    space.take((Place("n1", (2,), 500),), Resources(gpu_count=1, gpu_millis=500))
    space.close("n2", "maintenance")
    assert space.fits(places, ask) == why


def test_a_closed_node_keeps_what_it_holds_and_takes_nothing_new_also_after_a_new_inventory() -> None:
    space, compact = Space(), Gang(replicas=2)
    space.replace(nodes(2, gpu_count=1))
    space.take((Place("n1", (0,)),), gpus(1))
    space.close("n1", "drained")
    version = space.version
    space.give((Place("n1", (0,)),), gpus(1))
    assert space.version > version and find_places(space, gpus(1), compact, 2) is None
    space.replace(nodes(2, gpu_count=1))
    assert find_places(space, gpus(1), compact, 2) is None
    version = space.version
    space.open("n1")
    assert space.version > version and find_places(space, gpus(1), compact, 2) is not None


def test_a_node_that_came_back_smaller_gets_back_only_what_it_has() -> None:
    space, ask = Space(), Resources(gpu_count=2)
    space.replace(nodes(1, gpu_count=1, mig={"1g": 1}))
    places = (Place("n1", (0, 5)),)
    space.take(places, ask)
    assert space.nodes["n1"].gpu_millis == [0]
    space.give(places, ask)
    assert space.nodes["n1"].gpus == [0]
    slices = Resources(mig_profile="1g", mig_count=2)
    space.take((Place("n1", mig=(0, 4)),), slices)
    space.give((Place("n1", mig=(0, 4)),), slices)
    assert space.nodes["n1"].mig == {"1g": [0]}


def test_slices_that_a_node_offers_too_few_of() -> None:
    ask = Resources(mig_profile="1g", mig_count=4)
    assert misfit(Node("n", mig={"1g": 3}), ask) == "offers too few slices 1g"
    assert misfit(Node("n"), ask) == "offers no MIG profiles"
