"""Bugs to plant into the core. Each is a mistake that somebody could make on a bad day."""

from __future__ import annotations

from planting import Bug


def golden(*names: str) -> str:
    """Transcripts by name."""
    return " ".join(f"tests/golden/test_semantics.py::test_story[{name}]" for name in names)


def core(module: str, *names: str) -> str:
    return " ".join(f"tests/core/test_{module}.py::{name}" for name in names) or f"tests/core/test_{module}.py"


BUGS = [
    Bug(
        "a report of any attempt counts", "KeyError", "core/memory.py",
        "if found is None or found[2].number != attempt.attempt:\n            return None\n        live, task",
        "if found is None:\n            return None\n        live, task",
        golden("stale_reports"),
    ),
    Bug(
        "room is released when a stop is ordered", "S7", "core/state.py",
        "        item.live.stop_cause = e.cause\n",
        "        item.live.stop_cause = e.cause\n"
        "        live = self.workflows[e.attempt.workflow]\n"
        "        self.space.give(item.live.places, live.dag.tasks[e.attempt.task].resources)\n",
        golden("rule_6_cancel"),
    ),
    Bug(
        "what infrastructure did uses up a try", "golden retry_infrastructure", "core/finish.py",
        "infra = cause.kind in INFRASTRUCTURE_CAUSES",
        "infra = False",
        golden("retry_infrastructure"),
    ),
    Bug(
        "skipped counts as success", "S21", "core/dag.py",
        'return state == ("succeeded" if need.outcome == "success" else "failed")',
        'return state == "failed" if need.outcome == "failed" else state in ("succeeded", "skipped")',
        golden("rule_1_skip_cascade"),
    ),
    Bug(
        "a part of a gang is admitted", "S8", "core/schedule/cycle.py",
        "return Proposal(_attempt(live, name, candidate), places, lane), None, False",
        "return Proposal(_attempt(live, name, candidate), places[:2], lane), None, False",
        golden("rule_5_gang"),
    ),
    Bug(
        "cancel leaves waiting tasks waiting", "S16", "core/finish.py",
        '            work.emit(ev.TaskEnded(event.workflow, name, "cancelled", cause))\n',
        "            continue\n",
        golden("rule_6_cancel"),
    ),
    Bug(
        "a key does not look at what was asked", "test_a_key_for_another_payload_is_a_conflict", "core/entry.py",
        "if state.keys[scope][0] == command.payload_digest:",
        "if state.keys[scope]:",
        core("step", "test_a_key_for_another_payload_is_a_conflict"),
    ),
    Bug(
        "when is decided again in a new round", "golden rule_7_retry_waits", "core/control.py",
        'return cause is not None and cause.kind == "expression"',
        "return False",
        golden("rule_7_retry_waits"),
    ),
    Bug(
        "a need is not waited for when a round begins", "S21", "core/control.py",
        "if left and not any(need.task in again for need in live.dag.tasks[name].needs):",
        "if left:",
        golden("rule_7_retry_waits"),
    ),
    Bug(
        "items move without their lifecycle", "test_an_event_that_the_lifecycle_forbids", "core/state.py",
        "ITEM.get((item.state, trigger)) or advance(ITEM, item.state, trigger, attempt.label())",
        'ITEM.get((item.state, trigger), "backoff")',
        core("state", "test_an_event_that_the_lifecycle_forbids_is_our_bug_and_says_what_was_tried"),
    ),
    Bug(
        "a place that ends in the queue is lost", "S7", "core/state.py",
        "self._leave(live, attempt.task, attempt.item)  # one that ended in the queue still has its place,",
        "pass",
        golden("max_parallel_cancelled"),
    ),
    Bug(
        "attempts count from one in a new round", "S4", "core/state.py",
        "task = LiveTask(Task(attempts_before=max(old.row.attempts_before, used)), old.vertex)",
        "task = LiveTask(Task(), old.vertex)",
        golden("rule_7_retry"),
    ),
    Bug(
        "a retry forgets what others changed in its step", "test_a_retry_keeps_the_changes", "core/memory.py",
        "        for workflow in sorted(rows.workflows):\n            self._recount(self.workflows[workflow])\n",
        "        for workflow in sorted(rows.workflows):\n            self._recount(self.workflows[workflow])\n"
        "        self._dirty_workflows = {}\n",
        core("state", "test_a_retry_keeps_the_changes_that_others_made_in_its_step"),
    ),
    Bug(
        "an ended workflow leaves memory too early", "KeyError", "core/finish.py",
        "        work.emit(ev.WorkflowEnded(row.id, state, cause))\n",
        "        work.emit(ev.WorkflowEnded(row.id, state, cause))\n        work.emit(ev.WorkflowForgotten(row.id))\n",
        golden("max_parallel_cancelled"),
    ),
    Bug(
        "outputs of a failed attempt are kept", "S20", "core/state.py",
        'item.outputs = attempt.outputs if is_success else None',
        "item.outputs = attempt.outputs",
        golden("rule_4_outputs"),
    ),
    Bug(
        "--now does not reach finally tasks", "S16", "core/live.py",
        "return bool(self.row.verdict) and (self.row.skip_finally or not self.is_finally(task))",
        "return bool(self.row.verdict) and not self.is_finally(task)",
        golden("rule_6_cancel_now"),
    ),
    Bug(
        "a stopped attempt is tried again after a cancel", "S16", "core/finish.py",
        "    if live.is_doomed(attempt.task):\n",
        "    if False:\n",
        core("machine", "test_core_under_random_histories"),
    ),
    Bug(
        "a priority change leaves the old entries", "test_a_priority_that_moves_to_and_fro", "core/memory.py",
        "            self.lanes.discard(live.row.id, lane)\n",
        "            pass\n",
        core("state", "test_a_priority_that_moves_to_and_fro_leaves_one_entry"),
    ),
    Bug(
        "a gang goes on without the replica that failed", "S8", "core/observe.py",
        "    if cause is not None:\n        work.emit(ev.AttemptStopping(attempt_id, cause, work.stop_grace_ms(spec)))",
        "    if cause is not None:\n        return",
        golden("rule_5_gang"),
    ),
    Bug(
        "tasks are stopped in the order of a set", "test_the_same_inputs_give_the_same_bytes", "core/finish.py",
        "for name in filter(live.is_doomed, live.dag.names):",
        "for name in filter(live.is_doomed, set(live.dag.names)):",
        core("plan", "test_the_same_inputs_give_the_same_bytes_whatever_the_hash_seed"),
    ),
    Bug(
        "what is reserved is not counted when loading", "S22", "core/memory.py",
        "        state._find_reserved()\n",
        "",
        golden("restart"),
    ),
    Bug(
        "what runs is launched again after a restart", "test_recovery_asks_after_what_runs", "core/launch.py",
        '    if item.state == "launching":\n        _launch_again(work, attempt, item, task)',
        '    if item.state in ("launching", "running"):\n        _launch_again(work, attempt, item, task)',
        core("step", "test_recovery_asks_after_what_runs"),
    ),
    Bug(
        "what lives without an attempt is left alone", "test_recovery_stops_what_lives", "core/launch.py",
        "        if not work.state.is_live(attempt):\n",
        "        if work.state.find(attempt) is None:\n",
        core("step", "test_recovery_stops_what_lives_without_a_committed_attempt"),
    ),
    Bug(
        "a resumed workflow is not queued again", "L2", "core/state.py",
        'self._requeue(self._move_workflow(e.workflow, "WorkflowResumed"))',
        'self._move_workflow(e.workflow, "WorkflowResumed")',
        golden("rule_8_suspended"),
    ),
    Bug(
        "a new inventory forgets what is reserved", "S7", "core/memory.py",
        "        for attempt_id, attempt, live in self.reserved() if fresh else ():\n",
        "        for attempt_id, attempt, live in ():\n",
        core("state", "test_a_node_that_changed_keeps_what_is_reserved_on_it"),
    ),
    Bug(
        "an item that is ready again is not queued", "L2", "core/state.py",
        "        self._queue(live, e.attempt.task, (e.attempt.item,))\n",
        "",
        golden("retry_backoff"),
    ),
    Bug(
        "the next attempt gets no checkpoint", "golden checkpoint", "core/launch.py",
        "restored=item.checkpoint,",
        "restored=None,",
        golden("checkpoint"),
    ),
    Bug(
        "the first matrix key is the fastest", "golden fanout_order", "core/fanout.py",
        "for key in reversed(task.matrix):",
        "for key in task.matrix:",
        golden("fanout_order"),
    ),
    Bug(
        "a rank that started and ended counts twice", "test_a_rank_that_started_and_ended", "core/observe.py",
        "len(_seen(live) | {report.rank}) < len(live.places):",
        "len(live.started) + len(live.exited) + 1 < len(live.places):",
        core("step", "test_a_rank_that_started_and_ended_is_counted_once"),
    ),
    Bug(
        "rows of an item are not stored when its outputs change", "S22", "core/state.py",
        "        self._dirty_items[(attempt.workflow, attempt.task, attempt.item)] = item\n        return item.live\n",
        "        return item.live\n",
        core("machine", "test_core_under_random_histories"),
    ),
    Bug(
        "a closed node takes work", "S7", "core/space.py",
        "                space.is_closed = name in self.closed\n",
        "                space.is_closed = False\n",
        golden("node_cordon"),
    ),
    Bug(
        "the finder does not know which nodes are closed", "test_a_closed_node_takes_no_work", "core/schedule/rooms.py",
        "        room[self.closed[at]] = 0\n",
        "",
        core("health"),
    ),
    Bug(
        "a quarantine never ends", "golden node_quarantine_again", "core/nodes.py",
        "    work.effect(effects.SetTimer(quarantine_timer(event.node), event.until_at_ms))\n",
        "    pass\n",
        golden("node_quarantine_again"),
    ),
    Bug(
        "a drain uses up a try", "golden node_drain", "core/finish.py",
        "    elif cause.kind in REQUEUED_CAUSES:\n",
        "    elif False:\n",
        golden("node_drain"),
    ),
    Bug(
        "marks of nodes are lost at a restart", "S22", "core/memory.py",
        'elif kind == "node":',
        'elif kind == "no such":',
        core("health"),
    ),
    Bug(
        "quota is not looked at when a gang is planned and verified", "S6", "core/admit/quota.py",
        "    if not tenant.has_quota:\n        return None\n    for resource, ask in asked.items():",
        "    if tenant.has_quota:\n        return None\n    for resource, ask in asked.items():",
        core("tenants", "test_a_quota_is_held_at_each_level_and_freed_by_the_end_of_work"),
    ),
    Bug(
        "only the project's own quota counts", "S6", "core/admit/quota.py",
        "    for node in tenant.chain():\n        used, quota =",
        "    for node in (tenant,):\n        used, quota =",
        core("tenants", "test_a_quota_is_held_at_each_level_and_freed_by_the_end_of_work"),
    ),
    Bug(
        "a borrower takes what others do not lend", "test_a_cohort_lends", "core/admit/quota.py",
        "bound, kept = quota.bound, reserve if borrows else 0",
        "bound, kept = quota.bound, 0",
        core("tenancy", "test_a_cohort_lends_what_lies_idle_and_keeps_what_is_not_lent"),
    ),
    Bug(
        "a tenant is disabled for its own projects only", "S17", "core/tenancy.py",
        "node.is_open = node.row.enabled and (above is None or above.is_open)",
        "node.is_open = node.row.enabled",
        core("tenants", "test_a_disabled_tenant_admits_and_submits_nothing_and_what_runs_goes_on"),
    ),
    Bug(
        "what a moved tenant holds stays with its old parent", "S7", "core/tenancy.py",
        "            shift(above.usage, node.usage, -1)\n",
        "            pass\n",
        core("tenants", "test_a_moved_tenant_takes_what_it_holds_along_and_keeps_its_name"),
    ),
    Bug(
        "a lowered quota forgets what was there before", "S6", "core/tenancy.py",
        "if quota.bound is not None and node.usage.get(resource, 0) > quota.bound",
        "if quota.bound is None",
        core("tenants", "test_lowering_stops_nothing_and_admits_nothing_until_usage_fell_below"),
    ),
    Bug(
        "an ended workflow still counts for its tenant", "S7", "core/state.py",
        "        self.tenancy.discharge(live.tenant, ONE_WORKFLOW)\n",
        "",
        core("tenants", "test_live_workflows_are_counted_from_submit_to_end"),
    ),
    Bug(
        "quotas are not stored", "S22", "core/state.py",
        '        self._dirty_meta[f"tenant/{path}"] = _encode(row)\n',
        "",
        core("tenants", "test_a_restart_keeps_rules_and_counts"),
    ),
    Bug(
        "one replica of a gang is told to stop", "S8", "core/launch.py",
        "work.effect(effects.Stop(event.attempt, len(found[3].places), event.grace_ms, event.cause.kind))",
        "work.effect(effects.Stop(event.attempt, 1, event.grace_ms, event.cause.kind))",
        golden("rule_5_gang"),
    ),
    Bug(
        "an attempt that ended keeps its reservation", "S9", "core/state.py",
        "        item.live = None\n",
        "",
        golden("rule_5_gang"),
    ),
    Bug(
        "weights are not looked at", "S24", "core/admit/share.py",
        "    return _dominant(tenancy, _counted(tenancy, tenant))[1] * 1_000 // tenant.row.weight_millis\n",
        "    return _dominant(tenancy, _counted(tenancy, tenant))[1]\n",
        core("fairness", "test_each_admission_goes_to_the_lowest_normalised_share"),
    ),
    Bug(
        "whose turn it is takes the room made for another", "test_room_that_is_made_is", "core/schedule/cycle.py",
        "        while self._promised:\n",
        "        while False:\n",
        core("preempt", "test_room_that_is_made_is_for_the_next_when_the_first_found_another"),
    ),
    Bug(
        "the quota of victims is anybody's", "test_quota_that_comes_back_in_parts", "core/schedule/cycle.py",
        "                if block is None and places is not None:\n                    return Proposal(",
        "                if places is not None:\n                    return Proposal(",
        core("preempt", "test_quota_that_comes_back_in_parts_is_kept_together"),
    ),
    Bug(
        "promises are kept one by one", "test_two_promises_on_one_node", "core/schedule/reserve.py",
        "    if len(promises) > 1:\n",
        "    if False:\n",
        core("preempt", "test_two_promises_on_one_node_are_kept_together"),
    ),
    Bug(
        "a promise to nobody is kept", "test_a_promise_to_nobody", "core/schedule/cycle.py",
        "        return promise.lane is not None and head_of(self._state, promise.lane) is not None\n",
        "        return True\n",
        core("preempt", "test_a_promise_to_nobody_keeps_nobody_waiting"),
    ),
    Bug(
        "who borrows after it is never stopped for it", "test_who_could_stop_nobody", "core/schedule/cycle.py",
        "        if self._looks.in_vain.may_stop(live, lane.kind.shape.ask, len(proposal.places)):\n",
        "        if False:\n",
        core("preempt", "test_who_could_stop_nobody_is_looked_at_when_another_begins_to_borrow"),
    ),
    Bug(
        "who lacked room beside its quota waits for quota alone", "test_who_lacked_room", "core/schedule/looks.py",
        "        if block is not None and self._is_real:\n",
        "        if False:\n",
        core("preempt", "test_who_lacked_room_beside_its_quota_is_looked_at_when_another_tenant_leaves_some"),
    ),
    Bug(
        "for whom the looks did not last is forgotten", "test_who_comes_after", "core/schedule/looks.py",
        "        is_short = not self.left_count and",
        "        is_short = False and",
        core("preempt", "test_who_comes_after_those_that_used_up_the_looks_of_a_cycle_has_its_turn_in_the_next"),
    ),
    Bug(
        "a reservation of unknown start never binds", "L8", "core/schedule/reserve.py",
        "    return state.lanes.admitted_count - reservation.made_at_count >= state.policy.overtakes_count\n",
        "    return False\n",
        core("fairness", "test_a_large_gang_is_admitted_though_small_work_never_ceases"),
    ),
    Bug(
        "a share that grew is not compared anew", "S24", "core/kinds.py",
        "            self.is_stale = True\n            self.parent.fresh.append(self)\n",
        "            self.is_stale = True\n",
        core("fairness", "test_each_admission_goes_to_the_lowest_normalised_share"),
    ),
    Bug(
        "a blocked lane is never looked at again", "test_who_waits_for_the_models", "core/admit/order.py",
        "        state.lanes.offer_passed(state.space.version)\n",
        "        pass\n",
        core("fairness", "test_who_waits_for_the_models_of_its_quota_is_looked_at_when_they_are_free"),
    ),
    Bug(
        "a place that was found is used twice", "cannot be applied", "core/schedule/cycle.py",
        "                self._beside.clear()\n                if not proposal.victims:\n",
        "                if not proposal.victims:\n",
        core("plan", "test_a_plan_can_be_applied"),
    ),
    Bug(
        "who comes behind others alike stops nobody", "golden schedule_preempt_priority", "core/schedule/cycle.py",
        "                    return self._make_room_for_news()\n",
        "                    return None\n",
        golden("schedule_preempt_priority"),
    ),
    Bug(
        "an explanation names who holds what others may not see", "test_nobody_is_named", "core/schedule/subject.py",
        "return self.projects is None or project in self.projects",
        "return True",
        core("why", "test_nobody_is_named_to_who_may_not_see_him"),
    ),
    Bug(
        "a what-if leaves its admissions behind", "test_an_explanation_leaves_no_trace", "core/rehearsal.py",
        "            state.holders.remove(attempt)\n",
        "            pass\n",
        core("why", "test_an_explanation_leaves_no_trace"),
    ),
]  # fmt: skip
