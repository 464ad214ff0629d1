"""Which projections may go analog, and in which order they are tried."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any, Protocol, final

from pydantic.dataclasses import dataclass as record

from lionheart.deprecated import RULE_PREFIXES
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

    A rule is a name, a shell pattern (``"stack1.*"``), ``"re:"`` and a regular expression that finds a name, or ``"type:"`` and
    a layer type or a pattern of layer types (``"type:conv*"``). Rules know a shared weight by all its names.

    Args:
        graph: The network.
        tile: Crossbar size.
        include: Rules; what none of them matches stays digital. Without any, everything is included.
        exclude: Rules; what one of them matches stays digital, even if it is included.

    Raises:
        ConfigError: A rule matches no projection, or its regular expression is none.
    """
    choices = explain_choices(graph.nodes, include, exclude)
    found, partitions = [], partition_graph(graph, tile)
    for node in graph.nodes:
        choice = choices.get(node.fqn, "")
        unsupported_reason = (
            f"{node.unsupported_reason}: tiles cannot take its place" if node.unsupported_reason else ""
        )
        found.append(Candidate(node, partitions[node.fqn], choice or unsupported_reason, by_choice=bool(choice)))
    return found


def explain_choices(nodes: Iterable[Named], include: Iterable[str] = (), exclude: Iterable[str] = ()) -> dict[str, str]:
    """Return the projections that rules keep digital, each with its reason; rules are those of `find_candidates`.

    Args:
        nodes: Projections.
        include: Rules; what none of them matches stays digital. Without any, everything is included.
        exclude: Rules; what one of them matches stays digital, even if it is included.

    Raises:
        ConfigError: A rule matches no projection, or its regular expression is none.
    """
    known, included, excluded = list(nodes), list(include), list(exclude)
    chosen = _match_all("include", included, known) if included else {node.fqn for node in known}
    refused = _match_all("exclude", excluded, known)
    reasons = {node.fqn: "not among the projections that the user includes" for node in known if node.fqn not in chosen}
    return reasons | {node.fqn: "kept digital by the user" for node in known if node.fqn in refused}


def match_rules(option: str, rules: Iterable[str], nodes: Iterable[Named]) -> tuple[str, ...]:
    """Return the names of all projections that one of the rules matches, in their order.

    Args:
        option: Name of the option, for errors.
        rules: Rules as in `find_candidates`.
        nodes: Projections.

    Raises:
        ConfigError: A rule matches no projection, or its regular expression is none.
    """
    known = list(nodes)
    found = _match_all(option, rules, known)
    return tuple(node.fqn for node in known if node.fqn in found)


def _match_all(option: str, rules: Iterable[str], nodes: Collection[Named]) -> set[str]:
    """Return the names of all projections that one of the rules matches."""
    matched: set[str] = set()
    for rule in rules:
        found = {node.fqn for node in nodes if _matches(option, rule, node)}
        if not found:
            types = sorted({f"type:{node.layer_type}" for node in nodes})
            prefix = rule.partition(":")[0]
            is_type = RULE_PREFIXES.get(prefix, prefix) == "type"
            hint = suggest(rule, types if is_type else [node.fqn for node in nodes], label="projections")
            raise ConfigError(f"{option}: {rule!r} matches no projection", hint=hint)
        matched |= found
    return matched


def _matches(option: str, rule: str, node: Named) -> bool:
    prefix, colon, pattern = rule.partition(":")
    if colon and RULE_PREFIXES.get(prefix, prefix) == "type":
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
