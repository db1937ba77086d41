"""The named limits of a document: what keeps validation cheap whatever is submitted. Numbers only."""

from __future__ import annotations

import msgspec

from ffd.core.expr import LIMITS, ExprLimits


class DocumentLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Units end the names. A document beyond one is refused by the limit's name, in time that does not depend on how
    far beyond it is."""

    source_bytes: int = 32 << 20  # as written, JSON
    yaml_bytes: int = 8 << 20  # as written, YAML: ten times dearer to read
    depth_count: int = 64  # maps in lists in maps
    expanded_nodes_count: int = 2_000_000  # scalars, lists and maps after aliases are followed
    tasks_count: int = 200_000
    edges_count: int = 2_000_000  # needs of all tasks, written or inferred
    expressions_count: int = 200_000  # `${{ }}`, `when` and `foreach` of all tasks
    fanout_items_count: int = 100_000  # items of one task, where the document alone tells
    params_count: int = 1_000
    outputs_count: int = 1_000  # of one task
    string_bytes: int = 1 << 20  # one string: a script, a file
    retries_count: int = 100  # `retry.max` of one task
    param_bytes: int = 256 << 10  # all parameter values of one workflow, as JSON
    faults_count: int = 100  # more are counted, not listed
    expressions: ExprLimits = LIMITS
