"""Configurations that hold anything: one clear error, in a short time, and no code that they name."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lionheart.errors import LionHeartError
from lionheart.graph.hf import load_structure

transformers = pytest.importorskip("transformers")
GPT2 = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 20, "n_positions": 16}


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """The library is imported before anything is timed."""
    importlib.import_module("transformers.models.gpt2.modeling_gpt2")
    assert transformers.PreTrainedModel


def load(folder: Path, **changes: Any) -> Any:
    (folder / "config.json").write_text(json.dumps({**GPT2, **changes}))
    return load_structure(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["pipeline"]}, "architectures: got 'pipeline', which is not a model class"),
        ({"architectures": ["logging"]}, "architectures"),
        ({"architectures": ["AutoConfig"]}, "architectures"),
        ({"architectures": "GPT2Model"}, "architectures: got .*, expected a list"),
        ({"architectures": [["GPT2Model"]]}, "architectures: got .*, expected a list"),
        ({"architectures": ["LlamaForCausalLM"]}, "cannot be built"),
        ({"model_type": 3}, "model_type: got .*, expected a string"),
        ({"model_type": ["gpt2"]}, "model_type: got .*, expected a string"),
        ({"model_type": "x" * 100_000}, "model_type"),
        ({"n_embd": "wide"}, "config.json"),
        ({"n_embd": None}, "configuration"),
        ({"n_embd": -8}, "configuration"),
        ({"n_embd": 0}, "configuration"),
        ({"n_embd": 10**12}, "n_embd: got 1,000,000,000,000, expected at most"),
        ({"n_layer": 100_000}, "n_layer: got 100,000, expected at most 2,000"),
        ({"n_layer": [1]}, "configuration"),
        ({"n_layer": "many"}, "config.json"),
        ({"num_labels": 10**9}, "num_labels"),
        ({"task_specific_params": {"a": {"n_layers": 10**6}}}, "a.n_layers: got 1,000,000"),
    ],
)
def test_odd_values_are_one_clear_error_at_once(tmp_path: Path, changes: dict[str, Any], message: str):
    start = time.process_time()
    with pytest.raises(LionHeartError, match=message) as caught:
        load(tmp_path, **changes)
    assert time.process_time() - start < 5
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("text", ["[" * 50_000, "[]", "3", '{"model_type": ' + "9" * 5_000 + "}", '"\\ud800"', "\x00"])
def test_odd_files_are_one_clear_error(tmp_path: Path, text: str):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(LionHeartError, match="not a readable model configuration|model_type"):
        load_structure(str(tmp_path))


def test_no_attribute_that_is_named_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    called = []
    monkeypatch.setattr(sys.modules["transformers"], "harmful", called.append, raising=False)
    with pytest.raises(LionHeartError, match="harmful"):
        load(tmp_path, architectures=["harmful"])
    assert called == []


def test_code_on_the_hub_is_not_named_to_the_library(tmp_path: Path):
    model, _ = load(tmp_path, attn_implementation="somebody/kernel", auto_map={"AutoModel": "evil.Model"})
    assert model.config._attn_implementation in ("sdpa", "eager")


def test_an_unknown_architecture_takes_the_usual_head(tmp_path: Path):
    model, _ = load(tmp_path, architectures=["MyOwnGPT2"])
    assert type(model).__name__ == "GPT2LMHeadModel"
