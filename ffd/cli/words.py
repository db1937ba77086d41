"""How pages are said in words: causes, counts, capacities. Whoever prints them sanitises, but for `cause_block`.

Called by the verbs that show things and by `progress`. Never here: colours, tables, what to fetch.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence

from ffd.cli import refs, terminal
from ffd.core.model import TERMINAL, Cause
from ffd.core.pages import HoldPage, NodePage, StopPage, TaskPage, WorkflowPage

COUNT_ORDER = (
    "running", "launching", "admitted", "stopping", "backoff", "ready", "waiting",
    "failed", "cancelled", "skipped", "succeeded",
)  # fmt: skip


def counts(of: Mapping[str, int]) -> str:
    """`2 running, 1 failed, 3 succeeded`: what is not zero, in a fixed order, unknown words last."""
    words = [*COUNT_ORDER, *sorted(set(of) - set(COUNT_ORDER))]
    return ", ".join(f"{of[word]} {word}" for word in words if of.get(word))


def settled(of: Mapping[str, int]) -> str:
    """`3/5`: how many of all are at their end."""
    return f"{sum(of.get(word, 0) for word in TERMINAL)}/{sum(of.values())}"


def ended_how(cause: Cause) -> str:
    """`exit code 3 (oom)`, `signal SIGKILL`, or the kind with its message."""
    if cause.signal:
        try:
            code = f"signal {signal.Signals(cause.signal).name}"
        except ValueError:
            code = f"signal {cause.signal}"
    elif cause.exit_code >= 0:
        code = f"exit code {cause.exit_code}"
    else:
        return f"{cause.kind}: {cause.message}" if cause.message else cause.kind
    how = code if cause.kind == "error" else f"{code} ({cause.kind})"
    return f"{how}: {cause.message}" if cause.message not in ("", code) else how


def cause_line(cause: Cause, task: TaskPage | None = None, own: bool = False) -> str:
    """One line: where it began and how. `task`, when known, tells whether item and rank are worth saying; `own`: the
    line stands beside its name, which is then not said again."""
    name = (
        "" if own and task is not None and cause.task in ("", task.name) else cause.task or (task.name if task else "")
    )
    fanout = task.fanout if task is not None else cause.item > 0
    where = [f"{name}[{cause.item}]" if fanout and cause.item >= 0 else name]
    if cause.attempt > 1:
        where.append(f"attempt {cause.attempt}")
    if cause.rank > 0 or (cause.rank == 0 and task is not None and task.replicas > 1):
        where.append(f"rank {cause.rank}")
    if cause.node:
        where.append(f"on {cause.node}")
    said = " ".join(filter(None, where))
    return f"{said}: {ended_how(cause)}" if said else ended_how(cause)


def cause_block(handle: str, cause: Cause, task: TaskPage | None = None) -> list[str]:
    """The cause as several safe lines: where and how, the last lines of its log, how to read all of it."""
    lines = [terminal.cell(f"cause: {cause_line(cause, task)}")]
    lines += [f"  | {line}" for line in terminal.sanitise(cause.tail).splitlines()]
    name = cause.task or (task.name if task is not None else "")
    if name and cause.attempt:
        item = cause.item if task is None or task.fanout else -1
        lines.append(
            terminal.cell(f"logs:  ffd logs {_quoted(refs.shown(handle, name, item, cause.attempt, cause.rank))}")
        )
    return lines


def _quoted(ref: str) -> str:
    """Brackets and # mean something to shells."""
    return f"'{ref}'" if set(ref) & set("[]#*?") else ref


def took(started_at_ms: int, ended_at_ms: int, now_ms: int) -> str:
    """How long something has run, or ran; "" when it never started."""
    if not started_at_ms:
        return ""
    return terminal.duration((ended_at_ms or now_ms) - started_at_ms)


def summary(page: WorkflowPage) -> str:
    """`llm.42 succeeded in 3m05s: 5 succeeded`."""
    text = f"{page.handle} {page.state}"
    if page.ended_at_ms:
        text += f" in {terminal.duration(page.ended_at_ms - (page.started_at_ms or page.accepted_at_ms))}"
    said = counts(page.counts)
    return f"{text}: {said}" if said else text


def gpus(node: NodePage) -> str:
    """`5/8 H100`: used of all; "" without any."""
    return f"{node.gpu_used_count}/{node.gpu_count} {node.gpu_type}".rstrip() if node.gpu_count else ""


def free_gpus(free_millis: Sequence[int]) -> str:
    """`0-3,6, 0.5 of 4`: which are wholly free, and what is left of shared ones."""
    whole = ranges([index for index, millis in enumerate(free_millis) if millis == 1000])
    shared = [f"{millis / 1000:g} of {index}" for index, millis in enumerate(free_millis) if 0 < millis < 1000]
    return ", ".join(filter(None, (whole, *shared))) or "none"


def ranges(numbers: Sequence[int]) -> str:
    """`0-3,6` of ascending numbers."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def some(names: Sequence[str], count: int) -> str:
    """`n1, n2 and 7 more`."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def pairs(labels: Mapping[str, str]) -> str:
    """`rack=r1,zone=a`."""
    return ",".join(f"{key}={text}" for key, text in labels.items())


def attempt(page: HoldPage | StopPage) -> str:
    """`llm.42/train[3]#2`."""
    return f"{page.workflow}/{page.task}[{page.item}]#{page.attempt}"


def cpus(millis: int) -> str:
    """`1.5`, `16`."""
    return f"{millis / 1000:g}"
