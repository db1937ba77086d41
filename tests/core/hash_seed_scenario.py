"""A busy history, told as digests: run under several hash seeds by test_plan."""

from __future__ import annotations

from hashlib import sha256

import msgspec

from ffd.core.commands import Cancel, Resume, Retry, SetPriority, SetQuota, SetTenant, Suspend
from ffd.core.events import AttemptStopping
from ffd.core.spec import Gang, Resources
from ffd.testing.builders import gpus, rack, spec, submit, task
from ffd.testing.cluster import Behaviour, Cluster

THERE = (*rack("r1", ["a", "b", "c"], gpu_count=4, cpu_millis=8_000), *rack("r2", ["d", "e"], gpu_count=2))
DOCUMENT = spec(
    task("load", foreach=("x", "y", "z"), outputs={"rows": "int", "names": "json"}, max_parallel=2),
    task("train", "load", resources=gpus(2), gang=Gang(replicas=3, topology="same-rack"), retries=2),
    task("near", "load", gang=Gang(topology="same-rack", topology_with=("train",))),
    task("spare", gang=Gang(replicas=4, min_replicas=2, wait_ms=700), resources=Resources(cpu_millis=3_000)),
    task("broken", {"load": "done"}, bindings={"ALL": "tasks.load.outputs.names", "N": "sum(tasks.load.outputs.rows)"}),
    task("on_failure", {"broken": "failed"}),
    task("behind", "broken"),
    finally_tasks=[task("notify"), task("tidy", "notify")],
    fail_fast=False,
    labels={"team": "a", "kind": "test"},
)
SCRIPT = {
    "load[1]": Behaviour(outputs={"rows": "2", "names": '{"b": 1, "a": {"z": 1, "y": 2}}'}, run_ms=300),
    "load": Behaviour(outputs={"rows": "1", "names": "[1]"}),
    "train#1:1": Behaviour(kind="node-lost"),
    "broken": Behaviour(exit_code=3),
    "tidy": Behaviour(exit_code=1),
}


def main() -> None:
    cluster = Cluster(THERE, SCRIPT)
    for tenant, gpu_count in (("lent", 2), ("due", 8)):
        cluster.send(SetQuota(tenant=tenant, changes={"gpus": {"nominal": gpu_count * 1_000}}))
    cluster.send(SetTenant(tenant="lent", weight_millis=3_000))
    for number in range(1, 13):
        project = "due/" + "xy"[number % 2] if number > 6 else "lent"
        cluster.send(submit(DOCUMENT, project=project, priority=500 + number % 3, key=f"k{number}"))
    cluster.at(1_000, lambda: cluster.send(Suspend(workflow=2), SetPriority(workflow=4, priority=900)))
    cluster.at(1_500, lambda: cluster.send(Cancel(workflow=3), Cancel(workflow=5, now=True)))
    cluster.at(2_000, lambda: cluster.lose("b"))
    cluster.at(2_500, cluster.restart)
    cluster.at(9_000, lambda: cluster.send(Resume(workflow=2)))
    cluster.run()
    cluster.send(Retry(workflow=1), Retry(workflow=3))
    cluster.run()
    events = msgspec.msgpack.encode(cluster.story)
    rows = msgspec.msgpack.encode([cluster.ledger.rows.workflows, list(cluster.ledger.rows.items.items())])
    preempted = sum(event.cause.kind == "preempted" for event in cluster.of(AttemptStopping))
    print(
        len(cluster.story),
        "events",
        preempted,
        "preempted",
        sha256(events).hexdigest(),
        "effects",
        _digest(cluster.effects),
    )
    print("rows", sha256(rows).hexdigest())


def _digest(effects: object) -> str:
    return sha256(msgspec.msgpack.encode(effects)).hexdigest()


if __name__ == "__main__":
    main()
