"""The roots of the daemon's tasks: the only place that catches any exception, whatever it is.

Every long-lived task runs as `root(...)`: api, leader, and of a reign controller, launcher, watcher and timers. A fault
is never swallowed: it goes to the parent, which ends the reign or the daemon with it. Cancellation passes through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Failed = Callable[[str, Exception], None]


async def root(name: str, work: Callable[[], Awaitable[None]], failed: Failed) -> None:
    """Run `work`; tell the parent if it fails."""
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - see above
        failed(name, error)
