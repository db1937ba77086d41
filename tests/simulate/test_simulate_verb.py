"""`ffd simulate` as a person calls it: output, exit codes, faults without a trace, ctrl+c."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import cast

import msgspec
import pytest
from click.testing import CliRunner, Result

from ffd import __version__ as ffd_version
from ffd.api.shapes import SnapshotHead
from ffd.cli import main
from ffd.cli.session import Connect, Session
from ffd.core.limits import Limits
from ffd.core.model import Rows
from ffd.settings import Scheduling
from ffd.testing.builders import gpus, nodes, spec, submit, task
from ffd.testing.cluster import Behaviour as Runs
from ffd.testing.cluster import Cluster

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = ROOT / "config" / "examples" / "simulate"
TRACE = """\
submit_s,duration_s,gpus,project,name
0,3600,16,team-a,train
60,7200,16,team-b,train
20000,600,1,team-a,eval
30000,600,64,team-a,huge
"""


def ffd(*arguments: str) -> Result:
    return CliRunner().invoke(main.main, ["simulate", *arguments])


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("trace.csv").write_text(TRACE)
    return "trace.csv"


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("table", ["trace.csv", "--nodes", "2x8:H100"], 0),
        ("table_baseline", ["trace.csv", "--nodes", "4x8:H100", "--for", "90m", "--baseline", "fifo"], 0),
        ("table_slots", ["graphs.jsonl", "--nodes", "2x0"], 0),
        ("no_such_file", ["nothing.csv", "--nodes", "2x8:H100"], 2),
        ("no_such_nodes", ["trace.csv", "--nodes", "2*8"], 2),
        ("no_such_setting", ["trace.csv", "--nodes", "2x8", "--set", "scheduling.placment=fgd"], 2),
        ("no_such_duration", ["trace.csv", "--nodes", "2x8", "--for", "90"], 2),
        ("bad_config", ["trace.csv", "--nodes", "2x8", "--config", "bad.toml"], 2),
        ("faults", ["bad.csv", "--nodes", "2x8"], 3),
    ],
)
def test_transcripts(trace: str, name: str, arguments: list[str], code: int) -> None:
    Path("bad.csv").write_text("submit_s,duration_s\n0,x\n")
    Path("bad.toml").write_text("[schedulin]\n")
    Path("graphs.jsonl").write_text(
        '{"at_s": 0, "tasks": {"a": {"duration_s": 60}, "b": {"duration_s": 60, "needs": ["a"]}}}\n'
    )
    done = ffd(*arguments)
    told = f"$ ffd simulate {' '.join(arguments)}\n{done.stdout}--- stderr, exit {done.exit_code}\n{done.stderr}"
    golden = GOLDEN / f"verb_{name}.txt"
    if os.environ.get("FFD_UPDATE_GOLDEN"):
        golden.write_text(told)
    assert told == golden.read_text()
    assert done.exit_code == code


def test_json_holds_every_figure(trace: str) -> None:
    found = json.loads(ffd(trace, "--nodes", "2x8:H100", "-o", "json").stdout)
    assert (found["unit"], found["capacity"], found["total"]["gangs"], found["total"]["waiting"]) == ("GPU", 16, 4, 1)
    assert found["tenants"][1]["wait"]["max_s"] == 3540.0
    assert found["gantt"][0]["name"] == "train.1/job"
    both = json.loads(ffd(trace, "--nodes", "2x8:H100", "--baseline", "fifo", "-o", "json").stdout)
    assert [one["label"] for one in both] == ["default", "fifo"]


def test_a_page_is_written_where_it_can_be(trace: str, tmp_path: Path) -> None:
    done = ffd(trace, "--nodes", "2x8:H100", "--html", "out.html")
    assert "wrote out.html" in done.stderr and Path("out.html").read_text().startswith("<!DOCTYPE html>")
    refused = ffd(trace, "--nodes", "2x8:H100", "--html", str(tmp_path / "no" / "out.html"))
    assert "No such file" in refused.stderr and refused.exit_code != 0


def test_ctrl_c_ends_early_and_shows_what_there_is(tmp_path: Path) -> None:
    rows = "".join(f"{k},30,1\n" for k in range(200_000))
    (tmp_path / "long.csv").write_text("submit_s,duration_s,gpus\n" + rows)
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "long.csv")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 130, done.stderr
    assert "note: interrupted: simulated up to" in done.stderr and "(all)" in done.stdout
    assert "Traceback" not in done.stderr


# Presses ctrl+c when the simulation has made its first steps.
INTERRUPTED = f"""
import os, sys
from ffd.cli import simulate
from ffd.cli.main import main
from ffd.simulate.engine import World
run = World.run
def once(self, *arguments):
    more = run(self, *arguments)
    if self.step_count > 1_000:
        World.run = run
        os.kill(os.getpid(), {signal.SIGINT.value})
    return more
World.run = once
main(["simulate", sys.argv[1], "--nodes", "8x8:H100"])
"""


# ----------------------------------------------------------------------------------------------------------- --live


class Snapshots:
    """A daemon that gives a snapshot and nothing else."""

    def __init__(self, head: SnapshotHead, rows: Rows) -> None:
        self.head, self.rows = head, rows

    async def connect(self, config: object) -> Snapshots:
        return self

    async def __aenter__(self) -> Snapshots:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    async def snapshot(self) -> tuple[SnapshotHead, Rows]:
        return self.head, self.rows


def live(*arguments: str, version: str = ffd_version) -> Result:
    """Of a daemon with two nodes, where one gang runs since 14 s and two wait."""
    cluster = Cluster(nodes(2, gpu_count=8, gpu_type="H100"), lambda attempt, rank: Runs(start_ms=0, run_ms=10**9))
    for name in ("one", "two", "three"):
        document = spec(task("train", resources=gpus(8), replicas=2), name=name)
        cluster.send(submit(document, project="research/llm"))
    cluster.run(14_000)
    policy, limits = msgspec.msgpack.encode(Scheduling()), msgspec.msgpack.encode(Limits())
    daemon = Snapshots(SnapshotHead(version, 9, 14_000, policy, limits), cluster.ledger.loadable())
    session = Session(cast(Connect, daemon.connect))
    return CliRunner().invoke(main.main, ["simulate", "--live", *arguments], obj=session)


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("live", ["--assume", "30m"], 0),
        ("live_changed", ["--assume", "30m", "--for", "1h", "--add-nodes", "2x8:H100", "--submit", "doc.yaml"], 0),
        ("live_quota", ["--quota", "research:gpus=+8"], 2),
        ("live_drain", ["--drain", "n3"], 2),
        ("live_document", ["--submit", "bad.yaml"], 3),
        ("live_params", ["--submit", "doc.yaml", "-p", "ns=1"], 2),
    ],
)
def test_live_transcripts(trace: str, name: str, arguments: list[str], code: int) -> None:
    Path("doc.yaml").write_text("params: {n: 1}\ntasks: {eval: {run: x, resources: {gpus: 1}, timeout: 5m}}\n")
    Path("bad.yaml").write_text("tasks: {eval: {runn: x}}\n")
    done = live(*arguments)
    told = f"$ ffd simulate --live {' '.join(arguments)}\n{done.stdout}--- stderr, exit {done.exit_code}\n{done.stderr}"
    golden = GOLDEN / f"verb_{name}.txt"
    if os.environ.get("FFD_UPDATE_GOLDEN"):
        golden.write_text(told)
    assert told == golden.read_text()
    assert done.exit_code == code


def test_a_daemon_of_another_version_is_refused() -> None:
    done = live(version="9.9")
    assert "the daemon is ffd 9.9" in done.stderr and done.exit_code == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trace.csv"], "--nodes says on what"),
        (["--nodes", "2x8"], "nothing to simulate"),
        (["--live", "--nodes", "2x8"], "--add-nodes adds some"),
        (["--nodes", "2x8", "--submit", "nothing.yaml"], "nothing.yaml"),
    ],
)
def test_what_does_not_go_together(trace: str, arguments: list[str], words: str) -> None:
    done = ffd(*arguments)
    assert words in done.stderr and done.exit_code == 2


def test_documents_on_a_cluster_that_is_not_there(trace: str) -> None:
    Path("doc.yaml").write_text("tasks: {a: {run: x, resources: {gpus: 8}, gang: 4, timeout: 5m}}\n")
    found = json.loads(ffd("--nodes", "4x8:H100", "--submit", "doc.yaml", "-o", "json").stdout)
    assert found["starts"] == [
        {"name": "doc.1/a", "tenant": "default", "in_s": 0.0, "waited_s": 0.0,
         "nodes": "node-0000, node-0001, node-0002, node-0003"}
    ]  # fmt: skip
    assert found["notes"] == ["durations of attempts: 1 by their timeout.run"]
