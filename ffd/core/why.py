"""The answer of `ffd why`: why a workflow, a task or an item waits, or why it ended as it did; and what-ifs.

Called by the daemon's engine; shown by API, CLI and TUI. Never here: the checks themselves (schedule.explain), or what
is tried for a what-if (schedule.whatif).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from ffd.core.live import LiveTask, LiveWorkflow
from ffd.core.model import TERMINAL, Cause, Item
from ffd.core.pages import Check, Explain, HolderPage, WaitPage, WhatIfPage
from ffd.core.schedule.ends import FOREVER_MS
from ffd.core.schedule.explain import Found, examine
from ffd.core.schedule.subject import Sight, Subject, counted, in_text, label, some, subject_of
from ffd.core.schedule.whatif import helpful, parse_changes, try_changes
from ffd.core.state import State
from ffd.core.views import TELLING, nodes_of, task_counts, waits_for
from ffd.errors import Refusal

TASKS_EXAMINED_COUNT = 12  # of a workflow; of the others only how many wait is told
WORDS = {"declared": "declared", "learnt": "learnt from attempts before", "stopping": "it is being stopped", "": ""}


def explain(
    state: State,
    workflow: int,
    task: str,
    item: int,
    now_ms: int,
    projects: frozenset[str] | None = None,
    what_if: Sequence[str] = (),
) -> Explain:
    """Why it waits, or why it ended as it did. `task` "": of the workflow; `item` -1: the most telling one. `projects`:
    what the reader may see, None = everything. Refusal (field `what_if`): not a change, or nothing that waits."""
    live = state.workflows[workflow]
    sight = Sight(state, projects)
    if not task:
        name = _first_ready(live) if what_if else ""
        if not name:
            _refuse_what_if(what_if, live.row.handle, live.row.state)
            return _explain_workflow(state, live, sight, now_ms)
        task = name
    live_task = live.tasks[task]
    if not live_task.items:
        _refuse_what_if(what_if, f"{live.row.handle}/{task}", live_task.row.state)
        return _explain_unopened(live, task, live_task)
    number = item if item >= 0 else _telling_item(live_task, prefers_ready=bool(what_if))
    return _explain_item(state, live, task, number, sight, now_ms, what_if)


def _refuse_what_if(what_if: Sequence[str], subject: str, state: str) -> None:
    if what_if:
        hint = "ask about a task that is ready"
        raise Refusal(
            f"{subject} is {state}: what-ifs are for what is in the queue", code="conflict", field="what_if", hint=hint
        )


# ------------------------------------------------------------------------------------------------------- of a workflow


def _explain_workflow(state: State, live: LiveWorkflow, sight: Sight, now_ms: int) -> Explain:
    row = live.row
    if row.state in TERMINAL:
        return Explain(
            subject=row.handle, state=row.state, headline=f"{row.state}{_because(row.cause)}", cause=row.cause,
            tail=row.cause.tail if row.cause else "",
        )  # fmt: skip
    counts = {name: task_counts(task) for name, task in live.tasks.items()}
    groups = tuple(_groups(state, live, counts, sight, now_ms))
    for word in ("ready", "backoff", "running", "launching", "stopping", "waiting"):
        name = next((name for name, found in counts.items() if word in found), "")
        if name:
            found = explain(state, row.id, name, -1, now_ms, sight.projects)
            headline = f"{found.subject}: {found.headline}"
            return replace(found, headline=headline, subject=row.handle, groups=groups)
    return Explain(subject=row.handle, state=row.state, headline=f"is {row.state}", groups=groups)


def _groups(
    state: State, live: LiveWorkflow, counts: dict[str, dict[str, int]], sight: Sight, now_ms: int
) -> Iterator[WaitPage]:
    """What its tasks wait for: those in the queue each with its reason, the others by what they wait for."""
    more_tasks = more_items = 0
    examined = 0
    for name, found in counts.items():
        if "ready" not in found:
            continue
        if examined >= TASKS_EXAMINED_COUNT:
            more_tasks, more_items = more_tasks + 1, more_items + found["ready"]
            continue
        examined += 1
        yield from _ready_groups(state, live, name, found["ready"], sight, now_ms)
    if more_tasks:
        detail = f"{counted(more_tasks, 'more task')} in the queue"
        yield WaitPage(task="", item_count=more_items, reason="ready", detail=detail)
    for word, why in (("backoff", "until it is tried again"), ("waiting", "for other tasks")):
        names = [name for name, found in counts.items() if word in found]
        if names:
            items = sum(counts[name][word] for name in names)
            task = names[0] if len(names) == 1 else ""
            reason = "needs" if word == "waiting" else word
            yield WaitPage(task=task, item_count=items, reason=reason, detail=f"{some(names)} {why}")


def _ready_groups(
    state: State, live: LiveWorkflow, name: str, ready_count: int, sight: Sight, now_ms: int
) -> Iterator[WaitPage]:
    """Ready items that may be scheduled, and those behind `max_parallel`: each by the first of them."""
    items = live.tasks[name].items
    for holds in (True, False):
        numbers = (n for n, item in enumerate(items) if item.state == "ready" and live.holds_place(name, n) is holds)
        first = next(numbers, None)
        if first is None:
            continue
        count = 1 + sum(1 for _ in numbers) if live.is_bounded(name) else ready_count
        found = examine(state, subject_of(state, live, name, first), sight, now_ms)
        check = found.check(found.reason)
        detail = check.detail if check else "the next cycle starts it"
        yield WaitPage(task=name, item_count=count, reason=found.reason or "ready", detail=detail)


def _first_ready(live: LiveWorkflow) -> str:
    return next((name for name, task in live.tasks.items() if "ready" in task_counts(task)), "")


# ------------------------------------------------------------------------------------------------- of a task, an item


def _explain_unopened(live: LiveWorkflow, name: str, task: LiveTask) -> Explain:
    subject = f"{live.row.handle}/{name}"
    if task.row.state != "waiting":
        cause = task.row.cause
        headline = (
            f"{task.row.state}{_because(cause)}" if cause else f"{task.row.state}: the list it runs over is empty"
        )
        return Explain(subject=subject, state=task.row.state, headline=headline, cause=cause)
    checks = tuple(
        Check(
            name=f"needs {need.task}",
            verdict="pass" if live.tasks[need.task].row.state in TERMINAL else "wait",
            detail=f"{need.outcome} is asked, it is {live.tasks[need.task].row.state}",
        )
        for need in live.dag.tasks[name].needs
    )
    return Explain(subject=subject, state="waiting", headline=waits_for(live, name), checks=checks, reason="needs")


def _telling_item(task: LiveTask, prefers_ready: bool) -> int:
    for word in (("ready",) if prefers_ready else ()) + ("failed", *TELLING):
        for number, item in enumerate(task.items):
            if item.state == word:
                return number
    return 0


def _explain_item(
    state: State, live: LiveWorkflow, name: str, number: int, sight: Sight, now_ms: int, what_if: Sequence[str]
) -> Explain:
    item, subject = live.tasks[name].items[number], label(live, name, number)
    cause = item.cause or (item.live.stop_cause if item.live else None)
    if item.state != "ready":
        _refuse_what_if(what_if, subject, item.state)
        headline = _not_ready(item, cause, now_ms)
        return Explain(
            subject=subject, state=item.state, headline=headline, cause=cause, tail=cause.tail if cause else ""
        )
    it = subject_of(state, live, name, number)
    asked = parse_changes(state, it, what_if) if what_if else None
    found = examine(state, it, sight, now_ms)
    if asked is not None:
        what_ifs: tuple[WhatIfPage, ...] = (try_changes(state, it, asked, sight, now_ms),)
    else:
        what_ifs = helpful(state, it, found, now_ms)
    return _waiting_page(state, it, found, what_ifs, sight, now_ms, cause)


def _waiting_page(
    state: State, it: Subject, found: Found, what_ifs: tuple[WhatIfPage, ...], sight: Sight, now_ms: int,
    cause: Cause | None,
) -> Explain:  # fmt: skip
    check = found.check(found.reason)
    start_ms = found.reservation.start_at_ms if found.reservation else FOREVER_MS
    is_blocked = found.reason in ("quota", "space", "preemption", "reservation")
    holders = found.holders if is_blocked else ()
    return Explain(
        subject=label(it.live, it.name, it.number), state="ready",
        headline=check.detail if check else "nothing stands in its way: the next cycle starts it",
        checks=found.checks, position=found.ahead.position if found.ahead else 0,
        hints=tuple(_hints(what_ifs, holders, sight, now_ms)), cause=cause, tail=cause.tail if cause else "",
        reason=found.reason, start_at_ms=start_ms if start_ms < FOREVER_MS else 0, holders=holders, what_ifs=what_ifs,
    )  # fmt: skip


def _hints(
    what_ifs: tuple[WhatIfPage, ...], holders: tuple[HolderPage, ...], sight: Sight, now_ms: int
) -> Iterator[str]:
    """What would start it now, as was tried; and who holds what it lacks."""
    for page in what_ifs:
        if page.outcome == "starts":
            yield f"would start now with {' and '.join(page.changes)}, on {some(list(page.nodes))}"
        elif page.outcome == "waits":
            when = f"; expected start {in_text(page.start_at_ms, now_ms)}" if page.start_at_ms else ""
            yield f"with {' and '.join(page.changes)} it still waits ({page.check or 'order'}): {page.detail}{when}"
        else:
            yield f"with {' and '.join(page.changes)} nobody knows: {page.detail}"
    for holder in holders:
        yield _holder_text(holder, sight, now_ms)


def _holder_text(holder: HolderPage, sight: Sight, now_ms: int) -> str:
    if not holder.workflow:
        whose = "" if sight.is_full else " of other tenants"
        return f"{counted(holder.gang_count, 'gang')}{whose} hold what it would use"
    item = f"[{holder.item}]" if holder.item >= 0 else ""
    ends = "nobody knows until when"
    if holder.ends_at_ms:
        ends = f"should end {in_text(holder.ends_at_ms, now_ms)} ({WORDS[holder.basis]})"
    where = f" on {some(list(holder.nodes))}" if holder.nodes else ""
    return f"{holder.workflow}/{holder.task}{item} holds what it would use{where}: {ends}"


def _not_ready(item: Item, cause: Cause | None, now_ms: int) -> str:
    if item.state == "backoff":
        seconds = max(0, item.retry_at_ms - now_ms) / 1000
        return f"attempt {item.number} failed{_because(cause)}; the next starts in {seconds:.1f} s"
    if item.state in TERMINAL:
        return f"{item.state}{_because(cause)}"
    return f"is {item.state} on {', '.join(nodes_of(item))}" + (_because(cause) if item.state == "stopping" else "")


def _because(cause: Cause | None) -> str:
    """`: ...`: the cause in words: where, which rank, what."""
    if cause is None:
        return ""
    where = f"{cause.task} " if cause.task else ""
    which = f"attempt {cause.attempt} " if cause.attempt else ""
    rank = f"rank {cause.rank}: " if cause.rank >= 0 else ""
    return f": {where}{which}{rank}{cause.message or cause.kind}"
