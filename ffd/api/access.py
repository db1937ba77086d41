"""What one caller reaches: the engine, seen through its Principal. Both transports do everything through an Access.

A caller sees the workflows of its projects; anything else does not exist for it, in errors too. Never here: whether a
verb is permitted at all (`authz`), encoding, submits (`submission`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from ffd.api.engine import Engine, WatchPage
from ffd.api.limits import ApiLimits, check_name, over, page_size
from ffd.api.logs import LogQuery
from ffd.core.commands import (
    Cancel,
    Cordon,
    Done,
    Drain,
    NodesMarked,
    Resume,
    Retry,
    SetPriority,
    Suspend,
    Uncordon,
)
from ffd.core.model import AttemptId
from ffd.core.pages import (
    DrainPage,
    Explain,
    HoldPage,
    ItemPage,
    NodeDetail,
    NodePage,
    QueuePage,
    TaskPage,
    WorkflowPage,
)
from ffd.errors import Refusal
from ffd.plugins.ports import ListQuery, Principal

ALL = "*"
PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
Marking = TypeVar("Marking", Cordon, Uncordon, Drain)
Control = TypeVar("Control", Cancel, Suspend, Resume, Retry, SetPriority)


class Access(msgspec.Struct, frozen=True):
    """One caller, for one call."""

    engine: Engine
    principal: Principal
    limits: ApiLimits

    # ------------------------------------------------------------------------------------------------- what it may

    @property
    def sees_all(self) -> bool:
        return self.principal.admin or ALL in self.principal.projects

    def may_use(self, project: str) -> bool:
        return self.sees_all or project in self.principal.projects

    def check_project(self, project: str) -> str:
        """A project that something is to be put into. Refusal: forbidden, invalid."""
        if not PROJECT.fullmatch(project):
            raise Refusal(f"not a project's name: {project[:80]!r}", field="project", hint="write team/project")
        if not self.may_use(project):
            hint = f"use one of: {', '.join(self.principal.projects)}" if self.principal.projects else ""
            raise Refusal(
                f"{self.principal.name} may not use this project", code="forbidden", field="project", hint=hint
            )
        return project

    @property
    def attempt(self) -> AttemptId:
        """Of a task's token; `authz.permit` has seen to it that there is one."""
        assert self.principal.attempt is not None
        return self.principal.attempt

    # --------------------------------------------------------------------------------------------------- workflows

    async def locate(self, ref: str, project: str = "") -> int:
        """The workflow that `ref` names among those this caller sees. Refusal: not_found, conflict (ambiguous)."""
        check_name(ref, "ref", self.limits)
        check_name(project, "project", self.limits)
        if self.sees_all:
            return await self.engine.resolve(ref, project)
        return (await self._page_among_own(ref, project)).id

    async def workflow(self, ref: str, project: str = "") -> WorkflowPage:
        check_name(ref, "ref", self.limits)
        check_name(project, "project", self.limits)
        if self.sees_all:
            return await self.engine.workflow(await self.engine.resolve(ref, project))
        return await self._page_among_own(ref, project)

    async def _page_among_own(self, ref: str, project: str) -> WorkflowPage:
        for own in [project] if project else self.principal.projects:
            if own not in self.principal.projects:
                break
            try:
                page = await self.engine.workflow(await self.engine.resolve(ref, own))
            except Refusal as refusal:
                if refusal.code != "not_found":
                    raise
            else:
                if page.project == own:
                    return page
        raise Refusal(f"there is no workflow {ref!r}", code="not_found", field="ref")

    async def workflows(self, query: ListQuery) -> list[WorkflowPage]:
        """Newest first, over all projects this caller sees unless the query names one."""
        query = msgspec.structs.replace(query, limit=page_size(query.limit, self.limits))
        if self.sees_all:
            return await self.engine.workflows(query)
        if query.project:
            return await self.engine.workflows(query) if self.may_use(query.project) else []
        found = []
        for project in self.principal.projects:
            found += await self.engine.workflows(msgspec.structs.replace(query, project=project))
        return sorted(found, key=lambda page: -page.id)[: query.limit]

    async def tasks(self, ref: str, project: str, after: str, limit: int) -> list[TaskPage]:
        size = page_size(limit, self.limits)
        return await self.engine.tasks(await self.locate(ref, project), check_name(after, "after", self.limits), size)

    async def items(self, ref: str, project: str, task: str, after: int, limit: int) -> list[ItemPage]:
        size = page_size(limit, self.limits)
        return await self.engine.items(
            await self.locate(ref, project), check_name(task, "task", self.limits), max(after, -1), size
        )

    async def attempts(self, ref: str, project: str, task: str, item: int) -> list[AttemptId]:
        return await self.engine.attempts(
            await self.locate(ref, project), check_name(task, "task", self.limits), _natural(item, "item")
        )

    async def spec(self, ref: str, project: str) -> dict[str, Any]:
        return await self.engine.spec(await self.locate(ref, project))

    async def why(self, ref: str, project: str, task: str, item: int, what_if: Sequence[str] = ()) -> Explain:
        """What others have is told only as far as this caller sees it (S23)."""
        for text in what_if:
            check_name(text, "what_if", self.limits)
        projects = None if self.sees_all else frozenset(self.principal.projects)
        workflow = await self.locate(ref, project)
        return await self.engine.why(workflow, check_name(task, "task", self.limits), max(item, -1), projects, what_if)

    async def control(self, kind: type[Control], ref: str, project: str, key: str, **arguments: Any) -> Done:
        """Cancel, suspend, resume, retry, set the priority. Idempotent by `key`, within the workflow's project."""
        check_name(key, "key", self.limits)
        page = await self.workflow(ref, project)
        payload = msgspec.json.encode([kind.__name__, page.id, sorted(arguments.items())])
        command = kind(
            by=self.principal.name, project=page.project, key=key, payload_digest=sha256(payload).hexdigest(),
            workflow=page.id, **arguments,
        )  # fmt: skip
        answer = await self.engine.ask(command)
        assert isinstance(answer, Done)
        return answer

    # ------------------------------------------------------------------------------------------------ events, queue

    async def watch(self, ref: str, project: str, token: str) -> AsyncIterator[WatchPage]:
        """Subscribe; the caller iterates (and closes) what this returns. `ref` "" = all, for who sees all."""
        check_name(token, "token", self.limits)
        if ref:
            return self.engine.watch(await self.locate(ref, project), token)
        if not self.sees_all:
            hint = "watch one workflow, or use a token for all projects"
            raise Refusal("watching all workflows needs all projects", code="forbidden", field="ref", hint=hint)
        return self.engine.watch(0, token)

    async def story(self, ref: str, project: str, token: str, limit: int) -> WatchPage:
        """Past events of one workflow; `ref` "" = of all and of the cluster, for who sees all."""
        check_name(token, "token", self.limits)
        size = page_size(limit, self.limits)
        if not ref and not self.sees_all:
            hint = "name a workflow, or use a token for all projects"
            raise Refusal("the story of all needs all projects", code="forbidden", field="ref", hint=hint)
        return await self.engine.story(await self.locate(ref, project) if ref else 0, token, size)

    async def queue(self, project: str = "") -> list[QueuePage]:
        """Of one project, or of all: what the caller may not see is in its place without names, neighbours as one."""
        if project and not self.may_use(project):
            return []
        pages = await self.engine.queue(project)
        if project or self.sees_all:
            return pages
        found: list[QueuePage] = []
        for page in pages:
            if not page.project or self.may_use(page.project):  # without one: the last, for all that come later
                found.append(page)
            elif found and not found[-1].project:
                together = found[-1].waiting_count + page.waiting_count
                found[-1] = msgspec.structs.replace(found[-1], waiting_count=together)
            else:
                count = page.waiting_count
                found.append(
                    QueuePage(position=page.position, project="", gang="", waiting_count=count, head="", reason="")
                )
        return found

    # --------------------------------------------------------------------------------------------------------- nodes

    async def nodes(self, after: str = "") -> list[NodePage]:
        """By name, from behind `after`; a short page is the last."""
        return await self.engine.nodes(check_name(after, "after", self.limits), self.limits.page_count)

    async def node(self, name: str) -> NodeDetail:
        """What others hold there is told as one, without names."""
        page = await self.engine.node(check_name(name, "name", self.limits))
        own = tuple(hold for hold in page.holds if self.may_use(hold.project))
        others = [hold for hold in page.holds if not self.may_use(hold.project)]
        if not others:
            return page
        gpus = tuple(sorted(gpu for hold in others for gpu in hold.gpus))
        together = HoldPage(replica_count=sum(hold.replica_count for hold in others), gpus=gpus)
        return NodeDetail(node=page.node, holds=(*own, together))

    async def preview_drain(self, nodes: Sequence[str], labels: Mapping[str, str], grace_ms: int | None) -> DrainPage:
        self._check_selection(nodes, labels)
        return await self.engine.preview_drain(tuple(nodes), dict(labels), _grace(grace_ms))

    async def mark_nodes(
        self, kind: type[Marking], nodes: Sequence[str], labels: Mapping[str, str], key: str, **arguments: Any
    ) -> NodesMarked:
        """Cordon, uncordon, drain. Idempotent by `key`."""
        check_name(key, "key", self.limits)
        self._check_selection(nodes, labels)
        _grace(arguments.get("grace_ms"))
        payload = msgspec.json.encode([kind.__name__, sorted(nodes), sorted(labels.items()), sorted(arguments.items())])
        command = kind(
            by=self.principal.name, project="", key=key, payload_digest=sha256(payload).hexdigest(),
            nodes=tuple(nodes), labels=dict(labels), **arguments,
        )  # fmt: skip
        answer = await self.engine.ask(command)
        assert isinstance(answer, NodesMarked)
        return answer

    def _check_selection(self, nodes: Sequence[str], labels: Mapping[str, str]) -> None:
        if len(labels) > self.limits.labels_count:
            raise over("labels_count", "a selection has more labels than", self.limits.labels_count)
        for text in (*nodes, *labels, *labels.values()):
            check_name(text, "nodes", self.limits)

    async def log_query(self, ref: str, project: str, **query: Any) -> LogQuery:
        check_name(query["task"], "task", self.limits)
        return LogQuery(workflow=await self.locate(ref, project), **query)


def _grace(grace_ms: int | None) -> int | None:
    return grace_ms if grace_ms is None else _natural(grace_ms, "grace_ms")


def _natural(number: int, field: str) -> int:
    if number < 0:
        raise Refusal(f"{field} must be 0 or more, got {number}", field=field)
    return number
