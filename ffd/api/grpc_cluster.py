"""The gRPC services Logs, Cluster and grpc.health.v1."""

from __future__ import annotations

from grpclib.health.v1 import health_grpc, health_pb2

from ffd.api import logs
from ffd.api.access import Access
from ffd.api.codec import many
from ffd.api.grpc_server import Send, streaming, unary
from ffd.api.serving import Serving
from ffd.api.shapes import LogChunk
from ffd.core.pages import DaemonPage
from ffd.errors import Refusal
from ffd.proto.ffd.v1 import cluster_grpc, logs_grpc, logs_pb2
from ffd.proto.ffd.v1 import cluster_pb2 as pb


class Logs(logs_grpc.LogsBase):
    def __init__(self, serving: Serving) -> None:
        self.serving = serving

    @unary("read_log")
    async def Read(self, access: Access, request: logs_pb2.ReadLogRequest) -> LogChunk:
        query = await access.log_query(
            request.ref, request.project, task=request.task, item=request.item, attempt=request.attempt,
            offset=request.offset,
        )  # fmt: skip
        return await logs.read(access.engine, query, request.rank, request.limit_bytes, access.limits)

    @streaming("follow_log")
    async def Follow(self, access: Access, request: logs_pb2.FollowLogRequest, send: Send) -> None:
        query = await access.log_query(
            request.ref, request.project, task=request.task, item=request.item if request.HasField("item") else -1,
            attempt=request.attempt, ranks=tuple(request.ranks), offset=request.offset, follow=request.follow,
            cursor=request.cursor,
        )  # fmt: skip
        async with logs.follow(access.engine, query, access.limits) as batches:
            async for batch in batches:
                await send(batch)


class Cluster(cluster_grpc.ClusterBase):
    def __init__(self, serving: Serving) -> None:
        self.serving = serving

    @unary("nodes")
    async def Nodes(self, access: Access, request: pb.NodesRequest) -> pb.NodesReply:
        return pb.NodesReply(nodes=many(await access.engine.nodes()))

    @unary("queue")
    async def Queue(self, access: Access, request: pb.QueueRequest) -> pb.QueueReply:
        return pb.QueueReply(queue=many(await access.queue()))

    @unary("status")
    async def Status(self, access: Access, request: pb.StatusRequest) -> DaemonPage:
        return await access.engine.status()

    @unary("leader")
    async def Leader(self, access: Access, request: pb.LeaderRequest) -> pb.LeaderReply:
        status = await access.engine.status()
        return pb.LeaderReply(address=status.leader_address, epoch=status.epoch)

    @unary("stop")
    async def Stop(self, access: Access, request: pb.StopRequest) -> pb.StopReply:
        self.serving.stop()
        return pb.StopReply()


class Health(health_grpc.HealthBase):
    """The standard health protocol: SERVING while this daemon takes commands, for `""` and each of our services."""

    def __init__(self, serving: Serving, services: tuple[str, ...]) -> None:
        self.serving = serving
        self._services = ("", *services)

    @unary("health")
    async def Check(self, access: Access, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        if request.service not in self._services:
            raise Refusal("there is no such service here", code="not_found", field="service")
        states = health_pb2.HealthCheckResponse
        return states(status=states.NOT_SERVING if await self.serving.not_ready() else states.SERVING)

    @unary("health")
    async def Watch(self, access: Access, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        raise Refusal("health is not streamed", code="unsupported", hint="call Check")
