"""What a daemon is made of: everything that is injected into the shell, in one struct. `wire` makes the real one; tests
and the simulation make others. Never here: choosing or opening any of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ffd.core.model import AttemptId
from ffd.daemon.clock import Clock, Entropy
from ffd.daemon.failpoints import Failpoints
from ffd.plugins.ports import LogStore, Runtime, Store
from ffd.settings import Settings


class Parts(msgspec.Struct, frozen=True):
    """`make_runtime` is called once per reign, because a standby must not touch what the leader runs; the daemon closes
    what it returns. `owner` names this daemon in the lease: unique, also among daemons of one process.
    `mint` makes the token a task presents. `log` is a structlog logger."""

    settings: Settings
    store: Store
    make_runtime: Callable[[], Runtime]
    logs: LogStore
    clock: Clock
    entropy: Entropy
    failpoints: Failpoints
    mint: Callable[[AttemptId], str]
    owner: str
    log: Any
