"""The calls a task makes, blocking. `ffd.sdk.aio` has the same for asyncio programs; both go through `session`.

Safe in any thread and after a fork. Outside ffd each is a local no-op (see `outside`).

When the daemon is away (restart, failover), calls retry with backoff for up to FFD_SDK_DEADLINE_S (300) seconds. Then
- `set_output` keeps the value in `$FFD_OUTPUT`, which counts when the task exits, and returns;
- `save_checkpoint` keeps the value, sends it when the daemon is back, and returns False;
- `get_input`, `params`, `load_checkpoint` raise Unavailable: there is nothing right to answer;
- `barrier` goes on until its own timeout; `progress` never waits.
While that outage lasts, later writes try once and keep their value at once: an outage costs one deadline, not many.
"""

from __future__ import annotations

import copy
import difflib
import sys
from typing import Any, NamedTuple

from ffd.errors import Refusal
from ffd.sdk.context import read_env
from ffd.sdk.lines import format_line
from ffd.sdk.session import Inputs, current_session
from ffd.sdk.values import check_name, check_progress, encode, encode_object


class Context(NamedTuple):
    """Who this process is. Ranks and `world_size` count replicas of the gang. Outside ffd: empty texts, zeros, and a
    gang of one."""

    run: str  # the workflow's handle, name.N
    workflow: int  # its number, unique in the daemon
    project: str
    task: str
    item: int  # index in the fan-out, from 0
    attempt: int  # from 1
    rank: int
    world_size: int
    checkpoint_dir: str

    @property
    def handle(self) -> str:
        """The workflow's handle, as everywhere else: the same as `run`."""
        return self.run

    @property
    def restored(self) -> bool:
        """An earlier attempt left a checkpoint, which `load_checkpoint` gives. A first attempt knows by itself; later
        ones ask the daemon, once."""
        if self.attempt <= 1:
            return False
        session = current_session()
        return session.wait(session.inputs()).restored


def current() -> Context:
    """The environment of this task, parsed. Asks no daemon."""
    env = read_env()
    return Context(
        run=env.run,
        workflow=env.workflow,
        project=env.project,
        task=env.task,
        item=env.item,
        attempt=env.attempt,
        rank=env.rank,
        world_size=env.world_size,
        checkpoint_dir=env.checkpoint_dir,
    )


def get_input(reference: str) -> Any:
    """The value of an upstream output, `"task.name"`; of a fan-out the list of all items' values, in item order.

    Only tasks that this one needs, and that succeeded, can be read. Refusal(not_found) says what there is."""
    session = current_session()
    return pick_input(session.wait(session.inputs()), reference)


def params() -> dict[str, Any]:
    """The workflow's parameters, typed as declared."""
    session = current_session()
    return copy.deepcopy(session.wait(session.inputs()).params)


def progress(step: int, total: int | None = None, **metrics: float) -> None:
    """Say how far the work is (`step` of `total`), with metrics. Cheap and never waits: only the latest is sent, in the
    background, at most one a second; what came between is dropped. Where a replica has several processes (torchrun),
    one of them reports."""
    current_session().progress(check_progress(step, total, dict(metrics)))


def set_output(name: str, value: Any) -> None:
    """Set an output that the document declares. Durable when it returns; a later value replaces an earlier one, and
    children see it if this attempt succeeds. Refusal when undeclared, of another type, not JSON, or too large."""
    check_name(name, "an output's name")
    text = encode(value, f"output {name}")
    session = current_session()
    session.wait(session.set_output(name, text))


def save_checkpoint(value: dict[str, Any]) -> bool:
    """Save a small JSON object that the next attempt gets from `load_checkpoint`; large data goes to files in
    FFD_CHECKPOINT_DIR, and their names here. True when the daemon has it durably; False when it is away: the value is
    then kept, and sent when the daemon is back while this attempt still runs. A later one replaces it."""
    text = encode_object(value, "the checkpoint")
    session = current_session()
    return session.wait(session.save_checkpoint(text))


def load_checkpoint() -> dict[str, Any] | None:
    """The last checkpoint that was saved, by this or an earlier attempt; None when there is none."""
    session = current_session()
    return session.wait(session.load_checkpoint())


def barrier(name: str, timeout_s: float | None = None) -> None:
    """Wait until every replica of the gang has called it. Each use of a name is a new barrier, so loops may repeat it,
    if all replicas do so alike. One process per replica calls it. TimeoutError after `timeout_s`."""
    check_name(name, "a barrier's name")
    session = current_session()
    session.wait(session.barrier(name, timeout_s))


def should_stop() -> bool:
    """True once this attempt was asked to end (preemption, cancel, timeout, or it is superseded): save a checkpoint and
    exit. Cheap enough for each step. The first call also makes SIGTERM such a notice, unless the program handles it."""
    return stop_reason() != ""


def stop_reason() -> str:
    """Why `should_stop()` is True: `preempted`, `cancelled`, `timeout`, `superseded`, `terminated`; "" while not."""
    session = current_session()
    if session.env.task:
        session.stop.catch_sigterm()
        session.listen_for_stop()
    return session.stop.reason()


def log(message: str, level: str = "INFO", **fields: object) -> None:
    """Write one line `LEVEL message key=value ...` to stdout. Control bytes are escaped, the task's token is masked."""
    line = format_line(level, message, fields, secret=read_env().token)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def pick_input(inputs: Inputs, reference: str) -> Any:
    """Look `task.name` up. Refusal says what is there instead."""
    task, dot, name = reference.partition(".")
    if not (task and dot and name):
        raise Refusal(f"get_input takes 'task.output', got {reference!r:.80}", field="reference")
    if task not in inputs.outputs:
        near = _near(task, list(inputs.outputs))
        raise Refusal(
            f"no outputs of a task {task!r:.80} can be read here{near}",
            code="not_found",
            field="reference",
            hint=f"only tasks that this one needs, and that succeeded, can be read: add {task} to its `needs`",
        )
    if name not in inputs.outputs[task]:
        near = _near(name, list(inputs.outputs[task]))
        raise Refusal(
            f"task {task} has set no output {name!r:.80}{near}",
            code="not_found",
            field="reference",
            hint=f"declare it under tasks.{task}.outputs and set it there",
        )
    return copy.deepcopy(inputs.outputs[task][name])


def _near(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there is {', '.join(sorted(known)[:10])}" if known else "; there are none"
