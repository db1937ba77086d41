"""Verbs of the cluster: nodes (list, one, cordon, uncordon, drain), gpus, queue.

Never here: how a page is computed, who may see what (the daemon says), formats (`output`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ffd.cli import output, terminal, words
from ffd.cli.control import KEY, DurationType
from ffd.cli.output import Column
from ffd.cli.session import Session, Verb, pass_session, shared_options

if TYPE_CHECKING:
    from ffd.api.client import Client
    from ffd.core.commands import NodesMarked
    from ffd.core.pages import DrainPage, NodeDetail, QueuePage

OTHERS = "(others)"  # what the caller may not see

# ------------------------------------------------------------------------------------------------------------- nodes


def node_columns() -> list[Column]:
    """Columns of NodePage."""
    return [
        Column("NODE", lambda page: page.name),
        Column("STATE", lambda page: page.state, state=True),
        Column("GPUS", words.gpus),
        Column("CPUS", lambda page: f"{words.cpus(page.cpu_used_millis)}/{words.cpus(page.cpu_millis)}", right=True),
        Column(
            "MEMORY",
            lambda page: f"{terminal.size(page.memory_used_bytes)}/{terminal.size(page.memory_bytes)}",
            right=True,
        ),
        Column("SLOTS", lambda page: f"{page.slot_used_count}/{page.slot_count}", right=True),
        Column("LABELS", lambda page: words.pairs(page.labels), wide=True),
        Column("TAINTS", lambda page: ",".join(page.taints), wide=True),
        Column("WHY", lambda page: page.why),
    ]


class Nodes(click.Group):
    """`ffd nodes` lists, `ffd nodes NODE` shows that one; a node that is called as a verb: `ffd nodes show NODE`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            return "show", self.commands["show"], args
        return super().resolve_command(ctx, args)


@click.group(cls=Nodes, invoke_without_command=True, subcommand_metavar="[NODE | COMMAND ...]")
@output.output_option
@click.pass_context
def nodes(ctx: click.Context, form: str) -> None:
    """List nodes: how they are, what they have, and what is reserved there. With a NODE: who holds room there."""
    if ctx.invoked_subcommand is None:
        pages = ctx.ensure_object(Session).call(lambda client: client.nodes())
        output.emit_list(pages, node_columns(), form, lambda page: str(page.name), "no nodes")


nodes.params.extend(shared_options())


@nodes.command(cls=Verb)
@click.argument("node")
@output.object_option
@pass_session
def show(session: Session, node: str, form: str) -> None:
    """Show one node, and who holds room there."""
    page = session.call(lambda client: client.node(node))
    output.emit_object(page, form, lambda: _detail(page), page.node.name)


def _detail(page: NodeDetail) -> str:
    node = page.node
    facts = [
        ("GPUs", words.gpus(node) + (f"; free: {words.free_gpus(node.gpu_free_millis)}" if node.gpu_count else "")),
        ("MIG", ", ".join(f"{node.mig_free.get(name, 0)}/{count} {name} free" for name, count in node.mig.items())),
        ("CPUs", f"{words.cpus(node.cpu_used_millis)}/{words.cpus(node.cpu_millis)}"),
        ("Memory", f"{terminal.size(node.memory_used_bytes)}/{terminal.size(node.memory_bytes)}"),
        ("Slots", f"{node.slot_used_count}/{node.slot_count}"),
        ("NUMA", ",".join(map(str, node.numa))),
        ("Labels", words.pairs(node.labels)),
        ("Taints", ",".join(node.taints)),
    ]
    how = node.why if node.why.startswith(node.state) else ": ".join(filter(None, (node.state, node.why)))
    head = f"{node.name} is {how}"
    if node.until_at_ms:
        head += f"; for another {terminal.duration(max(node.until_at_ms - terminal.now_ms(), 0))}"
    text = [terminal.cell(head) + "\n"]
    text += [terminal.cell(f"  {title:<8} {fact}") + "\n" for title, fact in facts if fact]
    if page.holds:
        text.append(output.table(page.holds, _hold_columns()))
    return "".join(text)


def _hold_columns() -> list[Column]:
    return [
        Column("ATTEMPT", lambda hold: words.attempt(hold) if hold.workflow else OTHERS),
        Column("STATE", lambda hold: hold.state, state=True),
        Column("REPLICAS", lambda hold: str(hold.replica_count), right=True),
        Column("GPUS", lambda hold: words.ranges(hold.gpus)),
        Column("SINCE", lambda hold: terminal.since(hold.since_at_ms), right=True),
        Column("PROJECT", lambda hold: hold.project),
    ]


# ---------------------------------------------------------------------------------------------------- closing, opening


def _labels(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise click.BadParameter(f'"{text}": expected KEY=VALUE, as rack=r7')
        found[key] = value
    return found


NAMES = click.argument("names", metavar="[NODE]...", nargs=-1)
LABEL = click.option(
    "-l", "--label", "labels", metavar="KEY=VALUE", multiple=True, callback=_labels,
    help="All nodes that have this label; of several, all of them.",
)  # fmt: skip
WHY = click.option("--why", metavar="TEXT", default="", help="Shown to whoever wonders.")


def _say(marked: NodesMarked, word: str) -> None:
    for name in marked.nodes:
        output.write(terminal.cell(f"{name} {word}") + "\n")
    if marked.stopping_count:
        count = marked.stopping_count
        terminal.say(f"{count} attempt{' is' if count == 1 else 's are'} being stopped there")


@nodes.command(cls=Verb)
@NAMES
@LABEL
@WHY
@KEY
@pass_session
def cordon(session: Session, names: tuple[str, ...], labels: dict[str, str], why: str, key: str) -> None:
    """Give nodes no new work; what runs there goes on."""
    _say(session.call(lambda client: client.cordon(names, labels=labels, why=why, key=key)), "cordoned")


@nodes.command(cls=Verb)
@NAMES
@LABEL
@KEY
@pass_session
def uncordon(session: Session, names: tuple[str, ...], labels: dict[str, str], key: str) -> None:
    """Give nodes work again, whatever they were closed for: cordon, drain or quarantine."""
    _say(session.call(lambda client: client.uncordon(names, labels=labels, key=key)), "open")


@nodes.command(cls=Verb)
@NAMES
@LABEL
@click.option("--dry-run", is_flag=True, help="Only show what would be stopped, and where it could go.")
@click.option("--grace", "grace_ms", type=DurationType(), default=None, help="To stop in, as 60s; else its own.")
@WHY
@KEY
@output.object_option
@pass_session
def drain(
    session: Session, names: tuple[str, ...], labels: dict[str, str], dry_run: bool, grace_ms: int | None, why: str,
    key: str, form: str,
) -> None:  # fmt: skip
    """Cordon nodes and stop what runs there, whole gangs. It is run again elsewhere, from its last checkpoint."""

    async def work(client: Client) -> Any:
        if dry_run:
            return await client.preview_drain(names, labels=labels, grace_ms=grace_ms)
        return await client.drain(names, labels=labels, why=why, grace_ms=grace_ms, key=key)

    page = session.call(work)
    if dry_run:
        output.emit_object(page, form, lambda: _preview(page), ",".join(page.nodes))
    elif form == "text":
        _say(page, "drained")
    else:
        output.emit_object(page, form, str, ",".join(page.nodes))


def _preview(page: DrainPage) -> str:
    columns = [
        Column("ATTEMPT", words.attempt),
        Column("PROJECT", lambda stop: stop.project),
        Column("REPLICAS", lambda stop: str(stop.replica_count), right=True),
        Column("GPUS", lambda stop: words.cpus(stop.gpu_millis), right=True),
        Column("LOST", lambda stop: terminal.duration(stop.lost_ms), right=True),
        Column("SINCE", lambda stop: "checkpoint" if stop.has_checkpoint else "start"),
        Column("GRACE", lambda stop: terminal.duration(stop.grace_ms), right=True),
        Column("ELSEWHERE", lambda stop: words.some(stop.elsewhere, 4) if stop.elsewhere else "waits"),
    ]
    count = len(page.stops)
    head = f"a drain of {words.some(page.nodes, 4)} stops {count} attempt{'' if count == 1 else 's'}"
    if count:
        head += f" with {page.replica_count} replicas on {words.cpus(page.gpu_millis)} GPUs"
        head += f"; {terminal.duration(page.lost_gpu_ms)} of GPU time are lost, {page.waiting_count} would wait"
    return terminal.cell(head) + "\n" + (output.table(page.stops, columns) if count else "")


# -------------------------------------------------------------------------------------------------------- GPUs, queue


@click.command(cls=Verb)
@output.output_option
@pass_session
def gpus(session: Session, form: str) -> None:
    """List GPUs by model. FREE ones are wholly free on nodes that take work; FRAGMENTED of them lie on nodes that are
    not empty. GANG is the largest gang of whole nodes that fits now."""
    columns = [
        Column("MODEL", lambda page: page.model or "(unknown)"),
        Column("NODES", lambda page: str(page.node_count), right=True),
        Column("TOTAL", lambda page: str(page.total_count), right=True),
        Column("USED", lambda page: str(page.used_count), right=True),
        Column("FREE", lambda page: str(page.free_count), right=True),
        Column("FRAGMENTED", lambda page: str(page.fragmented_count), right=True),
        Column("CORDONED", lambda page: str(page.cordoned_count), right=True),
        Column("QUARANTINED", lambda page: str(page.quarantined_count), right=True),
        Column("GANG", lambda page: f"{page.gang_replicas} x {page.gang_gpus_count}" if page.gang_replicas else "none"),
        Column("IN ONE", lambda page: ", ".join(f"{word}: {count}" for word, count in page.domains.items()), wide=True),
    ]
    pages = session.call(lambda client: client.gpus())
    output.emit_list(pages, columns, form, lambda page: str(page.model), "no GPUs")


@click.command(cls=Verb)
@output.output_option
@pass_session
def queue(session: Session, form: str) -> None:
    """List what waits for space: one line per kind of request, in the order of their heads. With --project PROJECT: of
    that one only."""
    columns = [
        Column("POSITION", lambda page: str(page.position), right=True),
        Column("PROJECT", lambda page: page.project or OTHERS),
        Column("GANG", lambda page: page.gang),
        Column("WAITING", lambda page: str(page.waiting_count), right=True),
        Column("HEAD", lambda page: page.head),
        Column("STARTS", _starts, right=True),
        Column("REASON", lambda page: page.reason),
    ]
    pages = session.call(lambda client: client.queue(session.flags.get("project", "")))
    output.emit_list(pages, columns, form, lambda page: str(page.head), "nothing waits")


def _starts(page: QueuePage) -> str:
    """In how long the head starts, by the forecast; "" when nobody knows."""
    if not page.expected_at_ms:
        return ""
    return f"in {terminal.duration(max(page.expected_at_ms - terminal.now_ms(), 0))}"
