"""What an explanation is about: one ready item as the scheduler sees it; and what its reader may see.

Made by `explain` and `whatif`. Never here: why it waits.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from ffd.core.kinds import Entry, Lane, Shape
from ffd.core.live import LiveWorkflow
from ffd.core.model import AttemptId
from ffd.core.spec import Resources, Task
from ffd.core.state import State
from ffd.core.story import duration_text

SECOND_MS, MINUTE_MS = 1_000, 60_000


class Subject(NamedTuple):
    """A ready item. `task`: what it asks, which a what-if may have changed. `is_small`: fewer replicas will do now."""

    live: LiveWorkflow
    task: Task
    number: int
    is_small: bool

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def ask(self) -> Resources:
        return self.task.resources

    @property
    def key(self) -> tuple[int, int, int]:
        """(workflow, order, item): of its entry in a lane."""
        return self.live.row.id, self.live.dag.vertices[self.task.name].order, self.number

    def sizes(self) -> range:
        """Numbers of replicas that would do now, largest first."""
        return Shape(self.ask, self.task.gang, 0, self.is_small).sizes()


def subject_of(state: State, live: LiveWorkflow, name: str, number: int) -> Subject:
    is_small = (live.row.id, live.dag.vertices[name].order, number) in state.lanes.small
    return Subject(live, live.dag.tasks[name], number, is_small)


def entry_of(state: State, it: Subject, lane: Lane) -> Entry:
    """As it stands in its lane; without what waiting earned it."""
    live, order = it.live, it.live.dag.vertices[it.name].order
    born = state.lanes.admitted.get(lane.project, 0)
    attempt = live.tasks[it.name].items[it.number].number
    return (state.rank(live, it.name), live.row.id, -state.tail_ms(live, order), order, it.number, born, attempt)


class Sight:
    """What the reader may see (S23): these projects, None = all; and the tenants that they are charged to."""

    def __init__(self, state: State, projects: frozenset[str] | None) -> None:
        self.projects = projects
        self._levels: set[str] = set()  # only asked
        for project in sorted(projects or ()):
            tenant = state.tenancy.nodes.get(project)
            if tenant is not None:
                self._levels.update(level.path for level in tenant.chain())

    @property
    def is_full(self) -> bool:
        return self.projects is None

    def project(self, project: str) -> bool:
        return self.projects is None or project in self.projects

    def tenant(self, path: str) -> bool:
        return self.projects is None or path in self._levels

    def attempt(self, state: State, attempt: AttemptId) -> str:
        """Its name, or that it is somebody else's."""
        live = state.workflows[attempt.workflow]
        return label(live, attempt.task, attempt.item) if self.project(live.row.project) else "a gang of another tenant"


def label(live: LiveWorkflow, name: str, number: int) -> str:
    """`llm.42/train[3]`; without the number where there is but one."""
    return f"{live.row.handle}/{name}" + (f"[{number}]" if live.dag.tasks[name].is_fanout else "")


def gang_text(task: Task) -> str:
    """`2 x (8 H100, 4 cpus, 16.0 GiB)`: what is asked, for people."""
    return gang_of(task.gang.replicas, ask_text(task.resources))


def gang_of(replicas: int, inner: str) -> str:
    return f"{replicas} x ({inner})" if replicas > 1 else inner


def ask_text(ask: Resources) -> str:
    """What one replica asks for."""
    parts = []
    if ask.gpu_count:
        parts.append(f"{ask.held_gpu_millis / 1000:g} {'|'.join(ask.gpu_types) or 'GPUs'}")
    if ask.mig_count:
        parts.append(f"{ask.mig_count} {ask.mig_profile}")
    if ask.cpu_millis:
        parts.append(f"{ask.cpu_millis / 1000:g} cpus")
    if ask.memory_bytes:
        parts.append(f"{ask.memory_bytes / 2**30:.1f} GiB")
    return ", ".join(parts) or "1 slot"


def in_text(at_ms: int, now_ms: int) -> str:
    """`in 12m`: how far off an instant is, without what nobody wants to know."""
    left_ms = max(0, at_ms - now_ms)
    size = SECOND_MS if left_ms < 60 * MINUTE_MS else MINUTE_MS
    return f"in {duration_text(max(left_ms // size * size, 0) if left_ms >= size else left_ms)}"


def counted(count: int, word: str) -> str:
    """`1 gang`, `2 gangs`."""
    return f"{count} {word}" + ("" if count == 1 else "s")


def some(names: list[str], most: int = 3) -> str:
    """The first of them, and how many more."""
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - most} more" if len(unique) > most else ""
    return ", ".join(islice(unique, most)) + more
