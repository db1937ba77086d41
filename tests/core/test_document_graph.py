"""The text graph and the figures above it."""

from __future__ import annotations

from typing import Any

from ffd.core.document import compile_document, render_graph, summary
from ffd.core.spec import Spec


def spec(tasks: dict[str, Any], **fields: Any) -> Spec:
    result = compile_document({"name": "w", "tasks": {k: {"run": "x", **v} for k, v in tasks.items()}, **fields})
    assert result.spec is not None, result.faults
    return result.spec


def graph(tasks: dict[str, Any], **fields: Any) -> list[str]:
    return render_graph(spec(tasks, **fields)).splitlines()


def test_a_diamond() -> None:
    found = graph({"a": {}, "b": {"needs": ["a"]}, "c": {"needs": ["a"]}, "d": {"needs": ["b", "c"]}})
    assert found == [
        "w: 4 tasks, 4 edges, 3 layers",
        "",
        "●  a",
        "├─╮",
        "● │  b",
        "│ ●  c",
        "├─╯",
        "●  d",
    ]


def test_tasks_that_have_nothing_to_do_with_each_other_stand_apart() -> None:
    assert graph({"a": {}, "b": {}})[2:] == ["●  a", "", "●  b"]


def test_an_edge_over_other_lanes() -> None:
    tasks = {"a": {}, "b": {"needs": ["a"]}, "c": {"needs": ["a"]}, "d": {"needs": ["a"]}, "e": {"needs": ["b", "d"]}}
    assert graph(tasks)[2:] == ["●  a", "├─┬─╮", "● │ │  b", "│ ●  c", "● │  d", "●  e"] or graph(tasks)[2:] == [
        "●  a",
        "├─┬─╮",
        "● │ │  b",
        "│ ● │  c",
        "│   ●  d",
        "├───╯",
        "●  e",
    ]


def test_labels_tell_what_a_task_is() -> None:
    tasks = {
        "many": {"foreach": "range(64)", "outputs": {"n": "int"}},
        "dyn": {"foreach": "tasks.many.outputs.n"},
        "train": {
            "needs": {"dyn": "done"},
            "gang": {"replicas": 16, "min": 8, "topology": "same-rack", "launcher": "torchrun"},
            "resources": {"gpus": "H100:8"},
            "when": "sum(tasks.many.outputs.n) > 1",
        },
        "repair": {"needs": {"train": "failed"}, "resources": {"mig": {"profile": "1g.10gb", "count": 2}}},
    }
    text = "\n".join(graph(tasks, **{"finally": {"last": {"run": "x"}}}))
    assert "many  [64 items]" in text
    assert "dyn  [one item per element]" in text
    assert "[gang of 16 (at least 8, same-rack, torchrun), 8×H100 each]  if dyn ended  when sum(" in text
    assert "repair  [2×1g.10gb]  if train failed" in text
    assert text.endswith("finally:\n●  last")
    assert "at least 130 GPUs" in text


def test_a_thousand_tasks_stay_readable() -> None:
    chain = {f"t{i}": {"needs": [f"t{i - 1}"] if i else []} for i in range(1_000)}
    assert graph(chain)[2:] == ["●  t0 … t999  ×1000  [999 edges among them]"]
    wide = {"a": {}, **{f"s_{i}": {"needs": ["a"]} for i in range(1_000)}, "z": {"needs": ["s_0", "s_999"]}}
    assert graph(wide)[2:] == ["●  a", "●  s_0 … s_999  ×1000", "●  z"]
    ring = {}
    for i in range(500):
        ring[f"a{i}"] = {"needs": [f"b{i - 1}"] if i else []}
        ring[f"b{i}"] = {"needs": [f"a{i}"]}
    found = graph(ring)
    assert found[2] == "layer    1        1 task: a0"
    assert len(found) < 110


def test_ascii() -> None:
    text = render_graph(spec({"a": {}, "b": {"needs": ["a"]}, "c": {"needs": ["a"]}}), ascii_only=True)
    assert text.isascii()


def test_figures() -> None:
    found = summary(
        spec(
            {
                "a": {"matrix": {"k": [1, 2], "j": [1, 2, 3]}, "resources": {"gpus": 1}},
                "b": {"needs": ["a"], "gang": 4, "resources": {"gpus": 8}},
                "c": {"needs": ["a"], "gang": 30},
            },
            **{"finally": {"z": {"run": "x"}}},
        )
    )
    assert (found.tasks_count, found.finally_count, found.edges_count, found.depth_count) == (3, 1, 2, 3)
    assert (found.items_count, found.gpus_count, found.is_exact) == (9, 6 + 32, True)
    assert (found.largest_gang_task, found.largest_gang_replicas_count, found.largest_gang_gpus_count) == ("b", 4, 32)
    assert summary(spec({"a": {"foreach": "params.l"}}, params={"l": [1]})).is_exact is False


def test_depth_of_a_deep_chain_does_not_recurse() -> None:
    chain = {f"t{i}": {"needs": [f"t{i + 1}"] if i < 4_999 else []} for i in range(5_000)}
    assert summary(spec(chain)).depth_count == 5_000
