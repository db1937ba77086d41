"""Bugs to plant into the shell, and into what it trusts the stores with. The simulation must find each."""

from __future__ import annotations

from planting import Bug

SIM = "tests/sim/test_simulation.py::test_nothing_is_broken_by_faults"

BUGS = [
    Bug(
        "effects go out before they are durable",
        "S4",
        "daemon/controller.py",
        '                await self._parts.failpoints.reach("commit.before")\n',
        "                self._release(prepared.decision, None)\n"
        '                await self._parts.failpoints.reach("commit.before")\n',
        SIM,
    ),
    Bug(
        "callers are answered before it is durable",
        "S2",
        "daemon/controller.py",
        '                await self._parts.failpoints.reach("commit.before")\n',
        "                for index, answer in prepared.decision.answers:\n"
        "                    settle(prepared.entries[index].waiter, answer)\n"
        '                await self._parts.failpoints.reach("commit.before")\n',
        SIM,
    ),
    Bug(
        "idempotency keys are lost at a restart",
        "S2",
        "core/memory.py",
        'if name.startswith("key/")',
        'if name.startswith("no-such-key/")',
        SIM,
    ),
    Bug(
        "launches are not said again after a restart",
        "L6",
        "core/launch.py",
        "        work.effect(make_order(work, attempt))\n",
        "        make_order(work, attempt)\n",
        SIM,
    ),
    Bug(
        "timers are not set again after a restart",
        "L6",
        "core/launch.py",
        "        _say_timers_again(work, live)\n",
        "",
        SIM,
    ),
    Bug(
        "a commit that was refused for now is taken for done",
        "failed",
        "daemon/controller.py",
        '                self._parts.log.warning("the store is away, trying again", reason=error.message)\n',
        "                return\n",
        SIM,
    ),
    Bug(
        "quarantines are not watched again after a restart",
        "L6",
        "core/launch.py",
        "        work.effect(effects.SetTimer(quarantine_timer(node), min(until_at_ms, latest_at_ms)))\n",
        "        pass\n",
        SIM,
    ),
    Bug(
        "the timers of all nodes are one",
        "test_a_node_has_a_timer_of_its_own",
        "core/health.py",
        'return Timer("quarantine", AttemptId(0, node, 0, 0))',
        'return Timer("quarantine", AttemptId(0, node, -1, 0))',
        "tests/daemon/test_daemon_timers.py::test_a_node_has_a_timer_of_its_own",
    ),
]
