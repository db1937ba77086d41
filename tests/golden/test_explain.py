"""Golden transcripts: what `ffd why` says. One file per reason; from `told:` on it is what came out.

`FFD_GOLDEN=write pytest tests/golden/test_explain.py` writes it anew: read every changed line before you commit it.

    nodes: [{count: 2, gpus: 8, model: H100, rack: r1}]   # names n1, n2, ...; more: cpus, taints
    policy: {preempt: "off"}
    run: {"a": {run: 2s, exit: 1}}                        # how replicas behave; default: they run for an hour
    do:                                                   # in order, see ACTIONS
      - submit: {name: one, project: p, tasks: {a: {gang: 2, resources: {gpus: 8}, run: work}}}
      - quota: {p: {gpus: 8, borrow: 0}}
      - wait: 2s
    ask: [{why: one.1/a}, {why: one.1/a, what_if: [gpus=4]}, {why: one.1/a, sees: [p]}]
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ffd.api.source import parse_source
from ffd.cli.refs import parse
from ffd.cli.why import text
from ffd.core.commands import Cancel, Cordon, Drain, Retry, SetPriority, SetQuota, SetTenant, Suspend
from ffd.core.document import compile_document
from ffd.core.document.scalars import duration_ms
from ffd.core.model import Node
from ffd.core.policy import Policy
from ffd.core.state import State
from ffd.core.why import explain
from ffd.errors import Refusal
from ffd.testing.builders import submit
from ffd.testing.cluster import Behaviour, Cluster

FOLDER = Path(__file__).parent / "explain"
CUT = "\ntold:\n"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
HOUR_MS = 3_600_000


@pytest.mark.parametrize("name", NAMES)
def test_explanation(name: str) -> None:
    path = FOLDER / f"{name}.yaml"
    head, _, told = path.read_text().partition(CUT)
    found = "\n".join(f"  {line}".rstrip() for line in World(head).told()) + "\n"
    if os.environ.get("FFD_GOLDEN") == "write":
        path.write_text(head + CUT + found)
        return
    changes = difflib.unified_diff(told.splitlines(), found.splitlines(), "as written", "as it is", lineterm="", n=2)
    assert found == told, f"golden {name}:\n" + "\n".join(changes)


class World:
    """One file, played."""

    def __init__(self, head: str) -> None:
        found = parse_source(head.encode(), "golden.yaml")
        assert found.is_readable and not found.faults, found.faults
        given = found.mapping
        self.asked = given["ask"]
        self.handles: dict[str, int] = {}
        behaviours = {name: _behaviour(fields) for name, fields in given.get("run", {}).items()}
        policy = {
            key: duration_ms(value) if key.endswith("_ms") else value for key, value in given.get("policy", {}).items()
        }
        self.cluster = Cluster(
            _nodes(given["nodes"]),
            lambda attempt, rank: behaviours.get(attempt.task, Behaviour(run_ms=HOUR_MS, stop_ms=30_000)),
            policy=Policy(**policy),
        )
        for step in given["do"]:
            for word, value in step.items():
                ACTIONS[word](self, value)

    def submit(self, fields: dict[str, Any]) -> None:
        document = {key: value for key, value in fields.items() if key not in ("project", "priority")}
        compiled = compile_document(document, default_name="demo")
        assert compiled.spec is not None, compiled.faults
        more = {"priority": fields["priority"]} if "priority" in fields else {}
        (answer,) = self.cluster.send(submit(compiled.spec, project=fields.get("project", "default"), **more))
        self.handles[answer.handle] = answer.workflow  # type: ignore[union-attr]

    def quota(self, tenants: dict[str, dict[str, Any]]) -> None:
        for tenant, fields in tenants.items():
            borrow, lend = fields.get("borrow"), fields.get("lend")
            row = {
                "nominal": fields["gpus"] * 1_000,
                "borrow_max": None if borrow is None else borrow * 1_000,
                "lend_max": None if lend is None else lend * 1_000,
            }
            self.cluster.send(SetQuota(tenant=tenant.strip("/"), changes={"gpus": row}, by="root"))

    def ask(self, kind: Callable[..., Any], handle: str, **fields: Any) -> None:
        self.cluster.send(kind(workflow=self.handles[handle], by="ann", **fields))

    def told(self) -> list[str]:
        lines: list[str] = []
        for asked in self.asked:
            options = "".join(f" --what-if {text}" for text in asked.get("what_if", ()))
            seen = f"   # by one who sees {', '.join(asked['sees'])}" if "sees" in asked else ""
            lines += ["" if lines else None, f"$ ffd why {asked['why']}{options}{seen}", *self._answer(asked)]  # type: ignore[list-item]
        return [line for line in lines if line is not None]

    def _answer(self, asked: dict[str, Any]) -> list[str]:
        target = parse(asked["why"])
        workflow = self.handles[target.workflow]
        state = self.cluster.state
        if workflow not in state.workflows:
            state = State.load(self.cluster.ledger.rows_of(workflow))
        projects = frozenset(asked["sees"]) if "sees" in asked else None
        try:
            page = explain(
                state,
                workflow,
                target.task,
                target.item,
                self.cluster.now_ms,
                projects,
                tuple(asked.get("what_if", ())),
            )
        except Refusal as refusal:
            return [f"refused: {refusal.message} ({refusal.hint})"]
        return text(page).rstrip("\n").split("\n")


ACTIONS: dict[str, Callable[[World, Any], Any]] = {
    "submit": World.submit,
    "quota": World.quota,
    "wait": lambda world, value: world.cluster.run(duration_ms(value)),
    "disable": lambda world, value: world.cluster.send(SetTenant(tenant=value, enabled=False, by="root")),
    "suspend": lambda world, value: world.ask(Suspend, value),
    "cancel": lambda world, value: world.ask(Cancel, value),
    "retry": lambda world, value: world.ask(Retry, value),
    "priority": lambda world, value: [world.ask(SetPriority, who, priority=most) for who, most in value.items()],
    "cordon": lambda world, value: world.cluster.send(Cordon(nodes=tuple(value), by="ann", why="disk")),
    "drain": lambda world, value: world.cluster.send(Drain(nodes=tuple(value), by="ann", why="disk")),
    "learnt": lambda world, value: [
        world.cluster.state.forecast.learn(*name.rsplit("/", 1), duration_ms(span)) for name, span in value.items()
    ],
}  # fmt: skip


def _nodes(groups: list[dict[str, Any]]) -> tuple[Node, ...]:
    found: list[Node] = []
    for group in groups:
        for _ in range(group.get("count", 1)):
            gpus = group.get("gpus", 0)
            found.append(
                Node(
                    f"n{len(found) + 1}", gpu_type=group.get("model", "H100") if gpus else "", gpu_count=gpus,
                    cpu_millis=group.get("cpus", 64) * 1_000, memory_bytes=512 << 30,
                    labels={"rack": group["rack"]} if "rack" in group else {}, taints=tuple(group.get("taints", ())),
                )
            )  # fmt: skip
    return tuple(found)


def _behaviour(fields: dict[str, Any]) -> Behaviour:
    given = {name + "_ms": duration_ms(fields[name]) for name in ("run", "stop") if name in fields}
    return Behaviour(exit_code=fields.get("exit", 0), tail=fields.get("tail", ""), **{"run_ms": HOUR_MS, **given})
