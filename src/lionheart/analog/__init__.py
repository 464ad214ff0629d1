"""Analog layers, which simulate products with weight matrices on analog tiles.

`convert_to_analog_` replaces the layers that are analog in a `LayerMapping`, with tile settings from a `TileSpec`.
`convert_to_digital_` restores the digital layers. Analog layers simulate a programmed chip in ``eval()`` and the noise for
hardware-aware training in ``train()``. This package imports no code for training loops, accuracy measurements or platforms.
"""

from lionheart.analog.base import AnalogLayer
from lionheart.analog.calibration import calibrate_input_ranges_, find_spared, find_uncalibrated, measure_saturation
from lionheart.analog.chip import (
    clear_chip_,
    clip_weights_,
    drift_chip_,
    find_unprogrammed,
    program_chip_,
    seed_noise_,
    set_noise_strength_,
    use_noise_,
)
from lionheart.analog.columns import ColumnCalibration
from lionheart.analog.compiled import compile_model_, running_eagerly, uncompile_
from lionheart.analog.convert import analog_layers, convert_to_analog_, convert_to_digital_, set_tiles_
from lionheart.analog.noise import NoiseSource
from lionheart.analog.readout import ChipRead
from lionheart.analog.rescaling import rescale_channels_
from lionheart.analog.selection import (
    ChipState,
    Conversion,
    InputRanges,
    describe_chip,
    describe_conversion,
    list_choices,
    select_projections,
)

__all__ = [
    "AnalogLayer",
    "ChipRead",
    "ChipState",
    "ColumnCalibration",
    "Conversion",
    "InputRanges",
    "NoiseSource",
    "analog_layers",
    "calibrate_input_ranges_",
    "clear_chip_",
    "clip_weights_",
    "compile_model_",
    "convert_to_analog_",
    "convert_to_digital_",
    "describe_chip",
    "describe_conversion",
    "drift_chip_",
    "find_spared",
    "find_uncalibrated",
    "find_unprogrammed",
    "list_choices",
    "measure_saturation",
    "program_chip_",
    "rescale_channels_",
    "running_eagerly",
    "seed_noise_",
    "select_projections",
    "set_noise_strength_",
    "set_tiles_",
    "uncompile_",
    "use_noise_",
]
