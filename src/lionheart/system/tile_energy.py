"""Energy of a matrix-vector product on a tile.

The measured energy of one tile is scaled to other tile sizes and converter resolutions with a published closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from lionheart.devices import TileSpec
from lionheart.system.platform import PlatformSpec


@final
@dataclass(frozen=True)
class TilePoint:
    """Size and converter resolutions of a tile, from which the energy of a product is computed.

    Args:
        rows: Number of inputs of the tile, each with a DAC.
        cols: Number of outputs of the tile, each with an ADC.
        dac_bits: Resolution of the DACs [bit].
        adc_bits: Resolution of the ADCs [bit].
        device_pairs: Device pairs of each weight.
    """

    rows: int
    cols: int
    dac_bits: int
    adc_bits: int
    device_pairs: int = 1


def reference_point(platform: PlatformSpec) -> TilePoint:
    """Return the size and converter resolutions of the tile whose energy is given in the platform file."""
    return TilePoint(platform.tile_rows, platform.tile_cols, platform.tile_dac_bits, platform.tile_adc_bits)


def tile_point(platform: PlatformSpec, rows: int, cols: int, tile: TileSpec | None = None) -> tuple[TilePoint, float]:
    """Return a `TilePoint` and a factor. The energy of a product is the energy at the `TilePoint`, multiplied by the factor.

    If `tile` is given, the `TilePoint` contains the given size, the converter resolutions and the device pairs of `tile`, and
    the factor is 1. An ideal converter has no resolution, so it is counted with the resolution of the platform's converter.

    If `tile` is None, the converter resolutions are unknown. The `TilePoint` then describes the platform's own tile. The factor
    is ``rows * cols`` divided by the number of cells of the platform's own tile. The energy per operation is therefore the same
    for any tile size, as in the ALPINE simulator.

    Args:
        platform: Platform that gives the energy, size and converter resolutions of its own tile.
        rows: Number of inputs of the tile.
        cols: Number of outputs of the tile.
        tile: Tile that gives the converter resolutions; None = unknown.
    """
    reference = reference_point(platform)
    if tile is None:
        return reference, rows * cols / (reference.rows * reference.cols)
    dac_bits = reference.dac_bits if tile.dac_bits is None else tile.dac_bits
    adc_bits = reference.adc_bits if tile.adc_bits is None else tile.adc_bits
    return TilePoint(rows, cols, dac_bits, adc_bits, tile.device_pairs), 1.0


def adc_energy_j(platform: PlatformSpec, bits: int) -> float:
    """Return the energy of one analog-to-digital conversion [J]: ``(a b + c 4^b) Vdd^2``, where b is the resolution `bits`.

    Source:
        ZigZag's model of in-memory computing; constants a, c and Vdd in ``system/data/converters.toml``.
    """
    return (platform.adc_linear_f * bits + platform.adc_exponential_f * 4.0**bits) * platform.converter_vdd_v**2


def dac_energy_j(platform: PlatformSpec, bits: int) -> float:
    """Return the energy of one digital-to-analog conversion [J]: ``d b Vdd^2``, where b is the resolution `bits`.

    Source:
        ZigZag's model of in-memory computing; constants d and Vdd in ``system/data/converters.toml``.
    """
    return platform.dac_linear_f * bits * platform.converter_vdd_v**2


def mvm_energy(platform: PlatformSpec, point: TilePoint) -> dict[str, float]:
    """Return the energy of one matrix-vector product (MVM) on a whole tile, by component [J].

    The platform gives the energy for the size and converters of its own tile. The converters use the fraction
    ``tile_converter_share`` of this energy. The energy of the converters is scaled with the number and resolution of the
    converters, by ratios of `adc_energy_j` and `dac_energy_j`. The remaining energy is scaled with the number of devices: size
    times device pairs. For the platform's own tile, the components add up to the given energy.

    Args:
        platform: Platform that gives the energy, size and converters of its own tile.
        point: Size and converter resolutions of the tile that computes the product.
    """
    reference = reference_point(platform)
    n_reference = reference.rows * reference.cols
    total = 2.0 * n_reference / platform.tile_ops_per_j * platform.tile_technology_factor
    converters = platform.tile_converter_share * total
    closed_form = reference.cols * adc_energy_j(platform, reference.adc_bits)
    closed_form += reference.rows * dac_energy_j(platform, reference.dac_bits)
    return {
        "tile_array": (total - converters) * (point.rows * point.cols * point.device_pairs / n_reference),
        "tile_adc": converters * (point.cols * adc_energy_j(platform, point.adc_bits) / closed_form),
        "tile_dac": converters * (point.rows * dac_energy_j(platform, point.dac_bits) / closed_form),
    }
