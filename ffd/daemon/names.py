"""Names: what people type -> workflow numbers. `name.N`, `name`, `name@latest`, `@latest`, a number, a unique prefix.

Live workflows are found in an index that follows durable commits, ended ones in the store; which numbers a name has
given out is known for all. Called by the engine. Never here: who may see what (`api.access`); near names are given only
within the project that was asked for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from ffd.core.model import Listing
from ffd.core.state import State
from ffd.errors import Refusal
from ffd.plugins.ports import ListQuery, Store

HANDLE = re.compile(r"(?P<name>.+)\.(?P<number>[1-9]\d{0,17})")
LATEST = "@latest"
HANDLES_COUNT = 10_000  # of ended workflows whose handle is remembered
NEAR_COUNT = 5  # candidates that a refusal names
NEAR_AMONG_COUNT = 2_000  # names that are compared for "did you mean"


class Names:
    """Of one reign. Live workflows and lately ended ones need no look into the store."""

    def __init__(self, state: State, store: Store) -> None:
        self._state = state
        self._store = store
        self._handles: dict[int, str] = {}
        self._ended: dict[int, str] = {}
        self._live: dict[tuple[str, str], int] = {}  # (project, handle)
        self._projects: dict[str, None] = {label.rpartition("/")[0]: None for label in state.numbers}
        for workflow, live in state.workflows.items():
            self._enter(workflow, live.row.project, live.row.handle)

    def learn(self, listings: Sequence[Listing]) -> None:
        """These rows are durable now."""
        for found in listings:
            handle = f"{found.name}.{found.number}"
            if found.live:
                if found.workflow not in self._handles:
                    self._enter(found.workflow, found.project, handle)
            else:
                self._handles.pop(found.workflow, None)
                self._live.pop((found.project, handle), None)
                self._remember(found.workflow, handle)

    def drop(self, workflow: int) -> None:
        """It was removed from the store."""
        self._ended.pop(workflow, None)

    def _enter(self, workflow: int, project: str, handle: str) -> None:
        self._handles[workflow] = handle
        self._live[(project, handle)] = workflow
        self._projects[project] = None

    def _remember(self, workflow: int, handle: str) -> None:
        self._ended[workflow] = handle
        if len(self._ended) > HANDLES_COUNT:
            del self._ended[next(iter(self._ended))]

    async def handle(self, workflow: int) -> str:
        """`name.N` of a workflow, live or ended; "" when there is none (any more)."""
        known = self._handles.get(workflow) or self._ended.get(workflow)
        if known:
            return known
        found = await self._number(workflow)
        if found is not None:
            known = f"{found.name}.{found.number}"
            self._remember(workflow, known)
        return known or ""

    # ---------------------------------------------------------------------------------------------------- resolving

    async def resolve(self, text: str, project: str) -> int:
        """Refusal: not_found (with near names), conflict (several: says which)."""
        if text.isascii() and text.isdecimal():
            return await self._by_number(text, project)
        if text.endswith(LATEST):
            return await self._latest(text.removesuffix(LATEST), text, project)
        match = HANDLE.fullmatch(text)
        if match:
            found = await self._by_handle(match["name"], int(match["number"]), project)
            if len(found) == 1:
                return found[0]
            if found:
                raise self._ambiguous(text, [f"number {workflow}" for workflow in found])
        if not text:
            raise self._unknown(text, project)
        if any(f"{one}/{text}" in self._state.numbers for one in self._among(project)):
            return await self._latest(text, text, project)
        return await self._by_prefix(text, project)

    def _among(self, project: str) -> Iterable[str]:
        return (project,) if project else tuple(self._projects)

    async def _by_number(self, text: str, project: str) -> int:
        found = await self._number(int(text)) if len(text) <= 18 else None
        if found is None or (project and found.project != project):
            raise self._unknown(text, project)
        return found.workflow

    async def _number(self, workflow: int) -> Listing | None:
        listings = await self._store.list_workflows(ListQuery(before=workflow + 1, limit=1))
        return listings[0] if listings and listings[0].workflow == workflow else None

    async def _latest(self, name: str, text: str, project: str) -> int:
        listings = await self._store.list_workflows(ListQuery(project=project, name=name, limit=1))
        if not listings:
            raise self._unknown(text, project)
        return listings[0].workflow

    async def _by_handle(self, name: str, number: int, project: str) -> list[int]:
        """All workflows of this handle: at most one in each project."""
        found = []
        for one in self._among(project):
            if self._state.numbers.get(f"{one}/{name}", 0) >= number:
                live = self._live.get((one, f"{name}.{number}"))
                workflow = live if live is not None else await self._search(one, name, number)
                if workflow:
                    found.append(workflow)
        return found

    async def _search(self, project: str, name: str, number: int) -> int:
        """An ended workflow by its handle; 0 = none. Numbers of one name grow with the workflows' own: a binary search
        over single rows."""
        low, high = 1, self._state.next_workflow
        while low < high:  # the wanted one is in low..high-1, if anywhere
            middle = (low + high) // 2
            query = ListQuery(project=project, name=name, before=middle + 1, limit=1)
            listings = await self._store.list_workflows(query)
            if not listings or listings[0].workflow < low or listings[0].number < number:
                low = middle + 1
            elif listings[0].number == number:
                return listings[0].workflow
            else:
                high = listings[0].workflow
        return 0

    async def _by_prefix(self, text: str, project: str) -> int:
        """The one handle whose name begins so. The number of a handle is never guessed."""
        found: list[Listing] = []
        for one in self._among(project):
            for name in self._names_of(one):
                if f"{name}.".startswith(text) and len(found) <= NEAR_COUNT:
                    query = ListQuery(project=one, name=name, limit=NEAR_COUNT + 1)
                    found.extend(await self._store.list_workflows(query))
        if len(found) > 1:
            raise self._ambiguous(text, [f"{listing.name}.{listing.number}" for listing in found])
        if not found:
            raise self._unknown(text, project)
        return found[0].workflow

    def _names_of(self, project: str) -> list[str]:
        """All names ever used in a project, oldest first."""
        head = f"{project}/"
        tails = (label[len(head) :] for label in self._state.numbers if label.startswith(head))
        return [name for name in tails if "/" not in name]

    def _ambiguous(self, text: str, candidates: list[str]) -> Refusal:
        shown = ", ".join(candidates[:NEAR_COUNT]) + (" ..." if len(candidates) > NEAR_COUNT else "")
        return Refusal(
            f"{text!r} may be {shown}", code="conflict", field="ref", hint="write one of them in full, or NAME@latest"
        )

    def _unknown(self, text: str, project: str) -> Refusal:
        stem = text.partition("@")[0].rpartition(".")[0] or text
        names = [name for one in self._among(project) for name in self._names_of(one)]
        near = difflib.get_close_matches(stem, list(dict.fromkeys(names[-NEAR_AMONG_COUNT:])), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`ffd ls` shows what there is"
        return Refusal(f"there is no workflow {text[:200]!r}", code="not_found", field="ref", hint=hint)
