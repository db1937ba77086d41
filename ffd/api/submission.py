"""From the text of a document to a Submit command: compile, resolve parameters, ask the engine. For both transports.

A document that was compiled lately costs nothing again; a large one is compiled in a thread, so that the daemon's loop
never stands still for it. Never here: how a document is checked (`ffd.core.document`).
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from ffd.api.access import Access
from ffd.api.limits import ApiLimits, check_name, over
from ffd.api.problem import DocumentRefusal
from ffd.api.shapes import Submission, SubmitResult
from ffd.api.source import compile_source
from ffd.core.commands import Accepted, Submit
from ffd.core.document import Fault, render, resolve_params
from ffd.core.spec import Spec
from ffd.errors import FfdError, Refusal

DEFAULT_PROJECT = "default"
FORMATS = ("auto", "yaml", "json")


class _Compiled(msgspec.Struct, frozen=True):
    spec: Spec
    spec_digest: str
    source_digest: str
    source_bytes: int
    warnings: tuple[Fault, ...]


class Submitter:
    """One per server: holds the compiled documents."""

    def __init__(self, limits: ApiLimits) -> None:
        self._limits = limits
        self._turns = anyio.CapacityLimiter(limits.compile_threads_count)
        self._kept_bytes = 0
        self._compiled: OrderedDict[tuple[str, str, str], _Compiled] = OrderedDict()

    async def submit(self, access: Access, submission: Submission) -> SubmitResult:
        """Durable on return. Refusal: DocumentRefusal with all faults; limit, invalid, forbidden, conflict."""
        result, command = await self.prepare(access, submission)
        return result if command is None else await self.ask(access, command, result)

    async def prepare(self, access: Access, submission: Submission) -> tuple[SubmitResult, Submit | None]:
        """All checks, nothing started. No command for a dry run."""
        self._check(submission)
        compiled = await self._compile(submission)
        params = _params(compiled.spec, submission)
        chosen = submission.project or compiled.spec.project or submission.default_project or DEFAULT_PROJECT
        project = access.check_project(chosen)
        warnings = tuple(render(fault, None, submission.filename) for fault in compiled.warnings)
        result = SubmitResult(0, "", project, warnings=warnings)
        if submission.dry_run:
            return result, None
        command = Submit(
            by=access.principal.name,
            project=project,
            key=submission.key,
            payload_digest=_payload_digest(submission, compiled.source_digest, project),
            spec=compiled.spec,
            spec_digest=compiled.spec_digest,
            params=params,
            priority=submission.priority,
            base_dir=submission.base_dir,
            labels=submission.labels,
        )
        return result, command

    async def ask(self, access: Access, command: Submit, prepared: SubmitResult) -> SubmitResult:
        answer = await access.engine.ask(command)
        assert isinstance(answer, Accepted)
        return SubmitResult(
            answer.workflow, answer.handle, answer.project, answer.duplicate, prepared.warnings + answer.warnings
        )

    def _check(self, submission: Submission) -> None:
        limits = self._limits
        if len(submission.source) > limits.document_bytes:
            raise over("document_bytes", "the document is larger than", limits.document_bytes)
        if submission.format not in FORMATS:
            raise Refusal(f"format is {submission.format[:40]!r}", field="format", hint=f"write {', '.join(FORMATS)}")
        if submission.base_dir and not submission.base_dir.startswith("/"):
            raise Refusal("base_dir must be an absolute path", field="base_dir")
        if "\0" in submission.base_dir:
            raise Refusal("base_dir must not hold a NUL", field="base_dir")
        if len(submission.labels) > limits.labels_count:
            raise over("labels_count", "there are more labels than", limits.labels_count)
        for name, value in submission.labels.items():
            check_name(name, "labels", limits)
            check_name(value, "labels", limits)
        check_name(submission.key, "key", limits)
        check_name(submission.filename, "filename", limits)
        both = submission.params.keys() & submission.params_text.keys()
        if both:
            raise Refusal(f"{min(both)} is given twice, typed and as text", field="params")
        if len(msgspec.json.encode([submission.params, submission.params_text])) > limits.params_bytes:
            raise over("params_bytes", "the parameters are larger than", limits.params_bytes)

    async def _compile(self, submission: Submission) -> _Compiled:
        digest = sha256(submission.source).hexdigest()
        key = (digest, submission.format, submission.filename)  # the filename may name the workflow
        found = self._compiled.get(key)
        if found is not None:
            self._compiled.move_to_end(key)
            return found
        if len(submission.source) <= self._limits.compile_inline_bytes:
            return self._keep(key, submission, _compile(submission, digest))
        async with self._turns:
            found = self._compiled.get(key)  # somebody else's, while we waited
            if found is None:
                found = self._keep(key, submission, await anyio.to_thread.run_sync(_compile, submission, digest))
        return found

    def _keep(self, key: tuple[str, str, str], submission: Submission, compiled: _Compiled) -> _Compiled:
        """The oldest make room; a document larger than the whole cache is not kept."""
        size = len(submission.source)
        if key not in self._compiled and size <= self._limits.compile_cache_bytes:
            self._compiled[key] = compiled
            self._kept_bytes += size
            while self._kept_bytes > self._limits.compile_cache_bytes:
                self._kept_bytes -= self._compiled.popitem(last=False)[1].source_bytes
        return compiled

    async def submit_all(
        self, access: Access, submissions: list[Submission | FfdError]
    ) -> list[SubmitResult | FfdError]:
        """Each by itself: its result, or why it was refused. All are checked first, then asked in this order at once,
        so that they can share a commit. Refusal (limit) for too many."""
        if len(submissions) > self._limits.submits_count:
            raise over("submits_count", "these are more documents than", self._limits.submits_count)
        results: list[SubmitResult | FfdError] = []
        commands: list[tuple[int, Submit]] = []
        for submission in submissions:
            try:
                if isinstance(submission, FfdError):
                    raise submission
                result, command = await self.prepare(access, submission)
            except FfdError as error:
                results.append(error)
                continue
            results.append(result)
            if command is not None:
                commands.append((len(results) - 1, command))
        async with anyio.create_task_group() as group:
            for place, command in commands:
                group.start_soon(self._ask_into, access, command, results, place)
        return results

    async def _ask_into(
        self, access: Access, command: Submit, results: list[SubmitResult | FfdError], place: int
    ) -> None:
        prepared = results[place]
        assert isinstance(prepared, SubmitResult)
        try:
            results[place] = await self.ask(access, command, prepared)
        except FfdError as error:
            results[place] = error


def _compile(submission: Submission, source_digest: str) -> _Compiled:
    compiled = compile_source(submission.source, submission.filename, submission.format)
    if compiled.spec is None:
        raise DocumentRefusal(compiled.faults, submission.filename)
    digest = sha256(msgspec.msgpack.encode(compiled.spec)).hexdigest()
    return _Compiled(compiled.spec, digest, source_digest, len(submission.source), compiled.warnings)


def _params(spec: Spec, submission: Submission) -> dict[str, Any]:
    """All values of one submit. Texts are read first, each as its declaration says; then all is checked at once."""
    given = submission.params
    if submission.params_text:
        named = tuple(param for param in spec.params if param.name in submission.params_text)
        texts = {param.name: submission.params_text[param.name] for param in named}
        typed = resolve_params(msgspec.structs.replace(spec, params=named), texts, from_text=True)
        given = {**submission.params_text, **submission.params, **typed}
    return resolve_params(spec, given)


def _payload_digest(submission: Submission, source_digest: str, project: str) -> str:
    """Names what was asked, so that a key used for something else is noticed. The filename is only for messages."""
    asked = [
        source_digest, submission.format, project, submission.priority, submission.base_dir,
        submission.params, submission.params_text, submission.labels,
    ]  # fmt: skip
    return sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()
