"""The four errors that cross a room's border; each class says who must act. Anything else that is raised is our bug.

Imported by every room; imports nothing of ours.
"""

from __future__ import annotations


class FfdError(Exception):
    """Base of the errors below. `code` is a stable word, `message` one sentence, `hint` what to do about it."""

    code = "internal"

    def __init__(self, message: str, *, code: str = "", hint: str = "", field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.hint = hint
        self.field = field


class Refusal(FfdError):
    """The user asked for what cannot be done. Nothing has changed.

    Codes: `invalid` (a document or argument), `not_found`, `conflict` (state or idempotency key), `limit` (a named
    limit; `field` names its setting), `forbidden`, `unauthenticated`, `superseded` (a stale attempt's token),
    `unsupported`, `storage_full`.
    """

    code = "invalid"


class Fenced(FfdError):
    """A commit was refused because a higher epoch exists: this process is no longer the leader and must step down."""

    code = "fenced"


class Unavailable(FfdError):
    """Try later: no leader, a store that is away, a daemon that is stopping. Idempotent calls are safe to repeat."""

    code = "unavailable"


class PluginError(FfdError):
    """The operator must act: a plugin is misconfigured or its backend misbehaves."""

    code = "plugin"
