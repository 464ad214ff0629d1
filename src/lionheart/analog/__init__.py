"""Analog layers: conductance physics (`device`) and the tile around it (`tile`).

Comes in: weights, a `TileSpec`, a partition. Goes out: modules that compute what a programmed chip would compute, or what
hardware-aware training needs. Must not know: accuracy, search, platforms, data sets.
"""

from lionheart.analog.tile import (
    AnalogLayer,
    ChipRead,
    ColumnCalibration,
    NoiseSource,
    analog_layers,
    calibrate_input_ranges_,
    clear_chip_,
    clip_weights_,
    compile_model_,
    convert_to_analog_,
    convert_to_digital_,
    drift_chip_,
    program_chip_,
    seed_noise_,
    set_tiles_,
    uncompile_,
    use_noise_,
)

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
