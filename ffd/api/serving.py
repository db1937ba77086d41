"""What all handlers of one server share, and the check that stands before each of them. One per ApiServer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary

from ffd.api.access import Access
from ffd.api.authz import ANYBODY, VERBS, Gate, permit
from ffd.api.engine import Engine
from ffd.api.limits import ApiLimits
from ffd.api.peers import REMOTE, identify
from ffd.api.submission import Submitter
from ffd.api.traffic import Traffic


class Serving:
    """`stop` asks the daemon to stop; it returns at once."""

    def __init__(self, engine: Engine, gate: Gate, limits: ApiLimits, stop: Callable[[], None]) -> None:
        self.engine = engine
        self.limits = limits
        self.stop = stop
        self.submitter = Submitter(limits)
        self.traffic = Traffic(limits)
        self._gate = gate
        self._peers: WeakKeyDictionary[asyncio.BaseTransport, str] = WeakKeyDictionary()

    async def access(self, verb: str, authorization: str, transport: asyncio.BaseTransport | None) -> Access:
        """The caller, permitted to use the verb. Refusal: unauthenticated, forbidden."""
        principal = ANYBODY
        if VERBS[verb] != "public":
            principal = await self._gate.principal(authorization, "" if authorization else await self._peer(transport))
            permit(principal, verb)
        return Access(self.engine, principal, self.limits)

    async def _peer(self, transport: asyncio.BaseTransport | None) -> str:
        if transport is None:  # gone already
            return REMOTE
        peer = self._peers.get(transport)
        if peer is None:
            peer = self._peers[transport] = await identify(transport)
        return peer

    async def not_ready(self) -> str:
        """Why this daemon cannot take commands now; "" when it can. Asked by load balancers and health checks."""
        status = await self.engine.status()
        if status.role != "leader":
            return f"it is {status.role}, not the leader"
        return status.degraded
