"""Text to mapping: YAML 1.2 scalars, JSON, positions, hostile texts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffd.api.source import compile_source, name_of, parse_source, source_lines
from ffd.core.document import DocumentLimits, render


def mapping(text: str) -> Any:
    parsed = parse_source(text.encode(), "a.yaml")
    assert parsed.is_readable
    assert parsed.faults == ()
    return parsed.mapping


def fault(data: str | bytes, filename: str = "a.yaml", **limits: int) -> str:
    compiled = compile_source(
        data if isinstance(data, bytes) else data.encode(), filename, limits=DocumentLimits(**limits)
    )
    assert compiled.spec is None
    return f"{compiled.faults[0].line}:{compiled.faults[0].column} {compiled.faults[0].message}"


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("tRue", "tRue"),
        ("12:30", "12:30"),
        ("1:30:00", "1:30:00"),
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("0b1", "0b1"),
        ("1_000", "1_000"),
        ("-7", -7),
        ("+7", 7),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5e-3", -0.0015),
        ("1.2.3", "1.2.3"),
        (".", "."),
        ("~", None),
        ("null", None),
        ("", None),
        ("=", "="),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
        ("! 5", "5"),
        ("1h", "1h"),
        ("${{ x }}", "${{ x }}"),
        ("9" * 30, int("9" * 30)),
        ("9" * 500, "9" * 500),
        ("١", "١"),
    ],
)
def test_scalars_follow_yaml_1_2(scalar: str, value: Any) -> None:
    found = mapping(f"k: {scalar}\n")["k"]
    assert (found, type(found)) == (value, type(value))


def test_infinities_and_nan_are_numbers_that_the_validator_refuses() -> None:
    assert mapping("k: -.inf")["k"] == float("-inf")
    assert "finite" in fault("params: {p: .nan}\ntasks: {a: {run: x}}")


def test_keys_are_text() -> None:
    assert mapping("no: 1\n5: 2\ntrue: 3\nnull: 4\n") == {"no": 1, "5": 2, "true": 3, "null": 4}


def test_aliases_share_and_block_scalars_keep_their_lines() -> None:
    found = mapping("a: &x [1, {b: &y 2}]\nc: *x\nd: *y\ne: |\n  one\n  two\nf: >-\n  one\n  two\n")
    assert found["c"] is found["a"]
    assert (found["d"], found["e"], found["f"]) == (2, "one\ntwo\n", "one two")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "1:6 not YAML"),
        ("a: {b: 1", "1:9 not YAML"),
        ("a: 'x", "not YAML: found unexpected end"),
        ("a:\n\tb: 1", "2:1 not YAML: a tab"),
        ("a: @x", "1:4 not YAML"),
        ("a: \x07", "the character \\x07 is not allowed"),
        ("é: [é, \x07", "1:8 the character"),
        ("a: 1\n--- \nb: 2", "2:1 a file holds one document"),
        ("? [x]\n: 1", "a key must be text"),
        ("&a [*a]", "1:5 `*a` stands inside the value it names"),
        ("a: *b", "1:4 no anchor `&b`"),
        ("a: !!python/object:os.system x", "1:4 tags are not read"),
        ("a: !x {b: 1}", "1:4 tags are not read"),
        ("", "1:1 expected a map with `tasks`, got nothing"),
        ("- a", "1:1 expected a map with `tasks`, got a list"),
        ("tasks: {a: {run: x}, a: {run: y}}", "1:22 the key `a` stands twice"),
    ],
)
def test_what_cannot_be_read_is_one_fault_at_its_place(text: str, expected: str) -> None:
    assert expected in fault(text)


def test_text_that_is_not_utf8() -> None:
    assert fault(b"name: a\nx: \xff") == "2:4 the text is not UTF-8"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"tasks": {"a": {"run": "x"}', "1:28 not JSON: the text ends too early"),
        ('{"tasks": \n tru}', "2:"),
        ('{"é": 1,}', "not JSON"),
        ('{"tasks": {"a": {"run": "x"}, "a": {"run": "y"}}}', "1:31 the key `a` stands twice"),
        ('{"tasks": {"a": {"run": "x", "timeout": 5}}}', "1:41 expected a duration"),
        ('{"tasks": {"a": {"run": "\\u0022 ${{ params.x }}"}}}', "1:37 unknown param `x`"),
        ('{"tasks": {"a": {"run": "\\ud800"}}}', "not JSON"),
    ],
)
def test_json_faults(text: str, expected: str) -> None:
    assert expected in fault(text, "a.json")


def test_the_format_is_found_out() -> None:
    as_json = b'\xef\xbb\xbf  {"tasks": {"a": {"run": "x"}}}'
    flow = b"{tasks: {a: {run: x}}}"
    block = b"tasks:\n  a: {run: x}\n"
    specs = [compile_source(data).spec for data in (as_json, flow, block)]
    assert all(spec is not None and spec.tasks[0].script == "x" for spec in specs)
    assert compile_source(flow, "a.json").spec is None
    assert compile_source(block, format="json").spec is None
    assert compile_source(as_json.removeprefix(b"\xef\xbb\xbf"), "a.yaml").spec is not None


def test_a_document_is_named_after_its_file() -> None:
    assert [name_of(name) for name in ("", "x/My Run.v2.yaml", "12.yaml", "a" * 99 + ".yaml", "C:\\d\\ok_1.json")] == [
        "workflow",
        "my-run",
        "workflow",
        "a" * 63,
        "ok_1",
    ]
    spec = compile_source(b"tasks: {a: {run: x}}", "conf/train.yaml").spec
    assert spec is not None and spec.name == "train"


def test_both_formats_say_the_same_about_the_same_document() -> None:
    document = {
        "params": {"n": 1},
        "defaults": {"retry": 2},
        "tasks": {
            "a": {"run": 'echo "${{ params.n }}"', "outputs": {"x": "int"}},
            "b": {"command": ["x"], "when": "1 > 0"},
        },
    }
    as_json = compile_source(msgspec.json.encode(document), "w.json").spec
    as_yaml = compile_source(msgspec.yaml.encode(document), "w.yaml").spec
    assert as_json is not None and as_yaml is not None
    lines = [task.line for task in as_yaml.tasks]
    assert all(lines)
    assert msgspec.structs.replace(as_yaml, tasks=tuple(msgspec.structs.replace(t, line=0) for t in as_yaml.tasks)) == (
        msgspec.structs.replace(as_json, tasks=tuple(msgspec.structs.replace(t, line=0) for t in as_json.tasks))
    )


def test_aliases_cannot_explode() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]" for i in range(12)]
    assert "expanded_nodes_count" in fault("\n".join(lines))


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000])
def test_depth_is_bounded_before_anything_recurses(text: str) -> None:
    assert "depth_count" in fault(text) or "key must be text" in fault(text)


def test_deep_json() -> None:
    assert "depth_count" in fault("[" * 100_000, "a.json")
    assert "depth_count" in fault('{"tasks": ' + "[" * 100 + "]" * 100 + "}", "a.json")


def test_size_limits_are_named() -> None:
    assert "yaml_bytes" in fault("a" * 101, yaml_bytes=100)
    assert "source_bytes" in fault('{"a": "' + "a" * 101, "a.json", source_bytes=100)


@pytest.mark.parametrize("filename", ["a.json", "a.yaml"])
def test_the_number_of_tasks_is_bounded_in_both_formats(filename: str) -> None:
    text = '{"tasks": {"a": {"run": "x"}, "b": {"run": "x"}, "c": {"run": "x"}}}'
    assert compile_source(text.encode(), filename, limits=DocumentLimits(tasks_count=3)).spec is not None
    assert "tasks_count" in fault(text, filename, tasks_count=2)


def test_long_lines_are_cut_around_the_caret() -> None:
    text = (
        '{"tasks": {'
        + ", ".join(f'"t{i}": {{"run": "x"}}' for i in range(2_000))
        + ', "z": {"run": "x", "needs": ["t20000"]}}}'
    )
    compiled = compile_source(text.encode(), "a.json")
    shown = render(compiled.faults[0], source_lines(text.encode()), "a.json").splitlines()
    assert all(len(line) < 200 for line in shown)
    assert shown[1][shown[2].index("^") :].startswith('"t20000"')


def test_windows_line_ends() -> None:
    data = b"tasks:\r\n  a:\r\n    runn: x\r\n"
    compiled = compile_source(data, "a.yaml")
    assert render(compiled.faults[0], source_lines(data), "a.yaml").splitlines()[:2] == [
        "a.yaml:3:5: tasks.a.runn: unknown field `runn`",
        "  3 |     runn: x",
    ]


@given(st.text(max_size=80) | st.text(alphabet="{}[]:,-&*?!|>'\"% \n\tab1#", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    for filename in ("a.yaml", "a.json", ""):
        compiled = compile_source(data, filename)
        assert (compiled.spec is None) == bool(compiled.faults)
        for one in compiled.faults:
            assert render(one, source_lines(data), filename)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for filename in ("a.yaml", "a.json"):
        assert compile_source(data, filename).spec is None


VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=15,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUE, max_size=4))
def test_json_is_read_with_positions_as_it_is_without(value: dict[str, Any]) -> None:
    parsed = parse_source(msgspec.json.encode(value), "a.json")
    assert parsed.faults == ()
    assert parsed.mapping == value
    assert all(parsed.locate((key,), key=True)[0] == 1 for key in value)
