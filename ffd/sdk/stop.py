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
    """`reason()` is "" until somebody asks; then it stays what it first was."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reason = ""

    def tell(self, reason: str) -> None:
        """The daemon or a signal asks. Later reasons do not replace the first."""
        if reason and not self._reason:
            self._reason = reason

    def reason(self) -> str:
        """One `stat` while nobody asked."""
        if not self._reason and self._path and os.path.exists(self._path):
            self._reason = self._read() or "stop"
        return self._reason

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
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def release_sigterm(self) -> None:
        """Give SIGTERM its default meaning back, if it is ours."""
        if signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _on_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        self.tell("terminated")
