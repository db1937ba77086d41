"""What makes a node good for a request: the policies of placement. The higher the score the better.

    bestfit   the node that is left with least: 0.5 x cpu left / the largest node's + 0.5 x GPUs left / the largest's
    fgd       floor(100 x sigmoid((F before - F after) / 1000)), F the fragmentation of the node (see `fragment`)
    default   F before - F after, unrounded; bestfit where that says little, but not for parts of GPUs, whose remainders
              F knows better; and a pull to the front of the inventory, which keeps its far end whole. What asks no GPU
              goes first where there is none

Called by `rooms`. Never here: whether a request fits.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ffd.core.gpus import tightest_shared
from ffd.core.nodespace import NodeSpace
from ffd.core.schedule.fragment import Fragments
from ffd.core.space import Space
from ffd.core.spec import WHOLE_MILLIS, Resources

if TYPE_CHECKING:
    from ffd.core.schedule.rooms import Mirror

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

GPU_FREE_FIRST = 1e6  # what asks no GPU goes where there is none, before all else
FIT_WEIGHT: Final = 100.0  # thousandths of fragmentation that a node's whole size of bestfit is worth
FEW_COUNT, FEW_KNOWN_COUNT = 8, 32  # nodes that are judged one by one: when most must be worked out, when few must
LATELY_COUNT = 1_000  # questions after which older ones count half
KNOWN_MOST_COUNT = 20_000  # states of nodes whose gain is remembered
FRONT_WEIGHT: Final = 0.1  # thousandths of fragmentation that one place further to the front of the inventory is worth


class Scorer(Protocol):
    """`stamp` changes when all scores must be made again."""

    @property
    def stamp(self) -> int: ...

    @property
    def few_count(self) -> int:
        """So many nodes are judged faster one by one than as vectors."""

    def score(self, space: NodeSpace, ask: Resources) -> float:
        """Of one node: what `scores` says of it."""

    def scores(self, ask: Resources, at: Ints) -> Floats: ...

    def shared(self, space: NodeSpace, free_millis: Sequence[int], ask: Resources) -> int:
        """Index of the GPU of the node that a fraction should go to."""


class BestFit:
    """Least is left: cpu and GPUs as shares of the largest node's, then slots."""

    stamp: int = 0
    few_count: int = FEW_KNOWN_COUNT

    def __init__(self, space: Space, mirror: Mirror) -> None:
        self._mirror = mirror
        nodes = [one.node for one in space.order]
        cpu = max((node.cpu_millis for node in nodes), default=0)
        gpus = max((node.gpu_count for node in nodes), default=0)
        slots = max((node.slot_count for node in nodes), default=0)
        self._cpu, self._gpu = 0.5 / cpu if cpu else 0.0, 0.5 / (WHOLE_MILLIS * gpus) if gpus else 0.0
        self._slot = 1e-6 / slots if slots else 0.0

    def score(self, space: NodeSpace, ask: Resources) -> float:
        left = space.cpu_millis * self._cpu + space.slots * self._slot
        return -left - sum(space.gpu_millis) * self._gpu

    def scores(self, ask: Resources, at: Ints) -> Floats:
        mirror = self._mirror
        left = mirror.cpu[at] * self._cpu + mirror.slots[at] * self._slot
        left += mirror.gpu_millis[at].sum(axis=1) * self._gpu
        found: Floats = -left
        return found

    def shared(self, space: NodeSpace, free_millis: Sequence[int], ask: Resources) -> int:
        return tightest_shared(space, free_millis, ask)


class Gradient:
    """Fragmentation gradient descent. Keeps what the mix makes of each node, and follows the books like a `Rooms`; what
    it found out for one node it remembers by what is free there: nodes come back to the same few states."""

    def __init__(self, space: Space, mirror: Mirror) -> None:
        self._space, self._mirror = space, mirror
        self._stamp, self._seen = -1, -1
        self._fragments = Fragments({}, [])
        self._known: dict[tuple[object, ...], float] = {}
        self._asked_count, self._learnt_count = 0, 0  # lately
        self._counts: Ints = np.zeros((0, 0), np.int64)
        self._sums: Ints = self._counts
        self._useful: Floats = np.zeros(0)

    @property
    def stamp(self) -> int:
        return self._space.mix.stamp

    @property
    def few_count(self) -> int:
        return FEW_KNOWN_COUNT if self._learnt_count * 8 <= self._asked_count else FEW_COUNT

    def judged(self, gains: Floats) -> Floats:
        """Gains as scores."""
        return np.floor(100 / (1 + np.exp(-gains / 1000)))

    # ----------------------------------------------------------------------------------------------------- one node

    def score(self, space: NodeSpace, ask: Resources) -> float:
        return float(self.judged(np.array(self.gain(space, ask))))

    def gain(self, space: NodeSpace, ask: Resources) -> float:
        """`gains` of one node."""
        if not space.gpu_millis or not (ask.gpu_count or ask.cpu_millis) or not self._space.mix.typical:
            return 0.0
        state = self._state(space, ask)
        if not ask.gpu_count and state[1] == state[2]:
            return 0.0  # no typical request asks just these cpus
        key = (*state, ask.gpu_count, ask.gpu_millis, tuple(sorted(space.gpu_millis)))
        self._asked_count += 1
        found = self._known.get(key)
        if found is None:
            found = self._learn(key, self._fragments.gain(*state, np.array(space.gpu_millis), ask))
        return found

    def shared(self, space: NodeSpace, free_millis: Sequence[int], ask: Resources) -> int:
        if not self._space.mix.typical:
            return tightest_shared(space, free_millis, ask)
        state = self._state(space, ask)
        key = (*state, ask.gpu_millis, *free_millis)
        found = self._known.get(key)
        if found is None:
            gains = self._fragments.gpu_gains(*state, np.array(free_millis), ask)
            found = self._learn(key, int(self.judged(gains).argmax()))
        return int(found)

    def _state(self, space: NodeSpace, ask: Resources) -> tuple[int, int, int]:
        """(kind, cpu bounds that are met, those that are met when the cpus of the request are gone)."""
        if self._stamp != self._space.mix.stamp:
            self._renew()
        bounds, cpu = self._fragments.cpu_bounds, space.cpu_millis
        return self._mirror.kind_of[space.index], bisect_right(bounds, cpu), bisect_right(bounds, cpu - ask.cpu_millis)

    def _learn(self, key: tuple[object, ...], value: float) -> float:
        if len(self._known) >= KNOWN_MOST_COUNT:
            self._known.clear()
        self._known[key] = value
        self._learnt_count += 1
        if self._asked_count > LATELY_COUNT:
            self._asked_count, self._learnt_count = self._asked_count // 2, self._learnt_count // 2
        return value

    def _renew(self) -> None:
        """The mix is another one."""
        self._fragments = Fragments(self._space.mix.typical, self._mirror.kind_nodes)
        self._known.clear()
        self._stamp, self._seen = self._space.mix.stamp, -1

    # ---------------------------------------------------------------------------------------------------- all nodes

    def scores(self, ask: Resources, at: Ints) -> Floats:
        return self.judged(self.gains(ask, at))

    def gains(self, ask: Resources, at: Ints) -> Floats:
        """F before - F after, of each of these nodes; for a part of a GPU on the one that is best for it."""
        if not self._space.mix.typical:
            return np.zeros(at.size)
        self._follow()
        mirror, fragments = self._mirror, self._fragments
        counts, sums, before = self._counts[at], self._sums[at], self._useful[at]
        shares = fragments.shares(mirror.kinds[at], fragments.met(mirror.cpu[at] - ask.cpu_millis))
        if not ask.gpu_count:
            return fragments.useful(shares, counts, sums) - before
        if ask.gpu_millis == WHOLE_MILLIS:
            taken = ask.gpu_count * WHOLE_MILLIS
            return fragments.useful(shares, counts - ask.gpu_count, sums - taken) - before + taken
        free = np.sort(mirror.gpu_millis[at], axis=1)
        differs = np.ones(free.shape, bool)
        differs[:, 1:] = free[:, 1:] != free[:, :-1]
        rows, columns = np.nonzero(differs & (free >= ask.gpu_millis))
        after = fragments.after_shared(counts[rows], sums[rows], free[rows, columns], ask.gpu_millis)
        useful = fragments.useful(shares[rows], *after)
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        return np.maximum.reduceat(useful, starts) - before + ask.gpu_millis

    def _follow(self) -> None:
        space, mirror = self._space, self._mirror
        mirror.follow()
        if self._stamp != space.mix.stamp:
            self._renew()
        changed = space.changed_since(self._seen) if self._seen >= 0 else None
        fragments = self._fragments
        if changed is None:
            self._counts, self._sums = fragments.enough(mirror.gpu_millis)
            shares = fragments.shares(mirror.kinds, fragments.met(mirror.cpu))
            self._useful = fragments.useful(shares, self._counts, self._sums)
        elif changed:
            at = np.array(sorted(dict.fromkeys(changed)), np.int64)  # np.unique loads numpy.ma: 20 ms
            self._counts[at], self._sums[at] = fragments.enough(mirror.gpu_millis[at])
            shares = fragments.shares(mirror.kinds[at], fragments.met(mirror.cpu[at]))
            self._useful[at] = fragments.useful(shares, self._counts[at], self._sums[at])
        self._seen = space.change_count

    def fragment_millis(self) -> tuple[float, int]:
        """(F of all nodes together, idle thousandths of GPUs)."""
        self._follow()
        idle = int(np.maximum(self._mirror.gpu_millis, 0).sum())
        return idle - float(self._useful.sum()), idle


class Blend(Gradient):
    """The default: the gradient, with less to break ties by chance. Weights were found on the openb default trace (see
    bench/scheduling/openb.py), where each of the three parts is worth 0.1 to 0.3 points of allocation."""

    def __init__(self, space: Space, mirror: Mirror) -> None:
        super().__init__(space, mirror)
        self._fit = BestFit(space, mirror)

    def score(self, space: NodeSpace, ask: Resources) -> float:
        is_free = not (space.has_gpus or ask.gpu_count or ask.mig_count)
        found = (GPU_FREE_FIRST if is_free else self.gain(space, ask)) - FRONT_WEIGHT * space.index
        if ask.gpu_millis == WHOLE_MILLIS or not self._space.mix.typical:
            found += FIT_WEIGHT * self._fit.score(space, ask)
        return found

    def scores(self, ask: Resources, at: Ints) -> Floats:
        found = self.gains(ask, at) - FRONT_WEIGHT * at
        if ask.gpu_millis == WHOLE_MILLIS or not self._space.mix.typical:
            found += FIT_WEIGHT * self._fit.scores(ask, at)
        if not (ask.gpu_count or ask.mig_count):
            found[~self._mirror.has_gpus[at]] += GPU_FREE_FIRST
        return found

    def judged(self, gains: Floats) -> Floats:
        return gains


def scorer_of(space: Space, mirror: Mirror) -> Scorer:
    """The scorer of the policy."""
    if space.policy.placement == "bestfit":
        return BestFit(space, mirror)
    return Gradient(space, mirror) if space.policy.placement == "fgd" else Blend(space, mirror)
