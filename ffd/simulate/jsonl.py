"""Traces as JSON lines: one workflow per line, for graphs and whatever else a document can say. The format: a document
with two more kinds of fields.

    {"at_s": 12.5, "name": "nightly", "project": "research/llm", "tasks": {
        "prep":  {"duration_s": 60, "resources": {"cpus": 4}},
        "train": {"duration_s": 7200, "needs": ["prep"], "resources": {"gpus": "H100:8"}, "gang": 4},
        "eval":  {"duration_s": [30, 45], "needs": ["train"], "foreach": [0, 1], "exit_code": 0}}}

`at_s`: seconds from the begin of the trace. `duration_s` of a task: seconds, or a list with those of each item;
`exit_code`: what it exits with (0). A task needs no `run`; one without `duration_s` says in its environment how long it
takes (VIRTUAL_DURATION). Everything else is as in any document, and checked by the same validator. All faults are told,
each with line and column. Called by `scenario`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from ffd.api.source import Parsed, parse_source
from ffd.core.document import Fault, Locate, Path, compile_document, show_path
from ffd.core.document.faults import Nowhere
from ffd.core.spec import Spec, Task
from ffd.simulate.faults import FaultList, TooMany, did_you_mean
from ffd.simulate.trace import DEFAULT_PROJECT, LONGEST_S
from ffd.simulate.workload import Lengths, Workload, declare

OWN = ("at_s", "duration_s", "exit_code")
_decode = msgspec.json.Decoder().decode
_encode = msgspec.msgpack.Encoder().encode


class Wrong(Exception):
    """A value of ours that cannot be read, and where it stands in its line."""

    def __init__(self, path: Path, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.path, self.message, self.hint = path, message, hint


def read_jsonl(lines: Iterable[str], filename: str, *, knows: bool = False) -> Workload:
    """The workload of a trace; arguments and errors as those of `trace.read_csv`."""
    reader = _Reader(filename, knows)
    try:
        for number, line in enumerate(lines, 1):
            if line.strip():
                reader.read(line, number)
        if not len(reader.workload) and not reader.faults.count:
            reader.faults.add(Fault("the file holds no workflow", line=1, column=1))
    except TooMany:
        pass
    reader.faults.refuse()
    return reader.workload


class _Reader:
    def __init__(self, filename: str, knows: bool) -> None:
        self.faults = FaultList(filename)
        self.workload = Workload()
        self._knows = knows
        self._shapes: dict[bytes, tuple[int, dict[str, tuple[int, int]]]] = {}

    def read(self, line: str, number: int) -> None:
        """One workflow. What is wrong with a line is found by reading it again with positions."""
        try:
            value = _decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            self._explain(line, number)
            return
        found = self._take(value, Nowhere())
        if found:
            self._explain(line, number)

    def _explain(self, line: str, number: int) -> None:
        parsed: Parsed = parse_source(line.rstrip("\r\n").encode(errors="replace"), format="json")
        faults = list(parsed.faults)
        if parsed.is_readable:
            faults += self._take(parsed.mapping, parsed.locate)
        for fault in sorted(faults, key=lambda fault: fault.column):
            self.faults.add(replace(fault, line=number), line)

    def _take(self, value: Any, locate: Locate) -> list[Fault]:
        """Add the workflow, unless there are faults."""
        if not isinstance(value, dict):
            return [Fault("expected a workflow: a map with `at_s` and `tasks`", line=1, column=1)]
        document = dict(value)
        faults: list[Fault] = []
        own = _Own(faults, locate)
        at_ms = own.seconds_ms(("at_s",), document.pop("at_s", None), "the instant of its submit")
        tasks = document.get("tasks")
        lengths: dict[str, list[int]] = {}
        codes: dict[str, int] = {}
        if isinstance(tasks, dict):
            document["tasks"] = {name: own.task(name, task, lengths, codes) for name, task in tasks.items()}
        key = _encode((document, {name: len(found) for name, found in lengths.items()}))
        if self._knows:
            key += _encode(lengths)
        known = self._shapes.get(key)
        if known is None:
            compiled = compile_document(document, locate=locate, default_name="workflow")
            faults += [_with_ours(fault) for fault in compiled.faults]
            if faults or compiled.spec is None:
                return faults
            known = self._shapes[key] = self._shape(compiled.spec, lengths)
        if not faults:
            flat = array("q", (length for found in lengths.values() for length in found))
            self.workload.add(at_ms, known[0], Lengths(known[1], flat, codes))
        return faults

    def _shape(self, spec: Spec, lengths: dict[str, list[int]]) -> tuple[int, dict[str, tuple[int, int]]]:
        slots: dict[str, tuple[int, int]] = {}
        first = 0
        for name, found in lengths.items():
            slots[name] = (first, len(found))
            first += len(found)

        def known(task: Task) -> int | None:
            return max(lengths[task.name]) if task.name in lengths else None

        if self._knows:
            spec = declare(spec, known)
        return self.workload.shape(spec, spec.project or DEFAULT_PROJECT), slots


class _Own:
    """Reads the fields that a document does not have."""

    def __init__(self, faults: list[Fault], locate: Locate) -> None:
        self._faults = faults
        self._locate = locate

    def _add(self, path: Path, message: str) -> None:
        line, column = self._locate(path)
        self._faults.append(Fault(message, show_path(path), line, column))

    def seconds_ms(self, path: Path, value: Any, what: str) -> int:
        if value is None:
            self._add(path, f"`{path[-1]}` is needed: {what}, in seconds")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            self._add(path, f"expected a number of seconds, got {msgspec.json.encode(value).decode()[:40]}")
        elif not (math.isfinite(value) and 0 <= value <= LONGEST_S):
            self._add(path, f"expected seconds from 0 to {LONGEST_S:.0f}, got {value}")
        else:
            return round(value * 1_000)
        return 0

    def task(self, name: str, task: Any, lengths: dict[str, list[int]], codes: dict[str, int]) -> Any:
        """The task as a document has it; its lengths and its exit code go to where they are kept."""
        if not isinstance(task, dict):
            return task
        rest = dict(task)
        path = ("tasks", name, "duration_s")
        length, code = rest.pop("duration_s", None), rest.pop("exit_code", 0)
        if isinstance(length, list) and length:
            lengths[name] = [self.seconds_ms((*path, k), one, "how long it takes") for k, one in enumerate(length)]
        elif length is not None:
            lengths[name] = [self.seconds_ms(path, length, "how long it takes")]
        if isinstance(code, bool) or not isinstance(code, int) or not 0 <= code <= 255:
            self._add(("tasks", name, "exit_code"), "expected an exit code, 0 to 255")
        elif code:
            codes[name] = code
        if not {"run", "command", "call"} & rest.keys():
            rest["run"] = "true"
        return rest


def _with_ours(fault: Fault) -> Fault:
    """An unknown field may be one of ours that is misspelt."""
    field = fault.path.rpartition(".")[2]
    hint = did_you_mean(field, OWN)
    if fault.code == "unknown_field" and fault.hint.startswith("known") and hint.startswith("did you mean"):
        return replace(fault, hint=hint)
    return fault
