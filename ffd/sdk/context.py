"""Who this process is, as its environment says: the FFD_* variables that each task gets.

Never here: the network. Called by `ffd.sdk.session` (once per session) and `ffd.sdk.task`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from ffd.errors import Refusal

DEFAULT_DEADLINE_S = 300.0


class TaskEnv(NamedTuple):
    """The variables, parsed. Empty texts and None mean "not given"."""

    address: str  # unix:PATH | grpc://HOST:PORT | grpcs://HOST:PORT
    token: str
    run: str  # the workflow's handle, name.N
    workflow: int  # its number; 0 outside ffd
    project: str
    task: str
    item: int  # index in the fan-out, from 0
    attempt: int  # from 1; 0 outside ffd
    rank: int  # of this replica in its gang, from 0
    world_size: int  # replicas of the gang
    output_path: str
    checkpoint_dir: str
    spool_dir: str
    stop_path: str
    deadline_s: float  # how long a call waits for a daemon that is away

    @property
    def connected(self) -> bool:
        """False outside ffd: there is no daemon to talk to, and every call is local."""
        return bool(self.address and self.token)


def read_env(environ: Mapping[str, str] | None = None) -> TaskEnv:
    """Parse the environment. Refusal(invalid) names the variable that makes no sense."""
    env = os.environ if environ is None else environ
    return TaskEnv(
        address=_address(env.get("FFD_ADDRESS", "")),
        token=env.get("FFD_TOKEN", ""),
        run=env.get("FFD_RUN", ""),
        workflow=_count(env, "FFD_WORKFLOW", 0),
        project=env.get("FFD_PROJECT", ""),
        task=env.get("FFD_TASK", ""),
        item=_count(env, "FFD_ITEM", 0),
        attempt=_count(env, "FFD_ATTEMPT", 0),
        rank=_count(env, "FFD_RANK", 0),
        # NNODES first: under torchrun WORLD_SIZE counts its workers, and ranks here are ranks of replicas.
        world_size=_count(env, "NNODES", _count(env, "WORLD_SIZE", 1)),
        output_path=env.get("FFD_OUTPUT", ""),
        checkpoint_dir=env.get("FFD_CHECKPOINT_DIR", ""),
        spool_dir=env.get("FFD_SPOOL_DIR", ""),
        stop_path=env.get("FFD_STOP_FILE", ""),
        deadline_s=_seconds(env, "FFD_SDK_DEADLINE_S", DEFAULT_DEADLINE_S),
    )


def _count(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "")
    if text == "":
        return default
    if not (text.isascii() and text.isdigit()):
        raise Refusal(f"{name} must be a whole number, got {text[:80]!r}", field=name)
    return int(text)


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "")
    if text == "":
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise Refusal(f"{name} must be seconds, 0 or more, got {text[:80]!r}", field=name)
    return seconds


def _address(text: str) -> str:
    if text == "" or (text.startswith("unix:") and text.removeprefix("unix:").removeprefix("//")):
        return text
    parts = urlsplit(text)
    try:
        if parts.scheme in ("grpc", "grpcs") and parts.hostname and parts.port:
            return text
    except ValueError:  # a port that is none: refused below
        pass
    raise Refusal(
        f"FFD_ADDRESS {text[:200]!r} is not an address",
        hint="unix:PATH, grpc://HOST:PORT or grpcs://HOST:PORT",
        field="FFD_ADDRESS",
    )
