"""Tiles: DAC -> crossbar -> ADC, digital partial sums, drift compensation, and the modules that hold their state.

Comes in: a model, a `LayerMapping`, a `TileSpec`. Goes out: the model with analog layers in place, programmable as a chip; and
back again. Must not know: training loops, accuracy, platforms.
"""

from lionheart.analog.tile.base import AnalogLayer, ChipRead
from lionheart.analog.tile.calibration import calibrate_input_ranges_
from lionheart.analog.tile.chip import (
    clear_chip_,
    clip_weights_,
    drift_chip_,
    program_chip_,
    seed_noise_,
    use_noise_,
)
from lionheart.analog.tile.columns import ColumnCalibration
from lionheart.analog.tile.compiled import compile_model_, uncompile_
from lionheart.analog.tile.convert import analog_layers, convert_to_analog_, convert_to_digital_, set_tiles_
from lionheart.analog.tile.noise import NoiseSource

__all__ = [
    "AnalogLayer",
    "ChipRead",
    "ColumnCalibration",
    "NoiseSource",
    "analog_layers",
    "calibrate_input_ranges_",
    "clear_chip_",
    "clip_weights_",
    "compile_model_",
    "convert_to_analog_",
    "convert_to_digital_",
    "drift_chip_",
    "program_chip_",
    "seed_noise_",
    "set_tiles_",
    "uncompile_",
    "use_noise_",
]
