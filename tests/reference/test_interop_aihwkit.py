"""Settings and models to and from an installed AIHWKIT, and a whole mapping computed by its tiles.

AIHWKIT 1.1.0 offers its torch tiles, a 1.2.0 built here its compiled tiles too; what needs the latter skips without them.
"""

from __future__ import annotations

import copy
import json
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

pytestmark = [pytest.mark.xref, pytest.mark.usefixtures("small_noise_pool")]
pytest.importorskip("aihwkit", reason="compares with AIHWKIT, which is not installed")

from aihwkit.inference import GlobalDriftCompensation, PCMLikeNoiseModel  # noqa: E402
from aihwkit.inference.compensation.drift import (  # noqa: E402
    GlobalDriftCompensationWithExactReference,
    PerColumnDriftCompensation,
)
from aihwkit.inference.noise.custom import StateIndependentNoiseModel  # noqa: E402
from aihwkit.nn import AnalogConv1d, AnalogConv2d, AnalogLinear  # noqa: E402
from aihwkit.nn.conversion import convert_to_analog  # noqa: E402
from aihwkit.nn.modules.base import AnalogLayerBase  # noqa: E402
from aihwkit.nn.modules.container import AnalogWrapper  # noqa: E402
from aihwkit.simulator.configs import (  # noqa: E402
    BoundManagementType,
    InferenceRPUConfig,
    NoiseManagementType,
    SingleRPUConfig,
    TorchInferenceRPUConfig,
    TorchInferenceRPUConfigIRDropT,
    WeightNoiseType,
)
from aihwkit.simulator.parameters.enums import WeightClipType, WeightModifierType, WeightRemapType  # noqa: E402
from quadrants import build_task, make_settings  # noqa: E402
from zoo import ZOO  # noqa: E402

import lionheart.interop  # noqa: E402  makes the backend known
import lionheart.training.loop  # noqa: E402
from lionheart.analog import (  # noqa: E402
    AnalogLayer,
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
    use_noise_,
)
from lionheart.cli import app  # noqa: E402
from lionheart.data import call_model  # noqa: E402
from lionheart.devices import DeviceSpec, HWASpec, PairConverter, TileSpec  # noqa: E402
from lionheart.errors import CalibrationWarning, ConfigError, UnsupportedLayerError  # noqa: E402
from lionheart.evaluation import evaluate_over_chips  # noqa: E402
from lionheart.graph import trace_graph  # noqa: E402
from lionheart.interop.aihwkit import (  # noqa: E402
    ConversionWarning,
    ConvOverPatches,
    from_aihwkit_,
    from_rpu_config,
    to_aihwkit_,
    to_rpu_config,
)
from lionheart.jobs import PRESETS, MapSettings, evaluate_run, find_backend, map_layers, resume_run  # noqa: E402
from lionheart.jobs.backend import register_backend  # noqa: E402
from lionheart.mapping import LayerMapping, Placement  # noqa: E402
from lionheart.rng import RandomStreams  # noqa: E402

FLOAT32_ROUNDING = 2.0**-23  # a weight divided by its scale and multiplied again


@pytest.fixture(autouse=True)
def _fixed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(29)
        yield


def has_compiled_tiles() -> bool:
    try:
        AnalogLinear(2, 2, rpu_config=InferenceRPUConfig())(torch.ones(1, 2))
    except RuntimeError:
        return False
    return True


NEEDS_COMPILED = pytest.mark.skipif(
    not has_compiled_tiles(), reason="needs AIHWKIT with working compiled tiles (1.2.0 built from source)"
)
COMPILED = pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=NEEDS_COMPILED)], ids=["torch", "compiled"]
)


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def worst(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).detach().abs().max() / theirs.detach().abs().max())


# ------------------------------------------------------------------------------------------------------------ settings

#: Tiles that both of AIHWKIT's simulators can say.
TILES: dict[str, TileSpec] = {
    "paper": TileSpec(),
    "dynamic": TileSpec(input_range="dynamic"),
    "learned": TileSpec(input_range="learned", rows=64, cols=100),
    "iterative": TileSpec(bound_management="iterative"),
    "dynamic iterative": TileSpec(input_range="dynamic", bound_management="iterative", dac_bits=6, adc_bits=10),
    "no DAC": TileSpec(dac_bits=None, input_range="dynamic"),
    "no ADC": TileSpec(adc_bits=None, output_bound=7.5, output_noise=0.125),
    "no bound": TileSpec(adc_bits=None, output_bound=None),
    "ideal": TileSpec.ideal(17, 19),
    "per column": TileSpec(drift_compensation="per_column"),
    "uncompensated": TileSpec(drift_compensation="none"),
    "ideal device": TileSpec(device=DeviceSpec.ideal()),
    "g_min": TileSpec(device=DeviceSpec.pcm(g_max=20.0, g_min=2.0, programming_noise_scale=0.5, t_0=30.0)),
    "scales": TileSpec(device=DeviceSpec.pcm(drift_scale=0.3, read_noise_scale=0.2, t_read=1e-6)),
    "dual pair": TileSpec(device=DeviceSpec.pcm(converter=PairConverter(significance=(1.0, 4.0)))),
    "triple": TileSpec(device=DeviceSpec.pcm(converter=PairConverter(significance=(1.0, 2.0, 4.0)))),
    "custom drift": TileSpec(
        device=DeviceSpec.pcm_custom_drift(drift_table=((0.0, 0.1, 0.02), (10.0, 0.05, 0.01), (25.0, 0.04, 0.01)))
    ),
    "wan": TileSpec(device=DeviceSpec.reram_wan2022()),
    "wan, other fit": TileSpec(device=DeviceSpec.reram_wan2022(g_max_of_fit=30.0, noise_scale=0.5)),
    "cmo": TileSpec(device=DeviceSpec.reram_cmo()),
    "cmo 2 %": TileSpec(device=DeviceSpec.reram_cmo(acceptance=2.0, g_max=80.0)),
    "additive": TileSpec(hwa=HWASpec(weight_noise=0.05, weight_noise_kind="additive", remap=False)),
    "quiet": TileSpec(hwa=HWASpec(weight_noise=0.0)),
    "levels": TileSpec(hwa=HWASpec(weight_noise=0.0, weight_levels=15)),
    "unclipped": TileSpec(hwa=HWASpec(weight_clip=None)),
    "sigma": TileSpec(hwa=HWASpec(weight_clip=None, weight_clip_sigma=2.5)),
    "noisy inputs": TileSpec(input_noise=0.02),
    "both clips": TileSpec(hwa=HWASpec(weight_clip=0.75, weight_clip_sigma=2.5)),
}
#: Tiles that only the compiled simulator can say.
COMPILED_ONLY: dict[str, TileSpec] = {
    "drop connect": TileSpec(hwa=HWASpec(drop_connect=0.1)),
    "noisy reads": TileSpec(weight_read_noise=0.02),
    "noisy PCM reads": TileSpec(weight_read_noise=0.03, weight_read_noise_kind="root"),
    "wires": TileSpec(ir_drop=1.0),
    "long wires": TileSpec(ir_drop=2.0, wire_resistance=1.5, device=DeviceSpec.pcm(g_max=5.0)),
    "average clip": TileSpec(hwa=HWASpec(weight_clip=None, weight_clip_average=1.0)),
    "noisy levels": TileSpec(hwa=HWASpec(weight_noise=0.02, weight_noise_kind="additive", weight_levels=9)),
}
#: Tiles that nobody there can say, and the field that the error names.
UNSAID: dict[str, TileSpec] = {
    "reprogram_after: 100.0": TileSpec(reprogram_after=100.0),
    "device.stuck_off: 0.1": TileSpec(device=DeviceSpec.pcm(stuck_off=0.1)),
    "device.stuck_on: 0.2": TileSpec(device=DeviceSpec.pcm(stuck_on=0.2)),
    "hwa.output_noise: False": TileSpec(hwa=HWASpec(output_noise=False)),
    "hwa.converters: False": TileSpec(hwa=HWASpec(converters=False)),
    "hwa.weight_noise_kind: 'device'": TileSpec(hwa=HWASpec(weight_noise_kind="device")),
    "hwa.weight_noise_kind: 'programming'": TileSpec(hwa=HWASpec(weight_noise_kind="programming")),
    "hwa.weight_clip_average: 0.5": TileSpec(hwa=HWASpec(weight_clip_average=0.5)),
    "hwa.weight_noise: 0.1": TileSpec(hwa=HWASpec(weight_levels=9, weight_noise=0.1)),
    "hwa.weight_levels: 16": TileSpec(hwa=HWASpec(weight_levels=16)),
    "input_range: 'learned'": TileSpec(input_range="learned", dac_bits=None),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["torch", "compiled"])
@pytest.mark.parametrize("name", [*TILES, *COMPILED_ONLY])
def test_tiles_come_back(name: str, compiled: bool):
    tile = (TILES | COMPILED_ONLY)[name]
    if name in COMPILED_ONLY and not compiled:
        with pytest.raises(ConfigError, match="no counterpart in AIHWKIT's torch tiles"):
            to_rpu_config(tile)
        return
    config = to_rpu_config(tile, compiled=compiled)
    assert type(config) is (InferenceRPUConfig if compiled else TorchInferenceRPUConfig)
    if name == "quiet":
        tile = tile.replace(hwa=tile.hwa.replace(weight_noise_kind="multiplicative"))
    assert from_rpu_config(config) == tile


def test_a_tile_field_by_field():
    tile = TileSpec(
        rows=100,
        cols=50,
        dac_bits=8,
        adc_bits=6,
        output_bound=10.0,
        output_noise=0.04,
        hwa=HWASpec(weight_noise=0.07, weight_noise_kind="additive", weight_clip=0.9),
        device=DeviceSpec.pcm(g_max=20.0, t_0=25.0),
    )
    config = to_rpu_config(tile)
    forward, mapping = config.forward, config.mapping
    assert (forward.inp_res, forward.out_res) == (1 / 254, 1 / 62)  # 2^bits - 2 steps over the whole range
    assert (forward.inp_bound, forward.out_bound, forward.out_noise) == (1.0, 10.0, 0.04)
    assert forward.noise_management is NoiseManagementType.NONE
    assert forward.bound_management is BoundManagementType.NONE
    assert config.pre_post.input_range.enable
    assert not config.pre_post.input_range.learn_input_range
    assert (mapping.max_input_size, mapping.max_output_size) == (100, 50)
    assert (mapping.weight_scaling_omega, mapping.weight_scaling_columnwise) == (1.0, True)
    assert (config.modifier.type, config.modifier.std_dev) == (WeightModifierType.ADD_NORMAL, 0.07)
    assert (config.clip.type, config.clip.fixed_value) == (WeightClipType.FIXED_VALUE, 0.9)
    assert config.remap.type is WeightRemapType.CHANNELWISE_SYMMETRIC
    assert type(config.noise_model) is PCMLikeNoiseModel
    assert (config.noise_model.t_0, config.noise_model.g_converter.g_max) == (25.0, 20.0)
    assert type(config.drift_compensation) is GlobalDriftCompensation
    dynamic = to_rpu_config(tile.replace(input_range="dynamic", bound_management="iterative"))
    assert dynamic.forward.noise_management is NoiseManagementType.ABS_MAX
    assert dynamic.forward.bound_management is BoundManagementType.ITERATIVE
    assert not dynamic.pre_post.input_range.enable
    column = to_rpu_config(tile.replace(drift_compensation="per_column"))
    assert type(column.drift_compensation) is PerColumnDriftCompensation


@pytest.mark.parametrize("compiled", [False, True], ids=["torch", "compiled"])
@pytest.mark.parametrize("field", UNSAID)
def test_what_aihwkit_cannot_say_is_one_error(field: str, compiled: bool):
    tile = UNSAID[field]
    with pytest.raises(ConfigError, match=re.escape(f"TileSpec.{field}")) as caught:
        to_rpu_config(tile, compiled=compiled)
    assert "strict=False" in caught.value.hint
    with pytest.warns(ConversionWarning, match=re.escape(field)) as warned:
        to_rpu_config(tile, compiled=compiled, strict=False)
    assert len(warned) == 1


def test_all_that_aihwkit_cannot_say_is_listed():
    tile = TileSpec(reprogram_after=9.0, device=DeviceSpec.pcm(stuck_on=0.5), hwa=HWASpec(converters=False))
    with pytest.raises(ConfigError) as caught:
        to_rpu_config(tile)
    assert [line.split(":")[0] for line in caught.value.message.splitlines()] == [
        "TileSpec.device.stuck_on",
        "TileSpec.reprogram_after",
        "TileSpec.hwa.converters",
    ]


def configure(**changes: Any) -> TorchInferenceRPUConfig:
    """Return a configuration of theirs; names of `changes` have ``__`` for dots."""
    config = TorchInferenceRPUConfig()
    config.mapping.weight_scaling_omega, config.mapping.weight_scaling_columnwise = 1.0, True
    for path, value in changes.items():
        *groups, name = path.split("__")
        target: Any = config
        for group in groups:
            target = getattr(target, group)
        assert hasattr(target, name), path
        setattr(target, name, value)
    return config


#: Configurations of theirs that we can say.
CONFIGS: dict[str, dict[str, Any]] = {
    "their default, scaled": {},
    "steps as numbers": {"forward__inp_res": 126, "forward__out_res": 1022.0},
    "range": {"pre_post__input_range__enable": True, "forward__noise_management": NoiseManagementType.NONE,
              "forward__bound_management": BoundManagementType.NONE, "pre_post__input_range__init_from_data": 0,
              "pre_post__input_range__init_value": 2.0, "pre_post__input_range__learn_input_range": False},
    "constant": {"forward__noise_management": NoiseManagementType.CONSTANT,
                 "forward__bound_management": BoundManagementType.NONE},
    "none": {"forward__noise_management": NoiseManagementType.NONE,
             "forward__bound_management": BoundManagementType.NONE},
    "perfect": {"forward__is_perfect": True},
    "no bound": {"forward__out_bound": 0.0, "forward__out_res": -1.0},
    "no noise": {"forward__out_noise": 0.0},
    "noisy inputs": {"forward__inp_noise": 0.1},
    "range and bound": {"pre_post__input_range__enable": True, "forward__noise_management": NoiseManagementType.NONE,
                        "pre_post__input_range__init_from_data": 0,
                        "pre_post__input_range__learn_input_range": False},
    "uncompensated": {"drift_compensation": None},
    "sizes": {"mapping__max_input_size": 20, "mapping__max_output_size": 7},
    "remapped": {"remap__type": WeightRemapType.CHANNELWISE_SYMMETRIC, "clip__type": WeightClipType.FIXED_VALUE,
                 "clip__fixed_value": 1.0},
    "relative noise": {"modifier__type": WeightModifierType.ADD_NORMAL, "modifier__std_dev": 0.1,
                       "remap__type": WeightRemapType.CHANNELWISE_SYMMETRIC},
    "multiplicative": {"modifier__type": WeightModifierType.MULT_NORMAL, "modifier__std_dev": 0.2},
    "levels": {"modifier__type": WeightModifierType.DISCRETIZE, "modifier__res": 1 / 14,
               "modifier__rel_to_actual_wmax": False},
}  # fmt: skip
#: Configurations without a counterpart in LionHeart, and the field that the error names.
UNSAID_BY_US: dict[str, dict[str, Any]] = {
    "mapping.weight_scaling_omega: 0.0": {"mapping__weight_scaling_omega": 0.0},
    "mapping.weight_scaling_omega: 0.6": {"mapping__weight_scaling_omega": 0.6},
    "mapping.weight_scaling_columnwise: False": {"mapping__weight_scaling_columnwise": False},
    "mapping.learn_out_scaling: True": {"mapping__learn_out_scaling": True},
    "mapping.digital_bias: False": {"mapping__digital_bias": False},
    "forward.w_noise: 0.01": {"forward__w_noise": 0.01, "forward__w_noise_type": WeightNoiseType.PCM_READ},
    "forward.ir_drop: 1.0": {"forward__ir_drop": 1.0},
    "forward.inp_res: 0.01": {"forward__inp_res": 0.01},
    "forward.out_sto_round: True": {"forward__out_sto_round": True},
    "forward.nm_thres: 2.0": {"forward__nm_thres": 2.0},
    "forward.noise_management: 'AVERAGE_ABS_MAX'": {"forward__noise_management": NoiseManagementType.AVERAGE_ABS_MAX},
    "forward.noise_management: 'ABS_MAX'": {"pre_post__input_range__enable": True},
    "forward.bound_management: 'SHIFT'": {"forward__bound_management": BoundManagementType.SHIFT},
    "forward.max_bm_factor: 8": {"forward__max_bm_factor": 8},
    "backward.is_perfect: False": {"backward__is_perfect": False},
    "modifier.type: 'DISCRETIZE_ADD_NORMAL'": {"modifier__type": WeightModifierType.DISCRETIZE_ADD_NORMAL,
                                               "modifier__std_dev": 0.1},
    "modifier.type: 'DOREFA'": {"modifier__type": WeightModifierType.DOREFA},
    "modifier.rel_to_actual_wmax: True": {"modifier__type": WeightModifierType.ADD_NORMAL, "modifier__std_dev": 0.1},
    "remap.type: 'LAYERWISE_SYMMETRIC'": {"remap__type": WeightRemapType.LAYERWISE_SYMMETRIC},
    "noise_model.prog_noise_scale: 1.0": {"noise_model": StateIndependentNoiseModel()},
}  # fmt: skip


def chip_of(config: TorchInferenceRPUConfig, digital: nn.Linear) -> Tensor:
    """Return what AIHWKIT makes of a configuration: weights of a chip, one training and one inference pass."""
    torch.manual_seed(5)
    layer = AnalogLinear.from_digital(digital, config)
    for tile in layer.analog_tiles():
        if tile.input_range is not None:
            tile.set_input_range(1.0)
    x = torch.linspace(-2, 2, 8 * digital.in_features).view(8, -1)
    trained = layer(x)
    layer.eval()
    layer.program_analog_weights()
    layer.drift_analog_weights(1000.0)
    return torch.cat([trained, layer(x)]).detach()


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_come_back(name: str):
    """The configuration may look different; AIHWKIT computes the same with it, noise and all."""
    config, digital = configure(**CONFIGS[name]), nn.Linear(30, 8)
    tile = from_rpu_config(config)
    back = to_rpu_config(tile)
    assert from_rpu_config(back) == tile
    assert torch.equal(chip_of(back, digital), chip_of(config, digital))
    assert not torch.equal(
        chip_of(to_rpu_config(tile.replace(device=DeviceSpec.pcm(t_0=21.0))), digital), chip_of(config, digital)
    )


@pytest.mark.parametrize("field", UNSAID_BY_US)
def test_what_we_cannot_say_is_one_error(field: str):
    config = configure(**UNSAID_BY_US[field])
    with pytest.raises(ConfigError, match=re.escape(f"TorchInferenceRPUConfig.{field}")):
        from_rpu_config(config)
    with pytest.warns(ConversionWarning, match=re.escape(field)) as warned:
        from_rpu_config(config, strict=False)
    assert len(warned) == 1


def test_configurations_of_other_kinds():
    with pytest.raises(ConfigError, match="got SingleRPUConfig"):
        from_rpu_config(SingleRPUConfig())
    with pytest.raises(ConfigError, match="TorchInferenceRPUConfigIRDropT.__class__: no counterpart in LionHeart"):
        from_rpu_config(TorchInferenceRPUConfigIRDropT())


# -------------------------------------------------------------------------------------------------------------- models

QUIET = TileSpec(
    rows=13,
    cols=3,
    device=DeviceSpec.ideal(),
    output_noise=0.0,
    drift_compensation="none",
    hwa=HWASpec(weight_noise=0.0, weight_clip=None),
)
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(40, 24), (16, 40)),
    "Linear, 3 axes, no bias": (lambda: nn.Linear(20, 6, bias=False), (2, 5, 20)),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 5, stride=2, padding=1), (3, 4, 20)),
    "Conv2d": (lambda: nn.Conv2d(5, 7, 3, padding=1), (2, 5, 8, 7)),
    "Conv2d dilated": (lambda: nn.Conv2d(5, 7, 3, dilation=2, stride=2), (2, 5, 9, 9)),
    "Conv2d grouped": (lambda: nn.Conv2d(6, 8, 3, groups=2), (2, 6, 5, 6)),
    "Conv2d depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, bias=False), (2, 4, 5, 6)),
    "Conv2d circular": (lambda: nn.Conv2d(2, 4, 3, padding=(1, 2), padding_mode="circular"), (2, 2, 5, 6)),
    "Conv2d same": (lambda: nn.Conv2d(2, 4, 3, padding="same"), (2, 2, 5, 6)),
    "Conv2d unbatched": (lambda: nn.Conv2d(2, 4, 3), (2, 6, 5)),
    "Conv3d": (lambda: nn.Conv3d(2, 5, 3, padding=1), (2, 2, 4, 5, 6)),
}
RANGES: dict[str, TileSpec] = {
    "static": QUIET,
    "dynamic": QUIET.replace(input_range="dynamic"),
    "learned": QUIET.replace(input_range="learned"),
    "whole": QUIET.replace(rows=256, cols=256),
    "iterative": QUIET.replace(bound_management="iterative", output_bound=60.0),
    "fixed scales": QUIET.replace(hwa=QUIET.hwa.replace(remap=False)),
    "ideal": TileSpec.ideal(13, 3),
}


def analog_of(digital: nn.Module, tile: TileSpec, input_range: float | None = 0.9) -> nn.Sequential:
    model = nn.Sequential(copy.deepcopy(digital)).eval()
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), tile)
    if input_range is not None:
        model[0].analog_input_range.data.fill_(input_range)
    return model


@COMPILED
@pytest.mark.parametrize("ranges", RANGES)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_there_and_back(name: str, ranges: str, compiled: bool):
    """Equal outputs on both sides; weights come back but for one rounding, biases and ranges to the bit."""
    build, shape = LAYERS[name]
    ours, x = analog_of(build(), RANGES[ranges]), torch.rand(shape) - 0.3
    if ranges == "fixed scales":
        with torch.no_grad():
            ours[0].weight.mul_(
                torch.linspace(0.5, 1.0, len(ours[0].weight)).view(-1, *[1] * (ours[0].weight.ndim - 1))
            )
    before = ours[0]
    expected = ours(x)
    theirs = to_aihwkit_(copy.deepcopy(ours), compiled=compiled)
    assert not analog_layers(theirs)
    assert not theirs[0].training
    assert worst(theirs(x), expected) < 1e-5
    assert worst(theirs(x * 1.1), expected) > 1e-3
    assert isinstance(theirs[0], ConvOverPatches) == (
        name not in ("Linear", "Linear, 3 axes, no bias", "Conv2d", "Conv2d dilated", "Conv2d unbatched")
    )
    back = from_aihwkit_(theirs)
    assert isinstance(back[0], AnalogLayer)
    assert worst(back(x), expected) < 1e-5
    assert back[0].tile == before.tile
    assert back[0].partition == before.partition
    assert (back[0].weight - before.weight).abs().max() <= FLOAT32_ROUNDING * before.weight.abs().max()
    assert (back[0].bias is None) == (before.bias is None)
    assert before.bias is None or torch.equal(back[0].bias, before.bias)
    if ranges not in ("dynamic", "ideal"):
        assert torch.equal(back[0].analog_input_range, before.analog_input_range)
    if ranges == "fixed scales":
        torch.testing.assert_close(back[0].analog_weight_bound, before.analog_weight_bound)
    digital = convert_to_digital_(back)[0]
    assert type(digital) is type(build())
    torch.testing.assert_close(digital(x), before.digital(x))


def test_dynamic_ranges_are_theirs():
    """They scale each vector; a static range would be seen."""
    x = torch.rand(16, 40) * torch.logspace(-1, 1, 16).unsqueeze(1)
    digital = nn.Linear(40, 24)
    ours = analog_of(digital, QUIET.replace(input_range="dynamic"))
    theirs = to_aihwkit_(copy.deepcopy(ours))
    assert worst(theirs(x), ours(x)) < 1e-5
    assert worst(to_aihwkit_(analog_of(digital, QUIET))(x), ours(x)) > 1e-2


@COMPILED
def test_their_models_come_to_us(compiled: bool):
    """A network that AIHWKIT converted itself: outputs to 1e-5, weights to the bit."""
    digital = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)).eval()
    # without output codes: they would be few, and as inputs of the second layer their ties may round to either side
    config = configure(forward__out_noise=0.0, forward__out_res=-1.0, forward__bound_management=BoundManagementType.NONE,
                       mapping__max_input_size=40, mapping__max_output_size=4)  # fmt: skip
    if compiled:
        plain, config = config, InferenceRPUConfig()
        config.forward, config.mapping = plain.forward, plain.mapping
    theirs = convert_to_analog(copy.deepcopy(digital), config).eval()
    x = torch.rand(4, 3, 4, 4)
    expected = theirs(x)
    weights = {n: theirs.get_submodule(n).get_weights() for n in ("0", "3")}
    ours = from_aihwkit_(theirs)
    assert set(analog_layers(ours)) == {"0", "3"}
    assert worst(ours(x), expected) < 1e-5
    assert worst(ours(x.flip(0)), expected) > 1e-2
    for name, (weight, bias) in weights.items():
        layer = ours.get_submodule(name)
        assert torch.equal(layer.matrix(), weight.reshape(layer.matrix().shape))
        assert torch.equal(layer.bias, bias)
    assert ours.get_submodule("3").tile.rows == 40


def test_their_chips_of_our_models():
    """Programmed and drifted as AIHWKIT does it: the accuracy loss of its own chip, and the way back undoes it."""
    net = nn.Sequential(nn.Conv1d(4, 6, 3), nn.Flatten(), nn.Linear(48, 3, bias=False)).eval()
    convert_to_analog_(net, LayerMapping(dict.fromkeys("02", Placement.ANALOG)), TileSpec(rows=30, output_noise=0.0))
    x = torch.rand(20, 4, 10)
    calibrate_input_ranges_(net, lambda model: model(x))
    expected, weight = net(x), net[2].weight.detach().clone()
    theirs = AnalogWrapper(to_aihwkit_(net))
    theirs.program_analog_weights()
    theirs.drift_analog_weights(86_400.0)
    assert 1e-3 < worst(theirs(x), expected) < 0.5
    for layer in theirs.analog_layers():  # their way to forget a chip: set the weights that it was programmed from
        for tile in layer.analog_tiles():
            tile.tile.set_weights(tile.reference_combined_weights)
    assert worst(from_aihwkit_(theirs)[2].weight, weight) <= FLOAT32_ROUNDING


def test_ranges_that_only_a_layer_has():
    """A constant scale is a static range of the layer."""
    config = configure(forward__noise_management=NoiseManagementType.CONSTANT, forward__nm_thres=0.7,
                       forward__out_noise=0.0, forward__bound_management=BoundManagementType.NONE)  # fmt: skip
    theirs = nn.Sequential(AnalogLinear(6, 4, rpu_config=config)).eval()
    x = torch.rand(9, 6)
    expected = theirs(x)
    ours = from_aihwkit_(theirs)
    assert float(ours[0].analog_input_range) == pytest.approx(0.7)
    assert worst(ours(x), expected) < 1e-5


def test_each_layer_takes_its_own_settings():
    """A mapping run changes settings of single layers: each layer of AIHWKIT has those of its layer, or is refused."""
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    tile = TileSpec.pcm(output_bound=3.0, drift_compensation="global")
    convert_to_analog_(model, LayerMapping(dict.fromkeys(("0", "2"), Placement.ANALOG)), tile)
    calibrate_input_ranges_(model, lambda net: net(torch.randn(32, 6, generator=torch.Generator().manual_seed(1))))
    layers = analog_layers(model)
    set_tiles_(model, {"2": tile.replace(drift_compensation="none")})
    layers["2"].tile = layers["2"].tile.replace(output_bound=0.5)
    ranges = {fqn: float(layer.analog_input_range) for fqn, layer in layers.items()}
    refused = copy.deepcopy(model)
    theirs = to_aihwkit_(model)
    for fqn, bound, compensation in (("0", 3.0, GlobalDriftCompensation), ("2", 0.5, type(None))):
        tiles = list(theirs.get_submodule(fqn).analog_tiles())
        assert [tile.rpu_config.forward.out_bound for tile in tiles] == [bound]
        assert isinstance(tiles[0].rpu_config.drift_compensation, compensation)
        assert float(tiles[0].input_range) == pytest.approx(ranges[fqn], rel=1e-7)
    set_tiles_(refused, {"0": tile.replace(column_calibration="affine")})
    with pytest.raises(ConfigError, match=r"^0: TileSpec.column_calibration: 'affine'"):
        to_aihwkit_(refused)
    assert isinstance(refused.get_submodule("0"), AnalogLayer)


def test_one_range_a_layer():
    config = configure(**CONFIGS["range"], mapping__max_input_size=4)
    theirs = nn.Sequential(AnalogLinear(8, 3, rpu_config=config))
    next(theirs[0].analog_tiles()).set_input_range(5.0)
    with pytest.raises(
        ConfigError, match="0: input_range: 2, 5, expected one for all tiles: no counterpart in LionHeart"
    ):
        from_aihwkit_(theirs)
    assert isinstance(theirs[0], AnalogLinear)
    with pytest.warns(ConversionWarning, match="expected one for all tiles"):
        ours = from_aihwkit_(theirs, strict=False)
    assert float(ours[0].analog_input_range) == 5.0


def test_shared_layers_and_modes():
    layer = nn.Linear(5, 5)
    model = nn.Sequential(layer, nn.ReLU(), layer).eval()
    model[0].train()
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), QUIET)
    model[0].analog_input_range.fill_(1.0)
    to_aihwkit_(model)
    assert model[0] is model[2]
    assert isinstance(model[0], AnalogLinear)
    assert model[0].training
    from_aihwkit_(model)
    assert model[0] is model[2]
    assert list(analog_layers(model)) == ["0"]
    assert model[0].training


def test_models_that_cannot_go():
    with pytest.raises(ConfigError, match="0: no input range is set"):
        to_aihwkit_(analog_of(nn.Linear(4, 4), QUIET, input_range=None))
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    mapping = LayerMapping(dict.fromkeys("01", Placement.ANALOG))
    convert_to_analog_(net, mapping, TileSpec(reprogram_after=5.0))
    for layer in analog_layers(net).values():
        layer.analog_input_range.fill_(1.0)
    with pytest.raises(ConfigError) as caught:
        to_aihwkit_(net)
    assert caught.value.message == "0, 1: TileSpec.reprogram_after: 5.0: no counterpart in AIHWKIT's torch tiles"
    assert set(analog_layers(net)) == {"0", "1"}


def test_models_that_cannot_come():
    with pytest.raises(ConfigError, match="0: TorchInferenceRPUConfig.mapping.weight_scaling_omega: 0.0"):
        from_aihwkit_(nn.Sequential(AnalogConv2d(2, 3, 3, rpu_config=TorchInferenceRPUConfig())))
    with pytest.raises(ConfigError, match="got a single AIHWKIT layer"):
        from_aihwkit_(AnalogLinear(2, 3, rpu_config=configure()))
    ours = from_aihwkit_(nn.Sequential(AnalogConv1d(2, 3, 3, rpu_config=configure())))
    assert type(ours[0].digital) is nn.Conv1d

    class Unknown(AnalogLinear):
        """A kind of its own is still a linear layer."""

    assert isinstance(from_aihwkit_(nn.Sequential(Unknown(2, 3, rpu_config=configure())))[0], AnalogLayer)

    class Other(AnalogLayerBase, nn.Module):
        """Neither linear nor convolution."""

    with pytest.raises(UnsupportedLayerError, match="expected AIHWKIT's linear or convolution layer"):
        from_aihwkit_(nn.Sequential(Other()))


# ------------------------------------------------------------------------------------------------- the backend's layers


def on_their_tiles(digital: nn.Module, tile: TileSpec, input_range: float = 0.9) -> nn.Sequential:
    model = nn.Sequential(copy.deepcopy(digital)).eval()
    find_backend("aihwkit").convert_(model, LayerMapping({"0": Placement.ANALOG}), tile)
    model[0].analog_input_range.data.fill_(input_range)
    return model


@pytest.mark.parametrize("ranges", RANGES)
@pytest.mark.parametrize("name", LAYERS)
def test_products_and_gradients_of_the_backend(name: str, ranges: str):
    """With noise off both compute the same; where scales follow inputs or ranges learn, AIHWKIT's gradients are its own."""
    build, shape = LAYERS[name]
    digital, x = build(), (3 if ranges == "dynamic" else 1) * (torch.rand(shape) - 0.3)
    ours, theirs = analog_of(digital, RANGES[ranges]), on_their_tiles(digital, RANGES[ranges])
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert len(list(theirs.parameters())) == len(list(ours.parameters()))
    assert worst(theirs(x), ours(x)) < 1e-5
    if ranges in ("dynamic", "learned"):
        return
    upstream, found = torch.randn(ours(x).shape), []
    for model in (ours.train(), theirs.train()):
        inputs = x.clone().requires_grad_()
        (model(inputs) * upstream).sum().backward()
        found.append([inputs.grad, *(parameter.grad for parameter in model.parameters())])
    for mine, other in zip(*found, strict=True):
        assert worst(other, mine) < 1e-4
        assert worst(other * 1.001, mine) > 1e-4


def test_learned_ranges_learn():
    theirs = on_their_tiles(nn.Linear(12, 5), QUIET.replace(input_range="learned"), 0.2).train()
    theirs(torch.rand(30, 12)).square().sum().backward()
    assert float(theirs[0].analog_input_range.grad) < 0  # most inputs clip: a wider range would serve


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_training_noise_has_their_size(kind: str):
    """A weight at half of its column's scale; sigma of the outputs over many passes, by the formula and by our own layers."""
    digital = nn.Linear(4, 2, bias=False)
    digital.weight.data = torch.tensor([[0.2, -0.4, 0.2, 0.2], [0.05, 0.05, 0.1, 0.05]])
    tile = TileSpec.ideal().replace(hwa=HWASpec(weight_noise=0.1, weight_noise_kind=kind, weight_clip=None))
    found = []
    for model in (analog_of(digital, tile), on_their_tiles(digital, tile)):
        seed_noise_(model.train(), seeded())
        found.append(torch.stack([model(torch.eye(4)).detach() for _ in range(1500)]).std(dim=0).T)
    scale = torch.tensor([[0.4], [0.1]])
    formula = 0.1 * (scale.expand(2, 4) if kind == "additive" else digital.weight.detach().abs())
    for sigma in found:
        torch.testing.assert_close(sigma, formula, rtol=0.08, atol=0)


@pytest.mark.parametrize("kind", ["programming", "device"])
def test_training_on_fresh_chips(kind: str):
    """AIHWKIT has no such modifier; its noise model programs a chip for every pass. Mean and spread as on our chips."""
    digital = nn.Linear(32, 24, bias=False)
    tile = TileSpec(rows=16, cols=16, output_noise=0.0, adc_bits=None, output_bound=None, dac_bits=None,
                    hwa=HWASpec(weight_noise_kind=kind))  # fmt: skip
    weight, found = digital.weight.detach(), []
    for model in (analog_of(digital, tile, 1.0), on_their_tiles(digital, tile, 1.0)):
        seed_noise_(model.train(), seeded())
        passes = torch.stack([model(torch.eye(32)).detach().T for _ in range(150)])
        gain = (passes * weight).sum(dim=(1, 2)) / weight.square().sum()
        found.append((gain.mean(), gain.std() / math.sqrt(len(gain)), (passes - weight).std()))
    (mine, my_error, my_spread), (theirs, their_error, their_spread) = found
    error = math.hypot(my_error, their_error)
    assert error < 4e-3
    assert abs(mine - theirs) < 4 * error
    assert abs(1.02 * mine - theirs) > 4 * error
    assert my_spread == pytest.approx(float(their_spread), rel=0.03)
    model(torch.eye(32)).sum().backward()
    torch.testing.assert_close(model[0].weight.grad, torch.ones(24, 32))


def test_clipping_is_theirs():
    """AIHWKIT clips to shares of column maxima. Limits by the spread are ours, fixed at conversion or when weights load."""
    digital = nn.Linear(6, 3, bias=False)
    tile = QUIET.replace(rows=3, hwa=HWASpec(weight_noise=0.0, weight_clip=0.5))
    model = on_their_tiles(digital, tile).train()
    model(torch.rand(2, 6))
    weight = model[0].weight
    expected = []
    for part in (weight[:, :3], weight[:, 3:]):
        bound = 0.5 * part.detach().abs().amax(dim=1, keepdim=True)  # of each tile, before the step
        expected.append((2 * part.detach()).clamp(-bound, bound))
    with torch.no_grad():
        weight.mul_(2)
    clip_weights_(model)
    torch.testing.assert_close(weight.detach(), torch.cat(expected, dim=1))
    sigma = QUIET.replace(rows=6, hwa=HWASpec(weight_noise=0.0, weight_clip=None, weight_clip_sigma=0.8))
    model = on_their_tiles(digital, sigma).train()
    model(torch.rand(2, 6))
    exact = digital.weight.detach()
    limit = 0.8 * exact.std()
    for _ in range(2):  # clipped weights do not lower the limit
        clip_weights_(model)
        torch.testing.assert_close(model[0].weight.detach(), exact.clamp(-limit, limit))
    model.load_state_dict({"0.weight": 2 * exact}, strict=False)
    clip_weights_(model)
    torch.testing.assert_close(model[0].weight.detach(), (2 * exact).clamp(-2 * limit, 2 * limit))


def test_chips_of_the_backend():
    """A seed decides a chip; it ages; the exact weights come back; the global generator is left alone."""
    model = on_their_tiles(nn.Conv2d(6, 4, 3, groups=2), TileSpec(rows=20, cols=2))
    x, before = torch.rand(3, 6, 5, 5), torch.get_rng_state()

    def chip(seed: int, t_inference: float) -> Tensor:
        generator = seeded(seed)
        program_chip_(model, generator)
        drift_chip_(model, t_inference, generator)
        seed_noise_(model, seeded(9))
        return model(x)

    use_noise_(model, NoiseSource(seeded(9)))
    exact = model(x)
    first = chip(1, 1.0)
    assert torch.equal(chip(1, 1.0), first)
    assert not torch.equal(chip(2, 1.0), first)
    assert not torch.equal(chip(1, 1e6), first)
    read = model[0].take_read()
    aged = chip(1, 1e6)
    chip(2, 1.0)
    model[0].use_read_(read)
    seed_noise_(model, seeded(9))
    assert torch.equal(model(x), aged)
    clear_chip_(model)
    seed_noise_(model, seeded(9))
    assert torch.equal(model(x), exact)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("bound_management", ["none", "iterative"])
@pytest.mark.parametrize("compensation", ["none", "global", "per_column"])
def test_chips_of_both_backends_agree(compensation: str, bound_management: str):
    """What is left of the weights a day after programming, over many chips; reference reads are of full-scale inputs."""
    digital = nn.Linear(96, 20, bias=False)
    tile, gains = TileSpec(rows=48, drift_compensation=compensation, bound_management=bound_management), []
    for model in (analog_of(digital, tile, 20.0), on_their_tiles(digital, tile, 20.0)):
        generator, weight, reads = seeded(), digital.weight.detach(), []
        for _ in range(40):
            program_chip_(model, generator)
            model(torch.rand(1, 96))
            drift_chip_(model, 86_400.0, generator)
            rows = [weights * scale.unsqueeze(1) for weights, scale in model[0].take_read().weights]
            reads.append(float((torch.cat(rows, dim=1) * weight).sum() / weight.square().sum()))
        gains.append(torch.tensor(reads))
    error = math.hypot(*(float(gain.std()) / math.sqrt(len(gain)) for gain in gains))
    assert error < 3e-3
    assert abs(gains[0].mean() - gains[1].mean()) < 4 * error
    assert abs(1.02 * gains[0].mean() - gains[1].mean()) > 4 * error


def test_digital_layers_come_back_from_the_backend():
    digital = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2))
    model, backend = copy.deepcopy(digital), find_backend("aihwkit")
    weight = model[0].weight
    backend.convert_(model, LayerMapping({"0": Placement.ANALOG, "2": Placement.ANALOG}), QUIET)
    kept = model[0]
    backend.convert_(model, LayerMapping({"0": Placement.ANALOG}), QUIET)
    assert model[0] is kept
    assert model[0].weight is weight
    assert type(model[2]) is nn.Linear
    twin = copy.deepcopy(model)
    assert twin[0].weight is not weight
    with pytest.warns(CalibrationWarning, match="no input range"):
        twin(torch.rand(2, 5))
    calibrate_input_ranges_(model, lambda net: net(torch.rand(8, 5)))
    assert float(model[0].analog_input_range) > 0
    convert_to_digital_(model)
    assert type(model[0]) is nn.Linear
    assert model[0].weight is weight


def test_compiled_models_keep_the_backend():
    model = on_their_tiles(nn.Linear(5, 3), QUIET)
    x = torch.rand(4, 5)
    expected = model(x)
    assert torch.equal(compile_model_(model, backend="eager")(x), expected)


def test_half_precision_training():
    model = on_their_tiles(nn.Linear(5, 3), TileSpec()).train()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(torch.rand(4, 5))
    assert out.dtype is torch.bfloat16
    out.float().sum().backward()
    assert model[0].weight.grad.dtype is torch.float32


def test_presets_run_on_the_backend():
    for name in PRESETS:
        find_backend("aihwkit").check_tile(MapSettings.from_json(PRESETS[name]).tile)


def test_columns_are_calibrated_behind_their_tiles():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model, x = nn.Sequential(nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 6)).eval(), torch.randn(512, 24)
    tile = TileSpec.pcm(column_calibration="affine", output_noise=0.0)
    mapping = LayerMapping(dict.fromkeys("02", Placement.ANALOG))
    find_backend("aihwkit").convert_(model, mapping, tile)
    calibrate_input_ranges_(model, lambda net: net(x))
    seed_noise_(model, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        exact = model(x)
        calibrated = ColumnCalibration(model, lambda net: net(x))
        program_chip_(model, generator)
        drift_chip_(model, 86_400.0, generator)
        before = model(x)
        calibrated.calibrate_()
        after = model(x)
    scale = exact.std()
    assert not torch.allclose(before.mean(0), exact.mean(0), atol=1e-2 * scale)
    assert torch.allclose(after.mean(0), exact.mean(0), atol=1e-3 * scale)
    assert torch.allclose(after.std(0), exact.std(0), rtol=1e-2)


# ------------------------------------------------------------------------------------------------------ whole mappings


class KilledError(BaseException):
    """Stands for a kill."""


def timeless(data: Any) -> Any:
    if isinstance(data, dict):
        return {k: timeless(v) for k, v in data.items() if k not in ("elapsed_s", "final_figures_s")}
    return [timeless(item) for item in data] if isinstance(data, list) else data


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory, small_noise_pool: None) -> Any:
    return map_layers(
        build_task(), make_settings(), backend="aihwkit", run_dir=tmp_path_factory.mktemp("aihwkit") / "run"
    )


def test_a_mapping_on_their_tiles(mapped: Any):
    results = mapped.results
    assert mapped.run.description().settings["backend"] == "aihwkit"
    assert {each.fqn: each.accepted for each in results.decisions} == {"3": True, "7": False, "0": True}
    assert all("Their" in type(layer).__name__ for layer in analog_layers(mapped.model).values())
    own = map_layers(build_task(), make_settings(), run_dir=mapped.run.path.with_name("own"))
    assert own.run.description().settings["backend"] == "lionheart"
    assert own.results.decisions[0].train.losses != results.decisions[0].train.losses  # other noise
    assert list(own.model.state_dict()) == list(mapped.model.state_dict())


@pytest.mark.parametrize("kill_at", [1, 3, 4])
def test_a_killed_run_goes_on(kill_at: int, mapped: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed after an epoch of the first, the second or the third trial; the rest is the same to the bit."""
    save, n_calls = lionheart.training.loop.save_training_state, 0

    def save_and_die(*args: Any, **kwargs: Any) -> None:
        nonlocal n_calls
        save(*args, **kwargs)
        n_calls += 1
        if n_calls == kill_at:
            raise KilledError

    monkeypatch.setattr(lionheart.training.loop, "save_training_state", save_and_die)
    with pytest.raises(KilledError):
        map_layers(build_task(), make_settings(), backend="aihwkit", run_dir=tmp_path / "run")
    torch.randn(3)  # another global state than that of the unbroken run
    resumed = resume_run(build_task(), tmp_path / "run")
    assert timeless(resumed.results.to_json()) == timeless(mapped.results.to_json())
    assert resumed.run.file("weights.safetensors").read_bytes() == mapped.run.file("weights.safetensors").read_bytes()


def test_evaluation_on_either_side(mapped: Any):
    times = [each.t_inference for each in mapped.results.test_over_time]
    same = evaluate_run(build_task(), mapped.run.path, times=times, n_chips=2)
    assert same.accuracy_over_time == mapped.results.test_over_time
    assert same.backend == "aihwkit"
    other = evaluate_run(build_task(), mapped.run.path, times=times, n_chips=2, backend="lionheart")
    assert other.accuracy_over_time != same.accuracy_over_time
    assert other.backend == "lionheart"


def test_accuracy_over_chips_agrees(mapped: Any):
    """The same weights, fresh chips of both backends; a day of drift and an output noise that costs accuracy."""
    task, tile, estimates = build_task(), make_settings().tile, {}
    for name, changes in (("lionheart", {}), ("aihwkit", {}), ("noisier", {"output_noise": 1.5})):
        model = copy.deepcopy(task.model)
        find_backend("lionheart" if name == "noisier" else name).convert_(
            model, mapped.mapping, tile.replace(**changes)
        )
        model.load_state_dict(mapped.model.state_dict())
        estimates[name] = evaluate_over_chips(
            model, task.validation, task.metric, times=[1.0, 86_400.0], n_chips=50, streams=RandomStreams(3)
        )
    for mine, theirs, noisier in zip(*(estimates[name] for name in ("lionheart", "aihwkit", "noisier")), strict=True):
        assert mine.mean < 0.98  # there is something to agree about
        error = math.hypot(mine.std, theirs.std) / math.sqrt(50)
        assert error < 0.008
        assert abs(mine.mean - theirs.mean) < 3.5 * error
        assert abs(noisier.mean - theirs.mean) > 3.5 * error


def test_tiles_that_the_backend_cannot_compute(tmp_path: Path):
    settings = make_settings(tile={"reprogram_after": 100.0, "hwa": {"drop_connect": 0.2}})
    with pytest.raises(ConfigError) as caught:
        map_layers(build_task(), settings, backend="aihwkit", run_dir=tmp_path / "run")
    assert "reprogram_after: 100.0" in caught.value.message
    assert "hwa.drop_connect: 0.2" in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_backends_by_name(tmp_path: Path):
    with pytest.raises(ConfigError, match="backend: got 'aihwkti'") as caught:
        map_layers(build_task(), make_settings(backend="aihwkti"), run_dir=tmp_path / "run")
    assert caught.value.hint == "did you mean 'aihwkit'? backends: aihwkit, lionheart"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="already registered"):
        register_backend("aihwkit", lambda: find_backend("lionheart"))


@pytest.fixture
def _without_aihwkit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n == "aihwkit" or n.startswith(("aihwkit.", "lionheart.interop.aihwkit"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aihwkit", None)  # what import of it then raises is what a missing package raises
    monkeypatch.delattr(lionheart.interop, "aihwkit")


@pytest.mark.usefixtures("_without_aihwkit")
def test_without_aihwkit(tmp_path: Path):
    result = CliRunner().invoke(
        app,
        ["map", "quadrants:build_task", "--set", "backend=aihwkit", "--out", str(tmp_path / "run")],
        env={"COLUMNS": "80"},
    )
    assert result.exit_code == 2
    assert "error: AIHWKIT cannot be imported" in result.stderr
    assert "pip install --no-deps aihwkit==1.1.0" in result.stderr
    assert not (tmp_path / "run").exists()


def test_the_command_line(mapped: Any, tmp_path: Path):
    config = tmp_path / "tiny.toml"
    config.write_text(
        "[search]\nmax_drop_pp = 20.0\nranking = 'weights'\nn_chips = 2\nn_chips_final = 2\nreport_times = [1.0, '1h']\n"
        "[tile]\nrows = 32\ncols = 32\noutput_noise = 0.9\n[tile.hwa]\nweight_noise_kind = 'multiplicative'\n"
        "[train]\nmax_epochs = 1\nsteps_per_epoch = 2\n"
    )
    run = tmp_path / "run"
    arguments = ["map", "quadrants:build_task", "--set", "backend=aihwkit", "--config", config, "--out", run, "--json"]
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.stderr
    assert json.loads((run / "run.json").read_text())["settings"]["backend"] == "aihwkit"
    for backend in ("lionheart", "aihwkit"):
        result = CliRunner().invoke(
            app, ["evaluate", str(run), "--trust-task", "--times", "1s", "--chips", "2", "--backend", backend, "--json"]
        )
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["backend"] == backend
    result = CliRunner().invoke(app, ["map", "--resume", str(run), "--set", "backend=aihwkit"])
    assert result.exit_code == 2
    assert "a resumed run keeps its settings" in result.stderr


# ------------------------------------------------------------------------------------------ parts of attention and others


@pytest.mark.parametrize("name", ["packed attention", "recurrent", "transposed", "subclass"])
def test_parts_of_modules_on_the_backend(name: str):
    torch.manual_seed(0)
    model, inputs = ZOO[name].build().eval(), ZOO[name].inputs
    graph = trace_graph(model, inputs)
    with torch.no_grad():
        expected = call_model(model, inputs)
        find_backend("aihwkit").convert_(model, LayerMapping.from_analog(graph, graph.fqns), TileSpec.ideal(7, 5))
        assert worst(call_model(model, inputs), expected) < 1e-4
    model.train()
    call_model(model, inputs).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    clip_weights_(model)
    program_chip_(model.eval(), seeded())
    drift_chip_(model, 3600.0, seeded())
    call_model(model, inputs)
    convert_to_digital_(model)
    assert not analog_layers(model)
    assert worst(call_model(model, inputs), expected) < 1e-6


def test_a_layer_stored_inputs_first_becomes_theirs_and_parts_do_not():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = nn.Sequential(transformers.pytorch_utils.Conv1D(6, 4)).eval()
    x = torch.randn(3, 4)
    expected = model(x)
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), TileSpec.ideal(3, 3))
    assert worst(to_aihwkit_(model)(x), expected) < 1e-5
    attention = ZOO["packed attention"].build()
    convert_to_analog_(attention, LayerMapping({"own.out_proj": Placement.ANALOG}), TileSpec.ideal())
    with pytest.raises(UnsupportedLayerError, match=r"own\.out_proj: AIHWKIT has no layer"):
        to_aihwkit_(attention)


def test_reads_that_aihwkit_does_not_have():
    """Layers with outliers are read with sign vectors here and row by row there: the conversion says so in both directions."""
    linear = nn.Linear(64, 8, bias=False)
    with torch.no_grad():
        linear.weight[:, 0] = 40 * linear.weight.std()
    for inputs, reads in (("auto", 1), ("rows", 0)):
        model = nn.Sequential(copy.deepcopy(linear), nn.Linear(8, 4))
        tile = TileSpec(input_range="dynamic", reference_inputs=inputs)
        convert_to_analog_(model, LayerMapping(dict.fromkeys(["0", "1"], Placement.ANALOG)), tile)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            to_aihwkit_(model)
        own = [str(each.message) for each in said if issubclass(each.category, ConversionWarning)]
        assert [text.startswith("0: LionHeart compensates drift") for text in own] == [True] * reads
    with pytest.warns(ConversionWarning, match=r"^0: LionHeart compensates drift from reads with sign vectors"):
        from_aihwkit_(model)
    with pytest.raises(ConfigError, match=r"TileSpec\.reference_inputs: 'signs'"):
        to_rpu_config(TileSpec(reference_inputs="signs"))
    assert from_rpu_config(to_rpu_config(TileSpec(reference_inputs="rows"))) == TileSpec()
    with pytest.raises(ConfigError, match="GlobalDriftCompensationWithExactReference"):
        from_rpu_config(configure(drift_compensation=GlobalDriftCompensationWithExactReference()))
