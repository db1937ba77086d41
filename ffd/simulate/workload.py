"""What is submitted when, and how long it takes: the common form of traces, synthetic workloads and documents.

A workload is read once and kept in arrays, so that ten million jobs take a few hundred megabytes; each different
document is compiled once, by the validator that everybody uses. Made by `trace`, `jsonl` and `synthetic`.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from ffd.core.commands import AnyCommand, Submit
from ffd.core.effects import Launch
from ffd.core.spec import Spec, Task
from ffd.plugins.behaviour import Behaviour, told_by_environment
from ffd.simulate.engine import Fed

_TRIES = 1 << 32


class Lengths(msgspec.Struct, gc=False):
    """How long the items of one workflow take: `slots[task]` = (index of its first length, how many there are); further
    items take as long as the last. `exit_codes`: of tasks that do not exit with 0."""

    slots: Mapping[str, tuple[int, int]]
    lengths_ms: array[int]
    exit_codes: Mapping[str, int] = {}

    def behaviour(self, order: Launch) -> Behaviour:
        attempt = order.attempt
        slot = self.slots.get(attempt.task)
        if slot is None:
            return told_by_environment(order, 0)
        length_ms = self.lengths_ms[slot[0] + min(attempt.item, slot[1] - 1)]
        return Behaviour(length_ms, self.exit_codes.get(attempt.task, 0))


class Failures(msgspec.Struct, frozen=True, gc=False):
    """Attempts fail with this probability, after a part of their length. Chance is a hash of `seed` and the attempt's
    name: the same in every run, whatever else happens."""

    rate: float
    seed: int = 0

    def strike(self, order: Launch, behaviour: Behaviour) -> Behaviour:
        name = f"{self.seed}/{order.attempt.label()}"
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        if int.from_bytes(digest[:4], "big") >= self.rate * _TRIES:
            return behaviour
        part = int.from_bytes(digest[4:], "big") / _TRIES
        return replace(behaviour, duration_ms=behaviour.duration_ms * part, exit_code=1)


class Workload:
    """Submits in the order of their instants (of one instant: in the order of the source).

    `setup`: commands that come before the first submit (tenants and quotas of a synthetic workload). `notes`: what was
    assumed on the way, for the reader of the result."""

    def __init__(self, failures: Failures | None = None) -> None:
        self.setup: list[AnyCommand] = []
        self.notes: list[str] = []
        self.failures = failures if failures is not None and failures.rate > 0 else None
        self._submits: list[Submit] = []
        self._at_ms = array("q")
        self._which = array("l")
        self._length_ms = array("q")  # of single tasks; -1: see `_tags`
        self._tags: dict[int, Lengths | Behaviour | None] = {}

    def __len__(self) -> int:
        return len(self._at_ms)

    def shape(self, spec: Spec, project: str, priority: int | None = None) -> int:
        """A document that will be submitted, perhaps many times. Returns its number."""
        digest = hashlib.sha256(msgspec.msgpack.encode(spec)).hexdigest()
        self._submits.append(Submit(spec=spec, spec_digest=digest, project=project, priority=priority, by="simulate"))
        return len(self._submits) - 1

    def add(self, at_ms: int, shape: int, tag: int | Behaviour | Lengths | None) -> None:
        """One submit. A plain number is the length of its only task in ms; None: its environment says how long."""
        if not isinstance(tag, int):
            self._tags[len(self._at_ms)] = tag
            tag = -1
        self._at_ms.append(at_ms)
        self._which.append(shape)
        self._length_ms.append(tag)

    def feed(self, from_ms: int = 0) -> Iterator[Fed]:
        """For `World.feed`; instants are counted from `from_ms`."""
        at_ms, which, lengths, tags, submits = self._at_ms, self._which, self._length_ms, self._tags, self._submits
        for row in sorted(range(len(at_ms)), key=at_ms.__getitem__):
            length_ms = lengths[row]
            yield from_ms + at_ms[row], submits[which[row]], tags.get(row) if length_ms < 0 else length_ms

    def behave(self, order: Launch, tag: Any) -> Behaviour:
        """For the `World`."""
        if type(tag) is int:
            found = Behaviour(tag)
        elif tag is None:
            found = told_by_environment(order, 0)
        else:
            found = tag if type(tag) is Behaviour else tag.behaviour(order)
        return found if self.failures is None else self.failures.strike(order, found)


def declare(spec: Spec, length_ms: Callable[[Task], int | None]) -> Spec:
    """The same document with `timeout.run` of each task as long as the task will take: the scheduler then knows. (An
    exit at the very instant of its time-out comes first.) None leaves the task as it is."""

    def known(task: Task) -> Task:
        found = length_ms(task)
        if found is None:
            return task
        return replace(task, timeouts=replace(task.timeouts, run_ms=max(1, found)))

    return replace(spec, tasks=tuple(map(known, spec.tasks)), finally_tasks=tuple(map(known, spec.finally_tasks)))
