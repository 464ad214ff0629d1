"""The tile: crossbar size, converters, noise, drift compensation; and what training injects to prepare for it."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from lionheart.constants import load_constants
from lionheart.specs.base import Spec
from lionheart.specs.device import DeviceSpec


def _default(name: str) -> Any:
    return load_constants("lionheart.specs", "tile.toml")[name].value


class HWASpec(Spec):
    """What hardware-aware (HWA) training adds to the forward pass of an analog layer."""

    weight_noise: float = Field(
        _default("hwa_weight_noise"),
        ge=0,
        description="sigma of the weight noise, relative to the column's largest weight [-]",
    )
    weight_noise_kind: Literal["additive", "multiplicative", "device"] = Field(
        "multiplicative",
        description="additive: same sigma for every weight of a column; multiplicative: sigma times |weight|; "
        "device: a fresh chip for every step, programmed, drifted and compensated (weight_noise is not used)",
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
    output_noise: bool = Field(True, description="inject the tile's output noise in training")
    converters: bool = Field(True, description="quantise with DAC and ADC in training, gradients straight through")


class TileSpec(Spec):
    """A crossbar with its converters. Defaults are the LionHeart paper's, with sources in ``specs/data/tile.toml``.

    Inputs are scaled by a static, calibrated range for each layer; weights by the largest weight of each column.
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
    drift_compensation: Literal["none", "global"] = Field(
        "global", description="global: one digital factor a tile, from a reference read after programming"
    )
    hwa: HWASpec = Field(default_factory=HWASpec, description="noise injected while training")

    @model_validator(mode="after")
    def _check_adc(self) -> Self:
        if self.adc_bits is not None and self.output_bound is None:
            raise ValueError("adc_bits needs an output_bound: the range that the codes cover")
        return self

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
