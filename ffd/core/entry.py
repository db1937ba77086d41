"""What every command meets at the entry: its idempotency key and the limits on what is live. Used by submit, control.

Never here: what a command does.
"""

from __future__ import annotations

from ffd.core.commands import Command
from ffd.core.state import State
from ffd.errors import Refusal


def key_scope(command: Command) -> str:
    """Keys are scoped to project and verb; "" when the command has none."""
    return f"{command.project}/{type(command).__name__}/{command.key}" if command.key else ""


def refuse_reuse(state: State, command: Command, scope: str) -> Refusal | None:
    """The conflict when a known key comes with another payload."""
    if state.keys[scope][0] == command.payload_digest:
        return None
    return Refusal(
        "this idempotency key was used for something else", code="conflict", field="key", hint="make a new key"
    )


def refuse_if_full(state: State, task_count: int) -> Refusal | None:
    """The limit that one more workflow of `task_count` tasks and items would break; None when it may come in."""
    for name, have, more in (
        ("live_workflows_count", len(state.workflows), 1),
        ("live_tasks_count", state.item_count, task_count),
    ):
        bound = getattr(state.limits, name)
        if have + more > bound:
            return Refusal(
                f"the daemon holds {have} of at most {bound} ({name})",
                code="limit",
                field=f"limits.{name}",
                hint="wait until workflows end, or raise the limit",
            )
    return None
