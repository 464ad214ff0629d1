"""Exported programs clip inputs and saturate sums where the tiles of the run do."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.analog import analog_layers, calibrate_input_ranges_, convert_to_analog_, convert_to_digital_, set_tiles_
from lionheart.devices import DeviceSpec, HWASpec, TileSpec
from lionheart.errors import ConfigError
from lionheart.interop.alpine import quantise_program, run_program, trace_program
from lionheart.interop.alpine.converters import describe_differences
from lionheart.interop.alpine.export import export_model, quantise_analog
from lionheart.interop.alpine.qemu import missing_packages
from lionheart.mapping import LayerMapping, Placement

pytestmark = pytest.mark.usefixtures("small_noise_pool")


class Pixels(nn.Module):
    """A batch norm to fold, a convolution of 72 rows on four rows of tiles, a flattened image, a value with two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8 * 9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = F.max_pool2d(F.relu(x + self.second(x)), 2)
        return self.head(torch.flatten(x, 1))


class Groups(nn.Module):
    """A grouped convolution on two rows of tiles, and a linear layer on a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(6, 8, 3, padding=1, groups=2)
        self.second = nn.Conv2d(8, 12, 1)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu6(self.second(F.relu(self.first(x)))).mean(dim=(2, 3)))


def build_perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(40, 20), nn.ReLU(), nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[str, ...]]] = {
    "pixels": (Pixels, (3, 6, 6), ("first", "second", "head")),
    "groups": (Groups, (6, 5, 5), ("first", "second", "head")),
    "perceptron": (build_perceptron, (40,), ("0", "2", "4")),
    "mixed": (build_perceptron, (40,), ("2",)),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "remapped": {},
    "fixed": {"hwa": {"remap": False}},
    "learned": {"input_range": "learned"},
    "without DAC": {"dac_bits": None},
    "without ADC": {"adc_bits": None},
    "coarse": {"adc_bits": 7, "dac_bits": 7},
}


def build(name: str, bound: float | None = 0.3, **changes: Any) -> tuple[nn.Module, Tensor]:
    """Return a network with analog layers, without noise, whose sums saturate, and samples."""
    network, shape, analog = NETWORKS[name]
    changes = {"dac_bits": 8, "adc_bits": 8, "input_range": "static", **changes}
    hwa = HWASpec(weight_noise=0.0, weight_clip=None, **changes.pop("hwa", {}))
    device = DeviceSpec.ideal()
    tile = TileSpec(rows=20, cols=7, device=device, output_bound=bound, output_noise=0.0, hwa=hwa, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model, samples = network(), torch.randn(48, *shape)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 2)
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias, 0, 0.3)
    convert_to_analog_(model.eval(), LayerMapping(dict.fromkeys(analog, Placement.ANALOG)), tile)
    calibrate_input_ranges_(model, lambda net: net(samples))
    with torch.no_grad():
        for layer in analog_layers(model).values():
            layer.analog_input_range.mul_(0.4)  # a calibrated range avoids saturation
            # a training changes weights: the scale of a fixed column stays
            layer.weight.mul_(torch.linspace(0.7, 1.2, len(layer.weight)).reshape(-1, *[1] * (layer.weight.ndim - 1)))
    return model, samples


@torch.no_grad()
def error_of(model: nn.Module, samples: Tensor) -> float:
    """Return the largest difference between the outputs of program and tiles, relative to the largest output."""
    exact = model(samples).numpy()
    program = quantise_analog(model, samples)
    found = program.compute(program.program.samples)
    assert found.shape == exact.shape
    return float(np.abs(found - exact).max() / np.abs(exact).max())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_program_saturates_where_the_tiles_do(name: str, settings: str):
    """The exported ADC scale once avoided saturation, so that a network that was trained with it lost its accuracy."""
    model, samples = build(name, **SETTINGS[settings])
    assert error_of(model, samples) < (0.25 if settings == "coarse" else 0.1)


@pytest.mark.parametrize("name", ["pixels", "perceptron"])
def test_comparison_sees_an_adc_without_saturation(name: str):
    model, samples = build(name)  # the sums of "groups" hardly saturate
    with torch.no_grad():
        exact = model(samples).numpy()
    mapping = LayerMapping(dict.fromkeys(analog_layers(model), Placement.ANALOG))
    program = trace_program(convert_to_digital_(copy.deepcopy(model)), samples)
    loose = quantise_program(program, mapping, tile_rows=20, tile_cols=7)
    assert np.abs(loose.compute(program.samples) - exact).max() / np.abs(exact).max() > 0.2


def test_sums_that_never_saturate_get_a_calibrated_scale():
    """Iterative bound management and ideal converters have no saturation, so the program avoids it too."""
    for changes in (
        {"input_range": "sample", "bound": 6.0},
        {"bound_management": "iterative"},
        {"bound": None, "adc_bits": None},
        {"input_range": "dynamic", "bound": 6.0},
    ):
        model, samples = build("perceptron", **changes)
        assert error_of(model, samples) < 0.1


def test_each_layer_has_its_own_settings():
    model, samples = build("perceptron", bound=0.3)
    layers = analog_layers(model)
    layers["2"].tile = layers["2"].tile.replace(output_bound=0.15)
    layers["4"].analog_input_range.mul_(0.5)
    assert error_of(model, samples) < 0.1


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("perceptron", {"n_reads": 4}, "^export: 0, 2, 4: n_reads: got 4, expected 1: a program reads"),
        ("groups", {"row_copies": 4}, "^export: second: row_copies: got 2, expected 1"),
        ("perceptron", {"column_copies": 9}, "^export: 4: column_copies: got 2, expected 1"),
        ("perceptron", {"digital_weights": 3}, "^export: 0, 2, 4: digital_weights: got 3, expected 0"),
    ],
    ids=str,
)
def test_read_policies_that_the_program_lacks_are_refused(name: str, changes: dict[str, int], message: str):
    model, samples = build(name)
    layers = analog_layers(model)
    set_tiles_(model, {fqn: layer.tile.replace(**changes) for fqn, layer in layers.items()})
    with pytest.raises(ConfigError, match=message):
        quantise_analog(model, samples)


def test_device_pairs_and_copies_that_do_not_fit_are_no_matter_of_the_program():
    model, samples = build("perceptron")
    layers = analog_layers(model)
    set_tiles_(model, {"0": layers["0"].tile.replace(row_copies=4, device_pairs=2)})
    assert layers["0"].tile_in_use.row_copies == 1
    assert error_of(model, samples) < 0.1


def test_settings_that_the_program_lacks_are_named():
    model, _ = build("perceptron", input_range="sample")
    (note,) = describe_differences({fqn: layer.tile for fqn, layer in analog_layers(model).items()})
    assert note == "0, 2, 4: the run scales each sample, the program uses one range from the calibration samples."
    model, _ = build("perceptron", adc_bits=6, dac_bits=None, input_range="dynamic", bound_management="iterative")
    notes = describe_differences({fqn: layer.tile for fqn, layer in analog_layers(model).items()})
    assert notes == (
        "0, 2, 4: the run has an ideal DAC, the program has one of 8 bits.",
        "0, 2, 4: the run has a 6-bit ADC, the program has one of 8 bits.",
        "0, 2, 4: the run scales each input vector, the program uses one range from the calibration samples.",
        "0, 2, 4: the run repeats saturated products, the program avoids saturation by its ADC scale.",
    )
    model, _ = build("perceptron")
    assert describe_differences({fqn: layer.tile for fqn, layer in analog_layers(model).items()}) == ()


def test_layers_without_a_range_are_refused(tmp_path: Path):
    model, samples = build("perceptron")
    analog_layers(model)["2"].analog_input_range.zero_()
    with pytest.raises(ConfigError, match="'2': the analog layer has no input range"):
        export_model(model, samples, tmp_path / "program")
    with pytest.raises(ConfigError, match="got a mapping for a network with analog layers"):
        export_model(model, samples, tmp_path / "program", mapping=LayerMapping({}))
    assert not (tmp_path / "program").exists()


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
@pytest.mark.parametrize("name", NETWORKS)
def test_program_on_this_machine_gives_the_reference(name: str, tmp_path: Path):
    """Inputs converted to DAC codes, inputs in the order of the tiles, and partial sums with factors, in C++."""
    model, samples = build(name)
    manifest = export_model(model, samples, tmp_path, stored=samples[:3])
    done = run_program(tmp_path, "host")
    np.testing.assert_array_equal(done.outputs, done.expected)
    assert len(np.unique(done.outputs)) > 5
    assert {each.output_bound for each in manifest.products if each.tiles} == {0.3}
    code = (tmp_path / "main.cc").read_text()
    if name == "pixels":
        for kernel in ("lh_rescale_s8", "lh_regroup_s8", "lh_accumulate_scaled_s8"):
            assert kernel in code


@pytest.mark.skipif(bool(missing_packages()), reason=f"not installed: {' '.join(missing_packages())}")
def test_program_for_aarch64_gives_the_reference(tmp_path: Path):
    model, samples = build("pixels")
    export_model(model, samples, tmp_path, stored=samples[:2])
    done = run_program(tmp_path, "aarch64")
    np.testing.assert_array_equal(done.outputs, done.expected)
