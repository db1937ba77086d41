"""The calls of `ffd.sdk.task` for asyncio programs: same names, arguments and promises, awaited instead of blocking.

What never blocks is the same function here and there: `current`, `progress`, `log`, `should_stop`, `stop_reason`.
Cancelling an await gives the call up: an output or checkpoint may then have arrived or not.
"""

from __future__ import annotations

import copy
from typing import Any

from ffd.sdk.session import current_session
from ffd.sdk.task import current, log, pick_input, progress, should_stop, stop_reason
from ffd.sdk.values import check_name, encode, encode_object

__all__ = [
    "barrier",
    "current",
    "get_input",
    "load_checkpoint",
    "log",
    "params",
    "progress",
    "save_checkpoint",
    "set_output",
    "should_stop",
    "stop_reason",
]


async def get_input(reference: str) -> Any:
    session = current_session()
    return pick_input(await session.join(session.inputs()), reference)


async def params() -> dict[str, Any]:
    session = current_session()
    return copy.deepcopy((await session.join(session.inputs())).params)


async def set_output(name: str, value: Any) -> None:
    check_name(name, "an output's name")
    text = encode(value, f"output {name}")
    session = current_session()
    await session.join(session.set_output(name, text))


async def save_checkpoint(value: dict[str, Any]) -> bool:
    text = encode_object(value, "the checkpoint")
    session = current_session()
    return await session.join(session.save_checkpoint(text))


async def load_checkpoint() -> dict[str, Any] | None:
    session = current_session()
    return await session.join(session.load_checkpoint())


async def barrier(name: str, timeout_s: float | None = None) -> None:
    check_name(name, "a barrier's name")
    session = current_session()
    await session.join(session.barrier(name, timeout_s))
