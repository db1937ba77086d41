"""Nodes: what users ask of them (cordon, uncordon, drain), and what follows from their failures (quarantine).

Called by `core.step`; `victims` also by the preview of a drain, so that it shows what a drain would do. The rules on
marks are in `core.health`. Never here: where stopped work goes (the scheduling cycle decides, as for all work).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

import msgspec

from ffd.core import effects
from ffd.core import events as ev
from ffd.core.commands import Cordon, Drain, NodesMarked, OfNodes, Uncordon
from ffd.core.entry import key_scope, refuse_reuse
from ffd.core.health import UNMARKED, failures_text, quarantine_ms, quarantine_timer
from ffd.core.live import LiveWorkflow
from ffd.core.model import Attempt, AttemptId, Cause
from ffd.core.state import State
from ffd.core.story import duration_text
from ffd.core.work import Work
from ffd.errors import Refusal

WHY_CHARS = 500


def cordon(work: Work, command: Cordon) -> None:
    names = _begin(work, command, command.why)
    for name in names:
        mark = work.state.health.mark(name)
        if not mark.cordoned or (mark.by, mark.why) != (command.by, command.why):
            work.emit(ev.NodeCordoned(name, command.by, command.why, False))
    _done(work, command, names)


def uncordon(work: Work, command: Uncordon) -> None:
    names = _begin(work, command)
    for name in names:
        if work.state.health.mark(name) != UNMARKED:
            work.emit(ev.NodeUncordoned(name, command.by))
    _done(work, command, names)


def drain(work: Work, command: Drain) -> None:
    names = _begin(work, command, command.why)
    for name in names:
        mark = work.state.health.mark(name)
        if not mark.draining or (mark.by, mark.why) != (command.by, command.why):
            work.emit(ev.NodeCordoned(name, command.by, command.why, True))
    by = f" by {command.by}" if command.by else ""
    why = f": {command.why}" if command.why else ""
    for victim in victims(work.state, names):
        node = next(place.node for place in victim.running.places if place.node in names)
        cause = Cause("preempted", f"{node} is drained{by}{why}", node=node)
        grace_ms = command.grace_ms
        if grace_ms is None:
            grace_ms = work.stop_grace_ms(victim.live.dag.tasks[victim.attempt.task])
        work.emit(ev.AttemptStopping(victim.attempt, cause, grace_ms))
    _done(work, command, names)


class Victim(msgspec.Struct, frozen=True):
    """An attempt that a drain stops, whole, wherever else it runs."""

    attempt: AttemptId
    running: Attempt
    live: LiveWorkflow


def victims(state: State, names: Iterable[str]) -> list[Victim]:
    """What a drain of these nodes would stop now, oldest workflow first. What is being stopped already goes anyway."""
    nodes = frozenset(names)
    return [
        Victim(attempt, running, live)
        for attempt, running, live in state.reserved()
        if running.stop_cause is None and any(place.node in nodes for place in running.places)
    ]


def select(state: State, nodes: Iterable[str], labels: Mapping[str, str]) -> tuple[str, ...] | Refusal:
    """The nodes that are meant, by name: those named, and those that have all of `labels`."""
    found: dict[str, None] = {}
    for name in nodes:
        if name not in state.space.nodes and name not in state.health.marks:
            near = difflib.get_close_matches(name, list(state.space.nodes)[:10_000], n=1)
            hint = f"did you mean {near[0]}?" if near else "`ffd nodes` lists them"
            return Refusal(f"there is no node {name[:80]!r}", code="not_found", field="nodes", hint=hint)
        found[name] = None
    if labels:
        with_labels = [node.name for node in state.nodes if labels.items() <= node.labels.items()]
        if not with_labels:
            said = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
            return Refusal(f"no node has {said[:200]}", code="not_found", field="labels")
        found.update(dict.fromkeys(with_labels))
    if not found:
        return Refusal("which nodes?", field="nodes", hint="name them, or give a label as rack=r7")
    return tuple(sorted(found))


def _begin(work: Work, command: OfNodes, why: str = "") -> tuple[str, ...]:
    """The nodes a command speaks of; none when it has been answered: refused, or its key was used before."""
    if len(why) > WHY_CHARS:
        work.answer(Refusal(f"`why` has {len(why)} characters, at most {WHY_CHARS}", code="limit", field="why"))
        return ()
    names = select(work.state, command.nodes, command.labels)
    scope = key_scope(command)
    if scope in work.state.keys:
        again = names if isinstance(names, Refusal) else _marked(work, names, is_again=True)
        work.answer(refuse_reuse(work.state, command, scope) or again)
        return ()
    if isinstance(names, Refusal):
        work.answer(names)
        return ()
    return names


def _done(work: Work, command: OfNodes, names: tuple[str, ...]) -> None:
    if not names:
        return
    scope = key_scope(command)
    if scope:
        work.emit(ev.KeyRemembered(scope, command.payload_digest, 0))
    work.answer(_marked(work, names))


def _marked(work: Work, names: tuple[str, ...], is_again: bool = False) -> NodesMarked:
    nodes = frozenset(names)
    stopping = sum(
        running.stop_cause is not None and any(place.node in nodes for place in running.places)
        for _, running, _ in work.state.reserved()
    )
    return NodesMarked(names, stopping, is_again)


# -------------------------------------------------------------------------------------------------------- quarantine


def node_failed(work: Work, event: ev.NodeFailed) -> None:
    """Too often, or again on probation: it is closed for a while."""
    state = work.state
    closed_ms = quarantine_ms(state.health, event.node, state.space.nodes, state.policy, work.now_ms)
    if closed_ms:
        why = f"{failures_text(state.health.mark(event.node))}; closed for {duration_text(closed_ms)}"
        work.emit(ev.NodeQuarantined(event.node, work.now_ms + closed_ms, why))


def watch_quarantine(work: Work, event: ev.NodeQuarantined) -> None:
    work.effect(effects.SetTimer(quarantine_timer(event.node), event.until_at_ms))


def forget_quarantine(work: Work, event: ev.NodeUncordoned) -> None:
    work.effect(effects.ClearTimers(quarantine_timer(event.node).attempt))
