"""Removal of ended workflows from the SQLite database, in slices, so that commits get their turn in between.

A workflow leaves the list at once (`unlist`); its other rows follow (`remove_slice`), also after a crash: the table
`leaving` remembers. Then what nobody needs any more of the story's front (`trim_slice`). Runs in the writer thread.
"""

from __future__ import annotations

import sqlite3

import msgspec

from ffd.plugins.store import schema, story
from ffd.plugins.store.sqlite_writer import Writer

SLICE_ROW_COUNT = 5_000  # rows removed in one transaction: some ten milliseconds


class Policy(msgspec.Struct, frozen=True):
    """What `Store.sweep` was asked. 0 = keep for ever."""

    now_ms: int
    success_ms: int
    failure_ms: int
    limit: int


def unlist(writer: Writer, policy: Policy) -> list[int]:
    """Take the workflows that are due off the list, longest due first, at most `policy.limit`."""
    with writer.transaction() as db:
        due = sorted(_due(db, policy))[: max(0, policy.limit)]
        workflows = [workflow for _, workflow in due]
        for statement in schema.UNLIST:
            db.execute(statement, (msgspec.json.encode(workflows).decode(),))
    return workflows


def _due(db: sqlite3.Connection, policy: Policy) -> list[tuple[int, int]]:
    limit = max(0, policy.limit)
    due: list[tuple[int, int]] = db.execute(schema.DUE_BY_ITSELF, (policy.now_ms, limit)).fetchall()
    keeps = (("succeeded", policy.success_ms), ("failed", policy.failure_ms), ("cancelled", policy.failure_ms))
    for state, keep_ms in keeps:
        if keep_ms > 0:
            due += db.execute(schema.DUE_BY_POLICY, (keep_ms, state, policy.now_ms, limit)).fetchall()
    return due


def remove_slice(writer: Writer) -> bool:
    """Remove some rows of workflows that are leaving; False when none was left."""
    with writer.transaction() as db:
        budget = SLICE_ROW_COUNT
        while budget > 0:
            leaving = db.execute(schema.NEXT_LEAVING).fetchone()
            if leaving is None:
                return budget < SLICE_ROW_COUNT
            workflow, spec = leaving
            for statement in schema.REMOVE_ROWS:
                budget -= db.execute(statement, (workflow, budget)).rowcount
            if budget > 0:  # so none of its rows is left
                db.execute(schema.GONE, (workflow,))
                _remove_spec(db, spec)
                budget -= 1
    return True


def _remove_spec(db: sqlite3.Connection, spec: str) -> None:
    if not db.execute(schema.SPEC_IS_USED, (spec,)).fetchone()[0]:
        for statement in schema.REMOVE_SPEC:
            db.execute(statement, (spec,))


def trim_slice(writer: Writer) -> bool:
    """Remove some of what no workflow's story needs any more; False when nothing was left. The last commit stays."""
    with writer.transaction() as db:
        (floor,) = db.execute(schema.FLOOR).fetchone()
        given = (floor, SLICE_ROW_COUNT)
        entries = sum(db.execute(schema.TRIM_STORY, (*given, kind)).rowcount for kind in story.REPLACED)
        return entries + db.execute(schema.TRIM_COMMITS, given).rowcount > 0
