"""Manifest of an emitted program: layers, tiles, scales, and the numbers of code regions."""

from __future__ import annotations

from typing import Literal, final

from lionheart.record import Record


@final
class TileSize(Record):
    """Size of a tile.

    Args:
        rows: Number of inputs.
        cols: Number of outputs.
    """

    rows: int
    cols: int


@final
class TensorEntry(Record):
    """Inputs or outputs of the program.

    Args:
        shape: Shape of one sample.
        scale: Real value of one integer step.
        dtype: Data type in the file.
    """

    shape: tuple[int, ...]
    scale: float
    dtype: str


class LayerEntry(Record):
    """One layer of the program.

    Args:
        number: Number of the layer, from 1.
        function: Name of its C++ function.
        about: Description in one line.
        kind: Kind of operation.
        module: Name of the module that contains the operation.
        shape: Height, width and channels of the outputs.
        regions: Number of the region for each kind of work.
    """

    number: int
    function: str
    about: str
    kind: str
    module: str
    shape: tuple[int, int, int]
    regions: dict[str, int]


@final
class ProductEntry(LayerEntry):
    """A layer that multiplies by a weight matrix.

    Args:
        fqn: Name of the projection.
        placement: Placement of the projection.
        rows: Inputs of the matrix of one group.
        cols: Outputs of the matrix of one group.
        groups: Number of groups.
        macs: MACs per inference.
        tiles: Numbers of the tiles.
        adc_scale: Factor by which a tile multiplies its sums; None for digital products.
    """

    fqn: str
    placement: Literal["analog", "digital"]
    rows: int
    cols: int
    groups: int
    macs: int
    tiles: tuple[int, ...]
    adc_scale: float | None


@final
class NetworkRegions(Record):
    """Regions outside of layers.

    Args:
        network: Number of the region for each kind of work.
    """

    network: dict[str, int]


@final
class Manifest(Record):
    """Content of ``manifest.json``.

    Args:
        schema_version: Version of the file format.
        tile: Size of a tile.
        n_tiles: Number of tiles.
        input: Inputs of the program.
        output: Outputs of the program.
        n_samples: Number of stored inputs.
        regions: Regions outside of layers.
        layers: Layers in execution order.
    """

    schema_version: Literal[1]
    tile: TileSize
    n_tiles: int
    input: TensorEntry
    output: TensorEntry
    n_samples: int
    regions: NetworkRegions
    layers: tuple[ProductEntry | LayerEntry, ...]

    @property
    def products(self) -> tuple[ProductEntry, ...]:
        """Layers that multiply by a weight matrix."""
        return tuple(layer for layer in self.layers if isinstance(layer, ProductEntry))

    @property
    def n_analog(self) -> int:
        """Number of products on tiles."""
        return sum(layer.placement == "analog" for layer in self.products)
