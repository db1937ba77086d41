"""The JSON Schema (draft-07) of the document, made from `raw.py`: what `ffd schema` prints and editors read.

Unsupported fields are not in it. It is a little more lenient than the validator, never stricter.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ffd.core.document import raw

_DESCRIPTIONS = {
    "RawDocument": {
        "version": "ffd/v1",
        "name": "names the runs: `name.N`",
        "project": "whose it is: a path of tenants, as research/llm; default: from the context",
        "params": "name: default value, or {type, default, enum, min, max, pattern, required, description}",
        "defaults": "a task whose fields are merged under each task",
        "max_parallel": "items of the whole workflow that run at once",
        "fail_fast": "the first failure stops the rest (default true)",
        "ttl": "how long an ended run stays readable",
        "tasks": "name: task",
        "finally": "tasks that run after all others, whatever happened",
        "on_exit": "another word for `finally`",
    },
    "RawTask": {
        "needs": "tasks that must have succeeded, or {task: success | failed | done}",
        "when": "CEL: false skips the task",
        "run": "a shell script; ${{ cel }} becomes a variable",
        "command": "program and arguments; ${{ cel }} is one argument",
        "args": "more arguments for `command`",
        "call": "Python `module:function`",
        "with": "arguments for `call`",
        "resources": "what one replica asks for",
        "gang": "replicas that start together or not at all: a number or a map",
        "matrix": "name: list of values; one item per combination",
        "foreach": "a list, or CEL that yields one; one item per element",
        "max_parallel": "items of this task that run at once",
        "retry": "how often a failure is tried again: a number or a map",
        "timeout": "a duration for the run, or {run, queue, start, idle}",
        "outputs": "name: type, so that expressions can be checked",
        "checkpoint": "true, or {path, grace}: the last saved checkpoint is given to the next attempt",
    },
    "RawResources": {
        "gpus": "a number, 0.5 for half of one that is shared, or with the model: H100:8, H100:0.5",
        "gpu_type": "one model or a list by preference",
        "cpus": "4, 0.5 or 500m",
        "labels": "labels that the node must have",
        "tolerate": "taints of nodes that do not keep the task away",
    },
}


def json_schema() -> dict[str, Any]:
    """A fresh schema; the caller may change it."""
    kinds = (raw.RawDocument, raw.RawParam)
    (_, param), components = msgspec.json.schema_components(kinds, ref_template="#/definitions/{name}")
    for struct, fields in _DESCRIPTIONS.items():
        for field, description in fields.items():
            properties = components[struct]["properties"]
            properties[field] = {"description": description, **_without_ref(properties[field])}
    scalar = {"type": ["string", "integer", "number", "boolean", "array"]}
    components["RawDocument"]["properties"]["params"]["additionalProperties"] = {"anyOf": [scalar, param]}
    document = components.pop("RawDocument")
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **document,
        "title": "ffd workflow",
        "definitions": {name: components[name] for name in sorted(components)},
    }
    return _public_names(schema)


def _public_names(schema: dict[str, Any]) -> dict[str, Any]:
    """`RawTask` is our name for it; users read `task`."""
    text = msgspec.json.encode(schema).decode()
    for name in schema["definitions"]:
        public = name.removeprefix("Raw").lower()
        text = text.replace(f'"#/definitions/{name}"', f'"#/definitions/{public}"').replace(f'"{name}"', f'"{public}"')
    decoded: dict[str, Any] = msgspec.json.decode(text)
    return decoded


def _without_ref(schema: dict[str, Any]) -> dict[str, Any]:
    """In draft-07 nothing beside a `$ref` counts, so a described reference is wrapped."""
    return {"allOf": [schema]} if "$ref" in schema else schema
