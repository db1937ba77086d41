"""How the scheduler decides, where an operator may choose: one frozen struct, given to the core like the limits.

The settings group `[scheduling]` extends it. Read by `core.admit`, `core.schedule` and the indexes they read. Never
here: limits (core.limits), quotas and weights (core.tenancy: those change while the daemon runs).
"""

from __future__ import annotations

import msgspec

LEVELS = {"nvlink": "nvlink", "same-rack": "rack", "block": "block", "zone": "zone"}


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The defaults are those of the product; `fifo`, `sjf`, `bestfit` and `fgd` exist to compare with (see bench)."""

    order: str = "fair"  # fair | fifo | sjf: who goes first; fifo and sjf know neither tenants' shares nor priority
    backfill: bool = True  # may others go ahead of a gang that does not fit, without delaying it?
    reservations_count: int = 1  # gangs that wait for space and are sure of their start, at most at once
    project_reservations_count: int = 4  # the same while only one project waits: submit order holds, shares would not
    overtakes_count: int = 16  # gangs that may overtake one whose start nobody knows, before room is kept for it
    preempt: str = "all"  # all | reclaim | off: stop gangs for what a tenant is due, and for a higher priority
    patience_ms: int = 600_000  # nobody is stopped for a gang that will start by itself within this time
    victims_count: int = 64  # gangs that one preemption may stop
    aging_admissions_count: int = 100  # later admissions of its project that earn a waiting gang one point of priority
    aging_points_count: int = 100  # points of priority that waiting earns at most; 0 = waiting earns nothing
    usage_half_life_ms: int = 0  # what was held counts too, half of it after this time; 0 = it does not
    placement: str = "default"  # default | fgd | bestfit: how nodes are scored
    # topology words of documents -> the node label that names the domain; a word that is not here is itself the label
    levels: dict[str, str] = msgspec.field(default_factory=LEVELS.copy)
    quarantine_failures_count: int = 3  # infrastructure failures of one node that close it; at most 100
    quarantine_window_ms: int = 3_600_000  # within which they count
    quarantine_ms: int = 600_000  # for how long; twice as long each time it fails again on probation
    quarantine_max_ms: int = 86_400_000  # but never longer
    quarantine_nodes_percent: int = 50  # of all nodes: when more fail, the cause is hardly in the nodes
