"""The validator: a parsed mapping -> a `Spec`, or every fault at once. The table of contents of this room.

Pure: no clock, no file, no randomness. Same mapping, same answer. Linear in the size of the document, and bounded by
`DocumentLimits`. Called by `api/source.py` (files, CLI, submitted text) and by the authoring API, which makes mappings.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from ffd.core.document.expressions import check_expressions
from ffd.core.document.faults import Enough, Fault, Faults, Locate, Nowhere, Path, quote
from ffd.core.document.limits import DocumentLimits
from ffd.core.document.merge import with_defaults
from ffd.core.document.needs import check_cycles
from ffd.core.document.params import compile_params
from ffd.core.document.raw import RawDocument, RawTask, RawTtl
from ffd.core.document.scalars import NAME, WORKFLOW_NAME, Wrong, check_name, duration_ms
from ffd.core.document.shape import read_as, read_document
from ffd.core.document.tasks import TaskReader
from ffd.core.document.texts import TextReader
from ffd.core.expr import render_string
from ffd.core.spec import Param, Spec, Task

PROJECT_LEVELS = 8


class Compiled(msgspec.Struct, frozen=True):
    """`spec` is None exactly when there are faults. Faults and warnings are sorted by position."""

    spec: Spec | None
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()


def compile_document(
    mapping: Any,
    *,
    locate: Locate | None = None,
    limits: DocumentLimits | None = None,
    default_name: str = "workflow",
) -> Compiled:
    """Validate a document given as plain maps, lists and scalars (never changed, may be shared).

    `locate` tells where things stand in the source; `default_name` names a document without `name`. Never raises for
    what a document can hold.
    """
    limits = limits or DocumentLimits()
    faults = Faults(locate or Nowhere(), limits.faults_count)
    spec = None
    try:
        spec = _Compiler(mapping, faults, limits, locate or Nowhere()).compile(default_name)
    except RecursionError:
        faults.add((), "the document is nested too deeply", code="limit")
    except Enough:
        pass
    return Compiled(None if len(faults) else spec, faults.sorted(), faults.sorted_warnings())


def compile_raw(
    raw: RawDocument, *, limits: DocumentLimits | None = None, default_name: str = "workflow"
) -> Spec | None:
    """The Spec of a document that was decoded straight into its raw form, if there is nothing to complain about; else
    None, and the caller gives it to `compile_document`, with positions. The document must not have `defaults`."""
    limits = limits or DocumentLimits()
    compiler = _Compiler(None, Faults(Nowhere(), 1, is_strict=True), limits, Nowhere())
    try:
        return compiler.build(raw, default_name)
    except Enough:
        return None


class _Compiler:
    def __init__(self, mapping: Any, faults: Faults, limits: DocumentLimits, locate: Locate) -> None:
        self.mapping = mapping
        self.faults = faults
        self.limits = limits
        self.locate = locate

    def compile(self, default_name: str) -> Spec | None:
        if not isinstance(self.mapping, dict):
            hint = "a workflow needs at least one task: tasks: {hello: {run: echo hello}}"
            self.faults.add((), f"expected a map with `tasks`, got {quote(self.mapping)}", hint=hint)
            return None
        groups = [self.mapping.get(group) for group in ("tasks", "finally", "on_exit")]
        if self._too_many_tasks(sum(len(group) for group in groups if isinstance(group, dict))):
            return None
        raw = read_document(self._merged(), self.faults)
        return None if raw is None else self.build(raw, default_name)

    def build(self, raw: RawDocument, default_name: str) -> Spec | None:
        finals = self._finals(raw)
        if self._too_many_tasks(len(raw.tasks) + len(finals)):
            return None
        known = dict.fromkeys(self._names("tasks", raw.tasks), False)
        for name in self._names("finally" if raw.finally_ is not UNSET else "on_exit", finals):
            if name in known:
                self.faults.add(self._final_path(raw, name), f"`{name}` is also a task under `tasks`", key=True)
            known.setdefault(name, True)
        if not raw.tasks and not known:
            self.faults.add(("tasks",), "expected at least one task, got an empty map")
        reader = TaskReader(self.faults, self.limits, known)
        tasks = self._read_tasks(raw.tasks, ("tasks",), reader)
        final_tasks = self._read_tasks(finals, self._final_path(raw), reader)
        if reader.edges_count > self.limits.edges_count:
            self.faults.add((), f"more than {self.limits.edges_count} needs (limit edges_count)", code="limit")
            return None
        check_cycles(tasks, ("tasks",), self.faults)
        check_cycles(final_tasks, self._final_path(raw), self.faults)
        params = () if raw.params is UNSET else compile_params(raw.params, self.faults, self.limits)
        spec = self._spec(raw, default_name, tasks, final_tasks, params)
        self._check_header(raw, reader.texts)
        check_expressions(spec, reader.texts.sites, self.faults, self.limits)
        return spec

    # --- defaults -----------------------------------------------------------------------------------------------------

    def _merged(self) -> Any:
        """The mapping with `defaults` merged under each task; faults then point to where a value was written."""
        mapping = self.mapping
        defaults = mapping.get("defaults")
        if defaults is None and "defaults" not in mapping:
            return mapping
        before = len(self.faults)
        raw = read_as(RawTask, defaults, ("defaults",), self.faults)
        for field in ("needs", "when"):
            if raw is not None and getattr(raw, field) is not UNSET:
                self.faults.add(("defaults", field), f"`{field}` belongs to a task, not to `defaults`", key=True)
        merged = {key: value for key, value in mapping.items() if key != "defaults"}
        if len(self.faults) > before or raw is None or not isinstance(defaults, dict):
            return merged
        for group in ("tasks", "finally", "on_exit"):
            if isinstance(mapping.get(group), dict):
                merged[group] = {name: with_defaults(defaults, task) for name, task in mapping[group].items()}
        self.faults.origin = self._origin
        return merged

    def _origin(self, path: Path) -> Path:
        if len(path) > 2 and path[0] in ("tasks", "finally", "on_exit") and not _reaches(self.mapping, path[:3]):
            return ("defaults", *path[2:])
        if len(path) > 3 and not _reaches(self.mapping, path) and _reaches(self.mapping, ("defaults", *path[2:])):
            return ("defaults", *path[2:])
        return path

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _too_many_tasks(self, count: int) -> bool:
        if count > self.limits.tasks_count:
            limit = f"{self.limits.tasks_count} (limit tasks_count)"
            self.faults.add(("tasks",), f"{count} tasks, at most {limit} are allowed", code="limit", key=True)
        return count > self.limits.tasks_count

    def _finals(self, raw: RawDocument) -> dict[str, RawTask]:
        if raw.on_exit is not UNSET and raw.finally_ is not UNSET:
            message = "`on_exit` is another word for `finally`: a document has one of them"
            self.faults.add(("on_exit",), message, key=True)
        if raw.finally_ is not UNSET:
            return raw.finally_
        return {} if raw.on_exit is UNSET else raw.on_exit

    @staticmethod
    def _final_path(raw: RawDocument, *names: str) -> Path:
        return ("finally" if raw.finally_ is not UNSET else "on_exit", *names)

    def _names(self, group: str, tasks: dict[str, RawTask]) -> list[str]:
        """All names that were written, also of tasks that could not be read: a need of one is not unknown."""
        written = self.mapping.get(group) if isinstance(self.mapping, dict) else None
        names = [name for name in written if isinstance(name, str)] if isinstance(written, dict) else list(tasks)
        for name in names:
            if not NAME.fullmatch(name):
                try:
                    check_name(name, "task")
                except Wrong as wrong:
                    self.faults.add((group, name), wrong.message, hint=wrong.hint, code="name", key=True)
        return names

    def _read_tasks(self, tasks: dict[str, RawTask], path: Path, reader: TaskReader) -> tuple[Task, ...]:
        lines = self.locate.lines(path)
        return tuple([reader.read(name, raw, (*path, name), lines.get(name, 0)) for name, raw in tasks.items()])

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _spec(
        self,
        raw: RawDocument,
        default_name: str,
        tasks: tuple[Task, ...],
        finals: tuple[Task, ...],
        params: tuple[Param, ...],
    ) -> Spec:
        success_ms, failure_ms = self._ttl(raw)
        return Spec(
            name=self._name(raw, default_name),
            tasks=tasks,
            finally_tasks=finals,
            description="" if raw.description is UNSET else raw.description,
            labels=self._labels(raw),
            project="" if raw.project is UNSET else self._project(raw.project),
            priority=500 if raw.priority is UNSET else raw.priority,
            params=params,
            max_parallel=0 if raw.max_parallel is UNSET else raw.max_parallel,
            fail_fast=raw.fail_fast is not False,
            timeout_ms=0 if raw.timeout is UNSET else self._duration(raw.timeout, ("timeout",)),
            ttl_success_ms=success_ms,
            ttl_failure_ms=failure_ms,
        )

    def _name(self, raw: RawDocument, default_name: str) -> str:
        name = default_name if raw.name is UNSET else raw.name
        if not WORKFLOW_NAME.fullmatch(name):
            message = "expected a name of lower-case letters, digits, `-` and `_`, starting with a letter, "
            self.faults.add(("name",), f"{message}at most 63 characters, got {quote(name)}")
        return name

    def _project(self, project: str) -> str:
        steps = project.split("/")
        if len(steps) > PROJECT_LEVELS or not all(WORKFLOW_NAME.fullmatch(step) for step in steps):
            levels = f"a path of at most {PROJECT_LEVELS} names"
            self.faults.add(("project",), f"expected {levels}, such as research/llm, got {quote(project)}")
        return project

    def _check_header(self, raw: RawDocument, texts: TextReader) -> None:
        if raw.description is not UNSET:
            texts.check(raw.description, ("description",))
        if raw.labels is not UNSET:
            for key, value in raw.labels.items():
                texts.check(value, ("labels", key))

    def _labels(self, raw: RawDocument) -> dict[str, str]:
        return {} if raw.labels is UNSET else {key: render_string(value) for key, value in raw.labels.items()}

    def _ttl(self, raw: RawDocument) -> tuple[int, int]:
        if raw.ttl is UNSET:
            return 0, 0
        if not isinstance(raw.ttl, RawTtl):
            ttl_ms = self._duration(raw.ttl, ("ttl",))
            return ttl_ms, ttl_ms
        success, failure = raw.ttl.success, raw.ttl.failure
        return (
            0 if success is UNSET else self._duration(success, ("ttl", "success")),
            0 if failure is UNSET else self._duration(failure, ("ttl", "failure")),
        )

    def _duration(self, value: str, path: Path) -> int:
        try:
            return duration_ms(value)
        except Wrong as wrong:
            self.faults.add(path, wrong.message, hint=wrong.hint)
            return 0


def _reaches(value: Any, path: Path) -> bool:
    """Whether the mapping holds something at the path."""
    for step in path:
        if not (step in value if isinstance(value, dict) else isinstance(value, list) and step in range(len(value))):
            return False
        value = value[step]
    return True
