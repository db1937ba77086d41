"""Who may lead: the rules of the lease, shared by every store. The store reads and writes the row, and owns the lock.

Nobody compares clocks. A holder bumps the row's counter, or commits; a standby that saw neither for the whole time to
live, by its own monotonic clock, may take over under the next epoch. Being wrong about it is safe: every commit
checks the epoch. A lock that dies with its process (where the store has one) saves that waiting after a crash.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from ffd.plugins.ports import Lease, LeaseInfo


class LeaseRow(msgspec.Struct, frozen=True):
    """The stored lease. `locked`: the holder of this epoch also holds the lock, so finding the lock free proves that it
    is dead. `commit_number` (not stored with it) is that of the last commit, which proves life as a renewal does."""

    epoch: int = 0
    owner: str = ""
    address: str = ""
    renewals: int = 0
    held: bool = False
    locked: bool = False
    commit_number: int = 0

    def info(self) -> LeaseInfo:
        return LeaseInfo(self.epoch, self.owner, self.address)


class Claim(msgspec.Struct, frozen=True):
    """What `Store.hold` was asked."""

    owner: str
    address: str
    ttl_ms: int
    now_ms: int
    epoch: int

    def lease(self, epoch: int) -> Lease:
        return Lease(epoch, self.owner, self.ttl_ms)


class Lock(Protocol):
    """Held by at most one store instance; freed by the system when the process of its holder dies."""

    def acquire(self) -> bool:
        """Take it if it is free; True when it is ours, also when it already was. Never waits."""
        ...

    def release(self) -> None:
        """No-op when it is not ours."""
        ...


class Candidate:
    """One store instance that leads or waits to: what it saw of the lease and when. Not thread-safe."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._epoch = 0  # under which this instance leads; 0 = it does not
        self._seen: tuple[int, int, int] = (0, 0, 0)  # epoch, renewals and commit number of the row ...
        self._seen_at_ms = 0  # ... and when this instance saw them first

    def judge(self, row: LeaseRow, claim: Claim) -> LeaseRow | None:
        """The row to write for `claim` to hold the lease, or None when somebody else holds it. Same row, same answer:
        may be asked before a transaction and again inside it."""
        if row.held and (row.epoch, row.owner) == (claim.epoch, claim.owner):
            return self._row(row, claim, row.epoch)
        lost = self._epoch != row.epoch
        if lost:
            self._lock.release()  # so that the new holder can have it
        expired = self._observe(row, claim.now_ms) >= claim.ttl_ms
        if not row.held or expired or (lost and row.locked and self._lock.acquire()):
            return self._row(row, claim, row.epoch + 1)
        return None

    def _row(self, row: LeaseRow, claim: Claim, epoch: int) -> LeaseRow:
        locked = self._lock.acquire()
        return LeaseRow(epoch, claim.owner, claim.address, row.renewals + 1, True, locked, row.commit_number)

    def _observe(self, row: LeaseRow, now_ms: int) -> int:
        """For how many milliseconds this instance has seen the row like this."""
        seen = (row.epoch, row.renewals, row.commit_number)
        if self._seen != seen:
            self._seen, self._seen_at_ms = seen, now_ms
        return now_ms - self._seen_at_ms

    def won(self, row: LeaseRow) -> None:
        """The row that `judge` gave is durable."""
        self._epoch = row.epoch

    def missed(self) -> None:
        """The row that `judge` gave could not be written."""
        if not self._epoch:
            self._lock.release()

    def resigned(self) -> None:
        """This instance does not lead any more."""
        self._epoch = 0
        self._lock.release()
