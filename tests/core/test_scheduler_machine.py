"""The scheduler under random tenants, quotas, gangs, priorities, nodes and operators, on a small cluster in time.

Each step is held against all invariants of states (`core.invariants`) and of histories (the ledger: S6, S8, S9, S17);
here, in addition, that nobody is stopped uselessly (L7) and that in the end everything drains (L6, L8).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from scheduler_strategies import NODES, PROJECTS, TENANTS, behave, gang_specs, policies, quotas, tenants

from ffd.core import events as ev
from ffd.core import reports as rp
from ffd.core.admit.order import head_of, path_of
from ffd.core.cluster_views import queue_pages
from ffd.core.commands import (
    Accepted,
    Cancel,
    Cordon,
    Drain,
    Resume,
    SetPriority,
    SetQuota,
    SetTenant,
    Suspend,
    Uncordon,
)
from ffd.core.kinds import Lane
from ffd.core.limits import Limits
from ffd.core.model import AttemptId, Node
from ffd.core.policy import Policy
from ffd.core.spec import Spec
from ffd.testing.builders import submit
from ffd.testing.cluster import Cluster

PHASES = [Phase.explicit, Phase.generate]  # a found history is told as it is: shrinking takes minutes here
LIMITS = Limits(stop_grace_ms=2_000)
PREEMPTIONS_MOST = 60  # in one history that is left alone: a dozen gangs, each made way for a few others


class Promise(NamedTuple):
    """Victims were told to stop for the head of this lane, which then goes to these nodes, when the outside had changed
    so often."""

    lane: Lane
    change: int
    nodes: frozenset[str]


class Watched(Cluster):
    """A cluster that holds each preemption against its purpose: when all its victims have ended, a gang of the lane
    that they were stopped for is admitted at once; unless the outside changed meanwhile, or one of them was admitted
    before, to what was free by then of the room that was being made."""

    def __init__(self, policy: Policy) -> None:
        self.promises: dict[tuple[AttemptId, ...], Promise] = {}
        self.change = 0  # counts what may let a plan come to nothing
        super().__init__(NODES, behave, limits=LIMITS, policy=policy)

    def send(self, *inputs: Any) -> Any:
        told = len(self.story)
        before = dict(self.promises)
        answers = super().send(*inputs)
        # (a mere forecast may wait for the end of just the same: that is no promise any more)
        promised = {found.counts_on for found in self.state.reservations.values() if found.victims}
        for awaited, promise in before.items():
            is_over = not any(map(self.state.is_live, awaited))
            if is_over or awaited not in promised:
                del self.promises[awaited]
                if promise.change == self.change and not self._is_kept(promise, told, is_over=is_over):
                    raise AssertionError("\n".join([f"L7 {awaited} were stopped in vain", *self.lines()]))
        for found in self.state.reservations.values():
            if found.victims:
                nodes = frozenset(place.node for place in found.places)
                self.promises.setdefault(found.counts_on, Promise(found.lane, self.change, nodes))
        return answers

    def _is_kept(self, promise: Promise, told: int, *, is_over: bool) -> bool:
        """Nobody of the lane waits any more, or one of them was admitted since: before the end only to some of the room
        that is being made, or of the quota. (What follows another task may have to go elsewhere by now.)"""
        lane, shape = promise.lane, promise.lane.kind.shape
        if shape.follows or not any(self.state.is_eligible(entry, lane) for entry in lane.entries()):
            return True
        for _, event in self.story[told:]:
            if isinstance(event, ev.ItemAdmitted):
                live = self.state.workflows.get(event.attempt.workflow)
                if live is None or live.row.project != lane.project:
                    continue
                task = live.dag.tasks[event.attempt.task]
                is_there = is_over or live.tenant.has_quota or any(one.node in promise.nodes for one in event.places)
                if (task.resources, task.gang) == (shape.ask, shape.gang) and is_there:
                    return True
        return False

    def restart(self) -> None:
        self.promises = {}  # what was planned is not stored
        super().restart()


class Scheduler(RuleBasedStateMachine):
    cluster: Watched

    @initialize(policy=policies(), given=st.lists(quotas(), max_size=4), weight=st.sampled_from((500, 1_000, 4_000)))
    def begins(self, policy: Policy, given: list[SetQuota], weight: int) -> None:
        self.cluster = Watched(policy)
        self.cluster.send(*given, SetTenant(tenant="a", weight_millis=weight))

    def changed(self, *inputs: Any) -> None:
        """The outside does something that may let a plan come to nothing."""
        self.cluster.change += 1
        self.cluster.send(*inputs)

    def workflow(self, data: Any) -> int:
        return data.draw(st.sampled_from(list(self.cluster.state.workflows)))

    # ------------------------------------------------------------------------------------------------------- users

    @rule(
        document=gang_specs(), project=st.sampled_from(PROJECTS), priority=st.sampled_from((300, 500, 500, 800)),
        count=st.sampled_from((1, 1, 3)),
    )  # fmt: skip
    def submits(self, document: Spec, project: str, priority: int, count: int) -> None:
        if len(self.cluster.state.workflows) < 12:
            one = submit(document, project=project, priority=priority)
            answers = self.cluster.send(*[one] * count)
            assert all(isinstance(answer, Accepted) or not self.is_open(project) for answer in answers), answers

    def is_open(self, project: str) -> bool:
        return self.cluster.state.tenancy.tenant(project).is_open

    @precondition(lambda self: self.cluster.state.workflows)
    @rule(data=st.data(), how=st.sampled_from((Cancel, Suspend, Resume, Resume, SetPriority)))
    def meddles(self, data: Any, how: Any) -> None:
        fields = {"priority": data.draw(st.sampled_from((200, 500, 900)))} if how is SetPriority else {}
        self.changed(how(workflow=self.workflow(data), **fields))

    # --------------------------------------------------------------------------------------------------- operators

    @rule(command=quotas())
    def sets_quota(self, command: SetQuota) -> None:
        self.changed(command)

    @rule(command=tenants())
    def sets_tenant(self, command: SetTenant) -> None:
        self.changed(command)

    @rule(how=st.sampled_from((Cordon, Drain, Uncordon, Uncordon)), node=st.sampled_from(NODES))
    def looks_after_nodes(self, how: Any, node: Node) -> None:
        self.changed(how(nodes=(node.name,)))

    @rule(node=st.sampled_from(NODES), is_back=st.booleans())
    def weather(self, node: Node, is_back: bool) -> None:
        self.cluster.change += 1
        if not is_back:
            self.cluster.lose(node.name)
        self.cluster.send(rp.InventoryReported(NODES if is_back else self.cluster.state.nodes))

    # -------------------------------------------------------------------------------------------------------- time

    @rule(ms=st.sampled_from((100, 1_000, 5_000, 30_000)))
    def goes_on(self, ms: int) -> None:
        self.cluster.run(ms)

    @rule()
    def restarts(self) -> None:
        self.cluster.restart()

    # ------------------------------------------------------------------------------------------------------ the queue

    @invariant()
    def the_queue_is_in_order(self) -> None:
        """Walked lazily, the order is the same as of all lanes sorted."""
        if not hasattr(self, "cluster"):
            return
        state = self.cluster.state
        heads = ((lane, head_of(state, lane)) for lane in state.lanes.lanes.values())
        wanted = sorted((path_of(state, lane.branch), head.urgency[1:3]) for lane, head in heads if head is not None)
        assert [page.head for page in queue_pages(state)] == [
            f"{state.workflows[entry[1]].row.handle}/{state.workflows[entry[1]].dag.names[entry[3]]}[{entry[4]}]"
            for _, (_, entry) in wanted
        ]

    # ------------------------------------------------------------------------------------------------------ the end

    def teardown(self) -> None:
        if hasattr(self, "cluster") and not self.cluster.is_broken:
            self.drain()

    def drain(self) -> None:
        """All is opened; what is guaranteed stays, so lent capacity still comes back. Everything ends (L6, L8), and
        not by stopping each other for ever (L7)."""
        cluster, tenancy = self.cluster, self.cluster.state.tenancy
        self.changed(rp.InventoryReported(NODES), Uncordon(nodes=tuple(node.name for node in NODES)))
        unbound = {"borrow_max": None, "lend_max": None}
        for tenant in TENANTS:
            names = tenancy.tenant(tenant).row.quotas
            self.changed(
                SetTenant(tenant=tenant, enabled=True), SetQuota(tenant=tenant, changes=dict.fromkeys(names, unbound))
            )
        self.changed(*[Resume(workflow=workflow) for workflow in cluster.state.workflows])
        told = len(cluster.story)
        cluster.run()
        assert not cluster.state.workflows, "\n".join(["L6 they never end", *cluster.lines()])
        stopped = [event for _, event in cluster.story[told:] if isinstance(event, ev.AttemptStopping)]
        preempted = sum(event.cause.kind == "preempted" for event in stopped)
        assert preempted <= PREEMPTIONS_MOST, f"L7 {preempted} preemptions without any change outside"


def test_the_scheduler_under_random_histories() -> None:
    run_state_machine_as_test(
        Scheduler,
        settings=settings(
            max_examples=100, stateful_step_count=30, deadline=None, derandomize=True, print_blob=True, phases=PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


@pytest.mark.slow
def test_the_scheduler_under_many_random_histories() -> None:
    run_state_machine_as_test(
        Scheduler,
        settings=settings(
            max_examples=2_000, stateful_step_count=50, deadline=None, print_blob=True, phases=PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
