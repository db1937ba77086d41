"""The recent mix of GPU requests: which shapes are asked for, and how often. What fragmentation is measured against.

Learnt from what is admitted (`State`), in bounded memory, older requests counting less; no clock. It is not stored:
after a restart it is learnt again, at first from the work that is live. Read by `core.schedule`. Never here: scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ffd.core.spec import Resources

Shape = tuple[int, int, int, tuple[str, ...]]  # cpu millis, GPUs, thousandths of each, models (empty = any)

SHAPES_MOST_COUNT = 256  # shapes that are counted; the rarest makes room
COVERED = 0.95  # typical shapes cover this much of the mix, as in "Beware of Fragmentation" (ATC'23)
HALVED_AT = 16_384.0  # counts are halved when so many requests are counted
RENEWED_AFTER = 0.25  # the typical shapes are made anew when the counts grew by this share
DRIFT = 0.05  # ... and taken when at least this much of their weight moved


def shape_of(ask: Resources) -> Shape:
    return ask.cpu_millis, ask.gpu_count, ask.gpu_millis, ask.gpu_types


class Mix:
    """`typical`: the shapes that matter and their shares (sum 1), most frequent first. `stamp` grows with it."""

    __slots__ = ("_counts", "_due_at", "_is_primed", "_total", "stamp", "typical")

    def __init__(self) -> None:
        self._counts: dict[Shape, float] = {}
        self._total = 0.0
        self._due_at = 16.0
        self._is_primed = False
        self.typical: dict[Shape, float] = {}
        self.stamp = 0

    def observe(self, ask: Resources, replicas: int) -> None:
        """So many replicas of this were admitted. What asks no GPU fragments none and is not counted."""
        if not ask.gpu_count or self._is_primed:
            return
        shape, counts = shape_of(ask), self._counts
        if shape not in counts and len(counts) >= SHAPES_MOST_COUNT:
            self._total -= counts.pop(min(counts, key=lambda known: counts[known]))
        counts[shape] = counts.get(shape, 0.0) + replicas
        self._total += replicas
        if self._total >= self._due_at:
            self._renew()

    def prime(self, counts: Mapping[Shape, float]) -> None:
        """Take these counts for the mix, for good: nothing more is learnt. Shapes without GPUs count as well."""
        self._counts = dict(counts)
        self._total = float(sum(counts.values()))
        self._take(typical(counts.items()))
        self._is_primed = True

    def frozen(self) -> Mix:
        """The same mix, for a trial: what it learns changes nothing."""
        found = Mix()
        found.typical, found.stamp, found._is_primed = self.typical, self.stamp, True
        return found

    def _renew(self) -> None:
        if self._total >= HALVED_AT:
            self._counts = {shape: count / 2 for shape, count in self._counts.items() if count > 1}
            self._total = float(sum(self._counts.values()))  # of nothing it would be no float
        found = typical(self._counts.items())
        moved = float(sum(abs(share - self.typical.get(shape, 0.0)) for shape, share in found.items()))
        moved += float(sum(share for shape, share in self.typical.items() if shape not in found))
        if moved > DRIFT:
            self._take(found)
        self._due_at = self._total * (1 + RENEWED_AFTER)

    def _take(self, found: dict[Shape, float]) -> None:
        self.typical = found
        self.stamp += 1


def typical(counts: Iterable[tuple[Shape, float]]) -> dict[Shape, float]:
    """The most frequent shapes that together cover 95 %, renormalised."""
    ordered = sorted(counts, key=lambda pair: (-pair[1], pair[0]))
    bound = COVERED * float(sum(count for _, count in ordered))
    found: dict[Shape, float] = {}
    covered = 0.0
    for shape, count in ordered:
        if covered >= bound:
            break
        found[shape] = count
        covered += count
    return {shape: count / covered for shape, count in found.items()}
