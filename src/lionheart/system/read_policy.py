"""Read policies of projections: how often tiles are read and weights are stored, and what the core does in addition.

A read policy is a set of values of these settings of a tile: ``n_reads``, ``row_copies``, ``column_copies``, ``device_pairs``,
``digital_weights`` and ``input_range``. `TilePlan` gives each projection its own tile and thus its own policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, final

from lionheart.devices import TileSpec
from lionheart.errors import ConfigError, check_type
from lionheart.mapping import LayerMapping
from lionheart.partition import TilePartition
from lionheart.system.platform import PlatformSpec

_RANGES = {"learned": "learned range", "sample": "range per sample", "dynamic": "range per vector"}


@final
@dataclass(frozen=True)
class TilePlan:
    """The tile of each projection (weight matrix): a common tile, and the tiles of projections that differ from it.

    All tiles have the same size and the same devices. They differ in settings such as the read policy.

    Args:
        usual: Tile of each projection without a tile of its own; None = the platform's tile with PCM devices.
        own: Tiles of single projections, by name.
    """

    usual: TileSpec | None = None
    own: Mapping[str, TileSpec] = field(default_factory=dict)

    @classmethod
    def of(cls, tile: TileSpec | TilePlan | None) -> TilePlan:
        """Return `tile` as a plan. A single tile, or None, is the tile of every projection.

        Raises:
            ConfigError: `tile` is neither a tile, a plan nor None.
        """
        if isinstance(tile, TilePlan):
            return tile
        if tile is not None:
            check_type(
                tile, TileSpec, "tile", hint="for example TileSpec.pcm(), or TilePlan(TileSpec.pcm(), {name: tile})"
            )
        return cls(tile)

    @classmethod
    def from_changes(
        cls, tile: TileSpec, changes: Mapping[str, Mapping[str, Any]], mapping: LayerMapping | None = None
    ) -> Self:
        """Return the plan in which the projections named in `changes` have the tile with the given settings changed.

        Args:
            tile: Common tile.
            changes: Names and values of the changed settings, by name of the projection, as in ``results.tiles``.
            mapping: Mapping whose read policies are applied before the changes; None = no policies.

        Raises:
            ConfigError: A setting is unknown or its value is not allowed.
        """
        own = {}
        for fqn, settings in changes.items():
            try:
                own[fqn] = (mapping.tile_of(fqn, tile) if mapping else tile).replace(**settings)
            except ConfigError as error:
                raise ConfigError(f"tiles[{fqn!r}]: {error.message}", hint=error.hint) from None
        return cls(tile, own)

    def follow(self, mapping: LayerMapping, platform: PlatformSpec) -> TilePlan:
        """Return the plan in which projections without a tile of their own have the read policy that the mapping gives them.

        Args:
            mapping: Mapping with read policies.
            platform: Platform whose tile size is used if the plan has no common tile.
        """
        missing = [fqn for fqn in mapping.policies if fqn not in self.own]
        if not missing:
            return self
        usual = self.usual or TileSpec.pcm(rows=platform.tile_rows, cols=platform.tile_cols)
        return TilePlan(self.usual, {**self.own, **{fqn: mapping.tile_of(fqn, usual) for fqn in missing}})

    def find(self, fqn: str) -> TileSpec | None:
        """Return the tile of a projection; None = the platform's tile with PCM devices."""
        return self.own.get(fqn, self.usual)

    @property
    def common(self) -> TileSpec | None:
        """The tile that gives settings of the whole chip: `usual`, else the first of `own`; None = the platform's tile."""
        return self.usual or next(iter(self.own.values()), None)


@final
@dataclass(frozen=True)
class FittedPolicy:
    """Read policy of one projection (weight matrix), with the numbers of copies that fit on its tiles.

    Args:
        n_reads: Reads of each tile for each product.
        row_copies: Copies of the weights on the rows of each tile; 1 = no repetition.
        column_copies: Copies of the weights on the columns of each tile; 1 = no repetition.
        device_pairs: Device pairs of each weight.
        digital_weights: Weights of the projection that the core multiplies.
        input_range: How the full-scale value of the inputs is found, see `TileSpec`.
    """

    n_reads: int = 1
    row_copies: int = 1
    column_copies: int = 1
    device_pairs: int = 1
    digital_weights: int = 0
    input_range: str = "static"

    @classmethod
    def of(cls, tile: TileSpec | None, partition: TilePartition) -> Self:
        """Return the policy of a projection.

        Args:
            tile: Tile of the projection; None = one read, without copies.
            partition: Tiles of the projection, which limit the copies and the number of digital weights.
        """
        if tile is None:
            return cls()
        row_copies, column_copies = partition.count_copies(tile)
        return cls(
            n_reads=tile.n_reads,
            row_copies=row_copies,
            column_copies=column_copies,
            device_pairs=tile.device_pairs,
            digital_weights=min(tile.digital_weights, count_weights(partition)),
            input_range=tile.input_range,
        )

    @property
    def is_default(self) -> bool:
        """Whether each tile is read once, each weight is stored once, and the input range is calibrated."""
        return self == FittedPolicy()

    def describe(self) -> str:
        """Return the settings that are not default, in few words, for example ``"4 reads, 9 row copies"``; else ``""``."""
        counts = (
            (self.n_reads, 1, "reads"),
            (self.row_copies, 1, "row copies"),
            (self.column_copies, 1, "column copies"),
            (self.device_pairs, 1, "device pairs"),
            (self.digital_weights, 0, "digital weight" if self.digital_weights == 1 else "digital weights"),
        )
        words = [f"{number} {noun}" for number, default, noun in counts if number != default]
        return ", ".join([*words, *([_RANGES[self.input_range]] if self.input_range in _RANGES else [])])


def without_policy(tile: TileSpec | None) -> TileSpec | None:
    """Return `tile` with the default read policy: one read, no copies, one device pair, and a static input range."""
    plain = FittedPolicy()
    return tile and tile.replace(**{name: getattr(plain, name) for name in FittedPolicy.__dataclass_fields__})


def count_weights(partition: TilePartition) -> int:
    """Return the number of weights of a projection, without copies."""
    return sum(partition.row_sizes) * sum(partition.col_sizes) * partition.groups


def occupy(partition: TilePartition, tile: TileSpec | None) -> TilePartition:
    """Return the rows and columns that a projection occupies on its tiles: those of its weights times the number of copies.

    Args:
        partition: Tiles of the projection, with the sizes of the weight matrix.
        tile: Tile of the projection, with the largest numbers of copies; None = no copies.
    """
    policy = FittedPolicy.of(tile, partition)
    return TilePartition(
        tuple(rows * policy.row_copies for rows in partition.row_sizes),
        tuple(cols * policy.column_copies for cols in partition.col_sizes),
        partition.groups,
        partition.tile_rows,
        partition.tile_cols,
    )
