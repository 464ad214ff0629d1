"""Candidates: the projections (weight matrices) of a network, each with the decision whether it may run on analog tiles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, final

from pydantic.dataclasses import dataclass as record

from lionheart.devices import TileSpec
from lionheart.graph import LayerGraph, LayerNode
from lionheart.graph.rules import explain_choices
from lionheart.partition import TilePartition, partition_graph, partition_matrix


@final
@dataclass(frozen=True)
class Candidate:
    """A projection (weight matrix) of a network, with the decision whether it may run on analog tiles.

    Args:
        node: Node of the projection in the layer graph of the network.
        partition: Partition of the weight matrix into parts that each fit on one tile.
        reason: Reason why the projection must stay digital; empty if it may become analog.
        by_choice: Whether the projection must stay digital because of a rule that the user gave.
    """

    node: LayerNode
    partition: TilePartition
    reason: str = ""
    by_choice: bool = False

    @property
    def is_mappable(self) -> bool:
        """Whether the projection (weight matrix) may run on analog tiles."""
        return not self.reason

    @property
    def judgement(self) -> Judgement:
        """Decision whether the projection (weight matrix) may run on analog tiles, in the form that is stored in files."""
        return Judgement(
            mappable=self.is_mappable,
            reason=self.reason,
            by_choice=self.by_choice,
            n_tiles=self.partition.n_tiles,
            row_sizes=self.partition.row_sizes,
            col_sizes=self.partition.col_sizes,
            tile_utilisation=self.partition.tile_utilisation,
        )


@record(frozen=True, kw_only=True)
class Judgement:
    """The decision whether a projection (weight matrix) may run on analog tiles, in the form that is stored in files.

    Args:
        mappable: Whether the projection may run on analog tiles.
        reason: Reason why the projection must stay digital; empty if it may become analog.
        by_choice: Whether the projection must stay digital because of a rule that the user gave.
        n_tiles: Number of tiles that the projection needs if it runs on tiles.
        row_sizes: For each row of tiles, the number of inputs of the weight matrix that this row processes.
        col_sizes: For each column of tiles, the number of outputs of the weight matrix that this column computes.
        tile_utilisation: Fraction of the tiles' cells that hold a weight, 0 to 1; None = not recorded.
    """

    mappable: bool
    reason: str
    by_choice: bool = False
    n_tiles: int
    row_sizes: tuple[int, ...] = ()
    col_sizes: tuple[int, ...] = ()
    tile_utilisation: float | None = None


@final
@record(frozen=True, kw_only=True)
class CandidateRecord(Judgement):
    """The name of a projection (weight matrix) and the decision whether it may run on tiles, as stored in ``graph.json``.

    Args:
        fqn: Fully qualified name of the projection.
    """

    fqn: str


@final
@record(frozen=True, kw_only=True)
class GraphRecord(LayerGraph):
    """The layer graph of a network in the form that is stored in ``graph.json``.

    Args:
        candidates: For each projection (weight matrix), the decision whether it may run on analog tiles, in the order in which
            the network runs the projections.
    """

    candidates: tuple[CandidateRecord, ...]


def record_graph(graph: LayerGraph, candidates: Iterable[Candidate]) -> GraphRecord:
    """Return the content of ``graph.json``: a layer graph, and the decision for each of its projections (weight matrices).

    Args:
        graph: Layer graph of a network.
        candidates: Projections of the graph, each with the decision whether it may run on analog tiles. Projections that did
            not run are left out.
    """
    ran = select_ran(graph, candidates)
    rows = tuple(CandidateRecord(fqn=each.node.fqn, **list_fields(each.judgement)) for each in ran)
    return GraphRecord(**list_fields(graph), candidates=rows)


def list_fields(record: Any) -> dict[str, Any]:
    """Return a dict of the field values of the dataclass object `record`, by field name.

    Field values that are dataclass objects are not converted to dicts.
    """
    return {item.name: getattr(record, item.name) for item in fields(record)}


def find_candidates(
    graph: LayerGraph, tile: TileSpec, *, include: Iterable[str] = (), exclude: Iterable[str] = ()
) -> list[Candidate]:
    """Decide for every projection (weight matrix) of a graph whether it may run on analog tiles.

    A rule is a name or a shell pattern of names (``"stack1.*"``). With the prefix ``"re:"`` it is a regular expression, which
    matches if it is found anywhere in a name. With the prefix ``"type:"`` it is a layer type or a shell pattern of layer types
    (``"type:conv*"``). If several layers share a weight, a rule may match the name of any of them.

    Args:
        graph: Graph of the network.
        tile: Tile whose crossbar size determines how weight matrices are partitioned.
        include: Rules for projections that may become analog; projections that match none stay digital. Empty = all may.
        exclude: Rules for projections that stay digital, even if an include rule matches them.

    Returns:
        One candidate for each projection, in the order of the network, and then one for each projection that did not run. A
        candidate holds the decision and, if the projection must stay digital, the reason.

    Raises:
        ConfigError: A rule matches no projection, is not a valid regular expression, or takes too long.
    """
    choices = explain_choices((*graph.nodes, *graph.unused_projections), include, exclude)
    found, partitions = [], partition_graph(graph, tile)
    for node in graph.nodes:
        choice = choices.get(node.fqn, "")
        unsupported_reason = f"{node.unsupported_reason}: not supported on tiles" if node.unsupported_reason else ""
        found.append(Candidate(node, partitions[node.fqn], choice or unsupported_reason, by_choice=bool(choice)))
    for node in graph.unused_projections:
        partition = partition_matrix(node.rows, node.cols, node.groups, tile.rows, tile.cols)
        found.append(Candidate(node, partition, node.unsupported_reason))
    return found


def select_ran(graph: LayerGraph, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates whose projection (weight matrix) ran when the layer graph was traced.

    Args:
        graph: Layer graph of a network.
        candidates: Projections of the graph, each with the decision whether it may run on analog tiles.
    """
    names = set(graph.fqns)
    return [candidate for candidate in candidates if candidate.node.fqn in names]


def rank_candidates(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates whose projection (weight matrix) may run on analog tiles, in descending order of MACs.

    MACs are the multiply-accumulate operations of the projection in one inference. Candidates with equal
    numbers of MACs keep the order in which they are given.
    """
    return sorted((c for c in candidates if c.is_mappable), key=lambda candidate: -candidate.node.macs)
