"""Records for the manifest of an emitted program, which lists layers, tiles, scales and code regions."""

from __future__ import annotations

from typing import Literal, final

from lionheart.record import Record


@final
class TileSize(Record):
    """Size of an analog tile.

    Args:
        rows: Number of inputs.
        cols: Number of outputs.
    """

    rows: int
    cols: int


@final
class TensorEntry(Record):
    """Format of the inputs or of the outputs of an emitted program.

    Args:
        shape: Shape ``(height, width, channels)`` of one sample.
        scale: Real number that one step of the int8 values in the program represents.
        dtype: Data type in the file ``inputs.bin`` or ``expected.bin``.
    """

    shape: tuple[int, ...]
    scale: float
    dtype: str


class LayerEntry(Record):
    """One layer of an emitted program.

    Args:
        number: Number that identifies the layer, from 1 in execution order.
        function: Name of the layer's C++ function.
        about: One-line description of the layer.
        kind: Kind of operation: ``product``, ``add``, ``clamp``, ``pool`` or ``place``.
        module: Name of the innermost module that contains the operation; empty if this module is the network itself.
        shape: Shape ``(height, width, channels)`` of the output.
        regions: Identifying number of the code region for each kind of work in the layer, such as ``product``.
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
    """One layer of an emitted program that multiplies by a weight matrix.

    Args:
        fqn: Fully qualified name of the projection (weight matrix); empty for a separate batch norm.
        placement: ``analog`` if the layer is computed on tiles, otherwise ``digital``.
        rows: Number of inputs of each group's matrix.
        cols: Number of outputs of each group's matrix.
        groups: Number of channel groups, each with its own matrix.
        macs: Number of multiply-accumulate operations per inference.
        tiles: Identifying numbers of the tiles that store the weights; empty for digital layers.
        adc_scale: Factor by which the ADC of a tile multiplies the sums before rounding; None for digital layers.
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
    """Code regions outside layers, such as the quantisation of the inputs.

    Args:
        network: Identifying number of the code region for each kind of work: ``quantise``, ``output`` and ``program_tiles``.
    """

    network: dict[str, int]


@final
class Manifest(Record):
    """Content of the file ``manifest.json`` in the folder of an emitted program.

    Args:
        schema_version: Version of the file format.
        tile: Size of each analog tile.
        n_tiles: Number of tiles that store weights of the network.
        input: Format of the inputs of the program.
        output: Format of the outputs of the program.
        n_samples: Number of inputs that are stored in the folder.
        regions: Code regions outside layers.
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
        """Entries of the layers that multiply by a weight matrix."""
        return tuple(layer for layer in self.layers if isinstance(layer, ProductEntry))

    @property
    def n_analog(self) -> int:
        """Number of layers that are computed on analog tiles."""
        return sum(layer.placement == "analog" for layer in self.products)
