"""Which projection runs where: plain data that other tools can read."""

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
        schema_version: Version of the written form.
    """

    placements: dict[str, Placement] = Field(default_factory=dict)
    schema_version: Literal[1] = Field(default=1, kw_only=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _require_all(cls, data: Any) -> Any:
        """Refuse plain data without a version or placements, which have defaults only where a mapping is constructed."""
        if isinstance(data, dict):
            for key in ("schema_version", "placements"):
                if key not in data:
                    raise PydanticCustomError("incomplete", "a mapping with {key}", {"key": key})
        return data

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

    def save(self, path: Path) -> None:
        """Write the mapping as JSON."""
        write_json(path, write_record(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a mapping from JSON."""
        return read_record(cls, read_json(path), str(path))
