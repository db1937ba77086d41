"""The tables of the SQLite store and the statements on them. Text only; used by `sqlite*` and nobody else."""

from __future__ import annotations

from functools import cache

import msgspec

VERSION = 1  # PRAGMA user_version; a higher one is refused
LAST_NUMBER = 2**63 - 1  # no commit has a higher one

TABLES = (
    """CREATE TABLE commits(
        number INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, at_ms INTEGER NOT NULL, entries INTEGER NOT NULL,
        payload BLOB NOT NULL, digest BLOB NOT NULL)""",
    """CREATE TABLE story(
        number INTEGER NOT NULL, idx INTEGER NOT NULL, workflow INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        count INTEGER NOT NULL, spec TEXT NOT NULL, digest BLOB NOT NULL, events BLOB NOT NULL,
        PRIMARY KEY(number, idx)) WITHOUT ROWID""",
    "CREATE INDEX story_workflow ON story(workflow)",
    "CREATE INDEX story_spec ON story(spec) WHERE spec <> ''",
    "CREATE TABLE specs(digest TEXT PRIMARY KEY, row BLOB NOT NULL)",
    """CREATE TABLE workflows(
        id INTEGER PRIMARY KEY, project TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL,
        state TEXT NOT NULL, by TEXT NOT NULL, live INTEGER NOT NULL, accepted_at_ms INTEGER NOT NULL,
        ended_at_ms INTEGER NOT NULL, keep_ms INTEGER NOT NULL, spec TEXT NOT NULL, row BLOB NOT NULL)""",
    # Recovery walks this one, so its time does not depend on how much history there is.
    "CREATE INDEX workflows_live ON workflows(id) WHERE live = 1",
    # Every index ends in the id, so pages in the order of ids come straight from each of these three.
    "CREATE INDEX workflows_state ON workflows(state)",
    "CREATE INDEX workflows_project ON workflows(project)",
    "CREATE INDEX workflows_name ON workflows(name)",
    "CREATE INDEX workflows_handle ON workflows(number, name)",
    "CREATE INDEX workflows_spec ON workflows(spec)",
    "CREATE INDEX workflows_policy ON workflows(state, ended_at_ms) WHERE live = 0 AND keep_ms = 0",
    "CREATE INDEX workflows_kept ON workflows(ended_at_ms + keep_ms) WHERE live = 0 AND keep_ms > 0",
    "CREATE TABLE tasks(workflow INTEGER, task TEXT, row BLOB NOT NULL, PRIMARY KEY(workflow, task)) WITHOUT ROWID",
    """CREATE TABLE items(
        workflow INTEGER, task TEXT, item INTEGER, row BLOB NOT NULL, PRIMARY KEY(workflow, task, item)
        ) WITHOUT ROWID""",
    "CREATE TABLE meta(name TEXT PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE lease(
        one INTEGER PRIMARY KEY CHECK(one = 1), epoch INTEGER NOT NULL, owner TEXT NOT NULL, address TEXT NOT NULL,
        renewals INTEGER NOT NULL, held INTEGER NOT NULL, locked INTEGER NOT NULL)""",
    "INSERT INTO lease VALUES(1, 0, '', '', 0, 0, 0)",
    # Workflows that retention took off the list and whose other rows are still being removed.
    "CREATE TABLE leaving(workflow INTEGER PRIMARY KEY, spec TEXT NOT NULL)",
)


class Put(msgspec.Struct, frozen=True):
    """A statement that writes any number of rows of `width` values at once: `head` VALUES (?..), (?..) `tail`."""

    head: str
    width: int
    tail: str = ""


@cache
def put_sql(put: Put, row_count: int) -> str:
    row = f"({','.join('?' * put.width)})"
    return f"{put.head} VALUES {','.join([row] * row_count)} {put.tail}"


PUT_SPECS = Put("INSERT OR IGNORE INTO specs", 2)  # named by their content: the same digest is the same row
PUT_WORKFLOWS = Put(
    "INSERT INTO workflows",
    12,
    """ON CONFLICT(id) DO UPDATE SET live = excluded.live, project = excluded.project, name = excluded.name,
       number = excluded.number, state = excluded.state, by = excluded.by, accepted_at_ms = excluded.accepted_at_ms,
       ended_at_ms = excluded.ended_at_ms, keep_ms = excluded.keep_ms, row = excluded.row""",
)
PUT_TASKS = Put("REPLACE INTO tasks", 3)
PUT_ITEMS = Put("REPLACE INTO items", 4)
PUT_META = Put("REPLACE INTO meta", 2)
PUT_STORY = Put("INSERT INTO story", 8)

LAST_COMMIT = "SELECT number, epoch, at_ms, entries, payload, digest FROM commits ORDER BY number DESC LIMIT 1"
PUT_COMMIT = "INSERT INTO commits VALUES(?, ?, ?, ?, ?, ?)"
LEASE = """SELECT epoch, owner, address, renewals, held, locked, (SELECT coalesce(max(number), 0) FROM commits)
    FROM lease"""
PUT_LEASE = "UPDATE lease SET epoch = ?, owner = ?, address = ?, renewals = ?, held = ?, locked = ?"
LEASE_EPOCH = "SELECT epoch FROM lease"
RELEASE = "UPDATE lease SET held = 0 WHERE epoch = ? AND owner = ?"

LIVE_WORKFLOWS = "SELECT id, row FROM workflows WHERE live = 1 ORDER BY id"
LIVE_TASKS = """SELECT t.workflow, t.task, t.row FROM workflows w CROSS JOIN tasks t ON t.workflow = w.id
    WHERE w.live = 1 ORDER BY w.id, t.task"""
LIVE_ITEMS = """SELECT i.workflow, i.task, i.item, i.row FROM workflows w CROSS JOIN items i ON i.workflow = w.id
    WHERE w.live = 1 ORDER BY w.id, i.task, i.item"""
LIVE_SPECS = """SELECT digest, row FROM specs
    WHERE digest IN (SELECT spec FROM workflows WHERE live = 1) ORDER BY digest"""
META = "SELECT name, row FROM meta ORDER BY name"

# One statement, hence one snapshot: kind, name, item, row.
WORKFLOW = """
    SELECT 'workflow', '', 0, row FROM workflows WHERE id = ?1
    UNION ALL SELECT 'spec', s.digest, 0, s.row FROM workflows w JOIN specs s ON s.digest = w.spec WHERE w.id = ?1
    UNION ALL SELECT 'task', t.task, 0, t.row FROM workflows w JOIN tasks t ON t.workflow = w.id WHERE w.id = ?1
    UNION ALL SELECT 'item', i.task, i.item, i.row FROM workflows w JOIN items i ON i.workflow = w.id WHERE w.id = ?1"""

LISTING = "SELECT id, project, name, number, state, by, live, accepted_at_ms, ended_at_ms, keep_ms FROM workflows"

ENTRY = "SELECT e.number, e.idx, e.workflow, e.at_ms, e.count, e.spec, e.digest, e.events, s.row FROM story e"
# From the entry that holds the position (its start may lie before it) or the next one.
STORY = f"""{ENTRY} LEFT JOIN specs s ON s.digest = e.spec
    WHERE (e.number, e.idx) >= (?1, coalesce((SELECT max(idx) FROM story WHERE number = ?1 AND idx <= ?2), ?2))
    ORDER BY e.number, e.idx LIMIT ?3"""
WORKFLOW_STORY = f"""{ENTRY} INDEXED BY story_workflow LEFT JOIN specs s ON s.digest = e.spec
    WHERE e.workflow = ?4 AND (e.number, e.idx) >= (?1, coalesce(
        (SELECT max(idx) FROM story WHERE workflow = ?4 AND number = ?1 AND idx <= ?2), ?2))
    ORDER BY e.number, e.idx LIMIT ?3"""

# Retention. Ended workflows by when they are due: under the store-wide policy of their state, or by their own.
DUE_BY_POLICY = """SELECT ended_at_ms + ?1, id FROM workflows WHERE live = 0 AND keep_ms = 0 AND state = ?2
    AND ended_at_ms <= ?3 - ?1 ORDER BY ended_at_ms, id LIMIT ?4"""
DUE_BY_ITSELF = """SELECT ended_at_ms + keep_ms, id FROM workflows WHERE live = 0 AND keep_ms > 0
    AND ended_at_ms + keep_ms <= ?1 ORDER BY ended_at_ms + keep_ms, id LIMIT ?2"""
UNLIST = (
    "INSERT OR IGNORE INTO leaving SELECT id, spec FROM workflows WHERE id IN (SELECT value FROM json_each(?1))",
    "DELETE FROM workflows WHERE id IN (SELECT value FROM json_each(?1))",
)
NEXT_LEAVING = "SELECT workflow, spec FROM leaving ORDER BY workflow LIMIT 1"
# At most ?2 rows each. The story goes from its end, so what is left of it can always be replayed.
REMOVE_ROWS = (
    """DELETE FROM items WHERE workflow = ?1 AND (task, item) IN (
        SELECT task, item FROM items WHERE workflow = ?1 LIMIT ?2)""",
    "DELETE FROM tasks WHERE workflow = ?1 AND task IN (SELECT task FROM tasks WHERE workflow = ?1 LIMIT ?2)",
    """DELETE FROM story WHERE (number, idx) IN (SELECT number, idx FROM story INDEXED BY story_workflow
        WHERE workflow = ?1 ORDER BY number DESC, idx DESC LIMIT ?2)""",
)
GONE = "DELETE FROM leaving WHERE workflow = ?1"
SPEC_IS_USED = "SELECT EXISTS(SELECT 1 FROM workflows WHERE spec = ?1) OR EXISTS(SELECT 1 FROM leaving WHERE spec = ?1)"
REMOVE_SPEC = ("DELETE FROM specs WHERE digest = ?1", "DELETE FROM story WHERE spec = ?1 AND spec <> ''")
# Before the floor no workflow has any story: of what is replaced there (entries of one event that begin with ?3) only
# the last still matters, and no commit.
FLOOR = """SELECT coalesce((SELECT number FROM story WHERE workflow <> 0 ORDER BY number, idx LIMIT 1),
    (SELECT max(number) FROM commits), 0)"""
TRIM_STORY = """DELETE FROM story WHERE (number, idx) IN (SELECT number, idx FROM story INDEXED BY story_workflow
    WHERE workflow = 0 AND number < ?1 AND count = 1 AND substr(events, 1, length(?3)) = ?3
    ORDER BY number DESC, idx DESC LIMIT ?2 OFFSET 1)"""
TRIM_COMMITS = """DELETE FROM commits WHERE number < ?1
    AND number < (SELECT number FROM commits ORDER BY number LIMIT 1) + ?2"""

# Checking.
COMMITS = (
    "SELECT number, epoch, at_ms, entries, payload, digest FROM commits WHERE number >= ?1 ORDER BY number LIMIT ?2"
)
ENTRIES = """SELECT number, idx, workflow, at_ms, count, spec, digest, events FROM story
    WHERE number BETWEEN ?1 AND ?2 ORDER BY number, idx"""
FIRST_COMMIT = "SELECT coalesce(min(number), 0) FROM commits"
SPEC_ROW = "SELECT row FROM specs WHERE digest = ?"
COMMIT_DIGEST = "SELECT digest FROM commits WHERE number = ?"
WORKFLOW_EXISTS = "SELECT 1 FROM workflows WHERE id = ?"
