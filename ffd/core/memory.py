"""What the engine holds in memory: rows, and the indexes derived from them; how rows are loaded and given out.

Rows (model.py) are what the store keeps; everything else is rebuilt from them by `load`. Written by `State` and by
loading only; read by the stages. Never here: what an event changes (state), or deciding anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Self, cast

import msgspec

from ffd.core.amounts import amounts_on
from ffd.core.dag import Dag, is_met
from ffd.core.forecast import Forecast
from ffd.core.health import Health, NodeMark, closed_text
from ffd.core.holders import Holders
from ffd.core.kinds import Entry, Lane, Shape, Truth
from ffd.core.lanes import Lanes
from ffd.core.limits import Limits
from ffd.core.live import LiveTask, LiveWorkflow, Placed
from ffd.core.model import (
    TERMINAL,
    Attempt,
    AttemptId,
    Item,
    Learnt,
    Listing,
    Node,
    Place,
    Rows,
    Task,
    TenantRow,
    Workflow,
)
from ffd.core.policy import Policy
from ffd.core.space import Space
from ffd.core.spec import Resources, Spec
from ffd.core.spec import Task as TaskSpec
from ffd.core.tenancy import ONE_WORKFLOW, Tenancy

_encode = msgspec.msgpack.Encoder().encode
_decode_workflow = msgspec.msgpack.Decoder(Workflow).decode
_decode_task = msgspec.msgpack.Decoder(Task).decode
_decode_item = msgspec.msgpack.Decoder(Item).decode
_decode_spec = msgspec.msgpack.Decoder(Spec).decode
_decode_nodes = msgspec.msgpack.Decoder(tuple[Node, ...]).decode
_decode_mark = msgspec.msgpack.Decoder(NodeMark).decode
_decode_learnt = msgspec.msgpack.Decoder(Learnt).decode
_decode_tenant = msgspec.msgpack.Decoder(TenantRow).decode
_decode_past = msgspec.msgpack.Decoder(tuple[int, dict[str, dict[str, int]]]).decode
_decode_key = msgspec.msgpack.Decoder(tuple[int, str, str, int]).decode

Current = tuple[LiveWorkflow, LiveTask, Item, Attempt]  # an attempt that is its item's live one, and whose it is

FEW_COUNT: Final = 8  # lanes of a workflow that are kept, whether or not anything is in them


class Memory(Truth):
    """All live workflows, the nodes, the ready queue. Instantiable any number of times; no I/O, no clock."""

    def __init__(self, limits: Limits | None = None, policy: Policy | None = None) -> None:
        self.limits = limits or Limits()
        self.policy = policy or Policy()
        self.workflows: dict[int, LiveWorkflow] = {}
        self.dags: dict[str, Dag] = {}
        self.dag_users: dict[str, int] = {}
        self.space = Space(self.policy)
        self.nodes: tuple[Node, ...] = ()
        self.health = Health()
        self.tenancy = Tenancy(self.policy.usage_half_life_ms)
        self.lanes = Lanes(self.tenancy)
        self.forecast = Forecast(self.limits.learnt_durations_count)
        self.reservations: dict[Shape, Any] = {}  # -> schedule.reserve.Reservation, oldest first; made by cycles
        self.holders = Holders()
        self.moved: dict[tuple[int, int, int], Lane] = {}  # in a rehearsal: (workflow, order, item) -> where it waits
        self.now_ms = 0  # the latest instant of any step: for forecasts, never for order
        self.keys: dict[str, tuple[str, int]] = {}  # idempotency: scope -> (payload digest, workflow)
        self.key_ring: dict[int, str] = {}  # slot -> scope: the oldest is overwritten
        self.key_count = 0
        self.numbers: dict[str, int] = {}  # "project/name" -> last number given
        self.next_workflow = 1
        self.item_count = 0  # live items and waiting tasks: what `limits.live_tasks_count` bounds
        self.stale_count = 0  # reports dropped because their attempt was not current; told, not stored
        self.keeps_rows = True  # False: who steps stores nothing, so what changes often is not noted
        self._dirty_workflows: dict[int, LiveWorkflow] = {}
        self._dirty_tasks: dict[tuple[int, str], Task] = {}
        self._dirty_items: dict[tuple[int, str, int], Item] = {}
        self._dirty_specs: dict[str, Spec] = {}
        self._dirty_meta: dict[str, bytes] = {}

    # -------------------------------------------------------------------------------------------------- look-ups

    def find(self, attempt: AttemptId) -> tuple[LiveWorkflow, LiveTask, Item] | None:
        """The item an attempt belongs to, if its workflow is in memory."""
        live = self.workflows.get(attempt.workflow)
        task = live.tasks.get(attempt.task) if live is not None else None
        if live is None or task is None:
            return None
        number, items = attempt.item, task.items
        return (live, task, items[number]) if 0 <= number < len(items) else None

    def current(self, attempt: AttemptId) -> Current | None:
        """The same, only if `attempt` is its item's live attempt (S11)."""
        found = self.find(attempt)
        if found is None or found[2].number != attempt.attempt:
            return None
        live, task, item = found
        running = item.live
        return (live, task, item, running) if running is not None else None

    def is_live(self, attempt: AttemptId) -> bool:
        return self.current(attempt) is not None

    @property
    def reserved_count(self) -> int:
        """Attempts that hold a reservation."""
        return len(self.holders)

    def is_eligible(self, entry: Entry, lane: Lane) -> bool:
        """Is this entry of a lane still true: item ready and nowhere else in the queue, workflow neither suspended nor
        doomed, priority as it is now?"""
        live = self.workflows.get(entry[1])
        if live is None or live.row.state != "running" or not live.tenant.is_open:
            return False
        name = live.dag.names[entry[3]]
        items = live.tasks[name].items
        if entry[4] >= len(items) or items[entry[4]].state != "ready" or live.is_doomed(name):
            return False
        if items[entry[4]].number != entry[6]:  # it was admitted since, and is back with an entry of its own
            return False
        if self.policy.order == "fair" and live.row.priority != -entry[0]:
            return False
        if self.moved and (entry[1], entry[3], entry[4]) in self.moved:
            return self.moved[entry[1], entry[3], entry[4]] is lane
        is_elastic = lane.kind.shape.gang.min_replicas
        return not is_elastic or self._is_small(entry[1], entry[3], entry[4]) == lane.kind.shape.is_small

    def _is_small(self, workflow: int, order: int, number: int) -> bool:
        return (workflow, order, number) in self.lanes.small

    def wants_cycle(self) -> bool:
        """Is there anything ready that the scheduler has not seen against the space there is now?"""
        lanes = self.lanes
        if not lanes.lanes:
            return False
        return lanes.is_dirty or lanes.seen_version != self.space.version or self._is_overdue()

    @property
    def reservations_most_count(self) -> int:
        """How many reservations there may be now."""
        own = self.policy.project_reservations_count if len(self.lanes.projects) <= 1 else 0
        return max(self.policy.reservations_count, own) if self.policy.reservations_count else 0

    def _is_overdue(self) -> bool:
        """Should a gang have started by forecast, and has not? What was kept for it may be for others meanwhile, or it
        may be due to it that others stop."""
        now_ms = self.now_ms
        if any(until_ms <= now_ms for until_ms in self.lanes.patient.values()):
            return True
        return any(found.start_at_ms <= now_ms and not found.victims for found in self.reservations.values())

    def reserved(self) -> Iterator[tuple[AttemptId, Attempt, LiveWorkflow]]:
        """All attempts that hold a reservation, oldest admission first (after a restart: in the order of workflows)."""
        for attempt, live in self.holders.items():
            running = live.tasks[attempt.task].items[attempt.item].live
            if running is not None:
                yield attempt, running, live

    def _find_reserved(self) -> None:
        """After loading: who holds a reservation, from the rows."""
        for workflow, live in self.workflows.items():
            for name, task in live.tasks.items():
                for number, item in enumerate(task.items):
                    if item.live is not None:
                        attempt = AttemptId(workflow, name, number, item.number)
                        self.holders.add(attempt, live)
                        if item.state == "stopping":
                            self.holders.stop(attempt)

    # --------------------------------------------------------------------------------------------------- indexes

    def _enter(self, row: Workflow) -> LiveWorkflow:
        tenancy = self.tenancy
        if len(tenancy.nodes) + tenancy.new_count(row.project) > self.limits.tenants_count:
            tenancy.drop_idle()
            self.lanes.rebuild()  # none may hang where nobody is any more
        live = LiveWorkflow(row, self.dags[row.spec], tenancy.tenant(row.project))
        if row.state not in TERMINAL:
            tenancy.charge(live.tenant, ONE_WORKFLOW)
        self.workflows[row.id] = live
        self.dag_users[row.spec] = self.dag_users.get(row.spec, 0) + 1
        self.item_count += len(live.tasks)
        return live

    def _settle(self, live: LiveWorkflow, task: LiveTask) -> None:
        """Count a settled task: for its workflow, and for each child whose need it meets."""
        vertex, state = task.vertex, task.row.state
        if vertex.is_final:
            live.finally_left -= 1
        else:
            live.main_left -= 1
        for child, need in vertex.children:
            if is_met(need, state):
                live.tasks[child].unmet -= 1

    @staticmethod
    def _count_ended(task: LiveTask, state: str) -> None:
        task.left -= 1
        task.failed += state == "failed"
        task.cancelled += state == "cancelled"

    def _remember(self, sequence: int, scope: str, payload_digest: str, workflow: int) -> None:
        slot = sequence % self.limits.idempotency_keys_count
        self.keys.pop(self.key_ring.pop(slot, ""), None)
        self.key_ring[slot] = scope
        self.keys[scope] = (payload_digest, workflow)
        self.key_count = max(self.key_count, sequence + 1)

    def ask_of(self, attempt: AttemptId, live: LiveWorkflow) -> Resources:
        """What a replica of this attempt holds."""
        if self.moved:
            lane = self.moved.get((attempt.workflow, live.dag.vertices[attempt.task].order, attempt.item))
            if lane is not None:
                return lane.kind.shape.ask
        return live.dag.tasks[attempt.task].resources

    def _set_nodes(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes
        fresh = self.space.replace(nodes)
        self.tenancy.set_nodes(nodes)
        self.lanes.renew()
        for attempt_id, attempt, live in self.reserved() if fresh else ():
            there = tuple(place for place in attempt.places if place.node in fresh)
            self.space.take(there, live.dag.tasks[attempt_id.task].resources)

    def _close_or_open(self, node: str) -> None:
        """The books on free space know which nodes take no work. A gang that was promised a place there needs another,
        and others need not wait for it any more: a cycle finds out."""
        why = closed_text(self.health.mark(node))
        if why:
            if node not in self.space.closed:
                self.lanes.leave()
            self.space.close(node, why)
        else:
            self.space.open(node)
            self.lanes.renew()

    def models_of(self, places: tuple[Place, ...], ask: Resources) -> tuple[str, ...]:
        """GPU models of a placement as model.Attempt keeps them."""
        if not ask.gpu_count:
            return ()
        models = tuple(self.space.nodes[place.node].node.gpu_type for place in places)
        return models[:1] if models.count(models[0]) == len(models) else models

    # ---------------------------------------------------------------------------- the ready queue, max_parallel

    def lane_of(self, live: LiveWorkflow, name: str, is_small: bool = False) -> Lane:
        """The lane of a task's items."""
        return self.lane_for(live, live.dag.tasks[name], is_small)

    def lane_for(self, live: LiveWorkflow, task: TaskSpec, is_small: bool) -> Lane:
        """The lane of items of such a task. A gang that follows another task's domain has a shape of its own."""
        policy = self.policy
        duration_ms = 0
        if policy.backfill and policy.reservations_count:
            duration_ms = self.forecast.duration_ms(live.series, task)
        follows = live.row.id if task.gang.topology_with else 0
        project = live.row.project if policy.order == "fair" else ""
        return self.lanes.lane(task.resources, task.gang, follows, is_small, duration_ms, project)

    def rank(self, live: LiveWorkflow, name: str) -> int:
        """What orders items of one project first."""
        if self.policy.order == "sjf":
            return self.forecast.duration_ms(live.series, live.dag.tasks[name])
        return -live.row.priority if self.policy.order == "fair" else 0

    def tail_ms(self, live: LiveWorkflow, order: int) -> int:
        """How long the workflow goes on at least once this task has begun."""
        if not live.tails:
            learnt = self.forecast.of(live.series)
            live.tails = live.dag.tails_by(learnt) if learnt else live.dag.tails()
        return live.tails[order]

    def _queue(self, live: LiveWorkflow, name: str, numbers: Sequence[int]) -> None:
        """These items became ready (ascending): they enter the queue, as far as `max_parallel` lets them."""
        self._push(live, live.ask_places(name, numbers))

    def _leave(self, live: LiveWorkflow, name: str, number: int) -> None:
        """This item needs its place under `max_parallel` no more, if it held one: others move up."""
        if live.placed:
            self._push(live, live.give_place(name, number))

    def _push(self, live: LiveWorkflow, placed: Placed) -> None:
        for name, numbers in placed:
            vertex = live.tasks[name].vertex
            if vertex.spec.gang.min_replicas:
                is_small = [number for number in numbers if self._is_small(live.row.id, vertex.order, number)]
                self._push_to(live, name, is_small, self.lane_for(live, vertex.spec, True))
                numbers = [number for number in numbers if number not in is_small]
            self._push_to(live, name, numbers, self.lane_for(live, vertex.spec, False))

    def _push_to(self, live: LiveWorkflow, name: str, numbers: Sequence[int], lane: Lane) -> None:
        if numbers:
            task = live.tasks[name]
            order = task.vertex.order
            rank, tail_ms = self.rank(live, name), self.tail_ms(live, order)
            born = self.lanes.admitted.get(lane.project, 0)
            items = task.items
            entries: list[Entry] = [
                (rank, live.row.id, -tail_ms, order, number, born, items[number].number) for number in numbers
            ]
            self.lanes.push(lane, entries, self)
            if lane not in live.lanes:
                if len(live.lanes) >= FEW_COUNT and len(live.lanes).bit_count() == 1:  # each time it doubled
                    live.lanes = {other: None for other in live.lanes if other.count}
                live.lanes[lane] = None

    def accept_less(self, live: LiveWorkflow, name: str, number: int) -> None:
        """This elastic gang waited for its full size as long as it wanted: fewer replicas will do from now on."""
        if self._is_small(live.row.id, live.dag.vertices[name].order, number):
            return
        self.lanes.small.add((live.row.id, live.dag.vertices[name].order, number))
        self.lanes.leave()
        if live.holds_place(name, number):
            self._push_to(live, name, [number], self.lane_of(live, name, is_small=True))

    def _insist(self, live: LiveWorkflow, name: str, number: int) -> None:
        """The item waits no more; when it does again, it wants its full size first."""
        if self.lanes.small:
            self.lanes.small.discard((live.row.id, live.dag.vertices[name].order, number))

    def _requeue(self, live: LiveWorkflow) -> None:
        """Put what may be scheduled of this workflow into the queue afresh: entries of it were dropped while it was
        suspended, or have another priority. None stays twice."""
        opened = [name for name, task in live.tasks.items() if task.row.state == "open"]
        for lane in live.lanes:
            self.lanes.discard(live.row.id, lane)
        live.lanes = {}
        self.lanes.leave()
        for name in opened:
            items = live.tasks[name].items
            ready = [number for number, item in enumerate(items) if item.state == "ready"]
            self._push(live, [(name, [number for number in ready if live.holds_place(name, number)])])

    # ------------------------------------------------------------------------------------------------------- rows

    def take_rows(self) -> tuple[Rows, list[Listing]]:
        """What changed since the last call, encoded; and the listing of each workflow whose row changed."""
        rows = Rows(
            workflows={key: _encode(live.row) for key, live in self._dirty_workflows.items()},
            tasks={key: _encode(row) for key, row in self._dirty_tasks.items()},
            items={key: _encode(item) for key, item in self._dirty_items.items()},
            specs={key: _encode(spec) for key, spec in self._dirty_specs.items()},
            meta=self._dirty_meta,
        )
        listings = [listing(live) for live in self._dirty_workflows.values()]
        self.drop_rows()
        return rows, listings

    def drop_rows(self) -> tuple[Rows, list[Listing]]:
        """As `take_rows`, for who stores nothing: none."""
        self._dirty_workflows, self._dirty_tasks, self._dirty_items = {}, {}, {}
        self._dirty_specs, self._dirty_meta = {}, {}
        return Rows(), []

    def rows_of(self, workflow: int) -> Rows:
        """All rows of one workflow as the store should hold them (untouched tasks and items have none)."""
        live = self.workflows[workflow]
        rows = Rows(workflows={workflow: _encode(live.row)})
        for name, task in live.tasks.items():
            if task.row != Task():
                rows.tasks[(workflow, name)] = _encode(task.row)
            untouched = task.untouched()
            for number, item in enumerate(task.items):
                if item != untouched:
                    rows.items[(workflow, name, number)] = _encode(item)
        rows.specs[live.row.spec] = _encode(live.dag.spec)
        return rows

    @classmethod
    def load(cls, rows: Rows, limits: Limits | None = None, policy: Policy | None = None) -> Self:
        """The state that these rows describe. Raises msgspec.DecodeError on a row that is not ours."""
        state = cls(limits, policy)
        for name, blob in rows.meta.items():
            state._load_meta(name, blob)
        for key in sorted(_decode_key(blob) for name, blob in rows.meta.items() if name.startswith("key/")):
            state._remember(*key)
        for learnt in sorted(_decode_learnt(blob) for name, blob in rows.meta.items() if name.startswith("learnt/")):
            state.forecast.keep(learnt)
        state.adopt(rows)
        state._find_reserved()
        state._set_nodes(state.nodes)
        for attempt_id, attempt, live in state.reserved():
            ask = live.dag.tasks[attempt_id.task].resources
            state.space.mix.observe(ask, len(attempt.places))
            state.tenancy.charge(live.tenant, amounts_on(ask, len(attempt.places), attempt.models))
        tenants = (name.removeprefix("tenant/") for name in sorted(rows.meta) if name.startswith("tenant/"))
        state.tenancy.declare({path: _decode_tenant(rows.meta[f"tenant/{path}"]) for path in tenants})
        if "past" in rows.meta:
            state.tenancy.set_past(*_decode_past(rows.meta["past"]))
        state.lanes.rebuild()
        return state

    def _load_meta(self, name: str, blob: bytes) -> None:
        kind, _, rest = name.partition("/")
        if kind == "next_workflow":
            self.next_workflow = msgspec.msgpack.decode(blob, type=int)
        elif kind == "number":
            self.numbers[rest] = msgspec.msgpack.decode(blob, type=int)
        elif kind == "nodes":
            self.nodes = _decode_nodes(blob)
        elif kind == "node":
            self.health.set(rest, _decode_mark(blob))
            self._close_or_open(rest)

    def adopt(self, rows: Rows) -> None:
        """Bring stored workflows into memory (recovery, and a user's retry of an ended one)."""
        for digest, blob in rows.specs.items():
            if digest not in self.dags:
                self.dags[digest] = Dag(_decode_spec(blob))
        for workflow in sorted(rows.workflows):
            self._enter(_decode_workflow(rows.workflows[workflow]))
        for (workflow, name), blob in rows.tasks.items():
            task = self.workflows[workflow].tasks[name]
            task.row = _decode_task(blob)
            task.items = [task.untouched() for _ in range(task.row.item_count)]
            self.item_count += max(1, len(task.items)) - 1
        for (workflow, name, number), blob in rows.items.items():
            task, item = self.workflows[workflow].tasks[name], _decode_item(blob)
            if number < len(task.items) and item.number >= task.row.attempts_before:  # else left by an earlier round
                cast("list[Item]", task.items)[number] = item
        for workflow in sorted(rows.workflows):
            self._recount(self.workflows[workflow])

    def _recount(self, live: LiveWorkflow) -> None:
        """Rebuild every counter and queue entry of one workflow from its rows; it has none in the queue."""
        live.main_left, live.finally_left = len(live.dag.main_names), len(live.dag.finally_names)
        live.forget_places()
        for name, task in live.tasks.items():
            task.unmet = len(live.dag.tasks[name].needs)
            task.left = task.failed = task.cancelled = 0
        for name, task in live.tasks.items():
            if task.row.state in TERMINAL:
                self._settle(live, task)
            for number, item in enumerate(task.items):
                task.left += 1
                if item.state in TERMINAL:
                    self._count_ended(task, item.state)
                elif item.live is not None:
                    live.take_place(name, number)
        for name, task in live.tasks.items():
            ready = [number for number, item in enumerate(task.items) if item.state == "ready"]
            if ready:
                self._queue(live, name, ready)


def listing(live: LiveWorkflow) -> Listing:
    """The searchable columns of a workflow."""
    row, spec = live.row, live.dag.spec
    ended = row.state in TERMINAL
    keep_ms = spec.ttl_success_ms if row.state == "succeeded" else spec.ttl_failure_ms
    return Listing(
        row.id, row.project, row.name, row.number, row.state, row.by, not ended, row.accepted_at_ms, row.ended_at_ms,
        keep_ms if ended else 0,
    )  # fmt: skip
