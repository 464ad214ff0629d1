"""Read policies: settings of a tile that one projection may have of its own, because its products need less noise than others.

Takes settings of tiles. Returns the settings with the policy of one projection. It knows no layers and no networks.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from lionheart.devices.tile import TileSpec
from lionheart.spec import Spec

#: How each setting is named in a table or a message; ``{}`` is its value.
_WORDS = {
    "n_reads": "{} reads",
    "row_copies": "rows up to x{}",
    "column_copies": "columns up to x{}",
    "device_pairs": "{} pairs",
    "digital_weights": "{} weights digital",
    "input_range": "{} range",
}
#: Settings that belong to the tiles of a layer from its conversion on.
_BUILT_IN = ("n_reads", "row_copies", "column_copies", "device_pairs", "digital_weights")
#: Input ranges between which the corrections after a search may switch a layer.
_SWITCHED = {"static", "dynamic"}


class ReadPolicy(Spec):
    """How the products of one projection are read from its tiles: changes of the settings of the run's tile.

    A policy buys a larger ratio of signal to noise with time, energy, devices, or work on the digital core. A level of a
    projection is a policy, or the digital core.
    """

    n_reads: int | None = Field(
        None, ge=1, le=1024, description="reads that are averaged for each product; None = the tile's setting"
    )
    row_copies: int | None = Field(
        None, ge=1, description="largest number of copies of the weights on idle rows; None = the tile's setting"
    )
    column_copies: int | None = Field(
        None, ge=1, description="largest number of copies of the weights on idle columns; None = the tile's setting"
    )
    device_pairs: int | None = Field(
        None, ge=1, le=64, description="device pairs of each weight; None = the tile's setting"
    )
    digital_weights: int | None = Field(
        None, ge=0, description="number of the largest weights that stay on the digital core; None = the tile's setting"
    )
    input_range: Literal["static", "learned", "sample", "dynamic"] | None = Field(
        None, description="value of a full-scale input; None = the tile's setting"
    )

    @property
    def changes(self) -> dict[str, int | str]:
        """The settings of the tile that this policy changes, by name."""
        return {name: value for name in _WORDS if (value := getattr(self, name)) is not None}

    def apply(self, tile: TileSpec) -> TileSpec:
        """Return the settings `tile` with the changes of this policy.

        Raises:
            ConfigError: The changed settings do not agree with the other settings of the tile.
        """
        return tile.replace(**self.changes) if self.changes else tile

    @classmethod
    def of(cls, tile: TileSpec) -> Self:
        """Return the policy that the settings `tile` state, with a value for each setting."""
        return cls(**{name: getattr(tile, name) for name in _WORDS})

    def __str__(self) -> str:
        """Return the policy in a few words, e.g. ``"4 reads, rows up to x9"``; ``"as the tile"`` if it changes nothing."""
        words = [_WORDS[name].format(value) for name, value in self.changes.items()]
        return ", ".join(words) or "as the tile"


def differ_in_policy(first: TileSpec, second: TileSpec) -> bool:
    """Return whether two tiles differ in a setting of a read policy that a layer has from its conversion on.

    Static and dynamic input ranges count as equal: `set_tiles_` switches between them.
    """
    ranges = {first.input_range, second.input_range}
    if len(ranges) > 1 and not ranges <= _SWITCHED:
        return True
    return any(getattr(first, name) != getattr(second, name) for name in _BUILT_IN)
