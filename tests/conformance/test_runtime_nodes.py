"""What runtimes say they have: this machine, pretend nodes; and how virtual replicas are told what to do."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from runtime_worlds import launch_of

from ffd.core.model import Node, Place
from ffd.core.reports import InventoryReported, ReplicaExited
from ffd.errors import Refusal
from ffd.plugins.behaviour import Behaviour, told_by_environment
from ffd.plugins.pretend import parse_pretend
from ffd.plugins.runtime.machine import short_model, this_machine
from ffd.plugins.runtime.virtual import VirtualCluster, VirtualRuntime
from ffd.testing.conformance.runtime import attempt_of

A = attempt_of("a")


# ------------------------------------------------------------------------------------------------------- this machine


def test_this_machine_has_what_it_has(tmp_path: Path) -> None:
    node, _ = this_machine(tmp_path)
    assert node.cpu_millis == 1000 * len(os.sched_getaffinity(0))
    assert node.slot_count == max(16, 4 * len(os.sched_getaffinity(0)))
    assert node.memory_bytes > 100 << 20
    assert node.disk_bytes > 100 << 20
    assert node.name
    assert this_machine(tmp_path, 3)[0].slot_count == 3


SMI = """#!/bin/sh
echo "$@" > {told}
cat <<END
{lines}
END
exit {code}
"""


@pytest.mark.parametrize(
    ("lines", "code", "wanted"),
    [
        ("NVIDIA H100 80GB HBM3, 81559\nNVIDIA H100 80GB HBM3, 81559", 0, ("H100", 2, 81559 << 20)),
        ("NVIDIA A100-SXM4-40GB, 40960\nNVIDIA A100-SXM4-80GB, 81920", 0, ("A100", 2, 40960 << 20)),
        ("Tesla T4, 15360", 0, ("T4", 1, 15360 << 20)),
        ("NVIDIA GB200, [N/A]", 0, ("GB200", 1, 0)),
        ("No devices were found", 0, ("", 0, 0)),
        ("NVIDIA H100, 81559", 9, ("", 0, 0)),
    ],
)
def test_gpus_are_what_the_driver_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, code: int, wanted: tuple[str, int, int]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(SMI.format(told=tmp_path / "told", lines=lines, code=code))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    node, _ = this_machine(tmp_path)
    assert (node.gpu_type, node.gpu_count, node.gpu_memory_bytes) == wanted
    assert "--query-gpu=name,memory.total" in (tmp_path / "told").read_text()


def test_slices_and_numa_nodes_are_what_the_driver_and_the_kernel_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        """#!/bin/sh
if [ "$1" = -L ]; then
    echo "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-0)"
    echo "  MIG 3g.20gb     Device  0: (UUID: MIG-a)"
    echo "  MIG 1g.5gb      Device  1: (UUID: MIG-b)"
    echo "  MIG 1g.5gb      Device  2: (UUID: MIG-c)"
    echo "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-1)"
else
    echo "NVIDIA A100-SXM4-40GB, 40960, 0, 00000000:07:00.0, Enabled"
    echo "NVIDIA A100-SXM4-40GB, 40960, 1, 00000000:0F:00.0, Disabled"
    echo "NVIDIA A100-SXM4-40GB, 40960, 2, 00000000:1F:00.0, Disabled"
fi
"""
    )
    tool.chmod(0o755)
    for bus, numa in (("0000:0f:00.0", 1), ("0000:1f:00.0", 0)):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "numa_node").write_text(f"{numa}\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("ffd.plugins.runtime.machine.PCI_DEVICES", tmp_path)
    node, devices = this_machine(tmp_path)
    assert (node.gpu_count, node.numa, node.mig) == (2, (1, 0), {"3g.20gb": 1, "1g.5gb": 2})
    assert devices.visible(Place("n", (0, 1)), "") == "1,2"
    assert devices.visible(Place("n", mig=(1, 0)), "1g.5gb") == "MIG-c,MIG-b"
    monkeypatch.setattr("ffd.plugins.runtime.machine.PCI_DEVICES", tmp_path / "elsewhere")
    assert this_machine(tmp_path)[0].numa == ()


def test_without_a_driver_there_are_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert this_machine(tmp_path)[0].gpu_count == 0


@pytest.mark.parametrize(("name", "model"), [("NVIDIA RTX A6000", "A6000"), ("Quadro", "Quadro"), ("A B", "A-B")])
def test_models_are_called_as_people_call_them(name: str, model: str) -> None:
    assert short_model(name) == model


# ------------------------------------------------------------------------------------------------------------- pretend


def test_pretend_nodes_are_what_was_asked_for() -> None:
    nodes = parse_pretend("40x8:H100")
    assert len(nodes) == 40
    assert [node.name for node in nodes] == sorted({node.name for node in nodes})
    assert {(node.gpu_type, node.gpu_count, node.rdma) for node in nodes} == {("H100", 8, True)}
    racks = [node.labels["rack"] for node in nodes]
    assert [racks.count(rack) for rack in dict.fromkeys(racks)] == [16, 16, 8]
    assert {node.labels["block"] for node in nodes} == {"block-00"}
    assert all(node.cpu_millis and node.memory_bytes and node.disk_bytes and node.gpu_memory_bytes for node in nodes)


@pytest.mark.parametrize("text", ["4x0", "4x0:H100"])
def test_pretend_nodes_may_have_no_gpus(text: str) -> None:
    assert {(node.gpu_type, node.gpu_count, node.gpu_memory_bytes) for node in parse_pretend(text)} == {("", 0, 0)}


def test_a_model_without_a_name_is_some_gpu() -> None:
    assert parse_pretend("1x2")[0].gpu_type == "GPU"


WRONG = ["", "16", "x8", "16x", "0x8:H100", "16x8:", "16x8:H 100", "99999x1", "1x99", "-1x1", "\u0661x1"]


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_pretend(text)
    assert "expected NODESxGPUS:MODEL" in caught.value.message
    assert repr(text) in caught.value.message
    assert caught.value.hint


# ------------------------------------------------------------------------------------------------------------- virtual


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, Behaviour()),
        ({"VIRTUAL_DURATION": "5s"}, Behaviour(5_000)),
        ({"VIRTUAL_DURATION": "250ms"}, Behaviour(250)),
        ({"VIRTUAL_DURATION": "1.5"}, Behaviour(1_500)),
        ({"VIRTUAL_DURATION": "2m", "VIRTUAL_EXIT": "3"}, Behaviour(120_000, 3)),
        ({"VIRTUAL_EXIT": "7"}, Behaviour(0, 7)),
        ({"VIRTUAL_OUTPUTS": '{"loss": 0.5}'}, Behaviour(outputs=(("loss", 0.5),), outputs_are_json=True)),
    ],
)
def test_a_virtual_replica_does_as_its_environment_says(env: dict[str, str], wanted: Behaviour) -> None:
    assert told_by_environment(launch_of(A, env=env), 0) == wanted


@pytest.mark.parametrize(
    "env",
    [
        {"VIRTUAL_DURATION": "soon"},
        {"VIRTUAL_DURATION": "-1s"},
        {"VIRTUAL_EXIT": "x"},
        {"VIRTUAL_EXIT": "256"},
        {"VIRTUAL_OUTPUTS": "[1]"},
    ],
)
def test_what_a_virtual_replica_cannot_do_is_told(env: dict[str, str]) -> None:
    fault = told_by_environment(launch_of(A, env=env), 0).launch_fault
    (name,) = env
    assert name in fault
    assert repr(env[name]) in fault


def test_a_lost_node_takes_its_replicas_with_it() -> None:
    async def check() -> None:
        cluster = VirtualCluster((Node("here"), Node("there")), lambda order, rank: Behaviour(1e9))
        runtime = VirtualRuntime(cluster)
        told = runtime.watch()
        await runtime.launch(launch_of(A, 2), dict)
        assert len(await anext(told)) == 2
        cluster.lose_node("here")
        reports = await anext(told)
        assert {(report.rank, report.kind) for report in reports if isinstance(report, ReplicaExited)} == {
            (0, "node-lost"),
            (1, "node-lost"),
        }
        assert [report.nodes for report in reports if isinstance(report, InventoryReported)] == [(Node("there"),)]
        assert await runtime.inventory() == (Node("there"),)
        cluster.add_node(Node("here"))
        assert await anext(told) == [InventoryReported((Node("here"), Node("there")))]
        assert await runtime.list() == []
        await runtime.close()

    asyncio.run(check())
