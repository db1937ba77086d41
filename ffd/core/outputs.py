"""Outputs: what a task gave, typed and bounded by what its document declares. Used by `observe`.

Values come as JSON (SDK) or as raw text (`name=value` lines in $FFD_OUTPUT); text is read by the declared type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from ffd.core.limits import Limits
from ffd.core.spec import OutputType, Task

_json_bytes = msgspec.json.Encoder().encode


class OutputFault(Exception):
    """What is wrong with an output, in words for the user; `field` names the output or the limit."""

    def __init__(self, message: str, field: str, code: str = "output") -> None:
        super().__init__(message)
        self.field = field
        self.code = code


def typed_outputs(
    task: Task, pairs: Iterable[tuple[str, Any]], before: Mapping[str, Any], limits: Limits, *, is_text: bool = False
) -> dict[str, Any]:
    """Each (name, value) checked and typed; later pairs replace earlier ones. `before`: what the attempt already
    committed (counts for the limit). `is_text`: string values are raw text, to be read by the declared type.
    Raises OutputFault at the first wrong one; then nothing is to be committed."""
    given: dict[str, Any] = {}
    for name, value in pairs:
        declared = task.outputs.get(name)
        if declared is None:
            known = ", ".join(task.outputs) or "none"
            raise OutputFault(f"output {name!r} is not declared by task {task.name} (declared: {known})", name)
        given[name] = typed = _typed(name, value, declared, is_text)
        size = len(_json_bytes(typed))
        if size > limits.output_value_bytes:
            raise OutputFault(
                f"output {name!r} has {size} bytes, at most {limits.output_value_bytes} are allowed",
                "limits.output_value_bytes", "limit",
            )  # fmt: skip
    total = len(_json_bytes({**before, **given})) if given else 0
    if total > limits.output_bytes:
        raise OutputFault(
            f"the outputs of this attempt have {total} bytes, at most {limits.output_bytes} are allowed",
            "limits.output_bytes", "limit",
        )  # fmt: skip
    return given


def _typed(name: str, value: Any, declared: OutputType, is_text: bool) -> Any:
    read = _READ_TEXT[declared] if is_text and isinstance(value, str) else _CHECK[declared]
    try:
        return read(value)
    except (ValueError, msgspec.DecodeError):
        words = repr(value)
        got = words if len(words) <= 60 else words[:57] + "..."
        raise OutputFault(f"output {name!r} is declared {declared}, got {got}", name) from None


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _json(value: Any) -> Any:
    return value


def _plain(text: str) -> str:
    """Python reads `1_000` and other scripts' digits as numbers; nothing else does."""
    if "_" in text or not text.isascii():
        raise ValueError
    return text


def _bool_text(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


_CHECK: dict[OutputType, Callable[[Any], Any]] = {
    "string": _string,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "json": _json,
    "uri": _string,
}
_READ_TEXT: dict[OutputType, Callable[[str], Any]] = {
    "string": _string,
    "int": lambda text: _int(int(_plain(text))),
    "float": lambda text: _float(float(_plain(text))),
    "bool": _bool_text,
    "json": msgspec.json.decode,
    "uri": _string,
}
