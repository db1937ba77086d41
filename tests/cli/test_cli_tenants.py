"""What the verbs about tenants ask of the daemon."""

from __future__ import annotations

from typing import Any

import click
import pytest
from cli_network import Network
from conftest import Ffd

from ffd.cli.tenants import read_changes


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("gpus=64", {"gpus": {"nominal": 64, "borrow_max": 0, "lend_max": None}}),
        ("gpus=64 gpus.borrow=16", {"gpus": {"nominal": 64, "borrow_max": 16, "lend_max": None}}),
        ("gpus=64 gpus.borrow=any gpus.lend=8", {"gpus": {"nominal": 64, "borrow_max": None, "lend_max": 8}}),
        ("gpus/H100.nominal=32", {"gpus/H100": {"nominal": 32}}),
        ("gpus/1g.10gb=3", {"gpus/1g.10gb": {"nominal": 3, "borrow_max": 0, "lend_max": None}}),
        ("memory.lend=all memory=2Ti", {"memory": {"nominal": "2Ti", "borrow_max": 0, "lend_max": None}}),
        ("cpus.lend=all", {"cpus": {"lend_max": None}}),
        ("gpus=1.5 pods=none", {"gpus": {"nominal": "1.5", "borrow_max": 0, "lend_max": None}, "pods": None}),
    ],
)
def test_changes_of_quotas(words: str, asked: dict[str, Any]) -> None:
    assert read_changes(tuple(words.split())) == asked


@pytest.mark.parametrize("word", ["gpus", "gpus=", "=3", ".nominal=3", ""])
def test_what_is_no_change_is_a_wrong_call(word: str) -> None:
    with pytest.raises(click.BadParameter, match="expected RESOURCE=AMOUNT"):
        read_changes((word,))


def test_each_verb_asks_once_and_gives_the_key(ffd: Ffd, network: Network) -> None:
    for line in (
        "tenant set a --disable --idempotency-key k",
        "tenant set a --enable --weight 2",
        "tenant move a/b c",
        "share set a 0.5",
        "quota set / pods=9",
    ):
        assert ffd(*line.split()).exit_code == 0
    nothing = {"weight": None, "enabled": None}
    assert network.asked("set_tenant") == [
        {"tenant": "a", **nothing, "enabled": False, "key": "k"},
        {"tenant": "a", "weight": 2.0, "enabled": True, "key": ""},
        {"tenant": "a/b", "parent": "c", "key": ""},
        {"tenant": "a", "weight": 0.5, "key": ""},
    ]
    (asked,) = network.asked("set_quota")
    assert (asked["tenant"], list(asked["changes"])) == ("/", ["pods"])
