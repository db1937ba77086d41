"""Time and chance: the two Protocols the shell gets them through, and the real ones. No other line of the product reads
a clock or draws a random number; tests and the simulation put their own here.

Called by everything in this room. Never here: deciding what an instant means.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Protocol

import anyio


class Alarm(Protocol):
    """A call that has been asked for."""

    def cancel(self) -> None:
        """Do not call. No-op when it was called already."""
        ...


class Clock(Protocol):
    """Two clocks. `monotonic_ms` orders, waits and leases; `wall_ms` is for people and never orders anything (S18)."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump."""
        ...

    def monotonic_ms(self) -> float:
        """Milliseconds since some fixed instant; never jumps, goes on while the process is paused."""
        ...

    def call_at(self, monotonic_ms: float, call: Callable[[], None]) -> Alarm:
        """Call from the event loop at that instant, or as soon as possible when it is past."""
        ...

    async def sleep_ms(self, duration_ms: float) -> None: ...


class Entropy(Protocol):
    """Chance. Used for names and keys that must not repeat, and to spread retries; never for a decision."""

    def random_bytes(self, count: int) -> bytes: ...


class SystemClock:
    """The machine's clocks and the running event loop."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        return time.monotonic_ns() / 1e6

    def call_at(self, monotonic_ms: float, call: Callable[[], None]) -> Alarm:
        delay_ms = max(0.0, monotonic_ms - self.monotonic_ms())
        return asyncio.get_running_loop().call_later(delay_ms / 1000, call)

    async def sleep_ms(self, duration_ms: float) -> None:
        await anyio.sleep(max(0.0, duration_ms) / 1000)


class SystemEntropy:
    """The machine's randomness."""

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


class Backoff:
    """Delays between tries: doubling from `first_ms` to `most_ms`, each shortened by up to a half by chance, so that
    many who failed together do not come back together."""

    def __init__(self, entropy: Entropy, first_ms: float, most_ms: float) -> None:
        self._entropy = entropy
        self._first_ms = first_ms
        self._most_ms = most_ms
        self._tries = 0

    def next_ms(self) -> float:
        """How long to wait before the next try."""
        delay_ms = min(self._first_ms * 2.0 ** min(self._tries, 30), self._most_ms)
        self._tries += 1
        return delay_ms * (1 - self._entropy.random_bytes(1)[0] / 512)

    def reset(self) -> None:
        self._tries = 0
