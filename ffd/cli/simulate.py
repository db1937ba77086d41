"""The verb `simulate`: what the scheduler would do with a workload, on a cluster that need not exist.

Reads options, shows progress, prints results. Never here: reading workloads, simulating, figures (`ffd.simulate`).
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffd.cli import exits, output, terminal
from ffd.cli.output import Column
from ffd.cli.session import Session, Verb, pass_session
from ffd.errors import Refusal

if TYPE_CHECKING:
    from ffd.simulate.engine import World
    from ffd.simulate.record import Recorder
    from ffd.simulate.result import Result, Share
    from ffd.simulate.scenario import Scenario

# What stands behind the names of --policy; --set changes single settings of it.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "fgd": {"placement": "fgd"},
    "bestfit": {"placement": "bestfit"},
}
STEPS_COUNT = 200  # between two looks at the clock and at ctrl+c
SHOWN_S = 0.2  # between two progress lines
NOTES_OF_TABLE = "note: "


class Duration(click.ParamType):  # type: ignore[type-arg]  # not generic in older releases
    """A duration as documents have it, in ms."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from ffd.core.document.scalars import Wrong, duration_ms

        try:
            return value if isinstance(value, int) else duration_ms(value)
        except Wrong as wrong:
            self.fail(f"{wrong.message}; {wrong.hint}" if wrong.hint else wrong.message, param, ctx)


def policy_options(command: Any) -> Any:
    for option in (
        click.option("--baseline", metavar="POLICY", multiple=True, type=click.Choice(list(PRESETS)),
                     help="Simulate this policy too, and show both; repeatable."),
        click.option("--set", "pairs", metavar="KEY=VALUE", multiple=True,
                     help="One setting of [scheduling], as scheduling.placement=fgd; repeatable."),
        click.option("--policy", metavar="POLICY", type=click.Choice(list(PRESETS)), default="default",
                     show_default=True, help=f"{', '.join(PRESETS)}."),
        click.option("--config", metavar="FILE", default=None, help="A daemon's configuration: its policy and limits."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command(cls=Verb)
@click.argument("workload", metavar="FILE")
@click.option("--nodes", metavar="NODES", required=True, help="80x8:H100, or a YAML file with `nodes:`.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(("csv", "jsonl", "yaml")),
    default=None,
    help="What FILE is, where its name does not say.",
)
@click.option("--known-durations", "knows", is_flag=True, help="Tell the scheduler how long each task will take.")
@click.option("--for", "for_ms", type=Duration(), default=None, help="Stop then; what waits and runs is told apart.")
@policy_options
@click.option(
    "--check", "check_every", type=click.IntRange(0), default=0, metavar="N", help="Check all invariants every N steps."
)
@click.option("--html", metavar="FILE", default=None, help="Also write one self-contained page with plots.")
@click.option("-o", "--output", "form", type=click.Choice(("table", "json")), default="table", show_default=True)
@pass_session
def simulate(
    session: Session, workload: str, nodes: str, kind: str | None, knows: bool, for_ms: int | None,
    config: str | None, policy: str, pairs: tuple[str, ...], baseline: tuple[str, ...], check_every: int,
    html: str | None, form: str,
) -> int:  # fmt: skip
    """Simulate a workload with the scheduler of the daemon: waits, utilisation, preemptions, of each project.

    FILE is a trace (CSV: one job a row; JSON lines: one workflow a line) or a synthetic workload (YAML); see
    the how-to "plan capacity". ctrl+c ends early and shows what was simulated so far.
    """
    from ffd.simulate.faults import InputFaults

    try:
        policies = (policy, *baseline)
        scenarios = _scenarios(workload, nodes, kind or "", knows, for_ms, config, policies, pairs, check_every)
    except InputFaults as faults:
        for text in faults.texts:
            terminal.say(text)
        raise
    return finish([(label, scenario) for label, scenario in scenarios], form, html)


def _scenarios(
    path: str, nodes: str, kind: str, knows: bool, for_ms: int | None, config: str | None, policies: tuple[str, ...],
    pairs: tuple[str, ...], check_every: int,
) -> list[tuple[str, Scenario]]:  # fmt: skip
    from ffd.cli.daemon import read_settings
    from ffd.simulate import scenario as one
    from ffd.simulate.inventory import read_nodes

    settings = read_settings(config)
    there = read_nodes(nodes)
    workload = one.read_workload(path, form=kind, node_gpus=max(node.gpu_count for node in there), knows=knows)
    return [
        (
            name,
            one.Scenario(
                nodes=there,
                workload=workload,
                policy=one.policy_of(settings.scheduling, PRESETS[name], pairs),
                limits=one.limits_of(settings),
                until_ms=for_ms,
                check_every_count=check_every,
            ),
        )
        for name in dict.fromkeys(policies)
    ]


# ----------------------------------------------------------------------------------------------------------- running


def finish(scenarios: list[tuple[str, Scenario]], form: str, html: str | None) -> int:
    """Run all, one after the other, and print what came out; after ctrl+c, what came out so far."""
    from ffd.simulate.result import result_of
    from ffd.simulate.scenario import remarks, start

    results: list[Result] = []
    with _interruptible() as is_interrupted:
        for label, scenario in scenarios:
            world, recorder = start(scenario)
            _run(world, recorder, scenario, label, is_interrupted)
            notes = remarks(scenario, world, recorder)
            if is_interrupted():
                notes.append(f"interrupted: simulated up to {terminal.duration(world.now_ms - recorder.begin_ms)}")
            results.append(result_of(recorder, label, notes))
            if is_interrupted():
                break
    if html is not None:
        _write_page(html, results)
    _print(results, form)
    return exits.INTERRUPTED if is_interrupted() else exits.OK


def _run(world: World, recorder: Recorder, scenario: Scenario, label: str, is_interrupted: Callable[[], bool]) -> None:
    shows = sys.stderr.isatty()
    next_s = time.monotonic() + SHOWN_S
    while world.run(scenario.until_ms, STEPS_COUNT) and not is_interrupted():
        if shows and time.monotonic() >= next_s:
            total = recorder.total
            told = f"{label}: {terminal.duration(world.now_ms - recorder.begin_ms)} simulated, "
            told += f"{total.started_count:,} of {total.gang_count:,} gangs started, {total.waiting.level:,} wait"
            sys.stderr.write(f"\r\x1b[K{terminal.fit(told, terminal.columns(sys.stderr) - 1)}")
            sys.stderr.flush()
            next_s = time.monotonic() + SHOWN_S
    if shows:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """ctrl+c and TERM are remembered instead of raised: a step is never cut in two. The second one is as usual."""
    seen: list[int] = []

    def remember(number: int, frame: object) -> None:
        seen.append(number)
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_page(path: str, results: list[Result]) -> None:
    from ffd.simulate.page import page

    try:
        Path(path).write_text(page(results), encoding="utf-8")
    except OSError as error:
        raise Refusal(f"{path}: {error.strerror or error}", field="--html") from None
    terminal.say(f"wrote {path}")


# ---------------------------------------------------------------------------------------------------------- printing


def _print(results: list[Result], form: str) -> None:
    if form == "json":
        output.write(output.encode(results[0] if len(results) == 1 else results, indent=2) + "\n")
        return
    first = results[0]
    capacity = f"{first.capacity:g} {first.unit}s"
    output.write(f"simulated {terminal.duration(first.end_ms - first.begin_ms)} on {capacity}\n\n")
    many = len(results) > 1
    rows = [(result.label, share) for share in _rows(results) for result in results if (share_of(result, share))]
    shares = [(label, share_of(_by(results, label), name)) for label, name in rows]
    columns = _columns(first.unit, many)
    output.write(output.table([pair for pair in shares if pair[1] is not None], columns))
    sizes = [
        (result.label, size) for least in _sizes(results) for result in results for size in _size_of(result, least)
    ]
    output.write("\n" + output.table(sizes, _size_columns(first.unit, many)))
    for result in results:
        for note in result.notes:
            terminal.say(f"{NOTES_OF_TABLE}{result.label + ': ' if many else ''}{note}")


def _by(results: list[Result], label: str) -> Result:
    return next(result for result in results if result.label == label)


def _rows(results: list[Result]) -> list[str]:
    names = dict.fromkeys(share.tenant for result in results for share in result.tenants)
    return [*sorted(names), ""]


def share_of(result: Result, tenant: str) -> Share | None:
    if not tenant:
        return result.total
    return next((share for share in result.tenants if share.tenant == tenant), None)


def _sizes(results: list[Result]) -> list[int]:
    return sorted({size.least for result in results for size in result.sizes})


def _size_of(result: Result, least: int) -> list[Any]:
    return [size for size in result.sizes if size.least == least]


def _seconds(value: float) -> str:
    return terminal.duration(round(value * 1_000))


def _columns(unit: str, many: bool) -> list[Column]:
    policy = [Column("POLICY", lambda row: row[0])] if many else []
    return [
        Column("PROJECT", lambda row: row[1].tenant or "(all)"),
        *policy,
        Column("GANGS", lambda row: str(row[1].gangs), right=True),
        Column("STARTED", lambda row: str(row[1].started), right=True),
        Column("FAILED", lambda row: str(row[1].failed), right=True),
        Column("WAITING", lambda row: str(row[1].waiting), right=True),
        Column("MEAN WAIT", lambda row: _seconds(row[1].wait.mean_s), right=True),
        Column("P50", lambda row: _seconds(row[1].wait.p50_s), right=True),
        Column("P99", lambda row: _seconds(row[1].wait.p99_s), right=True),
        Column("MAX", lambda row: _seconds(row[1].wait.max_s), right=True),
        Column(f"{unit.upper()}-HOURS", lambda row: f"{row[1].used_hours:,.1f}", right=True),
        Column("USED", lambda row: f"{100 * row[1].utilisation:.1f}%", right=True),
        Column("PREEMPTED", lambda row: str(row[1].preemptions), right=True),
        Column("LOST HOURS", lambda row: f"{row[1].lost_hours:,.1f}", right=True),
    ]


def _size_columns(unit: str, many: bool) -> list[Column]:
    def span(row: Any) -> str:
        least, most = row[1].least, row[1].most
        return f"{least}" if least == most else f"{least}-{most}" if most else f"{least}+"

    policy = [Column("POLICY", lambda row: row[0])] if many else []
    return [
        Column(f"GANG {unit.upper()}S", span),
        *policy,
        Column("SETTLED", lambda row: str(row[1].wait.count), right=True),
        Column("MEAN WAIT", lambda row: _seconds(row[1].wait.mean_s), right=True),
        Column("P50", lambda row: _seconds(row[1].wait.p50_s), right=True),
        Column("P90", lambda row: _seconds(row[1].wait.p90_s), right=True),
        Column("P99", lambda row: _seconds(row[1].wait.p99_s), right=True),
        Column("MAX", lambda row: _seconds(row[1].wait.max_s), right=True),
    ]
