"""Settings of a crossbar tile, and settings of hardware-aware training."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from lionheart.constants import load_constants
from lionheart.devices.base import DeviceSpec
from lionheart.spec import Spec


def _default(name: str) -> Any:
    return load_constants("lionheart.devices", "tile.toml")[name].value


class HWASpec(Spec):
    """Settings of hardware-aware (HWA) training, which applies noise, quantisation and weight clipping to analog layers."""

    weight_noise: float = Field(
        _default("hwa_weight_noise"),
        ge=0,
        description="sigma of the weight noise, relative to the column's largest weight [-]",
    )
    weight_noise_kind: Literal["additive", "multiplicative", "programming", "device"] = Field(
        "multiplicative",
        description="additive: the same sigma for every weight of a column; multiplicative: sigma times |weight|; "
        "programming: programming noise of the device; device: every step programs a fresh chip, with drift and drift "
        "compensation (the last two do not use weight_noise)",
    )
    t_longest: float = Field(
        86_400.0,
        ge=1,
        description="largest age of a chip with device noise; ages are log-uniform from 1 s to this age [s]",
    )
    weight_clip: float | None = Field(
        1.0,
        gt=0,
        description="bound of weights after each step, in the column's largest weight at conversion [-]; None = no clipping",
    )
    weight_clip_sigma: float | None = Field(
        None,
        gt=0,
        description="bound of weights after each step, in standard deviations of the layer's weights at conversion or before "
        "a search [-]; None = no clipping",
    )
    weight_clip_average: float | None = Field(
        None,
        gt=0,
        description="bound of weights after each step, in the mean of the columns' largest weights at conversion or before a "
        "search [-]; None = no clipping",
    )
    weight_clip_column_sigma: float | None = Field(
        None,
        gt=0,
        description="bound of weights after each step, in standard deviations of the layer's weights in tile units (each "
        "divided by the largest weight of its column) at conversion or before a search, a bound for each column [-]; 2.5 to 3 "
        "is usual; None = no clipping",
    )
    weight_clip_spares: bool = Field(
        False,
        description="whether no bound by standard deviations or averages applies to layers whose outputs it would change by "
        "more than a quarter and by more than the tile's noise, because a few large weights carry the signal",
    )
    weight_levels: int | None = Field(
        None,
        ge=3,
        description="number of equidistant levels over a column's range to which training rounds weights; None = no rounding",
    )
    drop_connect: float = Field(0.0, ge=0, lt=1, description="probability that a weight is 0 in a training step [-]")
    remap: bool = Field(
        True,
        description="whether the scale of a column is its current largest weight; False = its largest weight at conversion",
    )
    output_noise: bool = Field(True, description="whether training injects the tile's output noise")
    converters: bool = Field(
        True, description="whether training quantises with DAC and ADC, with straight-through gradients"
    )

    @property
    def clips_by_spread(self) -> bool:
        """Whether bounds of the weights of a layer follow from the spread of its weights."""
        settings = (self.weight_clip_sigma, self.weight_clip_average, self.weight_clip_column_sigma)
        return any(each is not None for each in settings)


class TileSpec(Spec):
    """Settings of a crossbar tile with its digital-to-analog (DAC) and analog-to-digital (ADC) converters.

    Default values are those of the LionHeart paper, with sources in ``devices/tile.toml``. The weights on a tile are divided by
    the largest magnitude of the weights in their column. Settings "in units of the largest weight" are therefore relative to
    this magnitude.
    """

    rows: int = Field(_default("crossbar_rows"), ge=1, description="inputs of the crossbar")
    cols: int = Field(_default("crossbar_cols"), ge=1, description="outputs of the crossbar")
    device: DeviceSpec = Field(default_factory=DeviceSpec, description="memory devices of the crossbar")
    dac_bits: int | None = Field(
        _default("dac_bits"), ge=2, le=24, description="resolution of the DAC [bit]; None = ideal"
    )
    adc_bits: int | None = Field(
        _default("adc_bits"), ge=2, le=24, description="resolution of the ADC [bit]; None = ideal"
    )
    output_bound: float | None = Field(
        _default("output_bound"),
        gt=0,
        description="largest output of the ADC, in full-scale input times largest weight; None = no bound",
    )
    output_noise: float = Field(
        _default("output_noise"),
        ge=0,
        description="sigma of the noise of each column output, in full-scale input times largest weight",
    )
    input_noise: float = Field(0.0, ge=0, description="sigma of the noise of each DAC output, in full-scale inputs")
    weight_read_noise: float = Field(
        0.0,
        ge=0,
        description="sigma of the noise of each weight in each product, in units of the largest weight",
    )
    weight_read_noise_kind: Literal["constant", "root"] = Field(
        "constant",
        description="constant: weight_read_noise for every weight; root: weight_read_noise times sqrt(|weight|), as for PCM",
    )
    ir_drop: float = Field(
        0.0,
        ge=0,
        description="factor of the voltage drop along the columns; 1 = that of `wire_resistance`, 0 = none [-]",
    )
    wire_resistance: float = Field(
        _default("wire_resistance"), gt=0, description="resistance of the wire between two cells of a column [ohm]"
    )
    input_range: Literal["static", "learned", "sample", "dynamic"] = Field(
        "static",
        description="value of a full-scale input; static: calibrated; learned: calibrated, then trained; "
        "sample: largest magnitude of all inputs of a sample (one image, or one token of a linear layer); "
        "dynamic: largest magnitude of each input vector on each tile, as AIHWKIT's ABS_MAX",
    )
    bound_management: Literal["none", "iterative"] = Field(
        "none", description="iterative: the product of a vector that saturates the ADC is repeated with halved inputs"
    )
    drift_compensation: Literal["none", "global", "per_column"] = Field(
        "global",
        description="digital factor from reference reads after programming and at inference; global: one per tile; "
        "per_column: one per column",
    )
    reference_inputs: Literal["auto", "rows", "signs"] = Field(
        "auto",
        description="inputs of the reference reads; rows: one row after another, as in AIHWKIT; signs: vectors of +1 and -1 on "
        "all rows, compared with the outputs of the exact weights; auto: signs for tiles whose weights would give factors "
        "more than 10 % too small or large with rows, such as weights with outliers or mostly zeros, else rows",
    )
    reference_reads: int = Field(
        _default("reference_reads"),
        ge=1,
        le=65_536,
        description="number of vectors in a reference read with signs; the error of the factor falls with its square root",
    )
    column_calibration: Literal["none", "offset", "affine"] = Field(
        "none",
        description="digital correction of each column from calibration inputs, computed at each time; offset: matches the "
        "mean of the column's outputs to that of the exact weights; affine: matches mean and standard deviation",
    )
    reprogram_after: float | None = Field(
        None, gt=0, description="age at which the chip is reprogrammed [s]; None = never"
    )
    n_reads: int = Field(
        1,
        ge=1,
        le=1024,
        description="reads of the tile for each product, whose outputs after the ADC are averaged: noise of a read falls with "
        "the square root, time and energy of the tile grow in proportion",
    )
    row_copies: int = Field(
        1,
        ge=1,
        description="largest number of copies of a projection's weights on the idle rows of its tiles, driven by the same "
        "inputs: k copies multiply the signal of a column by k; each projection has as many as fit",
    )
    column_copies: int = Field(
        1,
        ge=1,
        description="largest number of copies of a projection's weights on the idle columns of its tiles, whose outputs are "
        "averaged digitally; each projection has as many as fit",
    )
    device_pairs: int = Field(
        1, ge=1, le=64, description="device pairs of each weight, whose currents are averaged in the cell"
    )
    digital_weights: int = Field(
        0,
        ge=0,
        description="number of each projection's largest weights (by magnitude) that the digital core multiplies instead",
    )
    hwa: HWASpec = Field(default_factory=HWASpec, description="noise of hardware-aware training")

    @model_validator(mode="after")
    def _check_adc(self) -> Self:
        if self.adc_bits is not None and self.output_bound is None:
            raise ValueError(
                "output_bound must be set if adc_bits is set, because output_bound is the range of the ADC, "
                f"got output_bound=None and adc_bits={self.adc_bits}; give a number for output_bound, or set adc_bits=None"
            )
        if self.bound_management == "iterative" and self.output_bound is None:
            raise ValueError(
                "output_bound must be set if bound_management is 'iterative', because the ADC saturates at output_bound, "
                "got output_bound=None; give a number for output_bound, or set bound_management='none'"
            )
        return self

    @property
    def reads_vectors(self) -> bool:
        """Whether a setting applies to each input vector separately, for example a dynamic input range or input noise.

        If True, convolutions must be computed from the im2col matrix, whose rows are the input vectors.
        """
        return self.input_range == "dynamic" or self.bound_management == "iterative" or self.disturbs_products

    @property
    def finds_range(self) -> bool:
        """Whether the value of a full-scale input is found in the inputs at inference and needs no calibration."""
        return self.input_range in ("sample", "dynamic")

    def can_be_read_at(self, t_inference: float) -> bool:
        """Return whether the devices can be read at `t_inference`, the time since the chip was first programmed [s].

        If the chip is reprogrammed at intervals, the age of the devices is the time since the last programming.
        """
        age = t_inference if self.reprogram_after is None else t_inference % self.reprogram_after
        return age in self.device.read_times

    @property
    def disturbs_products(self) -> bool:
        """Whether input noise, weight read noise or voltage drop along the wires disturbs matrix-vector products."""
        return self.input_noise > 0 or self.weight_read_noise > 0 or self.ir_drop > 0

    @property
    def has_input_range(self) -> bool:
        """Whether the tile needs a full-scale value of its inputs.

        The tile needs this value if it has a DAC (``dac_bits``), an output bound or output noise.
        """
        return self.dac_bits is not None or self.output_noise != 0 or self.output_bound is not None

    @classmethod
    def pcm(cls, **changes: Any) -> Self:
        """Return the settings of the tile in the LionHeart paper, with devices of phase-change memory (PCM).

        Args:
            changes: Settings by name, which replace default values.
        """
        return cls(**{"device": DeviceSpec.pcm(), **changes})

    @classmethod
    def ideal(cls, rows: int = 256, cols: int = 256) -> Self:
        """Return the settings of a tile that computes exact products: devices, DAC and ADC are ideal, and there is no noise.

        Hardware-aware training with these settings also adds no noise and does not clip weights.

        Args:
            rows: Number of inputs of the crossbar.
            cols: Number of outputs of the crossbar.
        """
        return cls(
            rows=rows,
            cols=cols,
            device=DeviceSpec.ideal(),
            dac_bits=None,
            adc_bits=None,
            output_bound=None,
            output_noise=0.0,
            drift_compensation="none",
            hwa=HWASpec(weight_noise=0.0, weight_clip=None),
        )
