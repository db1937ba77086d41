"""Each policy that can be asked for runs a mixed workload with quotas to its end, with every invariant checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffd.cli.simulate import PRESETS
from ffd.settings import Scheduling
from ffd.simulate.inventory import read_nodes
from ffd.simulate.scenario import Scenario, policy_of, read_workload, start

WORKLOAD = """\
seed: 5
for: 4h
arrivals: {per_hour: 12}
tenants:
  a/one: {share: 3, weight: 2}
  a/two: {share: 1, quota: {gpus: 8}}
  b: {share: 1, quota: {gpus: 4}}
jobs:
  - {share: 4, name: small, duration: {exponential: {mean: 30m}}, task: {resources: {gpus: 1}}}
  - {share: 2, name: whole, duration: 1h, task: {resources: {gpus: 4}, retry: 1}}
  - {share: 1, name: wide, duration: 2h, priority: 700, task: {resources: {gpus: 2}, gang: 2, checkpoint: true}}
failures: {rate: 0.05}
"""


@pytest.mark.parametrize("name", PRESETS)
def test_each_policy_ends_what_it_began(name: str, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKLOAD)
    workload = read_workload(str(tmp_path / "w.yaml"))
    policy = policy_of(Scheduling(), PRESETS[name], [])
    run = start(Scenario(nodes=read_nodes("3x4:H100"), workload=workload, policy=policy, check_every_count=5))
    assert run.world.run(until_ms=30 * 86_400_000, steps_count=20_000) is False
    total = run.recorder.total
    assert (total.waiting.level, run.recorder.running, run.world.state.workflows) == (0, {}, {})
    assert total.succeeded_count + total.failed_count == total.gang_count == len(workload) >= 40
    assert run.world.refused_count == 0
