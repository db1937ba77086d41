"""Levels of the cluster (nvlink, rack, block, zone): which node lies in which domain, as numbers.

Built from node labels by `core.space`, read by `core.schedule`. Never here: what is free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ffd.core.model import Node

SAME_NODE = "same-node"


def domain_of(node: Node, word: str, levels: Mapping[str, str]) -> str:
    """The domain of `node` at the level that a document calls `word`. `levels`: word -> node label; a word that is not
    there is itself the label. A node without the label is a domain of its own."""
    if word == SAME_NODE:
        return node.name
    return node.labels.get(levels.get(word, word)) or f"node:{node.name}"


class Level:
    """One level. Domains are numbered in the order of their names; `ids[k]` is the domain of node k, `members` the
    nodes of a domain in inventory order."""

    __slots__ = ("_members", "ids", "names", "word")

    def __init__(self, word: str, nodes: Sequence[Node], levels: Mapping[str, str]) -> None:
        self.word = word
        label = levels.get(word, word)
        if word == SAME_NODE:
            of_node = [node.name for node in nodes]
        else:  # as `domain_of`, without a call for each of many nodes
            of_node = [node.labels.get(label) or f"node:{node.name}" for node in nodes]
        self.names = sorted(dict.fromkeys(of_node))
        number = {name: k for k, name in enumerate(self.names)}
        self.ids: NDArray[np.int64] = np.array([number[name] for name in of_node], dtype=np.int64)
        self._members: dict[int, NDArray[np.int64]] = {}

    @property
    def count(self) -> int:
        return len(self.names)

    def members(self, domain: int) -> NDArray[np.int64]:
        found = self._members.get(domain)
        if found is None:
            found = self._members[domain] = np.flatnonzero(self.ids == domain)
        return found


class Topology:
    """The levels of one inventory, made when first asked for."""

    __slots__ = ("_levels", "_nodes", "_useful", "_words")

    def __init__(self, nodes: Sequence[Node], words: Mapping[str, str]) -> None:
        self._nodes, self._words = nodes, words
        self._levels: dict[str, Level] = {}
        self._useful: list[Level] | None = None

    def level(self, word: str) -> Level:
        found = self._levels.get(word)
        if found is None:
            found = self._levels[word] = Level(word, self._nodes, self._words)
        return found

    def useful(self) -> list[Level]:
        """Named levels that part the cluster at all, from the narrowest (most domains) to the widest."""
        if self._useful is None:
            levels = [self.level(word) for word in self._words]
            parting = [level for level in levels if 1 < level.count < len(self._nodes)]
            self._useful = sorted(parting, key=lambda level: -level.count)
        return self._useful
