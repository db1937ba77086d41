"""The registry: plugins by name, made with what they ask for; the same from a source tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffd.errors import PluginError
from ffd.plugins import registry
from ffd.plugins.store.memory import MemoryStore


def test_every_plugin_of_the_product_is_found_and_can_be_imported() -> None:
    assert {"memory", "sqlite"} <= set(registry.names("store"))
    assert {"local", "virtual"} <= set(registry.names("runtime"))
    for kind in registry.KINDS:
        assert registry.names(kind)
        for name in registry.names(kind):
            assert isinstance(registry.find(kind, name), type)


def test_the_source_tree_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    assert registry.find("store", "memory") is MemoryStore


def test_an_unknown_name_gets_a_near_one() -> None:
    with pytest.raises(PluginError) as caught:
        registry.find("store", "sqlit")
    assert caught.value.hint == "did you mean sqlite?" and caught.value.field == "daemon.store"


def test_a_plugin_gets_what_it_names_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    class Picky:
        def __init__(self, state_dir: Path, *, colour: str = "red") -> None:
            self.given = (state_dir, colour)

    monkeypatch.setattr(registry, "find", lambda kind, name: Picky)
    made = registry.make("store", "picky", {"state_dir": Path("/x"), "pretend": "1x1:T4"})
    assert made.given == (Path("/x"), "red")
    with pytest.raises(PluginError, match="asks for 'state_dir'"):
        registry.make("store", "picky", {"pretend": ""})
