"""Every store against the one conformance suite, and against each other with random operations."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

pytest.register_assert_rewrite("ffd.testing.conformance.store")

from ffd.plugins.ports import Store  # noqa: E402
from ffd.plugins.store.memory import MemoryDatabase, MemoryStore  # noqa: E402
from ffd.plugins.store.sqlite import SqliteStore  # noqa: E402
from ffd.testing.conformance.store import CHECKS  # noqa: E402
from ffd.testing.conformance.store_random import Operation, answers, operations  # noqa: E402
from ffd.testing.conformance.store_setup import Check, Opener  # noqa: E402


def memory(directory: Path) -> Opener:
    database = MemoryDatabase()

    async def open_store() -> Store:
        return MemoryStore(database)

    return open_store


def sqlite(directory: Path) -> Opener:
    async def open_store() -> Store:
        return await SqliteStore.open(directory)

    return open_store


STORES = (memory, sqlite)


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.__name__)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(store: Callable[[Path], Opener], check: Check, tmp_path: Path) -> None:
    asyncio.run(check(store(tmp_path)))


@given(operations())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_all_stores_answer_alike(sequence: list[Operation]) -> None:
    told = []
    for store in STORES:
        with tempfile.TemporaryDirectory() as directory:
            told.append(asyncio.run(answers(store(Path(directory)), sequence)))
    assert all(one == told[0] for one in told[1:])
