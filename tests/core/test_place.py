"""Placement against plain readings of what it promises: each answer fits, an answer is found whenever there is one, the
vectors say what the books say, and the fragmentation is that of the paper."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from place_strategies import MODELS, PHASES, clusters, gangs, requests

from ffd.core.mix import Mix, Shape, shape_of
from ffd.core.model import Node, Place
from ffd.core.policy import Policy
from ffd.core.schedule.fragment import Fragments
from ffd.core.schedule.place import find_places
from ffd.core.schedule.rooms import Finder, finder_of
from ffd.core.schedule.score import Gradient
from ffd.core.space import Space, could_host
from ffd.core.spec import Gang, Resources
from ffd.testing.builders import gpus, nodes, rack

PLACEMENTS = ("default", "fgd", "bestfit")
MIXES: tuple[dict[Shape, float], ...] = (
    {},
    {(1_000, 1, 500, ()): 3, (1_500, 2, 1000, ()): 2, (0, 1, 300, ("H100",)): 1},
    {(4_000, 4, 1000, ()): 1, (1_000, 1, 700, ("A100",)): 5, (9_000, 0, 1000, ()): 2},
)
property_test = settings(max_examples=100, deadline=None, derandomize=True, print_blob=True, phases=PHASES)


def space_of(there: tuple[Node, ...], placement: str = "default", mix: dict[Shape, float] | None = None) -> Space:
    space = Space(Policy(placement=placement))
    space.replace(there)
    if mix:
        space.mix.prime(mix)
    return space


def occupy(draw: Any, space: Space) -> list[tuple[tuple[Place, ...], Resources]]:
    """Some gangs come, some go, some nodes close."""
    held = []
    for _ in range(draw(st.integers(0, 6))):
        ask, gang = draw(requests()), draw(gangs())
        places = find_places(space, ask, gang, gang.replicas)
        if places is not None:
            space.take(places, ask)
            held.append((places, ask))
        if held and draw(st.integers(0, 3)) == 0:
            space.give(*held.pop(0))
        if draw(st.integers(0, 5)) == 0:
            space.close(draw(st.sampled_from(space.order)).node.name, "test")
    return held


# ---------------------------------------------------------------------------------------------------- is there a place


def room_by_name(space: Space, ask: Resources, model: str) -> dict[str, int]:
    """The plain reading: what each node holds now."""
    return {
        one.node.name: one.room(ask) if could_host(one.node, ask) and (not model or one.node.gpu_type == model) else 0
        for one in space.order
    }


def there_is_a_place(space: Space, ask: Resources, gang: Gang, replicas: int, domains: frozenset[str]) -> bool:
    for model in ask.gpu_types or ("",):
        room = room_by_name(space, ask, model)
        if gang.topology_required and fits_as_asked(space, ask, gang, replicas, domains, room):
            return True
        if not gang.topology_required and sum(room.values()) >= replicas:
            return True
    return False


def fits_as_asked(
    space: Space, ask: Resources, gang: Gang, replicas: int, domains: frozenset[str], room: dict[str, int]
) -> bool:
    if gang.topology == "any":
        return sum(room.values()) >= replicas
    if gang.topology == "compact":
        return fits_compactly(space, ask, replicas, room)
    by_domain: dict[str, int] = {}
    for name, count in room.items():
        domain = space.domain(name, gang.topology)
        by_domain[domain] = by_domain.get(domain, 0) + count
    return any(count >= replicas for domain, count in by_domain.items() if not domains or domain in domains)


def fits_compactly(space: Space, ask: Resources, replicas: int, room: dict[str, int]) -> bool:
    """Every set of nodes that could be filled, and every last node."""
    empty = Space()
    empty.replace(tuple(one.node for one in space.order))
    wholly = [name for name, count in room.items() if count and count == empty.nodes[name].room(ask)]
    for size in range(len(wholly) + 1):
        for chosen in combinations(wholly, size):
            left = replicas - sum(room[name] for name in chosen)
            if left == 0 or (left > 0 and any(c >= left for name, c in room.items() if name not in chosen)):
                return True
    return False


@property_test
@given(there=clusters(), ask=requests(), gang=gangs(), data=st.data(), placement=st.sampled_from(PLACEMENTS))
def test_an_answer_fits_and_is_found_whenever_there_is_one(
    there: tuple[Node, ...], ask: Resources, gang: Gang, data: st.DataObject, placement: str
) -> None:
    space = space_of(there, placement, data.draw(st.sampled_from(MIXES)))
    occupy(data.draw, space)
    domains = frozenset(data.draw(st.sampled_from(((), (), ("r1",), ("x", "n0")))))
    found = find_places(space, ask, gang, gang.replicas, domains)
    assert (found is not None) == there_is_a_place(space, ask, gang, gang.replicas, domains)
    if found is None:
        return
    assert len(found) == gang.replicas and space.fits(found, ask) == ""
    names = list(dict.fromkeys(place.node for place in found))
    assert [name for place in found for name in [place.node]] == sorted(
        (place.node for place in found), key=names.index
    ), "ranks do not follow nodes"
    if ask.gpu_types:
        assert len({space.nodes[name].node.gpu_type for name in names}) == 1
    if gang.topology_required and gang.topology not in ("any", "compact"):
        (domain,) = {space.domain(name, gang.topology) for name in names}
        assert not domains or domain in domains
    if gang.topology == "any":
        rooms = room_by_name(space, ask, space.nodes[names[0]].node.gpu_type if ask.gpu_types else "")
        most = sorted(rooms.values(), reverse=True)
        assert sum(most[: len(names) - 1]) < gang.replicas, "more nodes than are needed"
    if gang.topology == "compact" and gang.topology_required:
        empty = space_of(there)
        counts = {name: sum(place.node == name for place in found) for name in names}
        assert sum(counts[name] < empty.nodes[name].room(ask) for name in names) <= 1


@property_test
@given(there=clusters(), ask=requests(), data=st.data())
def test_a_model_that_may_not_be_used_is_not(there: tuple[Node, ...], ask: Resources, data: st.DataObject) -> None:
    space = space_of(there)
    occupy(data.draw, space)
    models = data.draw(st.sampled_from(((), ("H100",), MODELS)))
    found = find_places(space, ask, Gang(replicas=2), 2, frozenset(), models)
    if found is not None and (ask.gpu_count or ask.mig_count):
        assert {space.nodes[place.node].node.gpu_type for place in found} <= set(models)


# ------------------------------------------------------------------------------------- vectors say what the books say


@property_test
@given(there=clusters(), asks=st.lists(requests(), min_size=1, max_size=3), data=st.data())
def test_vectors_that_follow_equal_vectors_made_anew_and_the_plain_reading(
    there: tuple[Node, ...], asks: list[Resources], data: st.DataObject
) -> None:
    space = space_of(there, data.draw(st.sampled_from(PLACEMENTS)), data.draw(st.sampled_from(MIXES)))
    for ask in asks:
        finder_of(space).rooms(ask, None)  # from now on it follows
    for _ in range(2):
        occupy(data.draw, space)
        for ask in asks:
            followed, anew = finder_of(space).rooms(ask, None), Finder(space).rooms(ask, None)
            assert followed.room.tolist() == anew.room.tolist() == list(room_by_name_of_any(space, ask).values())
            assert followed.total == sum(followed.room.tolist())
            np.testing.assert_allclose(followed.score, anew.score, rtol=1e-9, atol=1e-9)
            for level in space.topology.useful():
                assert followed.domain_rooms(level).tolist() == anew.domain_rooms(level).tolist()


def room_by_name_of_any(space: Space, ask: Resources) -> dict[str, int]:
    return {one.node.name: one.room(ask) if could_host(one.node, ask) else 0 for one in space.order}


@property_test
@given(there=clusters(), ask=requests(), data=st.data(), placement=st.sampled_from(PLACEMENTS))
def test_one_node_is_judged_as_all_nodes_are(
    there: tuple[Node, ...], ask: Resources, data: st.DataObject, placement: str
) -> None:
    space = space_of(there, placement, data.draw(st.sampled_from(MIXES)))
    occupy(data.draw, space)
    rooms, scorer = finder_of(space).rooms(ask, None), finder_of(space).scorer
    for index in np.flatnonzero(rooms.room).tolist():
        (judged,) = scorer.scores(ask, np.array([index]))
        assert scorer.score(space.order[index], ask) == pytest.approx(judged) == pytest.approx(rooms.score[index])


# ----------------------------------------------------------------------------------------------------- fragmentation


def fragment(space: Space, index: int, typical: dict[Shape, float]) -> float:
    """F of one node, word by word as the paper has it."""
    one, total = space.order[index], 0.0
    free = [max(millis, 0) for millis in one.gpu_millis]
    for (cpu, count, millis, models), share in typical.items():
        fitting = [idle for idle in free if idle >= millis]
        runs = count and len(fitting) >= count and one.cpu_millis >= cpu
        if runs and (not models or one.node.gpu_type in models):
            total += share * sum(idle for idle in free if idle < millis)
        else:
            total += share * sum(free)
    return total


@property_test
@given(there=clusters(), ask=requests(), data=st.data(), mix=st.sampled_from(MIXES[1:]))
def test_a_gain_is_the_fragmentation_that_goes_away(
    there: tuple[Node, ...], ask: Resources, data: st.DataObject, mix: dict[Shape, float]
) -> None:
    space = space_of(there, "fgd", mix)
    occupy(data.draw, space)
    scorer, typical = finder_of(space).scorer, space.mix.typical
    assert isinstance(scorer, Gradient)
    room = finder_of(space).rooms(ask, None).room
    for index in np.flatnonzero(room).tolist():
        before = fragment(space, index, typical)
        (gain,) = scorer.gains(ask, np.array([index]))
        gains = []
        for places in each_way(space, index, ask):
            with space.trial() as trial:
                trial.take(places, ask)
                gains.append(before - fragment(space, index, typical))
        assert gain == pytest.approx(max(gains)) == pytest.approx(scorer.gain(space.order[index], ask))
    lost, idle = scorer.fragment_millis()
    assert lost == pytest.approx(sum(fragment(space, one.index, typical) for one in space.order))
    assert idle == sum(max(millis, 0) for one in space.order for millis in one.gpu_millis)


def each_way(space: Space, index: int, ask: Resources) -> list[tuple[Place, ...]]:
    one = space.order[index]
    if ask.gpu_count and ask.gpu_millis < 1000:
        fitting = [k for k, free in enumerate(one.gpu_millis) if free >= ask.gpu_millis]
        return [(Place(one.node.name, (k,), ask.gpu_millis),) for k in fitting]
    return [tuple(finder_of(space).rooms(ask, None).places(index, 1))]


def test_without_typical_requests_nothing_is_a_fragment_of_anything() -> None:
    assert Fragments({}, [Node("n", gpu_count=1)]).shares(np.array([0]), np.array([0])).shape == (1, 0)
    assert find_places(space_of(nodes(2, gpu_count=2), "fgd"), gpus(1), Gang(), 1) == (Place("n1", (0,)),)


# --------------------------------------------------------------------------------------------------------- preferences


def test_a_fraction_shares_a_gpu_before_it_breaks_another() -> None:
    half = Resources(gpu_count=1, gpu_millis=500)
    space = space_of(nodes(2, gpu_count=2))
    space.take((Place("n2", (1,), 300),), Resources(gpu_count=1, gpu_millis=300))
    assert find_places(space, half, Gang(), 1) == (Place("n2", (1,), 500),)
    assert find_places(space, half, Gang(replicas=3), 3) == (
        Place("n2", (1,), 500), Place("n2", (0,), 500), Place("n2", (0,), 500),
    )  # fmt: skip


def test_gpus_of_a_replica_hang_on_one_numa_node_where_they_can() -> None:
    there = (Node("n", gpu_count=8, numa=(0, 1, 0, 1, 0, 1, 0, 1)),)
    space = space_of(there)
    space.take((Place("n", (0,)),), gpus(1))
    assert find_places(space, gpus(2), Gang(), 1) == (Place("n", (2, 4)),), "the fuller node first"
    assert find_places(space, gpus(4), Gang(), 1) == (Place("n", (1, 3, 5, 7)),)
    assert find_places(space, gpus(5), Gang(), 1) == (Place("n", (1, 2, 3, 5, 7)),)


def test_slices_are_given_out_by_index() -> None:
    ask = Resources(mig_profile="1g.10gb", mig_count=2)
    space = space_of((Node("n", mig={"1g.10gb": 5}),))
    found = find_places(space, ask, Gang(replicas=2), 2)
    assert found == (Place("n", mig=(0, 1)), Place("n", mig=(2, 3)))
    space.take(found, ask)
    assert find_places(space, ask, Gang(), 1) is None


def test_what_asks_no_gpu_goes_where_there_is_none() -> None:
    there = (Node("a", gpu_count=8, cpu_millis=1_000), Node("b", cpu_millis=64_000))
    assert find_places(space_of(there), Resources(cpu_millis=500), Gang(), 1) == (Place("b"),)


def test_a_compact_gang_fills_empty_nodes_and_the_tightest_other_one() -> None:
    space = space_of(nodes(5, gpu_count=8))
    space.take((Place("n2", (0, 1)), Place("n4", (0, 1, 2))), Resources())
    compact = Gang(replicas=12, topology="compact")
    found = find_places(space, gpus(1), compact, 12)
    assert found is not None
    assert [place.node for place in found] == ["n1"] * 8 + ["n4"] * 4
    assert find_places(space, gpus(1), compact, 24) is not None
    space.take((Place("n1", (0,)), Place("n3", (0,)), Place("n5", (0,))), Resources())
    assert find_places(space, gpus(1), compact, 12) is None
    wish = Gang(replicas=12, topology="compact", topology_required=False)
    assert find_places(space, gpus(1), wish, 12) is not None


def test_a_free_gang_prefers_few_nodes_then_few_domains() -> None:
    there = (*rack("r1", ["a", "b"], gpu_count=8), *rack("r2", ["c", "d", "e"], gpu_count=8))
    space = space_of(there)
    assert nodes_of(find_places(space, gpus(8), Gang(replicas=2), 2)) == ["a", "b"], "the tightest rack"
    space.take((Place("a", (0,)),), gpus(1))
    assert nodes_of(find_places(space, gpus(8), Gang(replicas=2), 2)) == ["c", "d"]
    assert nodes_of(find_places(space, gpus(1), Gang(replicas=7), 7)) == ["a"] * 7
    assert nodes_of(find_places(space, gpus(8), Gang(replicas=4), 4)) == ["b", "c", "d", "e"]


def nodes_of(places: tuple[Place, ...] | None) -> list[str]:
    assert places is not None
    return [place.node for place in places]


# ------------------------------------------------------------------------------------------------------------- the mix


def test_the_mix_is_learnt_in_bounded_memory_and_forgets() -> None:
    mix = Mix()
    for number in range(1_000):
        mix.observe(Resources(gpu_count=1, cpu_millis=number), 1)
    assert 0 < len(mix.typical) <= 256 and sum(mix.typical.values()) == pytest.approx(1)
    late = gpus(8)
    for _ in range(40_000):
        mix.observe(late, 1)
    assert mix.typical[shape_of(late)] > 0.9 and next(iter(mix.typical)) == shape_of(late)
    stamp = mix.stamp
    for _ in range(40_000):
        mix.observe(late, 1)
    assert mix.stamp == stamp, "nothing new: what was judged by it stays"
    mix.observe(Resources(cpu_millis=5), 10**9)
    assert next(iter(mix.typical)) == shape_of(late), "what asks no GPU does not count"
