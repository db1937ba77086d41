"""Failpoints: named sites where a test, or the simulation, makes a daemon crash, pause or err. No-ops in production.

One Failpoints per daemon, handed down like the clock: several daemons in one process are armed one by one. The names
are all in NAMES; a test holds that they are exactly those used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

NAMES = (
    "lease.acquire",  # before a lease is asked for
    "lease.renew",  # before a renewal is sent
    "lease.release",  # before a clean stop gives it up
    "recovery.load",  # leading, nothing loaded yet
    "recovery.loaded",  # state is in memory, the runtime not yet asked
    "inbox.accepted",  # a command waits for the writer
    "step.before",  # a batch was taken from the inbox, nothing decided
    "commit.before",  # decided, nothing durable
    "commit.after",  # durable; nobody was told and nothing done
    "effects.before",  # as above, once more before effects are queued
    "launch.before",  # an order was taken up, the runtime not yet told
    "launch.after",  # the runtime was told
    "stop.before",
    "forget.before",
    "report.before",  # the runtime reported, the inbox does not have it
    "retention.before",
)

Action = Callable[[], Awaitable[None]]


class Crash(BaseException):
    """Raised by an action to end a daemon as kill -9 would: no handler of ours stops it."""


class Failpoints:
    """What is armed, by name."""

    def __init__(self) -> None:
        self._armed: dict[str, Action] = {}

    def arm(self, name: str, action: Action) -> None:
        """`await action()` whenever the site is reached, until disarmed. ValueError for a name that is not a site."""
        if name not in NAMES:
            raise ValueError(f"no failpoint {name!r}")
        self._armed[name] = action

    def disarm(self, name: str) -> None:
        self._armed.pop(name, None)

    async def reach(self, name: str) -> None:
        """The site `name`: returns at once unless it is armed."""
        if self._armed and name in self._armed:
            await self._armed[name]()
