"""The verb `describe`: everything about one workflow, task or item on one screen.

Several calls, one answer: `-o json` gives the pages that were read, under their names. Never here: lists (`show`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import click

from ffd.cli import output, refs, show, terminal, words
from ffd.cli.session import Session, Verb, pass_session

if TYPE_CHECKING:
    from ffd.api.client import Client
    from ffd.core.pages import EventPage, ItemPage, TaskPage, WorkflowPage

TASKS_SHOWN = 50
ITEMS_SHOWN = 50
EVENTS_SHOWN = 10
STORY_PAGES = 20  # a longer story is for `ffd events`


@click.command(cls=Verb)
@click.argument("target", type=refs.TARGET)
@output.object_option
@pass_session
def describe(session: Session, target: refs.Target, form: str) -> None:
    """Show everything about a workflow, a task (REF/task) or an item (REF/task[item])."""

    async def work(client: Client) -> dict[str, Any]:
        if target.item >= 0:
            return {"item": await show.find_item(client, target), "attempts": await _attempts(client, target)}
        if target.task:
            task = await show.find_task(client, target)
            return {"task": task, "items": await client.items(target.workflow, target.task)}
        page = await client.get(target.workflow)
        tasks = [task async for task in client.all_tasks(target.workflow)]
        return {"workflow": page, "tasks": tasks, "events": await _last_events(client, target.workflow)}

    parts = session.call(work)
    subject = parts.get("workflow") or parts.get("task") or parts["item"]
    handle = getattr(subject, "handle", "") or subject.workflow
    output.emit_object(parts, form, lambda: _text(parts), refs.shown(handle, target.task, target.item))


async def _attempts(client: Client, target: refs.Target) -> list[int]:
    return [each.attempt for each in await client.attempts(target.workflow, target.task, target.item)]


async def _last_events(client: Client, workflow: str) -> list[EventPage]:
    """The last events, or none when the story is too long to read for that."""
    last: deque[EventPage] = deque(maxlen=EVENTS_SHOWN)
    token = "0.0"
    for _ in range(STORY_PAGES):
        page = await client.story(workflow, token=token)
        if not page.events:
            return list(last)
        last.extend(page.events)
        token = page.token
    return []


def _text(parts: dict[str, Any]) -> str:
    if "workflow" in parts:
        return _workflow_text(parts["workflow"], parts["tasks"], parts["events"])
    if "task" in parts:
        return _task_text(parts["task"], parts["items"])
    return _item_text(parts["item"], parts["attempts"])


def _head(rows: list[tuple[str, str]]) -> str:
    """`Key:  value` lines of what is not empty."""
    kept = [(key, terminal.cell(text)) for key, text in rows if text]
    size = max(len(key) for key, _ in kept) + 3
    return "".join(f"{key + ':':<{size}}{text}\n" for key, text in kept)


def _pairs(of: dict[str, Any]) -> str:
    return ", ".join(f"{key}={output.encode(value)}" for key, value in of.items())


def _section(title: str, body: str) -> str:
    return f"\n{title}\n{body}" if body else ""


def _cut(shown: int, total: int, what: str) -> str:
    return f"  ... {total - shown} more {what}; -o json shows all\n" if total > shown else ""


def _workflow_text(page: WorkflowPage, tasks: list[TaskPage], events: list[EventPage]) -> str:
    now_ms = terminal.now_ms()
    state = page.state if page.verdict in ("", page.state) else f"{page.state} (will be {page.verdict})"
    text = _head([
        ("Workflow", page.handle),
        ("State", state),
        ("Project", page.project),
        ("Id", str(page.id)),
        ("Description", page.description),
        ("Priority", str(page.priority)),
        ("By", page.by),
        ("Round", str(page.round) if page.round > 1 else ""),
        ("Labels", ", ".join(f"{key}={value}" for key, value in page.labels.items())),
        ("Params", _pairs(page.params)),
        ("Accepted", terminal.instant(page.accepted_at_ms)),
        ("Took", words.took(page.started_at_ms, page.ended_at_ms, now_ms)),
        ("Items", words.counts(page.counts)),
    ])  # fmt: skip
    if page.cause is not None:
        failed = next((task for task in tasks if task.name == page.cause.task), None)
        text += _section("Cause", "".join(f"  {line}\n" for line in words.cause_block(page.handle, page.cause, failed)))
    # what is still to come is more telling than what is done
    order = (
        sorted(tasks, key=lambda task: task.state in ("succeeded", "skipped")) if len(tasks) > TASKS_SHOWN else tasks
    )
    table = output.table(order[:TASKS_SHOWN], show.task_columns(), indent="  ") if tasks else ""
    text += _section("Tasks", table + _cut(TASKS_SHOWN, len(tasks), "tasks"))
    return text + _section("Last events", "".join(f"  {show.event_line(event)}" for event in events))


def _task_text(page: TaskPage, items: list[ItemPage]) -> str:
    text = _head([
        ("Task", f"{page.workflow}/{page.name}"),
        ("State", page.state),
        ("Reason", page.reason),
        ("Needs", ", ".join(page.needs)),
        ("Replicas", str(page.replicas)),
        ("Attempt", str(page.attempt) if page.attempt else ""),
        ("Nodes", ", ".join(page.nodes)),
        ("Took", words.took(page.started_at_ms, page.ended_at_ms, terminal.now_ms())),
        ("Items", words.counts(page.counts) if page.fanout else ""),
        ("Outputs", _pairs(page.outputs)),
    ])  # fmt: skip
    if page.cause is not None:
        text += _section("Cause", "".join(f"  {line}\n" for line in words.cause_block(page.workflow, page.cause, page)))
    if not page.fanout:
        return text
    order = sorted(items, key=lambda item: item.state == "succeeded") if len(items) > ITEMS_SHOWN else items
    table = output.table(order[:ITEMS_SHOWN], show.item_columns(), indent="  ") if items else ""
    return text + _section("Items", table + _cut(ITEMS_SHOWN, page.item_count, "items"))


def _item_text(page: ItemPage, attempts: list[int]) -> str:
    text = _head([
        ("Item", f"{page.workflow}/{page.task}[{page.item}]"),
        ("State", page.state),
        ("Attempts", ", ".join(str(attempt) for attempt in attempts)),
        ("Failures", f"{page.user_failures} own, {page.infra_failures} of the infrastructure"),
        ("Since", terminal.instant(page.since_at_ms) if page.since_at_ms else ""),
        ("Next try", terminal.instant(page.retry_at_ms) if page.retry_at_ms else ""),
        ("Nodes", ", ".join(page.nodes)),
        ("Progress", _pairs(page.progress)),
        ("Outputs", _pairs(page.outputs)),
    ])  # fmt: skip
    if page.cause is not None:
        lines = words.cause_block(page.workflow, page.cause)
        text += _section("Cause", "".join(f"  {line}\n" for line in lines))
    return text
