"""The gRPC service Tasks: what the SDK inside a task asks. The task token alone says who calls."""

from __future__ import annotations

from typing import Any

import msgspec

from ffd.api.access import Access
from ffd.api.codec import decode_object
from ffd.api.engine import BarrierState, TaskInputs
from ffd.api.grpc_server import unary
from ffd.api.limits import ApiLimits, check_name, over
from ffd.api.serving import Serving
from ffd.core.reports import CheckpointReported, OutputsReported
from ffd.errors import Refusal
from ffd.proto.ffd.v1 import tasks_grpc
from ffd.proto.ffd.v1 import tasks_pb2 as pb


class Tasks(tasks_grpc.TasksBase):
    def __init__(self, serving: Serving) -> None:
        self.serving = serving

    @unary("inputs")
    async def GetInputs(self, access: Access, request: pb.GetInputsRequest) -> TaskInputs:
        return await access.engine.inputs(access.attempt)

    @unary("set_output")
    async def SetOutput(self, access: Access, request: pb.SetOutputRequest) -> pb.SetOutputReply:
        outputs = decode_object(request.outputs_json, "outputs")
        if not outputs:
            raise Refusal("there is no output to set", field="outputs")
        await access.engine.tell(OutputsReported(access.attempt, outputs))
        return pb.SetOutputReply()

    @unary("save_checkpoint")
    async def SaveCheckpoint(self, access: Access, request: pb.SaveCheckpointRequest) -> pb.SaveCheckpointReply:
        await access.engine.tell(CheckpointReported(access.attempt, decode_object(request.value_json, "checkpoint")))
        return pb.SaveCheckpointReply()

    @unary("get_checkpoint")
    async def GetCheckpoint(self, access: Access, request: pb.GetCheckpointRequest) -> pb.Checkpoint:
        value = (await access.engine.inputs(access.attempt)).checkpoint
        return pb.Checkpoint(value_json=b"" if value is None else msgspec.json.encode(value))

    @unary("progress")
    async def ReportProgress(self, access: Access, request: pb.ReportProgressRequest) -> pb.ReportProgressReply:
        values = metrics(decode_object(request.metrics_json, "metrics"), access.limits)
        values["step"] = request.step
        if request.HasField("total"):
            values["total"] = request.total
        await access.engine.progress(access.attempt, rank(request.rank), values)
        return pb.ReportProgressReply()

    @unary("progress")
    async def UpdateStatus(self, access: Access, request: pb.UpdateStatusRequest) -> pb.UpdateStatusReply:
        status = check_name(request.status, "status", access.limits)
        await access.engine.progress(access.attempt, rank(request.rank), {"status": status})
        return pb.UpdateStatusReply()

    @unary("progress")
    async def EmitMetrics(self, access: Access, request: pb.EmitMetricsRequest) -> pb.EmitMetricsReply:
        values = metrics(decode_object(request.metrics_json, "metrics"), access.limits)
        await access.engine.progress(access.attempt, rank(request.rank), values)
        return pb.EmitMetricsReply()

    @unary("heartbeat")
    async def Heartbeat(self, access: Access, request: pb.HeartbeatRequest) -> pb.HeartbeatReply:
        return pb.HeartbeatReply(stop_reason=await access.engine.heartbeat(access.attempt, rank(request.rank)))

    @unary("barrier", waits=True)
    async def Barrier(self, access: Access, request: pb.BarrierRequest) -> BarrierState:
        name = check_name(request.name, "name", access.limits)
        return await access.engine.barrier(access.attempt, rank(request.rank), name)


def metrics(values: dict[str, Any], limits: ApiLimits) -> dict[str, Any]:
    """Metrics of one report: names to numbers. Refusal: limit (metrics_count), invalid."""
    if len(values) > limits.metrics_count:
        raise over("metrics_count", "these are more metrics than", limits.metrics_count)
    for name, value in values.items():
        check_name(name, "metrics", limits)
        if not isinstance(value, int | float):
            raise Refusal(f"the metric {name!r} is not a number", field="metrics")
    return values


def rank(value: int) -> int:
    if value < 0:
        raise Refusal(f"rank must be 0 or more, got {value}", field="rank")
    return value
