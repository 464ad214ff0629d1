"""Candidates: the projections (weight matrices) of a network, each with the decision whether it may run on analog tiles.

The module also evaluates the rules with which a user includes or excludes projections.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any, Protocol, final

from pydantic.dataclasses import dataclass as record

from lionheart.deprecated import rename_rules
from lionheart.devices import TileSpec
from lionheart.errors import ConfigError, suggest
from lionheart.graph import LayerGraph, LayerNode
from lionheart.partition import TilePartition, partition_graph


class Named(Protocol):
    """Interface of projections (weight matrices) that a user can select with rules.

    A rule is compared either with the names of a projection (`fqn` and `aliases`), or with its `layer_type`.
    """

    @property
    def fqn(self) -> str:
        """Fully qualified name of the projection."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Fully qualified names of other layers that use the same weight."""

    @property
    def layer_type(self) -> str:
        """Name of the layer type, such as ``linear`` or ``conv2d``."""


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
        candidates: Projections of the graph, each with the decision whether it may run on analog tiles.
    """
    rows = tuple(CandidateRecord(fqn=each.node.fqn, **list_fields(each.judgement)) for each in candidates)
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
        One candidate for each projection, in the order of the network. A candidate holds the decision and, if the projection
        must stay digital, the reason.

    Raises:
        ConfigError: A rule matches no projection, or is not a valid regular expression.
    """
    choices = explain_choices(graph.nodes, include, exclude)
    found, partitions = [], partition_graph(graph, tile)
    for node in graph.nodes:
        choice = choices.get(node.fqn, "")
        unsupported_reason = f"{node.unsupported_reason}: not supported on tiles" if node.unsupported_reason else ""
        found.append(Candidate(node, partitions[node.fqn], choice or unsupported_reason, by_choice=bool(choice)))
    return found


def explain_choices(
    nodes: Iterable[Named],
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    *,
    options: tuple[str, str] = ("include", "exclude"),
) -> dict[str, str]:
    """Return the names of the projections (weight matrices) that rules of the user keep digital, each with a reason.

    Args:
        nodes: Projections that the rules are compared with.
        include: Rules for projections that may become analog, in the syntax described at `find_candidates`; projections that
            match none stay digital. Empty = all may become analog.
        exclude: Rules for projections that stay digital, even if an include rule matches them.
        options: Names of the two options that hold `include` and `exclude`, for error messages.

    Raises:
        ConfigError: A rule matches no projection, or is not a valid regular expression.
    """
    known = list(nodes)
    included, excluded = rename_rules(options[0], include), rename_rules(options[1], exclude)
    chosen = _match_all(options[0], included, known) if included else {node.fqn for node in known}
    refused = _match_all(options[1], excluded, known)
    reasons = {node.fqn: "not included by the user" for node in known if node.fqn not in chosen}
    return reasons | {node.fqn: "kept digital by the user" for node in known if node.fqn in refused}


def match_rules(option: str, rules: Iterable[str], nodes: Iterable[Named]) -> tuple[str, ...]:
    """Return the names of all projections (weight matrices) that match at least one rule, in the order of `nodes`.

    Args:
        option: Name of the option that holds the rules, for error messages.
        rules: Rules in the syntax described at `find_candidates`.
        nodes: Projections that the rules are compared with.

    Raises:
        ConfigError: A rule matches no projection, or is not a valid regular expression.
    """
    known = list(nodes)
    found = _match_all(option, rename_rules(option, rules), known)
    return tuple(node.fqn for node in known if node.fqn in found)


def _match_all(option: str, rules: Iterable[str], nodes: Collection[Named]) -> set[str]:
    """Return the names of the projections (weight matrices) that match a rule. Raise an error for a rule without a match."""
    matched: set[str] = set()
    for rule in rules:
        found = {node.fqn for node in nodes if _matches(option, rule, node)}
        if not found:
            by_type = rule.startswith("type:")
            names = sorted({f"type:{node.layer_type}" for node in nodes}) if by_type else [node.fqn for node in nodes]
            hint = suggest(rule, names, label="layer types" if by_type else "projections")
            raise ConfigError(f"{option}: {rule!r} matches no projection (weight matrix) of the network", hint=hint)
        matched |= found
    return matched


def _matches(option: str, rule: str, node: Named) -> bool:
    prefix, colon, pattern = rule.partition(":")
    if colon and prefix == "type":
        return fnmatch.fnmatchcase(node.layer_type, pattern)
    names = (node.fqn, *node.aliases)
    if colon and prefix == "re":
        try:
            return any(re.search(pattern, name) for name in names)
        except re.error as error:
            raise ConfigError(
                f"{option}: {rule!r} is not a valid regular expression: {error}",
                hint="correct the expression, or use a shell pattern without 're:'",
            ) from error
    return any(name == rule or fnmatch.fnmatchcase(name, rule) for name in names)


def rank_candidates(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates whose projection (weight matrix) may run on analog tiles, in descending order of MACs.

    MACs are the multiply-accumulate operations of the projection in one inference. Candidates with equal
    numbers of MACs keep the order in which they are given.
    """
    return sorted((c for c in candidates if c.is_mappable), key=lambda candidate: -candidate.node.macs)
