"""What every built-in task keeps: found from the registry, so a new one is held to it by being there. Nothing is downloaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lionheart.errors import ArtifactError, ConfigError
from lionheart.graph import trace_graph
from lionheart.jobs import read_card
from lionheart.metrics import Metric
from lionheart.tasks import TASKS, build_task, task_names
from lionheart.tasks.registry import build_untrained, checkpoint_path, find_recipe
from lionheart.training import TrainSpec, load_weights

NAMES = tuple(TASKS)
SHIPPED = tuple(name for name in NAMES if checkpoint_path(name).exists())
WITH_SHAPE = tuple(name for name in NAMES if find_recipe(name).input_shape is not None)


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setenv("LIONHEART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("subprocess.run", refuse)  # pip and npm


def build_here(name: str, *, seed: int = 0) -> nn.Module | None:
    """Return what is trained; None where a part of it has to be downloaded or an extra is missing, and the error says so."""
    try:
        return build_untrained(name, seed=seed)
    except (ArtifactError, ConfigError) as error:
        known = "could not be fetched" in error.message or "cannot be imported" in error.message
        if not (known and error.hint):
            raise
        return None


def build_structure(name: str) -> nn.Module:
    """Return what is trained without values: enough for shapes, and quick."""
    with torch.device("meta"):
        return find_recipe(name).build_model().eval()


def test_names_are_sorted_and_of_one_form():
    assert task_names() == sorted(NAMES)
    assert len(NAMES) > 0
    for name in NAMES:
        data, _, network = name.partition("/")
        assert data, name
        assert network, name
        assert "@" not in name, "what follows @ is a model of the hub"
        assert ":" not in name, "what follows : is a function of the user's"


@pytest.mark.parametrize("name", NAMES)
def test_recipe_is_complete(name: str):
    recipe = find_recipe(name)
    assert isinstance(recipe.train_spec, TrainSpec)
    assert isinstance(recipe.metric, Metric)
    assert recipe.batch_size > 0
    assert all(map(callable, (recipe.build_model, recipe.build_data, recipe.loss, recipe.metric)))
    assert all(map(callable, recipe.extra_metrics.values()))
    assert recipe.metric.name not in recipe.extra_metrics
    assert recipe.input_shape is None or all(size > 0 for size in recipe.input_shape)
    if recipe.pretrained is not None:
        assert recipe.pretrained.batch_size > 0
        assert all(map(callable, (recipe.pretrained.build_model, recipe.pretrained.build_data)))


@pytest.mark.parametrize("name", NAMES)
def test_fresh_weights_follow_the_seed_alone(name: str):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build_here(name)
    assert torch.equal(torch.get_rng_state(), before)
    if first is None:
        return
    torch.manual_seed(6)
    again, other = build_untrained(name, seed=0), build_untrained(name, seed=1)
    assert first.training
    assert any(parameter.requires_grad for parameter in first.parameters())
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(one, two) for one, two in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", WITH_SHAPE)
def test_a_sample_of_its_shape_goes_through_and_gets_loss_and_score(name: str):
    recipe, model = find_recipe(name), build_structure(name)
    inputs = torch.zeros(3, *recipe.input_shape, device="meta")
    assert trace_graph(model, inputs[:1]).macs > 0
    n_classes = model(inputs).shape[-1]
    outputs = torch.randn(3, n_classes, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.tensor([0, 1, n_classes - 1])
    loss = recipe.loss(outputs, targets)
    assert loss.shape == ()
    loss.backward()
    assert outputs.grad is not None
    for metric in (recipe.metric, *recipe.extra_metrics.values()):
        assert metric(outputs.detach(), targets).shape == (3,)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_fit_and_their_card_is_of_the_task(name: str):
    model, recipe = build_here(name), find_recipe(name)
    assert model is not None
    load_weights(checkpoint_path(name), model)
    card = read_card(checkpoint_path(name).with_suffix(".json"))
    assert card.task == name
    assert card.measure == recipe.metric.name
    assert {card.measure, *recipe.extra_metrics} == set(card.test) == set(card.validation)
    assert card.n_parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_task_that_cannot_be_had_offline_says_what_to_do(name: str):
    hint = "none is needed: with an empty cache it can be built, so the package has all that it needs"
    try:
        build_task(name)
    except (ArtifactError, ConfigError) as error:
        hint = error.hint
    assert hint


ONE_FILE = """
from torch import nn

from lionheart.tasks import TASKS, Recipe
from lionheart.training import TrainSpec

TASKS.add("stars/line", Recipe(lambda: nn.Linear(3, 2), None, TrainSpec(), batch_size=4, input_shape=(3,)))
"""


def test_a_task_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()  # this one needs a process of its own
    (tmp_path / "stars.py").write_text(ONE_FILE)
    code = (
        f"import lionheart.tasks.images as package; package.__path__.append({str(tmp_path)!r})\n"
        "from lionheart.tasks.registry import build_example, task_names\n"
        "model, inputs = build_example('stars/line')\n"
        "print('stars/line' in task_names(), tuple(model(inputs).shape))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "True (1, 2)"
