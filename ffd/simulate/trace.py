"""Traces as CSV: one job of one task (a gang) per row, columns named by the header. The format:

| column | meaning |
|---|---|
| `submit_s`, `duration_s` | seconds from the begin of the trace, and how long it runs; needed |
| `gpus` | GPUs in all; without `replicas`: split into equal replicas that fit the largest node |
| `replicas`, `gpus_per_replica` | the gang, told exactly |
| `gpu_type` | models by preference, joined by `\\|` |
| `cpus`, `memory`, `gpu_memory` | of each replica: 4 or 500m; 64Gi |
| `topology`, `min_replicas`, `wait` | of the gang: any, same-node, nvlink, same-rack or a level; elastic floor; 10m |
| `project` (or `tenant`), `name`, `priority` | whose it is, what it is called, 0 to 1000 |
| `timeout` | its `timeout.run`: it is stopped then, and the scheduler plans with it |
| `retries`, `checkpoint` | tries after a failure; true or false |
| `exit_code` | 0 when empty |

An empty cell is the default. All faults are told, each with line and column. Called by `scenario`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from ffd.core.document import Fault, compile_document
from ffd.core.spec import Spec
from ffd.plugins.behaviour import Behaviour
from ffd.simulate.faults import FaultList, TooMany, did_you_mean
from ffd.simulate.workload import Workload, declare

LONGEST_S = 10 * 365 * 86_400.0
NAMES_COUNT = 10_000  # different names that are kept; jobs with further ones are called by the first
ROWS_COUNT = 20_000_000
DEFAULT_PROJECT = "default"
NAME = "job"

PER_ROW = ("submit_s", "duration_s", "exit_code")
ALIASES = {"tenant": "project"}
# The other columns describe the document; each says where in it its value stands.
PLACES: dict[str, tuple[str, ...]] = {
    "gpus": ("resources", "gpus"),
    "gpus_per_replica": ("resources", "gpus"),
    "replicas": ("gang", "replicas"),
    "gpu_type": ("resources", "gpu_type"),
    "gpu_memory": ("resources", "gpu_memory"),
    "cpus": ("resources", "cpus"),
    "memory": ("resources", "memory"),
    "topology": ("gang", "topology"),
    "min_replicas": ("gang", "min"),
    "wait": ("gang", "wait"),
    "timeout": ("timeout", "run"),
    "retries": ("retry", "max"),
    "checkpoint": ("checkpoint",),
}
WHOSE = ("project", "name", "priority")
COLUMNS = (*PER_ROW, *PLACES, *WHOSE)
_WHOLE = frozenset({"gpus", "gpus_per_replica", "replicas", "min_replicas", "retries", "priority", "exit_code"})
WORDS = ("any", "same-node", "nvlink", "same-rack")  # of topology; other words are names of levels
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Cell(Exception):
    """A cell that cannot be read."""

    def __init__(self, column: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.column, self.message, self.hint = column, message, hint


def read_csv(lines: Iterable[str], filename: str, *, node_gpus: int = 8, knows: bool = False) -> Workload:
    """The workload of a trace. `node_gpus`: GPUs of the largest node; `knows`: the scheduler is told how long each job
    will take. Raises InputFaults."""
    reader = _Reader(lines, filename, node_gpus, knows)
    with suppress(TooMany):
        reader.read()
    reader.faults.refuse()
    return reader.workload


class _Reader:
    def __init__(self, lines: Iterable[str], filename: str, node_gpus: int, knows: bool) -> None:
        self.faults = FaultList(filename)
        self.workload = Workload()
        self._node_gpus = max(1, node_gpus)
        self._knows = knows
        self._raw = ""  # the text of the row that is being read
        self._begin = 0  # the line on which it begins
        self._rows = csv.reader(self._kept(lines), strict=True)
        self._header: list[str] = []
        self._shapes: dict[tuple[Any, ...], int] = {}
        self._names: dict[str, str] = {}

    def _kept(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self._raw += line
            yield line

    def _next(self) -> list[str] | None:
        """The next row that is not empty; None at the end, also when the text can be read no further."""
        while True:
            self._raw, self._begin = "", self._rows.line_num + 1
            try:
                row = next(self._rows)
            except StopIteration:
                return None
            except csv.Error as error:
                self._fault("", f"not CSV: {error}")
                return None
            if row:
                return row

    # ---------------------------------------------------------------------------------------------------- rows

    def read(self) -> None:
        header = self._next()
        if header is None:
            if not self.faults.count:
                self._fault("", "the file is empty", f"the first line names the columns: {', '.join(COLUMNS[:4])}, ...")
            return
        self._read_header([name.strip() for name in header])
        if self.faults.count:
            return
        index = {name: k for k, name in enumerate(self._header)}
        submit_at, duration_at, exit_at = index["submit_s"], index["duration_s"], index.get("exit_code", -1)
        shape_at = [k for k, name in enumerate(self._header) if name not in PER_ROW]
        while (row := self._next()) is not None:
            try:
                if len(row) != len(self._header):
                    raise Cell("", f"{len(row)} cells, the header names {len(self._header)} columns")
                at_ms = _seconds_ms("submit_s", row[submit_at])
                length_ms = _seconds_ms("duration_s", row[duration_at])
                code = _whole("exit_code", row[exit_at], 255) if exit_at >= 0 and row[exit_at] else 0
                key: tuple[Any, ...] = tuple(row[k] for k in shape_at)
                if self._knows:
                    key += (length_ms,)
                shape = self._shapes.get(key)
                if shape is None:
                    shape = self._shapes[key] = self._shape(dict(zip(self._header, row, strict=True)), length_ms)
                if shape >= 0:
                    self.workload.add(at_ms, shape, Behaviour(length_ms, code) if code else length_ms)
                if len(self.workload) > ROWS_COUNT:
                    raise Cell("", f"more than {ROWS_COUNT} rows (limit ROWS_COUNT)")
            except Cell as fault:
                self._fault(fault.column, fault.message, fault.hint)
                self._further_faults(row, fault.column)

    def _further_faults(self, row: list[str], told: str) -> None:
        """The other faults of a row of which the first is told."""
        if len(row) != len(self._header) or told not in PER_ROW:
            return  # nothing to look at, or all that comes before was in order
        cells = dict(zip(self._header, row, strict=True))
        for column in PER_ROW[PER_ROW.index(told) + 1 :]:
            try:
                if column == "duration_s":
                    _seconds_ms(column, cells[column])
                elif cells.get(column):
                    _whole(column, cells[column], 255)
            except Cell as fault:
                self._fault(fault.column, fault.message, fault.hint)
        self._shape(cells, 0)

    def _read_header(self, names: list[str]) -> None:
        if names:
            names[0] = names[0].removeprefix("\ufeff")
        self._header = [ALIASES.get(name, name) for name in names]
        for at, (name, known_as) in enumerate(zip(names, self._header, strict=True)):
            if known_as not in COLUMNS:
                self._fault(known_as, f"unknown column `{name}`", did_you_mean(name, (*COLUMNS, *ALIASES)), at)
            elif known_as in self._header[:at]:
                self._fault(known_as, f"the column `{known_as}` stands twice", "", at)
        for name in ("submit_s", "duration_s"):
            if name not in self._header:
                self._fault("", f"no column `{name}`", did_you_mean(name, names) if names else "")

    def _fault(self, column: str, message: str, hint: str = "", at: int = -1) -> None:
        """Points at a cell, told by its number or its column; or at the begin of the row."""
        if at < 0 and column in self._header:
            at = self._header.index(column)
        line, place = _cell_at(self._raw, at)
        texts = self._raw.splitlines()
        text = texts[line] if line < len(texts) else ""
        self.faults.add(Fault(message, column, self._begin + line, place + 1, hint), text)

    # -------------------------------------------------------------------------------------------------- shapes

    def _shape(self, cells: dict[str, str], length_ms: int) -> int:
        """The number of this row's document; -1 when it has faults, which are then told once."""
        before = self.faults.count
        task, sources = self._task(cells)
        priority = self._value("priority", cells["priority"]) if cells.get("priority") else None
        if self.faults.count > before:
            return -1
        name = self._name(cells.get("name", ""))
        compiled = compile_document({"name": name, "tasks": {NAME: {"run": "true", **task}}})
        if compiled.spec is None:
            for found in compiled.faults:
                column = next((column for path, column in sources.items() if found.path.startswith(path)), "")
                self._fault(column, found.message, found.hint)
            return -1
        spec: Spec = compiled.spec
        if self._knows:
            spec = declare(spec, lambda task: length_ms)
        return self.workload.shape(spec, cells.get("project", "").strip() or DEFAULT_PROJECT, priority)

    def _task(self, cells: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
        """The task of a row as a document has it; and which column each path of it came from."""
        task: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for column, path in PLACES.items():
            text = cells.get(column, "").strip()
            if not text:
                continue
            value = self._value(column, text)
            *groups, field = path
            inner = task
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[field] = value
            sources[".".join(("tasks", NAME, *path))] = column
        try:
            self._split(cells, task)
        except Cell as fault:
            if task["resources"]["gpus"] is not None:  # else it is told already
                self._fault(fault.column, fault.message, fault.hint)
        return task, sources

    def _value(self, column: str, text: str) -> Any:
        """A cell as a document has it; None when it has a fault."""
        try:
            if column in _WHOLE:
                return _whole(column, text, 1_000 if column == "priority" else 1_000_000)
            if column == "checkpoint":
                return _flag(column, text)
        except Cell as fault:
            self._fault(fault.column, fault.message, fault.hint)
            return None
        if column == "gpu_type":
            return text.split("|")
        if column == "cpus":
            return _cpus(text)
        return {"level": text} if column == "topology" and text not in WORDS else text

    def _split(self, cells: dict[str, str], task: dict[str, Any]) -> None:
        """`gpus` are those of the whole gang: into replicas, all alike, that fit one node."""
        gpus = _whole("gpus", cells["gpus"], 1_000_000) if cells.get("gpus", "").strip() else None
        each = cells.get("gpus_per_replica", "").strip()
        replicas = task.get("gang", {}).get("replicas")
        if gpus is None or (each and replicas is None and gpus == 0):
            return
        if each:
            per = _whole("gpus_per_replica", each, 1_000_000)
            replicas = replicas or max(1, gpus // max(per, 1))
            if per * replicas != gpus:
                raise Cell("gpus", f"{gpus} GPUs are not {replicas} replicas of {per}")
        elif replicas:
            per = gpus // replicas
            if per * replicas != gpus:
                raise Cell("gpus", f"{gpus} GPUs cannot be split into {replicas} equal replicas")
        else:
            per = next(part for part in range(min(gpus, self._node_gpus), 0, -1) if gpus % part == 0) if gpus else 0
            replicas = gpus // per if per else 1
        task.setdefault("resources", {})["gpus"] = per
        if replicas > 1 or "gang" in task:
            task.setdefault("gang", {})["replicas"] = replicas

    def _name(self, text: str) -> str:
        """A workflow name of what a trace calls its job."""
        known = self._names.get(text)
        if known is None:
            kept = "".join(char if char.isascii() and char.isalnum() else "-" for char in text.lower()).strip("-")
            known = kept[:63] if kept[:1].isalpha() else f"{NAME}-{kept}"[:63].strip("-")
            if len(self._names) >= NAMES_COUNT:
                note = f"the trace has more than {NAMES_COUNT} names: jobs with further ones are called `{NAME}`"
                if note not in self.workload.notes:
                    self.workload.notes.append(note)
                return NAME
            self._names[text] = known
        return known


# ---------------------------------------------------------------------------------------------------------- cells


def _seconds_ms(column: str, text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        raise Cell(column, f"expected a number of seconds, got `{text[:40]}`") from None
    if not (math.isfinite(seconds) and 0 <= seconds <= LONGEST_S):
        raise Cell(column, f"expected seconds from 0 to {LONGEST_S:.0f}, got {text[:40]}")
    return round(seconds * 1_000)


def _whole(column: str, text: str, most: int) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= most):
        raise Cell(column, f"expected a whole number from 0 to {most}, got `{text[:40]}`")
    return int(text)


def _flag(column: str, text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise Cell(column, f"expected true or false, got `{text[:40]}`")
    return _FLAGS[text.lower()]


def _cpus(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _cell_at(raw: str, index: int) -> tuple[int, int]:
    """Where a cell begins in the text of its row: (line, column), from 0."""
    line = column = cell = 0
    quoted = False
    for char in raw:
        if cell >= index:
            break
        column += 1
        if char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            cell += 1
        elif char == "\n":
            line, column = line + 1, 0
    return line, column
