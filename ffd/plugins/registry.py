"""The registry: names of plugins -> plugins, through entry points (`ffd.store`, `ffd.runtime`, `ffd.logs`, `ffd.auth`).

A plugin is a class; its constructor says by parameter name what it wants of what the daemon offers (`make`). A source
tree that was not installed works too: its pyproject.toml says the same. Called by `daemon.wire` and the conformance
suites. Never here: what a plugin does.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import tomllib
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from ffd.errors import PluginError

KINDS = ("store", "runtime", "logs", "auth")


def names(kind: str) -> list[str]:
    """All plugins of a kind, sorted."""
    return sorted(_found(kind))


def find(kind: str, name: str) -> Any:
    """The plugin's class. PluginError: unknown (with near names), or it cannot be imported."""
    found = _found(kind)
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(found))}"
        raise PluginError(f"there is no {kind} plugin {name!r}", hint=hint, field=f"daemon.{kind}")
    module, _, attribute = found[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"the {kind} plugin {name!r} cannot be loaded: {error}", field=f"daemon.{kind}") from error


def make(kind: str, name: str, offered: Mapping[str, Any]) -> Any:
    """An instance, given those of `offered` that its constructor names. PluginError when it wants something else."""
    plugin = find(kind, name)
    wanted = inspect.signature(plugin).parameters.values()
    given = {}
    for parameter in wanted:
        if parameter.name in offered:
            given[parameter.name] = offered[parameter.name]
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD,
        ):  # fmt: skip
            raise PluginError(
                f"the {kind} plugin {name!r} asks for {parameter.name!r}, which no daemon offers",
                hint=f"offered: {', '.join(offered)}",
            )
    return plugin(**given)


def _found(kind: str) -> dict[str, str]:
    """Name -> "module:attribute". What is installed wins over the source tree."""
    group = f"ffd.{kind}"
    return {**_in_source_tree(group), **{point.name: point.value for point in entry_points(group=group)}}


def _in_source_tree(group: str) -> dict[str, str]:
    path = Path(__file__).parents[2] / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    except (OSError, tomllib.TOMLDecodeError):
        return {}
    points: dict[str, str] = project.get("entry-points", {}).get(group, {}) if project.get("name") == "ffd" else {}
    return points
