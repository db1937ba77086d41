"""From a mapping to a Spec: short forms, merging, inference, sharing, size."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffd.core.document import Compiled, DocumentLimits, compile_document
from ffd.core.document.scalars import Wrong, cpu_millis, duration_ms, gpu_request, gpus, size_bytes
from ffd.core.spec import Checkpoint, Gang, Need, Resources, Retry, Spec, Task, Template, Timeouts


def compiled(tasks: dict[str, Any] | None = None, **fields: Any) -> Spec:
    result = compile_document({"tasks": tasks or {"a": {"run": "echo"}}, **fields})
    assert result.faults == ()
    assert result.spec is not None
    return result.spec


def task(fields: dict[str, Any], **document: Any) -> Task:
    return compiled({"a": {"run": "echo", **fields}}, **document).tasks[0]


def messages(document: Any, **how: Any) -> list[str]:
    result = compile_document(document, **how)
    assert result.spec is None
    return [f"{fault.path}: {fault.message}" for fault in result.faults]


def test_the_least_document() -> None:
    spec = compiled({"hi": {"run": "echo hi"}})
    assert spec == Spec(name="workflow", tasks=(Task(name="hi", kind="run", script="echo hi"),))


def test_all_of_the_header() -> None:
    spec = compiled(
        version="ffd/v1",
        name="my-run",
        description="d",
        labels={"team": "a", "n": 5, "ok": True},
        project="research/llm",
        priority=7,
        max_parallel=3,
        fail_fast=False,
        timeout="1h",
        ttl={"success": "1d", "failure": "2w"},
    )
    assert (spec.name, spec.project, spec.priority, spec.max_parallel, spec.fail_fast) == (
        "my-run",
        "research/llm",
        7,
        3,
        False,
    )
    assert spec.labels == {"team": "a", "n": "5", "ok": "true"}
    assert (spec.timeout_ms, spec.ttl_success_ms, spec.ttl_failure_ms) == (3_600_000, 86_400_000, 14 * 86_400_000)
    assert compiled(ttl="1h").ttl_failure_ms == 3_600_000


@pytest.mark.parametrize(
    ("fields", "field", "expected"),
    [
        ({"retry": 3}, "retry", Retry(max_count=3)),
        ({"retry": {"max": 0}}, "retry", Retry()),
        (
            {
                "retry": {
                    "max": 2,
                    "backoff": "5s",
                    "factor": 3,
                    "max_backoff": "1m",
                    "jitter": 0,
                    "causes": ["oom", 75, "075"],
                }
            },
            "retry",
            Retry(2, 5_000, 3.0, 60_000, 0.0, ("oom", "75")),
        ),
        ({"timeout": "90s"}, "timeouts", Timeouts(run_ms=90_000)),
        ({"timeout": {"queue": "1d", "idle": "30m"}}, "timeouts", Timeouts(queue_ms=86_400_000, idle_ms=1_800_000)),
        ({"gang": 4}, "gang", Gang(replicas=4)),
        ({"gang": {"replicas": 2, "launcher": "mpi"}}, "gang", Gang(replicas=2, launcher="mpi", success="leader")),
        ({"gang": {"replicas": 2, "launcher": "mpi", "success": "all"}}, "gang", Gang(replicas=2, launcher="mpi")),
        (
            {"gang": {"replicas": 8, "min": 4, "wait": "2h", "topology": "nvlink"}},
            "gang",
            Gang(replicas=8, min_replicas=4, topology="nvlink", wait_ms=7_200_000),
        ),
        (
            {"gang": {"topology": {"level": "zone", "mode": "preferred"}}},
            "gang",
            Gang(topology="zone", topology_required=False),
        ),
        ({"resources": {"gpus": "H100:8"}}, "resources", Resources(gpu_count=8, gpu_types=("H100",))),
        (
            {"resources": {"gpus": 2, "gpu_type": ["H200", "H100"], "gpu_memory": "80G"}},
            "resources",
            Resources(gpu_count=2, gpu_types=("H200", "H100"), gpu_memory_bytes=80 * 10**9),
        ),
        (
            {"resources": {"mig": {"profile": "1g.10gb", "count": 2}, "cpus": "500m", "rdma": True}},
            "resources",
            Resources(mig_profile="1g.10gb", mig_count=2, cpu_millis=500, rdma=True),
        ),
        (
            {"resources": {"cpus": 1.5, "memory": "64Gi", "shm": "1Mi", "disk": "2T"}},
            "resources",
            Resources(cpu_millis=1_500, memory_bytes=64 << 30, shm_bytes=1 << 20, disk_bytes=2 * 10**12),
        ),
        ({"resources": {"gpus": 0.5}}, "resources", Resources(gpu_count=1, gpu_millis=500)),
        (
            {"resources": {"gpus": "H100:0.125", "labels": {"disk": "nvme", "big": True}, "tolerate": ["spot", "a"]}},
            "resources",
            Resources(
                gpu_count=1,
                gpu_millis=125,
                gpu_types=("H100",),
                node_labels=(("big", "true"), ("disk", "nvme")),
                tolerate=("a", "spot"),
            ),
        ),
        ({"gang": {"replicas": 12, "topology": "compact"}}, "gang", Gang(replicas=12, topology="compact")),
        ({"checkpoint": True}, "checkpoint", Checkpoint()),
        ({"checkpoint": False}, "checkpoint", None),
        (
            {"checkpoint": {"path": "s3://x/${{ run.id }}", "grace": "90s"}},
            "checkpoint",
            Checkpoint(Template(("s3://x/", "run.id", "")), 90_000),
        ),
        (
            {"env": {"A": 1, "B": True, "C": 0.5, "D": "${{ run.id }}"}},
            "env",
            {"A": "1", "B": "true", "C": "0.5", "D": Template(("", "run.id", ""))},
        ),
        ({"matrix": {"a": [1, 2], "b": ["x"]}}, "matrix", {"a": (1, 2), "b": ("x",)}),
        ({"foreach": [1, {"k": [None]}]}, "foreach", (1, {"k": [None]})),
        ({"foreach": []}, "foreach", ()),
        ({"foreach": "range(3)"}, "foreach", Template(("", "range(3)", ""))),
        ({"foreach": "${{ range(3) }}"}, "foreach", Template(("", "range(3)", ""))),
        ({"when": "${{ 1 > 0 }}"}, "when", "1 > 0"),
        ({"when": False}, "when", "false"),
        ({"outputs": {"x": "uri"}}, "outputs", {"x": "uri"}),
        ({"image": "images.example/x:1"}, "image", "images.example/x:1"),
        ({"files": {"a/b.txt": "x"}}, "files", {"a/b.txt": "x"}),
    ],
)
def test_fields(fields: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(task(fields), field) == expected


def test_command_and_args_are_one_argv() -> None:
    found = compiled({"a": {"command": ["echo", 1, "a ${{ run.id }}"], "args": ["${{ run.id }}", True]}}).tasks[0]
    assert found.argv == ("echo", "1", Template(("a ", "run.id", "")), Template(("", "run.id", "")), "true")


def test_call_keeps_plain_values_and_marks_expressions() -> None:
    given_with = {"n": 1, "deep": [{"x": "${{ run.id }}"}, "plain"], "none": None}
    found = compiled({"a": {"call": "pkg.mod:fn.inner", "with": given_with}}).tasks[0]
    assert found.function == "pkg.mod:fn.inner"
    assert found.with_ == {"n": 1, "deep": [{"x": {"$cel": ["", "run.id", ""]}}, "plain"], "none": None}


def test_scripts_hold_variables_instead_of_values() -> None:
    found = task({"run": 'echo "${{ run.id }}" ${{ run.name }} ${{run.id}}'})
    assert found.script == 'echo "${FFD_EXPR_0}" ${FFD_EXPR_1} ${FFD_EXPR_0}'
    assert found.bindings == {"FFD_EXPR_0": "run.id", "FFD_EXPR_1": "run.name"}


def test_needs_are_declared_and_inferred_each_parent_once() -> None:
    spec = compiled(
        {
            "a": {"run": "echo", "outputs": {"n": "int"}},
            "b": {"run": "echo", "outputs": {"n": "int"}},
            "c": {
                "needs": {"b": "done"},
                "when": "tasks.a.outputs.n > 0",
                "run": "echo ${{ tasks.b.state }}",
                "env": {"X": "${{ tasks.a.attempts }}"},
            },
            "d": {"needs": ["a", "a"], "run": "echo"},
        }
    )
    assert spec.tasks[2].needs == (Need("b", "done"), Need("a"))
    assert spec.tasks[3].needs == (Need("a"),)


def test_final_tasks_read_main_tasks_without_an_edge() -> None:
    spec = compiled(
        {"a": {"run": "echo"}},
        **{
            "finally": {
                "n": {"run": "echo ${{ run.state }} ${{ tasks.a.state }}"},
                "m": {"run": "echo ${{ tasks.n.state }}"},
            }
        },
    )
    assert [final.needs for final in spec.finally_tasks] == [(), (Need("n"),)]
    assert compiled(on_exit={"n": {"run": "echo"}}).finally_tasks[0].name == "n"


def test_defaults_merge_maps_deeply_and_replace_the_rest() -> None:
    defaults = {
        "retry": {"max": 3, "causes": ["oom"]},
        "gang": 2,
        "timeout": "1h",
        "env": {"A": "1", "B": "2"},
        "resources": {"gpus": "H100:8", "memory": "1Gi"},
        "run": "echo default",
    }
    spec = compiled(
        {
            "plain": {},
            "over": {
                "retry": 5,
                "gang": {"min": 1},
                "timeout": {"idle": "1m"},
                "env": {"B": "3"},
                "resources": {"gpu_type": "A100"},
                "command": ["x"],
            },
        },
        defaults=defaults,
        **{"finally": {"last": {"retry": {"causes": [1]}}}},
    )
    plain, over = spec.tasks
    assert (plain.script, plain.retry, plain.gang) == ("echo default", Retry(3, causes=("oom",)), Gang(2))
    assert (over.kind, over.script, over.argv) == ("command", "", ("x",))
    assert over.retry == Retry(5, causes=("oom",))
    assert over.gang == Gang(2, min_replicas=1)
    assert over.timeouts == Timeouts(run_ms=3_600_000, idle_ms=60_000)
    assert over.env == {"A": "1", "B": "3"}
    assert over.resources == Resources(gpu_count=8, gpu_types=("A100",), memory_bytes=1 << 30)
    assert spec.finally_tasks[0].retry == Retry(3, causes=("1",))


def test_the_mapping_is_not_changed() -> None:
    document = {"defaults": {"env": {"A": "1"}}, "tasks": {"a": {"run": "echo ${{ run.id }}", "env": {"B": "2"}}}}
    before = msgspec.json.encode(document)
    compile_document(document)
    assert msgspec.json.encode(document) == before


def test_equal_documents_encode_to_equal_bytes() -> None:
    document = {
        "tasks": {"a": {"run": "echo", "env": {"B": "2"}}, "b": {"needs": ["a"], "run": "echo ${{ tasks.a.state }}"}}
    }
    first, second = compile_document(document).spec, compile_document(document).spec
    assert msgspec.msgpack.encode(first) == msgspec.msgpack.encode(second)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(first), type=Spec) == first


def test_equal_parts_are_shared_and_a_plain_task_is_small() -> None:
    count = 2_000
    tasks = {f"t{i}": {"needs": [f"t{i - 1}"] if i else [], "command": ["true"], "retry": 2} for i in range(count)}
    spec = compiled(tasks)
    assert spec.tasks[1].resources is spec.tasks[2].resources
    assert spec.tasks[1].retry is spec.tasks[2].retry
    assert spec.tasks[1].env is spec.tasks[2].env
    one = spec.tasks[7]
    own = [one, one.needs, one.argv, one.argv[0], one.needs[0]]
    assert sum(map(sys.getsizeof, own)) < 600


def test_a_long_chain_and_a_long_cycle_do_not_recurse() -> None:
    count = 20_000
    chain = {f"t{i}": {"needs": [f"t{i - 1}"] if i else [], "run": "echo"} for i in range(count)}
    assert len(compiled(chain).tasks) == count
    chain["t0"]["needs"] = [f"t{count - 1}"]
    (message,) = messages({"tasks": chain})
    assert message.startswith(f"tasks.t0: the tasks wait for each other: t0 -> t{count - 1} -> ")
    assert message.endswith("-> t0")
    assert len(message) < 500


def test_independent_cycles_are_each_reported_and_what_is_behind_them_is_not() -> None:
    needs = {"a": ["b"], "b": ["a"], "behind": ["a"], "c": ["d"], "d": ["e"], "e": ["c"], "free": []}
    found = messages({"tasks": {name: {"run": "echo", "needs": parents} for name, parents in needs.items()}})
    assert [message.partition(": the")[0] for message in found] == ["tasks.a", "tasks.c"]


def test_a_need_of_a_broken_task_is_not_unknown() -> None:
    assert messages({"tasks": {"a": 5, "b": {"run": "echo", "needs": ["a"]}}}) == ["tasks.a: expected a map, got 5"]


def test_every_fault_is_reported_up_to_the_limit() -> None:
    tasks = {f"t{i}": {"run": "echo", "timeout": i} for i in range(30)}
    assert len(compile_document({"tasks": tasks}).faults) == 30
    found = compile_document({"tasks": tasks}, limits=DocumentLimits(faults_count=10)).faults
    assert [fault.code for fault in found[:2]] == ["invalid", "invalid"]
    assert found[-1].message == "and at least 20 more faults"


@pytest.mark.parametrize(
    ("limits", "document", "named"),
    [
        ({"tasks_count": 2}, {"tasks": {f"t{i}": {"run": "x"} for i in range(3)}}, "tasks_count"),
        (
            {"edges_count": 1},
            {"tasks": {"a": {"run": "x"}, "b": {"run": "x", "needs": ["a"]}, "c": {"run": "x", "needs": ["a"]}}},
            "edges_count",
        ),
        (
            {"fanout_items_count": 5},
            {"tasks": {"a": {"run": "x", "matrix": {"k": [1, 2]}, "foreach": [1, 2, 3]}}},
            "fanout_items_count",
        ),
        ({"params_count": 1}, {"params": {"a": 1, "b": 2}, "tasks": {"a": {"run": "x"}}}, "params_count"),
        ({"outputs_count": 1}, {"tasks": {"a": {"run": "x", "outputs": {"a": "int", "b": "int"}}}}, "outputs_count"),
        ({"string_bytes": 10}, {"tasks": {"a": {"run": "x" * 11}}}, "string_bytes"),
        ({"retries_count": 1}, {"tasks": {"a": {"run": "x", "retry": 2}}}, "retries_count"),
    ],
)
def test_limits_are_named(limits: dict[str, int], document: Any, named: str) -> None:
    result = compile_document(document, limits=DocumentLimits(**limits))
    assert [fault.code for fault in result.faults] == ["limit"]
    assert named in result.faults[0].message


def test_values_that_are_not_json_are_refused() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    for bad in (float("nan"), float("inf"), 2**63, "\ud800", deep, {1: 2}, object()):
        assert messages({"tasks": {"a": {"run": "x", "foreach": [bad]}}})
        assert messages({"tasks": {"a": {"call": "m:f", "with": {"x": bad}}}})
        assert messages({"tasks": {"a": {"run": "x", "env": {"X": bad}}}})
        assert messages({"description": bad, "tasks": {"a": {"run": "x"}}})
        assert messages({"labels": {"x": bad}, "tasks": {"a": {"run": "x"}}})
        assert messages({"params": {"p": {"type": "json", "default": bad}}, "tasks": {"a": {"run": "x"}}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=8)
            | st.sampled_from(
                [
                    "tasks",
                    "run",
                    "needs",
                    "command",
                    "params",
                    "defaults",
                    "gang",
                    "retry",
                    "resources",
                    "matrix",
                    "foreach",
                    "when",
                    "finally",
                    "type",
                    "default",
                    "env",
                    "outputs",
                    "a",
                    "b",
                    "topology",
                    "with",
                    "call",
                    "timeout",
                    "checkpoint",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)
TASK = st.dictionaries(
    st.sampled_from(
        [
            "run",
            "needs",
            "command",
            "gang",
            "retry",
            "resources",
            "matrix",
            "foreach",
            "when",
            "env",
            "outputs",
            "timeout",
            "checkpoint",
            "with",
            "call",
            "args",
            "files",
            "workdir",
            "image",
            "max_parallel",
        ]
    ),
    JSON
    | st.sampled_from(["a", "${{ item }}", "${{ tasks.a.state }}", ["a", "b"], {"a": "done"}, "1h", 3, "params.x > 1"]),
    max_size=5,
)


DOCUMENT = st.fixed_dictionaries(
    {"tasks": st.dictionaries(st.sampled_from("abc"), TASK, min_size=1)},
    optional={"defaults": TASK, "params": JSON, "finally": st.dictionaries(st.sampled_from("cd"), TASK)},
)


@given(JSON | DOCUMENT)
def test_any_mapping_yields_a_spec_or_faults(document: Any) -> None:
    result = compile_document(document)
    assert isinstance(result, Compiled)
    assert (result.spec is None) == bool(result.faults)
    if result.spec is not None:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(result.spec), type=Spec) == result.spec
    for fault in (*result.faults, *result.warnings):
        assert fault.message


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from(["d", "h", "m", "s", "ms"])), min_size=1, max_size=4))
def test_durations_add_up(parts: list[tuple[int, str]]) -> None:
    unit_ms = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert duration_ms(text) == sum(number * unit_ms[unit] for number, unit in parts)


@pytest.mark.parametrize(
    "text", ["", "1", "1x", "h", "-1s", "1s ", "1 s", "1h30", "20y", "99999999d", 5, None, True, 1.5, [], "١s"]
)
def test_wrong_durations(text: object) -> None:
    with pytest.raises(Wrong, match="expected a duration"):
        duration_ms(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("1Ki", 1024), ("1.5Gi", 3 << 29), ("4G", 4 * 10**9), ("2MiB", 2 << 20), ("3kB", 3000)]
)
def test_sizes(text: str, expected: int) -> None:
    assert size_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "64", 64, "Gi", "1gi", "-1G", "1 G", None, True, "9999999P"])
def test_wrong_sizes(text: object) -> None:
    with pytest.raises(Wrong, match="expected a size"):
        size_bytes(text)


def test_processors_and_gpus() -> None:
    assert [cpu_millis(value) for value in (4, 0.5, "500m", "2")] == [4000, 500, 500, 2000]
    assert [gpus(value) for value in (8, "H100:8", "MI300X:1")] == [(8, ""), (8, "H100"), (1, "MI300X")]
    for bad in (True, -1, "H100", "H100:x", ":8", "8:H100", "", None):
        with pytest.raises(Wrong):
            gpus(bad)
    for bad in (True, -1, "x", "", None):
        with pytest.raises(Wrong):
            cpu_millis(bad)


def test_a_request_for_gpus_is_whole_or_a_part_of_one() -> None:
    assert [gpu_request(value) for value in (8, "H100:8", 0.5, 0.001, "H100:0.25")] == [
        (8, 1_000, ""), (8, 1_000, "H100"), (1, 500, ""), (1, 1, ""), (1, 250, "H100"),
    ]  # fmt: skip
    for bad in (1.5, 2.0, 0.0005, -0.5, 0.0, float("nan"), float("inf"), "H100:1.5", "H100:0.0", "0.5", True):
        with pytest.raises(Wrong):
            gpu_request(bad)


def test_a_flood_of_faults_is_cut_short() -> None:
    """The work for a hint (finding the nearest name) is done for listed faults only."""
    tasks = {
        f"task_{i}": {"run": "echo ${{ params.wrong }}", "needs": [f"tusk_{i}"], "retry": {"causes": ["om"]}}
        for i in range(20_000)
    }
    params = {f"param_{i}": 1 for i in range(1_000)}
    result = compile_document({"tasks": tasks, "params": params}, limits=DocumentLimits(faults_count=10))
    assert len(result.faults) == 11


def test_a_setting_without_effect_is_a_warning() -> None:
    result = compile_document({"tasks": {"a": {"run": "echo", "max_parallel": 2}}})
    assert [fault.path for fault in result.warnings] == ["tasks.a.max_parallel"]
    shared = compile_document({"defaults": {"max_parallel": 2}, "tasks": {"a": {"run": "echo"}}})
    assert (shared.faults, shared.warnings) == ((), ())


def test_expressions_are_counted() -> None:
    document = {"tasks": {"a": {"command": ["${{ run.id }}"] * 5}}}
    result = compile_document(document, limits=DocumentLimits(expressions_count=3))
    assert [(fault.path, fault.code) for fault in result.faults] == [
        ("tasks.a.command[3]", "limit"),
        ("tasks.a.command[4]", "limit"),
    ]


def test_too_many_faults_end_the_search() -> None:
    tasks = {f"t{i}": {"run": "echo", "timeout": i} for i in range(5_000)}
    found = compile_document({"tasks": tasks}, limits=DocumentLimits(faults_count=10)).faults
    assert len(found) == 11
    assert found[-1].message == "and at least 101 more faults"
