"""What may travel, what the output file holds, how lines look: the parts that need no daemon."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffd.errors import Refusal
from ffd.sdk.files import MAX_OUTPUT_FILE_BYTES, OutputFile
from ffd.sdk.lines import MAX_LINE_CHARS, clean, format_line
from ffd.sdk.values import MAX_METRICS_COUNT, MAX_VALUE_BYTES, check_progress, encode

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(plain)
def test_what_is_encoded_comes_back_equal(value: Any) -> None:
    assert json.loads(encode(value, "it")) == value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": [1, {"b": math.nan}]}, r"it\.a\[1\]\.b is nan"),
        ([1, {2: 3}], r"it\[1\] has the key 2"),
        ({"a": {1}}, r"it\.a is a builtins\.set"),
        (1 << 63, "beyond 64 bits"),
        ("\ud800", "not valid Unicode"),
        ("x" * MAX_VALUE_BYTES, "over the limit MAX_VALUE_BYTES = 1048576"),
    ],
)
def test_a_value_that_cannot_travel_says_where_and_why(value: Any, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        encode(value, "it")


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(Refusal, match="contains itself"):
        encode(loop, "it")


def test_progress_takes_what_has_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    class Scalar:
        def __float__(self) -> float:
            return 0.5

        def __int__(self) -> int:
            return 3

    assert check_progress(Scalar(), None, {"loss": Scalar()}) == (3, None, {"loss": 0.5})
    assert check_progress(1, Scalar(), {"a": math.nan, "b": math.inf, "c": 1}) == (1, 3, {"c": 1.0})
    assert check_progress(1, 2, {"a": math.nan, "b": math.inf}) == (1, 2, {})
    assert capsys.readouterr().err == "ffd: not a finite number, so not sent: metric a, b\n"


@pytest.mark.parametrize(
    ("step", "total", "metrics", "words"),
    [
        (-1, None, {}, "step must be a whole number, 0 or more, got -1"),
        ("x", None, {}, "step must be"),
        (math.nan, None, {}, "step must be"),
        (1, -1, {}, "total must be"),
        (1, 2, {"loss": "low"}, "metric loss must be a number, got str"),
        (1, 2, {f"m{n}": 1 for n in range(MAX_METRICS_COUNT + 1)}, "MAX_METRICS_COUNT"),
    ],
)
def test_progress_that_is_none_is_refused(step: Any, total: Any, metrics: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        check_progress(step, total, metrics)


@given(st.text(), st.text())
def test_a_line_is_one_printable_line(message: str, value: str) -> None:
    line = format_line("info", message, {"key": value})
    assert line.isprintable()
    assert line.startswith("INFO ")


def test_a_line_is_bounded_and_masks_the_secret() -> None:
    line = format_line("INFO", "x" * 2 * MAX_LINE_CHARS, {})
    assert len(line) == MAX_LINE_CHARS
    assert line.endswith("...(cut)")
    assert format_line("INFO", "a s3cret b", {"k": "s3cret"}, secret="s3cret") == "INFO a *** b k=***"
    assert clean("ok\x1b[2J\u202e\x9b") == "ok\\x1b[2J\\u202e\\x9b"


def test_the_output_file_is_bounded_by_name(tmp_path: Path) -> None:
    file = OutputFile(str(tmp_path / "output"))
    value = json.dumps("x" * (MAX_OUTPUT_FILE_BYTES // 2))
    file.append("a", value)
    with pytest.raises(Refusal, match="MAX_OUTPUT_FILE_BYTES") as caught:
        file.append("b", value)
    assert caught.value.code == "limit"
    assert os.path.getsize(tmp_path / "output") < MAX_OUTPUT_FILE_BYTES


def test_a_json_object_in_the_output_file_is_seen_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "output").write_text('  {"loss": 1}')
    file = OutputFile(str(tmp_path / "output"))
    assert file.mentions("loss")
    assert not file.mentions("other")
    with pytest.raises(Refusal, match="is a JSON object"):
        file.append("other", "1")
    assert (tmp_path / "output").read_text() == '  {"loss": 1}'


def test_a_name_is_not_mistaken_for_another(tmp_path: Path) -> None:
    file = OutputFile(str(tmp_path / "output"))
    file.append("loss_total", "1")
    assert not file.mentions("loss")
    assert not file.mentions("total")
    assert file.mentions("loss_total")


def test_without_a_file_there_is_nothing_to_keep_in() -> None:
    file = OutputFile("")
    assert not file.mentions("loss")
    with pytest.raises(Refusal, match="there is no \\$FFD_OUTPUT"):
        file.append("loss", "1")
