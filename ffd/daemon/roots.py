"""The roots of the daemon's tasks: the only place that catches any exception, whatever it is.

Every long-lived task runs as `root(...)`: leader, retention, lag, and of a reign controller, launcher, watcher and
timers. A fault is never swallowed: it goes to the parent, which ends the reign or the daemon with it. Cancellation, and
a crash in the simulation, pass through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Failed = Callable[[str, Exception], None]


async def outcome_of(work: Callable[[], Awaitable[None]]) -> Exception | None:
    """Run `work`; what it raised, None when it went well. For work on behalf of one object that must stop no other."""
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - see above
        return error
    return None


async def root(name: str, work: Callable[[], Awaitable[None]], failed: Failed) -> None:
    """Run `work`; tell the parent if it fails."""
    error = await outcome_of(work)
    if error is not None:
        failed(name, error)
