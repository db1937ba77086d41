"""Verbs that only look: ls, get, events, watch. (`describe` has its own file, `cluster` looks at nodes and the queue.)

One call per page; nothing is polled. Never here: how a page is computed, formats (`output`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from ffd.cli import output, refs, terminal, words
from ffd.cli.output import Column
from ffd.cli.session import Session, Verb, pass_session
from ffd.errors import Refusal

if TYPE_CHECKING:
    from ffd.api.client import Client
    from ffd.core.pages import EventPage, ItemPage, TaskPage, WorkflowPage

STATES = ("accepted", "running", "suspended", "succeeded", "failed", "cancelled")


def workflow_columns() -> list[Column]:
    """Columns of WorkflowPage."""
    return [
        Column("HANDLE", lambda page: page.handle),
        Column("STATE", lambda page: page.state, state=True),
        Column("DONE", lambda page: words.settled(page.counts), right=True),
        Column("TOOK", lambda page: words.took(page.started_at_ms, page.ended_at_ms, terminal.now_ms()), right=True),
        Column("AGE", lambda page: terminal.since(page.accepted_at_ms), right=True),
        Column("PROJECT", lambda page: page.project),
        Column("ID", lambda page: str(page.id), wide=True, right=True),
        Column("PRIORITY", lambda page: str(page.priority), wide=True, right=True),
        Column("BY", lambda page: page.by, wide=True),
        Column("ITEMS", lambda page: words.counts(page.counts), wide=True),
        Column("CAUSE", lambda page: words.cause_line(page.cause) if page.cause else "", wide=True),
    ]


def task_columns() -> list[Column]:
    """Columns of TaskPage."""
    return [
        Column("TASK", lambda page: page.name + (" (finally)" if page.finally_ else "")),
        Column("STATE", lambda page: page.state, state=True),
        Column("DONE", lambda page: words.settled(page.counts), right=True),
        Column("TRY", lambda page: str(page.attempt) if page.attempt else "", right=True),
        Column("TOOK", lambda page: words.took(page.started_at_ms, page.ended_at_ms, terminal.now_ms()), right=True),
        Column("REPLICAS", lambda page: str(page.replicas), wide=True, right=True),
        Column("NODES", lambda page: ",".join(page.nodes), wide=True),
        Column("NEEDS", lambda page: ",".join(page.needs), wide=True),
        Column(
            "REASON", lambda page: page.reason or (words.cause_line(page.cause, page, own=True) if page.cause else "")
        ),
    ]


def item_columns() -> list[Column]:
    """Columns of ItemPage."""
    return [
        Column("ITEM", lambda page: str(page.item), right=True),
        Column("STATE", lambda page: page.state, state=True),
        Column("TRY", lambda page: str(page.attempt) if page.attempt else "", right=True),
        Column("SINCE", lambda page: terminal.since(page.since_at_ms), right=True),
        Column("FAILED", lambda page: str(page.user_failures), wide=True, right=True),
        Column("LOST", lambda page: str(page.infra_failures), wide=True, right=True),
        Column("NODES", lambda page: ",".join(page.nodes)),
        Column("CAUSE", lambda page: words.ended_how(page.cause) if page.cause else ""),
    ]


async def find_task(client: Client, target: refs.Target) -> TaskPage:
    """The page of one task; Refusal (not_found) names what tasks there are."""
    near = []
    async for page in client.all_tasks(target.workflow):
        if page.name == target.task:
            return page
        near.append(page.name)
    known = ", ".join(near[:10]) + (", ..." if len(near) > 10 else "")
    raise Refusal(f'no task "{target.task}" in {target.workflow}', code="not_found", hint=f"it has: {known}")


async def find_item(client: Client, target: refs.Target) -> ItemPage:
    """The page of one item; Refusal (not_found) when the fan-out has fewer."""
    pages = await client.items(target.workflow, target.task, after=target.item - 1, limit=1)
    if not pages or pages[0].item != target.item:
        raise Refusal(f"no item {target.item} in {target.workflow}/{target.task}", code="not_found")
    return pages[0]


@click.command(cls=Verb)
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only in this state; repeatable.")
@click.option("--name", default="", help="Only of this name.")
@click.option("--by", default="", help="Only submitted by this user.")
@click.option("-A", "--all-projects", is_flag=True, help="Not only of the configured project.")
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many.")
@output.output_option
@pass_session
def ls(
    session: Session, states: tuple[str, ...], name: str, by: str, all_projects: bool, limit: int, form: str
) -> None:
    """List workflows, newest first: live ones and ended ones."""
    project = "" if all_projects else session.config.project.text

    async def work(client: Client) -> list[WorkflowPage]:
        pages: list[WorkflowPage] = []
        while len(pages) < limit:
            step = min(limit - len(pages), 500)
            before = pages[-1].id if pages else 0
            more = await client.list(project=project, name=name, states=states, by=by, before=before, limit=step)
            pages += more
            if len(more) < step:
                break
        return pages

    pages = session.call(work)
    output.emit_list(pages, workflow_columns(), form, lambda page: str(page.handle), "no workflows")


@click.command(cls=Verb)
@click.argument("target", type=refs.TARGET)
@output.output_option
@pass_session
def get(session: Session, target: refs.Target, form: str) -> None:
    """Show one workflow, task (REF/task) or item (REF/task[item])."""

    async def work(client: Client) -> tuple[WorkflowPage | TaskPage | ItemPage, list[Column]]:
        if target.item >= 0:
            return await find_item(client, target), item_columns()
        if target.task:
            return await find_task(client, target), task_columns()
        return await client.get(target.workflow), workflow_columns()

    page, columns = session.call(work)
    if form in ("table", "wide"):
        output.emit_list([page], columns, form, str)
    else:
        handle = getattr(page, "handle", "") or getattr(page, "workflow", "")
        name = refs.shown(handle, target.task, target.item)
        output.emit_object(page, form, str, name)


# ----------------------------------------------------------------------------------------------------------- events


EVENT_FORMATS = click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(("text", "jsonl")),
    default="text",
    show_default=True,
    help="One per line.",
)


def event_line(event: EventPage, form: str = "text") -> str:
    """One event as one line: when, of which workflow, what (its text names task, item and attempt)."""
    if form == "jsonl":
        return output.encode(event) + "\n"
    clock = time.strftime("%H:%M:%S", time.localtime(event.at_ms / 1000))
    handle = event.handle or (str(event.workflow) if event.workflow else "-")
    return terminal.cell(f"{clock}  {handle}  {event.text or event.kind}") + "\n"


def is_of_cluster(event: EventPage) -> bool:
    """Does it tell of nodes or tenants?"""
    return not event.workflow and event.kind not in ("SpecAdded", "KeyRemembered")


@click.command(cls=Verb)
@click.argument("target", type=refs.WORKFLOW, required=False)
@EVENT_FORMATS
@pass_session
def events(session: Session, target: refs.Target | None, form: str) -> None:
    """Print the story of a workflow so far, oldest first; without REF that of the cluster: nodes, tenants, quotas, and
    who changed them."""
    ref = target.workflow if target else ""

    async def work(client: Client) -> None:
        page = await client.story(ref, token="0.0")
        while page.events:
            kept = [event for event in page.events if target or is_of_cluster(event)]
            output.write("".join(event_line(event, form) for event in kept))
            page = await client.story(ref, token=page.token)

    session.call(work)


@click.command(cls=Verb)
@click.argument("target", type=refs.WORKFLOW, required=False)
@click.option("--all", "from_start", is_flag=True, help="Begin with the story so far.")
@EVENT_FORMATS
@pass_session
def watch(session: Session, target: refs.Target | None, from_start: bool, form: str) -> None:
    """Stream events as they happen: of one workflow until it has ended, or of all."""

    async def work(client: Client) -> None:
        token = "0.0" if from_start else ""
        async for page in client.watch(target.workflow if target else "", token=token):
            if page.gap:
                terminal.say("-- events were dropped here: this reader was too slow --")
            output.write("".join(event_line(event, form) for event in page.events))

    session.call(work)
