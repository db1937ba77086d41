"""Parameters: their declarations in a document, and the values of one submit held against them.

`compile_params` is called by `compile.py`; `resolve_params` by whoever submits (the CLI before it sends, the daemon
before it accepts), with the same answer. A `pattern` is matched by the expressions' engine, whose time is linear in
the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from ffd.core.document.faults import Faults, Path, quote
from ffd.core.document.limits import DocumentLimits
from ffd.core.document.raw import RawParam
from ffd.core.document.scalars import Wrong, check_json, check_name
from ffd.core.document.shape import read_as
from ffd.core.expr import ExprError, Program, Scope, compile_expr, evaluate, nearest
from ffd.core.spec import Param, ParamType, Spec
from ffd.errors import Refusal

_INFERRED: dict[type, ParamType] = {bool: "bool", int: "int", float: "float", str: "string", list: "list", dict: "map"}
_UNKNOWN_SHOWN = 10
_EXPECTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "map": "a map",
}


def compile_params(raw: dict[str, Any], faults: Faults, limits: DocumentLimits) -> tuple[Param, ...]:
    """The declarations without faults, in document order."""
    found: list[Param] = []
    if len(raw) > limits.params_count:
        faults.add(("params",), f"more than {limits.params_count} params (limit params_count)", code="limit")
        return ()
    for name, value in raw.items():
        path: Path = ("params", name)
        try:
            check_name(name, "param")
        except Wrong as wrong:
            faults.add(path, wrong.message, hint=wrong.hint, key=True)
            continue
        if isinstance(value, dict):
            param = _long_form(name, value, path, faults, limits)
        else:
            param = _short_form(name, value, path, faults, limits)
        if param is not None:
            found.append(param)
    return tuple(found)


def _short_form(name: str, value: Any, path: Path, faults: Faults, limits: DocumentLimits) -> Param | None:
    if value is None:
        hint = "write a default value, or {type: string, required: true}"
        faults.add(path, "expected a default value or a declaration, got nothing", hint=hint)
        return None
    kind = _INFERRED[type(value)]
    return Param(name=name, type=kind, default=_default(value, kind, path, faults, limits))


def _long_form(name: str, value: dict[str, Any], path: Path, faults: Faults, limits: DocumentLimits) -> Param | None:
    if value.get("type") == "secret":
        faults.add((*path, "type"), "secret params are not supported by this version", code="unsupported")
        return None
    raw = read_as(RawParam, value, path, faults)
    if raw is None:
        return None
    sample = raw.default if raw.default is not msgspec.UNSET else (raw.enum[0] if raw.enum else "")
    kind = _INFERRED.get(type(sample), "string") if raw.type is msgspec.UNSET else raw.type
    has_default = raw.default is not msgspec.UNSET
    if raw.required is True and has_default:
        faults.add((*path, "required"), "a param with a default is never missing", hint="remove one of the two")
    if raw.required is False and not has_default:
        faults.add((*path, "required"), "a param that is not required needs a default")
    param = Param(
        name=name,
        type=kind,
        required=not has_default,
        default=_default(raw.default, kind, (*path, "default"), faults, limits) if has_default else None,
        enum=_enum(raw.enum, kind, path, faults, limits),
        min=_bound(raw.min, "min", kind, path, faults),
        max=_bound(raw.max, "max", kind, path, faults),
        pattern=_pattern(raw.pattern, kind, path, faults),
        description="" if raw.description is msgspec.UNSET else raw.description,
    )
    if param.min is not None and param.max is not None and param.min > param.max:
        faults.add((*path, "min"), f"min {param.min} is above max {param.max}")
    elif has_default and param.default is not None:
        try:
            _check_constraints(param, param.default)
        except Wrong as wrong:
            faults.add((*path, "default"), f"the default does not fit: {wrong.message}")
    return param


def _default(value: Any, kind: ParamType, path: Path, faults: Faults, limits: DocumentLimits) -> Any:
    try:
        if isinstance(value, str) and "${{" in value:
            raise Wrong("a default is a fixed value, without ${{ }}")
        return _typed(value, kind, limits)
    except Wrong as wrong:
        faults.add(path, wrong.message, hint=wrong.hint)
        return None


def _enum(values: Any, kind: ParamType, path: Path, faults: Faults, limits: DocumentLimits) -> tuple[Any, ...]:
    if values is msgspec.UNSET:
        return ()
    if not values:
        faults.add((*path, "enum"), "expected at least one value, got an empty list")
    return tuple(_default(value, kind, (*path, "enum", index), faults, limits) for index, value in enumerate(values))


def _bound(value: float | msgspec.UnsetType, field: str, kind: ParamType, path: Path, faults: Faults) -> float | None:
    if value is msgspec.UNSET:
        return None
    if kind not in ("int", "float"):
        faults.add((*path, field), f"`{field}` applies to int and float params, this one is {kind}", key=True)
        return None
    return value


def _pattern(value: Any, kind: ParamType, path: Path, faults: Faults) -> str:
    if value is msgspec.UNSET:
        return ""
    if kind != "string":
        faults.add((*path, "pattern"), f"`pattern` applies to string params, this one is {kind}", key=True)
        return ""
    try:
        _matches("", str(value))
    except ExprError as error:
        reason = error.message.rpartition("regular expression: ")[2]
        faults.add((*path, "pattern"), f"not a regular expression (RE2 syntax): {reason}")
        return ""
    return str(value)


# --- values -----------------------------------------------------------------------------------------------------------


def resolve_params(
    spec: Spec, given: Mapping[str, Any], *, from_text: bool = False, limits: DocumentLimits | None = None
) -> dict[str, Any]:
    """A value for each declared param, in document order: given ones checked, defaults for the rest.

    `from_text`: the given values are what a person typed and are read as the declared type says (JSON for json, list
    and map). Raises Refusal that lists everything wrong; `field` is `params.<name>` when it is one thing.
    """
    limits = limits or DocumentLimits()
    wrongs: list[tuple[str, str]] = []
    declared = {param.name: param for param in spec.params}
    unknown = [name for name in given if name not in declared]
    for name in unknown[:_UNKNOWN_SHOWN]:
        wrongs.append((name, f"unknown param {quote(name)}. {nearest(str(name), declared) or _known(declared)}"))
    if len(unknown) > _UNKNOWN_SHOWN:
        wrongs.append(("", f"and {len(unknown) - _UNKNOWN_SHOWN} more unknown params"))
    values: dict[str, Any] = {}
    for name, param in declared.items():
        try:
            values[name] = _value_of(param, given, from_text, limits)
        except Wrong as wrong:
            wrongs.append((name, f"param `{name}`: {wrong.message}" + (f" ({wrong.hint})" if wrong.hint else "")))
    if wrongs:
        field = f"params.{wrongs[0][0]}" if len(wrongs) == 1 else "params"
        raise Refusal("; ".join(message for _, message in wrongs), field=field, hint="pass values as -p name=value")
    size = len(msgspec.json.encode(values))
    if size > limits.param_bytes:
        message = f"the params take {size} bytes as JSON, at most {limits.param_bytes} are allowed"
        raise Refusal(message, code="limit", field="param_bytes")
    return values


def _known(declared: Mapping[str, Param]) -> str:
    return (
        "known params: " + ", ".join(list(declared)[:_UNKNOWN_SHOWN]) if declared else "the workflow declares no params"
    )


def _value_of(param: Param, given: Mapping[str, Any], from_text: bool, limits: DocumentLimits) -> Any:
    if param.name not in given:
        if param.required:
            raise Wrong(f"required, {_EXPECTED.get(param.type, 'a value')} is expected")
        return param.default
    value = given[param.name]
    if from_text:
        value = _from_text(str(value), param.type)
    value = _typed(value, param.type, limits)
    _check_constraints(param, value)
    return value


def _from_text(text: str, kind: ParamType) -> Any:
    if kind == "string":
        return text
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.strip().lower()]
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
        return msgspec.json.decode(text)
    except (ValueError, KeyError, RecursionError, msgspec.DecodeError):
        expected = _EXPECTED.get(kind, "a JSON value")
        as_json = " as JSON" if kind in ("list", "map") else ""
        raise Wrong(f"expected {expected}{as_json}, got {quote(text)}") from None


def _typed(value: Any, kind: ParamType, limits: DocumentLimits) -> Any:
    """The value as its declared type wants it (an int becomes a float), or Wrong."""
    check_json(value, limits.depth_count)
    if kind == "float" and type(value) is int:
        return float(value)
    wanted = {"string": str, "int": int, "float": float, "bool": bool, "list": list, "map": dict}.get(kind)
    if wanted is not None and type(value) is not wanted:
        hint = "put it in quotes" if kind == "string" and isinstance(value, int | float) else ""
        raise Wrong(f"expected {_EXPECTED[kind]}, got {quote(value)}", hint)
    return value


def _check_constraints(param: Param, value: Any) -> None:
    if param.enum and value not in param.enum:
        raise Wrong(f"expected one of {', '.join(map(quote, param.enum))}, got {quote(value)}")
    if param.min is not None and value < param.min:
        raise Wrong(f"expected at least {param.min}, got {quote(value)}")
    if param.max is not None and value > param.max:
        raise Wrong(f"expected at most {param.max}, got {quote(value)}")
    if param.pattern:
        try:
            matches = _matches(value, param.pattern)
        except ExprError as error:
            raise Wrong(error.message) from None
        if not matches:
            raise Wrong(f"expected text that matches {quote(param.pattern)}, got {quote(value)}")


def _matches(value: str, pattern: str) -> bool:
    """The whole value matches. The pattern alone is compiled first, so that it cannot close the group around it."""
    evaluate(_match_program(), {"params.value": "", "params.pattern": pattern})
    return bool(evaluate(_match_program(), {"params.value": value, "params.pattern": f"^(?:{pattern})$"}))


@cache
def _match_program() -> Program:
    scope = Scope(params={"value": "string", "pattern": "string"})
    return compile_expr("params.value.matches(params.pattern)", scope, expect="bool")
