"""One raw task -> one `spec.Task`: short forms expanded, units read, texts cut into parts, edges inferred.

`TaskReader` reads all tasks of one document. Equal sub-structs are shared, and a plain task touches nothing it does not
name: this runs for every task of a 100,000-task document. What expressions mean is checked later (`expressions.py`):
here they are only found, as `Site`s (`texts.py`). Called by `compile.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from msgspec import UNSET, UnsetType

from ffd.core.document.faults import Faults, Path, quote
from ffd.core.document.limits import DocumentLimits
from ffd.core.document.raw import RawTask, Scalar
from ffd.core.document.resources import ResourceReader
from ffd.core.document.scalars import ENV_NAME, Wrong, check_json, check_name, duration_ms
from ffd.core.document.texts import Site, TextReader
from ffd.core.expr import nearest, references
from ffd.core.spec import (
    Checkpoint,
    Gang,
    Need,
    NeedOutcome,
    Resources,
    Retry,
    Task,
    TaskKind,
    Template,
    Text,
    Timeouts,
)

_NOTHING: dict[str, Any] = {}
_RESOURCES, _GANG, _RETRY, _TIMEOUTS = Resources(), Gang(), Retry(), Timeouts()
_CALL = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


class TaskReader:
    """`known` maps every task name of the document to True when it stands under `finally`."""

    def __init__(self, faults: Faults, limits: DocumentLimits, known: Mapping[str, bool]) -> None:
        self.faults = faults
        self.limits = limits
        self.known = known
        self.texts = TextReader(faults, limits)
        self.edges_count = 0
        self._resources = ResourceReader(faults, limits)
        self._needs: dict[tuple[str, NeedOutcome], Need] = {}

    def read(self, name: str, raw: RawTask, path: Path, line: int) -> Task:
        """Never raises: what has a fault is left at its default, as the document is refused anyway."""
        first_site = len(self.texts.sites)
        when = "" if raw.when is UNSET else self._when(name, raw.when, path)
        foreach = None if raw.foreach is UNSET else self._foreach(name, raw.foreach, (*path, "foreach"))
        matrix = _NOTHING if raw.matrix is UNSET else self._matrix(raw.matrix, (*path, "matrix"))
        kind, script, bindings, argv, function, with_ = self._action(name, raw, path)
        env = _NOTHING if raw.env is UNSET else self._env(name, raw.env, (*path, "env"))
        files = _NOTHING if raw.files is UNSET else self._files(name, raw.files, (*path, "files"))
        workdir = "" if raw.workdir is UNSET else self.texts.text(name, raw.workdir, (*path, "workdir"))
        checkpoint = None if raw.checkpoint is UNSET else self._checkpoint(name, raw.checkpoint, (*path, "checkpoint"))
        if foreach is not None or matrix:
            self._check_fanout(foreach, matrix, path)
        elif raw.max_parallel is not UNSET:
            self._warn_max_parallel((*path, "max_parallel"))
        return Task(
            name,
            kind,
            self._edges(name, raw.needs, path, first_site),
            when,
            script,
            bindings,
            argv,
            function,
            with_,
            "" if raw.image is UNSET else self._image(raw.image, (*path, "image")),
            env,
            files,
            workdir,
            _RESOURCES if raw.resources is UNSET else self._resources.resources(raw.resources, (*path, "resources")),
            _GANG if raw.gang is UNSET else self._resources.gang(name, raw.gang, (*path, "gang"), self.known),
            matrix,
            foreach,
            0 if raw.max_parallel is UNSET else raw.max_parallel,
            _RETRY if raw.retry is UNSET else self._resources.retry(raw.retry, (*path, "retry")),
            _TIMEOUTS if raw.timeout is UNSET else self._resources.timeouts(raw.timeout, (*path, "timeout")),
            _NOTHING if raw.outputs is UNSET else self._outputs(raw.outputs, (*path, "outputs")),
            checkpoint,
            line,
        )

    # --- what the task does -------------------------------------------------------------------------------------------

    def _action(
        self, name: str, raw: RawTask, path: Path
    ) -> tuple[TaskKind, str, dict[str, str], tuple[Text, ...], str, dict[str, Any]]:
        given = [
            field
            for field, value in (("run", raw.run), ("command", raw.command), ("call", raw.call))
            if value is not UNSET
        ]
        if len(given) != 1:
            self._wrong_actions(given, path)
        if raw.args is not UNSET and raw.command is UNSET:
            self.faults.add((*path, "args"), "`args` goes with `command`", key=True)
        if raw.with_ is not UNSET and raw.call is UNSET:
            self.faults.add((*path, "with"), "`with` goes with `call`", key=True)
        if raw.command is not UNSET:
            return "command", "", _NOTHING, self._argv(name, raw, path), "", _NOTHING
        if raw.call is not UNSET:
            if not _CALL.fullmatch(raw.call):
                self.faults.add((*path, "call"), f"expected module:function, got {quote(raw.call)}")
            with_ = _NOTHING if raw.with_ is UNSET else self.texts.deep(name, raw.with_, (*path, "with"))
            return "call", "", _NOTHING, (), raw.call, with_
        script, bindings = ("", _NOTHING) if raw.run is UNSET else self.texts.script(name, raw.run, (*path, "run"))
        return "run", script, bindings, (), "", _NOTHING

    def _wrong_actions(self, given: list[str], path: Path) -> None:
        if given:
            message = (
                f"expected one of `run`, `command` and `call`, got {' and '.join(f'`{field}`' for field in given)}"
            )
            self.faults.add((*path, given[1]), message, key=True)
        elif not self.faults.touches(path):
            hint = "add `run:` with a shell script, or `command:` with a list"
            self.faults.add(path, "the task does nothing", hint=hint, code="no_action", key=True)

    def _argv(self, name: str, raw: RawTask, path: Path) -> tuple[Text, ...]:
        command = raw.command if raw.command is not UNSET else []
        if not command:
            self.faults.add((*path, "command"), "expected at least one word, got an empty list")
        argv = [self.texts.text(name, word, (*path, "command", index)) for index, word in enumerate(command)]
        if raw.args is not UNSET:
            argv += [self.texts.text(name, word, (*path, "args", index)) for index, word in enumerate(raw.args)]
        return tuple(argv)

    # --- the other fields ---------------------------------------------------------------------------------------------

    def _when(self, name: str, value: str | bool, path: Path) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        source = self.texts.expression(value, (*path, "when"))
        if source:
            self.texts.sites.append(Site(name, (*path, "when"), source, "bool", True))
        return source

    def _foreach(self, name: str, value: list[Any] | str, path: Path) -> tuple[Any, ...] | Template | None:
        if isinstance(value, str):
            source = self.texts.expression(value, path)
            if source:
                self.texts.sites.append(Site(name, path, source, "list", True))
            return Template(("", source, ""))
        return self._fixed_list(value, path)

    def _fixed_list(self, values: list[Any], path: Path) -> tuple[Any, ...]:
        for index, value in enumerate(values):
            try:
                check_json(value, self.limits.depth_count)
            except Wrong as wrong:
                self.faults.add((*path, index), wrong.message, hint=wrong.hint)
            if isinstance(value, str) and "${{" in value:
                hint = "write the whole list as one expression: foreach: ${{ [params.a, params.b] }}"
                self.faults.add((*path, index), "expected a fixed value, got an expression", hint=hint)
        return tuple(values)

    def _matrix(self, value: dict[str, list[Any]], path: Path) -> dict[str, tuple[Any, ...]]:
        if not value:
            self.faults.add(path, "expected at least one key, got an empty map")
        for key in value:
            self._check_name(key, "matrix key", (*path, key))
        return {key: self._fixed_list(values, (*path, key)) for key, values in value.items()}

    def _check_fanout(self, foreach: Any, matrix: dict[str, tuple[Any, ...]], path: Path) -> None:
        count = len(foreach) if isinstance(foreach, tuple) else 1
        for values in matrix.values():
            count *= len(values)
        if count > self.limits.fanout_items_count:
            limit = f"{self.limits.fanout_items_count} (limit fanout_items_count)"
            self.faults.add(path, f"the task fans out to {count} items, more than {limit}", code="limit", key=True)

    def _warn_max_parallel(self, path: Path) -> None:
        if self.faults.origin(path) == path:  # in `defaults` it is meant for the tasks that do fan out
            message = "`max_parallel` has no effect: the task has neither `foreach` nor `matrix`"
            self.faults.add(path, message, key=True, warning=True)

    def _image(self, value: str, path: Path) -> str:
        if "${{" in value or not value.strip() or value.split() != [value]:
            self.faults.add(path, f"expected an image name, fixed and without blanks, got {quote(value)}")
        return value

    def _env(self, name: str, value: dict[str, Scalar], path: Path) -> dict[str, Text]:
        for key in value:
            if not ENV_NAME.fullmatch(key):
                message = f"{quote(key)} is not a variable name: expected letters, digits and `_`"
                self.faults.add((*path, key), message, key=True)
            elif key.startswith("FFD_"):
                self.faults.add((*path, key), f"{quote(key)} is reserved: ffd sets the variables FFD_*", key=True)
        return {key: self.texts.text(name, child, (*path, key)) for key, child in value.items()}

    def _files(self, name: str, value: dict[str, str], path: Path) -> dict[str, Text]:
        for key in value:
            steps = key.split("/")
            if "\0" in key or "" in steps or "." in steps or ".." in steps:
                message = f"expected a path inside the working directory, such as conf/train.yaml, got {quote(key)}"
                self.faults.add((*path, key), message, key=True)
        return {key: self.texts.text(name, child, (*path, key)) for key, child in value.items()}

    def _checkpoint(self, name: str, value: Any, path: Path) -> Checkpoint | None:
        if value is False:
            return None
        if value is True:
            return Checkpoint()
        grace_ms = Checkpoint().grace_ms
        if value.grace is not UNSET:
            try:
                grace_ms = duration_ms(value.grace)
            except Wrong as wrong:
                self.faults.add((*path, "grace"), wrong.message, hint=wrong.hint)
        return Checkpoint("" if value.path is UNSET else self.texts.text(name, value.path, (*path, "path")), grace_ms)

    def _outputs(self, value: dict[str, Any], path: Path) -> dict[str, Any]:
        if len(value) > self.limits.outputs_count:
            self.faults.add(path, f"more than {self.limits.outputs_count} outputs (limit outputs_count)", code="limit")
        for key in value:
            self._check_name(key, "output", (*path, key))
        return value

    def _check_name(self, name: str, kind: str, path: Path) -> None:
        try:
            check_name(name, kind)
        except Wrong as wrong:
            self.faults.add(path, wrong.message, hint=wrong.hint, key=True)

    # --- edges --------------------------------------------------------------------------------------------------------

    def _edges(
        self, name: str, raw: list[str] | dict[str, NeedOutcome] | UnsetType, path: Path, first_site: int
    ) -> tuple[Need, ...]:
        """Declared needs, then those that expressions imply, each parent once."""
        if first_site == len(self.texts.sites):  # the usual task: no expressions
            if raw is UNSET:
                return ()
            if (
                isinstance(raw, list)
                and len(raw) == 1
                and self.known.get(raw[0]) is self.known[name]
                and raw[0] != name
            ):
                self.edges_count += 1
                return (self._need(raw[0], "success"),)
        found: dict[str, NeedOutcome] = {}
        if isinstance(raw, dict):
            found.update(raw)
        elif raw is not UNSET:
            found = dict.fromkeys(raw, "success")
        if found:
            self._check_needs(name, raw, path)
        for site in self.texts.sites[first_site:]:
            for reference in references(site.source):
                root, _, rest = reference.partition(".")
                if root == "tasks":
                    self._infer(name, rest.partition(".")[0], site, found)
        self.edges_count += len(found)
        found.pop(name, None)  # a fault of its own
        return tuple([self._need(parent, outcome) for parent, outcome in found.items() if parent in self.known])

    def _need(self, task: str, outcome: NeedOutcome) -> Need:
        found = self._needs.get((task, outcome))
        if found is None:
            found = self._needs[(task, outcome)] = Need(task, outcome)
        return found

    def _check_needs(self, name: str, raw: Any, path: Path) -> None:
        is_final = self.known[name]
        for index, parent in enumerate(raw):
            final_parent = self.known.get(parent)
            if final_parent is is_final and parent != name:
                continue
            where = (*path, "needs", parent if isinstance(raw, dict) else index)
            is_key = isinstance(raw, dict)
            if final_parent is None:
                message = f"unknown task {quote(parent)}"
                self.faults.add(
                    where, message, hint=partial(nearest, parent, self.known), code="unknown_task", key=is_key
                )
            elif parent == name:
                self.faults.add(where, f"`{name}` needs itself", code="cycle", key=is_key)
            elif is_final:
                message = f"`{parent}` need not be named: tasks under `finally` run after all others"
                self.faults.add(where, message, key=is_key)
            else:
                message = f"`{parent}` stands under `finally` and runs after all others, so nothing can wait for it"
                self.faults.add(where, message, key=is_key)

    def _infer(self, name: str, parent: str, site: Site, found: dict[str, NeedOutcome]) -> None:
        """An edge for a task that an expression names. Unknown names are left to the check of the expression."""
        is_final, final_parent = self.known[name], self.known.get(parent)
        if parent == name:
            message = "the expression reads the task it belongs to"
            self.faults.add(site.path, message, text=site.source, template=site.template, code="cycle")
        elif final_parent and not is_final:
            message = f"`{parent}` stands under `finally` and runs after all others, so nothing can read it"
            self.faults.add(site.path, message, text=site.source, template=site.template, code="expression")
        elif final_parent is is_final:
            found.setdefault(parent, "success")
