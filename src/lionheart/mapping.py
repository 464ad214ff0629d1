"""The mapping: a placement (analog or digital) for each projection of a network, as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self, final

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from lionheart.errors import ConfigError, suggest
from lionheart.files import read_json, write_json
from lionheart.graph import LayerGraph
from lionheart.record import read_record, write_record
from lionheart.spec import with_config_errors


class Placement(StrEnum):
    """Where the products of a projection are computed: on tiles or digitally."""

    ANALOG = "analog"
    DIGITAL = "digital"


@final
@with_config_errors
@dataclass(frozen=True)
class LayerMapping:
    """A placement for each projection of a network.

    Args:
        placements: Placement by fully qualified name, in the order of the network.
        schema_version: Version of the JSON format.
    """

    placements: dict[str, Placement] = Field(default_factory=dict)
    schema_version: Literal[1] = Field(default=1, kw_only=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _require_all(cls, data: Any) -> Any:
        """Reject plain data without version or placements; their defaults are only for mappings constructed in Python."""
        if isinstance(data, dict):
            for key in ("schema_version", "placements"):
                if key not in data:
                    raise PydanticCustomError("incomplete", "a mapping with {key}", {"key": key})
        return data

    @classmethod
    def all_digital(cls, graph: LayerGraph) -> Self:
        """Return the mapping with all projections digital."""
        return cls(dict.fromkeys(graph.fqns, Placement.DIGITAL))

    @classmethod
    def from_analog(cls, graph: LayerGraph, analog: Iterable[str]) -> Self:
        """Return the mapping with exactly the projections `analog` on tiles.

        Args:
            graph: Network.
            analog: Names of the analog projections.

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
        return tuple(fqn for fqn, placement in self.placements.items() if placement is Placement.ANALOG)

    def is_analog(self, fqn: str) -> bool:
        """Return whether the projection `fqn` is on tiles."""
        return self.placements.get(fqn) is Placement.ANALOG

    def with_placement(self, fqn: str, placement: Placement) -> LayerMapping:
        """Return a copy with another placement of the projection `fqn`.

        Raises:
            ConfigError: `fqn` is not a projection of this mapping.
        """
        if fqn not in self.placements:
            raise ConfigError(
                f"mapping: got {fqn!r}, expected a projection of this mapping",
                hint=suggest(fqn, self.placements, label="projections"),
            )
        return LayerMapping({**self.placements, fqn: placement})

    def analog_mac_share(self, graph: LayerGraph) -> float:
        """Return the share of all projections' MACs that is on tiles, 0 to 1."""
        return sum(graph[fqn].macs for fqn in self.analog) / graph.macs

    def analog_weight_share(self, graph: LayerGraph) -> float:
        """Return the share of all projections' weights that is on tiles, 0 to 1; a shared weight counts once."""
        return sum(graph[fqn].weights for fqn in self.analog) / graph.weights

    def save(self, path: Path) -> None:
        """Write the mapping to a JSON file."""
        write_json(path, write_record(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a mapping from a JSON file.

        Raises:
            ArtifactError: The file cannot be read or is not a mapping.
        """
        return read_record(cls, read_json(path), str(path))
