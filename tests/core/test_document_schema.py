"""The JSON Schema agrees with the validator about every example and every kind of field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from ffd.api.source import compile_source, parse_source
from ffd.core.document import compile_document, json_schema
from ffd.core.document.raw import UNSUPPORTED_FIELDS, UNSUPPORTED_TASK_FIELDS

EXAMPLES = sorted((Path(__file__).parents[2] / "config" / "examples").glob("*.yaml"))
VALIDATOR = Draft7Validator(json_schema())


def test_it_is_a_draft_7_schema() -> None:
    Draft7Validator.check_schema(json_schema())
    assert json_schema()["$schema"] == "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_valid(path: Path) -> None:
    data = path.read_bytes()
    compiled = compile_source(data, str(path))
    assert compiled.spec is not None
    assert (compiled.faults, compiled.warnings) == ((), ())
    assert compiled.spec.name == path.stem
    assert list(VALIDATOR.iter_errors(parse_source(data, str(path)).mapping)) == []


def test_there_are_examples() -> None:
    assert {path.stem for path in EXAMPLES} >= {"hello", "pipeline", "gang", "matrix", "retry", "llm-pretrain"}


@pytest.mark.parametrize("field", UNSUPPORTED_TASK_FIELDS)
def test_unsupported_task_fields_are_not_in_it(field: str) -> None:
    document = {"tasks": {"a": {"run": "x", field: "y"}}}
    assert not VALIDATOR.is_valid(document)
    assert [fault.code for fault in compile_document(document).faults] == ["unsupported"]


@pytest.mark.parametrize("field", UNSUPPORTED_FIELDS)
def test_unsupported_fields_are_not_in_it(field: str) -> None:
    document = {"tasks": {"a": {"run": "x"}}, field: {}}
    assert not VALIDATOR.is_valid(document)
    assert [fault.code for fault in compile_document(document).faults] == ["unsupported"]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"tasks": {}},
        {"tasks": {"A": {"run": "x"}}},
        {"tasks": {"a": {"runn": "x"}}},
        {"tasks": {"a": {"run": None}}},
        {"tasks": {"a": {"run": "x", "gang": 0}}},
        {"tasks": {"a": {"run": "x", "timeout": "5x"}}},
        {"tasks": {"a": {"run": "x", "needs": {"a": "maybe"}}}},
        {"tasks": {"a": {"run": "x", "gang": {"topology": "moon"}}}},
        {"tasks": {"a": {"run": "x", "resources": {"memory": "lots"}}}},
        {"tasks": {"a": {"run": "x"}}, "priority": 1001},
        {"tasks": {"a": {"run": "x"}}, "params": {"p": {"typ": "int"}}},
        {"tasks": {"a": {"run": "x"}}, "params": {"p": {"type": "secret"}}},
        {"tasks": {"a": {"run": "x"}}, "params": {"p": None}},
        {"tasks": {"a": {"run": "x"}}, "version": "v2"},
    ],
)
def test_what_it_refuses_the_validator_refuses(document: Any) -> None:
    assert not VALIDATOR.is_valid(document)
    assert compile_document(document).spec is None


@pytest.mark.parametrize(
    "fields",
    [
        {"needs": []},
        {"when": True},
        {"gang": 4},
        {"gang": {"replicas": 2, "topology": {"level": "zone", "with": []}}},
        {"retry": 2},
        {"retry": {"causes": ["oom", 75]}},
        {"timeout": "1h30m"},
        {"timeout": {"idle": "500ms"}},
        {"resources": {"gpus": "H100:8", "memory": "1.5Gi", "cpus": 0.5}},
        {"foreach": [1, "a"]},
        {"foreach": "${{ range(3) }}"},
        {"matrix": {"k": [1, {"a": None}]}},
        {"checkpoint": True},
        {"env": {"A": 1, "B": True}},
    ],
)
def test_what_the_validator_takes_it_takes(fields: dict[str, Any]) -> None:
    document = {"tasks": {"a": {"run": "x", **fields}}, "params": {"p": [1], "q": {"type": "map", "default": {}}}}
    assert compile_document(document).spec is not None
    assert list(VALIDATOR.iter_errors(document)) == []
