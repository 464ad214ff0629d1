"""Conversion between LionHeart's `TileSpec` and AIHWKIT's `TorchInferenceRPUConfig` or `InferenceRPUConfig`.

The result of each conversion is converted back and compared with the original. A field that differs has no counterpart in the
other simulator.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from enum import Enum
from typing import Any

from aihwkit.inference import GlobalDriftCompensation
from aihwkit.inference.compensation.drift import PerColumnDriftCompensation
from aihwkit.simulator.configs import (
    BoundManagementType,
    InferenceRPUConfig,
    IOParameters,
    NoiseManagementType,
    TorchInferenceRPUConfig,
    WeightNoiseType,
)
from aihwkit.simulator.parameters.enums import WeightClipType, WeightModifierType, WeightRemapType
from aihwkit.simulator.parameters.inference import (
    WeightClipParameter,
    WeightModifierParameter,
    WeightRemapParameter,
)

from lionheart.analog import AnalogLayer
from lionheart.devices import HWASpec, TileSpec
from lionheart.errors import ConfigError, LionHeartWarning
from lionheart.interop.aihwkit.devices import describe_noise_model, read_noise_model, write_noise_model
from lionheart.interop.aihwkit.effective import (
    effective_clip,
    effective_forward,
    effective_input_range,
    effective_modifier,
    effective_tile,
    merge_reads,
)

_COMPENSATIONS = {"global": GlobalDriftCompensation, "per_column": PerColumnDriftCompensation}
_WEIGHT_NOISES = {"constant": WeightNoiseType.ADDITIVE_CONSTANT, "root": WeightNoiseType.PCM_READ}
_UNSPLIT = 1 << 30  # tile rows or columns for AIHWKIT's size 0, which disables splitting
_NO_MATCH = "(missing)"


class ConversionWarning(LionHeartWarning):
    """Warning that a conversion dropped settings because they have no counterpart in the other simulator."""


def to_rpu_config(tile: TileSpec, *, compiled: bool = False, strict: bool = True) -> Any:
    """Convert LionHeart's tile settings to an AIHWKIT configuration.

    docs/how-to/aihwkit.md lists which field of AIHWKIT corresponds to each field of `TileSpec`.

    Args:
        tile: LionHeart's tile settings.
        compiled: Whether to return an `InferenceRPUConfig`, for AIHWKIT's compiled C++ tiles. If False, return a
            `TorchInferenceRPUConfig`, for AIHWKIT's tiles in PyTorch.
        strict: Whether to raise an error if a field has no counterpart in AIHWKIT. If False, drop such fields with a
            `ConversionWarning`.

    Raises:
        ConfigError: `strict` is True, and fields have no counterpart in AIHWKIT. The message lists all such fields.
    """
    config, faults = examine_tile(tile, compiled=compiled)
    report_faults(faults, "AIHWKIT's compiled tiles" if compiled else "AIHWKIT's torch tiles", strict=strict)
    return config


def from_rpu_config(config: Any, *, strict: bool = True) -> TileSpec:
    """Convert an AIHWKIT configuration to LionHeart's tile settings.

    Args:
        config: AIHWKIT's `TorchInferenceRPUConfig` or `InferenceRPUConfig`.
        strict: Whether to raise an error if a field has no counterpart in `TileSpec`. If False, drop such fields with a
            `ConversionWarning`.

    Raises:
        ConfigError: `config` has neither of these two types, or `strict` is True and fields of `config` have no counterpart in
            `TileSpec`. In the second case, the message lists all such fields.
    """
    tile, faults = examine_config(config)
    report_faults(faults, "LionHeart", strict=strict)
    return tile


def examine_tile(tile: TileSpec, *, compiled: bool = False) -> tuple[Any, list[str]]:
    """Return an AIHWKIT configuration with the settings of `tile`, and a list of the fields that cannot be converted.

    The list has a text ``name: value`` for each field of `tile` without a counterpart in AIHWKIT. If `compiled` is True, the
    configuration is for AIHWKIT's compiled C++ tiles, otherwise for AIHWKIT's tiles in PyTorch.
    """
    tile = merge_reads(tile)
    config = _write(tile, compiled=compiled)
    ours, back = effective_tile(tile), effective_tile(_read(config))
    faults = _compare(_flatten(ours.model_dump()), _flatten(back.model_dump()))
    if ours.device.technology != back.device.technology:
        faults = [fault for fault in faults if not fault.startswith("device.")]
        faults.append(f"device.technology: {ours.device.technology!r}")
    if ours.input_range == "learned" and _is_scaled_by_constant(ours):
        faults.append("input_range: 'learned' without a DAC")
    if ours.hwa.weight_levels is not None and ours.hwa.weight_levels % 2 == 0:
        faults.append(f"hwa.weight_levels: {ours.hwa.weight_levels}")  # AIHWKIT's levels include 0
    if compiled and ours.input_range == "static" and ours.dac_bits is None and limits_outputs(ours):
        faults.append("dac_bits: None with a static input range and output noise or bound")
    return config, [f"TileSpec.{fault}" for fault in faults]


def examine_config(config: Any) -> tuple[TileSpec, list[str]]:
    """Return a `TileSpec` with the settings of AIHWKIT's `config`, and a list of the fields that cannot be converted.

    The list has a text ``name: value`` for each field of `config` without a counterpart in `TileSpec`.

    Raises:
        ConfigError: `config` is neither a `TorchInferenceRPUConfig` nor an `InferenceRPUConfig`.
    """
    faults, name = [], type(config).__name__
    if not isinstance(config, (InferenceRPUConfig, TorchInferenceRPUConfig)):
        raise ConfigError(
            f"AIHWKIT configuration: got {name}, expected TorchInferenceRPUConfig or InferenceRPUConfig",
            hint="use one of these two configuration classes; LionHeart has no counterpart of AIHWKIT's on-chip training",
        )
    if type(config) not in (TorchInferenceRPUConfig, InferenceRPUConfig):
        faults.append("__class__")
    tile = _read(config)
    again = _write(tile, compiled=not isinstance(config, TorchInferenceRPUConfig))
    faults += _compare(_flatten_config(config), _flatten_config(again))
    return tile, [f"{name}.{fault}" for fault in faults]


def report_faults(faults: list[str], other: str, *, strict: bool) -> None:
    """Raise a `ConfigError` that lists `faults`, or do nothing if `faults` is empty.

    Each entry of `faults` describes a setting without a counterpart in the simulator `other`. If `strict` is False, issue a
    `ConversionWarning` instead of the error.
    """
    if not faults:
        return
    message = "\n".join(f"{fault}: no counterpart in {other}" for fault in faults)
    if strict:
        raise ConfigError(
            message,
            hint="change these settings. The functions that convert settings or models drop such settings if called with "
            "strict=False. See docs/how-to/aihwkit.md",
        )
    warnings.warn(message, ConversionWarning, stacklevel=3)


def warn_of_reads(layers: Mapping[str, AnalogLayer]) -> None:
    """Issue a `ConversionWarning` if LionHeart chooses reference reads that AIHWKIT does not have, for any of the layers."""
    found = [
        fqn
        for fqn, layer in layers.items()
        if layer.tile.reference_inputs == "auto" and "signs" in layer.choose_references()
    ]
    if found:
        warnings.warn(
            f"{', '.join(found)}: LionHeart compensates drift from reads with sign vectors, because these layers have outliers "
            "or many zeros. AIHWKIT reads one row after another and computes other factors. To compare both simulators, set "
            "reference_inputs='rows' for the tile",
            ConversionWarning,
            stacklevel=3,
        )


# -- LionHeart to AIHWKIT ---------------------------------------------------------------------------------------------


def _resolution(bits: int | None) -> float:
    return -1.0 if bits is None else 1 / (2**bits - 2)


def _is_scaled_by_constant(tile: TileSpec) -> bool:
    """Whether the AIHWKIT configuration for `tile` must scale inputs by a constant instead of an input range.

    This is the case for a tile without a DAC, because LionHeart does not clip the inputs of such a tile.
    """
    return tile.dac_bits is None


def limits_outputs(tile: TileSpec) -> bool:
    """Whether the tile has output noise or an output bound. In both cases the outputs depend on the scale of the inputs."""
    return tile.output_noise > 0 or tile.output_bound is not None


def needs_range(tile: TileSpec) -> bool:
    """Whether the conversion of `tile` needs the value of an input range."""
    return tile.input_range != "dynamic" and (tile.dac_bits is not None or limits_outputs(tile))


def _write(tile: TileSpec, *, compiled: bool) -> Any:
    config = (InferenceRPUConfig if compiled else TorchInferenceRPUConfig)()
    forward = config.forward = IOParameters()
    forward.inp_res, forward.out_res = _resolution(tile.dac_bits), _resolution(tile.adc_bits)
    forward.inp_bound = 0.0 if tile.dac_bits is None else 1.0
    forward.out_bound = tile.output_bound or 0.0
    forward.inp_noise, forward.out_noise = tile.input_noise, tile.output_noise
    if compiled and tile.weight_read_noise > 0:
        forward.w_noise, forward.w_noise_type = tile.weight_read_noise, _WEIGHT_NOISES[tile.weight_read_noise_kind]
    if compiled and tile.ir_drop > 0:
        forward.ir_drop, forward.ir_drop_g_ratio = tile.ir_drop, 1 / (tile.wire_resistance * tile.device.g_max * 1e-6)
    forward.bound_management = BoundManagementType[tile.bound_management.upper()]
    forward.noise_management, given = NoiseManagementType.NONE, config.pre_post.input_range
    if tile.input_range == "dynamic":
        forward.noise_management, forward.inp_bound = NoiseManagementType.ABS_MAX, 1.0
    elif compiled and tile.dac_bits is None and not limits_outputs(tile):
        pass  # AIHWKIT's compiled tiles do not scale unbounded inputs; the scale would have no effect here
    elif tile.input_range == "static" and _is_scaled_by_constant(tile):
        forward.noise_management, forward.nm_thres = NoiseManagementType.CONSTANT, 1.0
    else:
        given.enable, given.learn_input_range, given.init_from_data = True, tile.input_range == "learned", 0
    config.mapping.max_input_size, config.mapping.max_output_size = tile.rows, tile.cols
    config.mapping.weight_scaling_omega, config.mapping.weight_scaling_columnwise = 1.0, True
    kind = _COMPENSATIONS.get(tile.drift_compensation)
    config.drift_compensation = None if kind is None else kind()
    config.noise_model = write_noise_model(tile.device)
    config.modifier, config.clip = _write_modifier(tile.hwa, compiled), _write_clip(tile.hwa, compiled)
    if tile.hwa.remap:
        config.remap = WeightRemapParameter(type=WeightRemapType.CHANNELWISE_SYMMETRIC)
    return config


def _write_modifier(hwa: HWASpec, compiled: bool) -> Any:
    modifier = WeightModifierParameter(rel_to_actual_wmax=False, assumed_wmax=1.0, std_dev=hwa.weight_noise)
    if compiled:
        modifier.pdrop = hwa.drop_connect
    additive = hwa.weight_noise_kind == "additive"
    if hwa.weight_levels is not None:
        step = 2 / (hwa.weight_levels - 1)
        modifier.res = step if compiled else step / 2  # for AIHWKIT's torch tiles, a fraction of the range -1 to 1
        with_noise = compiled and additive and hwa.weight_noise > 0
        kind = WeightModifierType.DISCRETIZE_ADD_NORMAL if with_noise else WeightModifierType.DISCRETIZE
    elif additive:
        kind = WeightModifierType.ADD_NORMAL
    elif hwa.weight_noise_kind == "multiplicative" and hwa.weight_noise > 0:
        kind = WeightModifierType.MULT_NORMAL
    else:
        kind = WeightModifierType.NONE
    modifier.type = kind
    return modifier


def _write_clip(hwa: HWASpec, compiled: bool) -> Any:
    clip = WeightClipParameter()
    if hwa.weight_clip is not None:
        clip.type, clip.fixed_value = WeightClipType.FIXED_VALUE, hwa.weight_clip
    if hwa.weight_clip_sigma is not None:
        clip.type, clip.sigma = WeightClipType.LAYER_GAUSSIAN, hwa.weight_clip_sigma
    elif hwa.weight_clip_average == 1 and compiled:
        clip.type = WeightClipType.AVERAGE_CHANNEL_MAX
    return clip


# -- AIHWKIT to LionHeart ---------------------------------------------------------------------------------------------


def _bits(resolution: float) -> int | None:
    if resolution <= 0:
        return None
    steps = resolution if resolution > 1 else 1 / resolution
    return min(max(round(math.log2(steps + 2)), 2), 24)


def _read(config: Any) -> TileSpec:
    forward = effective_forward(config)
    given = config.pre_post.input_range
    if given.enable:
        input_range = "learned" if given.learn_input_range else "static"
    else:
        input_range = "dynamic" if forward.noise_management == NoiseManagementType.ABS_MAX else "static"
    adc_bits = _bits(forward.out_res) if forward.out_bound > 0 else None
    iterative = forward.bound_management == BoundManagementType.ITERATIVE and forward.out_bound > 0
    names = {kind: name for name, kind in _COMPENSATIONS.items()}
    settings: dict[str, Any] = {
        "rows": config.mapping.max_input_size if config.mapping.max_input_size > 0 else _UNSPLIT,
        "cols": config.mapping.max_output_size if config.mapping.max_output_size > 0 else _UNSPLIT,
        "device": read_noise_model(config.noise_model),
        "dac_bits": _bits(forward.inp_res),
        "adc_bits": adc_bits,
        "output_bound": forward.out_bound if forward.out_bound > 0 else None,
        "output_noise": max(forward.out_noise, 0.0),
        "input_range": input_range,
        "bound_management": "iterative" if iterative else "none",
        "drift_compensation": names.get(type(config.drift_compensation), "none"),
        "input_noise": forward.inp_noise,
        "hwa": _read_hwa(config),
    }
    if forward.w_noise > 0:
        kinds = {kind: name for name, kind in _WEIGHT_NOISES.items()}
        settings |= {"weight_read_noise": forward.w_noise, "weight_read_noise_kind": kinds[forward.w_noise_type]}
    if forward.ir_drop > 0:
        resistance = 1 / (forward.ir_drop_g_ratio * settings["device"].g_max * 1e-6)
        settings |= {"ir_drop": forward.ir_drop, "wire_resistance": float(f"{resistance:.12g}")}
    return TileSpec(**settings)


def _read_hwa(config: Any) -> HWASpec:
    modifier, clip = config.modifier, config.clip
    settings: dict[str, Any] = {"weight_noise": 0.0, "weight_clip": None, "drop_connect": min(modifier.pdrop, 0.999)}
    noisy = (
        WeightModifierType.MULT_NORMAL,
        WeightModifierType.ADD_NORMAL,
        WeightModifierType.DISCRETIZE_ADD_NORMAL,
    )
    if modifier.type in noisy:
        settings["weight_noise"] = modifier.std_dev
        settings["weight_noise_kind"] = (
            "multiplicative" if modifier.type == WeightModifierType.MULT_NORMAL else "additive"
        )
    if modifier.type in (WeightModifierType.DISCRETIZE, WeightModifierType.DISCRETIZE_ADD_NORMAL) and modifier.res > 0:
        step = modifier.res * (2 if isinstance(config, TorchInferenceRPUConfig) else 1)
        settings["weight_levels"] = max(round(2 / step) + 1, 3)
    if clip.type in (WeightClipType.FIXED_VALUE, WeightClipType.LAYER_GAUSSIAN) and clip.fixed_value > 0:
        settings["weight_clip"] = clip.fixed_value
    if clip.type == WeightClipType.LAYER_GAUSSIAN:
        settings["weight_clip_sigma"] = clip.sigma
    elif clip.type == WeightClipType.AVERAGE_CHANNEL_MAX:
        settings["weight_clip_average"] = 1.0
    settings["remap"] = config.remap.type == WeightRemapType.CHANNELWISE_SYMMETRIC
    return HWASpec(**settings)


# -- comparison -------------------------------------------------------------------------------------------------------


def _flatten_config(config: Any) -> dict[str, Any]:
    given = {
        "forward": effective_forward(config),
        "backward.is_perfect": config.backward.is_perfect,
        "mapping": config.mapping,
        "modifier": effective_modifier(config),
        "clip": effective_clip(config),
        "remap": config.remap if config.remap.type != WeightRemapType.NONE else WeightRemapParameter(),
        "pre_post.input_range": effective_input_range(config),
        "runtime": config.runtime,
        "drift_compensation": type(config.drift_compensation).__name__,
        "noise_model": describe_noise_model(config.noise_model),
    }
    flat = _flatten(given)
    if not config.mapping.learn_out_scaling:
        del flat["mapping.out_scaling_columnwise"]
    return flat


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        flat: dict[str, Any] = {}
        for name, item in value.items():
            flat |= _flatten(item, f"{prefix}.{name}".strip("."))
        return flat
    return {prefix: value.name if isinstance(value, Enum) else value}


def _compare(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return a text ``name: value`` for each entry of `one` that is missing in `other` or has a different value there."""
    return [f"{name}: {value!r}" for name, value in one.items() if not _is_same(value, other.get(name, _NO_MATCH))]


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, (int, float)) and isinstance(other, (int, float)) and not isinstance(one, bool):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)
