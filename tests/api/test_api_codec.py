"""Every page survives the wire unchanged, and both definitions of it agree."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffd.api import codec
from ffd.api.codec import MESSAGES, from_proto, to_proto
from ffd.core.model import AttemptId
from ffd.core.pages import EventPage, TaskPage, WorkflowPage
from ffd.errors import Refusal

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
st.register_type_strategy(str, TEXT)
st.register_type_strategy(int, INT64)
st.register_type_strategy(float, st.floats(allow_nan=False))


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values for one field. msgspec types every free-form value as Any."""
    if hint == dict[str, Any]:
        return st.dictionaries(TEXT, JSON, max_size=3)
    if hint == dict[str, Any] | None:
        return st.none() | st.dictionaries(TEXT, JSON, max_size=3)
    if hint == dict[str, dict[str, Any]]:
        return st.dictionaries(TEXT, st.dictionaries(TEXT, JSON, max_size=2), max_size=2)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return structs(hint)
    arguments = getattr(hint, "__args__", ())
    structs_in = [one for one in arguments if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    if structs_in and getattr(hint, "__origin__", None) is tuple:
        return st.lists(structs(structs_in[0]), max_size=2).map(tuple)
    if structs_in:
        return st.none() | structs(structs_in[0])
    return st.from_type(hint)


def structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{name: values_of(hint) for name, hint in get_type_hints(kind).items()})


@given(st.sampled_from(sorted(MESSAGES, key=lambda kind: kind.__name__)).flatmap(structs))
def test_every_struct_survives_the_wire(value: msgspec.Struct) -> None:
    message = to_proto(value)
    over_the_wire = type(message).FromString(message.SerializeToString())
    assert from_proto(type(value), over_the_wire) == value


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_struct_and_message_have_the_same_fields(kind: type[msgspec.Struct]) -> None:
    """Building the plan raises TypeError for a field that only one side has: change ffd/proto/ffd/v1/pages.proto."""
    assert len(codec._plan(kind)) == len(msgspec.structs.fields(kind)) > 0


def test_a_field_that_one_side_lacks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(msgspec.Struct):
        handle: str
        shoe_size: int

    monkeypatch.setitem(MESSAGES, Other, MESSAGES[WorkflowPage])
    with pytest.raises(TypeError, match="shoe_size"):
        to_proto(Other(handle="a.1", shoe_size=44))


def test_defaults_of_the_two_sides_need_not_agree() -> None:
    assert from_proto(EventPage, to_proto(EventPage(number=1, index=0, at_ms=0, kind="x"))).item == -1
    assert from_proto(TaskPage, to_proto(TaskPage(workflow="a.1", name="t", state="ready", replicas=0))).replicas == 0


def test_bad_json_bytes_are_refused_by_field() -> None:
    message = to_proto(TaskPage(workflow="a.1", name="t", state="ready"))
    message.outputs_json = b"[1, 2"
    with pytest.raises(Refusal) as refusal:
        from_proto(TaskPage, message)
    assert (refusal.value.code, refusal.value.field) == ("invalid", "outputs")


def test_deeply_nested_json_is_refused_not_a_crash() -> None:
    with pytest.raises(Refusal):
        codec.decode_object(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "params")


def test_attempt_ids_travel_whole() -> None:
    attempt = AttemptId(7, "train", 3, 2)
    assert from_proto(AttemptId, to_proto(attempt)) == attempt
