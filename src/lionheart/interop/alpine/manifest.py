"""The manifest of an emitted program: its layers, tiles and scales, and the numbers of its regions."""

from __future__ import annotations

from typing import Literal, final

from lionheart.record import Record


@final
class TileSize(Record):
    """Size of a crossbar.

    Args:
        rows: Inputs.
        cols: Outputs.
    """

    rows: int
    cols: int


@final
class TensorEntry(Record):
    """Inputs or outputs of the program.

    Args:
        shape: Of one sample.
        scale: Value of one step of the integers.
        dtype: In the file.
    """

    shape: tuple[int, ...]
    scale: float
    dtype: str


class LayerEntry(Record):
    """One layer of the program.

    Args:
        number: From 1.
        function: Name of its C++ function.
        about: Sentence that describes it.
        kind: Kind of operation.
        module: Name of the module that it comes from.
        shape: Height, width and channels of its outputs.
        regions: Kind of work -> number of the region.
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
        fqn: The projection.
        placement: Where its products run.
        rows: Inputs of one group's matrix.
        cols: Outputs of one group's matrix.
        groups: Number of such matrices.
        macs: MACs per inference.
        tiles: Numbers of its tiles.
        adc_scale: Factor by which a tile multiplies its sums; None when digital.
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
        network: Kind of work -> number of the region.
    """

    network: dict[str, int]


@final
class Manifest(Record):
    """Content of ``manifest.json``.

    Args:
        schema_version: Version of the written form.
        tile: Size of a crossbar.
        n_tiles: Tiles of the program.
        input: Its inputs.
        output: Its outputs.
        n_samples: Inputs that are stored with the program.
        regions: Regions outside of layers.
        layers: In the order in which they run.
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
        """Products on tiles."""
        return sum(layer.placement == "analog" for layer in self.products)
