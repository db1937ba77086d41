"""The composition root: settings -> plugins -> one daemon. Nobody else chooses what a daemon is made of.

`run` is the process `ffd daemon run`; `running` is a daemon inside another program (`ffd run` without one, tests).
Never here: what the parts do.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

from ffd.api.address import default_address
from ffd.api.authz import TokenMinter
from ffd.api.engine import Engine
from ffd.api.limits import ApiLimits
from ffd.api.listen import Tls
from ffd.api.server import ApiServer
from ffd.core.model import AttemptId
from ffd.daemon import fsck
from ffd.daemon.clock import Clock, Entropy, SystemClock, SystemEntropy
from ffd.daemon.failpoints import Failpoints
from ffd.daemon.parts import Parts
from ffd.daemon.roots import root
from ffd.daemon.telemetry import dump_standstills, make_log
from ffd.daemon.tree import Daemon
from ffd.errors import PluginError, Refusal
from ffd.plugins import registry
from ffd.plugins.ports import Auth, Lease, LeaseInfo, Store
from ffd.settings import Settings

TOKEN_LIFE_S = 400 * 86_400.0  # of a task's token: it is a name, not a lease; superseded attempts are refused anyway
KEY_FILE = "token.key"
SWITCH_S = 0.0005  # the writer thread gives the interpreter lock up often; 5 ms to get it back is too long
# Rows and messages hold no cycles: look for some seldom, and at few objects at a time. Running 100,000 tasks, Python's
# own policy (700, 10, 10) made 2,400 collections that took 1 s together and up to 96 ms each.
GC_THRESHOLD = (10_000, 5, 1_000)
CHECK_TTL_MS = 60_000  # a check that takes longer may meet a daemon that started meanwhile; it says so then
SHUTDOWN = (signal.SIGTERM, signal.SIGINT)


class Running(msgspec.Struct, frozen=True):
    """A daemon that leads, or stands by. `address` is where its first gRPC listener is, with the real port;
    `http_address` likewise, "" = none."""

    daemon: Daemon
    engine: Engine
    address: str
    http_address: str

    def stop(self) -> None:
        """Ask for a clean stop; leaving the `running` block does so too."""
        self.daemon.stop()


async def run(settings: Settings) -> int:
    """A daemon until TERM, INT or `ffd daemon stop`; tasks go on. Returns 0. PluginError: the operator must act.
    A second signal ends the process at once."""
    os.umask(0o077)
    faulthandler.enable()
    gc.set_threshold(*GC_THRESHOLD)
    sys.setswitchinterval(SWITCH_S)
    async with running(settings) as daemon, anyio.create_task_group() as group:
        group.start_soon(dump_standstills, SystemClock())
        loop = asyncio.get_running_loop()
        for number in SHUTDOWN:
            loop.add_signal_handler(number, _signalled, daemon, number)
        try:
            await daemon.daemon.stopping.wait()
        finally:
            for number in SHUTDOWN:
                loop.remove_signal_handler(number)
        group.cancel_scope.cancel()
    return 0


def _signalled(running: Running, number: int) -> None:
    if running.daemon.engine.is_stopping:
        os._exit(128 + number)
    running.stop()


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """A daemon for as long as the block; it leads or stands by when the block begins. PluginError: it cannot start, or
    could not go on."""
    async with AsyncExitStack() as stack:
        parts, tokens = await _open(settings, stack)
        daemon = Daemon(parts, lambda engine, stop: _api(settings, engine, tokens, stop))
        failure: list[Exception] = []
        scope = anyio.CancelScope()

        def failed(name: str, error: Exception) -> None:
            failure.append(error)
            daemon.settled.set()
            scope.cancel()  # who runs in the block cannot go on either

        life = asyncio.create_task(root("daemon", daemon.run, failed), name="ffd daemon")
        try:
            with scope:
                await daemon.settled.wait()
                await anyio.lowlevel.checkpoint()  # a start that failed ends here
                yield Running(daemon, daemon.engine, *_addresses(settings, daemon))
        finally:
            daemon.stop()
            with anyio.CancelScope(shield=True):
                await life
        if failure:
            raise failure[0]


def _addresses(settings: Settings, daemon: Daemon) -> tuple[str, str]:
    http = daemon.addresses[len(_listen(settings)) :]
    return next(iter(daemon.addresses), ""), next(iter(http), "")


async def check(settings: Settings) -> list[str]:
    """`ffd fsck`: faults of the stored state, in words; empty = sound. Refusal (conflict) while a daemon leads on it:
    rows and story must not move meanwhile, so this holds the lease itself."""
    async with AsyncExitStack() as stack:
        store: Store = await _entered(stack, registry.make("store", settings.daemon.store, _offered(settings)))
        clock, owner = SystemClock(), f"fsck {_owner(SystemEntropy())}"
        lease = await _hold_alone(store, owner, clock, 0)
        faults = await fsck.check(store, settings.limits)
        await store.release(await _hold_alone(store, owner, clock, lease.epoch))
        return faults


async def _hold_alone(store: Store, owner: str, clock: Clock, epoch: int) -> Lease:
    found = await store.hold(owner, "", CHECK_TTL_MS, int(clock.monotonic_ms()), epoch)
    if isinstance(found, LeaseInfo):
        raise Refusal(
            f"a daemon runs on this state: {found.owner}", code="conflict", hint="stop it first: `ffd daemon stop`"
        )
    return found


# ------------------------------------------------------------------------------------------------------------ parts


async def _open(settings: Settings, stack: AsyncExitStack) -> tuple[Parts, TokenMinter]:
    """Everything that is injected, opened; closed with the stack."""
    clock, entropy, log = SystemClock(), SystemEntropy(), make_log(settings.telemetry.log_level)
    offered = _offered(settings)
    _make_state_dir(offered["state_dir"])
    store = await _entered(stack, registry.make("store", settings.daemon.store, offered))
    logs = await _entered(stack, registry.make("logs", "files", offered))
    registry.find("runtime", settings.daemon.runtime)  # a wrong name is refused now, not when it first leads
    tokens = TokenMinter(_token_key(offered["state_dir"], entropy), lambda: clock.wall_ms() / 1000)

    def mint(attempt: AttemptId) -> str:
        return tokens.mint(attempt, clock.wall_ms() / 1000 + TOKEN_LIFE_S)

    parts = Parts(
        settings=settings, store=store, logs=logs, clock=clock, entropy=entropy, failpoints=Failpoints(), mint=mint,
        make_runtime=lambda: registry.make("runtime", settings.daemon.runtime, offered), owner=_owner(entropy), log=log,
    )  # fmt: skip
    return parts, tokens


async def _entered(stack: AsyncExitStack, plugin: Any) -> Any:
    """Plugins that are context managers are opened; all are closed at the end."""
    if hasattr(plugin, "__aenter__"):
        return await stack.enter_async_context(plugin)
    if hasattr(plugin, "close"):
        stack.push_async_callback(plugin.close)
    return plugin


def _offered(settings: Settings) -> dict[str, Any]:
    """What a plugin's constructor may ask for, by name: these, and every setting of [local] and [limits]."""
    daemon = settings.daemon
    return {
        **msgspec.structs.asdict(settings.limits),
        **msgspec.structs.asdict(settings.local),
        "state_dir": Path(daemon.state_dir or _default_state_dir()).absolute(),
        "accept_loss": daemon.accept_loss,
        "pretend": daemon.pretend,
        "limits": settings.limits,
    }


def _default_state_dir() -> Path:
    home = os.environ.get("XDG_STATE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".local/state") / "ffd"


def _make_state_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PluginError(
            f"cannot make the state directory {path}: {error.strerror}", hint="choose another with --state"
        ) from None


def _owner(entropy: Entropy) -> str:
    """Unique, and of use to people: which machine, which process."""
    return f"{socket.gethostname()}:{os.getpid()}:{entropy.random_bytes(4).hex()}"


def _token_key(state_dir: Path, entropy: Entropy) -> bytes:
    """The key of task tokens: made once, kept with the state, readable by this user only; never in store or story."""
    path = state_dir / KEY_FILE
    draft = path.with_name(f"{KEY_FILE}.{os.getpid()}")
    try:
        if not path.exists():
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(entropy.random_bytes(TokenMinter.KEY_BYTES))
                file.flush()
                os.fsync(descriptor)
            with contextlib.suppress(FileExistsError):  # another daemon on this state was first: its key counts
                os.link(draft, path)
            draft.unlink()
        key = path.read_bytes()
    except OSError as error:
        raise PluginError(f"cannot keep the key of task tokens in {path}: {error.strerror}") from None
    if len(key) != TokenMinter.KEY_BYTES:
        raise PluginError(f"{path} is damaged", hint="remove it: running tasks then lose their token")
    return key


# -------------------------------------------------------------------------------------------------------------- api


def _listen(settings: Settings) -> tuple[str, ...]:
    """Nothing said: the socket of a named state directory, else the user's own."""
    state_dir = settings.daemon.state_dir
    own = f"unix:{os.path.abspath(state_dir)}/ffd.sock" if state_dir else default_address({})
    return settings.daemon.listen or (own,)


def _api(settings: Settings, engine: Engine, tokens: TokenMinter, stop: Any) -> ApiServer:
    daemon = settings.daemon
    names = set(ApiLimits.__struct_fields__) & set(settings.limits.__struct_fields__)
    return ApiServer(
        engine,
        auth=_auth(settings),
        tokens=tokens,
        listen=_listen(settings),
        http=daemon.http,
        stop=stop,
        limits=ApiLimits(**{name: getattr(settings.limits, name) for name in names}),
        tls=Tls(daemon.tls_cert, daemon.tls_key) if daemon.tls_cert or daemon.tls_key else None,
        remote_auth=bool(daemon.tokens_file),
        allowed_hosts=daemon.allowed_hosts,
    )


def _auth(settings: Settings) -> Auth:
    """The owner of the unix socket; with a tokens file also those it lists."""
    own: Auth = registry.make("auth", "local", {})
    if not settings.daemon.tokens_file:
        return own
    found: Auth = registry.make("auth", "tokens", {"path": settings.daemon.tokens_file, "fallback": own})
    return found
