"""How a batch becomes story entries and a commit, how commits are chained, and how both are read and checked again.

Pure: shared by every store, so that all of them give the same digests and find the same faults. Never here: where the
bytes are kept. A document is stored once: its story entry names the spec row instead of repeating it.

    entry digest   = blake2b-16(number, index, workflow, at_ms, count, events)
    payload digest = blake2b-32(entry digests, in order)
    commit digest  = blake2b-32(previous commit digest, epoch, number, at_ms, payload digest)

Retention deletes entries but no commit above them, so the chain stays whole; an entry that is left proves itself by its
own digest, and a commit that still has all of its entries proves them by the payload digest too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import groupby
from operator import attrgetter
from struct import pack
from typing import Any, get_args

import msgspec

from ffd.core.events import AnyEvent, Event, NodesChanged, SpecAdded, UsageNoted, WorkflowAccepted, WorkflowReopened
from ffd.core.spec import Spec
from ffd.errors import Fenced
from ffd.plugins.ports import Batch, Head, StoryEntry, Verdict

GENESIS = Head(0, bytes(32))  # the head of an empty store
FAULTS_COUNT = 100  # faults one verdict tells; the rest is counted


class SpecStored(Event, frozen=True, gc=False):
    """Stands for SpecAdded in a stored entry when the same commit wrote the spec row, which `row_digest` proves."""

    digest: str
    row_digest: bytes


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A story entry as it is kept. `events` holds `count` encoded events, the first at `index` of its commit; `spec`
    is the digest of the document that this entry adds, else ""."""

    number: int
    index: int
    workflow: int
    at_ms: int
    count: int
    spec: str
    digest: bytes
    events: bytes


class Commit(msgspec.Struct, frozen=True, gc=False):
    """A commit as it is kept; it had `entries` story entries when it was made."""

    number: int
    epoch: int
    at_ms: int
    entries: int
    payload: bytes
    digest: bytes

    @property
    def head(self) -> Head:
        return Head(self.number, self.digest)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[AnyEvent | SpecStored, ...]).decode
_decode_spec = msgspec.msgpack.Decoder(Spec).decode


def _alone(kind: type[Event]) -> bytes:
    """How an entry of nothing but one event of this kind begins: up to the first field, each 0 here being one byte."""
    count = len(kind.__struct_fields__)
    return _encode([[kind.__name__, *[0] * count]])[:-count]


REPLACED = (_alone(NodesChanged), _alone(UsageNoted))  # each says all that the one of its kind before it said


def _run_key(kind: type[Event]) -> Callable[[Any], int | str]:
    """What tells one run of events from the next: the workflow, 0 for none; each added document stands alone."""
    if kind is SpecAdded:
        return attrgetter("digest")
    if "workflow" in kind.__struct_fields__:
        return attrgetter("workflow")
    if "attempt" in kind.__struct_fields__:
        return attrgetter("attempt.workflow")
    return lambda event: 0


_RUN_KEYS = {kind: _run_key(kind) for kind in get_args(AnyEvent)}

# ------------------------------------------------------------------------------------------------------- writing


def entries_of(batch: Batch) -> list[Entry]:
    """The story entries of a batch: one per run of consecutive events of one workflow, each document on its own."""
    entries = []
    index = 0
    for key, run in groupby(batch.events, lambda event: _RUN_KEYS[type(event)](event)):
        events: list[Event] = list(run)
        spec = key if isinstance(key, str) else ""
        if spec in batch.rows.specs:
            events = [SpecStored(spec, _short_digest(batch.rows.specs[spec]))]
        blob = _encode(events)
        workflow = key if isinstance(key, int) else 0
        digest = _entry_digest(batch.number, index, workflow, batch.at_ms, len(events), blob)
        entries.append(Entry(batch.number, index, workflow, batch.at_ms, len(events), spec, digest, blob))
        index += len(events)
    return entries


def commit_of(batch: Batch, entries: Sequence[Entry], previous: bytes) -> Commit:
    """The commit of these entries after the commit whose digest is `previous`."""
    payload = _payload_digest(entries)
    digest = _commit_digest(previous, batch.epoch, batch.number, batch.at_ms, payload)
    return Commit(batch.number, batch.epoch, batch.at_ms, len(entries), payload, digest)


def is_same(last: Commit, batch: Batch, entries: Sequence[Entry]) -> bool:
    """Is the batch already the last commit? Then it was committed before and its caller did not learn of it."""
    return (last.number, last.epoch, last.payload) == (batch.number, batch.epoch, _payload_digest(entries))


def follow(last: Commit | None, batch: Batch) -> bytes:
    """The digest that the batch is chained to. Fenced when it was not decided on what is stored."""
    head = last.head if last else GENESIS
    if batch.number != head.number + 1:
        raise Fenced(f"commit {batch.number} does not follow commit {head.number}", hint="load the state again")
    return head.digest


def fenced(epoch: int, current: int) -> Fenced:
    """The refusal of a commit or load under `epoch` when the lease is at `current`."""
    return Fenced(f"epoch {epoch} is not the leader's: the store is at epoch {current}", hint="load the state again")


def vanished(workflow: int) -> Fenced:
    """The refusal to reopen a workflow that retention has removed meanwhile."""
    return Fenced(f"workflow {workflow} was removed by retention meanwhile", hint="load the state again")


def accepted_specs(batch: Batch) -> dict[int, str]:
    """Which document each workflow that enters uses."""
    return {event.workflow: event.spec for event in batch.events if isinstance(event, WorkflowAccepted)}


def reopened(batch: Batch) -> list[int]:
    """Workflows that come back from the store: their rows must still be there."""
    return [event.workflow for event in batch.events if isinstance(event, WorkflowReopened)]


def _short_digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def _entry_digest(number: int, index: int, workflow: int, at_ms: int, count: int, blob: bytes) -> bytes:
    return _short_digest(pack(">5q", number, index, workflow, at_ms, count) + blob)


def _payload_digest(entries: Iterable[Entry]) -> bytes:
    return blake2b(b"".join(entry.digest for entry in entries), digest_size=32).digest()


def _commit_digest(previous: bytes, epoch: int, number: int, at_ms: int, payload: bytes) -> bytes:
    return blake2b(previous + pack(">3q", epoch, number, at_ms) + payload, digest_size=32).digest()


# ------------------------------------------------------------------------------------------------------- reading


def story_entry(entry: Entry, spec_row: bytes | None, after: tuple[int, int]) -> StoryEntry | None:
    """The entry as readers see it, without its events up to position `after`; None when nothing is left of it.
    `spec_row` is the row of the document it adds. Raises msgspec.DecodeError when it is damaged."""
    events = tuple(_restored(event, spec_row) for event in _decode(entry.events))
    index = entry.index
    if entry.number == after[0] and index <= after[1]:
        events, index = events[after[1] + 1 - index :], after[1] + 1
    return StoryEntry(entry.number, index, entry.at_ms, events) if events else None


def _restored(event: AnyEvent | SpecStored, spec_row: bytes | None) -> AnyEvent:
    if not isinstance(event, SpecStored):
        return event
    if spec_row is None:
        raise msgspec.DecodeError(f"document {event.digest} is missing")
    return SpecAdded(event.digest, _decode_spec(spec_row))


# ------------------------------------------------------------------------------------------------------ checking


class Audit:
    """Checks commits in ascending order, each with the entries that are left of it. `spec_row` looks up a spec row."""

    def __init__(self, spec_row: Callable[[str], bytes | None]) -> None:
        self._spec_row = spec_row
        self._last: Commit | None = None
        self._commits = 0
        self._events = 0
        self._faults: list[str] = []
        self._untold_count = 0

    def fault(self, text: str) -> None:
        if len(self._faults) < FAULTS_COUNT:
            self._faults.append(text)
        else:
            self._untold_count += 1

    def commit(self, commit: Commit, entries: Sequence[Entry]) -> None:
        """The next commit. The first one may be any: retention removes from the front."""
        where, last = f"commit {commit.number}", self._last
        previous = GENESIS.digest if commit.number == 1 else None
        if last is not None:
            previous = last.digest
            if commit.number != last.number + 1:
                previous = None
                self.fault(f"commits {last.number + 1} to {commit.number - 1} are missing")
            if commit.epoch < last.epoch:
                self.fault(f"{where} has epoch {commit.epoch}, lower than the one before")
        if previous is not None:
            expected = _commit_digest(previous, commit.epoch, commit.number, commit.at_ms, commit.payload)
            if expected != commit.digest:
                self.fault(f"{where} does not match its digest")
        if len(entries) > commit.entries:
            self.fault(f"{where} has {len(entries)} story entries, more than the {commit.entries} it was made with")
        elif len(entries) == commit.entries and _payload_digest(entries) != commit.payload:
            self.fault(f"the story entries of {where} are not those it was made with")
        for entry in entries:
            self.entry(entry)
        self._last = commit
        self._commits += 1

    def early(self, entry: Entry) -> None:
        """An entry from before the first commit there is. Retention leaves some, but none of a workflow."""
        if entry.workflow:
            self.stray(entry)
        else:
            self.entry(entry)

    def stray(self, entry: Entry) -> None:
        """An entry without a commit that it could be of."""
        self.fault(f"commit {entry.number} is missing, but not its story entry at event {entry.index}")

    def entry(self, entry: Entry) -> None:
        """One story entry by itself."""
        where = f"the story entry at commit {entry.number}, event {entry.index}"
        digest = _entry_digest(entry.number, entry.index, entry.workflow, entry.at_ms, entry.count, entry.events)
        if digest != entry.digest:
            self.fault(f"{where} does not match its digest")
            return
        try:
            events = _decode(entry.events)
        except msgspec.MsgspecError as error:
            self.fault(f"{where} cannot be read: {error}")
            return
        self._events += len(events)
        for event in events:
            if isinstance(event, SpecStored):
                self._spec(event, where)

    def _spec(self, event: SpecStored, where: str) -> None:
        row = self._spec_row(event.digest)
        if row is None:
            self.fault(f"{where} adds document {event.digest}, which is missing")
        elif _short_digest(row) != event.row_digest:
            self.fault(f"document {event.digest} does not match the digest that {where} has of it")

    def verdict(self) -> Verdict:
        more = (f"and {self._untold_count} more",) if self._untold_count else ()
        return Verdict(self._commits, self._events, (*self._faults, *more))
