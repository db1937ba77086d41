"""Draws a directed acyclic graph as text, from top to bottom, one node per line, edges as lanes on the left.

Knows nothing of tasks: nodes are names with labels. Called by `graph.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

NODE = "\N{BLACK CIRCLE}"


def draw(order: Sequence[str], children: Mapping[str, Sequence[str]], labels: Mapping[str, str]) -> list[str]:
    """Lines of text. `order` holds every node after its parents; `children` may name only later nodes."""
    drawing = _Drawing()
    for name in order:
        drawing.node(name, labels[name])
        drawing.edges(children.get(name, ()))
    return drawing.lines


def width_count(order: Sequence[str], children: Mapping[str, Sequence[str]]) -> int:
    """Lanes that `draw` would need at most."""
    waiting: set[str] = set()
    widest = 0
    for name in order:
        waiting.discard(name)
        waiting.update(children.get(name, ()))
        widest = max(widest, len(waiting) + 1)
    return widest


class _Drawing:
    """`lanes[i]` is the node that lane i leads down to, "" when the lane is free."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.lanes: list[str] = []
        self._at = -1  # lane of the node drawn last
        self._ended = False  # nothing leads on from that node

    def node(self, name: str, label: str) -> None:
        is_root = name not in self.lanes
        above, self._at = self._at, self._lane_of(name)
        if is_root and self._ended and above == self._at:  # a gap, or the node above would seem to lead here
            self.lines.append(" ".join("│" if target and target != name else " " for target in self.lanes).rstrip())
        cells = [NODE if lane == self._at else "│" if target else " " for lane, target in enumerate(self.lanes)]
        self.lines.append(" ".join(cells).rstrip() + "  " + label)
        self.lanes[self._at] = ""

    def edges(self, children: Sequence[str]) -> None:
        """The first child that has no lane yet continues below the node; the others turn off to the side."""
        self._ended = not children
        before = list(self.lanes)
        known = [child for child in children if child in self.lanes]
        fresh = [child for child in children if child not in self.lanes]
        targets = [self.lanes.index(child) for child in known]
        if fresh:
            self.lanes[self._at] = fresh[0]
            before[self._at] = ""
            targets += [self._lane_of(child) for child in fresh[1:]]
        if targets:
            self._turn(targets, before, goes_down=bool(fresh))
        while self.lanes and not self.lanes[-1]:
            self.lanes.pop()

    def _lane_of(self, name: str) -> int:
        if name in self.lanes:
            return self.lanes.index(name)
        if "" in self.lanes:
            lane = self.lanes.index("")
            self.lanes[lane] = name
            return lane
        self.lanes.append(name)
        return len(self.lanes) - 1

    def _turn(self, targets: list[int], before: list[str], *, goes_down: bool) -> None:
        """One line on which the node's edges reach the lanes in `targets`, over the lanes in between."""
        left, right = min(*targets, self._at), max(*targets, self._at)
        pieces: list[str] = []
        for lane in range(len(self.lanes)):
            is_old = lane < len(before) and bool(before[lane])
            inside = left <= lane <= right
            if lane == self._at:
                cell = _NODE_TURNS[(left < lane, right > lane, goes_down)]
            elif lane in targets:
                cell = _TARGET_TURNS[(is_old, lane > left, lane < right)]
            elif is_old:
                cell = "│"
            else:
                cell = "─" if inside else " "
            pieces += [cell, "─" if left <= lane < right else " "]
        self.lines.append("".join(pieces).rstrip())


# What stands below a node: (an edge goes left, one goes right, one goes down).
_NODE_TURNS = {
    (False, True, True): "├",
    (True, False, True): "┤",
    (True, True, True): "┼",
    (False, True, False): "╰",
    (True, False, False): "╯",
    (True, True, False): "┴",
    (False, False, True): "│",
}
# What stands where an edge reaches a lane: (the lane was there before, the line comes from the left, goes on right).
_TARGET_TURNS = {
    (True, True, False): "┤",
    (True, False, True): "├",
    (True, True, True): "┼",
    (False, True, False): "╮",
    (False, False, True): "╭",
    (False, True, True): "┬",
}
