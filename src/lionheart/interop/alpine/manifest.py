"""Records for the manifest of an emitted program, which lists layers, tiles, scales and code regions."""

from __future__ import annotations

from typing import Literal, final

from pydantic import computed_field

from lionheart.metrics import Metric, is_within
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
        input_range: Magnitude of a full-scale input of the run's DAC; None = not set by a run.
        output_bound: Largest output of the run's ADC, in full-scale input times largest weight of the column; None = not set by
            a run, so that no sum of the calibration samples saturates.
    """

    fqn: str
    placement: Literal["analog", "digital"]
    rows: int
    cols: int
    groups: int
    macs: int
    tiles: tuple[int, ...]
    adc_scale: float | None
    input_range: float | None = None
    output_bound: float | None = None


@final
class NetworkRegions(Record):
    """Code regions outside layers, such as the quantisation of the inputs.

    Args:
        network: Identifying number of the code region for each kind of work: ``quantise``, ``output`` and ``program_tiles``.
    """

    network: dict[str, int]


@final
class ProgramScore(Record):
    """Score of a program on validation samples, next to the scores of the run that was exported.

    Args:
        metric: Metric of the scores.
        n_samples: Number of validation samples of `program_score` and `digital_score`, from the start.
        program_score: Mean score of the outputs of the program.
        digital_score: Mean score of the digital network of the task, on the same samples.
        chips_score: Mean score of the simulated chips of the run, on the validation samples of its final results.
        max_drop_pp: Bound on the drop with which the run was started, in the unit of the metric's drop (pp for a share).
    """

    metric: Metric
    n_samples: int
    program_score: float
    digital_score: float
    chips_score: float
    max_drop_pp: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def program_drop_pp(self) -> float:
        """Drop of the program against the digital network [pp], rounded to 9 decimals."""
        return self.metric.report_drop(self.digital_score, self.program_score)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_within_bound(self) -> bool:
        """Whether the drop of the program is within the bound of the run."""
        return is_within(self.program_drop_pp, self.max_drop_pp)

    def lines(self) -> tuple[str, ...]:
        """Return the scores as sentences for the terminal, with a warning if the drop exceeds the bound."""
        write, drop = self.metric.format_value, self.metric.format_drop
        bound = drop(self.max_drop_pp)
        found = (
            f"{self.metric.name} of the program on {self.n_samples} validation samples: {write(self.program_score)}, "
            f"drop {drop(self.program_drop_pp)} (bound {bound})",
            f"{self.metric.name} of the run: digital {write(self.digital_score)}, simulated chips {write(self.chips_score)}",
        )
        if self.is_within_bound:
            return found
        return (
            *found,
            f"warning: the drop of the program, {drop(self.program_drop_pp)}, exceeds the bound of the run, {bound}",
        )


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
        notes: Settings of the run's tiles that the program does not have, one sentence each.
        score: Score of the program on validation samples; None = the program was not exported from a run.
    """

    schema_version: Literal[1]
    tile: TileSize
    n_tiles: int
    input: TensorEntry
    output: TensorEntry
    n_samples: int
    regions: NetworkRegions
    layers: tuple[ProductEntry | LayerEntry, ...]
    notes: tuple[str, ...] = ()
    score: ProgramScore | None = None

    @property
    def products(self) -> tuple[ProductEntry, ...]:
        """Entries of the layers that multiply by a weight matrix."""
        return tuple(layer for layer in self.layers if isinstance(layer, ProductEntry))

    @property
    def n_analog(self) -> int:
        """Number of layers that are computed on analog tiles."""
        return sum(layer.placement == "analog" for layer in self.products)
