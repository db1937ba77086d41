"""No byte from data steers a terminal, whatever it is and wherever it comes through."""

from __future__ import annotations

import io
import json
import re
import sys

import msgspec
import pytest
import yaml
from cli_network import Network, lines
from conftest import Ffd
from hypothesis import given
from hypothesis import strategies as st

from ffd.cli import logs, output, terminal
from ffd.core.model import Cause
from ffd.core.pages import Explain, TaskPage, WorkflowPage

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
ANY_TEXT = st.text(st.one_of(st.characters(), st.sampled_from("\x1b\x9b\x07\r\n\t\x00\x7f\u202e\ud800")))
EVIL = "a\x1b[2J\x9b31m\x07\r\u202eb\x00"


class Screen(io.TextIOWrapper):
    """A stdout that is a terminal."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode()


@given(ANY_TEXT)
def test_no_control_byte_leaves_sanitise(text: str) -> None:
    safe = terminal.sanitise(text)
    assert STEERING.search(safe) is None
    assert terminal.sanitise(safe) == safe
    safe.encode()


@given(ANY_TEXT)
def test_a_cell_is_one_safe_line(text: str) -> None:
    safe = terminal.cell(text)
    assert STEERING.search(safe) is None
    assert "\n" not in safe and "\t" not in safe


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert terminal.sanitise(text) == terminal.cell(text) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_and_yaml_are_safe_and_the_same_value(text: str) -> None:
    encoded = output.encode({"a": text})
    assert STEERING.search(encoded) is None
    assert json.loads(encoded) == {"a": text}
    dumped = output.to_yaml({"a": text})
    assert STEERING.search(dumped) is None
    assert yaml.safe_load(dumped) == {"a": text}


@given(st.binary(), st.binary())
def test_logs_on_a_screen_are_safe(first: bytes, second: bytes) -> None:
    screen = Screen()
    before, sys.stdout = sys.stdout, screen
    try:
        printer = logs.Printer({}, is_one=False)
        printer.take([lines("a", first), lines("b", second), lines("a", b"end\n", offset=len(first))])
        printer.end()
    finally:
        sys.stdout = before
    assert STEERING.search(re.sub("\x1b\\[[0-9]*m", "", screen.shown())) is None  # our own colours apart


@given(st.lists(st.binary(max_size=20)))
def test_logs_in_a_pipe_are_the_bytes_that_were_written(pieces: list[bytes]) -> None:
    pipe = io.TextIOWrapper(io.BytesIO(), write_through=True)
    before, sys.stdout = sys.stdout, pipe
    try:
        printer = logs.Printer({}, is_one=True)
        printer.take([lines("a", piece) for piece in pieces])
        printer.end()
    finally:
        sys.stdout = before
    buffer = pipe.buffer
    assert isinstance(buffer, io.BytesIO)
    assert buffer.getvalue() == b"".join(pieces)


@pytest.mark.parametrize(
    "verb",
    [
        "ls",
        "ls -o wide",
        "ls -o json",
        "ls -o jsonl",
        "get w.1 -o yaml",
        "describe w.1",
        "describe w.1 -o yaml",
        "why w.1",
    ],
)
def test_no_verb_lets_evil_data_through(ffd: Ffd, network: Network, verb: str) -> None:
    cause = Cause(kind="error", message=EVIL, tail=EVIL, task="t", node=EVIL)
    page = WorkflowPage(
        id=1, handle="w.1", name=EVIL, project=EVIL, state="failed", by=EVIL, description=EVIL, cause=cause
    )
    network.workflows = [msgspec.structs.replace(page, labels={EVIL: EVIL}, params={EVIL: EVIL})]
    network.task_pages["w.1"] = [TaskPage(workflow="w.1", name="t", state="failed", reason=EVIL, nodes=(EVIL,))]
    network.explains["w.1", "", -1] = Explain(subject=EVIL, state=EVIL, headline=EVIL, hints=(EVIL,), tail=EVIL)
    result = ffd(*verb.split())
    assert STEERING.search(result.stdout + result.stderr) is None
    assert "[2J" in result.stdout  # it is shown, not left out


@pytest.mark.parametrize(
    ("ms", "text"),
    [(-5, "0ms"), (0, "0ms"), (850, "850ms"), (12_000, "12s"), (185_000, "3m05s"), (7_620_000, "2h07m"),
     (86_399_999, "23h59m"), (356_400_000, "4d03h")],
)  # fmt: skip
def test_durations(ms: int, text: str) -> None:
    assert terminal.duration(ms) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0B"), (512, "512B"), (1536, "1.5KiB"), (64 << 20, "64MiB"), (3 << 50, "3072TiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert terminal.size(count) == text


def test_fit_counts_columns_not_characters() -> None:
    assert terminal.width("日本") == 4
    assert terminal.fit("日本語", 5) == "日本…"
    assert terminal.fit("abc", 3) == "abc"
    assert terminal.fit("abcd", 3) == "ab…"


def test_colour_is_for_screens_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.colours(Screen())
    assert not terminal.colours(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not terminal.colours(Screen())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.colours(Screen())
    assert terminal.paint("failed", "failed", False) == "failed"
