"""step(): answers, refusals, the order of what is decided, and the corners of each stage that no transcript tells."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from ffd.core import effects as ef
from ffd.core import events as ev
from ffd.core import reports as rp
from ffd.core.commands import Accepted, Cancel, Done, Resume, Retry, SetPriority, Suspend
from ffd.core.finish import backoff_ms
from ffd.core.limits import Limits
from ffd.core.model import AttemptId, Cause, Timer
from ffd.core.spec import Checkpoint, Gang, Timeouts
from ffd.core.spec import Retry as RetryRule
from ffd.core.state import State
from ffd.core.step import step
from ffd.errors import Refusal, Unavailable
from ffd.testing.builders import attempt, nodes, spec, submit, task
from ffd.testing.cluster import Behaviour, Cluster

ONE_TASK = spec(task("a"))


def started(*tasks: Any, count: int = 1, limits: Limits | None = None, **fields: Any) -> State:
    """A state in which a workflow of these tasks was just submitted."""
    state = State(limits)
    step(state, [rp.InventoryReported(nodes(count)), submit(spec(*tasks, **fields))], 1_000)
    return state


def kinds(effects: list[Any]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


# ----------------------------------------------------------------------------------------------------------- answers


def test_each_answer_names_its_input() -> None:
    state = State()
    decision = step(
        state,
        [rp.Poke(), submit(ONE_TASK), Cancel(workflow=9), submit(ONE_TASK), SetPriority(workflow=1, priority=3)],
        1,
    )
    assert [index for index, _ in decision.answers] == [1, 2, 3, 4]
    first, refused, second, done = (answer for _, answer in decision.answers)
    assert first == Accepted(1, "demo.1", "default") and second == Accepted(2, "demo.2", "default")
    assert isinstance(refused, Refusal) and refused.code == "conflict"
    assert done == Done(1, "demo.1", "running")


def test_handles_count_by_project_and_name() -> None:
    state = State()
    asked = [submit(ONE_TASK), submit(ONE_TASK, project="x/y"), submit(spec(task("a"), name="other")), submit(ONE_TASK)]
    handles = [answer.handle for _, answer in step(state, asked, 1).answers if isinstance(answer, Accepted)]
    assert handles == ["demo.1", "demo.1", "other.1", "demo.2"]


def test_an_input_that_is_no_message_is_our_bug() -> None:
    with pytest.raises(KeyError):
        step(State(), ["hello"], 1)  # type: ignore[list-item]


def test_nothing_to_do_is_an_empty_decision() -> None:
    decision = step(State(), [rp.Poke()], 1)
    assert not decision.events and not decision.effects and not decision.answers and not decision.listings


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        (Limits(live_workflows_count=1), "limits.live_workflows_count"),
        (Limits(live_tasks_count=3), "limits.live_tasks_count"),
    ],
)
def test_a_submit_beyond_a_limit_is_refused_by_its_name_and_changes_nothing(limits: Limits, field: str) -> None:
    state = started(task("a"), task("b"), limits=limits)
    decision = step(state, [submit(spec(task("a"), task("b")), key="k")], 1)
    ((_, refusal),) = decision.answers
    assert isinstance(refusal, Refusal) and (refusal.code, refusal.field) == ("limit", field)
    assert not decision.events and not state.keys


def test_a_retry_beyond_a_limit_is_refused_too() -> None:
    cluster = Cluster(nodes(), {"a": Behaviour(exit_code=1)}, limits=Limits(live_workflows_count=1))
    cluster.send(submit(ONE_TASK))
    cluster.run()
    cluster.send(submit(spec(task("b"))))
    (refusal,) = cluster.send(Retry(workflow=1))
    assert isinstance(refusal, Refusal) and refusal.field == "limits.live_workflows_count"


def test_items_of_all_tasks_together_are_bounded() -> None:
    """A fan-out that would be too much beside what is live fails, and says which limit it met."""
    state = started(task("a", foreach=tuple(range(8))), limits=Limits(live_tasks_count=10))
    decision = step(state, [submit(spec(task("b", foreach=(1, 2, 3))))], 1)
    (ended,) = [event for event in decision.events if isinstance(event, ev.TaskEnded)]
    assert (
        ended.state == "failed" and ended.cause and "limits.live_tasks_count leaves room for 2" in ended.cause.message
    )


# ------------------------------------------------------------------------------------------------- idempotency keys


def test_a_repeated_key_has_one_effect_and_one_answer() -> None:
    state = State()
    one = submit(ONE_TASK, key="k", payload_digest="p")
    answers = [answer for _, answer in step(state, [one, one], 1).answers]
    assert answers == [Accepted(1, "demo.1", "default"), Accepted(1, "demo.1", "default", duplicate=True)]
    assert len(state.workflows) == 1


def test_a_key_for_another_payload_is_a_conflict() -> None:
    state = State()
    step(state, [submit(ONE_TASK, key="k", payload_digest="p")], 1)
    ((_, refusal),) = step(state, [submit(ONE_TASK, key="k", payload_digest="q")], 1).answers
    assert isinstance(refusal, Refusal) and (refusal.code, refusal.field) == ("conflict", "key")
    assert len(state.workflows) == 1


def test_keys_are_scoped_to_project_and_verb() -> None:
    state = State()
    step(state, [submit(ONE_TASK, key="k", payload_digest="p")], 1)
    asked = [
        submit(ONE_TASK, key="k", payload_digest="q", project="x"),
        Cancel(workflow=1, key="k", payload_digest="r"),
    ]
    assert [getattr(answer, "duplicate", None) for _, answer in step(state, asked, 1).answers] == [False, False]


@pytest.mark.parametrize("command", [Cancel, Suspend, Resume, SetPriority])
def test_every_command_remembers_its_key(command: Any) -> None:
    state = started(task("a"))
    fields = {"priority": 7} if command is SetPriority else {}
    asked = command(workflow=1, key="k", payload_digest="p", **fields)
    answers = [answer for _, answer in step(state, [asked, asked, replace(asked, payload_digest="q")], 1).answers]
    assert [getattr(answer, "duplicate", None) for answer in answers] == [False, True, None]


def test_a_key_of_a_workflow_that_ended_is_answered_without_its_handle() -> None:
    cluster = Cluster(nodes(), {})
    cluster.send(submit(ONE_TASK, key="k"))
    cluster.run()
    assert cluster.send(submit(ONE_TASK, key="k")) == [Accepted(1, "", "default", duplicate=True)]


# ----------------------------------------------------------------------------------------------------------- control


@pytest.mark.parametrize("command", [Cancel, Suspend, Resume])
def test_commands_for_a_workflow_that_ended_are_a_conflict(command: Any) -> None:
    ((_, refusal),) = step(State(), [command(workflow=5)], 1).answers
    assert isinstance(refusal, Refusal) and refusal.code == "conflict"


def test_a_retry_of_what_ends_in_the_same_step_is_to_be_asked_again() -> None:
    state = started(task("a"))
    answers = step(state, [rp.ReplicaExited(attempt("a"), 0, exit_code=1), Retry(workflow=1)], 2).answers
    assert isinstance(answers[0][1], Unavailable)


def test_a_retry_of_an_unknown_workflow_is_not_found() -> None:
    cluster = Cluster(nodes(), {})
    (refusal,) = cluster.send(Retry(workflow=77))
    assert isinstance(refusal, Refusal) and refusal.code == "not_found"


@pytest.mark.parametrize("priority", [-1, 1001])
def test_a_priority_out_of_range_is_refused(priority: int) -> None:
    state = State()
    asked = [submit(ONE_TASK, priority=priority), submit(ONE_TASK), SetPriority(workflow=1, priority=priority)]
    answers = [answer for _, answer in step(state, asked, 1).answers]
    assert [getattr(answer, "field", "") for answer in answers] == ["priority", "", "priority"]


def test_a_cancel_said_again_lets_a_suspended_workflow_finish() -> None:
    cluster = Cluster(nodes(), {"a": Behaviour(run_ms=9_000)})
    cluster.send(submit(spec(task("a"), finally_tasks=[task("f")])))
    cluster.send(Cancel(workflow=1), Suspend(workflow=1))
    cluster.run(2_000)
    assert cluster.states()["f"] == "open"
    cluster.send(Cancel(workflow=1))
    cluster.run()
    assert cluster.states() == {"": "cancelled", "a": "cancelled", "f": "succeeded"}


def test_a_cancel_overrides_a_failure_that_is_under_way() -> None:
    cluster = Cluster(nodes(), {"a": Behaviour(exit_code=1), "b": Behaviour(run_ms=9_000, stop_ms=3_000)})
    cluster.send(submit(spec(task("a"), task("b"))))
    cluster.run(1_500)
    cluster.send(Cancel(workflow=1, by="ann"))
    cluster.run()
    assert cluster.states() == {"": "cancelled", "a": "failed", "b": "cancelled"}


# ------------------------------------------------------------------------------------------------------ order, depth


def test_a_launch_is_said_before_the_stop_that_follows_from_it() -> None:
    state = State()
    step(
        state,
        [
            submit(
                spec(
                    task("bad", bindings={"X": "tasks.no.outputs.x"}, needs="no"),
                    task("no", outputs={"x": "int"}),
                    task("b", "no"),
                )
            )
        ],
        1,
    )
    step(state, [rp.InventoryReported(nodes())], 1)
    decision = step(state, [rp.ReplicaExited(attempt("no"), 0, exit_code=0)], 2)
    assert [kind for kind in kinds(decision.effects) if kind in ("Launch", "Stop")] == ["Launch", "Stop"]


def test_deep_and_wide_documents_do_not_recurse() -> None:
    """A chain of skips and a task with many parents, both in one step."""
    count = 3_000
    chain = [
        task(f"c{number}", f"c{number - 1}" if number else (), when="" if number else "false")
        for number in range(count)
    ]
    wide = task("wide", {f"c{number}": "done" for number in range(count)})
    state = State()
    decision = step(state, [submit(spec(*chain, wide))], 1)
    skipped = [event for event in decision.events if isinstance(event, ev.TaskEnded) and event.state == "skipped"]
    assert len(skipped) == count and state.workflows[1].tasks["wide"].row.state == "open"


def test_a_workflow_whose_tasks_are_all_settled_at_the_start_ends_at_once() -> None:
    """Skipped, empty, and failed by an expression, all in the step of the submit."""
    state = State()
    asked = submit(
        spec(
            task("skipped", when="false"),
            task("empty", foreach=()),
            task("broken", when="1 / 0 > 1"),
            task("next", "empty"),
        )
    )
    decision = step(state, [asked], 1)
    ended = [event for event in decision.events if isinstance(event, ev.WorkflowEnded)]
    assert [event.state for event in ended] == ["failed"] and not state.workflows


# ---------------------------------------------------------------------------------------------------------- observe


def test_stale_reports_are_counted_and_settled() -> None:
    state = started(task("a"))
    for stale in (attempt("a", 2), attempt("a", 0), attempt("a", 1, item=5), attempt("b"), attempt("a", workflow=9)):
        decision = step(state, [rp.ReplicaExited(stale, 0, exit_code=0), rp.LaunchFailed(stale, 0, "launch", "")], 2)
        assert not decision.events and decision.effects == [ef.Settled(stale)] * 2
    assert state.stale_count == 10


def test_a_replica_that_starts_under_a_stale_attempt_is_stopped() -> None:
    """A node that was lost comes back with what it ran (S3)."""
    state = started(task("a"))
    decision = step(state, [rp.ReplicaStarted(attempt("a", 7), 2)], 2)
    assert decision.effects == [ef.Stop(attempt("a", 7), 3, 0, "cancelled")] and not decision.events


def test_the_sdk_of_a_stale_attempt_is_told_so() -> None:
    state = started(task("a", outputs={"x": "int"}))
    asked = [rp.OutputsReported(attempt("a", 2), {"x": 1}), rp.CheckpointReported(attempt("a", 2), {})]
    answers = [answer for _, answer in step(state, asked, 2).answers]
    assert [answer.code for answer in answers if isinstance(answer, Refusal)] == ["superseded", "superseded"]


def test_a_wrong_output_is_refused_to_the_sdk_and_the_attempt_goes_on() -> None:
    state = started(task("a", outputs={"x": "int"}))
    asked = [rp.OutputsReported(attempt("a"), {"x": "1"}), rp.OutputsReported(attempt("a"), {"y": 1})]
    decision = step(state, asked, 2)
    assert [getattr(answer, "field", None) for _, answer in decision.answers] == ["x", "y"] and not decision.events


@pytest.mark.parametrize("rank", [-1, 3, 99])
def test_a_rank_that_is_not_there_changes_nothing(rank: int) -> None:
    state = started(task("g", replicas=3))
    asked = [
        rp.ReplicaStarted(attempt("g"), rank),
        rp.ReplicaExited(attempt("g"), rank, exit_code=1),
        rp.LaunchFailed(attempt("g"), rank, "launch", ""),
    ]
    assert not step(state, asked, 2).events


def test_a_rank_that_started_and_ended_is_counted_once() -> None:
    """Two of three ranks are accounted for: the gang does not run yet."""
    state = started(task("g", replicas=3))
    g = attempt("g")
    asked = [rp.ReplicaStarted(g, 0), rp.ReplicaExited(g, 0, exit_code=0), rp.ReplicaStarted(g, 1)]
    step(state, asked, 2)
    assert state.workflows[1].tasks["g"].items[0].state == "launching"
    step(state, [rp.ReplicaExited(g, 2, exit_code=0)], 3)
    assert state.workflows[1].tasks["g"].items[0].state == "running"


@pytest.mark.parametrize("kind", ["leader-done", "cancelled", "need", "anything"])
def test_a_runtime_cannot_say_what_only_ffd_decides(kind: str) -> None:
    """`leader-done` would make a failed gang succeed."""
    state = started(task("g", gang=Gang(replicas=2, success="leader")))
    step(state, [rp.ReplicaExited(attempt("g"), 1, kind=kind)], 2)
    decision = step(state, [rp.ReplicaExited(attempt("g"), 0, signal=15)], 3)
    (ended,) = [event for event in decision.events if isinstance(event, ev.AttemptEnded)]
    assert ended.outcome == "failed" and ended.cause and ended.cause.kind == "error"


def test_the_tail_of_a_log_is_cut_from_its_start() -> None:
    state = started(task("a"), limits=Limits(tail_bytes=7))
    decision = step(state, [rp.ReplicaExited(attempt("a"), 0, exit_code=1, tail="ääää the end")], 2)
    (ended,) = [event for event in decision.events if isinstance(event, ev.AttemptEnded)]
    assert ended.cause and ended.cause.tail == "the end"
    cut = started(task("a"), limits=Limits(tail_bytes=3))
    decision = step(cut, [rp.ReplicaExited(attempt("a"), 0, exit_code=1, tail="ää")], 2)
    (ended,) = [event for event in decision.events if isinstance(event, ev.AttemptEnded)]
    assert ended.cause and ended.cause.tail == "ä"


def test_a_timer_of_another_attempt_or_state_does_nothing() -> None:
    limits = Timeouts(run_ms=10, start_ms=10, idle_ms=10, queue_ms=10)
    state = started(task("a", timeouts=limits, gang=Gang(replicas=2, min_replicas=1)))
    step(state, [rp.ReplicaStarted(attempt("a"), 0), rp.ReplicaStarted(attempt("a"), 1)], 2)
    old = [
        Timer(kind, attempt("a", number))
        for kind in ("run", "start", "idle", "backoff", "queue", "wait")
        for number in (0, 2)
    ]
    now = [Timer(kind, attempt("a", 1)) for kind in ("start", "backoff", "queue", "wait")]
    gone = [Timer("workflow", AttemptId(9, "", -1, 0))]
    decision = step(state, [rp.TimerFired(timer) for timer in (*old, *now, *gone)], 3)
    assert not decision.events and not decision.effects


def test_a_timer_of_an_earlier_round_that_fires_late_is_set_for_its_time() -> None:
    """Names of queue and workflow timers are in use again in a new round."""
    cluster = Cluster(nodes(1, slot_count=1), {"a": Behaviour(exit_code=1, run_ms=100)})
    cluster.send(submit(spec(task("a", timeouts=Timeouts(queue_ms=5_000)), timeout_ms=9_000)))
    cluster.run()
    cluster.send(submit(spec(task("holder"))))
    cluster.send(Retry(workflow=1))
    old = [Timer("queue", attempt("a", 1)), Timer("workflow", AttemptId(1, "", -1, 0))]
    decision = step(cluster.state, [rp.TimerFired(timer) for timer in old], cluster.now_ms + 10)
    due = [cluster.now_ms + 5_000, cluster.now_ms + 9_000]
    assert decision.effects == [ef.SetTimer(*pair) for pair in zip(old, due, strict=True)] and not decision.events


def test_an_idle_timer_is_set_again_by_the_last_sign_of_life() -> None:
    state = started(task("a", timeouts=Timeouts(idle_ms=500)))
    step(state, [rp.ReplicaStarted(attempt("a"), 0)], 2_000)
    timer = Timer("idle", attempt("a"))
    decision = step(state, [rp.TimerFired(timer, active_at_ms=2_400)], 2_500)
    assert decision.effects == [ef.SetTimer(timer, 2_900)] and not decision.events
    decision = step(state, [rp.TimerFired(timer, active_at_ms=2_400)], 2_900)
    assert [type(event) for event in decision.events] == [ev.AttemptStopping]


def test_a_stop_grants_the_grace_of_the_checkpoint() -> None:
    for checkpoint, grace_ms in ((None, Limits().stop_grace_ms), (Checkpoint(grace_ms=77_000), 77_000)):
        state = started(task("a", checkpoint=checkpoint))
        decision = step(state, [Cancel(workflow=1)], 2)
        assert [effect.grace_ms for effect in decision.effects if isinstance(effect, ef.Stop)] == [grace_ms]


# ----------------------------------------------------------------------------------------------------------- backoff


def test_backoff_spreads_like_chance_and_is_the_same_in_every_replay() -> None:
    rule = RetryRule(backoff_ms=1_000, jitter=0.1)
    delays = [backoff_ms(rule, 1, attempt("a", number)) for number in range(1, 200)]
    assert delays == [backoff_ms(rule, 1, attempt("a", number)) for number in range(1, 200)]
    assert 900 <= min(delays) < 920 and 1_080 < max(delays) <= 1_100


def test_backoff_has_no_overflow_and_no_negative() -> None:
    assert (
        backoff_ms(RetryRule(backoff_ms=10, factor=1e9, jitter=0, max_backoff_ms=5_000), 1_000, attempt("a")) == 5_000
    )
    assert backoff_ms(RetryRule(backoff_ms=10, factor=0.5, jitter=0), 4, attempt("a")) == 1
    assert backoff_ms(RetryRule(backoff_ms=10, jitter=5.0), 1, attempt("a", 3)) >= 0


# ----------------------------------------------------------------------------------------------------------- restart


def restarted(cluster: Cluster, *living: tuple[AttemptId, int]) -> list[Any]:
    """What a new controller orders first."""
    state = State.load(cluster.ledger.loadable())
    return list(step(state, [rp.Recovered(living)], cluster.now_ms).effects)


def test_recovery_launches_what_may_never_have_left() -> None:
    cluster = Cluster(nodes(), {"a": Behaviour(start_ms=5_000)})
    cluster.send(submit(spec(task("a", timeouts=Timeouts(start_ms=9_000)))))
    order = cluster.orders[attempt("a")]
    assert restarted(cluster) == [order, ef.SetTimer(Timer("start", attempt("a")), 9_000)]


def test_recovery_asks_after_what_runs() -> None:
    cluster = Cluster(nodes(), {"a": Behaviour(run_ms=50_000)})
    cluster.send(submit(spec(task("a", timeouts=Timeouts(run_ms=9_000, idle_ms=4_000)))))
    cluster.run(1_000)
    asked, run, idle = restarted(cluster, (attempt("a"), 0))
    assert isinstance(asked, ef.Launch) and asked.report_only
    assert (run, idle) == (
        ef.SetTimer(Timer("run", attempt("a")), 9_100),
        ef.SetTimer(Timer("idle", attempt("a")), 4_100),
    )


def test_recovery_says_a_stop_again() -> None:
    cluster = Cluster(nodes(), {"g": Behaviour(run_ms=50_000, stop_ms=9_000)})
    cluster.send(submit(spec(task("g", replicas=2))))
    cluster.run(1_000)
    cluster.send(Cancel(workflow=1))
    asked, stop = restarted(cluster, (attempt("g"), 0))
    assert asked.report_only and stop == ef.Stop(attempt("g"), 2, Limits().stop_grace_ms, "cancelled")


def test_recovery_sets_the_timers_of_what_waits() -> None:
    cluster = Cluster(nodes(1, slot_count=1), {"a": Behaviour(exit_code=1), "b": Behaviour(run_ms=50_000)})
    waiting = Timeouts(queue_ms=60_000)
    cluster.send(
        submit(spec(task("a", retries=1), task("b"), task("c", timeouts=waiting), timeout_ms=90_000, fail_fast=False))
    )
    cluster.run(1_500)
    (backed_off,) = cluster.of(ev.ItemBackedOff)
    effects = restarted(cluster)
    assert [effect for effect in effects if isinstance(effect, ef.SetTimer)] == [
        ef.SetTimer(Timer("workflow", AttemptId(1, "", -1, 0)), 90_000),
        ef.SetTimer(Timer("backoff", attempt("a")), backed_off.retry_at_ms),
        ef.SetTimer(Timer("queue", attempt("c", 0)), 60_000),
    ]


def test_recovery_stops_what_lives_without_a_committed_attempt() -> None:
    """S4: a launch whose commit was lost, and a replica of an attempt that ended."""
    cluster = Cluster(nodes(), {"a": Behaviour(run_ms=50_000)})
    cluster.send(submit(ONE_TASK))
    cluster.run(1_000)
    orphans = ((attempt("a", 2), 1), (attempt("x", workflow=7), 0))
    effects = restarted(cluster, (attempt("a"), 0), *orphans)
    assert [effect for effect in effects if isinstance(effect, ef.Stop)] == [
        ef.Stop(attempt("a", 2), 2, 0, "cancelled"),
        ef.Stop(attempt("x", workflow=7), 1, 0, "cancelled"),
    ]


def test_recovery_survives_an_order_that_can_no_longer_be_made() -> None:
    """R6: an upgrade made an expression invalid. The attempt is stopped; the daemon starts."""
    cluster = Cluster(nodes(), {"a": Behaviour(outputs={"x": "1"}), "b": Behaviour(start_ms=50_000)})
    cluster.send(submit(spec(task("a", outputs={"x": "int"}), task("b", "a", bindings={"X": "tasks.a.outputs.x"}))))
    cluster.run(2_000)
    state = State.load(cluster.ledger.loadable())
    state.workflows[1].tasks["a"].items[0].outputs = {}
    decision = step(state, [rp.Recovered(())], cluster.now_ms)
    assert kinds(decision.effects) == ["Stop"]
    (stopping,) = [event for event in decision.events if isinstance(event, ev.AttemptStopping)]
    assert stopping.cause == Cause("input", "`tasks.a.outputs.x` was never set")


def test_retried_items_have_their_queue_timers() -> None:
    """A new round: the waiting timers of an item are named by its last attempt."""
    cluster = Cluster(nodes(1, slot_count=1), {"a": Behaviour(exit_code=1)})
    cluster.send(submit(spec(task("a", timeouts=Timeouts(queue_ms=5_000)))))
    cluster.run()
    before = len(cluster.effects)
    cluster.send(Retry(workflow=1))
    timer = Timer("queue", attempt("a", 1))
    assert ef.SetTimer(timer, cluster.now_ms + 5_000) in cluster.effects[before:]
