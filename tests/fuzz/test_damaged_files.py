"""Damaged settings, devices, platforms, models, mappings, durations and rules end in one error, soon."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from commands import TINY, lionheart_command
from fuzzing import fuzz, judge, raises_only
from hypothesis import given
from hypothesis import strategies as st
from mutations import ODD_TOML, damaged_bytes, damaged_json_file, damaged_toml_file
from paths import ROOT

from lionheart.errors import LionHeartError
from lionheart.mapping import LayerMapping
from lionheart.units import parse_duration

SOURCE = ROOT / "src" / "lionheart"
SETTINGS = (
    f'seed = 3\nplatforms = ["alpine-high-power"]\n{TINY}[tile.hwa]\nweight_noise = 0.1\n'
    '[tile.device]\ntechnology = "pcm"\n'
)
DEVICE = b"""
[g_max]
value = 20.0
unit = "\xc2\xb5S"
source = "our array, die 7"
kind = "measured"
[programming_noise]
value = [0.26, 1.96, -1.17]
unit = "\xc2\xb5S"
source = "our array, die 7"
kind = "fitted"
[drift_nu]
value = [[0.0, 0.09], [20.0, 0.03]]
unit = "1"
source = "our array, die 7"
kind = "measured"
"""
SAMPLES = "target,time,conductance\n" + "".join(
    f"{g},{t},{g + i / 10}\n" for g, t, i in itertools.product((0.0, 10.0, 25.0), (1.0, 100.0), range(12))
)
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 48,
    "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "vocab_size": 64,
    "max_position_embeddings": 64, "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
}  # fmt: skip
SETTING_NAMES = (
    "search.t_inference", "search.max_drop_pp", "search.report_times", "search.n_chips", "search.exclude", "seed",
    "search.strategy", "tile.rows", "tile.dac_bits", "tile.device.technology", "tile.device.g_max", "tile.hwa.weight_noise",
    "train.learning_rate", "train.optimizer", "platforms", "tile.converter", "x", "search", "tile.device",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the working folder of all examples. The limit of time is for commands, not for imports of the first two."""
    made = tmp_path_factory.mktemp("fuzz")
    (made / "config.json").write_text(json.dumps(LLAMA))
    for words in (("settings",), ("inspect", f"hf:{made}")):
        result = lionheart_command(*words)
        assert result.exit_code == 0, result.output
    return made


@fuzz(400)
@given(data=st.data())
def test_settings(folder: Path, data: st.DataObject) -> None:
    (folder / "s.toml").write_bytes(data.draw(damaged_toml_file(SETTINGS.encode())))
    judge("settings", "--config", "s.toml", folder=folder)


@fuzz(200)
@given(
    name=st.sampled_from(SETTING_NAMES),
    value=st.sampled_from([*ODD_TOML, "1d", "1e3h", "re:(a+)+$", "[1, 1d]"]) | st.text(max_size=20),
)
def test_settings_of_the_command_line(folder: Path, name: str, value: str) -> None:
    judge("settings", "--set", f"{name}={value}", folder=folder)


@fuzz(200)
@given(content=damaged_toml_file(DEVICE))
def test_devices(folder: Path, content: bytes) -> None:
    (folder / "d.toml").write_bytes(content)
    judge("devices", "d.toml", folder=folder)


@fuzz(60)
@given(content=damaged_bytes(SAMPLES.encode()))
def test_measured_devices(folder: Path, content: bytes) -> None:
    from lionheart.devices import DeviceSpec

    (folder / "d.csv").write_bytes(content)
    raises_only(LionHeartError, lambda: DeviceSpec.from_samples(folder / "d.csv"))


@fuzz(150)
@given(data=st.data())
def test_platforms(folder: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(("alpine-high-power", "alpine-neon", "hermes", "raspberry-pi-4")))
    content = data.draw(damaged_toml_file((SOURCE / f"system/platforms/{name}.toml").read_bytes()))
    (folder / "p.toml").write_bytes(content)
    judge("inspect", "plain_models:tiny", "--platform", "p.toml", folder=folder)


@fuzz(150)
@given(data=st.data())
def test_configurations_of_hugging_face_models(folder: Path, data: st.DataObject) -> None:
    (folder / "config.json").write_bytes(data.draw(damaged_json_file(json.dumps(LLAMA).encode())))
    judge("inspect", "hf:.", folder=folder)


@fuzz(200)
@given(data=st.data())
def test_mappings(folder: Path, data: st.DataObject) -> None:
    mapping = json.dumps({"placements": {"0": "analog", "stage.1.fc": "digital", "head": "analog"}})
    (folder / "mapping.json").write_bytes(data.draw(damaged_json_file(mapping.encode())))
    raises_only(LionHeartError, lambda: LayerMapping.load(folder / "mapping.json"))


@fuzz(200)
@given(text=st.text(max_size=12) | st.from_regex(r"-?[0-9.eE_+ ]{0,8} ?(s|m|h|d|mo|y|min|days|ns)?", fullmatch=True))
def test_durations(folder: Path, text: str) -> None:
    raises_only(LionHeartError, lambda: parse_duration(text))


RULES = ("re:(a+)+$", "re:(", "re:" + "(" * 500 + ")" * 500, "re:(?P<x>a)(?P<x>b)", "type:", "type:x", "[", "[!", "**")


@fuzz(100)
@given(
    flag=st.sampled_from(("--include", "--exclude")),
    rules=st.lists(
        st.sampled_from(RULES)
        | st.text(max_size=10)
        | st.from_regex(r"(re:)?[a-z0-9.*+?()\[\]|^$\\{}]{1,12}", fullmatch=True),
        min_size=1,
        max_size=2,
    ),
)
def test_rules(folder: Path, flag: str, rules: list[str]) -> None:
    judge("inspect", "plain_models:tiny", *(part for rule in rules for part in (flag, rule)), folder=folder)
