"""The house rules, held by machine: rooms, sizes, names, purity of the core, its one door, its complete tables."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from ffd.core import commands, effects, events, model, reports
from ffd.core.lifecycle import ITEM, TASK, WORKFLOW
from ffd.core.live import LiveTask
from ffd.core.state import _APPLY
from ffd.core.step import EFFECT, HANDLE, REACT
from ffd.core.story import WORDS
from ffd.testing import cluster

ROOT = Path(__file__).parents[1]
FFD = ROOT / "ffd"
FILE_LINES, FUNCTION_LINES = 600, 70
FORBIDDEN_NAMES = {"util", "utils", "common", "helper", "helpers", "base", "manager", "service", "services", "misc"}
# the one door and what it keeps
WRITERS = {
    "state.py",
    "memory.py",
    "live.py",
    "lanes.py",
    "kinds.py",
    "rehearsal.py",
    "holders.py",
    "forecast.py",
    "space.py",
    "tenancy.py",
    "health.py",
}
CATCH_ALL = {"daemon/roots.py"}  # what the roots of the daemon's tasks share
VIRTUAL_TIME = {"daemon", "sim"}  # tests here run on a loop whose clock is theirs: to sleep is to move it


def sources(*folders: Path) -> list[Path]:
    found = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return [path for path in found if "proto" not in path.relative_to(ROOT).parts]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


EVERYTHING = sources(FFD, ROOT / "tests", ROOT / "bench")
CORE = sources(FFD / "core")


# --------------------------------------------------------------------------------------------------- size and names


def test_files_and_functions_are_small() -> None:
    large = [str(path.relative_to(ROOT)) for path in EVERYTHING if path.read_text().count("\n") > FILE_LINES]
    for path in EVERYTHING:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    large.append(f"{where(path, node)} {node.name} has {lines} lines")
    assert not large


def test_no_room_is_called_after_nothing() -> None:
    named = [path for path in EVERYTHING if FORBIDDEN_NAMES & {*path.relative_to(ROOT).parts, path.stem}]
    assert not named


def test_each_module_says_what_lives_there() -> None:
    silent = [
        str(path.relative_to(ROOT)) for path in sources(FFD) if path.read_text() and not ast.get_docstring(parsed(path))
    ]
    assert not silent


def test_nothing_is_left_to_be_done() -> None:
    words = ["TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error"]
    left = [f"{path.relative_to(ROOT)}: {word}" for path in EVERYTHING for word in words if word in path.read_text()]
    assert not left


def test_no_path_of_a_machine_is_named() -> None:
    """The product knows neither where it was made nor by what."""
    places = ["/tmp" + "/x/", "/work" + "/main", "/work" + "/shared"]
    folders = [ROOT / name for name in ("ffd", "tests", "bench", "docs", "config")]
    files = [*ROOT.glob("*"), *(path for folder in folders for path in folder.rglob("*"))]
    named = [
        f"{path.relative_to(ROOT)}: {place}"
        for path in files
        if path.is_file() and path.suffix != ".pyc"
        for place in places
        if place.encode() in path.read_bytes()
    ]
    assert not named


def catches_all(handler: ast.ExceptHandler) -> bool:
    """Anything at all, and it is not raised again."""
    caught = (
        {name.id for name in ast.walk(handler.type) if isinstance(name, ast.Name)} if handler.type else {"Exception"}
    )
    raises = any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler))
    return bool(caught & {"Exception", "BaseException"}) and not raises


def test_everything_is_caught_at_the_roots_of_tasks_only() -> None:
    caught = {
        str(path.relative_to(FFD))
        for path in sources(FFD)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ExceptHandler) and catches_all(node)
    }
    assert caught == CATCH_ALL


def test_nobody_sleeps() -> None:
    """Tests wait for what happens; the product sleeps by its clock, which is given to it."""
    slept = []
    for path in (*sources(ROOT / "tests"), *sources(FFD / "core")):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep":
                is_real = ast.unparse(node.func) == "time.sleep" or path.parent.name not in VIRTUAL_TIME
                slept += [where(path, node)] if is_real else []
    assert not slept


# ----------------------------------------------------------------------------------------------------- what is loaded


def loaded_by(code: str) -> set[str]:
    """Names of top-level modules that are loaded after this code ran in a fresh interpreter."""
    code += (
        "\nimport sys; print('\\n'.join(sorted({name.partition('.')[0] for name in sys.modules} | set(sys.modules))))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return set(told.stdout.split("\n"))


def test_the_core_loads_nothing_that_does_io() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in CORE]
    code = "\n".join(f"import {name.removesuffix('.__init__')}" for name in names)
    code += "\nfrom ffd.core.expr import Scope, compile_expr, evaluate"
    code += "\nassert evaluate(compile_expr('1 + params.n', Scope(params={'n': 'int'})), {'params.n': 2}) == 3"
    assert not loaded_by(code) & {"asyncio", "anyio", "socket", "sqlite3", "aiohttp", "yaml", "ffd.daemon"}


def test_the_sdk_is_light() -> None:
    heavy = {
        "textual",
        "kubernetes_asyncio",
        "aiohttp",
        "click",
        "rich",
        "ffd.core",
        "ffd.daemon",
        "ffd.plugins",
        "ffd.api",
    }
    assert not loaded_by("import ffd.sdk, ffd; ffd.current") & heavy


def test_the_package_itself_is_lighter_still() -> None:
    assert not loaded_by("import ffd") & {"asyncio", "ffd.sdk", "ffd.core", "msgspec"}


# -------------------------------------------------------------------------------------------------------- pure core

IMPURE_MODULES = {
    "asyncio", "anyio", "datetime", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "shutil",
    "socket", "sqlite3", "subprocess", "sys", "tempfile", "threading", "time", "uuid", "weakref",
}  # fmt: skip
IMPURE_CALLS = {"open", "print", "input", "eval", "exec", "hash", "id", "globals", "__import__"}


def imported(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node, node.module.partition(".")[0]


def test_the_core_is_pure() -> None:
    """No clock, chance, file, thread; and no `hash` or `id`, which differ from run to run."""
    impure = []
    for path in CORE:
        tree = parsed(path)
        impure += [f"{where(path, node)} imports {name}" for node, name in imported(tree) if name in IMPURE_MODULES]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
                impure.append(f"{where(path, node)} calls {node.func.id}")
    assert not impure


# -------------------------------------------------------------------------------------------------------- the one door


def row_fields() -> set[str]:
    rows = (model.Workflow, model.Task, model.Item, model.Attempt, LiveTask)
    return {field for row in rows for field in row.__struct_fields__}


MUTATORS = {
    "add",
    "append",
    "clear",
    "discard",
    "extend",
    "insert",
    "pop",
    "popleft",
    "remove",
    "setdefault",
    "sort",
    "update",
}


def written(tree: ast.Module) -> Iterator[ast.Attribute]:
    """Attributes (not of `self`) that are assigned, deleted, assigned into, or told to change."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = list(node.targets)
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            targets = [node.func.value]
        for target in targets:
            for part in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
                while isinstance(part, ast.Subscript):
                    part = part.value
                if isinstance(part, ast.Attribute) and ast.unparse(part.value) != "self":
                    yield part


def test_rows_are_written_through_the_one_door() -> None:
    """Law 4. Also by nobody who holds the state outside the core."""
    fields = row_fields()
    wrong = [
        f"{where(path, target)} writes {ast.unparse(target)}"
        for path in (*CORE, *sources(FFD / "daemon"))
        if path.name not in WRITERS and path.parent.name not in ("document", "expr")
        for target in written(parsed(path))
        if target.attr in fields
    ]
    assert not wrong


def test_events_are_applied_by_the_step_and_by_replays_only() -> None:
    applying = {
        str(path.relative_to(FFD))
        for path in sources(FFD / "core", FFD / "daemon", FFD / "testing")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "apply"
    }
    assert applying == {"core/work.py", "core/rehearsal.py", "daemon/fsck.py", "testing/ledger.py"}


# ------------------------------------------------------------------------------------------------------------- tables

EVENTS = set(get_args(events.AnyEvent))


def test_the_tables_of_the_step_are_complete() -> None:
    assert set(HANDLE) == {*get_args(commands.AnyCommand), *get_args(reports.AnyReport)}
    assert set(_APPLY) == EVENTS and set(WORDS) == EVENTS
    assert set(REACT) <= EVENTS and set(EFFECT) <= EVENTS
    assert set(cluster._PERFORM) == set(get_args(effects.AnyEffect))


@pytest.mark.parametrize(
    ("table", "states", "start"),
    [
        (WORKFLOW, get_args(model.WorkflowState), "accepted"),
        (TASK, get_args(model.TaskState), "waiting"),
        (ITEM, get_args(model.ItemState), "ready"),
    ],
)
def test_lifecycles_reach_every_state_and_no_other(
    table: dict[tuple[str, str], str], states: tuple[str, ...], start: str
) -> None:
    reached = {start}
    while more := {after for (before, _), after in table.items() if before in reached} - reached:
        reached |= more
    assert reached == set(states) and {before for before, _ in table} <= set(states)


def test_triggers_are_events() -> None:
    names = {event.__name__ for event in EVENTS}
    triggers = {trigger.partition(".")[0] for table in (WORKFLOW, TASK, ITEM) for _, trigger in table}
    assert triggers <= names
