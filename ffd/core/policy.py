"""How the scheduler decides, where an operator may choose: one frozen struct, given to the core like the limits.

The settings group `[scheduling]` extends it. Read by `core.admit`, `core.schedule` and `core.space`. Never here: limits
(core.limits), quotas and weights (core.tenancy: those change while the daemon runs).
"""

from __future__ import annotations

import msgspec

LEVELS = {"nvlink": "nvlink", "same-rack": "rack", "block": "block", "zone": "zone"}


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The defaults are those of the product; `fifo`, `sjf`, `bestfit` and `fgd` exist to compare with (see bench)."""

    placement: str = "default"  # default | fgd | bestfit: how nodes are scored
    # topology words of documents -> the node label that names the domain; a word that is not here is itself the label
    levels: dict[str, str] = msgspec.field(default_factory=LEVELS.copy)
    quarantine_failures_count: int = 3  # infrastructure failures of one node that close it; at most 100
    quarantine_window_ms: int = 3_600_000  # within which they count
    quarantine_ms: int = 600_000  # for how long; twice as long each time it fails again on probation
    quarantine_max_ms: int = 86_400_000  # but never longer
    quarantine_nodes_percent: int = 50  # of all nodes: when more fail, the cause is hardly in the nodes
