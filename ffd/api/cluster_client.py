"""The client's calls about the cluster and the daemon itself. Part of `client.Client`, which says how calls behave."""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Mapping, Sequence

from ffd.api.codec import from_proto
from ffd.api.link import Link
from ffd.api.shapes import SnapshotHead
from ffd.api.snapshot import join
from ffd.core.commands import NodesMarked
from ffd.core.model import Rows
from ffd.core.pages import DaemonPage, DrainPage, GpuPage, NodeDetail, NodePage, QueuePage
from ffd.errors import Unavailable
from ffd.proto.ffd.v1 import cluster_pb2 as pb
from ffd.proto.ffd.v1.cluster_grpc import ClusterStub


def new_key() -> str:
    """An idempotency key that nobody else has."""
    return secrets.token_hex(16)


class ClusterCalls:
    """Nodes are selected by name, by `labels` (all of them), or both. Changing them needs an administrator."""

    _link: Link

    async def nodes(self) -> builtins.list[NodePage]:
        """Sorted by name."""
        pages: builtins.list[NodePage] = []
        more = True
        while more:
            request = pb.NodesRequest(after=pages[-1].name if pages else "")
            reply = await self._link.call(ClusterStub, "Nodes", request)
            pages += [from_proto(NodePage, page) for page in reply.nodes]
            more = reply.more
        return pages

    async def node(self, name: str) -> NodeDetail:
        """One node, and who holds room there."""
        return from_proto(NodeDetail, await self._link.call(ClusterStub, "Node", pb.NodeRequest(name=name)))

    async def snapshot(self) -> tuple[SnapshotHead, Rows]:
        """All that is live, as of one commit (administrators)."""
        head, rows = None, Rows()
        async with self._link.subscribe(ClusterStub, "Snapshot", pb.SnapshotRequest()) as messages:
            async for message in messages:
                if message.HasField("head"):
                    head = from_proto(SnapshotHead, message.head)
                elif message.rows:
                    join(rows, message.rows)
        if head is None:
            raise Unavailable("the snapshot ended before it began", hint="call again")
        return head, rows

    async def gpus(self) -> builtins.list[GpuPage]:
        """By model."""
        reply = await self._link.call(ClusterStub, "Gpus", pb.GpusRequest())
        return [from_proto(GpuPage, page) for page in reply.gpus]

    async def cordon(
        self, nodes: Sequence[str] = (), *, labels: Mapping[str, str] | None = None, why: str = "", key: str = ""
    ) -> NodesMarked:
        """They take no new work; what runs there goes on."""
        request = pb.CordonRequest(nodes=nodes, labels=labels, why=why, key=key or new_key())
        return from_proto(NodesMarked, await self._link.call(ClusterStub, "Cordon", request))

    async def uncordon(
        self, nodes: Sequence[str] = (), *, labels: Mapping[str, str] | None = None, key: str = ""
    ) -> NodesMarked:
        """They take work again, whatever they were closed for."""
        request = pb.UncordonRequest(nodes=nodes, labels=labels, key=key or new_key())
        return from_proto(NodesMarked, await self._link.call(ClusterStub, "Uncordon", request))

    async def drain(
        self,
        nodes: Sequence[str] = (),
        *,
        labels: Mapping[str, str] | None = None,
        why: str = "",
        grace_ms: int | None = None,
        key: str = "",
    ) -> NodesMarked:
        """Cordon them, and stop what runs there, to be run again elsewhere. `grace_ms`: how long each may take to stop;
        None = its own checkpoint grace."""
        request = pb.DrainRequest(nodes=nodes, labels=labels, why=why, grace_ms=grace_ms, key=key or new_key())
        return from_proto(NodesMarked, (await self._link.call(ClusterStub, "Drain", request)).marked)

    async def preview_drain(
        self, nodes: Sequence[str] = (), *, labels: Mapping[str, str] | None = None, grace_ms: int | None = None
    ) -> DrainPage:
        """What a drain would stop now, and where that could go. Changes nothing."""
        request = pb.DrainRequest(nodes=nodes, labels=labels, grace_ms=grace_ms, preview=True)
        return from_proto(DrainPage, (await self._link.call(ClusterStub, "Drain", request)).preview)

    async def queue(self, project: str = "") -> builtins.list[QueuePage]:
        """What waits, in scheduling order. Without a `project`: all; what the caller may not see has no names."""
        reply = await self._link.call(ClusterStub, "Queue", pb.QueueRequest(project=project))
        return [from_proto(QueuePage, page) for page in reply.queue]

    async def status(self) -> DaemonPage:
        return from_proto(DaemonPage, await self._link.call(ClusterStub, "Status", pb.StatusRequest()))

    async def stop_daemon(self) -> None:
        """Ask the daemon to stop (administrators). Its tasks go on. It may close before its answer is read."""
        try:
            await self._link.call(ClusterStub, "Stop", pb.StopRequest())
        except Unavailable:
            if await self._answers():
                raise

    async def _answers(self) -> bool:
        try:
            await self.status()
        except Unavailable:
            return False
        return True
