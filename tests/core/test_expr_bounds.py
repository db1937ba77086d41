"""Expressions that explode are refused or fail, in bounded time and memory; the library's own faults stay its own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from ffd.core.expr import ExprError, ExprLimits, Scope, compile_expr, evaluate

SCOPE = Scope(params={"l": "list<dyn>", "s": "string", "j": "dyn"}, tasks={"a": {"rows": "list<int>"}})


def run(source: str, size: int = 0, **limits: Any) -> Any:
    values = {"params.l": list(range(size)), "tasks.a.outputs.rows": list(range(size)), "params.s": "a" * size}
    program = compile_expr(source, SCOPE)
    return evaluate(program, values, limits=ExprLimits(**limits))


def refused(source: str, size: int = 0, **limits: Any) -> ExprError:
    with pytest.raises(ExprError) as caught:
        run(source, size, **limits)
    return caught.value


@pytest.mark.parametrize(
    "source",
    [
        "['" + "a" * 30 + "']" + ".map(x, x + x)" * 13,
        "['" + "a" * 30 + "']" + ".map(x, x + x + x + x + x + x)" * 6,
        "[params.l]" + ".map(x, x + x)" * 10,
        "[1]" + ".map(x, [x, x])" * 12,
        "[1]" + ".map(x, {'a': x, 'b': x})" * 12,
        "[1]" + ".map(x, [x, x])" * 10 + " == [1]" + ".map(x, [x, x])" * 10,
        "params.l.map(x, params.s + 'a')",
        "params.l.all(x, params.l.all(y, (params.s + params.s).size() > 0))",
        "params.l.all(x, params.s.matches('(a*)*b'))",
        "range(9000).all(x, range(9000).all(y, true))",
        "[params.s].map(x, x + x).map(y, y + y).map(z, z + z + z + z)",
    ],
)
def test_what_could_build_too_much_is_refused_before_it_runs(source: str) -> None:
    error = refused(source, 100_000 if "params.s" in source else 200)
    assert error.field in ("loop_work_bytes", "list_loop_items", "input_bytes")
    assert error.code == "limit"


def test_loops_stop_after_their_steps() -> None:
    assert run("tasks.a.outputs.rows.all(x, x >= 0)", 9_000) is True
    assert refused("tasks.a.outputs.rows.all(x, x >= 0)", 20_000).field == "loop_steps"
    assert refused("params.l.all(x, params.l.all(y, true))", 110).field == "loop_steps"


def test_lists_that_map_copies_are_short() -> None:
    assert run("params.l.map(x, x)", 1_000) == list(range(1_000))
    assert refused("params.l.map(x, x)", 1_001).field == "list_loop_items"


def test_long_lists_are_fine_where_they_are_cheap() -> None:
    assert run("sum(tasks.a.outputs.rows) + size(tasks.a.outputs.rows)", 100_000) == 4_999_950_000 + 100_000
    assert run("tasks.a.outputs.rows[99999]", 100_000) == 99_999
    assert run("range(100000)") == list(range(100_000))


def test_usual_work_over_many_rows_is_allowed() -> None:
    rows = [{"name": f"model-{i}", "acc": i / 1000, "loss": 1.0, "more": "x" * 60} for i in range(1_000)]
    source = "params.l.filter(r, r.acc > 0.5 && r.loss < 2.0).map(r, {'n': r.name, 'acc': r.acc})"
    assert len(evaluate(compile_expr(source, SCOPE), {"params.l": rows})) == 499


def test_inputs_are_bounded() -> None:
    assert run("params.s + 'x'", 1_000_000) == "a" * 1_000_000 + "x"
    assert refused("params.s + params.s", 1_000_000).field == "input_bytes"


def test_results_are_bounded() -> None:
    assert refused("range(1000).map(i, range(500))").field == "result_nodes"


def test_deep_values_never_reach_the_library() -> None:
    deep: Any = 1
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(ExprError) as caught:
        evaluate(compile_expr("params.j == 1", SCOPE), {"params.j": deep})
    assert caught.value.field == "input_depth"
    while isinstance(deep, list):  # taken apart by hand: freeing it at once would recurse
        deep = deep.pop()


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_the_library_would_cut_or_choke_on(text: str) -> None:
    program = compile_expr("params.s + 'x'", SCOPE)
    with pytest.raises(ExprError):
        evaluate(program, {"params.s": text})
    with pytest.raises(ExprError):
        evaluate(compile_expr("params.j.a", SCOPE), {"params.j": {"a": 1, text: 2}})


NULLS = """
import gc, sys
from ffd.core.expr import Scope, compile_expr, evaluate
scope = Scope(params={"j": "dyn", "l": "list<dyn>"})
sources = ["null", "[null, null]", "{'a': null}", "params.j", "[params.j]", "params.l.map(x, x)", "size(params.l)"]
programs = [compile_expr(source, scope) for source in sources]
values = {"params.j": {"a": None}, "params.l": [None, None]}
for _ in range(20):
    for program in programs:
        evaluate(program, values)
gc.collect()
before = sys.getrefcount(None)
for _ in range(3000):
    for program in programs:
        evaluate(program, values)
gc.collect()
print(abs(sys.getrefcount(None) - before))
"""


def test_nulls_do_not_wear_out_none() -> None:
    """For each null it converts, the library drops a reference to None that is not its own: at last Python aborts."""
    found = subprocess.run([sys.executable, "-c", NULLS], capture_output=True, check=True, text=True)
    assert int(found.stdout) < 1_000  # of 21,000 evaluations; the garbage collector accounts for some


LEAK = """
import resource
from ffd.core.expr import Scope, compile_expr, evaluate
program = compile_expr("sum(params.l) > 0 && params.l.all(x, x >= 0)", Scope(params={"l": "list<dyn>"}))
def grow(count):
    for _ in range(count):
        evaluate(program, {"params.l": list(range(1000))})
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(-grow(300) + grow(1500))
"""


def test_evaluations_leave_no_memory_behind() -> None:
    """A function written in Python would leak its arguments in the library: 8 KB per evaluation here, 12 MB in all."""
    found = subprocess.run([sys.executable, "-c", LEAK], capture_output=True, check=True, text=True)
    assert int(found.stdout) < 6_000  # KiB
