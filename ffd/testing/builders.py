"""Short ways to make specs, commands and nodes for tests. Everything has a default; what a test says is what it means.

    spec(task("a"), task("b", needs="a"), task("c", needs={"a": "failed"}), fail_fast=False)

Specs made here are not validated: see `from_yaml` for a document as users write it. Never here: running anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import msgspec

from ffd.api.source import compile_source, source_lines
from ffd.core.commands import Submit
from ffd.core.document import render, resolve_params
from ffd.core.model import AttemptId, Node
from ffd.core.spec import Gang, Need, NeedOutcome, Resources, Retry, Spec, Task

Needs = str | Iterable[str] | Mapping[str, NeedOutcome]


def task(name: str, needs: Needs = (), *, replicas: int = 1, retries: int = 0, **fields: Any) -> Task:
    """A task that runs a script. `needs`: "a b", ["a", "b"] or {"a": "failed"}. `replicas`, `retries`: short forms of
    `gang` and `retry`; `fields` are those of `spec.Task`."""
    edges: Mapping[str, NeedOutcome]
    if isinstance(needs, Mapping):
        edges = needs
    else:
        edges = dict.fromkeys(needs.split() if isinstance(needs, str) else needs, "success")
    fields.setdefault("script", f"echo {name}")
    fields.setdefault("gang", Gang(replicas=replicas))
    fields.setdefault("retry", Retry(max_count=retries))
    return Task(name, "run", needs=tuple(Need(parent, outcome) for parent, outcome in edges.items()), **fields)


def spec(*tasks: Task, name: str = "demo", finally_tasks: Iterable[Task] = (), **fields: Any) -> Spec:
    """A document of these tasks; `fields` are those of `spec.Spec`."""
    return Spec(name, tasks, tuple(finally_tasks), **fields)


def from_yaml(text: str, name: str = "demo") -> Spec:
    """A document as users write it. Raises ValueError with all its faults."""
    data = text.encode()
    compiled = compile_source(data, filename=f"{name}.yaml")
    if compiled.spec is None:
        raise ValueError("\n".join(render(fault, source_lines(data), name) for fault in compiled.faults))
    return compiled.spec


def submit(document: Spec, params: Mapping[str, Any] | None = None, **fields: Any) -> Submit:
    """The command that starts a workflow of this document; `fields` are those of `commands.Submit`."""
    digest = sha256(msgspec.msgpack.encode(document)).hexdigest()
    return Submit(spec=document, spec_digest=digest, params=resolve_params(document, params or {}), **fields)


def nodes(count: int = 1, **fields: Any) -> tuple[Node, ...]:
    """Nodes n1, n2, ... sorted by name. The default has room for whatever asks for no more than slots; `fields` are
    those of `model.Node`."""
    width = len(str(count))
    return tuple(Node(f"n{number:0{width}}", **fields) for number in range(1, count + 1))


def rack(name: str, names: Iterable[str], **fields: Any) -> tuple[Node, ...]:
    """Nodes that share the label `rack`."""
    return tuple(Node(node, labels={"rack": name}, **fields) for node in names)


def gpus(count: int, *types: str, **fields: Any) -> Resources:
    """What one replica asks for: whole GPUs of any of these models."""
    return Resources(gpu_count=count, gpu_types=types, **fields)


def attempt(name: str, number: int = 1, item: int = 0, workflow: int = 1) -> AttemptId:
    """Names attempt `number` of an item."""
    return AttemptId(workflow, name, item, number)
