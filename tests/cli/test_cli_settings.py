"""Settings: the file with all of them equals the code, and a wrong one is refused by name, all at once."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ffd import settings
from ffd.api.limits import ApiLimits
from ffd.core.limits import Limits as CoreLimits
from ffd.errors import Refusal

ROOT = Path(__file__).parents[2]
FILE = ROOT / "config" / "ffd.toml"
UNITS = ("_ms", "_bytes", "_percent", "_count", "_chars")


def fields() -> list[tuple[str, str, object]]:
    """(group, name, default) of every setting."""
    whole = settings.Settings()
    return [
        (group, name, getattr(getattr(whole, group), name))
        for group in whole.__struct_fields__
        for name in getattr(whole, group).__struct_fields__
    ]


def test_the_file_is_all_settings_with_their_defaults() -> None:
    text = FILE.read_text()
    assert settings.load(text, str(FILE)) == settings.Settings()
    shown = {f"{group}.{name}" for group, values in tomllib.loads(text).items() for name in values}
    assert shown == {f"{group}.{name}" for group, name, _ in fields()} - settings.COMMAND_LINE_ONLY


def test_each_setting_in_the_file_is_explained() -> None:
    lines = [line for line in FILE.read_text().splitlines() if " = " in line and not line.startswith("#")]
    assert all("  # " in line for line in lines)


def test_numbers_carry_their_unit_in_the_name() -> None:
    numbers = [name for _, name, default in fields() if isinstance(default, int) and not isinstance(default, bool)]
    assert [name for name in numbers if not name.endswith(UNITS)] == []


def test_each_setting_is_read_by_somebody() -> None:
    """A setting that nobody reads does nothing. Plugins read by the name of a parameter, others by attribute."""
    text = ""
    for path in (ROOT / "ffd").rglob("*.py"):
        if path.name != "settings.py" and "proto" not in path.parts:
            lines = path.read_text().splitlines()
            text += "\n".join(line for line in lines if not re.match(r"    \w+: (int|str|bool) = ", line))
    assert [name for _, name, _ in fields() if not re.search(rf"\b{name}\b", text)] == []


def test_the_limits_are_those_of_the_core_and_of_the_api() -> None:
    limits = settings.Limits()
    assert isinstance(limits, CoreLimits)
    api = ApiLimits()
    assert {name: getattr(limits, name) for name in api.__struct_fields__} == {
        name: getattr(api, name) for name in api.__struct_fields__
    }


def test_texts_with_units() -> None:
    loaded = settings.load('[daemon]\nlease_ttl_ms = "1m30s"\n[limits]\nlog_bytes = "64MiB"\n', "x.toml")
    assert (loaded.daemon.lease_ttl_ms, loaded.limits.log_bytes) == (90_000, 64 << 20)
    assert loaded.limits.inbox_count == settings.Limits().inbox_count


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[deamon]", "[deamon]: unknown table; did you mean daemon?"),
        ("[limits]\nlog_byte = 1", "limits.log_byte: unknown setting; did you mean log_bytes?"),
        ("[local]\nzzz = 1", "local.zzz: unknown setting; known: slot_count"),
        ("limits = 3", "[limits]: expected a table, got 3"),
        ('[limits]\ninbox_count = "many"', "limits.inbox_count: Expected `int`, got `str`"),
        ("[limits]\ninbox_count = true", "limits.inbox_count: Expected `int`, got `bool`"),
        ("[limits]\ninbox_count = 0", "limits.inbox_count: expected 1 or more, got 0"),
        (
            "[scheduling]\nquarantine_nodes_percent = 101",
            "scheduling.quarantine_nodes_percent: expected 100 or less, got 101",
        ),
        ("[local]\nslot_count = -1", "local.slot_count: expected 0 or more, got -1"),
        ('[daemon]\nlease_ttl_ms = "soon"', "daemon.lease_ttl_ms: expected a duration"),
        ('[limits]\nlog_bytes = "big"', "limits.log_bytes: expected a size"),
        ('[daemon]\nlisten = "unix:/x"', "daemon.listen: Expected `array`, got `str`"),
        (
            '[telemetry]\nlog_level = "loud"',
            'telemetry.log_level: expected one of debug, info, warning, error, got "loud"',
        ),
        ("[daemon]\naccept_loss = true", "daemon.accept_loss: only for the command line"),
        ("[daemon", "not TOML"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(Refusal) as caught:
        settings.load(text, "x.toml")
    assert caught.value.message.startswith(f"x.toml: {said}")


def test_all_faults_at_once() -> None:
    with pytest.raises(Refusal) as caught:
        settings.load("[limits]\na = 1\ninbox_count = 0\n[daemon]\nruntime = 3\n", "x.toml")
    assert len(caught.value.message.splitlines()) == 3
