"""Settings from presets, files and single values."""

from pathlib import Path

import pytest

from lionheart.devices import TileSpec
from lionheart.errors import ConfigError
from lionheart.jobs import MapSettings, read_settings


def test_what_one_run_sets_is_not_the_next_ones_preset(tmp_path: Path):
    """Nested tables of the preset were shared: a file's ``[tile.hwa]`` stayed for every later run of the process."""
    before = read_settings("quick")
    config = tmp_path / "one.toml"
    config.write_text("[tile.hwa]\nweight_noise = 0.5\n[search]\nn_chips = 3\n")
    assert read_settings("quick", config).tile.hwa.weight_noise == 0.5
    assert read_settings("quick") == before


def test_a_wrong_setting_of_one_run_does_not_break_the_next(tmp_path: Path):
    before = read_settings("robust")
    config = tmp_path / "wrong.toml"
    config.write_text("[tile.hwa]\nno_such_setting = 1\n")
    with pytest.raises(ConfigError, match="no_such_setting"):
        read_settings("robust", config)
    assert read_settings("robust") == before


def test_single_values_do_not_stay(tmp_path: Path):
    before = read_settings("quick")
    read_settings("quick", overrides={"tile": {"hwa": {"remap": False}}, "search": {"n_chips": 2}})
    assert read_settings("quick") == before


@pytest.mark.parametrize("made", [MapSettings(), MapSettings.preset(), MapSettings.from_json({}), MapSettings(seed=0)])
def test_python_and_the_command_line_have_the_same_defaults(made: MapSettings):
    """``MapSettings()`` had 20 chips and 50 epochs, and the command line 6 and 5: one task, two results."""
    assert made == read_settings()
    assert made.to_json() == read_settings().to_json()


def test_the_preset_of_the_paper_is_as_it_was():
    paper = MapSettings.preset("paper")
    assert (paper.search.n_chips, paper.train.max_epochs, paper.tile) == (20, 50, TileSpec())


def test_values_of_the_caller_are_not_changed():
    """Groups that a caller gave were stored in the settings themselves, so later values changed the caller's dictionary."""
    given = {"tile": {"hwa": {"weight_noise": 0.5}, "device": {"technology": "pcm"}}}
    shown = repr(given)
    found = read_settings("quick", overrides=given, assignments=["tile.hwa.weight_noise=1", "tile.device.g_max=20"])
    assert (found.tile.hwa.weight_noise, found.tile.device.g_max) == (1.0, 20.0)
    MapSettings.preset("robust", **given)
    assert repr(given) == shown
    assert read_settings("quick", overrides=given).tile.hwa.weight_noise == 0.5
