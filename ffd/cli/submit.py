"""The verb `submit`, and what it shares with `run`: an order for one workflow, and its options.

Never here: reading files (`source`), whether a document is valid (the daemon's business), following (`progress`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ffd.cli import exits, output, terminal
from ffd.cli.progress import progress_option
from ffd.cli.session import Session, Verb, pass_session
from ffd.cli.source import Source, parse_params, read_params, read_source, say_refusal
from ffd.errors import Refusal

if TYPE_CHECKING:
    from ffd.api.client import Client, SubmitResult

PRIORITY = click.IntRange(0, 1000)


class Order(NamedTuple):
    """What to submit, with all that was given beside the document."""

    source: Source
    params: dict[str, Any]
    params_text: dict[str, str]
    priority: int | None = None
    key: str = ""
    dry_run: bool = False

    async def send(self, client: Client, session: Session) -> SubmitResult:
        """Submit it. DocumentRefusal carries the faults."""
        config = session.config
        is_local = config.address.text.startswith("unix:")
        return await client.submit(
            self.source.data,
            filename=self.source.filename,
            params=self.params,
            params_text=self.params_text,
            project=session.flags.get("project", ""),
            priority=self.priority,
            key=self.key,
            base_dir=os.getcwd() if is_local else "",
            dry_run=self.dry_run,
        )


def params_options(command: Any) -> Any:
    """Options for parameters, project and priority, on `run` and `submit`."""
    for option in (
        click.option("--priority", type=PRIORITY, default=None, help="0-1000, within the project's policy."),
        click.option(
            "--params-file", metavar="FILE", default=None, help="Parameters as a YAML or JSON map; - is stdin."
        ),
        click.option("-p", "--param", "pairs", multiple=True, metavar="NAME=VALUE", help="One parameter; repeatable."),
    ):
        command = option(command)
    return command


@click.command(cls=Verb)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@params_options
@click.option("--dry-run", is_flag=True, help="Check as the daemon would, and submit nothing.")
@click.option("--wait", is_flag=True, help="Follow to the end, as run does.")
@click.option("--idempotency-key", "key", default="", help="The same key never submits twice.")
@progress_option
@output.object_option
@pass_session
def submit(
    session: Session, files: tuple[str, ...], pairs: tuple[str, ...], params_file: str | None, priority: int | None,
    dry_run: bool, wait: bool, key: str, progress: str, form: str,
) -> int:  # fmt: skip
    """Submit documents; print the handle of each alone on stdout. FILE - is stdin."""
    if key and len(files) > 1:
        raise click.UsageError("--idempotency-key is for one FILE")
    typed, texts = read_params(params_file), parse_params(pairs)
    orders = [Order(read_source(path), typed, texts, priority, key, dry_run) for path in files]

    async def work(client: Client) -> int:
        results, code = await _send_all(client, session, orders, form)
        if not wait or dry_run:
            return code
        return code or await _follow_all(client, session, results, progress)

    return session.call(work)


async def _send_all(client: Client, session: Session, orders: list[Order], form: str) -> tuple[list[SubmitResult], int]:
    """Submit each; a refused one does not keep the others back. The first refusal's exit code."""
    results, code = [], exits.OK
    for order in orders:
        try:
            result = await order.send(client, session)
        except Refusal as refusal:
            code = code or say_refusal(refusal, order.source)
        else:
            _print(result, order, form)
            results.append(result)
    return results, code


def _print(result: SubmitResult, order: Order, form: str) -> None:
    for warning in result.warnings:
        terminal.say(f"warning: {warning}")
    if order.dry_run and form == "text":
        terminal.say(f"{order.source.filename} is valid; nothing was submitted")
        return
    output.emit_object(result, form, lambda: terminal.cell(result.handle) + "\n", result.handle)


async def _follow_all(client: Client, session: Session, results: list[SubmitResult], mode: str) -> int:
    """Follow one after the other; the first result that is not a success is the exit code."""
    from ffd.cli import progress
    from ffd.cli.interrupts import Interrupts

    code = exits.OK
    for result in results:
        follower = progress.Follower(result.workflow, result.handle, progress.make_view(mode))
        interrupts = Interrupts(session.may_ask())
        page = await follower.follow(client, interrupts)
        if page is None:
            terminal.say(f"{result.handle} goes on; ffd wait {result.handle} waits for it")
            return exits.INTERRUPTED
        code = code or exits.BY_STATE[page.state]
    return code
