"""The mapping of a network: for each projection (weight matrix), whether its products run on tiles, how, or digitally."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self, final

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from lionheart.devices import ReadPolicy, TileSpec
from lionheart.errors import ConfigError, check_type, suggest
from lionheart.files import read_json, write_json
from lionheart.graph import LayerGraph
from lionheart.record import read_record, write_record
from lionheart.spec import with_config_errors


class Placement(StrEnum):
    """Placement of a projection (weight matrix): its products are computed on analog tiles or on the digital core."""

    ANALOG = "analog"
    DIGITAL = "digital"


@final
@with_config_errors
@dataclass(frozen=True)
class LayerMapping:
    """The placement, analog or digital, of each projection (weight matrix) of a network.

    Args:
        placements: Placement of each projection, by fully qualified name, in the order of the projections in the layer graph.
        policies: Read policy of each analog projection whose policy is not that of the run's tile, by name.
        schema_version: Version of the JSON format.
    """

    placements: dict[str, Placement] = Field(default_factory=dict)
    policies: dict[str, ReadPolicy] = Field(default_factory=dict, kw_only=True, repr=False)
    schema_version: Literal[1] = Field(default=1, kw_only=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _require_all(cls, data: Any) -> Any:
        """Reject a dict without ``schema_version`` or ``placements``.

        A mapping file must contain both keys. Python calls may omit these arguments.
        """
        if isinstance(data, dict):
            for key in ("schema_version", "placements"):
                if key not in data:
                    raise PydanticCustomError("incomplete", "a mapping with {key}", {"key": key})
        return data

    @model_validator(mode="after")
    def _keep_used_policies(self) -> Self:
        """Keep the policies that change a setting of an analog projection, in the order of the placements."""
        kept = {fqn: self.policies[fqn] for fqn in self.analog if fqn in self.policies and self.policies[fqn].changes}
        object.__setattr__(self, "policies", kept)
        return self

    @classmethod
    def all_digital(cls, graph: LayerGraph) -> Self:
        """Return the mapping in which all projections (weight matrices) of `graph` are digital."""
        return cls(dict.fromkeys(graph.fqns, Placement.DIGITAL))

    @classmethod
    def from_analog(cls, graph: LayerGraph, analog: Iterable[str]) -> Self:
        """Return the mapping in which exactly the projections (weight matrices) named in `analog` run on tiles.

        Args:
            graph: Layer graph of the network.
            analog: Names of the projections that run on tiles. All other projections are digital.

        Raises:
            ConfigError: A name in `analog` is not a projection of the graph.
        """
        chosen = set(analog)
        for fqn in sorted(chosen - set(graph.fqns)):
            raise ConfigError(
                f"mapping: got {fqn!r}, expected the name of a projection (weight matrix) of the network",
                hint=suggest(fqn, graph.fqns, label="projections"),
            )
        return cls({f: Placement.ANALOG if f in chosen else Placement.DIGITAL for f in graph.fqns})

    @property
    def analog(self) -> tuple[str, ...]:
        """Names of the analog projections (weight matrices), in the order of `placements`."""
        return tuple(fqn for fqn, placement in self.placements.items() if placement is Placement.ANALOG)

    def is_analog(self, fqn: str) -> bool:
        """Return whether the projection `fqn` runs on tiles; False if the mapping has no projection of this name."""
        return self.placements.get(fqn) is Placement.ANALOG

    def policy_of(self, fqn: str) -> ReadPolicy:
        """Return the read policy of the projection `fqn`; a policy without changes if the run's tile decides."""
        return self.policies.get(fqn, ReadPolicy())

    def describe(self, fqn: str) -> str:
        """Return the placement of the projection `fqn` as text, with its read policy if it has one of its own."""
        own = f" ({self.policies[fqn]})" if fqn in self.policies else ""
        return f"{self.placements[fqn]}{own}"

    def tile_of(self, fqn: str, tile: TileSpec) -> TileSpec:
        """Return the settings of the tiles of the projection `fqn`, given the settings `tile` of the run."""
        return self.policy_of(fqn).apply(tile)

    def with_policies(self, policies: Mapping[str, ReadPolicy]) -> LayerMapping:
        """Return a copy of the mapping in which the projections named in `policies` have these read policies.

        The policies of digital projections are left out.
        """
        return LayerMapping(self.placements, policies={**self.policies, **policies})

    def with_placement(self, fqn: str, placement: Placement) -> LayerMapping:
        """Return a copy of the mapping in which the projection `fqn` has the given placement.

        Raises:
            ConfigError: `fqn` is not a projection of this mapping.
        """
        if fqn not in self.placements:
            raise ConfigError(
                f"mapping: got {fqn!r}, expected the name of a projection (weight matrix) in the mapping",
                hint=suggest(fqn, self.placements, label="projections"),
            )
        return LayerMapping({**self.placements, fqn: placement}, policies=self.policies)

    def analog_mac_share(self, graph: LayerGraph) -> float:
        """Return the number of MACs in analog projections divided by the number of MACs in all projections, 0 to 1.

        A projection is a weight matrix. A MAC is a multiply-accumulate operation.
        """
        return sum(graph[fqn].macs for fqn in self.analog) / graph.macs

    def analog_weight_share(self, graph: LayerGraph) -> float:
        """Return the fraction of the weights in `graph` that belong to analog projections (weight matrices), 0 to 1.

        A weight that several layers share is counted once.
        """
        return sum(graph[fqn].weights for fqn in self.analog) / graph.weights

    def save(self, path: Path | str) -> None:
        """Write the mapping to the JSON file `path`."""
        write_json(_as_path(path), write_record(self))

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a mapping from the JSON file `path`.

        Raises:
            ArtifactError: The file cannot be read or does not contain a valid mapping.
        """
        return read_record(cls, read_json(_as_path(path)), str(path))


def _as_path(path: Path | str) -> Path:
    check_type(path, (str, Path), "path", hint="give the path of a JSON file, for example runs/first/mapping.json")
    return Path(path)
