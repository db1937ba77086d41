"""The hunter: ends what a replica left behind, wherever it went, and says when nothing of it is to be seen any more.

A process may leave its group, its session, its parent; it keeps its environment, and with it the replica's mark. So the
hunter looks at all processes, KILLs those that carry a mark it was given, and looks again until it finds none. One look
serves all replicas that are being ended. A process that cannot die (it waits for a disk) is looked for again, less and
less often, and its replica is not reported gone. Called by `local`. Never here: who is to be ended, and why.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Set

import anyio.to_thread

from ffd.plugins.runtime.processes import signal_marked

PAUSE_FIRST_S, PAUSE_MOST_S = 0.002, 2.0  # between looks at what was killed and does not die


class Hunter:
    """One per runtime. Has a task of its own while there is something to do."""

    def __init__(self) -> None:
        self._prey: dict[str, Callable[[], None]] = {}  # marks, and whom to tell when nothing of it is left
        self._task: asyncio.Task[None] | None = None

    def hunt(self, mark: str, gone: Callable[[], None]) -> None:
        """KILL everything of the replica with this mark; `gone()`, once and from the loop, after a look that began from
        now on found nothing."""
        self._prey[mark] = gone
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop hunting; what lives goes on."""
        self._prey.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause_s = PAUSE_FIRST_S
        while self._prey:
            hunted = dict(self._prey)
            seen = await _look(hunted.keys())
            has_more = self._strike_off(hunted, seen)
            pause_s = PAUSE_FIRST_S if has_more else min(pause_s * 2, PAUSE_MOST_S)
            if self._prey and not has_more:
                await asyncio.sleep(pause_s)

    def _strike_off(self, hunted: dict[str, Callable[[], None]], seen: set[str]) -> bool:
        """True when somebody was gone, or somebody new came: then the next look is at once."""
        for mark, gone in hunted.items():
            if mark not in seen and self._prey.get(mark) is gone:
                del self._prey[mark]
                gone()
        return self._prey.keys() != seen & hunted.keys()


async def _look(marks: Set[str]) -> set[str]:
    """Marks of which something was seen: all of them when the machine does not let us look."""
    try:
        return await anyio.to_thread.run_sync(signal_marked, marks, signal.SIGKILL)
    except OSError:
        return set(marks)
