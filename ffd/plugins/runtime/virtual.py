"""The virtual runtime: simulated nodes, given durations and failures, nothing really runs. For tests, demos, benches
and the simulator; the scheduler above it is the real one.

The cluster is apart from the runtime: a daemon may die and another adopt what the cluster still runs. Time comes from
the event loop, or from whatever clock is handed in. A task says how it behaves through its environment (see
`ffd.plugins.behaviour`). Never here: real processes, randomness.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

import msgspec

from ffd.core.effects import Launch
from ffd.core.model import AttemptId, Node
from ffd.core.reports import AnyReport, InventoryReported, LaunchFailed, ReplicaExited, ReplicaStarted
from ffd.plugins.behaviour import Behaviour, told_by_environment
from ffd.plugins.ports import Credentials, Found, Reports
from ffd.plugins.pretend import parse_pretend

TERM, KILL = 15, 9
Behave = Callable[[Launch, int], Behaviour]


class Running(msgspec.Struct, eq=False):
    """A replica that lives. `end_timer`: when it ends by itself; `kill_timer`: when its grace is over, at `kill_at_ms`
    (0 = nobody stops it)."""

    node: str
    behaviour: Behaviour
    end_timer: Any
    kill_timer: Any = None
    kill_at_ms: float = 0


class Clock(Protocol):
    """Time as the cluster sees it."""

    def now_ms(self) -> int: ...
    def call_later(self, delay_ms: float, call: Callable[[], None]) -> Any: ...


class LoopClock:
    """The running event loop's time (real, or virtual in a simulation)."""

    def now_ms(self) -> int:
        return round(asyncio.get_running_loop().time() * 1000)

    def call_later(self, delay_ms: float, call: Callable[[], None]) -> Any:
        return asyncio.get_running_loop().call_later(delay_ms / 1000, call)


class VirtualCluster:
    """Nodes and what runs on them. Outlives the runtimes that look at it; each of them is told everything."""

    def __init__(
        self, nodes: tuple[Node, ...], behave: Behave = told_by_environment, clock: Clock | None = None
    ) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.clock = clock or LoopClock()
        self.behave = behave
        self.on_start: Callable[[Launch, int], None] | None = (
            None  # told of each real start: the simulation counts them
        )
        self.listeners: list[Callable[[AnyReport], None]] = []
        self._living: dict[tuple[AttemptId, int], Running] = {}
        self._ended: dict[AttemptId, dict[int, ReplicaExited]] = {}  # -> by rank

    def start(self, order: Launch, rank: int) -> None:
        """At most once per (attempt, rank), for all time; says again what is known otherwise."""
        key = (order.attempt, rank)
        if self._said_again(order.attempt, rank):
            return
        if key not in self._living:
            if order.report_only:
                self._end(key, ReplicaExited(order.attempt, rank, kind="node-lost", message="it left no trace"))
                return
            self._run(order, rank)
            return
        self._tell(ReplicaStarted(order.attempt, rank, self.clock.now_ms()))

    def _run(self, order: Launch, rank: int) -> None:
        key, behaviour = (order.attempt, rank), self.behave(order, rank)
        node = order.places[rank].node
        if behaviour.launch_fault:
            self._tell(LaunchFailed(order.attempt, rank, "error", behaviour.launch_fault, self.clock.now_ms()))
            return
        if self.on_start is not None:
            self.on_start(order, rank)
        if node not in self.nodes:
            self._end(key, ReplicaExited(order.attempt, rank, kind="node-lost", message=f"{node} is gone"))
            return
        self._tell(ReplicaStarted(order.attempt, rank, self.clock.now_ms()))
        if behaviour.duration_ms <= 0:
            self._end(key, self._own_exit(order.attempt, rank, behaviour))
            return
        timer = self.clock.call_later(behaviour.duration_ms, lambda: self.finish(order.attempt, rank))
        self._living[key] = Running(node, behaviour, timer)

    def _own_exit(self, attempt: AttemptId, rank: int, behaviour: Behaviour) -> ReplicaExited:
        return ReplicaExited(
            attempt, rank, behaviour.exit_code, outputs=behaviour.outputs, at_ms=self.clock.now_ms(),
            outputs_are_json=behaviour.outputs_are_json,
        )  # fmt: skip

    def finish(self, attempt: AttemptId, rank: int) -> None:
        """A living replica ends by itself, now."""
        self._end((attempt, rank), self._own_exit(attempt, rank, self._living[attempt, rank].behaviour))

    def stop(self, attempt: AttemptId, rank: int, grace_ms: int) -> None:
        """TERM, and KILL when the grace is over; the shortest grace counts."""
        running = self._living.get((attempt, rank))
        if running is None or not running.behaviour.ignores_term or grace_ms <= 0:
            self.kill(attempt, rank, TERM if grace_ms > 0 or running is None else KILL)
            return
        kill_at_ms = self.clock.now_ms() + grace_ms
        if running.kill_at_ms and running.kill_at_ms <= kill_at_ms:
            return
        if running.kill_timer is not None:
            running.kill_timer.cancel()
        running.kill_at_ms = kill_at_ms
        running.kill_timer = self.clock.call_later(grace_ms, lambda: self.kill(attempt, rank, KILL))

    def kill(self, attempt: AttemptId, rank: int, signal: int, kind: str = "", message: str = "") -> None:
        """End a replica now; one that is gone says again how it ended, one that never was says so."""
        key = (attempt, rank)
        if self._said_again(attempt, rank):
            return
        at_ms = self.clock.now_ms()
        self._end(key, ReplicaExited(attempt, rank, signal=signal, kind=kind, message=message, at_ms=at_ms))

    def _end(self, key: tuple[AttemptId, int], exited: ReplicaExited) -> None:
        running = self._living.pop(key, None)
        if running is not None:
            running.end_timer.cancel()
            if running.kill_timer is not None:
                running.kill_timer.cancel()
        self._ended.setdefault(key[0], {})[key[1]] = exited
        self._tell(exited)

    def _said_again(self, attempt: AttemptId, rank: int) -> bool:
        """A replica that has ended says so again; True when it had."""
        exited = self._ended.get(attempt, {}).get(rank)
        if exited is not None:
            self._tell(exited)
        return exited is not None

    def _tell(self, report: AnyReport) -> None:
        for listener in self.listeners:
            listener(report)

    def lose_node(self, name: str) -> None:
        """The node vanishes with all it runs. Its replicas are reported lost; `inventory` no longer has it."""
        self.nodes.pop(name, None)
        for (attempt, rank), running in list(self._living.items()):
            if running.node == name:
                self.kill(attempt, rank, 0, "node-lost", f"{name} is gone")
        self._tell(InventoryReported(self.inventory()))

    def add_node(self, node: Node) -> None:
        """A node comes, or comes back, empty."""
        self.nodes[node.name] = node
        self._tell(InventoryReported(self.inventory()))

    def inventory(self) -> tuple[Node, ...]:
        return tuple(self.nodes[name] for name in sorted(self.nodes))

    def living(self) -> list[Found]:
        return sorted(Found(attempt, rank, running.node) for (attempt, rank), running in self._living.items())

    def ended(self) -> list[ReplicaExited]:
        return [exited for ranks in self._ended.values() for exited in ranks.values()]

    def forget(self, attempts: Sequence[AttemptId]) -> None:
        for attempt in attempts:
            self._ended.pop(attempt, None)


class VirtualRuntime:
    """The Runtime over a VirtualCluster; without one it makes its own of `pretend` nodes (one node with a thousand
    slots when nothing is said)."""

    def __init__(self, cluster: VirtualCluster | None = None, pretend: str = "") -> None:
        nodes = parse_pretend(pretend) if pretend else (Node("virtual", cpu_millis=1_000_000, slot_count=1000),)
        self.cluster = cluster or VirtualCluster(nodes)
        self.cluster.listeners.append(self._hear)
        self._reports: list[AnyReport] = []
        self._some = asyncio.Event()

    def _hear(self, report: AnyReport) -> None:
        self._reports.append(report)
        self._some.set()

    async def launch(self, order: Launch, credentials: Credentials) -> None:
        for rank in range(len(order.places)):
            self.cluster.start(order, rank)

    async def stop(self, attempt: AttemptId, ranks: int, grace_ms: int, reason: str) -> None:
        """A virtual task ends at the TERM, unless it is made to ignore it."""
        for rank in range(ranks):
            self.cluster.stop(attempt, rank, grace_ms)

    async def list(self) -> list[Found]:
        for exited in self.cluster.ended():
            self._hear(exited)
        return self.cluster.living()

    async def watch(self) -> AsyncIterator[Reports]:
        while True:
            await self._some.wait()
            self._some.clear()
            reports, self._reports = self._reports, []
            yield reports

    async def inventory(self) -> tuple[Node, ...]:
        return self.cluster.inventory()

    async def forget(self, attempts: Sequence[AttemptId]) -> None:
        self.cluster.forget(attempts)

    async def close(self) -> None:
        if self._hear in self.cluster.listeners:
            self.cluster.listeners.remove(self._hear)
