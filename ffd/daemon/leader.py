"""Leadership: acquire the lease, renew it in time, lead while it lasts; otherwise stand by and say who leads.

One task of the daemon. While it holds the lease it runs one reign after the other, each under an epoch of its own; a
reign that failed is followed by a new one from what is stored, until failures repeat without progress. Never here: what
a reign does, or whether commits are fenced (the store).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio

from ffd.daemon.clock import Backoff
from ffd.daemon.parts import Parts
from ffd.daemon.poison import Poison
from ffd.daemon.reign import Reign
from ffd.daemon.roots import root
from ffd.daemon.tenure import Tenure
from ffd.errors import Fenced, PluginError, Refusal, Unavailable
from ffd.plugins.ports import Lease, LeaseInfo

STANDBY_MS = 500.0  # how often a standby looks, at most; it takes over within the lease plus this
FAILURES_COUNT = 3  # reigns in a row that fail before they committed anything: then the daemon gives up
RELEASE_S = 5.0

NewReign = Callable[[Tenure, Poison], Reign]


class Leader:
    """`address` is where this daemon serves, told to others in the lease. `stands_by` hears who leads instead."""

    def __init__(self, parts: Parts, address: str, new_reign: NewReign, stands_by: Callable[[LeaseInfo], None]) -> None:
        self._parts = parts
        self._address = address
        self._new_reign = new_reign
        self._stands_by = stands_by
        self._ttl_ms = parts.settings.daemon.lease_ttl_ms
        self._backoff = Backoff(parts.entropy, 200.0, 5_000.0)
        self._poison = Poison()
        self._failures = 0

    async def run(self) -> None:
        """Until cancelled: then it steps down cleanly. Raises PluginError, and what made reign after reign fail."""
        try:
            while True:
                await self._lead_once(await self._acquire())
        finally:
            self._poison.close(Unavailable("the daemon is stopping", hint="call again when it is back"))

    async def _lead_once(self, tenure: Tenure) -> None:
        try:
            failure, has_progressed = await self._reign(tenure)
        except anyio.get_cancelled_exc_class():
            await self._release(tenure)  # a clean stop; a crash has no time for this
            raise
        if isinstance(failure, Fenced):
            self._parts.log.info("stepped down", reason=failure.message)
            return
        await self._release(tenure)
        if failure is None:
            return
        if isinstance(failure, PluginError | Refusal):
            raise failure
        if isinstance(failure, Unavailable):
            self._parts.log.warning("could not go on leading, trying again", reason=failure.message)
            await self._parts.clock.sleep_ms(self._backoff.next_ms())
            return
        self._failures = 1 if has_progressed else self._failures + 1
        self._parts.log.error("the reign failed, loading again", exc_info=failure, failures=self._failures)
        if self._failures >= FAILURES_COUNT and not self._poison.suspects:
            raise failure
        await self._parts.clock.sleep_ms(self._backoff.next_ms())

    # ------------------------------------------------------------------------------------------------------ the lease

    async def _acquire(self) -> Tenure:
        told = ""
        while True:
            await self._parts.failpoints.reach("lease.acquire")
            asked_at_ms = self._parts.clock.monotonic_ms()
            answer, reason = await self._hold(asked_at_ms, 0)
            if isinstance(answer, Lease):
                self._parts.log.info("leading", epoch=answer.epoch)
                return Tenure(answer, asked_at_ms, self._parts.clock)
            if answer is not None:
                self._stands_by(answer)
                reason = f"{answer.owner} leads at {answer.address}"
            if reason != told:
                self._parts.log.info("standing by", reason=reason)
                told = reason
            await self._parts.clock.sleep_ms(min(self._ttl_ms / 4, STANDBY_MS))

    async def _hold(self, asked_at_ms: float, epoch: int) -> tuple[Lease | LeaseInfo | None, str]:
        """What the store says; None and why when it cannot say now."""
        try:
            store, owner = self._parts.store, self._parts.owner
            return await store.hold(owner, self._address, self._ttl_ms, int(asked_at_ms), epoch), ""
        except Unavailable as error:
            return None, error.message
        except Refusal as error:
            if error.code != "storage_full":
                raise
            return None, "storage full"

    async def _renew(self, tenure: Tenure, scope: anyio.CancelScope) -> None:
        """Every third of the lease; oftener after a failure. Lost, or run out by our clock: the reign ends. A full disk
        alone ends nothing: nobody else can take the lease on it either, and effects wait for a valid one."""
        interval_ms = self._ttl_ms / 3
        while True:
            await self._parts.clock.sleep_ms(interval_ms)
            await self._parts.failpoints.reach("lease.renew")
            asked_at_ms = self._parts.clock.monotonic_ms()
            answer, reason = await self._hold(asked_at_ms, tenure.epoch)
            if isinstance(answer, Lease) and answer.epoch == tenure.epoch:
                tenure.renew(asked_at_ms)
                interval_ms = self._ttl_ms / 3
                continue
            interval_ms = self._ttl_ms / 20
            if answer is not None or (not tenure.is_valid() and reason != "storage full"):
                self._parts.log.error("lost the lease", epoch=tenure.epoch, reason=reason or "somebody else holds it")
                scope.cancel()
                return

    async def _release(self, tenure: Tenure) -> None:
        """So that the next leader need not wait. Not after a kill: nothing of this runs then."""
        with anyio.move_on_after(RELEASE_S, shield=True):
            await self._parts.failpoints.reach("lease.release")
            try:
                await self._parts.store.release(tenure.lease)
            except (Unavailable, Refusal) as error:
                self._parts.log.warning("could not release the lease: it runs out by itself", reason=error.message)

    # ------------------------------------------------------------------------------------------------------ the reign

    async def _reign(self, tenure: Tenure) -> tuple[Exception | None, bool]:
        """One reign: why it failed (None: the lease was lost), and whether it had worked before."""
        reign = self._new_reign(tenure, self._poison)
        async with anyio.create_task_group() as group:
            renewing = partial(self._renew, tenure, group.cancel_scope)
            group.start_soon(root, "lease", renewing, partial(_end, reign, group.cancel_scope))
            await reign.run()
            group.cancel_scope.cancel()
        if reign.has_progressed:
            self._backoff.reset()
        return reign.failure, reign.has_progressed


def _end(reign: Reign, scope: anyio.CancelScope, name: str, error: Exception) -> None:
    """Renewing failed for good: Fenced, PluginError, or a bug."""
    reign.failure = reign.failure or error
    scope.cancel()
