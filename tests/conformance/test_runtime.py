"""Every runtime against the one conformance suite."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from runtime_worlds import LocalWorld, VirtualWorld

from ffd.testing.conformance.runtime import CHECKS, Check, World

WORLDS = (LocalWorld, VirtualWorld)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(world: Callable[[Path], World], check: Check, tmp_path: Path) -> None:
    asyncio.run(check(world(tmp_path)))
