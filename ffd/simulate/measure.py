"""Numbers that are gathered while a simulation goes on, in bounded memory: distributions, and step functions of time.

Used by `record`. Never here: what is measured, or how it is shown.
"""

from __future__ import annotations

from array import array
from collections import Counter

EXACT_COUNT = 200_000  # values that are kept as they are; beyond them quantiles are within 0.8 %
BITS = 7  # of a value that are told apart in the histogram
BINS_COUNT = 256  # at most so many bins of a series; then two become one


class Distribution:
    """Values of 0 or more (ms). Count, sum and maximum are exact; quantiles too, up to `EXACT_COUNT` values, then they
    come from a histogram of bins that grow with the value (as HdrHistogram has them: a value's top `BITS` bits)."""

    __slots__ = ("_bins", "_is_sorted", "_values", "count", "max", "sum")

    def __init__(self) -> None:
        self.count = self.sum = self.max = 0
        self._values = array("q")
        self._is_sorted = True
        self._bins: Counter[int] = Counter()  # smallest value of the bin -> how many

    def add(self, value: int) -> None:
        self.count += 1
        self.sum += value
        if value > self.max:
            self.max = value
        if self._bins:
            self._bins[_bin(value)] += 1
            return
        self._values.append(value)
        self._is_sorted = False
        if self.count >= EXACT_COUNT:
            self._bins.update(map(_bin, self._values))
            self._values = array("q")

    @property
    def mean(self) -> float:
        return self.sum / self.count if self.count else 0.0

    def quantile(self, share: float) -> int:
        """The smallest value that at least this share of all values does not exceed (nearest rank); 0 of nothing."""
        rank = max(1, -int(-self.count * share // 1))
        if self._bins:
            for low in sorted(self._bins):
                rank -= self._bins[low]
                if rank <= 0:
                    return low
        if not self._is_sorted:
            self._values = array("q", sorted(self._values))
            self._is_sorted = True
        return self._values[min(rank, self.count) - 1] if self.count else 0


def _bin(value: int) -> int:
    shift = max(0, value.bit_length() - BITS)
    return value >> shift << shift


class Series:
    """A step function of time (an amount in use, a number that wait), its exact integral, and its integral over each of
    at most `BINS_COUNT` bins of equal width: when time outgrows them, each two become one."""

    __slots__ = ("_at_ms", "begin_ms", "bins", "integral", "level", "peak", "width_ms")

    def __init__(self, begin_ms: int, width_ms: int = 1_000) -> None:
        self.begin_ms = self._at_ms = begin_ms
        self.width_ms = width_ms
        self.bins: list[int] = []
        self.level = self.peak = 0
        self.integral = 0  # level x ms, until the last change

    def add(self, at_ms: int, change: int) -> None:
        """The level changes now."""
        self.advance(at_ms)
        self.level += change
        if self.level > self.peak:
            self.peak = self.level

    def advance(self, at_ms: int) -> None:
        """Time went on."""
        if at_ms <= self._at_ms:
            return
        if self.level:
            self.integral += self.level * (at_ms - self._at_ms)
            self._fill(self._at_ms - self.begin_ms, at_ms - self.begin_ms)
        self._at_ms = at_ms

    def _fill(self, start_ms: int, end_ms: int) -> None:
        while end_ms > self.width_ms * BINS_COUNT:
            odd = [*self.bins, 0]
            self.bins = [odd[k] + odd[k + 1] for k in range(0, len(self.bins), 2)]
            self.width_ms *= 2
        width, level, bins = self.width_ms, self.level, self.bins
        last = (end_ms - 1) // width
        if last >= len(bins):
            bins.extend([0] * (last + 1 - len(bins)))
        first = start_ms // width
        if first == last:
            bins[last] += level * (end_ms - start_ms)
            return
        bins[first] += level * ((first + 1) * width - start_ms)
        for k in range(first + 1, last):
            bins[k] += level * width
        bins[last] += level * (end_ms - last * width)

    def means(self, width_ms: int, end_ms: int) -> list[float]:
        """Mean level over each bin of `width_ms` (its own times a power of two) from the begin to `end_ms`."""
        times = width_ms // self.width_ms
        length_ms = end_ms - self.begin_ms
        found = []
        for k in range(-(-length_ms // width_ms)):
            covered_ms = min(width_ms, length_ms - k * width_ms)
            found.append(sum(self.bins[k * times : (k + 1) * times]) / covered_ms)
        return found
