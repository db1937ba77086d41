"""Checks every expression of a document: names, types, and where in a shell script it stands.

Called by `compile.py` last, when params and outputs of all tasks are known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ffd.core.document.faults import Faults
from ffd.core.document.limits import DocumentLimits
from ffd.core.document.texts import Site
from ffd.core.expr import ExprError, Program, Scope, compile_expr, element_type
from ffd.core.spec import Spec, Task

_WORD = re.compile(r"[A-Za-z0-9_./:=@%+,-]+", re.ASCII)
_ONE_WORD = ("int", "float", "bool")


def check_expressions(spec: Spec, sites: list[Site], faults: Faults, limits: DocumentLimits) -> None:
    """Add a fault for each thing wrong with an expression, a warning where a shell would not do what is meant."""
    if not sites:
        return
    base = Scope.of_spec(spec)
    tasks = {task.name: task for task in (*spec.tasks, *spec.finally_tasks)}
    final = {task.name for task in spec.finally_tasks}
    scopes: dict[tuple[str, bool], Scope] = {}
    for site in sites:
        if faults.is_full:
            return
        task = tasks[site.task]
        scope = scopes.get((site.task, site.once))
        if scope is None:
            is_final = site.task in final
            scope = base.for_task_once(is_final=is_final) if site.once else base.for_task(task, is_final=is_final)
            scopes[(site.task, site.once)] = scope
        try:
            program = compile_expr(site.source, scope, expect=site.expect, limits=limits.expressions)
        except ExprError as error:
            for problem in error.problems:
                faults.add(
                    site.path,
                    problem.message,
                    hint=problem.hint,
                    code="limit" if error.code == "limit" else "expression",
                    text=site.source,
                    template=site.template,
                    offset=max(problem.offset, 0),
                )
            continue
        if site.place:
            _check_place(site, program, task, base, faults)


def _check_place(site: Site, program: Program, task: Task, base: Scope, faults: Faults) -> None:
    shown = "${{ " + program.source + " }}"
    if site.place in ("single", "literal heredoc"):
        quoted = "single quotes" if site.place == "single" else "a here-document with a quoted end word"
        faults.add(
            site.path,
            f"{shown} stands in {quoted}, where the shell replaces nothing: the task sees the name of a variable",
            hint="use double quotes" if site.place == "single" else "write the end word without quotes",
            text=site.source,
            template=site.template,
            warning=True,
        )
    elif site.place == "bare" and not _is_one_word(program, task, base):
        faults.add(
            site.path,
            f"{shown} stands outside quotes: the shell splits it at blanks and expands `*`",
            hint='put it in double quotes: "' + shown + '"',
            text=site.source,
            template=site.template,
            warning=True,
        )


def _is_one_word(program: Program, task: Task, base: Scope) -> bool:
    """Known to be a single shell word whatever its value: a number, a bool, a state, fixed values without blanks."""
    if program.type in _ONE_WORD:
        return True
    if not program.only_slot or not program.inputs:
        return False
    name = program.inputs[0].name
    if name.startswith("run.") or name.endswith(".state"):
        return True
    fixed: Mapping[str, tuple[object, ...]] = {f"matrix.{key}": values for key, values in task.matrix.items()}
    if isinstance(task.foreach, tuple):
        fixed = {**fixed, "item": task.foreach}
    elif task.foreach is not None and name == "item":
        source = task.foreach.expressions[0]
        try:
            return element_type(compile_expr(source, base.for_task_once(), expect="list").type) in _ONE_WORD
        except ExprError:
            return True  # its own fault is enough
    values = fixed.get(name)
    return values is not None and all(isinstance(value, str) and _WORD.fullmatch(value) for value in values)
