"""The one exception that only tasks see (the others, Refusal and Unavailable, come from `ffd.errors`), and one signal
that never leaves the SDK."""

from __future__ import annotations

from ffd.errors import Refusal


class Superseded(Refusal):
    """This attempt is not the live one of its task any more: a newer attempt owns it, or the workflow has ended.

    Nothing this process writes counts from now on. Let it propagate, or clean up and exit."""

    code = "superseded"

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message or "this attempt has been superseded: the daemon refuses its token",
            hint="stop working: a newer attempt owns the task, or the workflow has ended",
        )


class NotYet(Exception):
    """A try at a barrier ended with replicas still missing. Neither a success nor an outage: try again."""
