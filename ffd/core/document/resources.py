"""What a task asks for and how it is tried: resources, gang, retry, timeouts. Raw forms in, spec structs out.

Equal structs are shared between tasks. Called by `tasks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from ffd.core.document.faults import Faults, Path, quote
from ffd.core.document.limits import DocumentLimits
from ffd.core.document.raw import RawGang, RawResources, RawRetry, RawTimeout, RawTopology
from ffd.core.document.scalars import GPU_TYPE, Wrong, cpu_millis, duration_ms, gpu_request, size_bytes
from ffd.core.expr import nearest, render_string
from ffd.core.spec import WHOLE_MILLIS, Gang, Resources, Retry, Timeouts

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

CAUSES = ("error", "oom", "timeout", "node-lost", "preempted", "evicted", "gpu-error", "image-pull", "launch")
_RETRY = Retry()


class ResourceReader:
    def __init__(self, faults: Faults, limits: DocumentLimits) -> None:
        self.faults = faults
        self.limits = limits
        self._shared: dict[Any, Any] = {}

    def resources(self, raw: RawResources, path: Path) -> Resources:
        gpu_count, gpu_millis, model = 0, WHOLE_MILLIS, ""
        if raw.gpus is not UNSET:
            gpu_count, gpu_millis, model = self._read(gpu_request, raw.gpus, (*path, "gpus"), (0, WHOLE_MILLIS, ""))
        gpu_types: tuple[str, ...] = (model,) if model else ()
        if raw.gpu_type is not UNSET:
            if model:
                message = f"the model stands twice: here and in `gpus: {raw.gpus}`"
                self.faults.add((*path, "gpu_type"), message, key=True)
            gpu_types = self._gpu_types(raw.gpu_type, (*path, "gpu_type"))
        mig_profile, mig_count = "", 0
        if raw.mig is not UNSET:
            mig_profile, mig_count = raw.mig.profile, 1 if raw.mig.count is UNSET else raw.mig.count
            if gpu_count:
                self.faults.add((*path, "mig"), "a replica gets whole GPUs or MIG slices, not both", key=True)
        elif not gpu_count and (gpu_types or raw.gpu_memory is not UNSET):
            field = "gpu_type" if gpu_types else "gpu_memory"
            self.faults.add((*path, field), f"`{field}` has no effect without `gpus`", key=True)
        return self._share(
            Resources(
                gpu_count=gpu_count,
                gpu_types=gpu_types,
                gpu_memory_bytes=self._size(raw.gpu_memory, (*path, "gpu_memory")),
                mig_profile=mig_profile,
                mig_count=mig_count,
                cpu_millis=0 if raw.cpus is UNSET else self._read(cpu_millis, raw.cpus, (*path, "cpus"), 0),
                memory_bytes=self._size(raw.memory, (*path, "memory")),
                shm_bytes=self._size(raw.shm, (*path, "shm")),
                disk_bytes=self._size(raw.disk, (*path, "disk")),
                rdma=raw.rdma is True,
                gpu_millis=gpu_millis,
                node_labels=self._node_labels(raw),
                tolerate=() if raw.tolerate is UNSET else tuple(sorted(dict.fromkeys(raw.tolerate))),
            )
        )

    @staticmethod
    def _node_labels(raw: RawResources) -> tuple[tuple[str, str], ...]:
        if raw.labels is UNSET:
            return ()
        return tuple(sorted((key, render_string(value)) for key, value in raw.labels.items()))

    def gang(self, name: str, raw: int | RawGang, path: Path, known: Mapping[str, bool]) -> Gang:
        if isinstance(raw, int):
            return self._share(Gang(replicas=raw))
        launcher = "none" if raw.launcher is UNSET else raw.launcher
        replicas = 1 if raw.replicas is UNSET else raw.replicas
        least = 0 if raw.min is UNSET else raw.min
        if least > replicas:
            message = f"at least {least} of {replicas} replicas: `min` cannot exceed `replicas`"
            self.faults.add((*path, "min"), message)
        level, required, with_ = self._topology(name, raw, path, known)
        return self._share(
            Gang(
                replicas=replicas,
                min_replicas=least,
                topology=level,
                topology_required=required,
                topology_with=with_,
                launcher=launcher,
                success=("leader" if launcher == "mpi" else "all") if raw.success is UNSET else raw.success,
                wait_ms=self._duration(raw.wait, (*path, "wait"), 0),
            )
        )

    def _topology(
        self, name: str, raw: RawGang, path: Path, known: Mapping[str, bool]
    ) -> tuple[str, bool, tuple[str, ...]]:
        if not isinstance(raw.topology, RawTopology):
            return ("any" if raw.topology is UNSET else raw.topology), True, ()
        topology = raw.topology
        with_ = () if topology.with_ is UNSET else tuple(topology.with_)
        for index, other in enumerate(with_):
            where = (*path, "topology", "with", index)
            if other == name:
                self.faults.add(where, f"`{name}` shares its place with itself")
            elif other not in known:
                hint = partial(nearest, other, known)
                self.faults.add(where, f"unknown task {quote(other)}", hint=hint, code="unknown_task")
        return ("any" if topology.level is UNSET else topology.level), topology.mode != "preferred", with_

    def retry(self, raw: int | RawRetry, path: Path) -> Retry:
        count = raw if isinstance(raw, int) else 1 if raw.max is UNSET else raw.max
        if count > self.limits.retries_count:
            limit = f"{self.limits.retries_count} (limit retries_count)"
            self.faults.add(path, f"{count} retries, at most {limit} are allowed", code="limit")
        if isinstance(raw, int):
            return self._share(Retry(max_count=count))
        backoff_ms = self._duration(raw.backoff, (*path, "backoff"), _RETRY.backoff_ms)
        max_backoff_ms = self._duration(raw.max_backoff, (*path, "max_backoff"), max(_RETRY.max_backoff_ms, backoff_ms))
        if max_backoff_ms < backoff_ms:
            self.faults.add((*path, "max_backoff"), "`max_backoff` is below `backoff`")
        return self._share(
            Retry(
                max_count=count,
                backoff_ms=backoff_ms,
                factor=_RETRY.factor if raw.factor is UNSET else raw.factor,
                max_backoff_ms=max_backoff_ms,
                jitter=_RETRY.jitter if raw.jitter is UNSET else raw.jitter,
                causes=() if raw.causes is UNSET else self._causes(raw.causes, (*path, "causes")),
            )
        )

    def _causes(self, raw: list[str | int], path: Path) -> tuple[str, ...]:
        found: list[str] = []
        for index, cause in enumerate(raw):
            text = str(cause)
            is_code = text.isascii() and text.isdigit() and 1 <= int(text) <= 255
            if text not in CAUSES and not is_code:
                message = f"expected {', '.join(CAUSES)} or an exit code from 1 to 255, got {quote(cause)}"
                self.faults.add((*path, index), message, hint=partial(nearest, text, CAUSES))
            else:
                found.append(str(int(text)) if is_code else text)
        return tuple(dict.fromkeys(found))

    def timeouts(self, raw: str | RawTimeout, path: Path) -> Timeouts:
        if isinstance(raw, str):
            return self._share(Timeouts(run_ms=self._duration(raw, path, 0)))
        return self._share(
            Timeouts(
                run_ms=self._duration(raw.run, (*path, "run"), 0),
                queue_ms=self._duration(raw.queue, (*path, "queue"), 0),
                start_ms=self._duration(raw.start, (*path, "start"), 0),
                idle_ms=self._duration(raw.idle, (*path, "idle"), 0),
            )
        )

    def _gpu_types(self, raw: str | list[str], path: Path) -> tuple[str, ...]:
        types = [raw] if isinstance(raw, str) else raw
        for index, name in enumerate(types):
            if not GPU_TYPE.fullmatch(name):
                where = path if isinstance(raw, str) else (*path, index)
                self.faults.add(where, f"expected a GPU model such as H100, got {quote(name)}")
        if not types:
            self.faults.add(path, "expected at least one GPU model, got an empty list")
        return tuple(types)

    def _size(self, raw: Any, path: Path) -> int:
        return 0 if raw is UNSET else self._read(size_bytes, raw, path, 0)

    def _duration(self, raw: Any, path: Path, default_ms: int) -> int:
        return default_ms if raw is UNSET else self._read(duration_ms, raw, path, default_ms)

    def _read(self, parse: Callable[[Any], T], raw: Any, path: Path, default: T) -> T:
        try:
            return parse(raw)
        except Wrong as wrong:
            self.faults.add(path, wrong.message, hint=wrong.hint)
            return default

    def _share(self, value: S) -> S:
        known: S = self._shared.setdefault(value, value)
        return known
