"""How the scheduler decides, where an operator may choose: one frozen struct, given to the core like the limits.

The settings group `[scheduling]` extends it. Read by `core.admit`, `core.schedule` and `core.space`. Never here: limits
(core.limits), quotas and weights (core.tenancy: those change while the daemon runs).
"""

from __future__ import annotations

import msgspec


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The defaults are those of the product; `fifo`, `sjf`, `bestfit` and `fgd` exist to compare with (see bench)."""

    placement: str = "default"  # default | fgd | bestfit: how nodes are scored
