"""Which projections may go analog, and in which order they are tried."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import final

from lionheart.candidates.partition import TilePartition, partition_matrix
from lionheart.errors import ConfigError, suggest
from lionheart.graph import LayerGraph, LayerNode
from lionheart.specs import TileSpec


@final
@dataclass(frozen=True)
class Candidate:
    """A projection that may or may not go analog.

    Args:
        node: The projection.
        partition: Its tiles, if it were analog.
        reason: Why it must stay digital; empty when it may go analog.
    """

    node: LayerNode
    partition: TilePartition
    reason: str = ""

    @property
    def is_mappable(self) -> bool:
        """Whether it may go analog."""
        return not self.reason


RANKINGS: dict[str, Callable[[LayerNode], int]] = {
    "macs": lambda node: node.macs,
    "weights": lambda node: node.weights,
}


def find_candidates(graph: LayerGraph, tile: TileSpec, *, exclude: Iterable[str] = ()) -> list[Candidate]:
    """Judge every projection of a graph, in the network's order.

    Args:
        graph: The network.
        tile: Crossbar size.
        exclude: Names or shell patterns (``"stack1.*"``) that the user keeps digital.

    Raises:
        ConfigError: A pattern matches no projection.
    """
    patterns = list(exclude)
    for pattern in patterns:
        if not fnmatch.filter(graph.fqns, pattern):
            raise ConfigError(
                f"exclude: {pattern!r} matches no projection", hint=suggest(pattern, graph.fqns, label="projections")
            )
    found = []
    for node in graph.nodes:
        partition = partition_matrix(node.rows, node.cols, node.groups, tile.rows, tile.cols)
        found.append(Candidate(node, partition, _refusal(node, patterns)))
    return found


def _refusal(node: LayerNode, patterns: Sequence[str]) -> str:
    if any(fnmatch.fnmatch(node.fqn, pattern) for pattern in patterns):
        return "kept digital by the user"
    if node.tied_to is not None:
        return f"shares its weight with {node.tied_to}"
    if node.obstacle:
        return f"{node.obstacle}: tiles cannot take its place"
    return ""


def rank_candidates(candidates: Iterable[Candidate], by: str = "macs") -> list[Candidate]:
    """Return the mappable candidates, largest first; ties keep the network's order.

    Raises:
        ConfigError: The ranking is unknown.
    """
    if by not in RANKINGS:
        raise ConfigError(f"ranking: got {by!r}", hint=suggest(by, RANKINGS, label="rankings"))
    key = RANKINGS[by]
    return sorted((c for c in candidates if c.is_mappable), key=lambda candidate: -key(candidate.node))
