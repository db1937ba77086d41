"""Writes of one turn leave as one, in order, and none is lost when the connection closes."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio.lowlevel
import pytest

from ffd.api.gather import TURN_BYTES, Gathered

pytestmark = pytest.mark.anyio


class Wire(asyncio.Transport):
    """Remembers what reaches it."""

    def __init__(self) -> None:
        super().__init__({"socket": "s"})
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def test_one_write_for_one_turn() -> None:
    wire = Wire()
    gathered = Gathered(wire)
    for piece in (b"a", b"b", b"c"):
        gathered.write(piece)
    assert wire.written == []
    await anyio.lowlevel.checkpoint()
    gathered.write(b"d")
    await anyio.lowlevel.checkpoint()
    assert wire.written == [b"abc", b"d"]


async def test_much_leaves_at_once() -> None:
    """So that the transport sees it, and asks the writer to pause."""
    wire = Wire()
    gathered = Gathered(wire)
    gathered.write(b"x" * TURN_BYTES)
    assert wire.written == []
    gathered.write(b"y")
    assert wire.written == [b"x" * TURN_BYTES + b"y"]
    await anyio.lowlevel.checkpoint()
    assert len(wire.written) == 1


async def test_closing_sends_what_waits() -> None:
    wire = Wire()
    gathered = Gathered(wire)
    gathered.write(b"last words")
    gathered.close()
    assert (wire.written, wire.closed, gathered.is_closing()) == ([b"last words"], True, True)
    assert gathered.get_extra_info("socket") == "s"
    await anyio.lowlevel.checkpoint()
