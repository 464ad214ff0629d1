"""The coverage audit on the command line: models from functions and from Hugging Face configurations, rules, JSON, words."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lionheart.cli import app

FUNCTIONS = """
import torch
from torch import nn


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x, *, scale):
        return self.second(self.first(x) * scale)


def with_dict():
    return Two(), {"x": torch.ones(1, 4), "scale": torch.ones(1)}


def with_tuple():
    return nn.Bilinear(4, 3, 2), (torch.ones(1, 4), torch.ones(1, 3))


def with_tensor():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)), torch.ones(1, 3, 8, 8)


def only_module():
    return nn.Sequential(nn.LSTM(6, 4, batch_first=True))


def only_convolutions():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


def needs_more():
    return Two()


def wrong_shape():
    return with_tensor()[0], torch.ones(1, 3, 9, 9)
"""
FIELDS = {
    "fqn",
    "layer_type",
    "rows",
    "cols",
    "groups",
    "weights",
    "macs",
    "n_mvms",
    "n_tiles",
    "mappable",
    "reason",
    "tied_to",
    "unit",
}
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_attention_heads": 4,
    "num_hidden_layers": 12,
    "vocab_size": 500,
    "pad_token_id": 0,
}


def inspect(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)], env={"COLUMNS": "80", "TERM": "dumb"})


def data_of(result: Result) -> dict:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(FUNCTIONS)
    return path


@pytest.fixture
def llama(tmp_path: Path) -> str:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    return f"hf:{tmp_path}"


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("with_dict", [("first", "linear", 12), ("second", "linear", 6)]),
        ("with_tensor", [("0", "conv2d", 27 * 8 * 36), ("3", "linear", 288 * 5)]),
        ("with_tuple", [("weight", "functional", 24)]),
        ("only_module", [("0.ih_l0", "lstm", 6 * 16 * 16), ("0.hh_l0", "lstm", 4 * 16 * 16)]),
        ("only_convolutions", [("0", "conv2d", 27 * 8 * 900), ("3", "linear", 16)]),
    ],
)
def test_functions_return_a_module_with_or_without_inputs(
    functions: Path, function: str, expected: list[tuple[str, str, int]]
):
    data = data_of(inspect(f"{functions}:{function}", "--json"))
    assert [(row["fqn"], row["layer_type"], row["macs"]) for row in data["projections"]] == expected
    assert all(row.keys() >= FIELDS for row in data["projections"])


def test_settings_of_the_tile_have_a_price(functions: Path):
    model = f"{functions}:with_tensor"
    plain, priced = inspect(model), inspect(model, "--set", "tile.n_reads=4", "--set", "row_copies=2")
    assert "read polic" not in plain.stderr.lower()
    assert "4 reads, 2 row copies" in " ".join(priced.stderr.split())
    assert "Read policies of 2 projections add " in " ".join(priced.stderr.split())
    data = data_of(inspect(model, "--set", "tile.n_reads=4", "--json"))
    assert [row["policy"]["policy"] for row in data["projections"]] == ["4 reads", "4 reads"]
    before = data_of(inspect(model, "--json"))["projections"]
    for row, old in zip(data["projections"], before, strict=True):
        added = row["analog"]["latency_s"] - old["analog"]["latency_s"]
        assert (
            added
            == pytest.approx(row["policy"]["latency_s"])
            == pytest.approx(3 * row["n_tiles"] * row["n_mvms"] * 100e-9)
        )
    refused = inspect(model, "--set", "search.n_chips=4")
    assert refused.exit_code == 2
    assert "got a setting of 'search', expected settings of the tile only" in " ".join(refused.stderr.split())


def test_json_has_what_other_tools_read(functions: Path):
    data = data_of(
        inspect(f"{functions}:with_tensor", "--exclude", "type:linear", "--rows", "16", "--cols", "4", "--json")
    )
    conv, head = data["projections"]
    assert (conv["mappable"], conv["n_tiles"], conv["reason"]) == (True, 4, "")
    assert (head["mappable"], head["reason"]) == (False, "kept digital by the user")
    totals = data["totals"]
    assert totals["macs"] == totals["macs_mappable"] + totals["macs_by_choice"] == 27 * 8 * 36 + 1440
    assert totals["weights"] == totals["weights_mappable"] + totals["weights_by_choice"] == 216 + 1440
    assert totals["macs_not_mappable"] == totals["weights_not_mappable"] == 0
    (relu,) = [op for op in data["other_ops"] if op["name"] == "relu"]
    assert (relu["n_elements"], relu["flops"], relu["n_bytes"]) == (288, 288, 2 * 4 * 288)
    assert data["edges"] == [["0", "3"]]


def test_words_say_what_stays_digital_and_why(functions: Path):
    result = inspect(f"{functions}:with_tuple")
    assert result.exit_code == 0
    text = " ".join(result.stderr.split())
    assert "Bilinear.forward multiplies the parameter directly, not a layer of a registered type" in text
    assert "100.0 % of the MACs cannot run analog" in text
    assert max(len(line) for line in result.stderr.splitlines()) <= 80


@pytest.mark.parametrize(
    ("function", "message", "hint"),
    [
        (
            "needs_more",
            "Two: no example inputs were given, and LionHeart could not guess inputs that the model accepts",
            "(model, example_inputs)",
        ),
        ("wrong_shape", "Sequential: 3 (Linear): the forward pass failed on the example inputs", "one batch"),
    ],
)
def test_one_error_that_names_the_module(functions: Path, function: str, message: str, hint: str):
    result = inspect(f"{functions}:{function}")
    assert result.exit_code == 2
    assert message in result.stderr
    assert hint in result.stderr


def test_a_rule_that_matches_nothing(functions: Path):
    result = inspect(f"{functions}:with_dict", "--include", "secnd")
    assert result.exit_code == 2
    assert "include: 'secnd' matches no projection" in result.stderr
    assert "did you mean 'second'" in result.stderr


def test_a_configuration_is_enough(llama: str):
    data = data_of(inspect(llama, "--json"))
    assert len(data["projections"]) == 12 * 7 + 1
    assert data["totals"]["weights"] == 12 * (4 * 64 * 64 + 3 * 64 * 160) + 500 * 64
    groups = {row["pattern"]: row["n_projections"] for row in data["groups"]}
    assert groups["model.layers.*.self_attn.q_proj"] == 12
    assert len(groups) == 8


def test_many_projections_are_shown_by_block(llama: str):
    short, every = inspect(llama), inspect(llama, "--all")
    assert "model.layers.*.mlp" in short.stderr
    assert "model.layers.*" not in every.stderr
    assert len(every.stderr.splitlines()) > 85 > len(short.stderr.splitlines())
    for result in (short, every):
        assert max(len(line) for line in result.stderr.splitlines()) <= 80


def test_units_are_parts_of_blocks(llama: str):
    data = data_of(inspect(llama, "--json", "--exclude", "model.layers.0.mlp.*"))
    attention = [row for row in data["projections"] if row["unit"] == "model.layers.3.self_attn"]
    assert [row["fqn"].rpartition(".")[2] for row in attention] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert data["totals"]["n_units"] == 12 * 2 + 1
    attn, mlp, head = data["units"]
    assert (attn["pattern"], attn["n_units"], attn["n_projections"]) == ("model.layers.*.self_attn", 12, 48)
    assert attn["shapes"] == [{"layer_type": "linear", "rows": 64, "cols": 64, "groups": 1, "n_projections": 4}]
    assert [(row["rows"], row["cols"], row["n_projections"]) for row in mlp["shapes"]] == [(64, 160, 2), (160, 64, 1)]
    assert (mlp["n_projections"], mlp["n_mappable"], mlp["n_tiles_mappable"]) == (36, 33, 33)
    assert (head["pattern"], head["n_units"], head["n_tiles_mappable"]) == ("lm_head", 1, 2)
    for number in ("macs", "weights"):
        assert sum(row[number] for row in data["units"]) == data["totals"][number]
    assert sum(row["n_tiles_mappable"] for row in data["units"]) == data["totals"]["n_tiles_all_analog"]


def test_a_table_of_units(llama: str):
    result = inspect(llama, "--units", "--exclude", "lm_head")
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert "25 mapping units (parts of repeated blocks)" in " ".join(result.stderr.split())
    rows = [" ".join(line.split()) for line in lines]
    assert "model.layers.*.mlp 12 2 linear 64×160 47.2 M 369 k 36" in rows
    assert "1 linear 160×64" in rows
    assert any(row.startswith("lm_head 1 1 linear 64×500") and row.endswith(" -") for row in rows)


def test_a_title_is_no_markup():
    # "hf:llama: ..." was shown with the emoji of that name
    pytest.importorskip("transformers")
    assert inspect("hf:llama", "--units").stderr.startswith("hf:llama: 65 mapping units")


def test_units_with_all_is_an_error(llama: str):
    result = inspect(llama, "--units", "--all")
    assert result.exit_code == 2
    assert "--all, --units: got both" in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": "lama"}', "model_type: got 'lama'"),
        ('{"hidden_size": 4}', "not a readable model configuration"),
        ("{", "not a readable model configuration"),
    ],
)
def test_a_damaged_configuration(tmp_path: Path, content: str, message: str):
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(content)
    result = inspect(f"hf:{tmp_path}")
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("kind", "n_projections"), [("gpt2", 49), ("mobilebert", 362), ("whisper", 4 * 6 + 4 * 10 + 3), ("vit", 74)]
)
def test_a_kind_of_model_stands_for_its_default_configuration(kind: str, n_projections: int):
    pytest.importorskip("transformers")
    data = data_of(inspect(f"hf:{kind}", "--json"))
    assert len(data["projections"]) == n_projections
    assert data["totals"]["macs_mappable"] == data["totals"]["macs"]


def test_seven_billion_weights_are_inspected_in_little_memory(tmp_path: Path):
    pytest.importorskip("transformers")
    sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_hidden_layers": 32}
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **sizes, "vocab_size": 32_000}))
    program = (
        f"from lionheart.cli import main; import sys; sys.argv = ['', 'inspect', 'hf:{tmp_path}', '--json']; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["totals"]["weights"] == 6_607_077_376
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 << 20  # in KiB: 2 GiB


HOSTILE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.add_module("\\x1b[31m[bold]", nn.Linear(4, 4))
        self.add_module("spare\\u202e\\x9b", nn.Linear(4, 4))
        self.table = nn.Parameter(torch.ones(4, 4))
        self.points = nn.Parameter(torch.ones(3, 4))

    def forward(self, x):
        first = next(iter(self.children()))
        return torch.cdist(first(x) + self.table[:1], self.points)


def net():
    return Net(), torch.ones(1, 4)
"""


def test_the_audit_says_what_is_outside_and_whether_it_is_complete(tmp_path: Path):
    (tmp_path / "hostile.py").write_text(HOSTILE)
    data = data_of(inspect(f"{tmp_path / 'hostile.py'}:net", "--json"))
    assert not data["totals"]["is_complete"]
    assert {row["name"]: row["macs"] for row in data["other_weights"]} == {"table": 0, "points": None}
    assert [row["weights"] for row in data["unused_projections"]] == [16]
    text = " ".join(inspect(f"{tmp_path / 'hostile.py'}:net").stderr.split())
    assert "The audit is NOT complete: the MACs with points are not known" in text
    assert "other weight: table: 4×4, no MACs: no product: Net.forward uses it in 'add'" in text
    assert "other weight: points: 3×4, MACs not known" in text


def test_control_characters_in_names_are_shown_escaped(tmp_path: Path):
    (tmp_path / "hostile.py").write_text(HOSTILE)
    for option in ([], ["--units"]):
        shown = inspect(f"{tmp_path / 'hostile.py'}:net", *option).stderr
        assert not [each for each in shown if each in "\x1b\x07\x9b\u202e"]
        assert r"\x1b[31m[bold]" in shown
        assert r"spare\u202e\x9b" in "".join(shown.split())


def test_a_complete_audit_says_so(functions: Path):
    result = inspect(f"{functions}:with_tensor")
    assert "The audit is complete" in " ".join(result.stderr.split())
