"""The OpenAPI 3.1 document, made from the route table: nothing about the HTTP API is said twice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ffd import __version__
from ffd.api.authz import VERBS
from ffd.api.http_shapes import Envelope
from ffd.api.problem import Problem
from ffd.core.document.faults import Fault

if TYPE_CHECKING:
    from ffd.api.route import Route

REF = "#/components/schemas/{name}"
DESCRIPTION = """\
Documents are YAML or JSON; states are words, and a client must expect new ones. Instants are milliseconds since 1970.
Errors are problems (RFC 9457) with a stable `code`, the `field` or limit they are about and a `hint`; those of a
document list all `faults`. Calls that change something take an `Idempotency-Key`: a repeated one has no effect."""
PROBLEM = {
    "description": "Refused",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """The whole document, as plain data."""
    kinds = _kinds(routes)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF)
    by_kind = {str(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    components["Problem"]["properties"]["faults"] = {"type": "array", "items": by_kind[str(Fault)]}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = re.sub(r":[^{}]+}", "}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, by_kind)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ffd", "version": __version__, "description": DESCRIPTION},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _kinds(routes: Sequence[Route]) -> list[Any]:
    """Every shape that a reply, a body or an event has, once."""
    found: dict[str, Any] = {str(kind): kind for kind in (Problem, Fault, Envelope)}
    for route in routes:
        for kind in (route.reply, route.body, route.event):
            if kind not in (None, str):
                found[str(kind)] = kind
    return list(found.values())


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method} {route.path}".lower()).strip("_"),
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_headers(route)],
        "responses": {str(route.status): _reply(route, schemas), "default": PROBLEM},
    }
    if VERBS[route.verb] != "public":
        operation["security"] = [{"token": []}, {}]
    if route.document:
        operation["requestBody"] = {"required": True, "content": _document_content(schemas)}
    elif route.body is not None:
        content = {"application/json": {"schema": schemas[str(route.body)]}}
        operation["requestBody"] = {"required": _is_required(route.body), "content": content}
    return operation


def _document_content(schemas: dict[str, Any]) -> dict[str, Any]:
    document = {"type": "object", "description": "a document; see /schema/v1.json"}
    return {
        "application/yaml": {"schema": {"type": "string", "description": "a document; see /schema/v1.json"}},
        "application/json": {"schema": {"oneOf": [schemas[str(Envelope)], document]}},
    }


def _is_required(body: type[msgspec.Struct]) -> bool:
    return any(field.required for field in msgspec.structs.fields(body))


def _reply(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if route.reply is str:
        content["text/plain"] = {"schema": {"type": "string"}}
    elif route.reply is not None:
        content["application/json"] = {"schema": schemas[str(route.reply)]}
    if route.event is not None:
        described = f"Server-Sent Events; the data of each is {_name(route.event)}"
        content["text/event-stream"] = {"schema": {"type": "string", "description": described}}
    return {"description": "Done", "content": content} if content else {"description": "Done"}


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)", route.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([route.query], ref_template=REF)
    properties = components[route.query.__name__].get("properties", {})
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


def _headers(route: Route) -> list[dict[str, Any]]:
    names = []
    if route.method != "GET" and VERBS[route.verb] in ("user", "admin"):
        names.append("Idempotency-Key")
    if route.stream is not None:
        names.append("Last-Event-ID")
    return [{"name": name, "in": "header", "schema": {"type": "string"}} for name in names]
