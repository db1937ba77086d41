"""Rooms: for one kind of request, how many replicas each node holds now and how good the node is. As vectors that
follow the books of `core.space`: only nodes that changed are looked at again.

Called by `place`. Kept in `Space.memo` between cycles, bounded in number. Never here: gangs and topology (place), or
what makes a node good (score).
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from ffd.core.gpus import assign
from ffd.core.model import Node, Place
from ffd.core.nodespace import NodeSpace
from ffd.core.schedule.score import Scorer, scorer_of
from ffd.core.space import Space, misfit
from ffd.core.spec import WHOLE_MILLIS, Resources
from ffd.core.topology import Level

Ints = NDArray[np.int64]
Models = tuple[str, ...] | None  # GPU models that may be used; None = any

REQUESTS_MOST_COUNT = 512  # kinds of requests whose vectors are kept; the one not used for longest goes first


class Mirror:
    """The books as arrays over all nodes, by index. Brought up to date when somebody needs vectors."""

    __slots__ = (
        "_seen", "_space", "closed", "cpu", "disk", "gpu_millis", "gpu_slots", "has_gpus", "kind_nodes", "kind_of",
        "kinds", "memory", "mig", "slots", "whole",
    )  # fmt: skip

    def __init__(self, space: Space) -> None:
        count = len(space.order)
        widest = max((one.node.gpu_count for one in space.order), default=0)
        self._space, self._seen = space, -1
        self.slots, self.cpu, self.memory, self.disk, self.whole, self.gpu_slots = (
            np.zeros(count, np.int64) for _ in range(6)
        )
        self.gpu_millis = np.full((count, widest), 0, np.int64)  # an index that a node does not have: nothing free
        self.closed = np.zeros(count, bool)
        self.mig: dict[str, Ints] = {}  # profile -> free slices
        self.has_gpus = np.array([one.has_gpus for one in space.order], bool)
        numbers: dict[tuple[object, ...], int] = {}
        self.kinds = np.array([numbers.setdefault(one.kind, len(numbers)) for one in space.order], np.int64)
        self.kind_of: list[int] = self.kinds.tolist()
        first = {kind: one.node for kind, one in zip(self.kind_of[::-1], space.order[::-1], strict=True)}
        self.kind_nodes: list[Node] = [first[kind] for kind in range(len(numbers))]  # one of each kind

    def follow(self) -> None:
        space = self._space
        changed = space.changed_since(self._seen) if self._seen >= 0 else None
        if changed is None:
            self._copy(space.order)
        elif changed:
            self._copy([space.order[index] for index in dict.fromkeys(changed)])
        self._seen = space.change_count

    def _copy(self, those: list[NodeSpace]) -> None:
        """All at once: a number written into an array by itself costs as much as a row of them."""
        at = np.array([one.index for one in those], np.int64)
        self.slots[at] = [one.slots for one in those]
        self.gpu_slots[at] = [one.gpu_slots for one in those]
        self.cpu[at] = [one.cpu_millis for one in those]
        self.memory[at] = [one.memory_bytes for one in those]
        self.disk[at] = [one.disk_bytes for one in those]
        self.whole[at] = [one.whole_count for one in those]
        self.closed[at] = [one.is_closed for one in those]
        widest = self.gpu_millis.shape[1]
        if widest:
            self.gpu_millis[at] = [one.gpu_millis + [0] * (widest - len(one.gpu_millis)) for one in those]
        for one in those:
            for profile, slices in one.mig.items():
                if profile not in self.mig:
                    self.mig[profile] = np.zeros(len(self._space.order), np.int64)
                self.mig[profile][one.index] = len(slices)

    def room(self, ask: Resources, at: Ints | slice) -> Ints:
        """`NodeSpace.room` of each of these nodes, as if none lacked what is static."""
        room = self._room_beside_gpus(ask, self.slots[at].copy(), at)
        if ask.gpu_count and ask.gpu_millis == WHOLE_MILLIS:
            np.minimum(room, self.whole[at] // ask.gpu_count, out=room)
        elif ask.gpu_count:
            np.minimum(room, (np.maximum(self.gpu_millis[at], 0) // ask.gpu_millis).sum(axis=1), out=room)
        if ask.mig_count:
            slices = self.mig.get(ask.mig_profile)
            room[:] = 0 if slices is None else np.minimum(room, slices[at] // ask.mig_count)
        room[self.closed[at]] = 0
        return np.maximum(room, 0, out=room)

    def _room_beside_gpus(self, ask: Resources, slots: Ints, at: Ints | slice) -> Ints:
        """The same, were all GPUs free and all nodes open; `slots` are written over."""
        for free, wanted in (
            (self.cpu, ask.cpu_millis), (self.memory, ask.held_memory_bytes), (self.disk, ask.disk_bytes),
        ):  # fmt: skip
            if wanted:
                np.minimum(slots, free[at] // wanted, out=slots)
        return slots

    def tight(self, ask: Resources) -> Ints:
        """Nodes on which something besides GPUs is too short for as many replicas as the empty node would hold, even
        if all slots were free that replicas with GPUs have."""
        room = self._room_beside_gpus(ask, self.slots + self.gpu_slots, slice(None))
        return np.flatnonzero(room < self.room_when_empty(ask))

    def room_when_empty(self, ask: Resources) -> Ints:
        """Replicas that each node would hold if it were empty, as if none lacked what is static."""
        by_kind = np.array([NodeSpace(node).room(ask) for node in self.kind_nodes], np.int64)
        found: Ints = by_kind[self.kinds]
        return found


class Rooms:
    """The vectors of one kind of request. `room[k]`: replicas that node k holds now; `capacity[k]`: that it would hold
    if it were empty; `score[k]`: the higher the better, -inf where there is no room; `total`: the sum of `room`;
    `having[n]`: nodes with room for just n."""

    __slots__ = (
        "_domains", "_mirror", "_scorer", "_seen", "_stamp", "ask", "capacity", "having", "hosts", "room", "score",
        "space", "total", "used_at",
    )  # fmt: skip

    def __init__(self, space: Space, mirror: Mirror, scorer: Scorer, ask: Resources, models: Models) -> None:
        self.space, self.ask = space, ask
        self._mirror, self._scorer = mirror, scorer
        self.hosts = _hosts(space, mirror, ask, models)
        count = len(space.order)
        self.room: Ints = np.zeros(count, np.int64)
        self.score: NDArray[np.float64] = np.full(count, -np.inf)
        self.total = 0
        self.used_at = 0
        self._seen = -1  # `Space.change_count` up to which these vectors are right
        self._stamp = -1  # of the scorer: what it knows of recent requests
        self._domains: dict[str, Ints] = {}  # level -> room of each domain
        self.capacity: Ints = mirror.room_when_empty(ask) * self.hosts
        self.having: list[int] = []

    def follow(self) -> None:
        """Be right about what is free now."""
        space = self.space
        stamp = self._scorer.stamp
        changed = space.changed_since(self._seen) if self._seen >= 0 and stamp == self._stamp else None
        if changed is None:
            self._all()
        elif changed:
            unique = dict.fromkeys(changed)
            if len(unique) <= self._scorer.few_count:
                for index in unique:
                    self._one(index)
            else:
                self._many(np.array(list(unique), np.int64))
        self._seen, self._stamp = space.change_count, stamp

    def _all(self) -> None:
        self._mirror.follow()
        self.room = self._mirror.room(self.ask, slice(None))
        self.room[~self.hosts] = 0
        self.total = int(self.room.sum())
        self._count()
        self._domains.clear()
        self.score = np.full(len(self.room), -np.inf)
        self._judge(np.flatnonzero(self.room))

    def _many(self, at: Ints) -> None:
        self._mirror.follow()
        room = self._mirror.room(self.ask, at)
        room[~self.hosts[at]] = 0
        before = self.room[at]
        more = room - before
        self.total += int(more.sum())
        for word, sums in self._domains.items():
            np.add.at(sums, self.space.topology.level(word).ids[at], more)
        self.room[at] = room
        self._count()
        self.score[at[room == 0]] = -np.inf
        self._judge(at[room > 0])

    def _count(self) -> None:
        self.having = np.bincount(self.room, minlength=int(self.capacity.max(initial=0)) + 1).tolist()

    def _judge(self, at: Ints) -> None:
        if at.size:
            self.score[at] = self._scorer.scores(self.ask, at)

    def _one(self, index: int) -> None:
        one = self.space.order[index]
        room = one.room(self.ask) if self.hosts[index] else 0
        before = int(self.room[index])
        more = room - before
        if more:
            self.room[index] = room
            self.total += more
            self.having[before] -= 1
            self.having[room] += 1
            for word, sums in self._domains.items():
                sums[self.space.topology.level(word).ids[index]] += more
        self.score[index] = self._scorer.score(one, self.ask) if room else -np.inf

    def domain_rooms(self, level: Level) -> Ints:
        """Room of each domain of the level."""
        found = self._domains.get(level.word)
        if found is None:
            found = np.bincount(level.ids, weights=self.room, minlength=level.count).astype(np.int64)
            self._domains[level.word] = found
        return found

    def places(self, index: int, replicas: int) -> list[Place]:
        """Places for so many replicas on one node, with the GPUs that suit best."""
        return assign(self.space.order[index], self.ask, replicas, self._scorer.shared)


def _hosts(space: Space, mirror: Mirror, ask: Resources, models: Models) -> NDArray[np.bool_]:
    """Which nodes could hold a replica when empty."""
    rest, labels = (ask, ()) if not ask.node_labels else (_without_labels(ask), ask.node_labels)
    takes_gpus = bool(ask.gpu_count or ask.mig_count)
    by_kind = [
        not misfit(node, rest) and (models is None or not takes_gpus or node.gpu_type in models)
        for node in mirror.kind_nodes
    ]
    hosts = np.array(by_kind, bool)[mirror.kinds] if by_kind else np.zeros(0, bool)
    for index in np.flatnonzero(hosts).tolist() if labels else ():
        has = space.order[index].node.labels
        hosts[index] = all(has.get(key) == value for key, value in labels)
    return hosts


def _without_labels(ask: Resources) -> Resources:
    return msgspec.structs.replace(ask, node_labels=())


class Finder:
    """The rooms of all recent requests of one Space."""

    __slots__ = ("_clock", "_rooms", "_space", "mirror", "scorer")

    def __init__(self, space: Space) -> None:
        self._space = space
        self.mirror = Mirror(space)
        self.scorer = scorer_of(space, self.mirror)
        self._rooms: dict[tuple[Resources, Models], Rooms] = {}
        self._clock = 0  # counts look-ups

    def rooms(self, ask: Resources, models: Models) -> Rooms:
        """The rooms of a request, right about what is free now."""
        found = self._rooms.get((ask, models))
        if found is None:
            if len(self._rooms) >= REQUESTS_MOST_COUNT:
                del self._rooms[min(self._rooms, key=lambda key: self._rooms[key].used_at)]
            found = self._rooms[ask, models] = Rooms(self._space, self.mirror, self.scorer, ask, models)
        self._clock += 1
        found.used_at = self._clock
        found.follow()
        return found


def finder_of(space: Space) -> Finder:
    """The finder that belongs to these books."""
    found = space.memo
    if found is None:
        found = space.memo = Finder(space)
    assert isinstance(found, Finder)
    return found


def tight_nodes(space: Space, ask: Resources) -> frozenset[str]:
    """Names of the nodes on which what holds no GPUs may be in the way of such replicas with GPUs."""
    mirror = finder_of(space).mirror
    mirror.follow()
    return frozenset(space.order[index].node.name for index in mirror.tight(ask).tolist())


def is_tight(space: Space, ask: Resources) -> bool:
    """Is there any such node?"""
    mirror = finder_of(space).mirror
    mirror.follow()
    return bool(mirror.tight(ask).size)
