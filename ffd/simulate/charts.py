"""The charts of the page as inline SVG: stacked use, waiting lines, a Gantt of gangs. No script: tooltips are <title>.

Every text that came from data goes through `escape`. Colours are classes (`t0`, `t1`, ...), so that the page's style
makes them legible in light and dark. Called by `page`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import accumulate

from ffd.simulate.record import Bar
from ffd.simulate.result import Line, Plot, Result

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 960, 56, 12, 10, 24
INNER = WIDTH - LEFT - RIGHT
HEIGHT = 220
LANE, GAP = 12, 2  # of the Gantt
CHAR = 6.2  # of a label in a bar, about
_STEPS_S = (1, 5, 15, 60, 300, 900, 3_600, 10_800, 21_600, 43_200, 86_400, 2 * 86_400, 7 * 86_400, 30 * 86_400)


def used_chart(result: Result, colours: Mapping[str, int]) -> str:
    """What each tenant held, stacked, below what there was."""
    plot = result.plot
    most = max([1.0, *plot.capacity, *_sums(plot)])
    frame = _Frame((result.end_ms - result.begin_ms) / 1_000, most, HEIGHT)
    parts = []
    below = [0.0] * len(plot.capacity)
    for line in plot.lines:
        above = [low + own for low, own in zip(below, line.used, strict=True)]
        mean = sum(line.used) / max(1, len(line.used))
        title = f"{line.tenant}: {mean:.1f} {result.unit}s on average"
        parts.append(
            f'<path class="t{colours[line.tenant]} area" d="{frame.band(below, above, plot.bin_s)}">'
            f"<title>{escape(title)}</title></path>"
        )
        below = above
    parts.append(
        f'<path class="capacity" d="{frame.steps(plot.capacity, plot.bin_s)}"><title>all there is</title></path>'
    )
    return frame.svg(parts, f"{result.unit}s in use, by project")


def waiting_chart(result: Result, colours: Mapping[str, int]) -> str:
    """Gangs that were ready and not admitted, one line per tenant."""
    plot = result.plot
    most = max([1.0, *(level for line in plot.lines for level in line.waiting)])
    frame = _Frame((result.end_ms - result.begin_ms) / 1_000, most, HEIGHT)
    parts = []
    for line in plot.lines:
        title = f"{line.tenant}: at most {max(line.waiting, default=0):.1f} gangs waited"
        parts.append(
            f'<path class="t{colours[line.tenant]} line" d="{frame.steps(line.waiting, plot.bin_s)}">'
            f"<title>{escape(title)}</title></path>"
        )
    return frame.svg(parts, "gangs that wait, by project")


def gantt(result: Result, colours: Mapping[str, int], others: int) -> str:
    """The attempts that held most for longest, packed into lanes."""
    length_ms = max(1, result.end_ms - result.begin_ms)
    lanes = _lanes(result.gantt)
    height = TOP + BOTTOM + max(1, len(lanes)) * (LANE + GAP)
    frame = _Frame(length_ms / 1_000, 0, height)
    parts = []
    for row, bars in enumerate(lanes):
        y = TOP + row * (LANE + GAP)
        for bar in bars:
            x = frame.x((bar.begin_ms - result.begin_ms) / 1_000)
            wide = max(1.0, frame.x((bar.end_ms - result.begin_ms) / 1_000) - x)
            where = f" on {bar.nodes}" if bar.nodes else ""
            title = (
                f"{bar.name} of {bar.tenant}: {bar.amount / 1_000:g} {result.unit}s in {bar.replicas} replicas{where}, "
                f"{span_text((bar.end_ms - bar.begin_ms) / 1_000)}, {bar.outcome}"
            )
            kind = f"t{colours.get(bar.tenant, others)} bar {escape(bar.outcome)}"
            parts.append(
                f'<g><title>{escape(title)}</title><rect class="{kind}" x="{x:.1f}" y="{y}" width="{wide:.1f}" '
                f'height="{LANE}" rx="2"/>{_label(bar, x, y, wide)}</g>'
            )
    return frame.svg(parts, "gangs over time")


def _label(bar: Bar, x: float, y: int, wide: float) -> str:
    shown = int((wide - 6) / CHAR)
    if shown < 4:
        return ""
    text = bar.name if len(bar.name) <= shown else bar.name[: shown - 1] + "…"
    return f'<text class="inbar" x="{x + 3:.1f}" y="{y + LANE - 3}">{escape(text)}</text>'


def _lanes(bars: Sequence[Bar]) -> list[list[Bar]]:
    """Each bar into the first lane that is free at its begin."""
    lanes: list[list[Bar]] = []
    for bar in sorted(bars, key=lambda bar: (bar.begin_ms, -bar.amount, bar.name)):
        lane = next((lane for lane in lanes if lane[-1].end_ms <= bar.begin_ms), None)
        if lane is None:
            lanes.append([bar])
        else:
            lane.append(bar)
    return lanes


def _sums(plot: Plot) -> list[float]:
    return [sum(levels) for levels in zip(*(line.used for line in plot.lines), strict=True)]


def tenants_of(results: Sequence[Result]) -> dict[str, int]:
    """A colour number for each tenant that has a line in a plot, the same in all results."""
    lines: list[Line] = [line for result in results for line in result.plot.lines]
    return {name: number for number, name in enumerate(dict.fromkeys(line.tenant for line in lines))}


def span_text(seconds: float) -> str:
    """`850ms`, `12s`, `3m05s`, `2h07m`, `4d03h`: at most two units."""
    if seconds < 1:
        return f"{seconds * 1_000:.0f}ms"
    whole = int(seconds)
    for big, small, words in ((60, 1, "ms"), (3_600, 60, "hm"), (86_400, 3_600, "dh")):
        if whole < big * (60 if big == 60 else 24) or big == 86_400:
            if whole < 60:
                return f"{whole}s"
            return f"{whole // big}{words[0]}{whole % big // small:02d}{words[1]}"
    raise AssertionError(seconds)


class _Frame:
    """Axes: time from left to right, in seconds; a level from 0 up to `most` (0: no axis)."""

    def __init__(self, length_s: float, most: float, height: int) -> None:
        self.length_s = max(length_s, 1e-3)
        self.most = _round_up(most) if most else 0.0
        self.height = height

    def x(self, at_s: float) -> float:
        return LEFT + INNER * min(1.0, max(0.0, at_s / self.length_s))

    def y(self, level: float) -> float:
        return TOP + (self.height - TOP - BOTTOM) * (1 - level / self.most)

    def steps(self, levels: Sequence[float], bin_s: float) -> str:
        """A step function as a path."""
        if not levels:
            return ""
        parts = [f"M{LEFT:.1f} {self.y(levels[0]):.1f}"]
        last = levels[0]
        for index, level in enumerate(levels):
            if level != last:
                parts.append(f"H{self.x(index * bin_s):.1f}V{self.y(level):.1f}")
                last = level
        return "".join([*parts, f"H{self.x(len(levels) * bin_s):.1f}"])

    def band(self, below: Sequence[float], above: Sequence[float], bin_s: float) -> str:
        """The area between two step functions."""
        if not above:
            return ""
        back = [f"V{self.y(below[-1]):.1f}"]
        for index in range(len(below) - 1, 0, -1):
            if below[index - 1] != below[index]:
                back.append(f"H{self.x(index * bin_s):.1f}V{self.y(below[index - 1]):.1f}")
        return self.steps(above, bin_s) + "".join(back) + f"H{LEFT:.1f}Z"

    def svg(self, parts: Sequence[str], label: str) -> str:
        bottom = self.height - BOTTOM
        lines = []
        step_s = next((step for step in _STEPS_S if self.length_s / step <= 10), self.length_s / 8)
        for at_s in accumulate([0.0] + [step_s] * int(self.length_s / step_s)):
            x = self.x(at_s)
            lines.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
            lines.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{_tick(at_s)}</text>')
        for share in (0, 0.5, 1) if self.most else ():
            y = self.y(self.most * share)
            lines.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            lines.append(
                f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{self.most * share:g}</text>'
            )
        inner = "".join([*lines, *parts])
        return (
            f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{escape(label)}" '
            f'xmlns="http://www.w3.org/2000/svg">{inner}</svg>'
        )


def _tick(at_s: float) -> str:
    return span_text(at_s).replace("h00m", "h").replace("d00h", "d").replace("m00s", "m") if at_s else "0"


def _round_up(level: float) -> float:
    """The next of 1, 2, 5 times a power of ten, or the level itself when it is a round number of few digits."""
    if level == int(level) and level >= 8:
        return level
    power = 10.0 ** math.floor(math.log10(level))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= level)
