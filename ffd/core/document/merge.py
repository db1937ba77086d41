"""`defaults`: merged under each task before anything is read. Maps merge deeply, lists and values are replaced.

A short form meets a long one as the map it stands for (`retry: 3` is `retry: {max: 3}`). Plain data in and out;
called by `compile.py` only when the document has `defaults`.
"""

from __future__ import annotations

from typing import Any

from ffd.core.document.scalars import Wrong, gpus

_SHORT_FORMS = {"retry": "max", "gang": "replicas", "timeout": "run", "topology": "level"}
_ACTIONS = ("run", "command", "call")
_ACTION_FIELDS = (*_ACTIONS, "args", "with")


def with_defaults(defaults: dict[str, Any], task: Any) -> Any:
    """The task as if it had written the defaults itself. A task that says what it does drops the defaults' action."""
    if not isinstance(task, dict):
        return task
    if any(field in task for field in _ACTIONS):
        defaults = {key: value for key, value in defaults.items() if key not in _ACTION_FIELDS}
    return _merge(defaults, task)


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = under.get(key)
        if key in _SHORT_FORMS and (isinstance(below, dict) or isinstance(value, dict)):
            below, value = _long(key, below), _long(key, value)
        if key == "resources":
            below, value = _split_gpus(below), _split_gpus(value)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _long(key: str, value: Any) -> Any:
    if value is None or isinstance(value, dict):
        return value
    return {_SHORT_FORMS[key]: value}


def _split_gpus(resources: Any) -> Any:
    """`gpus: H100:8` -> `gpus: 8, gpu_type: H100`, so that each half can be replaced."""
    if not isinstance(resources, dict) or not isinstance(resources.get("gpus"), str) or "gpu_type" in resources:
        return resources
    try:
        count, model = gpus(resources["gpus"])
    except Wrong:
        return resources
    return {**resources, "gpus": count, **({"gpu_type": model} if model else {})}
