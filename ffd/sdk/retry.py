"""Time, as the SDK uses it: the clock it can be given, and how long to wait between tries.

Never here: what is tried. Called by `ffd.sdk.live`; tests put their own clock in.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Protocol

FIRST_DELAY_S = 0.1
MAX_DELAY_S = 10.0
_FACTOR = 2.0


class Clock(Protocol):
    """Seconds that only grow, and a wait measured in them."""

    def now_s(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's monotonic clock."""

    def now_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # late: `import ffd.sdk` stays light

        await asyncio.sleep(seconds)


def delays_s() -> Iterator[float]:
    """Waits between tries, for ever: they double up to MAX_DELAY_S, each shortened at random by up to a half, so that
    the tasks of a whole cluster do not all come back in the same instant."""
    delay_s = FIRST_DELAY_S
    while True:
        yield delay_s * random.uniform(0.5, 1.0)
        delay_s = min(delay_s * _FACTOR, MAX_DELAY_S)
