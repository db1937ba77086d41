"""ctrl+c while a workflow is followed: ask a person, else cancel and wait; the second one leaves at once.

A person may detach (the workflow goes on), cancel, or go on. Without one (no terminal, --no-input) the first ctrl+c or
TERM cancels, because a build that is stopped wants its work stopped too.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Literal

import anyio

from ffd.cli import exits, terminal
from ffd.errors import Refusal, Unavailable

if TYPE_CHECKING:
    from ffd.api.client import Client
    from ffd.cli.progress import Follower

QUESTION = "ctrl+c: [d]etach and let it go on, [c]ancel it, or Enter to go on following? "


class Interrupts:
    """Listens beside a Follower. `left` says how we left before the end: by choice, or by a second ctrl+c."""

    def __init__(self, may_ask: bool) -> None:
        self.may_ask = may_ask
        self.left: Literal["", "detached", "interrupted"] = ""
        self.pressed = False

    async def listen(self, client: Client, follower: Follower, scope: anyio.CancelScope) -> None:
        """Runs until cancelled. Cancels `scope` in order to leave."""
        async with anyio.create_task_group() as group:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for number in signals:
                    if self.pressed:
                        self._leave("interrupted", scope)
                    elif self.may_ask and number == signal.SIGINT:
                        self.pressed = True
                        group.start_soon(self._ask, client, follower, scope)
                    else:
                        self.pressed = True
                        group.start_soon(self._cancel, client, follower)

    def _leave(self, how: Literal["detached", "interrupted"], scope: anyio.CancelScope) -> None:
        self.left = how
        scope.cancel()

    async def _ask(self, client: Client, follower: Follower, scope: anyio.CancelScope) -> None:
        follower.view.pause()
        print(f"\n{QUESTION}", end="", file=sys.stderr, flush=True)
        await anyio.wait_readable(sys.stdin)
        answer = sys.stdin.readline().strip().lower()[:1]
        if answer == "d":
            self._leave("detached", scope)
            return
        follower.view.resume()
        if answer == "c":
            await self._cancel(client, follower)
        else:
            self.pressed = False

    async def _cancel(self, client: Client, follower: Follower) -> None:
        """Ask for the cancel; the end is then seen as any other end is."""
        terminal.say(f"cancelling {follower.handle}; ctrl+c again leaves at once")
        try:
            await client.cancel(follower.ref)
        except (Refusal, Unavailable) as error:
            for line in exits.lines_of(error):
                terminal.say(line)
