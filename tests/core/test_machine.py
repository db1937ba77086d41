"""The core under random documents, commands and reports: out of order, twice, late, of stale attempts, across restarts.

The machine plays the outside truthfully: each replica is born at most once and has one exit, whatever is told of it and
however often. After each step all invariants are checked; at the end everything is let go and must drain (L6).
"""

from __future__ import annotations

import os
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from core_strategies import INVENTORY, inventories, specs
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ffd.core import effects as ef
from ffd.core import reports as rp
from ffd.core.commands import (
    Accepted,
    Cancel,
    Cordon,
    Done,
    Drain,
    NodesMarked,
    Resume,
    Retry,
    SetPriority,
    SetQuota,
    SetTenant,
    Suspend,
    TenantSet,
    Uncordon,
)
from ffd.core.decision import Decision
from ffd.core.invariants import check
from ffd.core.limits import Limits
from ffd.core.model import AttemptId, Timer
from ffd.core.policy import Policy
from ffd.core.spec import Spec
from ffd.core.state import State
from ffd.core.step import step
from ffd.errors import FfdError
from ffd.testing.builders import submit
from ffd.testing.ledger import Ledger

LIMITS = Limits(
    live_workflows_count=4, infrastructure_retries_count=2, fanout_items_count=6, idempotency_keys_count=5,
    cycle_work_count=4, output_bytes=200,
)  # fmt: skip
POLICY = Policy(quarantine_failures_count=2, quarantine_window_ms=10_000, quarantine_ms=2_000, quarantine_max_ms=5_000)
PROJECTS = ("default", "default", "t/a", "t/b", "u")
TENANTS = ("", "t", "t/a", "u", "v")
AMOUNT = st.integers(0, 5)
Replica = tuple[AttemptId, int]


EXITS: dict[str, Any] = {
    "good": lambda a, rank: rp.ReplicaExited(a, rank, exit_code=0, outputs=(("x", "7"),)),
    "no output": lambda a, rank: rp.ReplicaExited(a, rank, exit_code=0),
    "bad output": lambda a, rank: rp.ReplicaExited(a, rank, exit_code=0, outputs=(("x", "seven"),)),
    "code 1": lambda a, rank: rp.ReplicaExited(a, rank, exit_code=1, tail="boom"),
    "code 3": lambda a, rank: rp.ReplicaExited(a, rank, exit_code=3),
    "killed": lambda a, rank: rp.ReplicaExited(a, rank, signal=9),
    "node-lost": lambda a, rank: rp.ReplicaExited(a, rank, kind="node-lost"),
    "gpu-error": lambda a, rank: rp.ReplicaExited(a, rank, kind="gpu-error"),
}


class World:
    """Controller, store and runtime in one, as truthful as the real ones. `facts` are reports that are true and may be
    told at any time, any number of times."""

    def __init__(self) -> None:
        self.is_broken = False
        self.state = State(LIMITS, POLICY)
        self.ledger = Ledger(LIMITS)
        self.now_ms = 1_000
        self.pending: list[Any] = []  # inputs of the next step
        self.wanted: dict[Replica, bool] = {}  # ordered, not yet born; True = told to stop
        self.living: dict[Replica, bool] = {}  # born, not ended; True = told to stop
        self.ends: dict[Replica, rp.AnyReport] = {}  # ended (or never to be born): its one exit
        self.facts: list[rp.AnyReport] = []
        self.timers: dict[Timer, int] = {}
        self.old_timers: list[Timer] = []
        self.answers: list[Any] = []
        self.keys: dict[tuple[str, str], tuple[Any, Any]] = {}  # (verb, key) -> command, answer

    def ended(self) -> list[int]:
        return [workflow for workflow, is_live in self.ledger.live.items() if not is_live]

    # ------------------------------------------------------------------------------------------------------- the step

    def give(self, *inputs: Any, is_last: bool = True) -> None:
        self.pending += inputs
        if is_last and self.pending:
            self.flush()

    def flush(self) -> None:
        inputs, self.pending = self.pending, []
        self.is_broken = True  # unless it returns
        decision = step(self.state, inputs, self.now_ms)
        self.is_broken = False
        self.hold([*self.ledger.record(decision, self.now_ms), *check(self.state)])
        self.perform(decision)
        for index, answer in decision.answers:
            self.hear(inputs[index], answer)

    def hold(self, faults: list[str]) -> None:
        self.is_broken = self.is_broken or bool(faults)
        assert not faults, "\n".join(faults)

    def hear(self, given: Any, answer: Any) -> None:
        """S2: one key, one effect, one answer."""
        assert answer is None or isinstance(answer, Accepted | Done | NodesMarked | TenantSet | FfdError), answer
        key = getattr(given, "key", "")
        if not key or isinstance(answer, FfdError):
            return
        verb = (type(given).__name__, key)
        if verb in self.keys and answer.duplicate:
            first, told = self.keys[verb]
            assert given.payload_digest == first.payload_digest, "S2 one key for two commands"
            if not isinstance(answer, NodesMarked):  # which nodes have a label may be another matter by now
                assert answer.workflow == told.workflow, "S2 another answer"
        assert answer.duplicate or verb not in self.keys or len(self.state.keys) >= LIMITS.idempotency_keys_count, (
            f"S2 {verb} had its effect twice"
        )
        self.keys[verb] = (given, answer)

    def perform(self, decision: Decision) -> None:
        for effect in decision.effects:
            match effect:
                case ef.Launch():
                    self.launch(effect)
                case ef.Stop():
                    self.stop(effect)
                case ef.SetTimer():
                    self.timers[effect.timer] = effect.at_ms
                case ef.ClearTimers():
                    self.drop_timers([timer for timer in self.timers if timer.attempt == effect.attempt])
                case ef.Forget():
                    mine = [timer for timer in self.timers if timer.attempt.workflow == effect.workflow]
                    self.drop_timers(mine)
                case ef.Again():
                    self.pending.append(rp.Poke())

    def drop_timers(self, timers: list[Timer]) -> None:
        for timer in timers:
            del self.timers[timer]
            self.old_timers.append(timer)  # it may be firing at this very moment

    def launch(self, order: ef.Launch) -> None:
        a = order.attempt
        before = [
            (other, rank)
            for other, rank in (*self.living, *self.wanted)
            if (other.workflow, other.task, other.item) == (a.workflow, a.task, a.item) and other != a
        ]
        assert not before, f"S3 {a.label()} is launched while {before} may live"
        for rank in range(len(order.places)):
            name = (a, rank)
            if name in self.ends:
                self.facts.append(self.ends[name])
            elif name in self.living:
                self.facts.append(rp.ReplicaStarted(a, rank))
            elif order.report_only:
                if name not in self.wanted:
                    self.end(name, rp.ReplicaExited(a, rank, kind="node-lost", message="left no trace"))
            else:
                self.wanted.setdefault(name, False)

    def stop(self, effect: ef.Stop) -> None:
        for rank in range(effect.ranks):
            name = (effect.attempt, rank)
            if name in self.ends:
                self.facts.append(self.ends[name])
            elif name in self.living:
                self.living[name] = True
            else:
                self.wanted.pop(name, None)
                self.end(name, rp.ReplicaExited(effect.attempt, rank, message="never started"))

    # ------------------------------------------------------------------------------------------- the runtime's truth

    def born(self, name: Replica) -> rp.AnyReport:
        del self.wanted[name]
        self.living[name] = False
        report = rp.ReplicaStarted(*name)
        self.facts.append(report)
        return report

    def end(self, name: Replica, report: rp.AnyReport) -> rp.AnyReport:
        assert name not in self.ends
        self.wanted.pop(name, None)
        self.living.pop(name, None)
        self.ends[name] = report
        self.facts.append(report)
        return report

    def restart(self) -> None:
        """What was not durable is forgotten; what is stored is what memory was (S22)."""
        self.hold(self.ledger.compare(self.state))
        self.pending = []
        self.state = State.load(self.ledger.loadable(), LIMITS, POLICY)
        self.drop_timers(list(self.timers))
        self.hold(check(self.state))
        # some launches of the dead leader were never carried out: their replicas are wanted by nobody
        self.wanted = {}
        self.give(rp.InventoryReported(self.state.nodes), rp.Recovered(tuple(sorted(self.living))))

    # ------------------------------------------------------------------------------------------------------- the end

    def drain(self) -> None:
        """Faults cease: all that was done is told, all that waits is let go. Everything ends, and memory is free."""
        self.give(rp.InventoryReported(INVENTORY))
        cordoned = tuple(name for name, mark in self.state.health.marks.items() if mark.cordoned)
        self.give(Uncordon(nodes=cordoned))  # quarantines end by themselves
        for path, node in list(self.state.tenancy.nodes.items()):
            if node.declared:
                self.give(SetTenant(tenant=path, enabled=True), SetQuota(tenant=path, changes={}, replace=True))
        for _ in range(600):
            if not self.state.workflows:
                break
            for live in list(self.state.workflows.values()):
                if live.row.state == "suspended":
                    self.give(Resume(workflow=live.row.id), is_last=False)
            self.give(*self.facts[-200:], rp.Poke())
            for name in list(self.wanted):
                self.born(name)
            for name in list(self.living):
                self.end(name, rp.ReplicaExited(*name, exit_code=0, outputs=(("x", "1"),)))
            if self.timers:
                timer = min(self.timers, key=lambda timer: (self.timers[timer], timer))
                self.now_ms = max(self.now_ms, self.timers.pop(timer))
                self.give(rp.TimerFired(timer))
        left = [live.row.handle for live in self.state.workflows.values()]
        assert not left, f"L6 {left} never end"
        memory = (len(self.state.dags), self.state.item_count, self.state.reserved_count)
        assert memory == (0, 0, 0), f"S7 nothing is live, and memory holds {memory}"
        held = {path: node.usage for path, node in self.state.tenancy.nodes.items() if node.usage}
        assert not held, f"S7 nothing is live, and tenants hold {held}"


class Core(RuleBasedStateMachine):
    workflows = Bundle("workflows")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.give(rp.InventoryReported(INVENTORY))

    # ------------------------------------------------------------------------------------------------------- commands

    @rule(
        target=workflows, spec=specs(), key=st.sampled_from(("", "", "k1", "k2")), project=st.sampled_from(PROJECTS),
        is_last=st.booleans(),
    )  # fmt: skip
    def submits(self, spec: Spec, key: str, project: str, is_last: bool) -> Any:
        command = submit(spec, key=key, by="ann", project="default" if key else project)
        command = msgspec.structs.replace(command, payload_digest=command.spec_digest)
        self.world.give(command, is_last=is_last)
        return self.world.state.next_workflow - 1 if is_last else multiple()

    @rule(workflow=workflows, now=st.booleans(), key=st.sampled_from(("", "k1")), is_last=st.booleans())
    def cancels(self, workflow: int, now: bool, key: str, is_last: bool) -> None:
        digest = f"{workflow} {now}"
        self.world.give(Cancel(workflow=workflow, now=now, by="ann", key=key, payload_digest=digest), is_last=is_last)

    @rule(
        workflow=workflows,
        how=st.sampled_from((Suspend, Resume, SetPriority)),
        priority=st.sampled_from((400, 500, 600)),
        is_last=st.booleans(),
    )
    def meddles(self, workflow: int, how: Any, priority: int, is_last: bool) -> None:
        fields = {"priority": priority} if how is SetPriority else {}
        self.world.give(how(workflow=workflow, **fields), is_last=is_last)

    @precondition(lambda self: self.world.ended())
    @rule(data=st.data(), key=st.sampled_from(("", "k3")))
    def retries(self, data: Any, key: str) -> None:
        workflow = data.draw(st.sampled_from(self.world.ended()))
        rows = self.world.ledger.rows_of(workflow)
        self.world.give(Retry(workflow=workflow, rows=rows, key=key, payload_digest=str(workflow)))

    @rule(
        how=st.sampled_from((Cordon, Uncordon, Uncordon, Drain)),
        nodes=st.lists(st.sampled_from(("n0", "n1", "n2", "n3", "n9")), max_size=2, unique=True),
        rack=st.sampled_from(("", "", "red", "green")),
        grace_ms=st.sampled_from((None, 0, 100)),
        key=st.sampled_from(("", "", "k5")),
        is_last=st.booleans(),
    )
    def looks_after_nodes(self, how: Any, nodes: Any, rack: str, grace_ms: Any, key: str, is_last: bool) -> None:
        more = {"grace_ms": grace_ms} if how is Drain else {}
        labels, digest = ({"rack": rack} if rack else {}), f"{nodes} {rack} {grace_ms}"
        command = how(nodes=tuple(nodes), labels=labels, by="ann", key=key, payload_digest=digest, **more)
        self.world.give(command, is_last=is_last)

    @rule(
        tenant=st.sampled_from(TENANTS), enabled=st.sampled_from((None, True, True, False)),
        parent=st.sampled_from((None, None, *TENANTS)), is_last=st.booleans(),
    )  # fmt: skip
    def changes_a_tenant(self, tenant: str, enabled: bool | None, parent: str | None, is_last: bool) -> None:
        self.world.give(SetTenant(tenant=tenant, enabled=enabled, parent=parent, by="ann"), is_last=is_last)

    @rule(
        tenant=st.sampled_from(TENANTS), resource=st.sampled_from(("pods", "gpus", "gpus/H100", "workflows")),
        quota=st.none() | st.fixed_dictionaries(
            {"nominal": AMOUNT}, optional={"borrow_max": st.none() | AMOUNT, "lend_max": st.none() | AMOUNT}
        ),
        is_last=st.booleans(),
    )  # fmt: skip
    def changes_a_quota(self, tenant: str, resource: str, quota: Any, is_last: bool) -> None:
        scale = 1_000 if resource.startswith("gpus") else 1
        fields = quota and {name: value and value * scale for name, value in quota.items()}
        self.world.give(SetQuota(tenant=tenant, changes={resource: fields}, by="ann"), is_last=is_last)

    @rule(workflow=workflows)
    def retries_at_random(self, workflow: int) -> None:
        self.world.give(Retry(workflow=workflow))

    # ------------------------------------------------------------------------------------------------------- the world

    @precondition(lambda self: self.world.wanted)
    @rule(data=st.data(), is_told=st.booleans(), is_last=st.booleans())
    def is_born(self, data: Any, is_told: bool, is_last: bool) -> None:
        name = data.draw(st.sampled_from(list(self.world.wanted)))
        report = self.world.born(name)
        if is_told:
            self.world.give(report, is_last=is_last)

    @precondition(lambda self: self.world.wanted or self.world.living)
    @rule(data=st.data(), count=st.integers(1, 8))
    def life_goes_on(self, data: Any, count: int) -> None:
        """What mostly happens: replicas are born, run and end, and that is told at once."""
        for _ in range(count):
            if self.world.wanted:
                self.world.give(self.world.born(next(iter(self.world.wanted))))
            elif self.world.living:
                name = next(iter(self.world.living))
                how = data.draw(st.sampled_from(("good", "good", "good", "good", *EXITS)))
                self.world.give(self.world.end(name, EXITS[how](*name)))

    @precondition(lambda self: self.world.wanted)
    @rule(data=st.data(), kind=st.sampled_from(("launch", "image-pull", "error")), is_told=st.booleans())
    def cannot_start(self, data: Any, kind: Any, is_told: bool) -> None:
        name = data.draw(st.sampled_from(list(self.world.wanted)))
        report = self.world.end(name, rp.LaunchFailed(*name, kind, "no"))
        if is_told:
            self.world.give(report)

    @precondition(lambda self: self.world.living)
    @rule(
        data=st.data(),
        how=st.sampled_from(
            ("good", "good", "good", "no output", "bad output", "code 1", "code 3", "killed", "node-lost", "gpu-error")
        ),
        is_told=st.booleans(),
        is_last=st.booleans(),
    )
    def exits(self, data: Any, how: str, is_told: bool, is_last: bool) -> None:
        name = data.draw(st.sampled_from(list(self.world.living)))
        report = self.world.end(name, EXITS[how](*name))
        if is_told:
            self.world.give(report, is_last=is_last)

    @precondition(lambda self: self.world.facts)
    @rule(data=st.data(), is_last=st.booleans())
    def tells(self, data: Any, is_last: bool) -> None:
        """Any fact: for the first time, again, or long after it mattered."""
        facts = self.world.facts
        which = data.draw(st.integers(0, min(len(facts), 30) - 1))
        self.world.give(facts[-1 - which], is_last=is_last)

    @precondition(lambda self: self.world.timers)
    @rule(late_ms=st.sampled_from((0, 0, 10_000)), is_last=st.booleans())
    def next_timer_fires(self, late_ms: int, is_last: bool) -> None:
        world = self.world
        timer = min(world.timers, key=lambda timer: (world.timers[timer], timer))
        world.now_ms = max(world.now_ms, world.timers[timer]) + late_ms
        world.drop_timers([timer])
        world.give(rp.TimerFired(timer), is_last=is_last)

    @precondition(lambda self: self.world.old_timers)
    @rule(data=st.data())
    def old_timer_fires(self, data: Any) -> None:
        self.world.give(rp.TimerFired(data.draw(st.sampled_from(self.world.old_timers[-20:]))))

    @rule(ms=st.sampled_from((1, 50, 1_000, -500)), nodes=st.none() | inventories())
    def weather(self, ms: int, nodes: Any) -> None:
        """The clock moves, also back (S18); machines come and go."""
        self.world.now_ms = max(1, self.world.now_ms + ms)
        if nodes is not None:
            self.world.give(rp.InventoryReported(nodes))

    @precondition(lambda self: self.world.living or self.world.ends)
    @rule(data=st.data(), value=st.sampled_from((1, 2, "wrong", 10**30)), name=st.sampled_from(("x", "y")))
    def sets_output(self, data: Any, value: Any, name: str) -> None:
        attempt, _ = data.draw(st.sampled_from([*self.world.living, *self.world.ends][-20:]))
        self.world.give(rp.OutputsReported(attempt, {name: value}))

    @precondition(lambda self: self.world.living or self.world.ends)
    @rule(data=st.data(), value=st.integers(0, 9))
    def saves_checkpoint(self, data: Any, value: int) -> None:
        attempt, _ = data.draw(st.sampled_from([*self.world.living, *self.world.ends][-20:]))
        self.world.give(rp.CheckpointReported(attempt, {"step": value}))

    @rule(data=st.data(), is_reboot=st.booleans())
    def restarts(self, data: Any, is_reboot: bool) -> None:
        """The controller is killed; with the machines of some replicas, or without."""
        if is_reboot and self.world.living:
            for name in data.draw(st.lists(st.sampled_from(list(self.world.living)), unique=True)):
                self.world.end(name, rp.ReplicaExited(*name, kind="node-lost", message="left no trace"))
        self.world.restart()

    def teardown(self) -> None:
        if not self.world.is_broken:
            self.world.give()
            self.world.drain()
            self.world.hold(self.world.ledger.compare(self.world.state))


def test_core_under_random_histories() -> None:
    """The same histories in every run. With a planted bug it is enough that it is found: the example is not shrunk."""
    phases = [Phase.explicit, Phase.generate] if os.environ.get("FFD_PLANTED") else list(Phase)
    run_state_machine_as_test(
        Core,
        settings=settings(
            max_examples=120, stateful_step_count=60, deadline=None, derandomize=True, print_blob=True, phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


@pytest.mark.slow
def test_core_under_many_random_histories() -> None:
    run_state_machine_as_test(
        Core,
        settings=settings(
            max_examples=1_500, stateful_step_count=100, deadline=None, print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
