"""A process with a store, to be killed and frozen: `store_child.py DIRECTORY MODE [SITE NUMBER]`. Tells each step.

loop          lead, then commit for ever; one line per acknowledged commit
die SITE N    the same, but kill -9 itself when commit N reaches SITE
hold          lead, with a child of its own; then one commit per line on stdin, telling what came of it
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

from ffd.errors import FfdError
from ffd.plugins.ports import Lease
from ffd.plugins.store.sqlite import SqliteStore
from ffd.testing.conformance.store_setup import accepted, added, batch, inventory, progress

TTL_MS = 1_000


def say(text: str) -> None:
    print(text, flush=True)


async def main(directory: str, mode: str, site: str = "", number: str = "0") -> None:
    current = 0

    def probe(reached: str) -> None:
        if reached == site and current == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    store = await SqliteStore.open(directory, probe=probe)
    lease = await store.hold(f"child-{os.getpid()}", "", TTL_MS, 0)
    assert isinstance(lease, Lease)
    say(f"leading {lease.epoch}")
    current = (await store.head()).number
    if mode == "hold":
        if site:
            subprocess.Popen(["cat"], stdin=int(site), close_fds=False)  # lives until the other end is closed
        await obey(store, lease)
    while True:
        current += 1
        parts = (added("a"), accepted(current), progress(current, "train", range(50)), inventory(f"n{current}"))
        await store.commit(batch(lease.epoch, current, *parts))
        say(str(current))


async def obey(store: SqliteStore, lease: Lease) -> None:
    while await asyncio.to_thread(sys.stdin.readline):
        number = (await store.head()).number + 1
        try:
            await store.commit(batch(lease.epoch, number, added("a"), accepted(number)))
        except FfdError as error:
            say(type(error).__name__)
        else:
            say(f"committed {number}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
