"""A real daemon in a real process, for end-to-end tests: started, killed and asked as a user would."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel

from ffd.api.client import Client
from ffd.errors import Unavailable

START_S = 120.0


class RealDaemon:
    """`ffd daemon run` on `state`. `start`, `kill` (SIGKILL), `stop` (SIGTERM), as often as wanted."""

    def __init__(self, state: Path, *args: str) -> None:
        self.state = state
        self.address = f"unix:{state}/s"
        self.args = args
        self.lines: list[str] = []  # what it said on stderr before it led
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        self.state.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "ffd.cli.main", "daemon", "run", "--state", str(self.state)]
        self.process = subprocess.Popen(
            [*command, "--listen", self.address, *self.args], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )

    async def start(self) -> None:
        """Until it leads."""
        self.spawn()
        with anyio.fail_after(START_S):
            await anyio.to_thread.run_sync(self._until_it_says, '"loaded"', abandon_on_cancel=True)
            while not await self._leads():
                await anyio.lowlevel.checkpoint()

    def _until_it_says(self, word: str) -> None:
        assert self.process is not None and self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.decode(errors="replace"))
            if word in self.lines[-1]:
                return
        raise AssertionError("the daemon ended: " + "".join(self.lines[-20:]))

    async def _leads(self) -> bool:
        try:
            async with self.client() as client:
                return (await client.status()).role == "leader"
        except Unavailable:
            return False

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with await Client.connect(self.address) as client:
            yield client

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self._wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def _wait(self) -> int:
        assert self.process is not None and self.process.stderr is not None
        code = self.process.wait(60)
        self.lines += self.process.stderr.read().decode(errors="replace").splitlines()
        self.process.stderr.close()
        return code
