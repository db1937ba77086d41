"""Reads a mapping as `raw.RawDocument`: in one pass when its shape is right, else with every fault of shape at once.

Shape is: known fields, right kinds of values, known words. What the values mean together is not looked at here.
Called by `compile.py`; the parameter's long form, which hides behind a plain value, is read by `params.py` through
`read_as`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from ffd.core.document import raw
from ffd.core.document.faults import Faults, Path, quote
from ffd.core.document.scalars import Wrong
from ffd.core.expr import nearest

T = TypeVar("T", bound=raw.Raw)

_DROP = object()  # stands for a value that cannot be used
_KINDS: dict[type, tuple[type, ...]] = {
    str: (inspect.StrType, inspect.LiteralType),
    bool: (inspect.BoolType,),
    int: (inspect.IntType, inspect.FloatType),
    float: (inspect.FloatType,),
    list: (inspect.ListType,),
    dict: (inspect.DictType, inspect.StructType),
}
# Fields that people look for one level too high.
_NESTED = {
    **dict.fromkeys(raw.RawResources.__struct_fields__, "resources"),
    **dict.fromkeys(("replicas", "topology", "launcher", "on_failure"), "gang"),
    **dict.fromkeys(("backoff", "causes", "max_backoff"), "retry"),
}


def read_document(mapping: Any, faults: Faults) -> raw.RawDocument | None:
    """The document without what has a fault; None when nothing can be made of it."""
    return read_as(raw.RawDocument, mapping, (), faults)


def read_as(kind: type[T], value: Any, path: Path, faults: Faults) -> T | None:
    """`value` as a struct of `kind`. Faults are added for all that does not fit, and those parts are left out."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        cleaned = _Cleaner(faults).clean(value, inspect.type_info(kind), path)
    try:
        return None if cleaned is _DROP else msgspec.convert(cleaned, kind)
    except msgspec.ValidationError as error:
        if not len(faults):
            faults.add(path, str(error))
        return None


class _Cleaner:
    """Walks a value along its expected type; adds a fault for each misfit and drops it."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def clean(self, value: Any, info: Any, path: Path) -> Any:
        parse = None
        if isinstance(info, inspect.Metadata):
            parse, info = (info.extra or {}).get("parse"), info.type
        kinds = _KINDS.get(type(value), ())
        options = info.types if isinstance(info, inspect.UnionType) else (info,)
        for option in options:
            inner = option
            if isinstance(option, inspect.Metadata):
                parse, inner = (option.extra or {}).get("parse", parse), option.type
            if isinstance(inner, inspect.AnyType):
                return value
            if isinstance(inner, kinds):
                return self._matching(value, inner, path)
        return self._misfit(value, options, parse, path)

    def _misfit(self, value: Any, options: tuple[Any, ...], parse: Any, path: Path) -> Any:
        hint = "give it a value, or leave it out" if value is None else ""
        message = f"expected {describe(options)}, got {quote(value)}"
        if parse is not None and value is not None:
            try:
                parse(value)
            except Wrong as wrong:
                message, hint = wrong.message, wrong.hint
        elif isinstance(value, str) and any(isinstance(option, inspect.ListType) for option in options):
            hint = f"write [{value}]" if value.isidentifier() else "write a list, one entry per element"
        self.faults.add(path, message, hint=hint)
        return _DROP

    def _matching(self, value: Any, info: Any, path: Path) -> Any:
        if isinstance(info, inspect.StructType):
            return self._struct(value, info, path)
        if isinstance(info, inspect.DictType):
            pairs = ((key, self.clean(child, info.value_type, (*path, key))) for key, child in self._named(value, path))
            return {key: child for key, child in pairs if child is not _DROP}
        if isinstance(info, inspect.ListType):
            items = [self.clean(child, info.item_type, (*path, index)) for index, child in enumerate(value)]
            return [item for item in items if item is not _DROP]
        if isinstance(info, inspect.LiteralType):
            if value in info.values:
                return value
            known = [str(word) for word in info.values]
            message = f"expected {describe((info,))}, got {quote(value)}"
            self.faults.add(path, message, hint=partial(nearest, value, known))
            return _DROP
        if isinstance(info, inspect.IntType | inspect.FloatType) and (
            (info.ge is not None and value < info.ge) or (info.le is not None and value > info.le)
        ):
            self.faults.add(path, f"expected {describe((info,))}, got {quote(value)}")
            return _DROP
        return value

    def _named(self, value: dict[Any, Any], path: Path) -> list[tuple[str, Any]]:
        for key in value:
            if not isinstance(key, str):
                self.faults.add(path, f"expected text as a key, got {quote(key)}")
        return [(key, child) for key, child in value.items() if isinstance(key, str)]

    def _struct(self, value: dict[Any, Any], info: inspect.StructType, path: Path) -> Any:
        fields = {field.encode_name: field for field in info.fields}
        cleaned: dict[str, Any] = {}
        for key, child in self._named(value, path):
            if key not in fields:
                self._unknown(key, info.cls, tuple(fields), path)
                continue
            result = self.clean(child, fields[key].type, (*path, key))
            if result is not _DROP:
                cleaned[key] = result
        for name, field in fields.items():
            if field.required and name not in cleaned:
                if name not in value:
                    self.faults.add(path, f"`{name}` is missing", hint=_missing_hint(name))
                return _DROP
        return cleaned

    def _unknown(self, key: str, cls: type, known: tuple[str, ...], path: Path) -> None:
        where = (*path, key)
        unsupported = (cls is raw.RawTask and key in raw.UNSUPPORTED_TASK_FIELDS) or (
            cls is raw.RawDocument and key in raw.UNSUPPORTED_FIELDS
        )
        if unsupported:
            self.faults.add(where, f"`{key}` is not supported by this version", code="unsupported", key=True)
            return
        hint: str | Callable[[], str]
        if key == "<<":
            hint = "merge keys are not read; what all tasks share goes under `defaults`"
        elif cls is raw.RawTask and key in _NESTED:
            hint = f"write it under `{_NESTED[key]}`"
        elif cls is raw.RawDocument and key in raw.RawTask.__struct_fields__:
            hint = "write it under a task, or under `defaults` for all of them"
        else:
            hint = partial(_known_hint, key, known)
        self.faults.add(where, f"unknown field {quote(key)}", hint=hint, code="unknown_field", key=True)


def _known_hint(key: str, known: tuple[str, ...]) -> str:
    return nearest(key, known) or "known fields: " + ", ".join(known)


def _missing_hint(name: str) -> str:
    return "a workflow needs at least one task: tasks: {hello: {run: echo hello}}" if name == "tasks" else ""


def describe(options: tuple[Any, ...]) -> str:
    """`a whole number of at least 1, or a map`."""
    words: list[str] = []
    for option in options:
        info = option.type if isinstance(option, inspect.Metadata) else option
        named = (option.extra_json_schema or {}).get("description") if isinstance(option, inspect.Metadata) else None
        if named:
            words.append(named)
        elif isinstance(info, inspect.LiteralType):
            words.append(_either([str(word) for word in info.values]))
        elif isinstance(info, inspect.IntType | inspect.FloatType):
            words.append(_number(info))
        else:
            words.append(_WORDS[type(info)])
    return _either(list(dict.fromkeys(words)))


_WORDS: dict[type, str] = {
    inspect.StrType: "text",
    inspect.BoolType: "true or false",
    inspect.ListType: "a list",
    inspect.DictType: "a map",
    inspect.StructType: "a map",
}


def _number(info: inspect.IntType | inspect.FloatType) -> str:
    word = "a whole number" if isinstance(info, inspect.IntType) else "a number"
    if info.ge is not None and info.le is not None:
        return f"{word} from {info.ge} to {info.le}"
    return word if info.ge is None else f"{word} of at least {info.ge}"


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]
