"""One simulation put together: cluster, workload, policy -> a World that is ready to run, with its Recorder.

    scenario = Scenario(read_nodes("80x8:H100"), read_workload("trace.csv.gz", node_gpus=8))
    world, recorder = start(scenario)
    while world.run(until_ms=scenario.until_ms, steps_count=2_000): ...
    result = result_of(recorder, notes=remarks(scenario, world, recorder))

Called by `ffd simulate` and by tests. Never here: the clock of the terminal, output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ffd.core.limits import Limits
from ffd.core.model import Node
from ffd.core.policy import Policy
from ffd.core.reports import InventoryReported
from ffd.core.schedule.explain import never_fits
from ffd.core.state import State
from ffd.errors import Refusal
from ffd.settings import Scheduling, Settings, build
from ffd.simulate.engine import UNBOUNDED, World
from ffd.simulate.files import text_lines
from ffd.simulate.jsonl import read_jsonl
from ffd.simulate.record import Recorder
from ffd.simulate.synthetic import read_synthetic
from ffd.simulate.trace import read_csv
from ffd.simulate.workload import Workload

FORMATS = {"csv": (".csv",), "jsonl": (".jsonl", ".ndjson"), "yaml": (".yaml", ".yml", ".json")}
STUCK_COUNT = 3  # gangs that can never start, of which the reason is told


class Scenario(msgspec.Struct, kw_only=True):
    """`until_ms`: where the simulation ends, if not with its last gang."""

    nodes: tuple[Node, ...]
    workload: Workload
    policy: Policy = Policy()
    limits: Limits = UNBOUNDED
    until_ms: int | None = None
    check_every_count: int = 0


def start(scenario: Scenario) -> tuple[World, Recorder]:
    """A world at its begin."""
    workload = scenario.workload
    state = State(scenario.limits, scenario.policy)
    world = World(state, workload.behave, check_every_count=scenario.check_every_count)
    recorder = Recorder(world)
    world.send(InventoryReported(scenario.nodes), *workload.setup)
    world.feed(workload.feed())
    return world, recorder


def remarks(scenario: Scenario, world: World, recorder: Recorder) -> list[str]:
    """What the reader of the result must know: assumptions, refusals, and what waits for ever."""
    found = list(scenario.workload.notes)
    if world.refused_count:
        found.append(f"{world.refused_count} of the submits were refused, first: {world.refusals[0][1].message}")
    if recorder.total.waiting.level and not recorder.running_count and scenario.until_ms is None:
        count = recorder.total.waiting.level
        found.append(f"{count} gang{'' if count == 1 else 's'} can never start")
        for live in list(world.state.workflows.values())[:STUCK_COUNT]:
            for name in live.dag.names:
                why = never_fits(world.state, live.dag.tasks[name])
                if why and live.tasks[name].row.state == "open":
                    found.append(f"{live.row.handle}/{name} will never run here: {why}")
                    break
    return found


def read_workload(path: str, *, form: str = "", node_gpus: int = 8, knows: bool = False) -> Workload:
    """A trace or a synthetic workload, by the name of its file (`form`: csv, jsonl or yaml wins)."""
    plain = path.removesuffix(".gz")
    chosen = form or next((form for form, endings in FORMATS.items() if plain.endswith(endings)), "")
    if chosen == "csv":
        return read_csv(text_lines(path), path, node_gpus=node_gpus, knows=knows)
    if chosen == "jsonl":
        return read_jsonl(text_lines(path), path, knows=knows)
    if chosen == "yaml":
        return read_synthetic(path, knows=knows)
    endings = ", ".join(ending for endings in FORMATS.values() for ending in endings)
    raise Refusal(
        f"{path}: what is it? expected a name that ends in {endings}", hint="or say --format csv, jsonl, yaml"
    )


def limits_of(settings: Settings) -> Limits:
    """The limits of a simulated daemon: its own, but it holds whatever the workload asks for."""
    given = {name: getattr(settings.limits, name) for name in Limits.__struct_fields__}
    bounds = {name: getattr(UNBOUNDED, name) for name in given if getattr(UNBOUNDED, name) == 1 << 60}
    return Limits(**{**given, **bounds})


def policy_of(scheduling: Scheduling, preset: Mapping[str, Any], pairs: Iterable[str]) -> Scheduling:
    """The policy of a configuration, with a named preset and `scheduling.KEY=VALUE` pairs over it. Raises Refusal."""
    given: dict[str, Any] = {**msgspec.structs.asdict(scheduling), **preset}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        group, _, key = name.rpartition(".")
        if not equals or not key or group not in ("", "scheduling"):
            raise Refusal(f"--set {pair}: expected scheduling.KEY=VALUE", field="--set")
        try:
            given[key] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            given[key] = text
    return build({"scheduling": given}, "--set").scheduling
