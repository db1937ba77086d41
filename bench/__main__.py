"""Runs the benches by name and prints one table each."""

from __future__ import annotations

import importlib
import sys

BENCHES = (
    "chain",  # 200 real /bin/true one after the other; need met -> process started
    "fanout",  # 1 -> 1000 -> 1 real processes, 4 at once
    "noop",  # 1 -> 5000 -> 1 no-op tasks on the virtual runtime
    "diamonds",  # 300 diamonds of 4 no-op tasks, submitted at once over gRPC
    "wfinstances",  # 87 real workflow graphs at once, order checked edge by edge
    "big",  # one workflow of 100,000 tasks: accepted, memory, finished
    "recovery",  # kill -9 with 100,000 live tasks; the same with 1,000,000 finished ones in history
    "idle",  # cpu and memory of a daemon with nothing to do
    "flood",  # a task that writes 200 MB/s: loop lag
    "document",  # compile documents, evaluate expressions
    "store",  # commits of one and of many
    "spawn",  # the local runtime alone
)


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no bench {', '.join(unknown)}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    for name in names or BENCHES:
        print(f"== {name}", flush=True)
        importlib.import_module(f"bench.{name}").main()
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
