"""The family of device specs: one for each technology, found by name."""

import json
import math
import re
import subprocess
import sys
import types
from types import SimpleNamespace
from typing import Literal

import pytest
import torch
from device_examples import seeded
from paths import ROOT
from pydantic import Field
from torch import Tensor

from lionheart.analog.crossbar import program_crossbar, read_crossbar
from lionheart.cli.devices import describe_technology, list_technologies
from lionheart.constants import parse_constants
from lionheart.devices import (
    DEVICES,
    DeviceSpec,
    IdealSpec,
    PCMSpec,
    TileSpec,
    find_device_model,
    pcm,
    register_device,
)
from lionheart.errors import ConfigError


def test_registry_names_what_exists():
    with pytest.raises(ConfigError, match="did you mean 'pcm'"):
        find_device_model(SimpleNamespace(technology="pcn"))
    with pytest.raises(ConfigError, match="already registered"):
        register_device(PCMSpec)(pcm.PCMModel)
    for technology in ("pcn", 3):
        with pytest.raises(ConfigError, match="technology"):
            DeviceSpec(technology=technology)


class _FlipSpec(DeviceSpec):
    """Settings of a technology that is defined outside the package."""

    summary = "stuck at what it is not"
    technology: Literal["flip"] = Field("flip", description="name of the device physics")


class _FlipModel:
    silent_at_zero, reads_targets = False, False

    def program(self, g_target: Tensor, device: _FlipSpec, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return device.g_max - g_target, torch.zeros_like(g_target)

    def read(
        self, g_programmed: Tensor, state: Tensor, device: _FlipSpec, *, t_inference: float, generator: torch.Generator
    ) -> Tensor:
        return g_programmed.clone()


def test_a_registered_technology_is_known_everywhere():
    register_device(_FlipSpec)(_FlipModel)
    try:
        tile = TileSpec(device={"technology": "flip", "g_max": 10.0})
        assert type(tile.device) is _FlipSpec
        assert TileSpec.from_json(json.loads(json.dumps(tile.to_json()))) == tile
        chip = program_crossbar(torch.tensor([[1.0, 0.0]]), tile.device, generator=seeded())
        assert torch.equal(chip.weights, torch.tensor([[-1.0, 0.0]]))
        assert "flip" in {row.technology for row in list_technologies().technologies}
        assert describe_technology("flip").summary == _FlipSpec.summary
        with pytest.raises(ConfigError, match="did you mean 'flip'"):
            DeviceSpec(technology="flop")
    finally:
        DEVICES.remove("flip")


def test_settings_need_no_torch():
    code = (
        "import sys; import lionheart.devices as d; list(d.DEVICES.items()); d.TileSpec(); d.TileSpec.model_json_schema();"
        "from lionheart.cli.devices import describe_technology; [describe_technology(name) for name in d.DEVICES];"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_device_without_technology_is_pcm():
    assert type(DeviceSpec()) is type(DeviceSpec.pcm()) is PCMSpec
    assert DeviceSpec() == DeviceSpec.pcm() == PCMSpec() == TileSpec().device
    assert type(TileSpec(device={"technology": "ideal"}).device) is IdealSpec
    assert TileSpec(device={"drift_scale": 0.5}).device == DeviceSpec.pcm(drift_scale=0.5)
    assert "oneOf" in json.dumps(TileSpec.model_json_schema())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"g_min": 25.0}, "g_min must be less than g_max"),
        ({"stuck_off": 0.6, "stuck_on": 0.6}, "at most 1"),
        ({"stuck_off": -0.1}, "stuck_off"),
        ({"converter": {"kind": "pear"}}, "custom_pair"),
        ({"converter": {"kind": "pair", "significance": [0.0]}}, "must be greater than 0"),
        ({"converter": {"kind": "custom_pair", "g_plus": [[0, 25]], "g_minus": [[25, 0, 0]]}}, "same length"),
        ({"converter": {"kind": "custom_pair", "g_plus": [[0, 3, 25]], "g_minus": [[25, 0, 0]]}}, "increase linearly"),
        (
            {"converter": {"kind": "custom_pair", "g_plus": [[0, 26]], "g_minus": [[26, 0]]}},
            "must be at most g_max=25.0",
        ),
        ({"converter": {"kind": "custom_pair", "g_plus": [[0, 25]] * 2, "g_minus": [[25, 0]]}}, "one for each entry"),
        ({"converter": {"kind": "custom_pair", "g_plus": [[0, -2]], "g_minus": [[25, 0]]}}, "negative"),
    ],
)
def test_impossible_devices_are_refused(settings: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        DeviceSpec(**settings)


def test_the_recipe_of_the_page_is_a_technology(monkeypatch: pytest.MonkeyPatch):
    page = (ROOT / "docs/how-to/devices.md").read_text(encoding="utf-8").split("## A new technology in the package")[1]
    [constants], [module] = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("toml", "python"))
    monkeypatch.setattr("lionheart.devices.base.load_constants", lambda _, file: parse_constants(constants, file))
    namespace = types.ModuleType("decaying")
    monkeypatch.setitem(sys.modules, "decaying", namespace)
    try:
        exec(compile(module, "devices.md", "exec"), namespace.__dict__)  # noqa: S102  our own page
        device = DeviceSpec(technology="decaying", read_noise_scale=0.0)
        assert device.g_max == 30.0
        chip = program_crossbar(torch.tensor([[1.0, -0.5]]), device, generator=seeded())
        read = read_crossbar(chip, device, t_inference=math.e - 1, generator=seeded())
        torch.testing.assert_close(read, torch.tensor([[0.99, -0.495]]))
    finally:
        DEVICES.remove("decaying")
