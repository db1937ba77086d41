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
    "scheduling",  # the eight yardsticks of the scheduler; `scheduling 3 4`: some of them
    "scale",  # the scheduler at 10,000 nodes, with up to 1,000,000 gangs waiting
    "day",  # 30,000 workflows on 1,000 nodes in virtual time, by three policies; `day 10`: a tenth of it
)


def main(words: list[str]) -> int:
    """Words are names of benches; a number belongs to the bench before it."""
    runs: list[tuple[str, list[str]]] = []
    for word in words or BENCHES:
        if word.isdecimal() and runs:
            runs[-1][1].append(word)
        else:
            runs.append((word, []))
    unknown = [name for name, _ in runs if name not in BENCHES]
    if unknown:
        print(f"no bench {', '.join(unknown)}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    for name, numbers in runs:
        print(f"== {name}", flush=True)
        importlib.import_module(f"bench.{name}").main(*numbers)
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
