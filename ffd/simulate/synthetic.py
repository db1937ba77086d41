"""Synthetic workloads: what is drawn, from which distributions, with which seed. The same file gives the same jobs.

    seed: 42
    for: 24h                                        # submits come in this time
    arrivals: {process: poisson, per_hour: 120}     # or uniform: evenly spaced
    tenants:                                        # `share`: part of the submits
      research/llm: {share: 3, weight: 2, quota: {gpus: 256}}
      research/vision: {share: 1}
      research: {share: 0, quota: {gpus: 384}}      # a level above, that submits nothing
    jobs:                                           # each a task as in documents, without `run`
      - {share: 6, duration: {lognormal: {median: 20m, sigma: 1.2}}, task: {resources: {gpus: 1}}}
      - {share: 1, duration: 4h, priority: 700, task: {resources: {gpus: "H100:8"}, gang: 4, checkpoint: true}}
    failures: {rate: 0.02}                          # of attempts, after a part of their duration

A duration is fixed (`4h`), or `exponential: {mean}`, `lognormal: {median, sigma}`, `choices: [...]`. Called by
`scenario`.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from ffd.api.source import Parsed
from ffd.core.amounts import amount_of
from ffd.core.commands import SetQuota, SetTenant
from ffd.core.document import Path, compile_document
from ffd.core.document.faults import Faults, Locate
from ffd.core.document.raw import Duration, Raw
from ffd.core.document.scalars import Wrong, duration_ms
from ffd.core.spec import Spec
from ffd.errors import Refusal
from ffd.simulate.files import read_mapping
from ffd.simulate.trace import DEFAULT_PROJECT, NAME, ROWS_COUNT
from ffd.simulate.workload import Failures, Workload, declare

Part = Annotated[float, Meta(ge=0, le=1e9)]
Draw = Callable[[random.Random], int]
LONGEST_MS = 10 * 365 * 86_400_000


class RawArrivals(Raw, frozen=True, gc=False):
    per_hour: Annotated[float, Meta(ge=0.001, le=1e8)]
    process: Literal["poisson", "uniform"] | UnsetType = UNSET


class RawTenant(Raw, frozen=True, gc=False):
    share: Part | UnsetType = UNSET
    weight: Annotated[float, Meta(ge=0.001, le=1e6)] | UnsetType = UNSET
    quota: dict[str, int | float | str] | UnsetType = UNSET


class RawExponential(Raw, frozen=True, gc=False):
    mean: Duration


class RawLognormal(Raw, frozen=True, gc=False):
    median: Duration
    sigma: Annotated[float, Meta(ge=0, le=5)]


class RawDurations(Raw, frozen=True, gc=False):
    """Exactly one of them."""

    exponential: RawExponential | UnsetType = UNSET
    lognormal: RawLognormal | UnsetType = UNSET
    choices: list[Duration] | UnsetType = UNSET


class RawJob(Raw, frozen=True, gc=False):
    duration: Duration | RawDurations
    task: dict[str, Any] | UnsetType = UNSET
    share: Part | UnsetType = UNSET
    name: str | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=0, le=1000)] | UnsetType = UNSET


class RawFailures(Raw, frozen=True, gc=False):
    rate: Annotated[float, Meta(ge=0, le=1)]


class RawSynthetic(Raw, frozen=True, gc=False, rename={"for_": "for"}):
    for_: Duration
    arrivals: RawArrivals
    jobs: list[RawJob]
    seed: int | UnsetType = UNSET
    tenants: dict[str, RawTenant] | UnsetType = UNSET
    failures: RawFailures | UnsetType = UNSET


def read_synthetic(path: str, *, knows: bool = False) -> Workload:
    """The workload that a file describes; `knows` as in `trace.read_csv`. Raises InputFaults."""

    def finish(raw: RawSynthetic, faults: Faults, parsed: Parsed) -> Workload:
        return _Maker(raw, faults, parsed.locate).make(knows)

    found: Workload = read_mapping(path, RawSynthetic, finish)
    return found


def _lasting(spec: Spec, length_ms: int) -> Spec:
    return declare(spec, lambda task: length_ms)


class _Maker:
    def __init__(self, raw: RawSynthetic, faults: Faults, locate: Locate) -> None:
        self._raw, self._faults, self._locate = raw, faults, locate
        self._seed = 0 if raw.seed is UNSET else raw.seed
        rate = 0.0 if raw.failures is UNSET else raw.failures.rate
        self.workload = Workload(Failures(rate, self._seed))

    def make(self, knows: bool) -> Workload:
        """Jobs are drawn one after the other: gap, tenant, kind of job, length."""
        raw, faults = self._raw, self._faults
        for_ms = self._ms(("for",), raw.for_)
        if raw.arrivals.per_hour * for_ms / 3_600_000 > ROWS_COUNT:
            faults.add(("arrivals", "per_hour"), f"more than {ROWS_COUNT} jobs in all (limit ROWS_COUNT)", code="limit")
        tenants = list(raw.tenants) if raw.tenants is not UNSET and raw.tenants else [DEFAULT_PROJECT]
        parts = [] if raw.tenants is UNSET else [one.share for one in raw.tenants.values()]
        whose = _Choice([1.0 if part is UNSET else part for part in parts] or [1.0], ("tenants",), faults)
        what = _Choice([1.0 if job.share is UNSET else job.share for job in raw.jobs], ("jobs",), faults)
        draws = [self._draw(("jobs", k, "duration"), job.duration) for k, job in enumerate(raw.jobs)]
        specs = [self._spec(job, k) for k, job in enumerate(raw.jobs)]
        self._tenants()
        if len(faults):
            return self.workload
        chance, at_ms = random.Random(self._seed), 0.0
        shapes: dict[tuple[int, int, int], int] = {}
        while True:
            at_ms += self._gap_ms(chance)
            if at_ms >= for_ms:
                return self.workload
            who, which = whose.draw(chance), what.draw(chance)
            length_ms = draws[which](chance)
            key = (who, which, length_ms if knows else 0)
            if key not in shapes:
                spec = specs[which]
                assert spec is not None
                known = _lasting(spec, length_ms) if knows else spec
                priority = raw.jobs[which].priority
                shapes[key] = self.workload.shape(known, tenants[who], None if priority is UNSET else priority)
            self.workload.add(round(at_ms), shapes[key], length_ms)

    def _tenants(self) -> None:
        """What is decided of tenants, as commands that come before all submits."""
        for path, tenant in {} if self._raw.tenants is UNSET else self._raw.tenants.items():
            if tenant.weight is not UNSET:
                weight = SetTenant(tenant=path, weight_millis=round(tenant.weight * 1_000), by="simulate")
                self.workload.setup.append(weight)
            changes: dict[str, dict[str, int | None] | None] = {}
            for resource, amount in {} if tenant.quota is UNSET else tenant.quota.items():
                try:
                    changes[resource] = {"nominal": amount_of(resource, amount), "borrow_max": 0, "lend_max": None}
                except Refusal as refusal:
                    self._faults.add(("tenants", path, "quota", resource), refusal.message, hint=refusal.hint)
            if changes:
                self.workload.setup.append(SetQuota(tenant=path, changes=changes, by="simulate"))

    def _gap_ms(self, chance: random.Random) -> float:
        mean_ms = 3_600_000 / self._raw.arrivals.per_hour
        if self._raw.arrivals.process == "uniform":
            return mean_ms
        return -math.log(1.0 - chance.random()) * mean_ms

    def _spec(self, job: RawJob, index: int) -> Spec | None:
        task = {} if job.task is UNSET else job.task
        ran = task if {"run", "command", "call"} & task.keys() else {"run": "true", **task}
        name = f"job-{index + 1}" if job.name is UNSET else job.name
        compiled = compile_document({"name": name, "tasks": {NAME: ran}})
        for fault in compiled.faults:
            own = fault.path.removeprefix(f"tasks.{NAME}").lstrip(".")
            path: Path = ("jobs", index, "task", *_steps(own, task)) if own != "name" else ("jobs", index, "name")
            self._faults.add(path, fault.message, hint=fault.hint, code=fault.code)
        return compiled.spec

    def _ms(self, path: Path, text: str) -> int:
        try:
            return duration_ms(text)
        except Wrong as wrong:
            self._faults.add(path, wrong.message, hint=wrong.hint)
            return 0

    def _draw(self, path: Path, raw: str | RawDurations) -> Draw:
        if isinstance(raw, str):
            fixed_ms = self._ms(path, raw)
            return lambda chance: fixed_ms
        given = [name for name in raw.__struct_fields__ if getattr(raw, name) is not UNSET]
        if len(given) != 1:
            self._faults.add(path, "expected one of exponential, lognormal and choices")
        if raw.exponential is not UNSET:
            mean_ms = self._ms((*path, "exponential", "mean"), raw.exponential.mean)
            return lambda chance: round(min(-math.log(1.0 - chance.random()) * mean_ms, LONGEST_MS))
        if raw.lognormal is not UNSET:
            median_ms, sigma = self._ms((*path, "lognormal", "median"), raw.lognormal.median), raw.lognormal.sigma
            return lambda chance: round(min(median_ms * math.exp(sigma * chance.gauss(0.0, 1.0)), LONGEST_MS))
        choices = [] if raw.choices is UNSET else raw.choices
        lengths_ms = [self._ms((*path, "choices", k), text) for k, text in enumerate(choices)]
        if given == ["choices"] and not lengths_ms:
            self._faults.add((*path, "choices"), "the list is empty")
        return lambda chance: lengths_ms[int(chance.random() * len(lengths_ms))]


class _Choice:
    """Draws an index by parts."""

    def __init__(self, parts: list[float], path: Path, faults: Faults) -> None:
        self._ends = list(accumulate(parts))
        if not parts or self._ends[-1] <= 0:
            faults.add(path, "nothing to draw from: all shares are 0" if parts else "the list is empty")

    def draw(self, chance: random.Random) -> int:
        return min(bisect_right(self._ends, chance.random() * self._ends[-1]), len(self._ends) - 1)


def _steps(shown: str, value: Any) -> Path:
    """The path that a fault shows as `resources.gpus` or `needs[0]`, as far as it leads in `value`."""
    steps: list[str | int] = []
    for word in shown.replace("[", ".").replace("]", "").split("."):
        step: str | int = int(word) if isinstance(value, list) and word.isdecimal() else word
        steps.append(step)
        value = value.get(step) if isinstance(value, Mapping) else None
    return tuple(steps) if shown else ()
