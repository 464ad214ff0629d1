"""Which projections may go analog, and in which order they are tried."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, final

from pydantic.dataclasses import dataclass as record

from lionheart.devices import TileSpec
from lionheart.errors import ConfigError, suggest
from lionheart.graph import LayerGraph, LayerNode
from lionheart.partition import TilePartition, partition_graph


@final
@dataclass(frozen=True)
class Candidate:
    """A projection that may or may not go analog.

    Args:
        node: The projection.
        partition: Its tiles, if it were analog.
        reason: Why it must stay digital; empty when it may go analog.
        by_choice: Whether that is the user's wish.
    """

    node: LayerNode
    partition: TilePartition
    reason: str = ""
    by_choice: bool = False

    @property
    def is_mappable(self) -> bool:
        """Whether it may go analog."""
        return not self.reason

    @property
    def judgement(self) -> Judgement:
        """What is written of it."""
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
    """What is written of a candidate.

    Args:
        mappable: Whether the projection may go analog.
        reason: Why it must stay digital; empty when it may go analog.
        by_choice: Whether that is the user's wish.
        n_tiles: Tiles that it would take.
        row_sizes: Inputs of each row of tiles.
        col_sizes: Outputs of each column of tiles.
        tile_utilisation: Share of the tiles' devices that hold a weight, 0 to 1.
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
    """A candidate as it is written.

    Args:
        fqn: The projection.
    """

    fqn: str


@final
@record(frozen=True, kw_only=True)
class GraphRecord(LayerGraph):
    """A network with the judgement of each projection: the content of ``graph.json``.

    Args:
        candidates: In the network's order.
    """

    candidates: tuple[CandidateRecord, ...]


def record_graph(graph: LayerGraph, candidates: Iterable[Candidate]) -> GraphRecord:
    """Return a network with the judgement of each projection."""
    rows = tuple(CandidateRecord(fqn=each.node.fqn, **list_fields(each.judgement)) for each in candidates)
    return GraphRecord(**list_fields(graph), candidates=rows)


def list_fields(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name, their values as they are."""
    return {item.name: getattr(record, item.name) for item in fields(record)}


def find_candidates(
    graph: LayerGraph, tile: TileSpec, *, include: Iterable[str] = (), exclude: Iterable[str] = ()
) -> list[Candidate]:
    """Judge every projection of a graph, in the network's order.

    A rule is a name, a shell pattern (``"stack1.*"``), ``"re:"`` and a regular expression that finds a name, or ``"kind:"`` and
    a kind of projection or a pattern of kinds (``"kind:conv*"``). Rules know a shared weight by all its names.

    Args:
        graph: The network.
        tile: Crossbar size.
        include: Rules; what none of them matches stays digital. Without any, everything is included.
        exclude: Rules; what one of them matches stays digital, even if it is included.

    Raises:
        ConfigError: A rule matches no projection, or its regular expression is none.
    """
    included, excluded = list(include), list(exclude)
    chosen = _match_all("include", included, graph) if included else set(graph.fqns)
    refused = _match_all("exclude", excluded, graph)
    found, partitions = [], partition_graph(graph, tile)
    for node in graph.nodes:
        choice = "kept digital by the user" if node.fqn in refused else ""
        if not choice and node.fqn not in chosen:
            choice = "not among the projections that the user includes"
        unsupported_reason = (
            f"{node.unsupported_reason}: tiles cannot take its place" if node.unsupported_reason else ""
        )
        found.append(Candidate(node, partitions[node.fqn], choice or unsupported_reason, by_choice=bool(choice)))
    return found


def _match_all(option: str, rules: Iterable[str], graph: LayerGraph) -> set[str]:
    """Return the names of all projections that one of the rules matches."""
    matched: set[str] = set()
    for rule in rules:
        found = {node.fqn for node in graph.nodes if _matches(option, rule, node)}
        if not found:
            kinds = sorted({f"type:{node.layer_type}" for node in graph.nodes})
            hint = suggest(rule, kinds if rule.startswith("kind:") else graph.fqns, label="projections")
            raise ConfigError(f"{option}: {rule!r} matches no projection", hint=hint)
        matched |= found
    return matched


def _matches(option: str, rule: str, node: LayerNode) -> bool:
    prefix, colon, pattern = rule.partition(":")
    if colon and prefix == "kind":
        return fnmatch.fnmatchcase(node.layer_type, pattern)
    names = (node.fqn, *node.aliases)
    if colon and prefix == "re":
        try:
            return any(re.search(pattern, name) for name in names)
        except re.error as error:
            raise ConfigError(
                f"{option}: {rule!r} is no regular expression: {error}", hint="a shell pattern needs no 're:'"
            ) from error
    return any(name == rule or fnmatch.fnmatchcase(name, rule) for name in names)


def rank_candidates(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the mappable candidates, most MACs first; ties keep the network's order."""
    return sorted((c for c in candidates if c.is_mappable), key=lambda candidate: -candidate.node.macs)
