"""How much of what is idle is of no use to typical requests, and what a placement would change about that.

Source: Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent",
USENIX ATC'23. The fragment of a node for a typical request is all that is idle on its GPUs when the request cannot run
there (cpu, model, GPUs), else what is idle on GPUs with less free than it asks of one; F is the expectation over the
mix.

With U = the idle thousandths that are of use (those on GPUs with enough free, when the request can run), F = idle - U.
A request with `count` GPUs of `millis` each belongs to the group (count, millis); of a group only the share of its
requests that the cpu and the model of a node allow matters: so F of all nodes is a few sums over nodes x groups.

Called by `score`. Never here: which node is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ffd.core.mix import Shape
from ffd.core.model import Node
from ffd.core.spec import WHOLE_MILLIS, Resources

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Fragments:
    """The mix as tables, for the kinds of nodes of one inventory. All methods are pure.

    Arrays: `free` nodes x GPUs, thousandths; `kinds` the kind of each node; `cpu` free millis of each node."""

    __slots__ = ("_cpu_bounds", "_group_counts", "_group_millis", "_millis", "_shares", "cpu_bounds")

    def __init__(self, typical: Mapping[Shape, float], kind_nodes: list[Node]) -> None:
        shapes = [(shape, share) for shape, share in typical.items() if shape[1]]
        groups = sorted({(count, millis) for (_, count, millis, _), _ in shapes})
        self._millis: Ints = np.array(sorted({millis for _, millis in groups}), np.int64)
        self._group_counts: Ints = np.array([count for count, _ in groups], np.int64)
        self._group_millis: Ints = np.searchsorted(self._millis, np.array([millis for _, millis in groups], np.int64))
        self.cpu_bounds = sorted({cpu for (cpu, *_), _ in shapes})
        self._cpu_bounds: Ints = np.array(self.cpu_bounds, np.int64)
        # [kind, how many cpu bounds are met, group] -> share of the mix that may run there
        self._shares: Floats = np.zeros((len(kind_nodes), len(self._cpu_bounds) + 1, len(groups)))
        at = {group: k for k, group in enumerate(groups)}
        for (cpu, count, millis, models), share in shapes:
            met = int(np.searchsorted(self._cpu_bounds, cpu)) + 1
            for kind, node in enumerate(kind_nodes):
                if not models or node.gpu_type in models:
                    self._shares[kind, met:, at[count, millis]] += share

    def met(self, cpu: Ints) -> Ints:
        """How many of the cpu bounds each of these free millis meets."""
        return np.searchsorted(self._cpu_bounds, cpu, side="right")

    def shares(self, kinds: Ints, met: Ints) -> Floats:
        """Nodes x groups: the share of the mix in the group that model and cpu allow on the node."""
        found: Floats = self._shares[kinds, met]
        return found

    def enough(self, free: Ints) -> tuple[Ints, Ints]:
        """Nodes x levels of millis: GPUs with so much free, and what is free on them together."""
        enough = free[:, :, None] >= self._millis
        return enough.sum(axis=1), (free[:, :, None] * enough).sum(axis=1)

    def useful(self, shares: Floats, counts: Ints, sums: Ints) -> Floats:
        """Expected idle thousandths that are of use, of each node."""
        runs = counts[:, self._group_millis] >= self._group_counts
        found: Floats = (shares * runs * sums[:, self._group_millis]).sum(axis=1)
        return found

    def after_shared(self, counts: Ints, sums: Ints, free: Ints, taken: int) -> tuple[Ints, Ints]:
        """`counts` and `sums` after `taken` thousandths of a GPU that had `free` (one per row) are gone."""
        before, left = free[:, None] >= self._millis, free[:, None] - taken
        after = left >= self._millis
        return counts - before + after, sums - before * free[:, None] + after * left

    def gain(self, kind: int, met: int, met_after: int, free: Ints, ask: Resources) -> float:
        """F before - F after of one node; `met` cpu bounds before and after. For a part of a GPU: on the best one."""
        if ask.gpu_count and ask.gpu_millis < WHOLE_MILLIS:
            return float(self.gpu_gains(kind, met, met_after, free, ask).max())
        taken = ask.gpu_count * WHOLE_MILLIS
        counts, sums = self.enough(free[None, :])
        before = self.useful(self._shares[kind, met], counts, sums)
        after = self.useful(self._shares[kind, met_after], counts - ask.gpu_count, sums - taken)
        return float((after - before)[0]) + taken

    def gpu_gains(self, kind: int, met: int, met_after: int, free: Ints, ask: Resources) -> Floats:
        """The same for each GPU of the node; -inf where the part does not fit."""
        counts, sums = self.enough(free[None, :])
        before = self.useful(self._shares[kind, met], counts, sums)
        after = self.after_shared(counts, sums, free, ask.gpu_millis)
        gains = self.useful(self._shares[kind, met_after], *after) - before + ask.gpu_millis
        return np.where(free >= ask.gpu_millis, gains, -np.inf)
