"""The link to the daemon as the session uses it: each call retried until its deadline, and what is known of outages.

A call that misses its deadline declares the daemon `away`; the first that reaches it again ends that. Never here: what
to do with a value that could not be sent (`live`), gRPC (`transport`). Runs in the SDK's thread only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from ffd.errors import Unavailable
from ffd.sdk.context import TaskEnv
from ffd.sdk.errors import Superseded
from ffd.sdk.lines import notice
from ffd.sdk.retry import Clock, delays_s
from ffd.sdk.session import importing
from ffd.sdk.stop import StopNotice

if TYPE_CHECKING:
    from ffd.sdk.transport import Transport

T = TypeVar("T")

TRY_TIMEOUT_S = 30.0  # of one try; then the connection counts as dead
LAST_TRY_TIMEOUT_S = 2.0  # the same, for calls that have no time left
OUTAGE_NOTICE_S = 5.0  # shorter outages (a restart) are not worth a line


class Link:
    """`superseded` and `away` may be read from any thread."""

    def __init__(self, env: TaskEnv, clock: Clock, stop: StopNotice, try_timeout_s: float) -> None:
        self.superseded = False
        self.away = False
        self._env = env
        self._clock = clock
        self._stop = stop
        self._try_timeout_s = try_timeout_s
        self._transport: Transport | None = None
        self._lost_at_s: float | None = None  # when the present outage began
        self._told = False

    async def call(self, call: Callable[[Transport, float], Awaitable[T]], deadline_s: float) -> T:
        """`call(transport, timeout_s)`, again and again until it succeeds or the next try would come after the deadline
        (an instant of the clock); at least once. Raises Unavailable then, anything else that it raised at once."""
        delays = delays_s()
        patient = deadline_s > self._clock.now_s()
        while True:
            if self.superseded:
                raise Superseded
            left_s = deadline_s - self._clock.now_s()
            try:
                answer = await call(self._open(), min(self._try_timeout_s, max(left_s, LAST_TRY_TIMEOUT_S)))
            except Superseded:
                self.superseded = True
                self._stop.tell("superseded")
                raise
            except Unavailable as fault:
                delay_s = next(delays)
                self._lost(fault)
                if self._clock.now_s() + delay_s > deadline_s:
                    self.away = self.away or patient
                    raise
                await self._clock.sleep(delay_s)
            else:
                self._found()
                return answer

    async def close(self) -> None:
        if self._transport is not None:
            await self._transport.close()

    def _open(self) -> Transport:
        if self._transport is None:
            with importing:
                from ffd.sdk.transport import Transport  # late: brings grpclib and protobuf
            self._transport = Transport(self._env.address, self._env.token, self._env.rank)
        return self._transport

    def _lost(self, fault: Unavailable) -> None:
        now_s = self._clock.now_s()
        if self._lost_at_s is None:
            self._lost_at_s = now_s
        if not self._told and now_s - self._lost_at_s >= OUTAGE_NOTICE_S:
            self._told = True
            notice(f"{fault.message}; the task goes on, and calls are tried again")

    def _found(self) -> None:
        if self._told:
            notice("the daemon is reached again")
        self._lost_at_s, self._told, self.away = None, False, False
