"""The verb `simulate`: what the scheduler would do with a workload, on a cluster that need not exist.

Reads options, fetches the snapshot, shows progress. Never here: simulating, figures (`ffd.simulate`), or how
results are printed (`simulated`).
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from ffd.cli import exits, terminal
from ffd.cli.daemon import read_settings
from ffd.cli.session import Session, Verb, pass_session
from ffd.cli.source import parse_params, read_source, rendered
from ffd.errors import Refusal

if TYPE_CHECKING:
    from ffd.core.commands import Submit
    from ffd.simulate.heap import Heap
    from ffd.simulate.live import Snapshot
    from ffd.simulate.result import Result
    from ffd.simulate.scenario import Run, Scenario

# What stands behind the names of --policy; --set changes single settings of it.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},  # as it is configured
    "fifo": {"order": "fifo", "backfill": False, "preempt": "off"},  # stops at the first that does not fit
    "backfill": {"order": "fifo", "backfill": True, "preempt": "off"},
    "sjf": {"order": "sjf", "backfill": False, "preempt": "off"},  # shortest first, by what is known or learnt
    "fgd": {"placement": "fgd"},
    "bestfit": {"placement": "bestfit"},
}
STEPS_COUNT = 200  # between two looks at the clock and at ctrl+c
SHOWN_S = 0.2  # between two progress lines
Labelled = list[tuple[str, "Scenario"]]
C = TypeVar("C", bound=Callable[..., Any])


class Duration(click.ParamType):  # type: ignore[type-arg]  # not generic in older releases
    """A duration as documents have it, in ms."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from ffd.core.document.scalars import Wrong, duration_ms

        try:
            return value if isinstance(value, int) else duration_ms(value)
        except Wrong as wrong:
            self.fail(f"{wrong.message}; {wrong.hint}" if wrong.hint else wrong.message, param, ctx)


class Asked(NamedTuple):
    """All options but those about output, as given."""

    workload: str | None
    nodes: str | None
    live: bool
    kind: str
    knows: bool
    for_ms: int | None
    assumed_ms: int | None
    add_nodes: tuple[str, ...]
    quotas: tuple[str, ...]
    drains: tuple[str, ...]
    submits: tuple[str, ...]
    params: tuple[str, ...]
    config: str | None
    policy: str
    pairs: tuple[str, ...]
    baseline: tuple[str, ...]
    check_every: int


def _options(*options: Any) -> Callable[[C], C]:
    def decorate(command: C) -> C:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


SOURCES = _options(
    click.argument("workload", metavar="[FILE]", required=False),
    click.option("--nodes", metavar="NODES", default=None, help="80x8:H100, or a YAML file with `nodes:`."),
    click.option("--live", is_flag=True, help="Begin with what the daemon has now (administrators)."),
    click.option("--format", "kind", type=click.Choice(("csv", "jsonl", "yaml")), default=None,
                 help="What FILE is, where its name does not say."),
    click.option("--known-durations", "knows", is_flag=True, help="Tell the scheduler how long each task will take."),
    click.option("--for", "for_ms", type=Duration(), default=None, help="Stop then; what waits or runs is told apart."),
    click.option("--assume", "assumed_ms", type=Duration(), default=None,
                 help="How long tasks take of which nothing is known.  [default: 1h]"),
)  # fmt: skip
CHANGES = _options(
    click.option("--add-nodes", metavar="NODES", multiple=True, help="More nodes, as --nodes; repeatable."),
    click.option("--quota", "quotas", metavar="TENANT:RESOURCE=AMOUNT", multiple=True,
                 help="A quota from the begin, as research/llm:gpus=128, or =+64; repeatable."),
    click.option("--drain", "drains", metavar="NODE", multiple=True, help="A node's name, or LABEL=VALUE; repeatable."),
    click.option("--submit", "submits", metavar="DOCUMENT", multiple=True, help="Submit it at the begin; repeatable."),
    click.option("-p", "--param", "params", metavar="NAME=VALUE", multiple=True, help="A parameter of the documents."),
)  # fmt: skip
POLICIES = _options(
    click.option("--config", metavar="FILE", default=None, help="A daemon's configuration: its policy and limits."),
    click.option("--policy", metavar="POLICY", type=click.Choice(list(PRESETS)), default="default", show_default=True,
                 help=f"{', '.join(PRESETS)}."),
    click.option("--set", "pairs", metavar="KEY=VALUE", multiple=True,
                 help="One setting of [scheduling], as scheduling.placement=fgd; repeatable."),
    click.option("--baseline", metavar="POLICY", multiple=True, type=click.Choice(list(PRESETS)),
                 help="Simulate this policy too, and show both; repeatable."),
    click.option("--check", "check_every", type=click.IntRange(0), default=0, metavar="N",
                 help="Check all invariants every N steps."),
)  # fmt: skip


@click.command(cls=Verb)
@SOURCES
@CHANGES
@POLICIES
@click.option("--html", metavar="FILE", default=None, help="Also write one self-contained page with plots.")
@click.option("-o", "--output", "form", type=click.Choice(("table", "json")), default="table", show_default=True)
@pass_session
def simulate(session: Session, /, html: str | None, form: str, **options: Any) -> int:
    """Simulate a workload with the scheduler of the daemon: waits, utilisation, preemptions, of each project.

    FILE is a trace (CSV: one job a row; JSON lines: one workflow a line) or a synthetic workload (YAML). With --live it
    begins with what the daemon has now; with changes it is simulated with and without them. The daemon itself is left
    alone. ctrl+c ends early and shows what was simulated so far.
    """
    from ffd.simulate.faults import InputFaults

    asked = Asked(**{**options, "kind": options["kind"] or ""})
    if not asked.live and asked.nodes is None:
        raise click.UsageError("--nodes says on what to simulate (or --live)")
    if asked.live and asked.nodes is not None:
        raise click.UsageError("--live has the nodes of the daemon: --add-nodes adds some")
    if not asked.live and asked.workload is None and not asked.submits:
        raise click.UsageError("nothing to simulate: FILE, --submit or --live")
    try:
        return finish(_scenarios(session, asked), form, html, with_starts=asked.live or bool(asked.submits))
    except InputFaults as faults:
        for text in faults.texts:
            terminal.say(text)
        raise


def _scenarios(session: Session, asked: Asked) -> Labelled:
    """What to simulate, one after the other, with their labels."""
    from ffd.simulate import scenario as one
    from ffd.simulate.estimate import ASSUMED_MS
    from ffd.simulate.inventory import read_nodes
    from ffd.simulate.live import Change
    from ffd.simulate.workload import Workload

    snapshot = _snapshot(session) if asked.live else None
    settings = read_settings(asked.config)
    follows_daemon = snapshot is not None and asked.config is None
    scheduling = snapshot.policy if snapshot is not None and follows_daemon else settings.scheduling
    limits = snapshot.limits if snapshot is not None and follows_daemon else settings.limits
    nodes = read_nodes(asked.nodes) if asked.nodes is not None else ()
    change = Change(
        add_nodes=asked.add_nodes,
        quotas=asked.quotas,
        drains=asked.drains,
        submits=tuple(_submit(path, asked.params, session) for path in asked.submits),
    )
    workload = Workload()
    if asked.workload is not None:
        gpus = max((node.gpu_count for node in nodes), default=8)
        workload = one.read_workload(asked.workload, form=asked.kind, node_gpus=gpus, knows=asked.knows)

    def made(policy: str, change: Change) -> Scenario:
        return one.Scenario(
            policy=one.policy_of(scheduling, PRESETS[policy], asked.pairs),
            limits=one.limits_of(limits),
            nodes=nodes,
            workload=workload,
            snapshot=snapshot,
            change=change,
            for_ms=asked.for_ms,
            assumed_ms=ASSUMED_MS if asked.assumed_ms is None else asked.assumed_ms,
            check_every_count=asked.check_every,
        )

    found = [(policy, made(policy, change)) for policy in dict.fromkeys((asked.policy, *asked.baseline))]
    if asked.live and not change.is_nothing and not asked.baseline:
        return [("as it is", made(asked.policy, Change())), ("changed", found[0][1])]
    return found


def _snapshot(session: Session) -> Snapshot:
    from ffd import __version__
    from ffd.simulate.live import snapshot_of

    head, rows = session.call(lambda client: client.snapshot())
    if head.version != __version__:
        message = (
            f"the daemon is ffd {head.version}, this is {__version__}: its state can be read by the same version only"
        )
        raise Refusal(message, code="unsupported")
    return snapshot_of(head.number, head.at_ms, head.policy, head.limits, rows)


def _submit(path: str, pairs: tuple[str, ...], session: Session) -> Submit:
    """A document as the command that starts it. InputFaults with all that is wrong with it."""
    from hashlib import sha256

    import msgspec

    from ffd.api.source import compile_source
    from ffd.core.commands import Submit
    from ffd.core.document import resolve_params
    from ffd.simulate.faults import InputFaults

    source = read_source(path)
    spec = (compiled := compile_source(source.data, source.filename)).spec
    if spec is None:
        raise InputFaults(source.filename, compiled.faults, rendered(source, compiled.faults))
    params = resolve_params(spec, parse_params(pairs), from_text=True)
    digest = sha256(msgspec.msgpack.encode(spec)).hexdigest()
    project = session.flags.get("project") or spec.project or session.config.project.text or "default"
    return Submit(spec=spec, spec_digest=digest, params=params, project=project, by="simulate")


# ----------------------------------------------------------------------------------------------------------- running


def finish(scenarios: Labelled, form: str, html: str | None, *, with_starts: bool) -> int:
    """Run all, one after the other, and print what came out; after ctrl+c, what came out so far."""
    from ffd.cli.simulated import show
    from ffd.simulate.heap import Heap
    from ffd.simulate.result import result_of
    from ffd.simulate.scenario import start

    results: list[Result] = []
    with _interruptible() as is_interrupted, Heap() as heap:
        for label, scenario in scenarios:
            run = start(scenario)
            _run(run, label, is_interrupted, heap)
            notes = run.remarks()
            if is_interrupted():
                so_far_ms = run.world.now_ms - run.recorder.begin_ms
                notes.append(f"interrupted: simulated up to {terminal.duration(so_far_ms)}")
            results.append(result_of(run.recorder, label, notes))
            if is_interrupted():
                break
    show(results, form, with_starts=with_starts)
    if html is not None:
        _write_page(html, results)
    return exits.INTERRUPTED if is_interrupted() else exits.OK


def _run(run: Run, label: str, is_interrupted: Callable[[], bool], heap: Heap) -> None:
    shows, world, recorder = sys.stderr.isatty(), run.world, run.recorder
    next_s = time.monotonic() + SHOWN_S
    while world.run(run.until_ms, STEPS_COUNT) and not is_interrupted():
        heap.follow()
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
