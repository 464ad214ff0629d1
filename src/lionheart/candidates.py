"""Candidates: which projections may become analog, and in which order the search tries them."""

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
    """What rules know of a projection: its name, the other names of its weight, and its layer type."""

    @property
    def fqn(self) -> str:
        """Fully qualified name."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Names of other layers that hold the same weight."""

    @property
    def layer_type(self) -> str:
        """``linear``, ``conv2d`` and so on."""


@final
@dataclass(frozen=True)
class Candidate:
    """A projection, with the decision whether it may become analog.

    Args:
        node: Projection.
        partition: Tiles that the projection needs when it is analog.
        reason: Reason why the projection must stay digital; empty if it may become analog.
        by_choice: Whether the projection stays digital because of the user's rules.
    """

    node: LayerNode
    partition: TilePartition
    reason: str = ""
    by_choice: bool = False

    @property
    def is_mappable(self) -> bool:
        """Whether the projection may become analog."""
        return not self.reason

    @property
    def judgement(self) -> Judgement:
        """The decision as it is stored in files."""
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
    """The decision about a candidate, as stored in files.

    Args:
        mappable: Whether the projection may become analog.
        reason: Reason why the projection must stay digital; empty if it may become analog.
        by_choice: Whether the projection stays digital because of the user's rules.
        n_tiles: Number of tiles that the projection needs when it is analog.
        row_sizes: Number of inputs of each row of tiles.
        col_sizes: Number of outputs of each column of tiles.
        tile_utilisation: Share of the tiles' cells that hold a weight, 0 to 1.
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
    """A candidate, as stored in files.

    Args:
        fqn: Fully qualified name of the projection.
    """

    fqn: str


@final
@record(frozen=True, kw_only=True)
class GraphRecord(LayerGraph):
    """A graph with the candidates of all projections: the content of ``graph.json``.

    Args:
        candidates: Candidates in the order of the network.
    """

    candidates: tuple[CandidateRecord, ...]


def record_graph(graph: LayerGraph, candidates: Iterable[Candidate]) -> GraphRecord:
    """Return a graph together with its candidates, as stored in ``graph.json``."""
    rows = tuple(CandidateRecord(fqn=each.node.fqn, **list_fields(each.judgement)) for each in candidates)
    return GraphRecord(**list_fields(graph), candidates=rows)


def list_fields(record: Any) -> dict[str, Any]:
    """Return the field values of a dataclass by name, without converting nested dataclasses."""
    return {item.name: getattr(record, item.name) for item in fields(record)}


def find_candidates(
    graph: LayerGraph, tile: TileSpec, *, include: Iterable[str] = (), exclude: Iterable[str] = ()
) -> list[Candidate]:
    """Return a candidate for every projection of a graph, in the order of the network.

    A rule is one of the following: a name; a shell pattern of names (``"stack1.*"``); ``"re:"`` and a regular expression that
    is searched in names; ``"type:"`` and a layer type or a shell pattern of layer types (``"type:conv*"``). A shared weight
    matches under each of its names.

    Args:
        graph: Network.
        tile: Tile; its crossbar size determines the number of tiles.
        include: Rules of projections that may become analog; all others stay digital. Empty = all projections.
        exclude: Rules of projections that stay digital, even if an include rule matches them.

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
    """Return the projections that rules keep digital, each with its reason; rules are those of `find_candidates`.

    Args:
        nodes: Projections.
        include: Rules of projections that may become analog; all others stay digital. Empty = all projections.
        exclude: Rules of projections that stay digital, even if an include rule matches them.
        options: Names of the options that hold the two, for errors.

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
    """Return the names of all projections that match at least one of the rules, in the order of `nodes`.

    Args:
        option: Name of the option, for errors.
        rules: Rules as in `find_candidates`.
        nodes: Projections.

    Raises:
        ConfigError: A rule matches no projection, or is not a valid regular expression.
    """
    known = list(nodes)
    found = _match_all(option, rename_rules(option, rules), known)
    return tuple(node.fqn for node in known if node.fqn in found)


def _match_all(option: str, rules: Iterable[str], nodes: Collection[Named]) -> set[str]:
    """Return the names of all projections that match at least one of the rules."""
    matched: set[str] = set()
    for rule in rules:
        found = {node.fqn for node in nodes if _matches(option, rule, node)}
        if not found:
            by_type = rule.startswith("type:")
            names = sorted({f"type:{node.layer_type}" for node in nodes}) if by_type else [node.fqn for node in nodes]
            hint = suggest(rule, names, label="layer types" if by_type else "projections")
            raise ConfigError(f"{option}: {rule!r} matches no projection of the network", hint=hint)
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
    """Return the mappable candidates by descending MACs; candidates with equal MACs stay in the order of the network."""
    return sorted((c for c in candidates if c.is_mappable), key=lambda candidate: -candidate.node.macs)
