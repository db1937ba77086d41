"""The notice to stop: has anybody asked this attempt to end, and why.

Three ways in, whichever comes first: the runtime writes `$FFD_STOP_FILE` (its text is the reason), the daemon answers a
heartbeat with a reason, or SIGTERM arrives. Never here: the network. Called by `ffd.sdk.task` and `ffd.sdk.live`.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

MAX_REASON_BYTES = 200


class StopNotice:
    """`reason()` is "" until somebody asks; then it stays what it first was. Only a bare signal's `terminated` gives
    way to a reason that says more."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reason = ""
        self._is_terminated = False
        self._mask_at_fork: set[int] | None = None

    def tell(self, reason: str) -> None:
        """The daemon asks. Later reasons do not replace the first."""
        if reason and not self._reason:
            self._reason = reason

    def reason(self) -> str:
        """One `stat` while nobody asked."""
        if not self._reason and self._path and os.path.exists(self._path):
            self._reason = self._read() or "stop"
        return self._reason or ("terminated" if self._is_terminated else "")

    def _read(self) -> str:
        try:
            with open(self._path, "rb") as file:
                return file.read(MAX_REASON_BYTES).decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def catch_sigterm(self) -> None:
        """Turn SIGTERM into a notice, so that a task that asks `should_stop()` lives to act on it: runtimes send TERM
        with the notice, and KILL when the grace is over. Only where nobody else handles the signal, and only from the
        main thread (a later call from there makes up for one that was not). Undone in forked children."""
        if _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def release_sigterm(self) -> None:
        """Give SIGTERM its default meaning back, if it is ours."""
        if _in_main_thread() and self._has_sigterm():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def before_fork(self) -> None:
        """Let SIGTERM wait while it is ours: Python forgets signals that a child gets before it is on its feet, and a
        child must be one that `terminate()` ends."""
        if self._has_sigterm():
            self._mask_at_fork = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def after_fork(self, in_child: bool) -> None:
        mask, self._mask_at_fork = self._mask_at_fork, None
        if mask is not None:
            if in_child:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _has_sigterm(self) -> bool:
        return signal.getsignal(signal.SIGTERM) == self._on_sigterm

    def _on_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        self._is_terminated = True


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
