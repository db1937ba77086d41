"""A real daemon for a bench: its own process, state directory and socket; asked through the public client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import anyio

from ffd.api.client import Client
from ffd.core.pages import EventPage
from ffd.errors import FfdError

REST_S = 1.0  # in which a daemon makes files in advance, as many as it needed


class Daemon:
    """One daemon process on `state`. `start` returns when it answers; `kill` is SIGKILL; both can be repeated."""

    def __init__(self, state: Path, *args: str) -> None:
        self.state = state
        self.address = f"unix:{state}/bench.sock"
        self.args = args
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        command = [sys.executable, "-m", "ffd.cli.main", "daemon", "run", "--state", str(self.state)]
        with (self.state / "daemon.err").open("ab") as err:
            self.process = subprocess.Popen([*command, "--listen", self.address, *self.args], stderr=err, stdout=err)

    async def start(self) -> None:
        self.spawn()
        await self.ready()

    async def ready(self) -> None:
        """Wait until it leads and answers."""
        with anyio.fail_after(120):
            while True:
                if self.process is not None and self.process.poll() is not None:
                    raise RuntimeError((self.state / "daemon.err").read_text()[-4000:])
                try:
                    async with self.client() as client:
                        if (await client.status()).role == "leader":
                            return
                except FfdError:  # whatever it says while it starts
                    pass
                await anyio.sleep(0.01)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with await Client.connect(self.address) as client:
            yield client

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def rss_bytes(self) -> int:
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def scratch() -> tempfile.TemporaryDirectory[str]:
    """For all rounds of a bench: making files is slow for minutes after many were removed (ext4 without a journal)."""
    return tempfile.TemporaryDirectory(prefix="ffd-bench-", ignore_cleanup_errors=True)


@asynccontextmanager
async def daemon(*args: str, inside: str | None = None) -> AsyncIterator[Daemon]:
    """A fresh daemon in a fresh directory; stopped at the end, and removed unless it was made `inside` another."""
    with scratch() if inside is None else nullcontext(tempfile.mkdtemp(dir=inside)) as folder:
        found = Daemon(Path(folder), *args)
        try:
            await found.start()
            yield found
        finally:
            found.stop()


def document(name: str, tasks: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"name": name, "tasks": tasks, **fields}).encode()


async def follow(client: Client, token: str, until: int) -> list[EventPage]:
    """All events from `token` on, until `until` workflows have ended."""
    events: list[EventPage] = []
    async for page in client.watch("", token=token):
        if page.gap:
            raise RuntimeError("the watch fell behind: raise limits.watch_backlog_count for this bench")
        events.extend(page.events)
        until -= sum(event.kind == "WorkflowEnded" for event in page.events)
        if until <= 0:
            return events
    return events


async def until_idle(client: Client, token: str) -> None:
    """Until no workflow is live. Watches only to hear when to look: who fell behind is told so, and goes on."""
    while (await client.status()).workflow_count:
        async for page in client.watch("", token=token):
            if page.gap or any(event.kind == "WorkflowEnded" for event in page.events):
                break
        token = ""
