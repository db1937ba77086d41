"""The SDK's own thread: one event loop beside the user's code, started with the first call that needs the network.

A daemon thread, so it never keeps a process alive. Never here: what runs in it (`ffd.sdk.live`). asyncio is imported by
whoever starts one, not by `import ffd.sdk`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

STOP_S = 1.0


class LoopThread:
    """An event loop in a thread. `submit` and `post` may be called from any other thread, until `stop`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._last: Coroutine[Any, Any, None] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run the coroutine in the loop. Cancelling the future cancels it there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def post(self, callback: Callable[[], object]) -> None:
        """Call it in the loop, soon. Costs a microsecond or two; waits for nothing."""
        self._loop.call_soon_threadsafe(callback)

    def stop(self, last: Coroutine[Any, Any, None]) -> None:
        """Cancel what still runs, then run `last`, then end the loop and the thread. A thread that does not end in
        STOP_S is left behind."""
        self._last = last
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            rest = asyncio.all_tasks(self._loop)
            for task in rest:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
            if self._last is not None:
                self._loop.run_until_complete(self._last)
        finally:
            self._loop.close()
