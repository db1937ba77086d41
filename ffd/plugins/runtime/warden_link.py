"""The link to the warden: connects to the one of a directory, or starts it, and turns its lines into calls.

Called by `local`. Never here: what a replica is; what happens to those whose warden was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio.to_thread
import msgspec

from ffd.errors import PluginError, Unavailable
from ffd.plugins.runtime.prepare import INHERITED, Prepared
from ffd.plugins.runtime.warden import IN_USE, LOG, SOCKET

_PROGRAM = str(Path(__file__).with_name("warden.py"))
ADDRESS_BYTES = 100  # what a socket's path may have on every system
TRIES_COUNT = 5  # to connect: a warden may go just when we come

Asked = Callable[[dict[str, int]], None]
_encode = msgspec.json.Encoder().encode


class Told(msgspec.Struct, frozen=True):
    """A line of the warden. `told`: started (with `pid`), failed (`errno`), known, ended: of the replica whose record
    has this `name`; asked: the answer to `ask`. Of one that ended: its `exit` code or `signal`, and whether its record
    `is_free`, so that nothing of it lives (when not, or not told, that is to be looked for)."""

    told: str
    name: str = ""
    pid: int = 0
    errno: int = 0
    exit: int = -1
    signal: int = 0
    is_free: bool = False
    id: int = 0
    pids: dict[str, int] = {}


_decode = msgspec.json.Decoder(Told).decode


class WardenLink(asyncio.Protocol):
    """`told` is called for each line but answers, `lost` when the warden is gone: then open it again. Both from the
    event loop."""

    def __init__(self, root: str, told: Callable[[Told], None], lost: Callable[[], None]) -> None:
        self._root = root
        self._told = told
        self._lost = lost
        self._opening = asyncio.Lock()
        self._transport: asyncio.WriteTransport | None = None  # None: not connected
        self._parted: asyncio.Future[None] | None = None  # done when what we closed is closed
        self._writable = asyncio.Event()
        self._heard = b""  # the line that has not come whole
        self._questions: dict[int, tuple[dict[str, object], Asked]] = {}  # not answered yet, by number
        self._asked_count = 0

    async def open(self) -> None:
        """Connect, if we are not. Unavailable when the machine does not let us."""
        async with self._opening:
            if self._transport is None:
                try:
                    await self._connect()
                except OSError as error:
                    raise Unavailable(f"the warden cannot be reached: {error.strerror or error}") from None
                for question, _ in self._questions.values():
                    self._send(question)

    async def close(self) -> None:
        """Let go. What runs goes on."""
        async with self._opening:
            self._questions.clear()
            if self._transport is not None:
                self._parted = asyncio.get_running_loop().create_future()
                self._transport.close()
                await self._parted

    # --------------------------------------------------------------------------------------------------- requests

    def start(self, request: bytes) -> None:
        """Start a replica (`start_request`), at most once for all time; told as started, failed or known."""
        if self._transport is not None:  # else it was just lost, and `lost` sees to it
            self._transport.write(request)

    def signal(self, name: str, number: int) -> None:
        """Signal the process group of a replica, if its main process lives."""
        self._send({"do": "signal", "name": name, "number": number})

    def ask(self, names: Sequence[str], answered: Asked) -> None:
        """`answered` gets the pids of those that live; `ended` is told of each of them, after that. Who was asked and
        is lost is asked again when the link is open again: only a warden says that something does not live."""
        self._asked_count += 1
        question = {"do": "ask", "id": self._asked_count, "names": names}
        self._questions[self._asked_count] = (question, answered)
        self._send(question)

    async def drained(self) -> None:
        """Return when the warden has taken most of what it was sent."""
        await self._writable.wait()

    def _send(self, request: dict[str, object]) -> None:
        if self._transport is not None:  # as above
            self._transport.write(_encode(request) + b"\n")

    # ----------------------------------------------------------------------------------------- as asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        *lines, self._heard = (self._heard + data).split(b"\n")
        for told in map(_decode, lines):
            if told.told == "asked":
                self._questions.pop(told.id)[1](told.pids)
            else:
                self._told(told)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._writable.set()
        if self._parted is not None:
            self._parted.set_result(None)
        else:
            self._lost()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # ------------------------------------------------------------------------------------------------- connecting

    async def _connect(self) -> None:
        for _ in range(TRIES_COUNT):
            with contextlib.suppress(ConnectionError, FileNotFoundError):
                await self._connect_once()
                return
            await anyio.to_thread.run_sync(start_warden, self._root)
        await self._connect_once()

    async def _connect_once(self) -> None:
        """A path may be longer than an address can be; then it is reached through its directory's descriptor."""
        path = f"{self._root}/{SOCKET}"
        if len(os.fsencode(path)) <= ADDRESS_BYTES:
            await self._connect_to(path)
            return
        folder = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not os.path.isdir("/proc/self/fd"):
                raise PluginError(f"{self._root} is too long a path for this system", hint="choose another --state")
            await self._connect_to(f"/proc/self/fd/{folder}/{SOCKET}")
        finally:
            os.close(folder)

    async def _connect_to(self, path: str) -> None:
        self._heard, self._parted = b"", None
        self._writable.set()
        self._transport, _ = await asyncio.get_running_loop().create_unix_connection(lambda: self, path)


def start_request(name: str, prepared: Prepared, boot_id: str) -> bytes:
    """What to send to have a replica started, whose record has this name."""
    return _encode({"do": "start", "name": name, "boot_id": boot_id, **msgspec.structs.asdict(prepared)}) + b"\n"


def start_warden(root: str) -> None:
    """Start one, unless there is one. Returns when it can be connected to: its first process is then over, what goes on
    is no child of ours. Raises OSError; PluginError with what it said when it broke."""
    log = f"{root}/{LOG}"
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    argv = [sys.executable, "-I", "-S", _PROGRAM, root]
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    pid = os.posix_spawn(sys.executable, argv, env, file_actions=actions, setsigmask=())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code not in (0, IN_USE):
        said = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise PluginError(f"the warden of local processes does not start: {said[-1] if said else f'exit code {code}'}")
