"""Floors: the least that any durable engine must do on this machine, measured in the same run as the figure.

Each commits every transition to SQLite (WAL, synchronous=FULL) before it acts, and does nothing else.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

# What one task goes through: ready, admitted, launching, running, succeeded.
TRANSITIONS = ("ready", "admitted", "launching", "running", "succeeded")


class Journal:
    """One durable row per task; `commit` writes its state."""

    def __init__(self, folder: Path) -> None:
        self.db = sqlite3.connect(folder / "floor.db", isolation_level=None)
        self.db.execute("pragma journal_mode=wal")
        self.db.execute("pragma synchronous=full")
        self.db.execute("create table task (id integer primary key, state text)")

    def commit(self, states: list[tuple[int, str]]) -> None:
        self.db.execute("begin immediate")
        self.db.executemany("insert or replace into task values (?, ?)", states)
        self.db.execute("commit")

    def close(self) -> None:
        self.db.close()


def spawn_true() -> int:
    return os.posix_spawn("/bin/true", ["/bin/true"], {})


def chain_per_s(folder: Path, count: int) -> float:
    """Tasks one after the other: each of the five transitions committed on its own, the process between."""
    journal = Journal(folder)
    start = time.perf_counter()
    for task in range(count):
        for state in TRANSITIONS[:3]:
            journal.commit([(task, state)])
        pid = spawn_true()
        journal.commit([(task, TRANSITIONS[3])])
        os.waitpid(pid, 0)
        journal.commit([(task, TRANSITIONS[4])])
    elapsed = time.perf_counter() - start
    journal.close()
    return count / elapsed


def fanout_per_s(folder: Path, count: int, at_once: int) -> float:
    """`at_once` processes at any time; an exit, and the start it allows, are one commit before the start."""
    journal = Journal(folder)
    running: dict[int, int] = {}
    start = time.perf_counter()
    journal.commit([(task, "launching") for task in range(at_once)])
    for task in range(at_once):
        running[spawn_true()] = task
    following = at_once
    while running:
        pid, _ = os.waitpid(-1, 0)
        changes = [(running.pop(pid), "succeeded")]
        if following < count:
            changes.append((following, "launching"))
        journal.commit(changes)
        if following < count:
            running[spawn_true()] = following
            following += 1
    elapsed = time.perf_counter() - start
    journal.close()
    return count / elapsed


def transitions_per_s(folder: Path, count: int, batch_count: int) -> float:
    """Transitions per second when committed in batches: what the disk and SQLite allow without any engine."""
    journal = Journal(folder)
    start = time.perf_counter()
    for first in range(0, count, batch_count):
        journal.commit([(task, "succeeded") for task in range(first, min(count, first + batch_count))])
    elapsed = time.perf_counter() - start
    journal.close()
    return count / elapsed
