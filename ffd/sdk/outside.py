"""A session outside ffd: the same calls, answered in this process, so that a task's program also runs by hand.

Outputs and checkpoints stay in memory (outputs go to `$FFD_OUTPUT` where that is set), progress goes nowhere, barriers
do not wait. Inputs exist only in a workflow: asking for one is refused. One notice says so at the first call.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from ffd.errors import Refusal
from ffd.sdk.context import TaskEnv
from ffd.sdk.files import OutputFile
from ffd.sdk.lines import notice
from ffd.sdk.session import Inputs
from ffd.sdk.stop import StopNotice
from ffd.sdk.values import Progress

T = TypeVar("T")


class Outside:
    """Implements `session.Session` with nothing behind it."""

    def __init__(self, env: TaskEnv) -> None:
        self.env = env
        self.stop = StopNotice(env.stop_path)
        self._outputs = OutputFile(env.output_path)
        self._checkpoint: str | None = None
        self._said = False

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """None of the coroutines below ever waits, so one step ends them."""
        self._say()
        try:
            work.send(None)
        except StopIteration as done:
            answer: T = done.value
            return answer
        raise AssertionError("a local call waited")

    async def join(self, work: Coroutine[Any, Any, T]) -> T:
        self._say()
        return await work

    async def inputs(self) -> Inputs:
        raise Refusal(
            "there are no inputs and no parameters outside an ffd task (FFD_ADDRESS and FFD_TOKEN are not set)",
            code="unsupported",
            hint="run it in a workflow: ffd run FILE",
        )

    async def set_output(self, name: str, text: str) -> None:
        if self.env.output_path:
            self._outputs.append(name, text)

    async def save_checkpoint(self, text: str) -> bool:
        self._checkpoint = text
        return True

    async def load_checkpoint(self) -> dict[str, Any] | None:
        return None if self._checkpoint is None else json.loads(self._checkpoint)

    async def barrier(self, name: str, timeout_s: float | None) -> None:
        return None

    def progress(self, report: Progress) -> None:
        self._say()

    def listen_for_stop(self) -> None:
        return None

    def close(self, timeout_s: float) -> None:
        return None

    def _say(self) -> None:
        if not self._said:
            self._said = True
            notice("not inside an ffd task: inputs are unknown; outputs, checkpoints and progress stay in this process")
