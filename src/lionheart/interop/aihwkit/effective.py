"""Normalisation of LionHeart's and AIHWKIT's tile settings before settings are compared.

Settings without an effect are replaced by fixed values, so that equivalent tiles compare equal.
"""

from __future__ import annotations

import copy
import math
from typing import Any

from aihwkit.simulator.configs import (
    BoundManagementType,
    IOParameters,
    NoiseManagementType,
    TorchInferenceRPUConfig,
    WeightNoiseType,
)
from aihwkit.simulator.parameters.enums import WeightClipType, WeightModifierType, WeightRemapType
from aihwkit.simulator.parameters.inference import WeightClipParameter, WeightModifierParameter
from aihwkit.simulator.parameters.pre_post import InputRangeParameter

from lionheart.analog import AnalogLayer
from lionheart.analog.layers.conv import AnalogConv
from lionheart.devices import DeviceSpec, HWASpec, ReRAMCMOSpec, ReRAMWan2022Spec, TileSpec


def tile_of(layer: AnalogLayer) -> TileSpec:
    """Return the tile settings of a layer for the conversion to AIHWKIT.

    The numbers of copies are those that fit. A sample of a linear layer whose inputs all reach the same tiles is one vector, so
    that its range is that of the vector.
    """
    tile = layer.tile_in_use
    is_vector = not isinstance(layer, AnalogConv) and len(layer.partition.row_sizes) == 1
    return tile.replace(input_range="dynamic") if tile.input_range == "sample" and is_vector else tile


def merge_reads(tile: TileSpec) -> TileSpec:
    """Return `tile` with one read of less noise instead of several reads, if both are exactly the same.

    They are if the tile has neither an ADC nor an output bound: the mean of reads is then a sum of Gaussian noise. Other tiles
    are returned unchanged.
    """
    if tile.n_reads == 1 or tile.adc_bits is not None or tile.output_bound is not None or tile.ir_drop > 0:
        return tile
    noises = ("output_noise", "input_noise", "weight_read_noise")
    return tile.replace(n_reads=1, **{name: getattr(tile, name) / math.sqrt(tile.n_reads) for name in noises})


def effective_tile(tile: TileSpec) -> TileSpec:
    """Return a copy of `tile` in which every setting without an effect has a fixed value.

    For example, the wire resistance has no effect without IR drop and is replaced by its default.
    """
    hwa, device = tile.hwa, tile.device
    changes: dict[str, Any] = {}
    if hwa.weight_noise_kind != "device":
        changes["t_longest"] = HWASpec().t_longest
    if hwa.weight_noise_kind in ("programming", "device"):
        changes["weight_noise"] = 0.0
    elif hwa.weight_noise == 0:
        changes["weight_noise_kind"] = "multiplicative"
    if tile.output_noise == 0:
        changes["output_noise"] = True
    if tile.dac_bits is None and tile.output_bound is None:
        changes["converters"] = True
    if isinstance(device, ReRAMWan2022Spec) and device.g_max_of_fit == device.g_max:
        device = device.replace(g_max_of_fit=None)
    if isinstance(device, ReRAMCMOSpec) and device.programming_noise is not None:
        device = device.replace(acceptance=0.2)
        if device.programming_noise == DeviceSpec.reram_cmo().programming_coefficients():  # type: ignore[attr-defined]
            device = device.replace(programming_noise=None)
    # AIHWKIT reads rows; "auto" on most tiles too
    if tile.drift_compensation == "none" or tile.reference_inputs != "signs":
        tile = tile.replace(reference_inputs="auto", reference_reads=TileSpec().reference_reads)
    if tile.ir_drop == 0:
        tile = tile.replace(wire_resistance=TileSpec().wire_resistance)
    if tile.weight_read_noise == 0:
        tile = tile.replace(weight_read_noise_kind="constant")
    return tile.replace(hwa=hwa.replace(**changes), device=device)


def effective_forward(config: Any) -> Any:
    """Return a copy of AIHWKIT's forward-pass settings ``config.forward``, with fixed values for settings without an effect."""
    forward, default = copy.deepcopy(config.forward), IOParameters()
    if forward.is_perfect:
        forward = IOParameters(inp_res=-1.0, out_res=-1.0, inp_bound=0.0, out_bound=0.0, out_noise=0.0)
        forward.noise_management, forward.bound_management = NoiseManagementType.CONSTANT, BoundManagementType.NONE
        forward.nm_thres = 1.0
    for name in ("inp_res", "out_res"):
        resolution = getattr(forward, name)
        setattr(forward, name, -1.0 if resolution <= 0 else 1 / resolution if resolution > 1 else resolution)
    forward.out_bound, forward.inp_bound = max(forward.out_bound, 0.0), max(forward.inp_bound, 0.0)
    if (
        forward.noise_management == NoiseManagementType.ABS_MAX
        and forward.nm_thres <= 0
        and forward.inp_res <= 0
        and forward.inp_bound >= 1
    ):
        forward.inp_bound = 0.0  # no input reaches the bound
    if forward.bound_management == BoundManagementType.NONE or forward.out_bound == 0:
        forward.bound_management = BoundManagementType.NONE
        forward.max_bm_factor, forward.max_bm_res = default.max_bm_factor, default.max_bm_res
        forward.bm_test_negative_bound = default.bm_test_negative_bound
    forward.inp_noise = max(forward.inp_noise, 0.0)
    if forward.w_noise <= 0 or forward.w_noise_type == WeightNoiseType.NONE:
        forward.w_noise, forward.w_noise_type = 0.0, WeightNoiseType.NONE
    if forward.ir_drop <= 0:
        forward.ir_drop, forward.ir_drop_g_ratio = 0.0, default.ir_drop_g_ratio
    if forward.noise_management != NoiseManagementType.CONSTANT and forward.nm_thres <= 0:
        forward.nm_thres = 0.0
    if _is_constant(forward):
        is_constant = forward.noise_management == NoiseManagementType.CONSTANT
        forward.nm_thres = forward.nm_thres if is_constant and forward.nm_thres > 0 else 1.0
        forward.noise_management = NoiseManagementType.NONE if _clips(forward) else NoiseManagementType.CONSTANT
    return forward


def _is_constant(forward: Any) -> bool:
    """Whether AIHWKIT scales the inputs by a constant, which does not depend on the inputs."""
    return forward.noise_management in (NoiseManagementType.NONE, NoiseManagementType.CONSTANT)


def _clips(forward: Any) -> bool:
    """Whether AIHWKIT's forward-pass settings clip inputs whose magnitude exceeds the constant input scale."""
    return bool(forward.inp_res > 0 and forward.bound_management == BoundManagementType.NONE)


def effective_modifier(config: Any) -> Any:
    """Return AIHWKIT's ``config.modifier`` (weight noise in training), with fixed values for settings without an effect.

    Modifiers of other types than Gaussian noise and discretisation are returned unchanged.
    """
    given, torch_tile = config.modifier, isinstance(config, TorchInferenceRPUConfig)
    kind = WeightModifierType.NONE if given.type == WeightModifierType.COPY else given.type
    if kind in (WeightModifierType.MULT_NORMAL, WeightModifierType.ADD_NORMAL) and given.std_dev <= 0:
        kind = WeightModifierType.NONE
    known = {
        WeightModifierType.NONE: (),
        WeightModifierType.MULT_NORMAL: ("std_dev",),
        WeightModifierType.ADD_NORMAL: ("std_dev",),
        WeightModifierType.DISCRETIZE: ("res", "sto_round"),
        WeightModifierType.DISCRETIZE_ADD_NORMAL: ("std_dev", "res", "sto_round"),
    }
    if kind not in known:
        return given
    modifier = WeightModifierParameter(type=kind, pdrop=given.pdrop, rel_to_actual_wmax=False, assumed_wmax=1.0)
    for name in (*known[kind], "enable_during_test", "per_batch_sample", "copy_last_column"):
        setattr(modifier, name, getattr(given, name))
    largest_is_one = config.remap.type == WeightRemapType.CHANNELWISE_SYMMETRIC
    ignored = kind == WeightModifierType.NONE or (torch_tile and kind == WeightModifierType.MULT_NORMAL)
    if not ignored and not (given.rel_to_actual_wmax and largest_is_one):
        modifier.rel_to_actual_wmax, modifier.assumed_wmax = given.rel_to_actual_wmax, given.assumed_wmax
    return modifier


def effective_clip(config: Any) -> Any:
    """Return a copy of AIHWKIT's ``config.clip`` (weight clipping), with default values for settings without an effect."""
    given = config.clip
    clip = WeightClipParameter(type=given.type)
    if given.type in (WeightClipType.FIXED_VALUE, WeightClipType.LAYER_GAUSSIAN) and given.fixed_value > 0:
        clip.fixed_value = given.fixed_value
    if given.type == WeightClipType.LAYER_GAUSSIAN:
        clip.sigma = given.sigma
    return clip


def effective_input_range(config: Any) -> Any:
    """Return a copy of AIHWKIT's ``config.pre_post.input_range`` in which settings without an effect have fixed values.

    If the configuration has no input range but clips the inputs at a constant input scale, the equivalent fixed input range is
    returned.
    """
    given, default = config.pre_post.input_range, InputRangeParameter()
    if not given.enable:
        forward = effective_forward(config)
        as_range = _is_constant(forward) and _clips(forward)
        return InputRangeParameter(enable=True, learn_input_range=False) if as_range else default
    if not given.learn_input_range:
        return InputRangeParameter(enable=True, learn_input_range=False)
    kept = copy.deepcopy(given)  # LionHeart calibrates the initial value
    kept.init_value, kept.init_from_data, kept.init_std_alpha = 3.0, 100, 3.0
    kept.calibration_info = None
    return kept
