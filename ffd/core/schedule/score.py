"""What makes a node good for a request: the policies of placement. The higher the score the better.

    bestfit   the node that is left with least: 0.5 x cpu left / the largest node's + 0.5 x GPUs left / the largest's

Called by `rooms`. Never here: whether a request fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ffd.core.gpus import tightest_shared
from ffd.core.nodespace import NodeSpace
from ffd.core.space import Space
from ffd.core.spec import Resources

if TYPE_CHECKING:
    from ffd.core.schedule.rooms import Mirror

GPU_FREE_FIRST = 1_000.0  # what asks no GPU goes where there is none, before all else


class Scorer(Protocol):
    """`stamp` changes when all scores must be made again."""

    stamp: int

    def is_plain(self, ask: Resources) -> bool:
        """Whether `score` knows this request (one node at a time)."""

    def score(self, space: NodeSpace, ask: Resources) -> float: ...

    def scores(self, mirror: Mirror, ask: Resources, at: NDArray[np.int64]) -> NDArray[np.float64]: ...

    def shared(self, space: NodeSpace, free_millis: Sequence[int], ask: Resources) -> int:
        """Index of the GPU of the node that a fraction should go to."""


class BestFit:
    """Least is left: cpu and GPUs as shares of the largest node's, then slots."""

    def __init__(self, space: Space) -> None:
        self.stamp = 0
        nodes = [one.node for one in space.order]
        cpu = max((node.cpu_millis for node in nodes), default=0)
        gpus = max((node.gpu_count for node in nodes), default=0)
        slots = max((node.slot_count for node in nodes), default=0)
        self._cpu, self._gpu = 0.5 / cpu if cpu else 0.0, 0.5 / (1000 * gpus) if gpus else 0.0
        self._slot = 1e-6 / slots if slots else 0.0

    def is_plain(self, ask: Resources) -> bool:
        return True

    def score(self, space: NodeSpace, ask: Resources) -> float:
        left = space.cpu_millis * self._cpu + space.slots * self._slot
        if space.has_gpus:
            return -left - sum(space.gpu_millis) * self._gpu
        return GPU_FREE_FIRST - left

    def scores(self, mirror: Mirror, ask: Resources, at: NDArray[np.int64]) -> NDArray[np.float64]:
        left = mirror.cpu[at] * self._cpu + mirror.slots[at] * self._slot
        left += mirror.gpu_millis[at].sum(axis=1) * self._gpu
        found = -left
        if not (ask.gpu_count or ask.mig_count):
            found[~mirror.has_gpus[at]] += GPU_FREE_FIRST
        return found

    def shared(self, space: NodeSpace, free_millis: Sequence[int], ask: Resources) -> int:
        return tightest_shared(space, free_millis, ask)


def scorer_of(space: Space) -> Scorer:
    """The scorer of the policy."""
    return BestFit(space)
