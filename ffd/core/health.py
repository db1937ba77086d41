"""Node health: what is known of each node beyond its inventory, and the rules that follow from it. Pure.

    open ── cordon ──► cordoned ── uncordon ──► open          by a person; `drain` cordons and stops what runs there
    open ── failures ──► quarantined ── time ──► on probation ── one success ──► open
                              ▲                       │
                              └── one failure, twice the time

A mark belongs to a name: a node that was lost and comes back has it still. An index of State, written by `State.apply`
and by loading only. Never here: who is stopped by a drain (core.nodes), what is free (space).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import msgspec
from msgspec.structs import replace

from ffd.core.model import NODE_CAUSES, Attempt, AttemptId, Cause, Timer
from ffd.core.policy import Policy

MARKS_COUNT = 100_000  # nodes with a mark
FAILURES_COUNT = 100  # failures that are kept of one node; no policy may ask for more
DOUBLINGS_COUNT = 20  # a quarantine doubles at most so often


class NodeMark(msgspec.Struct, frozen=True, omit_defaults=True):
    """The health of one node; NodeMark() = nothing is known against it, and it has no row.

    Closed by a person (`cordoned`, `by`, `why`), or by its failures (`quarantine`): the two are independent of each
    other, and a node takes work only while neither holds."""

    cordoned: bool = False
    draining: bool = False  # what ran there was told to go
    by: str = ""
    why: str = ""
    cordoned_at_ms: int = 0
    quarantine: Literal["", "closed", "probation"] = ""
    until_at_ms: int = 0  # end of a quarantine
    rounds_count: int = 0  # quarantines in a row, without a success in between
    failures: tuple[int, ...] = ()  # instants, oldest first
    lost_at_ms: int = 0  # when it was lost last
    last: str = ""  # the kind of its last failure

    @property
    def is_closed(self) -> bool:
        """Does it take no work?"""
        return self.cordoned or self.quarantine == "closed"


UNMARKED = NodeMark()


class Health:
    """The marks by name; nodes that are not there have none against them."""

    __slots__ = ("marks",)

    def __init__(self) -> None:
        self.marks: dict[str, NodeMark] = {}

    def mark(self, node: str) -> NodeMark:
        return self.marks.get(node, UNMARKED)

    def set(self, node: str, mark: NodeMark) -> tuple[str, ...]:
        """Keep this mark. Returns whose marks changed: with more than MARKS_COUNT nodes (names of a cloud are not used
        twice) the open one whose last failure lies furthest back is forgotten."""
        if mark == UNMARKED:
            self.marks.pop(node, None)
            return (node,)
        is_new = node not in self.marks
        self.marks[node] = mark
        if not is_new or len(self.marks) <= MARKS_COUNT:
            return (node,)
        idle = (found for found in self.marks.items() if not found[1].is_closed)
        oldest = min(idle, key=lambda found: (found[1].failures[-1:], found[0]), default=None)
        if oldest is None:
            return (node,)
        del self.marks[oldest[0]]
        return (node, oldest[0])

    def quarantined(self) -> list[str]:
        """Nodes that are closed by their failures, in the order of their first marks."""
        return [node for node, mark in self.marks.items() if mark.quarantine == "closed"]


# ---------------------------------------------------------------------------------------------------- how marks change


def cordoned(mark: NodeMark, by: str, why: str, is_draining: bool, at_ms: int) -> NodeMark:
    since = mark.cordoned_at_ms if mark.cordoned else at_ms
    return replace(mark, cordoned=True, draining=is_draining or mark.draining, by=by, why=why, cordoned_at_ms=since)


def failed(mark: NodeMark, kind: str, at_ms: int) -> NodeMark:
    failures = (*mark.failures, at_ms)[-FAILURES_COUNT:]
    return replace(mark, failures=failures, last=kind, lost_at_ms=at_ms if kind == "node-lost" else mark.lost_at_ms)


def quarantined(mark: NodeMark, until_at_ms: int) -> NodeMark:
    rounds = min(mark.rounds_count + 1, DOUBLINGS_COUNT)
    return replace(mark, quarantine="closed", until_at_ms=until_at_ms, rounds_count=rounds)


def on_probation(mark: NodeMark) -> NodeMark:
    return replace(mark, quarantine="probation", until_at_ms=0)


def proven(mark: NodeMark) -> NodeMark:
    """Work succeeded there: its failures are forgotten; what a person decided stays."""
    return replace(mark, quarantine="", until_at_ms=0, rounds_count=0, failures=(), lost_at_ms=0, last="")


# --------------------------------------------------------------------------------------------------------- the rules


def blamed_node(health: Health, attempt: Attempt, cause: Cause) -> str:
    """The node that this end of an attempt speaks against; "" = none. What runs on a lost node is lost together: that
    is one failure, however many attempts it cost."""
    if cause.kind not in NODE_CAUSES or not cause.node:
        return ""
    if cause.kind == "node-lost" and attempt.admitted_at_ms < health.mark(cause.node).lost_at_ms:
        return ""
    return cause.node


def proven_nodes(health: Health, attempt: Attempt) -> list[str]:
    """Nodes on probation that this attempt, which succeeded, ran on."""
    nodes = dict.fromkeys(place.node for place in attempt.places)
    return [node for node in nodes if health.mark(node).quarantine == "probation"]


def quarantine_ms(health: Health, node: str, inventory: Collection[str], policy: Policy, at_ms: int) -> int:
    """For how long the node is to be closed after the failure it just had; 0 = it stays as it is.

    When a large share of all nodes fails, the cause is hardly in the nodes (an image, a disk they share): then the rest
    stays open, so that a cluster never closes itself."""
    mark = health.mark(node)
    if mark.quarantine == "closed":
        return 0
    closed = sum(name in inventory for name in health.quarantined())
    if (closed + 1) * 100 > len(inventory) * policy.quarantine_nodes_percent:
        return 0
    recent = sum(failure > at_ms - policy.quarantine_window_ms for failure in mark.failures)
    if mark.quarantine != "probation" and recent < policy.quarantine_failures_count:
        return 0
    return min(policy.quarantine_ms << mark.rounds_count, longest_ms(policy))


def longest_ms(policy: Policy) -> int:
    """No quarantine lasts longer; an end that lies further ahead was stored under a clock that was set back since."""
    return max(policy.quarantine_ms, policy.quarantine_max_ms)


def end_at_ms(mark: NodeMark, policy: Policy, now_ms: int) -> int:
    """When the quarantine ends, as it looks now; in the past = it is over."""
    return mark.until_at_ms if mark.until_at_ms <= now_ms + longest_ms(policy) else now_ms


def closed_text(mark: NodeMark) -> str:
    """Why the node takes no work, for people; "" when it does."""
    reasons = []
    if mark.cordoned:
        word = "drained" if mark.draining else "cordoned"
        reasons.append(word + (f" by {mark.by}" if mark.by else "") + (f": {mark.why}" if mark.why else ""))
    if mark.quarantine == "closed":
        reasons.append(f"quarantined after {failures_text(mark)}")
    return "; ".join(reasons)


def failures_text(mark: NodeMark) -> str:
    count = len(mark.failures)
    return f"{count} infrastructure failure{'' if count == 1 else 's'}, the last: {mark.last}"


def quarantine_timer(node: str) -> Timer:
    """Not of item -1: that would name all timers of workflow 0, hence of all nodes."""
    return Timer("quarantine", AttemptId(0, node, 0, 0))
