"""The session of this process: which one it is, when it begins, what happens at fork and at exit.

    Session = Live    FFD_ADDRESS and FFD_TOKEN are set: talks to the daemon from its own thread
            | Outside otherwise: everything stays here

The first SDK call makes it from the environment. A forked child forgets its parent's session (the thread is not there)
and makes its own on first use. Called by `ffd.sdk.task` and `ffd.sdk.aio`.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Coroutine
from typing import Any, NamedTuple, Protocol, TypeVar

from ffd.sdk.context import TaskEnv, read_env
from ffd.sdk.stop import StopNotice
from ffd.sdk.values import Progress

EXIT_FLUSH_S = 5.0  # the most that leaving the process may take for the SDK's sake

IMPORT_WAIT_S = 5.0  # the most that a fork waits for an import of ours; one takes a quarter of a second

T = TypeVar("T")


class Inputs(NamedTuple):
    """What the attempt was given; it never changes while the attempt lives."""

    workflow: int
    handle: str
    project: str
    params: dict[str, Any]
    outputs: dict[str, dict[str, Any]]  # task -> name -> value (fan-outs: a list in item order)
    restored: bool  # there is a checkpoint of an earlier attempt


class Session(Protocol):
    """What the public calls need. Coroutines are run by `wait` (blocking) or `join` (awaiting), never directly.

    Errors of all: Superseded, Refusal (the caller's fault), Unavailable (only where said)."""

    env: TaskEnv
    stop: StopNotice

    def wait(self, work: Coroutine[Any, Any, T]) -> T: ...

    async def join(self, work: Coroutine[Any, Any, T]) -> T: ...

    async def inputs(self) -> Inputs:
        """Unavailable when the daemon stays away past the deadline."""
        ...

    async def set_output(self, name: str, text: str) -> None: ...

    async def save_checkpoint(self, text: str) -> bool: ...

    async def load_checkpoint(self) -> dict[str, Any] | None:
        """Unavailable when the daemon stays away past the deadline."""
        ...

    async def barrier(self, name: str, timeout_s: float | None) -> None:
        """TimeoutError."""
        ...

    def progress(self, report: Progress) -> None:
        """Never waits."""
        ...

    def listen_for_stop(self) -> None:
        """Ask the daemon for stop notices too, where the runtime brings none. Never waits."""
        ...

    def close(self, timeout_s: float) -> None: ...


importing = threading.Lock()  # held while the SDK's thread imports: a fork waits, or its child would get half a module

_lock = threading.Lock()
_session: Session | None = None
_forking: tuple[Session | None, bool] = (None, False)  # while a fork is under way: the session; is `importing` ours
_hooked = False


def current_session() -> Session:
    """The session of this process, made on first use. Refusal when the environment makes no sense."""
    global _session
    if _session is None:
        with _lock:
            if _session is None:
                _session = _open(read_env())
    return _session


def close_session(timeout_s: float = EXIT_FLUSH_S) -> None:
    """Send what is still to be sent, within the timeout, and forget the session. The next call makes a new one."""
    global _session
    with _lock:
        session, _session = _session, None
    if session is not None:
        session.stop.release_sigterm()
        session.close(timeout_s)


def _open(env: TaskEnv) -> Session:
    if env.connected:
        from ffd.sdk.live import Live  # late: brings asyncio

        session: Session = Live(env)
    else:
        from ffd.sdk.outside import Outside

        session = Outside(env)
    _hook()
    return session


def _hook() -> None:
    """Once per process. After asyncio was imported: hooks before a fork run last one first, and ours, which waits for
    imports, must not come after that of `logging`, which holds a lock that imports need."""
    global _hooked
    if not _hooked:
        _hooked = True
        atexit.register(close_session)
        os.register_at_fork(
            before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
        )


def _before_fork() -> None:
    global _forking
    held = importing.acquire(timeout=IMPORT_WAIT_S)  # better a child that cannot use the SDK than a fork that hangs
    session = _session
    _forking = (session, held)
    if session is not None:
        session.stop.before_fork()


def _after_fork_in_parent() -> None:
    global _forking
    (session, held), _forking = _forking, (None, False)
    if session is not None:
        session.stop.after_fork(in_child=False)
    if held:
        importing.release()


def _after_fork_in_child() -> None:
    global _forking, _lock, _session
    (session, held), _forking = _forking, (None, False)
    _lock = threading.Lock()  # the old one may be held by a thread that does not exist here
    _session = None
    if session is not None:
        session.stop.after_fork(in_child=True)
    if held:
        importing.release()
