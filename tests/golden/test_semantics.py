"""Golden transcripts: what a document means, told as the story of a run. One file per rule of the semantics.

Each file holds a document, what the outside did (how replicas behave, what users ask and when), and from `story:` on
what the core made of it. `FFD_GOLDEN=write pytest tests/golden/test_semantics.py` writes the stories anew: read every
changed line against the rules before you commit it.

    outside:
      nodes: {count: 2, slots: 1}             # default: one node with room for anything
      policy: {preempt: "off"}                # of the scheduler; default: that of the product
      replicas: {"a#1": {exit: 1, run: 2s}}   # task[item]#attempt:rank; default: starts after 100ms, runs 1s, exits 0
      first: submit only=a                    # at the start; default: submit
      then: [{2s: cancel}, {3s: retry}]       # see ACTIONS
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ffd.api.source import parse_source
from ffd.core import events as ev
from ffd.core import reports
from ffd.core.commands import Cancel, Cordon, Drain, Resume, Retry, SetPriority, SetQuota, SetTenant, Suspend, Uncordon
from ffd.core.document import compile_document
from ffd.core.document.scalars import duration_ms
from ffd.core.limits import Limits
from ffd.core.model import AttemptId
from ffd.core.policy import Policy
from ffd.core.spec import Spec
from ffd.core.story import cause_text, event_text
from ffd.errors import FfdError
from ffd.testing.builders import nodes, submit
from ffd.testing.cluster import Behaviour, Cluster

FOLDER = Path(__file__).parent / "semantics"
CUT = "\nstory:\n"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SILENT = (ev.SpecAdded, ev.KeyRemembered, ev.WorkflowForgotten, ev.NodesChanged)


@pytest.mark.parametrize("name", NAMES)
def test_story(name: str) -> None:
    path = FOLDER / f"{name}.yaml"
    head, _, told = path.read_text().partition(CUT)
    story = "\n".join(f"  {line}".rstrip() for line in Transcript(head).run()) + "\n"
    if os.environ.get("FFD_GOLDEN") == "write":
        path.write_text(head + CUT + story)
        return
    changes = difflib.unified_diff(told.splitlines(), story.splitlines(), "as written", "as it is", lineterm="", n=2)
    assert story == told, f"golden {name}:\n" + "\n".join(changes)


def test_there_are_transcripts_of_every_rule() -> None:
    rules = {name.split("_")[1] for name in NAMES if name.startswith("rule_")}
    assert rules == {str(number) for number in range(1, 10)}


class Transcript:
    """One file, played."""

    def __init__(self, head: str) -> None:
        found = parse_source(head.encode(), "golden.yaml")
        assert found.is_readable and not found.faults, found.faults
        compiled = compile_document(found.mapping["document"], default_name="demo")
        assert compiled.spec is not None, compiled.faults
        outside = found.mapping.get("outside", {})
        self.spec: Spec = compiled.spec
        self.params = outside.get("params", {})
        self.then = [(duration_ms(at), action) for step in outside.get("then", ()) for at, action in step.items()]
        self.first = outside.get("first", "submit")
        self.said: list[tuple[int, str]] = []  # (length of the story before it, line)
        self.nodes = outside.get("nodes", {})
        self.cluster = Cluster(
            _nodes(self.nodes),
            {name: _behaviour(fields) for name, fields in outside.get("replicas", {}).items()},
            limits=Limits(**outside.get("limits", {})),
            policy=Policy(**{name: _setting(name, value) for name, value in outside.get("policy", {}).items()}),
        )

    def run(self) -> list[str]:
        self._act(self.first)
        for at_ms, action in self.then:
            self.cluster.at(at_ms, lambda action=action: self._act(action))
        self.cluster.run()
        return [*self._story(), "", *self._ends()]

    def _act(self, action: str) -> None:
        word, _, rest = action.partition(" ")
        place, told_before = len(self.cluster.story), len(self.cluster.effects)
        answers = ACTIONS[word](self, rest) or []
        told = [f": {answer.code}, {answer.message}" for answer in answers if isinstance(answer, FfdError)]
        if word in ("started", "exited"):
            told += [f": {_order(effect)}" for effect in self.cluster.effects[told_before:]]
        if action != self.first or place > 1:
            self.said.append((place, f"{self.cluster.now_ms / 1000:9.3f}  > {action}{''.join(told)}"))

    def submit(self, rest: str) -> Any:
        """`submit project=a/b priority=700 only=train`: the document again, or only one task of it."""
        named = dict(word.split("=") for word in rest.split())
        fields: dict[str, Any] = {"project": named["project"]} if "project" in named else {}
        if "priority" in named:
            fields["priority"] = int(named["priority"])
        only = named.get("only")
        tasks = tuple(task for task in self.spec.tasks if only is None or task.name == only)
        return self.cluster.send(submit(msgspec.structs.replace(self.spec, tasks=tasks), self.params, **fields))

    def ask(self, command: Any) -> Any:
        return self.cluster.send(command)

    def tell(self, kind: str, rest: str) -> Any:
        """`exited a#1 rank 0 code 3`, `started g#2 rank 1`: a report out of turn."""
        words = rest.split()
        task, _, number = words[0].partition("#")
        task, _, item = task.rstrip("]").partition("[")
        fields = dict(zip(words[1::2], map(int, words[2::2]), strict=True))
        attempt = AttemptId(1, task, int(item or 0), int(number))
        if kind == "started":
            return self.cluster.send(reports.ReplicaStarted(attempt, fields["rank"]))
        return self.cluster.send(reports.ReplicaExited(attempt, fields["rank"], exit_code=fields["code"]))

    # ------------------------------------------------------------------------------------------------------- the story

    def _story(self) -> list[str]:
        lines, said = [], dict[int, list[str]]()
        for place, line in self.said:
            said.setdefault(place, []).append(line)
        several = len(self.cluster.pages) > 1
        for place, (at_ms, event) in enumerate(self.cluster.story):
            lines += said.pop(place, [])
            if not isinstance(event, SILENT):
                who = f"{_workflow_of(event)} " if several else ""
                lines.append(f"{at_ms / 1000:9.3f}  {who}{event_text(event)}{self._given(event)}")
        return [*lines, *(line for rest in said.values() for line in rest)]

    def _given(self, event: ev.AnyEvent) -> str:
        """What a launch was given: the values of its expressions."""
        if not isinstance(event, ev.AttemptLaunching) or event.attempt not in self.cluster.orders:
            return ""
        order = self.cluster.orders[event.attempt]
        given = [
            f"{name}={value}" for name, value in order.env.items() if not name.startswith("FFD_") or "EXPR" in name
        ]
        given += [f"argv={' '.join(order.argv)}"] if order.argv else []
        given += [f"restored={order.restored}"] if order.restored else []
        return f" with {', '.join(given)}" if given else ""

    def _ends(self) -> list[str]:
        lines = []
        ends = {event.workflow: event for event in self.cluster.of(ev.WorkflowEnded)}
        for workflow, tasks in self.cluster.pages.items():
            end = ends.get(workflow)
            state = tasks.get("") or self.cluster.states(workflow)[""]
            cause = cause_text(end.cause) if end and state == end.state else ""
            lines.append(f"workflow {workflow} {state}" + (f", {cause}" if cause else ""))
            states = self.cluster.states(workflow)
            lines += [f"  {name} {states[name]}" for name in tasks if name]
        return lines


ACTIONS: dict[str, Callable[[Transcript, str], Any]] = {
    "submit": Transcript.submit,
    "quota": lambda t, rest: t.ask(_quota(rest)),
    "tenant": lambda t, rest: t.ask(SetTenant(tenant=rest.split()[0], weight_millis=int(rest.split()[1]) * 1_000)),
    "cancel": lambda t, rest: t.ask(Cancel(workflow=1, now=rest == "--now", by="ann")),
    "suspend": lambda t, rest: t.ask(Suspend(workflow=1, by="ann")),
    "resume": lambda t, rest: t.ask(Resume(workflow=1, by="ann")),
    "retry": lambda t, rest: t.ask(Retry(workflow=1, by="ann")),
    "priority": lambda t, rest: t.ask(SetPriority(workflow=int(rest.split()[0]), priority=int(rest.split()[1]))),
    "restart": lambda t, rest: t.cluster.restart(),
    "lose": lambda t, rest: t.cluster.lose(rest),
    "cordon": lambda t, rest: t.ask(Cordon(**_of_nodes(rest))),
    "uncordon": lambda t, rest: t.ask(Uncordon(**_of_nodes(rest))),
    "drain": lambda t, rest: t.ask(Drain(**_of_nodes(rest))),
    "nodes": lambda t, rest: t.ask(reports.InventoryReported(_nodes({**t.nodes, "count": int(rest)}))),
    "started": lambda t, rest: t.tell("started", rest),
    "exited": lambda t, rest: t.tell("exited", rest),
}


def _quota(rest: str) -> SetQuota:
    """`research gpus=8 borrow=2`, in GPUs."""
    tenant, *words = rest.split()
    named = {name: int(value) * 1_000 for name, value in (word.split("=") for word in words)}
    return SetQuota(tenant=tenant, changes={"gpus": {"nominal": named["gpus"], "borrow_max": named.get("borrow")}})


def _setting(name: str, value: Any) -> Any:
    return duration_ms(value) if name.endswith("_ms") else value


def _of_nodes(rest: str) -> dict[str, Any]:
    """`n1 n2 rack=r1 grace=2s why=disk`: what a command about nodes says."""
    words = rest.split()
    named = dict(word.split("=") for word in words if "=" in word)
    fields: dict[str, Any] = {"by": "ann", "nodes": tuple(word for word in words if "=" not in word)}
    if "grace" in named:
        fields["grace_ms"] = duration_ms(named.pop("grace"))
    if "why" in named:
        fields["why"] = named.pop("why")
    return {**fields, "labels": named}


def _nodes(fields: dict[str, Any]) -> Any:
    given = {name: fields[name] for name in ("gpu_type", "gpu_count", "cpu_millis") if name in fields}
    return nodes(fields.get("count", 1), slot_count=fields.get("slots", 100), **given)


def _behaviour(fields: dict[str, Any]) -> Behaviour:
    times = {"start": "start_ms", "run": "run_ms", "stop": "stop_ms"}
    plain = {"exit": "exit_code", "fault": "output_fault"}
    given: dict[str, Any] = {}
    for name, value in fields.items():
        if name in times:
            given[times[name]] = None if value is None else duration_ms(value)
        else:
            given[plain.get(name, name)] = value
    return Behaviour(**given)


def _order(effect: Any) -> str:
    return f"{type(effect).__name__} {effect.attempt.label()}"


def _workflow_of(event: Any) -> int:
    attempt = getattr(event, "attempt", None)
    return attempt.workflow if attempt is not None else getattr(event, "workflow", 0)
