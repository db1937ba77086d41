"""One simulation put together: cluster, workload, policy -> a World that is ready to run, with its Recorder.

    run = start(Scenario(nodes=read_nodes("80x8:H100"), workload=read_workload("trace.csv.gz", node_gpus=8)))
    while run.world.run(run.until_ms, steps_count=2_000): ...
    result = result_of(run.recorder, notes=run.remarks())

Called by `ffd simulate` and by tests. Never here: the clock of the terminal, output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ffd.core.commands import AnyCommand
from ffd.core.effects import Launch
from ffd.core.limits import Limits
from ffd.core.model import Node
from ffd.core.policy import Policy
from ffd.core.reports import AnyReport, InventoryReported
from ffd.core.schedule.possible import never_fits
from ffd.core.state import State
from ffd.errors import Refusal
from ffd.plugins.behaviour import Behaviour
from ffd.settings import Scheduling, build
from ffd.simulate.engine import UNBOUNDED, World
from ffd.simulate.estimate import ASSUMED_MS, Estimates
from ffd.simulate.files import text_lines
from ffd.simulate.jsonl import read_jsonl
from ffd.simulate.live import Change, Snapshot, changes_of, loaded
from ffd.simulate.record import Recorder
from ffd.simulate.synthetic import read_synthetic
from ffd.simulate.trace import read_csv
from ffd.simulate.workload import Workload

FORMATS = {"csv": (".csv",), "jsonl": (".jsonl", ".ndjson"), "yaml": (".yaml", ".yml", ".json")}
STUCK_COUNT = 3  # gangs that can never start, of which the reason is told


class Scenario(msgspec.Struct, kw_only=True):
    """What is simulated. It begins with an empty cluster of `nodes`, or with a `snapshot` (then its nodes count), and
    what is changed in that. `workload`: its instants count from the begin. `for_ms`: how long to go on, if not to the
    end of the last gang. `assumed_ms`: how long tasks take of which nothing is known."""

    policy: Policy = Policy()
    limits: Limits = UNBOUNDED
    nodes: tuple[Node, ...] = ()
    workload: Workload = msgspec.field(default_factory=Workload)
    snapshot: Snapshot | None = None
    change: Change = Change()
    for_ms: int | None = None
    assumed_ms: int = ASSUMED_MS
    check_every_count: int = 0


class Run(msgspec.Struct):
    """A scenario under way. `until_ms`: for `World.run`."""

    scenario: Scenario
    world: World
    recorder: Recorder
    estimates: Estimates
    until_ms: int | None

    def remarks(self) -> list[str]:
        """What the reader of the result must know: assumptions, refusals, and what waits for ever."""
        world, total = self.world, self.recorder.total
        found = [*self.scenario.workload.notes, *self.estimates.notes()]
        if world.refused_count:
            found.append(f"{world.refused_count} of the inputs were refused, first: {world.refusals[0][1].message}")
        count = total.waiting.level
        if count and not self.recorder.running_count and self.until_ms is None:
            found.append(f"{count} gang{'' if count == 1 else 's'} can never start")
            found += _why_never(world.state)
        return found


def start(scenario: Scenario) -> Run:
    """A world at its begin. Refusal: a change names what is not there."""
    snapshot, workload = scenario.snapshot, scenario.workload
    first: list[AnyCommand | AnyReport] = []
    if snapshot is None:
        state, begin_ms, nodes = State(scenario.limits, scenario.policy), 0, scenario.nodes
    else:
        state, recovered = loaded(snapshot, scenario.limits, scenario.policy)
        begin_ms, nodes = snapshot.at_ms, state.nodes
        first.append(recovered)
    estimates = Estimates(state, scenario.assumed_ms)

    def behave(order: Launch, tag: Any) -> Behaviour:
        return estimates.behave(order, world.now_ms) if tag is None else workload.behave(order, tag)

    world = World(state, behave, now_ms=begin_ms, check_every_count=scenario.check_every_count)
    recorder = Recorder(world)
    nodes, changes = changes_of(state, nodes, scenario.change)
    if nodes != state.nodes:
        first.append(InventoryReported(nodes))
    world.send(*first, *workload.setup, *changes)
    world.feed(workload.feed(begin_ms))
    return Run(scenario, world, recorder, estimates, None if scenario.for_ms is None else begin_ms + scenario.for_ms)


def _why_never(state: State) -> list[str]:
    """The reasons of the first few workflows that no node set could ever take."""
    found = []
    for live in list(state.workflows.values())[:STUCK_COUNT]:
        for name in live.dag.names:
            why = never_fits(state, live.dag.tasks[name])
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


def limits_of(limits: Limits) -> Limits:
    """The limits of a simulated daemon: its own, but it holds whatever the workload asks for."""
    given = {name: getattr(limits, name) for name in Limits.__struct_fields__}
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
