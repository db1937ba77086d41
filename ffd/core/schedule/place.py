"""Place one gang: all replicas or none. Pure functions over a view of free space.

Order of preference: GPU models as the task lists them; then the topology domain that is fullest yet fits; in it, the
nodes with the fewest free GPUs, then the fewest free slots (pack, so that whole nodes stay free for large gangs).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ffd.core.model import Node, Place
from ffd.core.space import NodeSpace, Space, could_host
from ffd.core.spec import Gang, Resources

# Topology words of the document -> the node label that names the domain.
LEVEL_LABEL: dict[str, str] = {"nvlink": "nvlink", "same-rack": "rack"}


class View:
    """Free space as a plan changes it: nodes are copied when first taken from. Keeps what it learnt in one cycle."""

    __slots__ = ("_copies", "_hosts", "_space", "last")

    def __init__(self, space: Space) -> None:
        self._space = space
        self._copies: dict[str, NodeSpace] = {}
        self._hosts: dict[Resources, tuple[str, ...]] = {}
        self.last: dict[Resources, str] = {}  # where the last single replica of a request went: likely to fit again

    def node(self, name: str) -> NodeSpace:
        return self._copies.get(name) or self._space.nodes[name]

    def hosts(self, ask: Resources) -> tuple[str, ...]:
        """Nodes that could host a replica when empty, in name order."""
        found = self._hosts.get(ask)
        if found is None:
            found = tuple(name for name, space in self._space.nodes.items() if could_host(space.node, ask))
            self._hosts[ask] = found
        return found

    def take(self, places: Iterable[Place], ask: Resources) -> None:
        for place in places:
            if place.node not in self._copies:
                self._copies[place.node] = self._space.nodes[place.node].copy()
            self._copies[place.node].take(place, ask)


def place_gang(
    view: View, ask: Resources, gang: Gang, replicas: int, domains: frozenset[str]
) -> tuple[Place, ...] | None:
    """Places by rank, or None when the gang does not fit now. `domains`: when not empty, only domains of the gang's
    topology level that hold one of these values (`with`)."""
    if replicas == 1 and gang.topology == "any" and not ask.gpu_types:
        return _place_one(view, ask)
    for model in ask.gpu_types or ("",):
        one_model = msgspec.structs.replace(ask, gpu_types=(model,)) if model else ask
        for names in _groups(view, one_model, gang, domains):
            places = _fill(view, names, ask, replicas)
            if places is not None:
                return places
    return None


def _place_one(view: View, ask: Resources) -> tuple[Place, ...] | None:
    last = view.last.get(ask, "")
    if last and view.node(last).room(ask):
        best: str | None = last
    else:
        best = min(
            (name for name in view.hosts(ask) if view.node(name).room(ask)),
            key=lambda name: (len(view.node(name).gpus), view.node(name).slots),
            default=None,
        )
    if best is None:
        return None
    view.last[ask] = best
    return (Place(best, tuple(view.node(best).gpus[: ask.gpu_count])),)


def domain_of(node: Node, topology: str) -> str:
    """The value of the topology level that `node` lies in; nodes without the label are each a domain of their own."""
    if topology == "same-node":
        return node.name
    return node.labels.get(LEVEL_LABEL.get(topology, topology)) or f"node:{node.name}"


def _groups(view: View, ask: Resources, gang: Gang, domains: frozenset[str]) -> list[Sequence[str]]:
    """Sets of nodes that may hold the whole gang, best first."""
    hosts = view.hosts(ask)
    if gang.topology == "any":
        return [hosts]
    by_domain: dict[str, list[str]] = {}
    for name in hosts:
        by_domain.setdefault(domain_of(view.node(name).node, gang.topology), []).append(name)
    allowed = [key for key in by_domain if not domains or key in domains]
    room = {key: sum(view.node(name).room(ask) for name in by_domain[key]) for key in allowed}
    groups: list[Sequence[str]] = [by_domain[key] for key in sorted(allowed, key=lambda key: (room[key], key))]
    return groups if gang.topology_required else [*groups, hosts]


def _fill(view: View, names: Sequence[str], ask: Resources, replicas: int) -> tuple[Place, ...] | None:
    """Pack `replicas` onto `names`; ranks follow nodes, so neighbours in rank are neighbours in space."""
    rooms = [(name, room) for name in names if (room := view.node(name).room(ask))]
    if sum(room for _, room in rooms) < replicas:
        return None
    rooms.sort(key=lambda pair: (len(view.node(pair[0]).gpus), view.node(pair[0]).slots))
    places: list[Place] = []
    for name, room in rooms:
        gpus = view.node(name).gpus
        for k in range(min(room, replicas - len(places))):
            places.append(Place(name, tuple(gpus[k * ask.gpu_count : (k + 1) * ask.gpu_count])))
        if len(places) == replicas:
            return tuple(places)
    return None
