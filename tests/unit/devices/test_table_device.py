"""Devices of the user's own, from curves in a TOML file."""

from pathlib import Path

import pytest
import torch
from device_examples import N, fits, normal, seeded
from paths import ROOT

from lionheart.devices import DeviceSpec, find_device_model
from lionheart.errors import ArtifactError, ConfigError


def constant(name: str, value: str) -> str:
    return f'[{name}]\nvalue = {value}\nunit = "µS"\nsource = "lab"\nkind = "measured"\n'


def test_device_from_toml(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(constant("g_max", "20.0") + constant("programming_noise", "[[0.0, 0.2], [10.0, 0.6], [20.0, 0.4]]"))
    device = DeviceSpec.from_toml(path, stuck_off=0.01)
    assert (device.technology, device.g_max, device.stuck_off) == ("table", 20.0, 0.01)
    for g, sigma in ((10.0, 0.6), (15.0, 0.5), (5.0, 0.4)):
        g_programmed, _ = find_device_model(device).program(torch.full((N,), g), device, generator=seeded())
        assert fits(g_programmed, normal(g, sigma))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[g_max\n", ArtifactError, "mine.toml: not valid TOML"),
        ("[g_max]\nvalue = 3\n", ArtifactError, "mine.toml:g_max: got the keys"),
        (constant("g_mx", "3.0"), ConfigError, "mine.toml:g_mx: unknown setting(.|\n)*did you mean 'g_max'"),
        (constant("g_max", "-3.0"), ConfigError, "mine.toml:g_max: got -3.0"),
        (
            constant("read_noise", "[0.1, -0.2]"),
            ConfigError,
            "read_noise must be >= 0 from g_min to g_max, but is negative at",
        ),
        (
            constant("read_noise", "[[3.0, 0.1], [2.0, 0.1]]"),
            ConfigError,
            "read_noise must be in strictly ascending order",
        ),
        (constant("read_noise", "[]"), ConfigError, "read_noise must not be empty"),
    ],
)
def test_faulty_device_files_are_refused(text: str, error: type[Exception], message: str, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(error, match=message):
        DeviceSpec.from_toml(path)


def test_the_template_of_the_page_is_a_device(tmp_path: Path):
    page = (ROOT / "docs/how-to/devices.md").read_text(encoding="utf-8")
    template = page.split("## A device from curves")[1].split("```toml\n")[1].split("```")[0]
    path = tmp_path / "template.toml"
    path.write_text(template, encoding="utf-8")
    device = DeviceSpec.from_toml(path)
    assert (device.g_max, device.t_0, device.t_read, device.drift_nu_sigma) == (20.0, 20.0, None, (0.01,))


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such file"):
        DeviceSpec.from_toml(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "value", "unit", "expected"),
    [
        ("g_max", "50000", "nS", "µS"),
        ("g_max", "25e-6", "S", "µS"),
        ("g_max", "0.025", "mS", "µS"),
        ("g_min", "1", "µA", "µS"),
        ("t_0", "1", "ms", "s"),
        ("t_read", "1e-7", "h", "s"),
        ("programming_noise", "[2.0, 1.0]", "%", "µS"),
        ("drift_nu_mean", "[5.0]", "% per decade", "1"),
        ("drift_nu_mean", "[[0.0, 0.05], [20.0, 0.05]]", "points of nS and 1", "points of µS and 1"),
        ("read_noise", "[[0.0, 0.05], [20.0, 0.05]]", "points of µS and 1", "points of µS and µS"),
        ("stuck_on", "1", "%", "1"),
        ("drift_scale", "100", "percent", "1"),
    ],
)
def test_units_are_checked(name: str, value: str, unit: str, expected: str, tmp_path: Path):
    """A largest conductance of 50000 nS ran as 50000 µS: the unit was required, but nothing read it."""
    path = tmp_path / "mine.toml"
    path.write_text(f'[{name}]\nvalue = {value}\nunit = "{unit}"\nsource = "lab"\nkind = "measured"\n')
    with pytest.raises(ConfigError, match=rf"mine\.toml:{name}\.unit: got '{unit}', expected {expected}$|convert"):
        DeviceSpec.from_toml(path)


@pytest.mark.parametrize("unit", ["µS", "μS", "uS", "µS, of die 7", "µS: largest"])
def test_the_same_unit_may_be_written_differently(unit: str, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(f'[g_max]\nvalue = 20.0\nunit = "{unit}"\nsource = "lab"\nkind = "measured"\n', encoding="utf-8")
    assert DeviceSpec.from_toml(path).g_max == 20.0
