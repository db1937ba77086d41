"""What can be simulated and what is said of what cannot: traces, synthetic workloads, inventories. FFD_UPDATE_GOLDEN=1
writes the transcripts of faults anew."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ffd.core.effects import Launch
from ffd.core.model import AttemptId
from ffd.core.spec import Resources, Spec
from ffd.errors import Refusal
from ffd.plugins.behaviour import Behaviour
from ffd.settings import Scheduling, Settings, load
from ffd.simulate import files, trace
from ffd.simulate.faults import COUNTED_COUNT, InputFaults
from ffd.simulate.inventory import more_nodes, read_nodes
from ffd.simulate.scenario import Scenario, limits_of, policy_of, read_workload, start
from ffd.simulate.workload import Failures, Workload

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = Path(__file__).parents[2] / "config" / "examples" / "simulate"


def order(task: str, item: int = 0, number: int = 1, workflow: int = 1) -> Launch:
    return Launch(AttemptId(workflow, task, item, number), "w.1", "p", ())


def read(tmp_path: Path, name: str, text: str, **more: Any) -> Workload:
    (tmp_path / name).write_text(text)
    return read_workload(str(tmp_path / name), **more)


def fed(workload: Workload) -> list[tuple[int, Spec, str, Any]]:
    return [(at_ms, given.spec, given.project, tag) for at_ms, given, tag in workload.feed()]  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------------------- csv


def test_a_row_is_a_gang_whatever_the_order_of_rows_and_columns(tmp_path: Path) -> None:
    text = (
        "tenant,gpus,duration_s,submit_s,name,gpu_type,cpus,memory,min_replicas,wait,checkpoint,retries,timeout\n"
        'a,16,1.5,20,"Nightly run, 1",H100|A100,4,64Gi,1,10m,true,3,1h\n'
        "\n"
        "b,2,0,10.25,,,500m,,,,,,\n"
    )
    (b_at, b, b_project, b_tag), (a_at, a, a_project, a_tag) = fed(read(tmp_path, "t.csv", text))
    assert (a_at, b_at, a_project, b_project, a_tag, b_tag) == (20_000, 10_250, "a", "b", 1_500, 0)
    task = a.tasks[0]
    assert (a.name, b.name) == ("nightly-run--1", "job")
    assert task.resources == Resources(8, ("H100", "A100"), cpu_millis=4_000, memory_bytes=64 << 30)
    assert (task.gang.replicas, task.gang.min_replicas, task.gang.wait_ms) == (2, 1, 600_000)
    assert (task.checkpoint is not None, task.retry.max_count, task.timeouts.run_ms) == (True, 3, 3_600_000)
    assert b.tasks[0].resources == Resources(2, cpu_millis=500)


@pytest.mark.parametrize(
    ("gpus", "replicas", "each", "wanted"),
    [
        ("8", "", "", (1, 8)), ("16", "", "", (2, 8)), ("12", "", "", (2, 6)), ("11", "", "", (11, 1)),
        ("9", "", "", (3, 3)), ("0", "", "", (1, 0)), ("32", "8", "", (8, 4)), ("", "4", "8", (4, 8)),
        ("32", "", "4", (8, 4)), ("", "", "", (1, 0)), ("", "3", "", (3, 0)),
    ],
)  # fmt: skip
def test_gpus_are_split_into_equal_replicas(
    tmp_path: Path, gpus: str, replicas: str, each: str, wanted: tuple[int, int]
) -> None:
    text = f"submit_s,duration_s,gpus,replicas,gpus_per_replica\n0,1,{gpus},{replicas},{each}\n"
    task = fed(read(tmp_path, "t.csv", text))[0][1].tasks[0]
    assert (task.gang.replicas, task.resources.gpu_count) == wanted


def test_rows_that_are_alike_share_a_document(tmp_path: Path) -> None:
    rows = "".join(f"{k},{k % 7},1,p\n" for k in range(200))
    workload = read(tmp_path, "t.csv", "submit_s,duration_s,gpus,project\n" + rows)
    assert len({id(spec) for _, spec, _, _ in fed(workload)}) == 1
    known = read(tmp_path, "t.csv", "submit_s,duration_s,gpus,project\n" + rows, knows=True)
    assert {spec.tasks[0].timeouts.run_ms for _, spec, _, _ in fed(known)} == {1, *range(1_000, 7_000, 1_000)}


def test_names_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "NAMES_COUNT", 3)
    workload = read(tmp_path, "t.csv", "submit_s,duration_s,name\n" + "".join(f"0,1,x{k}\n" for k in range(5)))
    assert [spec.name for _, spec, _, _ in fed(workload)] == ["x0", "x1", "x2", "job", "job"]
    assert workload.notes == ["the trace has more than 3 names: jobs with further ones are called `job`"]


def test_gzip_is_unpacked_and_torn_gzip_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(b"\xef\xbb\xbfsubmit_s,duration_s\n" + b"0,1\n" * 5_000)
    (tmp_path / "t.csv.gz").write_bytes(packed)
    assert len(read_workload(str(tmp_path / "t.csv.gz"))) == 5_000
    (tmp_path / "t.csv.gz").write_bytes(packed[:-20])
    with pytest.raises(Refusal, match=r"t\.csv\.gz: "):
        read_workload(str(tmp_path / "t.csv.gz"))
    (tmp_path / "t.csv").write_bytes(b"submit_s,duration_s\n\xff,1\n")
    with pytest.raises(Refusal, match="not UTF-8"):
        read_workload(str(tmp_path / "t.csv"))
    with pytest.raises(Refusal, match="No such file"):
        read_workload(str(tmp_path / "missing.csv"))


def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LINE_CHARS", 100)
    with pytest.raises(Refusal, match="LINE_CHARS"):
        read(tmp_path, "t.csv", "submit_s,duration_s\n" + "0" * 200)


def test_so_many_faults_end_the_reading(tmp_path: Path) -> None:
    with pytest.raises(InputFaults) as caught:
        read(tmp_path, "t.csv", "submit_s,duration_s\n" + "x,1\n" * (2 * COUNTED_COUNT))
    assert (len(caught.value.faults), len(caught.value.texts)) == (50, 50)
    assert f"50 faults and at least {COUNTED_COUNT - 50} more" in caught.value.message


# ----------------------------------------------------------------------------------------------------------- jsonl


def test_a_line_is_a_document_with_lengths(tmp_path: Path) -> None:
    text = (EXAMPLES / "graphs.jsonl").read_text()
    workload = read(tmp_path, "t.jsonl", text)
    (_, spec, project, tag), (at_ms, other, _, other_tag) = fed(workload)
    assert (spec.name, project, at_ms, other.tasks[1].gang.replicas) == ("nightly", "research/llm", 1_800_000, 4)
    assert [workload.behave(order("eval", item), tag).duration_ms for item in range(4)] == [300e3, 420e3, 600e3, 600e3]
    assert workload.behave(order("train"), other_tag) == Behaviour(3_600_000, 0)
    known = fed(read(tmp_path, "t.jsonl", text, knows=True))[0][1]
    assert [task.timeouts.run_ms for task in known.tasks] == [600_000, 7_200_000, 600_000]


def test_an_environment_says_what_a_line_does_not(tmp_path: Path) -> None:
    text = '{"at_s": 0, "tasks": {"a": {"env": {"VIRTUAL_DURATION": "90s"}}, "b": {"duration_s": 1, "exit_code": 3}}}\n'
    workload = read(tmp_path, "t.jsonl", text)
    tag = fed(workload)[0][3]
    launch = Launch(AttemptId(1, "a", 0, 1), "w.1", "p", (), env={"VIRTUAL_DURATION": "90s"})
    assert workload.behave(launch, tag).duration_ms == 90_000
    assert workload.behave(order("b"), tag) == Behaviour(1_000, 3)


# ------------------------------------------------------------------------------------------------------- synthetic


def test_a_seed_draws_the_same_again_and_another_does_not(tmp_path: Path) -> None:
    text = (EXAMPLES / "research.yaml").read_text()
    first, again = read(tmp_path, "a.yaml", text), read(tmp_path, "b.yaml", text)
    assert [(at, tag) for at, _, _, tag in fed(first)] == [(at, tag) for at, _, _, tag in fed(again)]
    other = read(tmp_path, "c.yaml", text.replace("seed: 42", "seed: 43"))
    assert [at for at, *_ in fed(other)] != [at for at, *_ in fed(first)]


def test_what_is_drawn_has_the_parts_and_means_that_were_asked(tmp_path: Path) -> None:
    text = """\
for: 1000h
arrivals: {per_hour: 20}
tenants: {a: {share: 3}, b: {}}
jobs:
  - {name: e, share: 2, duration: {exponential: {mean: 10m}}}
  - {name: l, share: 1, duration: {lognormal: {median: 10m, sigma: 1}}}
  - {name: c, share: 1, duration: {choices: [1m, 2m]}, priority: 9}
"""
    jobs = fed(read(tmp_path, "a.yaml", text))
    assert abs(len(jobs) / 20_000 - 1) < 0.03
    assert abs(sum(project == "a" for _, _, project, _ in jobs) / len(jobs) - 0.75) < 0.01
    lengths: dict[str, list[int]] = {}
    for _, spec, _, length_ms in jobs:
        lengths.setdefault(spec.name, []).append(length_ms)
    assert abs(len(lengths["e"]) / len(jobs) - 0.5) < 0.01
    assert abs(sum(lengths["e"]) / len(lengths["e"]) / 600_000 - 1) < 0.04
    assert abs(sorted(lengths["l"])[len(lengths["l"]) // 2] / 600_000 - 1) < 0.06
    assert {*lengths["c"]} == {60_000, 120_000}


def test_uniform_arrivals_are_evenly_spaced(tmp_path: Path) -> None:
    text = "{for: 1h, arrivals: {process: uniform, per_hour: 6}, jobs: [{duration: 1m}]}"
    assert [at for at, *_ in fed(read(tmp_path, "a.yaml", text))] == [600_000 * k for k in range(1, 6)]


def test_failures_strike_by_name_and_spare_the_rest() -> None:
    failures = Failures(0.25, seed=1)
    whole = Behaviour(1_000)
    struck = [failures.strike(order("a", number=k), whole) for k in range(4_000)]
    assert struck == [failures.strike(order("a", number=k), whole) for k in range(4_000)]
    failed = [one for one in struck if one.exit_code]
    assert abs(len(failed) / 4_000 - 0.25) < 0.03
    assert all(0 <= one.duration_ms <= 1_000 for one in failed)
    assert Workload(Failures(0.0)).failures is None


# -------------------------------------------------------------------------------------------- cluster, policy, whole


def test_groups_of_nodes_and_their_domains() -> None:
    nodes = read_nodes(str(EXAMPLES / "cluster.yaml"))
    assert [node.name for node in nodes[:5]] == ["cpu-0000", "cpu-0001", "cpu-0002", "cpu-0003", "h100-0000"]
    assert nodes[-1].labels == {"rack": "h100-rack-002"} and nodes[-1].gpu_type == "H100" and nodes[-1].rdma
    assert len(read_nodes("80x8:H100")) == 80
    added = more_nodes("2x8:A100", (*read_nodes("4x8:H100"), *more_nodes("1x8:H100", ())))
    assert [node.name for node in added] == ["added2-node-0000", "added2-node-0001"]
    assert added[0].labels["rack"] == "added2-rack-000"


def test_a_policy_is_a_preset_with_settings_over_it() -> None:
    assert policy_of(Scheduling(), {}, []) == Scheduling()
    assert policy_of(Scheduling(), {"placement": "fgd"}, ["scheduling.placement=bestfit"]).placement == "bestfit"
    with pytest.raises(Refusal, match="did you mean placement"):
        policy_of(Scheduling(), {}, ["scheduling.placment=fgd"])
    with pytest.raises(Refusal, match=r"expected scheduling\.KEY=VALUE"):
        policy_of(Scheduling(), {}, ["limits.batch_count=1"])


def test_limits_are_those_of_the_daemon_but_for_what_it_may_hold() -> None:
    limits = limits_of(load("[limits]\nstop_grace_ms = 5\nlive_workflows_count = 1\n", "x").limits)
    assert (limits.stop_grace_ms, limits.live_workflows_count) == (5, 1 << 60)
    assert limits_of(Settings().limits).cycle_work_count == Settings().limits.cycle_work_count


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir() if path.name != "cluster.yaml"))
def test_each_example_runs_to_its_end(name: str) -> None:
    nodes = read_nodes(str(EXAMPLES / "cluster.yaml"))
    scenario = Scenario(nodes=nodes, workload=read_workload(str(EXAMPLES / name)))
    run = start(scenario)
    world, total = run.world, run.recorder.total
    world.run()
    assert total.gang_count == total.started_count > 0
    assert total.succeeded_count + total.failed_count == total.gang_count and not world.state.workflows


# ------------------------------------------------------------------------------------------------------ transcripts

BAD: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "csv_header": ("t.csv", read_workload, "submit,duration_s,gpu,gpu,\n1,2,3,4,\n"),
    "csv_empty": ("t.csv", read_workload, ""),
    "csv_rows": (
        "t.csv",
        read_workload,
        "submit_s,duration_s,gpus,tenant,name,topology,memory,priority,checkpoint,exit_code\n"
        "0,10,16,a,x y,same-rack,4Gi,,,\n"
        "1,,8,a,b,rack,4,1001,perhaps,\n"
        'x,-5,3,b,"c,\nd",any,,,,256\n'
        "2,5\n"
        "inf,1e400,x,,,,,,,y\n",
    ),
    "csv_quote": ("t.csv", read_workload, 'submit_s,duration_s,name\n1,2,"never ends\n3,4,x\n'),
    "csv_split": (
        "t.csv",
        read_workload,
        "submit_s,duration_s,gpus,replicas,gpus_per_replica\n0,1,7,2,\n0,1,8,3,4\n0,1,99999999999,,\n",
    ),
    "jsonl": (
        "t.jsonl",
        read_workload,
        '{"at_s": 1, "tasks": {"a": {"duration": 5}, "b": {"needs": ["c"], "duration_s": -4}}}\n'
        '{"tasks": {"a": {"exit_code": 700, "duration_s": [1, "x"]}}, "nmae": "x"}\n'
        '{"at": 1\n[]\n'
        '{"at_s": true, "tasks": {"a": {"needs": ["b"]}, "b": {"needs": ["a"]}}}\n',
    ),
    "jsonl_empty": ("t.jsonl", read_workload, "\n\n"),
    "synthetic": (
        "t.yaml",
        read_workload,
        "seed: 1\nfor: 24h\narrivals: {process: posson, per_hour: 0}\ntenants:\n  research/llm: {share: -3}\n"
        "jobs:\n  - {duration: {lognormal: {median: 20m, sigma: 1.2}, choices: [1h]}, task: {resources: {gpu: 1}}}\n"
        "  - {duration: 4x, priority: 7000, name: A b, task: {resources: {gpus: 'H100:8', memory: 4}, needs: [x]}}\n"
        "failures: {rate: 2}\n",
    ),
    "synthetic_late": (
        "t.yaml",
        read_workload,
        "for: 24h\narrivals: {per_hour: 1}\njobs:\n"
        "  - {duration: {lognormal: {median: 20m, sigma: 1.2}, choices: [1h]}, task: {resources: {gpu: 1}}}\n"
        "  - {duration: 4x, name: A b, share: 0, task: {resources: {gpus: 'H100:8', memory: 4}, needs: [x]}}\n"
        "  - {duration: {choices: []}, share: 0}\n",
    ),
    "inventory": (
        "n.yaml",
        read_nodes,
        "nodes:\n  - {name: h100, count: 0, gpus: H100:x, gpu_memory: 80, rack: 4}\n  - {cpus: 64}\n"
        "  - {name: h100, memory: 12}\n  - {name: h100}\n",
    ),
    "inventory_much": ("n.yaml", read_nodes, "nodes: [{name: a, count: 999999999999, gpus: 8}]\n"),
}


@pytest.mark.parametrize("name", BAD)
def test_faults_are_told_with_their_places(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filename, reader, text = BAD[name]
    monkeypatch.chdir(tmp_path)
    Path(filename).write_text(text)
    with pytest.raises(InputFaults) as caught:
        reader(filename)
    told = "\n".join([*caught.value.texts, caught.value.message]) + "\n"
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("FFD_UPDATE_GOLDEN"):
        golden.write_text(told)
    assert told == golden.read_text()


def test_what_has_no_known_ending_is_asked_for() -> None:
    with pytest.raises(Refusal, match="what is it"):
        read_workload("trace.txt")
    with pytest.raises(Refusal, match="neither NODESxGPUS:MODEL nor a file"):
        read_nodes("80*8")
