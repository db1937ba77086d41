"""Two properties of planning: what is proposed can be applied, in its order; and nothing depends on the hash seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from core_strategies import INVENTORY, inventories, specs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scheduler_strategies import NODES, PROJECTS, gang_specs, policies, quotas, tenants

from ffd.core import events as ev
from ffd.core.invariants import check
from ffd.core.model import Cause, Node
from ffd.core.policy import Policy
from ffd.core.reports import InventoryReported, ReplicaExited
from ffd.core.schedule.cycle import Cycle, plan, verify
from ffd.core.schedule.reserve import Reservation, promise
from ffd.core.spec import Spec
from ffd.core.state import State
from ffd.core.step import step
from ffd.testing.builders import gpus, nodes, spec, submit, task
from ffd.testing.cluster import Behaviour, Cluster

SCENARIO = Path(__file__).parent / "hash_seed_scenario.py"


@settings(max_examples=150, deadline=None, derandomize=True, print_blob=True, suppress_health_check=list(HealthCheck))
@given(
    first=st.lists(specs(), max_size=2),
    then=st.lists(specs(), min_size=1, max_size=3),
    there=inventories(),
    now_ms=st.sampled_from((1, 600)),
)
def test_a_plan_can_be_applied(first: list[Spec], then: list[Spec], there: tuple[Node, ...], now_ms: int) -> None:
    """`verify(plan(state), state)` always holds, so planner and applier never livelock."""
    state = State()
    step(state, [InventoryReported(INVENTORY), *map(submit, first)], 1)  # some room is taken
    step(state, [InventoryReported(())], 1)
    step(state, [submit(one) for one in then], 1)  # these wait
    state.apply(ev.NodesChanged(there), 1)
    cycle, seen = Cycle(state, now_ms), set()
    while (proposal := cycle.next()) is not None:
        assert proposal.attempt not in seen, "proposed twice"
        seen.add(proposal.attempt)
        assert verify(state, proposal), f"{proposal} cannot be applied"
        if proposal.promise is not None:
            _stop_for(state, proposal.promise, now_ms)
            continue
        gpus = [(place.node, gpu) for place in proposal.places for gpu in place.gpus]
        assert len(set(gpus)) == len(gpus), f"{proposal} gives one GPU to two replicas"
        state.apply(ev.ItemAdmitted(proposal.attempt, proposal.places), now_ms)
    faults = [fault for fault in check(state) if not fault.startswith(("S9", "L2"))]  # the step is not over yet
    assert not faults, "\n".join(faults)
    assert cycle.is_done and not any(space.slots < 0 for space in state.space.nodes.values() if _is_whole(space.node))


@settings(max_examples=60, deadline=None, derandomize=True, print_blob=True, suppress_health_check=list(HealthCheck))
@given(
    rules=st.lists(quotas() | tenants(), max_size=6),
    first=st.lists(st.tuples(gang_specs(), st.sampled_from(PROJECTS)), max_size=5),
    then=st.lists(st.tuples(gang_specs(), st.sampled_from(PROJECTS)), min_size=1, max_size=5),
    policy=policies(),
)
def test_a_plan_under_quotas_can_be_applied_and_leaves_no_trace(
    rules: list[Any], first: list[tuple[Spec, str]], then: list[tuple[Spec, str]], policy: Policy
) -> None:
    """With tenants, reservations, victims: the books are the same before and after each plan, byte by byte."""
    state = State(policy=policy)
    step(state, [InventoryReported(NODES), *rules], 1)
    step(state, [submit(one, project=project, priority=300) for one, project in first], 1)
    now_ms = 2
    for one, project in then:
        command = submit(one, project=project, priority=700)
        state.apply(ev.NodesChanged(()), now_ms)
        step(state, [command], now_ms)  # it waits
        state.apply(ev.NodesChanged(NODES), now_ms)
        before = _books(state)
        cycle, now_ms = Cycle(state, now_ms), now_ms + 1_000
        while (proposal := cycle.next()) is not None:
            assert verify(state, proposal), f"{proposal} cannot be applied"
            assert before == _books(state), "a plan left a trace"
            if proposal.promise is not None:
                _stop_for(state, proposal.promise, now_ms)
            else:
                state.apply(ev.ItemAdmitted(proposal.attempt, proposal.places), now_ms)
                state.apply(ev.AttemptLaunching(proposal.attempt), now_ms)
            before = _books(state)
        assert before == _books(state), "a plan left a trace"
        _end_one(state, now_ms)


def _stop_for(state: State, found: Reservation, now_ms: int) -> None:
    promise(state, found)
    for victim in found.victims:
        state.apply(ev.AttemptStopping(victim, Cause("preempted"), 0), now_ms)


def _books(state: State) -> bytes:
    """All that a plan tries things on; a book of amounts has no order."""
    free = [(name, repr(space.free())) for name, space in state.space.nodes.items()]
    kept = [
        (path, [sorted(book.items()) for book in (node.usage, node.reserve, node.excused, node.lent)])
        for path, node in state.tenancy.nodes.items()
    ]
    return repr((free, kept, state.space.version, sorted(state.holders))).encode()


def _end_one(state: State, now_ms: int) -> None:
    """What was admitted first ends, so that the next plan finds other room."""
    for attempt, running, _ in list(state.reserved())[:1]:
        ranks = range(len(running.places))
        step(state, [ReplicaExited(attempt, rank, exit_code=1) for rank in ranks], now_ms)


def _is_whole(node: Node) -> bool:
    """A node that did not shrink under what was there before."""
    return node in INVENTORY


def test_the_same_inputs_give_the_same_bytes_whatever_the_hash_seed() -> None:
    told = [
        subprocess.run(
            [sys.executable, str(SCENARIO)], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout
        for seed in ("0", "1", "4242")
    ]  # fmt: skip
    assert "events" in told[0] and " 0 preempted" not in told[0] and told[0] == told[1] == told[2]


def test_a_plan_that_is_not_carried_out_promises_nothing() -> None:
    """Whoever checks a state asks for a plan of it: nobody is stopped for that, so no room is kept either."""
    cluster = Cluster(nodes(1, gpu_count=4), {"a": Behaviour(run_ms=100_000)})
    for _ in range(2):
        cluster.send(submit(spec(task("a", resources=gpus(4)))))
    cluster.run(1_000)
    cluster.state.apply(ev.PriorityChanged(2, 900, ""), cluster.now_ms)
    proposal = plan(cluster.state, cluster.now_ms)
    assert proposal is not None and proposal.victims
    assert not any(found.victims for found in cluster.state.reservations.values())
