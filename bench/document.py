"""Compiling documents and evaluating expressions: no daemon, one process. Floors: the libraries alone, same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import yaml

from bench.table import show, verdict
from ffd.api.source import compile_source
from ffd.core.expr import Scope, compile_expr, evaluate

TASKS_COUNT = 100_000
YAML_COUNT = 1_000
SMALL_COUNT = 300
EVALUATIONS_COUNT = 50_000


def tasks(count: int) -> dict[str, Any]:
    """A chain of plain tasks."""
    return {f"t{i}": {"needs": [f"t{i - 1}"] if i else [], "command": ["true"]} for i in range(count)}


def json_document(count: int) -> bytes:
    return msgspec.json.encode({"name": "bench", "tasks": tasks(count)})


def yaml_document(count: int) -> bytes:
    """As people write them: block style, resources, environment."""
    one = (
        "  t{0}:\n    needs: [{1}]\n    command: [python, train.py, --epochs, '{0}']\n"
        "    resources: {{cpus: 2, memory: 4Gi}}\n    env:\n      MODE: fast\n"
    )
    body = "".join(one.format(i, f"t{i - 1}" if i else "") for i in range(count))
    return f"name: bench\ntasks:\n{body}".encode()


def best_s(work: Callable[[], object], rounds: int) -> float:
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def compiling(data: bytes, filename: str, rounds: int) -> float:
    assert compile_source(data, filename).spec is not None
    return best_s(lambda: compile_source(data, filename), rounds)


def evaluations_per_s() -> tuple[float, float]:
    """(ours, the library alone on the same condition)."""
    from cel_expr_python import cel

    scope = Scope(params={"steps": "int"}, tasks={"train": {"loss": "float"}})
    program = compile_expr("params.steps > 10 && tasks.train.outputs.loss < 2.2", scope, expect="bool")
    values = {"params.steps": 60_000, "tasks.train.outputs.loss": 1.5}
    bare = cel.NewEnv(variables={"a": cel.Type.INT, "b": cel.Type.DOUBLE}).compile("a > 10 && b < 2.2")

    def ours() -> None:
        for _ in range(EVALUATIONS_COUNT):
            evaluate(program, values)

    def floor() -> None:
        for _ in range(EVALUATIONS_COUNT):
            bare.eval(data={"a": 60_000, "b": 1.5}).value()

    return EVALUATIONS_COUNT / best_s(ours, 2), EVALUATIONS_COUNT / best_s(floor, 2)


def main() -> None:
    large, small, text = json_document(TASKS_COUNT), json_document(SMALL_COUNT), yaml_document(YAML_COUNT)
    json_floor_s = best_s(lambda: msgspec.json.decode(large), 2)
    json_s = compiling(large, "bench.json", 2)
    small_us = compiling(small, "bench.json", 50) / SMALL_COUNT * 1e6
    yaml_floor_s = best_s(lambda: yaml.compose(text.decode(), Loader=yaml.CSafeLoader), 3)
    yaml_s = compiling(text, "bench.yaml", 3)
    ours, library = evaluations_per_s()
    show(
        [
            (f"floor: msgspec.json.decode, {TASKS_COUNT:,} tasks", f"{json_floor_s:.2f} s", ""),
            (f"compile JSON, {TASKS_COUNT:,} tasks", f"{json_s:.2f} s", verdict(json_s, 3, 1, less=True)),
            (f"compile JSON, {SMALL_COUNT} tasks", f"{small_us:.1f} us/task", verdict(small_us, 15, 10, less=True)),
            (f"floor: yaml.compose (C), {YAML_COUNT:,} tasks", f"{yaml_floor_s * 1e3:.0f} ms", ""),
            (f"compile YAML, {YAML_COUNT:,} tasks", f"{yaml_s * 1e3:.0f} ms", f"{YAML_COUNT / yaml_s:,.0f} tasks/s"),
            ("floor: the CEL library alone", f"{library:,.0f} /s", ""),
            ("evaluate a condition of two names", f"{ours:,.0f} /s", f"{1e6 / ours:.1f} us each"),
        ]
    )
