"""A log store that holds what it is given, for runtimes that run nothing: tests, the simulation."""

from __future__ import annotations

import asyncio

from ffd.core.model import AttemptId
from ffd.plugins.ports import Chunk


class MemoryLogs:
    """`write` appends as a replica would."""

    def __init__(self) -> None:
        self._logs: dict[tuple[AttemptId, int], bytearray] = {}
        self._touched_at_ms: dict[AttemptId, int] = {}
        self._grown = asyncio.Condition()

    async def write(self, attempt: AttemptId, rank: int, data: bytes, at_ms: int) -> None:
        self._logs.setdefault((attempt, rank), bytearray()).extend(data)
        self._touched_at_ms[attempt] = at_ms
        async with self._grown:
            self._grown.notify_all()

    async def read(self, attempt: AttemptId, rank: int, offset: int, limit_bytes: int) -> Chunk:
        log = self._logs.get((attempt, rank), bytearray())
        start = max(0, len(log) + offset) if offset < 0 else offset
        data = bytes(log[start : start + limit_bytes])
        return Chunk(start, data, start + len(data), eof=start + len(data) >= len(log))

    async def wait(self, attempt: AttemptId, rank: int, offset: int, timeout_ms: int) -> bool:
        def has_grown() -> bool:
            return len(self._logs.get((attempt, rank), b"")) > offset

        try:
            async with asyncio.timeout(timeout_ms / 1000), self._grown:
                await self._grown.wait_for(has_grown)
        except TimeoutError:
            return False
        return True

    async def ranks(self, attempt: AttemptId) -> list[int]:
        return sorted(rank for found, rank in self._logs if found == attempt)

    async def touched_at_ms(self, attempt: AttemptId) -> int:
        return self._touched_at_ms.get(attempt, 0)

    async def remove(self, workflow: int) -> None:
        for key in [key for key in self._logs if key[0].workflow == workflow]:
            del self._logs[key]
        for attempt in [attempt for attempt in self._touched_at_ms if attempt.workflow == workflow]:
            del self._touched_at_ms[attempt]
