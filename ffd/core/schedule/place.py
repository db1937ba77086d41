"""Where a gang goes: all its replicas or none. Reads the books of `core.space`; changes nothing but what it remembers.

Order of preference: GPU models as the task lists them (a typed gang is of one model); then the topology that is asked
for, in the tightest domain that holds the gang; then few nodes, few domains, and the best score. Ranks follow nodes:
neighbours in rank are neighbours in space. Called by the cycle, by explanations and by what-ifs.

A gang that does not fit is told so by one comparison: the room of its request is a sum that is kept up to date.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ffd.core.gpus import assign
from ffd.core.model import Place
from ffd.core.schedule.rooms import Ints, Models, Rooms, finder_of
from ffd.core.space import Space
from ffd.core.spec import Gang, Resources
from ffd.core.topology import SAME_NODE, Level

ANY, COMPACT = "any", "compact"
TIGHTEST_TRIED = 4  # domains of a level in which a free gang is tried before the next level

Counts = list[tuple[int, int]]  # (node, replicas on it)


def find_places(
    space: Space,
    ask: Resources,
    gang: Gang,
    replicas: int,
    domains: frozenset[str] = frozenset(),
    models: Models = None,
) -> tuple[Place, ...] | None:
    """Places by rank for `replicas` of the gang, or None when they do not fit now. `domains`: when not empty, only
    domains of the gang's topology level with these names (`with`). `models`: GPU models that may be used (quota)."""
    finder = finder_of(space)
    if not ask.gpu_types:
        return _place(finder.rooms(ask, models), gang, replicas, domains)
    for model in ask.gpu_types:
        if models is None or model in models:
            found = _place(finder.rooms(ask, (model,)), gang, replicas, domains)
            if found is not None:
                return found
    return None


def has_room(space: Space, ask: Resources, counts: Mapping[str, int]) -> bool:
    """Is there room for so many replicas on each of these nodes, whichever GPUs they get?"""
    return all(name in space.nodes and space.nodes[name].room(ask) >= count for name, count in counts.items())


def places_on(space: Space, ask: Resources, counts: Mapping[str, int]) -> tuple[Place, ...]:
    """Places for so many replicas on each of these nodes, which have the room."""
    shared = finder_of(space).scorer.shared
    return tuple(place for name, count in counts.items() for place in assign(space.nodes[name], ask, count, shared))


def _place(rooms: Rooms, gang: Gang, replicas: int, domains: frozenset[str]) -> tuple[Place, ...] | None:
    if rooms.total < replicas:
        return None
    if replicas == 1 and (not domains or gang.topology in (ANY, COMPACT)):
        return tuple(rooms.places(int(rooms.score.argmax()), 1))
    counts = _counts(rooms, gang, replicas, domains)
    if counts is None and not gang.topology_required:
        counts = _spread(rooms, None, replicas)
    if counts is None:
        return None
    return tuple(place for index, count in _in_rank_order(rooms, counts) for place in rooms.places(index, count))


def _counts(rooms: Rooms, gang: Gang, replicas: int, domains: frozenset[str]) -> Counts | None:
    """As the topology asks, were it required."""
    word = gang.topology
    if word == ANY:
        return _spread(rooms, None, replicas)
    if word == COMPACT:
        return _compact(rooms, replicas)
    if word == SAME_NODE:
        return _one_node(rooms, None, replicas, domains)
    level = rooms.space.topology.level(word)
    there = rooms.domain_rooms(level)
    enough = there >= replicas
    if domains:
        enough &= np.array([name in domains for name in level.names], bool)
    if not enough.any():
        return None
    tightest = int(np.where(enough, there, np.iinfo(np.int64).max).argmin())
    return _spread(rooms, level.members(tightest), replicas)


def _in_rank_order(rooms: Rooms, counts: Counts) -> Counts:
    """Nodes of a domain side by side, the widest level first; then as the inventory has them."""
    if len(counts) == 1:
        return counts
    at = np.array([index for index, _ in counts])
    levels = [level.ids[at] for level in rooms.space.topology.useful()]  # the widest one last: the first to sort by
    return [counts[k] for k in np.lexsort((at, *levels)).tolist()]


# ------------------------------------------------------------------------------------------------------- whole nodes


def _one_node(rooms: Rooms, members: Ints | None, replicas: int, names: frozenset[str] = frozenset()) -> Counts | None:
    """All on one node: the best of those that have the room, the first of them."""
    room, score = rooms.room, rooms.score
    if members is None and replicas == 1 and not names:  # where there is no room the score says so
        return [(int(score.argmax()), 1)] if rooms.total else None
    if members is not None:
        room, score = room[members], score[members]
    elif not any(rooms.having[replicas:]):
        return None
    enough = room >= replicas
    if names:
        enough &= np.array([one.node.name in names for one in rooms.space.order], bool)
    if not enough.any():
        return None
    best = int(np.where(enough, score, -np.inf).argmax())
    return [(best if members is None else int(members[best]), replicas)]


def _compact(rooms: Rooms, replicas: int) -> Counts | None:
    """Empty nodes filled wholly, the largest first, then the tightest node that holds the rest. Finds an answer
    whenever there is one: the rest is least after the largest nodes."""
    room = rooms.room
    empty = np.flatnonzero((room > 0) & (room == rooms.capacity))
    empty = empty[np.argsort(-room[empty], kind="stable")]
    sizes = room[empty].tolist()
    partly = room.copy()
    partly[empty] = 0
    most_partly = int(partly.max(initial=0))
    left, filled = replicas, 0
    while left > max(most_partly, sizes[filled] if filled < len(sizes) else 0):
        if filled == len(sizes):
            return None
        left -= sizes[filled]
        filled += 1
    counts = [(int(index), size) for index, size in zip(empty[:filled].tolist(), sizes, strict=False)]
    if left:
        free = room.copy()
        free[empty[:filled]] = 0
        counts.append((int(np.where(free >= left, free, np.iinfo(np.int64).max).argmin()), left))
    return counts


# ------------------------------------------------------------------------------------------------------- many nodes


def _spread(rooms: Rooms, members: Ints | None, replicas: int) -> Counts | None:
    """As few nodes as can be, then as few domains. `members`: only these nodes (None = all)."""
    counts = _one_node(rooms, members, replicas)
    if counts is not None:
        return counts
    fewest = _fewest_nodes(rooms.having if members is None else _having(rooms, members), replicas)
    if fewest is None:
        return None
    for level in rooms.space.topology.useful():
        for domain in _tightest_domains(rooms, level, members, replicas):
            inside = level.members(domain) if members is None else members[level.ids[members] == domain]
            if _fewest_nodes(_having(rooms, inside), replicas) == fewest:
                return _pack(rooms, inside, replicas)
    return _pack(rooms, np.arange(len(rooms.room)) if members is None else members, replicas)


def _tightest_domains(rooms: Rooms, level: Level, members: Ints | None, replicas: int) -> list[int]:
    """Domains that hold the gang, the tightest first; a few."""
    if members is None:
        there = rooms.domain_rooms(level)
    else:
        there = np.bincount(level.ids[members], weights=rooms.room[members], minlength=level.count).astype(np.int64)
    enough = np.flatnonzero(there >= replicas)
    if enough.size > TIGHTEST_TRIED:
        bound = np.partition(there[enough], TIGHTEST_TRIED - 1)[TIGHTEST_TRIED - 1]
        enough = enough[there[enough] <= bound]
    chosen: list[int] = enough[np.argsort(there[enough], kind="stable")][:TIGHTEST_TRIED].tolist()
    return chosen


def _having(rooms: Rooms, members: Ints) -> list[int]:
    """`Rooms.having` of some nodes."""
    having: list[int] = np.bincount(rooms.room[members]).tolist()
    return having


def _fewest_nodes(having: list[int], replicas: int) -> int | None:
    """How many nodes the gang needs at least; None when all together are too few."""
    found = _threshold(having, replicas)
    if found is None:
        return None
    above, at_bound, rest = found[1:]
    return above + at_bound + (rest > 0)


def _threshold(having: list[int], replicas: int) -> tuple[int, int, int, int] | None:
    """(bound, nodes with more room than that, nodes with just that room that are filled, replicas left for one more
    node): what filling the roomiest nodes first comes to. No node has room for all."""
    counts = having[:replicas]
    left, above = replicas, 0
    for bound in range(len(counts) - 1, 0, -1):
        count = counts[bound]
        if count * bound >= left:
            return bound, above, left // bound, left % bound
        left -= count * bound
        above += count
    return None


def _pack(rooms: Rooms, members: Ints, replicas: int) -> Counts | None:
    """The roomiest nodes filled, the rest of the gang on the tightest other node that holds it."""
    room = rooms.room[members]
    found = _threshold(_having(rooms, members), replicas)
    if found is None:
        return None
    bound, _, at_bound, rest = found
    full = members[room > bound]
    equal = members[room == bound]
    chosen = np.concatenate([full, _choose(rooms, equal, at_bound)])
    counts = [(index, int(rooms.room[index])) for index in chosen.tolist()]
    if rest:
        free = rooms.room.copy()
        free[chosen] = 0
        counts += _rest(rooms, members, free, rest)
    return counts


def _rest(rooms: Rooms, members: Ints, free: Ints, rest: int) -> Counts:
    """The tightest of the members for the last replicas, the best of those alike."""
    there = free[members]
    tight = members[there == there[there >= rest].min()]
    return [(int(tight[rooms.score[tight].argmax()]), rest)]


def _choose(rooms: Rooms, equal: Ints, count: int) -> Ints:
    """`count` of these nodes, which have equal room: from few domains, those with most of them first; then by score,
    then as the inventory has them."""
    if count == 0 or count >= equal.size:
        return equal[:count]
    for level in rooms.space.topology.useful()[::-1]:
        ids = level.ids[equal]
        having = np.bincount(ids, minlength=level.count)
        order = np.argsort(-having, kind="stable")
        sums = np.cumsum(having[order])
        last = int(np.searchsorted(sums, count))  # the domain that is not taken wholly
        before = order[:last]
        taken = equal[np.isin(ids, before)]
        inside = equal[ids == order[last]]
        if last or inside.size < equal.size:
            return np.concatenate([taken, _choose(rooms, inside, count - taken.size)])
    score = rooms.score[equal]
    bound = np.partition(score, equal.size - count)[equal.size - count]
    better = equal[score > bound]
    return np.concatenate([better, equal[score == bound][: count - better.size]])
