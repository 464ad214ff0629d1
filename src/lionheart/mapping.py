"""Which projection runs where: plain data that other tools can read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, final

from lionheart.errors import ArtifactError, ConfigError, suggest
from lionheart.files import read_json, require_mapping, write_json
from lionheart.graph import LayerGraph

SCHEMA_VERSION = 1


class Placement(StrEnum):
    """Where a projection's products are computed."""

    ANALOG = "analog"
    DIGITAL = "digital"


@final
@dataclass(frozen=True)
class LayerMapping:
    """A placement for each projection, keyed by fully qualified name.

    Args:
        placements: In the network's order.
    """

    placements: Mapping[str, Placement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "placements", {fqn: Placement(place) for fqn, place in self.placements.items()})

    @classmethod
    def all_digital(cls, graph: LayerGraph) -> Self:
        """Return the mapping that leaves everything digital."""
        return cls(dict.fromkeys(graph.fqns, Placement.DIGITAL))

    @classmethod
    def from_analog(cls, graph: LayerGraph, analog: Iterable[str]) -> Self:
        """Return the mapping with exactly the projections `analog` on tiles.

        Raises:
            ConfigError: A name is not a projection of the graph.
        """
        chosen = set(analog)
        for fqn in sorted(chosen - set(graph.fqns)):
            raise ConfigError(
                f"mapping: got {fqn!r}, expected a projection of this network",
                hint=suggest(fqn, graph.fqns, label="projections"),
            )
        return cls({f: Placement.ANALOG if f in chosen else Placement.DIGITAL for f in graph.fqns})

    @property
    def analog(self) -> tuple[str, ...]:
        """Names of the analog projections."""
        return tuple(fqn for fqn, place in self.placements.items() if place is Placement.ANALOG)

    def is_analog(self, fqn: str) -> bool:
        """Return whether `fqn` is on tiles."""
        return self.placements.get(fqn) is Placement.ANALOG

    def with_placement(self, fqn: str, placement: Placement) -> LayerMapping:
        """Return a mapping that differs in one projection.

        Raises:
            ConfigError: The projection is unknown.
        """
        if fqn not in self.placements:
            raise ConfigError(
                f"mapping: got {fqn!r}, expected one of its projections",
                hint=suggest(fqn, self.placements, label="projections"),
            )
        return LayerMapping({**self.placements, fqn: placement})

    def analog_mac_share(self, graph: LayerGraph) -> float:
        """Return the share of the projections' MACs on tiles, 0 to 1."""
        return sum(graph[fqn].macs for fqn in self.analog) / graph.macs

    def analog_weight_share(self, graph: LayerGraph) -> float:
        """Return the share of the projections' weights on tiles, 0 to 1; a tied weight counts once."""
        return sum(graph[fqn].weights for fqn in self.analog) / graph.weights

    def to_json(self) -> dict[str, Any]:
        """Return plain data, the inverse of `from_json`."""
        return {"schema_version": SCHEMA_VERSION, "placements": {f: str(p) for f, p in self.placements.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "mapping") -> Self:
        """Read what `to_json` wrote.

        Raises:
            ArtifactError: The version or a placement is unknown.
        """
        if data.get("schema_version") != SCHEMA_VERSION or not isinstance(data.get("placements"), dict):
            raise ArtifactError(
                f"{where}: got schema_version {data.get('schema_version')!r}, expected {SCHEMA_VERSION} and placements",
                hint="is this a mapping written by lionheart?",
            )
        try:
            return cls(data["placements"])
        except ValueError as error:
            raise ArtifactError(f"{where}: {error}", hint="placements are 'analog' or 'digital'") from error

    def save(self, path: Path) -> None:
        """Write the mapping as JSON."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a mapping from JSON."""
        return cls.from_json(require_mapping(read_json(path), path), str(path))
