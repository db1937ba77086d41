"""The part of the HTTP API's table that is about the cluster: nodes, GPUs, and what waits. Part of `routes.ROUTES`."""

from __future__ import annotations

import msgspec

from ffd.api import http_shapes as shapes
from ffd.api.route import PREFIX, Call, Route
from ffd.core.commands import Cordon, Drain, NodesMarked, Uncordon
from ffd.core.pages import NodeDetail


async def nodes(call: Call) -> shapes.NodeList:
    found = await call.access.nodes(call.query.after)
    room = call.access.limits.reply_bytes
    for place, page in enumerate(found):
        room -= len(msgspec.json.encode(page))
        if room < 0 and place:
            return shapes.NodeList(found[:place], found[place - 1].name)
    return shapes.NodeList(found, found[-1].name if len(found) == call.access.limits.page_count else None)


async def node(call: Call) -> NodeDetail:
    return await call.access.node(call.path["id"])


async def gpus(call: Call) -> shapes.GpuList:
    return shapes.GpuList(await call.access.engine.gpus())


async def queue(call: Call) -> shapes.QueueList:
    return shapes.QueueList(await call.access.queue(call.query.project))


def _named(call: Call) -> tuple[str, ...]:
    """The node of the path, else those of the body."""
    return (call.path["id"],) if "id" in call.path else tuple(call.body.nodes)


async def cordon(call: Call) -> NodesMarked:
    body = call.body
    return await call.access.mark_nodes(Cordon, _named(call), body.labels, call.key, why=body.why)


async def uncordon(call: Call) -> NodesMarked:
    return await call.access.mark_nodes(Uncordon, _named(call), call.body.labels, call.key)


async def drain(call: Call) -> shapes.Drained:
    body, names = call.body, _named(call)
    if body.preview:
        return shapes.Drained(None, await call.access.preview_drain(names, body.labels, body.grace_ms))
    marked = await call.access.mark_nodes(Drain, names, body.labels, call.key, why=body.why, grace_ms=body.grace_ms)
    return shapes.Drained(marked, None)


N = f"{PREFIX}/nodes"
CLUSTER_ROUTES: tuple[Route, ...] = (
    Route("GET", N, "nodes", "List the nodes, by name", nodes, shapes.NodeList, shapes.ListNodes),
    Route("GET", N + "/{id}", "node", "Show a node, and who holds room there", node, NodeDetail),
    Route(
        "POST", N + ":cordon", "cordon", "These nodes take no new work", cordon, NodesMarked, body=shapes.CordonBody,
    ),
    Route("POST", N + "/{id}:cordon", "cordon", "It takes no new work", cordon, NodesMarked, body=shapes.CordonBody),
    Route(
        "POST", N + ":uncordon", "uncordon", "These nodes take work again", uncordon, NodesMarked,
        body=shapes.NodesBody,
    ),
    Route(
        "POST", N + "/{id}:uncordon", "uncordon", "It takes work again", uncordon, NodesMarked, body=shapes.NodesBody,
    ),
    Route(
        "POST", N + ":drain", "drain", "Cordon them, and stop what runs there; or only say what that would be", drain,
        shapes.Drained, body=shapes.DrainBody,
    ),
    Route(
        "POST", N + "/{id}:drain", "drain", "Cordon it, and stop what runs there; or only say what that would be",
        drain, shapes.Drained, body=shapes.DrainBody,
    ),
    Route("GET", PREFIX + "/gpus", "gpus", "List the GPUs, by model", gpus, shapes.GpuList),
    Route(
        "GET", PREFIX + "/queue", "queue", "Show what waits, in scheduling order", queue, shapes.QueueList,
        shapes.Scope,
    ),
)  # fmt: skip
