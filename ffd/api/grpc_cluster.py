"""The gRPC services Logs, Cluster and grpc.health.v1."""

from __future__ import annotations

import asyncio

import anyio
from grpclib.health.v1 import health_grpc, health_pb2

from ffd.api import logs, tenants
from ffd.api.access import Access
from ffd.api.codec import decode_object, fitting, many, to_proto
from ffd.api.grpc_server import Send, streaming, unary
from ffd.api.serving import Serving
from ffd.api.shapes import LogChunk
from ffd.api.snapshot import pieces
from ffd.core.commands import Cordon, Drain, NodesMarked, TenantSet, Uncordon
from ffd.core.pages import DaemonPage, NodeDetail
from ffd.errors import Refusal, Unavailable
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
        self._snapshots = asyncio.Lock()

    @unary("nodes")
    async def Nodes(self, access: Access, request: pb.NodesRequest) -> pb.NodesReply:
        pages = await access.nodes(request.after)
        nodes, more = fitting(pages, access.limits.reply_bytes)
        return pb.NodesReply(nodes=nodes, more=more or len(pages) == access.limits.page_count)

    @unary("node")
    async def Node(self, access: Access, request: pb.NodeRequest) -> NodeDetail:
        return await access.node(request.name)

    @unary("gpus")
    async def Gpus(self, access: Access, request: pb.GpusRequest) -> pb.GpusReply:
        return pb.GpusReply(gpus=many(await access.engine.gpus()))

    @unary("cordon")
    async def Cordon(self, access: Access, request: pb.CordonRequest) -> NodesMarked:
        return await access.mark_nodes(Cordon, request.nodes, request.labels, request.key, why=request.why)

    @unary("uncordon")
    async def Uncordon(self, access: Access, request: pb.UncordonRequest) -> NodesMarked:
        return await access.mark_nodes(Uncordon, request.nodes, request.labels, request.key)

    @unary("drain")
    async def Drain(self, access: Access, request: pb.DrainRequest) -> pb.DrainReply:
        grace_ms = request.grace_ms if request.HasField("grace_ms") else None
        if request.preview:
            page = await access.preview_drain(request.nodes, request.labels, grace_ms)
            return pb.DrainReply(preview=to_proto(page))
        marked = await access.mark_nodes(
            Drain, request.nodes, request.labels, request.key, why=request.why, grace_ms=grace_ms
        )
        return pb.DrainReply(marked=to_proto(marked))

    @unary("queue")
    async def Queue(self, access: Access, request: pb.QueueRequest) -> pb.QueueReply:
        return pb.QueueReply(queue=many(await access.queue(request.project)))

    @unary("tenants")
    async def Tenants(self, access: Access, request: pb.TenantsRequest) -> pb.TenantsReply:
        return pb.TenantsReply(tenants=many(await tenants.tenants(access)))

    @unary("quotas")
    async def Quotas(self, access: Access, request: pb.QuotasRequest) -> pb.QuotasReply:
        return pb.QuotasReply(quotas=many(await tenants.quotas(access, request.tenant)))

    @unary("shares")
    async def Shares(self, access: Access, request: pb.SharesRequest) -> pb.SharesReply:
        return pb.SharesReply(shares=many(await tenants.shares(access)))

    @unary("set_tenant")
    async def SetTenant(self, access: Access, request: pb.SetTenantRequest) -> TenantSet:
        return await tenants.set_tenant(
            access, request.tenant, request.key,
            weight=request.weight if request.HasField("weight") else None,
            enabled=request.enabled if request.HasField("enabled") else None,
            parent=request.parent if request.HasField("parent") else None,
        )  # fmt: skip

    @unary("set_quota")
    async def SetQuota(self, access: Access, request: pb.SetQuotaRequest) -> TenantSet:
        changes = decode_object(request.changes_json, "changes")
        return await tenants.set_quota(access, request.tenant, request.key, changes, replace=request.replace)

    @unary("status")
    async def Status(self, access: Access, request: pb.StatusRequest) -> DaemonPage:
        return await access.engine.status()

    @unary("leader")
    async def Leader(self, access: Access, request: pb.LeaderRequest) -> pb.LeaderReply:
        status = await access.engine.status()
        return pb.LeaderReply(address=status.leader_address, epoch=status.epoch)

    @streaming("snapshot")
    async def Snapshot(self, access: Access, request: pb.SnapshotRequest, send: Send) -> None:
        """One at a time: each holds a copy of all that is live. Who does not read on is let go of."""
        async with self._snapshots:
            head, rows = await access.engine.snapshot()
            await send(pb.SnapshotPiece(head=to_proto(head)))
            for piece in pieces(rows, access.limits.reply_bytes):
                with anyio.move_on_after(access.limits.request_ms / 1000) as patience:
                    await send(pb.SnapshotPiece(rows=piece))
                if patience.cancelled_caught:
                    raise Unavailable("the reader of the snapshot does not read on (limits.request_ms)")

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
