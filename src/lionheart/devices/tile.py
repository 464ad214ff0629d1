"""The tile: crossbar size, converters, noise, drift compensation; and what training injects to prepare for it."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from lionheart.constants import load_constants
from lionheart.devices.base import DeviceSpec
from lionheart.spec import Spec


def _default(name: str) -> Any:
    return load_constants("lionheart.devices", "tile.toml")[name].value


class HWASpec(Spec):
    """What hardware-aware (HWA) training adds to the forward pass of an analog layer."""

    weight_noise: float = Field(
        _default("hwa_weight_noise"),
        ge=0,
        description="sigma of the weight noise, relative to the column's largest weight [-]",
    )
    weight_noise_kind: Literal["additive", "multiplicative", "programming", "device"] = Field(
        "multiplicative",
        description="additive: same sigma for every weight of a column; multiplicative: sigma times |weight|; "
        "programming: the device's programming noise; device: a fresh chip for every step, programmed, drifted and "
        "compensated (the last two do not use weight_noise)",
    )
    t_longest: float = Field(
        86_400.0, ge=1, description="device noise: chips are aged log-uniformly between 1 s and this [s]"
    )
    weight_clip: float | None = Field(
        1.0,
        gt=0,
        description="after each step weights stay within this times the column's largest weight at conversion [-]",
    )
    weight_clip_sigma: float | None = Field(
        None, gt=0, description="after each step weights stay within this many standard deviations of the layer [-]"
    )
    weight_clip_average: float | None = Field(
        None,
        gt=0,
        description="after each step weights stay within this times the mean of the columns' largest weights [-]",
    )
    weight_levels: int | None = Field(
        None,
        ge=3,
        description="rounds weights in training to this many levels at equal distances over a column's range; None = not",
    )
    drop_connect: float = Field(0.0, ge=0, lt=1, description="share of weights that is 0 in a training step [-]")
    remap: bool = Field(
        True, description="a column's scale follows its largest weight; False keeps the scale of the conversion"
    )
    output_noise: bool = Field(True, description="inject the tile's output noise in training")
    converters: bool = Field(True, description="quantise with DAC and ADC in training, gradients straight through")


class TileSpec(Spec):
    """A crossbar with its converters. Defaults are the LionHeart paper's, with sources in ``devices/tile.toml``.

    Weights are scaled by the largest weight of each column.
    """

    rows: int = Field(_default("crossbar_rows"), ge=1, description="inputs of the crossbar")
    cols: int = Field(_default("crossbar_cols"), ge=1, description="outputs of the crossbar")
    device: DeviceSpec = Field(default_factory=DeviceSpec, description="what the crossbar is made of")
    dac_bits: int | None = Field(_default("dac_bits"), ge=2, le=24, description="input converter [bit]; None = ideal")
    adc_bits: int | None = Field(_default("adc_bits"), ge=2, le=24, description="output converter [bit]; None = ideal")
    output_bound: float | None = Field(
        _default("output_bound"),
        gt=0,
        description="ADC range, in full-scale input times largest weight; None = no bound",
    )
    output_noise: float = Field(
        _default("output_noise"),
        ge=0,
        description="sigma of each read of a column, in full-scale input times largest weight",
    )
    input_noise: float = Field(0.0, ge=0, description="sigma of what the DAC puts on each row, in full-scale inputs")
    weight_read_noise: float = Field(
        0.0,
        ge=0,
        description="sigma of each weight in each product, in largest weights; read from the chip, not programmed",
    )
    weight_read_noise_kind: Literal["constant", "root"] = Field(
        "constant",
        description="constant: the same for every weight; root: times the root of the weight, as read noise of PCM",
    )
    ir_drop: float = Field(
        0.0, ge=0, description="voltage lost along the columns; 1 = as `wire_resistance` says, 0 = none"
    )
    wire_resistance: float = Field(_default("wire_resistance"), gt=0, description="of the wire between two cells [ohm]")
    input_range: Literal["static", "learned", "dynamic"] = Field(
        "static",
        description="what a full-scale input stands for; static: calibrated; learned: calibrated, then trained; "
        "dynamic: the largest of each input vector at each tile, as AIHWKIT's ABS_MAX",
    )
    bound_management: Literal["none", "iterative"] = Field(
        "none", description="iterative: a vector that saturates the ADC is read again with halved inputs"
    )
    drift_compensation: Literal["none", "global", "per_column"] = Field(
        "global",
        description="digital factor from a reference read after programming; global: one a tile; per_column: one a column",
    )
    column_calibration: Literal["none", "offset", "affine"] = Field(
        "none",
        description="digital correction of each column from calibration inputs, made anew at each time; offset: mean of its "
        "outputs as of the exact weights; affine: mean and standard deviation",
    )
    reprogram_after: float | None = Field(
        None, gt=0, description="the chip is programmed anew whenever it reaches this age [s]; None = never"
    )
    hwa: HWASpec = Field(default_factory=HWASpec, description="noise injected while training")

    @model_validator(mode="after")
    def _check_adc(self) -> Self:
        if self.adc_bits is not None and self.output_bound is None:
            raise ValueError("adc_bits needs an output_bound: the range that the codes cover")
        if self.bound_management == "iterative" and self.output_bound is None:
            raise ValueError("bound_management needs an output_bound: what is not to be left")
        return self

    @property
    def reads_vectors(self) -> bool:
        """Whether tiles treat every vector by itself, so that convolutions need their im2col matrix."""
        return self.input_range == "dynamic" or self.bound_management == "iterative" or self.disturbs_products

    @property
    def disturbs_products(self) -> bool:
        """Whether products are disturbed by more than output noise and converters."""
        return self.input_noise > 0 or self.weight_read_noise > 0 or self.ir_drop > 0

    @property
    def has_input_range(self) -> bool:
        """Whether inputs have a full scale: not on a tile that has neither converters nor output noise."""
        return self.dac_bits is not None or self.output_noise != 0 or self.output_bound is not None

    @classmethod
    def pcm(cls, **changes: Any) -> Self:
        """Return the LionHeart paper's PCM tile, with `changes`."""
        return cls(**{"device": DeviceSpec.pcm(), **changes})

    @classmethod
    def ideal(cls, rows: int = 256, cols: int = 256) -> Self:
        """Return a tile that multiplies exactly; only its size matters."""
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
