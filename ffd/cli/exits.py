"""The exit codes of ffd, on which scripts depend, and the one place that turns an error into a code and a message.

Called by `main` around every verb. Never here: tracebacks (an error that is none of ours is a bug: `main` says so).
"""

from __future__ import annotations

from ffd.errors import FfdError, PluginError, Refusal

OK = 0
FAILED = 1  # the workflow failed; a check found faults
USAGE = 2
INVALID = 3  # a document with faults
FORBIDDEN = 4
UNREACHABLE = 5
NOT_FOUND = 6
REFUSED = 7
TIMED_OUT = 8
CANCELLED = 9
INTERRUPTED = 130

BY_STATE = {"succeeded": OK, "failed": FAILED, "cancelled": CANCELLED}
BY_REFUSAL = {
    "invalid": USAGE,  # an argument; faults of documents are told apart by `faults`
    "not_found": NOT_FOUND,
    "forbidden": FORBIDDEN,
    "unauthenticated": FORBIDDEN,
}


def code_of(error: FfdError) -> int:
    """The exit code for one of our errors."""
    if getattr(error, "faults", ()):
        return INVALID
    if isinstance(error, Refusal):
        return BY_REFUSAL.get(error.code, REFUSED)
    if isinstance(error, PluginError):
        return REFUSED
    return UNREACHABLE  # nobody there, or a daemon that could not answer: never the same as a workflow that failed


def lines_of(error: FfdError) -> list[str]:
    """What stderr says: the message, then what to do about it."""
    message = f"error: {error.message}"
    if error.field and error.field not in error.message:
        message += f" ({error.field})"
    return [message, f"hint: {error.hint}"] if error.hint else [message]


def only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of ours in what a task group raised, the first one found; else the first error of any kind.

    A task group wraps whatever its tasks raise, also when it is one."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    return next((leaf for leaf in leaves if isinstance(leaf, FfdError)), leaves[0])
