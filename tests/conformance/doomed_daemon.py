"""Run as a program by test_runtime_local: launches replicas that wait, says who they are, and waits to be killed.

doomed_daemon.py FOLDER TASK COUNT
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from runtime_worlds import LocalWorld

from ffd.testing.conformance.runtime import attempt_of, launched_waiting, opened


async def main(folder: Path, task: str, count: int) -> None:
    world = LocalWorld(folder)
    async with opened(world) as watched:
        for item in range(count):
            (found,) = await launched_waiting(watched, world, attempt_of(task, item=item))
            print(found.ref, flush=True)
        print("all", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
