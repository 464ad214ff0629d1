"""A network that relies on the saturation of the ADC keeps its accuracy in the exported program, and the export says so."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lionheart import Task, map_layers
from lionheart.analog import analog_layers, calibrate_input_ranges_, convert_to_analog_, convert_to_digital_
from lionheart.data import IndexedBatches
from lionheart.devices import TileSpec
from lionheart.evaluation import evaluate_accuracy
from lionheart.files import read_json
from lionheart.interop.alpine import quantise_program, trace_program
from lionheart.interop.alpine.export import QuantisedNetwork, export_run, quantise_analog
from lionheart.interop.alpine.manifest import ProgramScore
from lionheart.jobs import MappingResult, MapSettings
from lionheart.mapping import LayerMapping, Placement
from lionheart.metrics import ACCURACY, root_mean_squared_error
from lionheart.rng import RandomStreams
from lionheart.tasks import cross_entropy
from lionheart.training import TrainSpec, build_optimizer, train

pytestmark = pytest.mark.usefixtures("small_noise_pool")

SETTINGS = {
    "search": {
        "strategy": "all-analog",
        "max_drop_pp": 20.0,
        "n_chips": 2,
        "n_chips_final": 3,
        "report_times": [1.0],
    },
    "tile": {"rows": 32, "cols": 32, "output_bound": 0.5, "output_noise": 0.01, "device": {"technology": "ideal"}},
    "train": {"max_epochs": 8, "steps_per_epoch": 32, "learning_rate": 0.2},
}


def draw(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return numbers ``(n, 12)`` and which of four quadratic functions of them is the largest."""
    linear, squared = torch.Generator().manual_seed(9), torch.Generator().manual_seed(11)
    x = torch.randn(n, 12, generator=torch.Generator().manual_seed(seed))
    scores = x @ torch.randn(4, 12, generator=linear).T + (x * x) @ torch.randn(12, 4, generator=squared)
    return x, scores.argmax(1)


def make_batches(n: int, seed: int, *, shuffle: bool) -> IndexedBatches:
    inputs, targets = draw(n, seed)
    return IndexedBatches(n, lambda numbers, _: (inputs[numbers], targets[numbers]), batch_size=64, shuffle=shuffle)


def build_task() -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)]
        sizes = {"train": (2048, 1), "validation": (512, 2), "test": (512, 3)}
        sources = {split: make_batches(*size, shuffle=split == "train") for split, size in sizes.items()}
        task = Task(nn.Sequential(*layers), **sources, name="saturating")
        spec = TrainSpec(learning_rate=0.1, max_epochs=6, patience=None)
        optimizer = build_optimizer(task.model, spec)
        train(task.model, task.train_batches, cross_entropy, spec, optimizer, streams=RandomStreams(0))
    return task


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, MappingResult]:
    task = build_task()
    folder = tmp_path_factory.mktemp("saturating") / "run"
    return task, map_layers(task, MapSettings.from_json(SETTINGS), run_dir=folder)


def test_network_that_relies_on_saturation_keeps_its_accuracy():
    """The ADC scale of the program once avoided saturation, which a retrained network may rely on.

    Within a bound of 1 pp on simulated chips, an exported program lost 3.6 pp.
    """
    task = build_task()
    model, samples = task.model, draw(64, 1)[0]
    mapping = LayerMapping(dict.fromkeys(("0", "2", "4"), Placement.ANALOG))
    convert_to_analog_(model, mapping, TileSpec.from_json(SETTINGS["tile"]))
    calibrate_input_ranges_(model, lambda net: net(samples))
    with torch.no_grad():
        for layer in analog_layers(model).values():
            layer.analog_input_range.mul_(0.3)  # a calibrated range avoids saturation
    spec = TrainSpec(learning_rate=0.4, max_epochs=30, patience=None)
    train(model, task.train_batches, cross_entropy, spec, build_optimizer(model, spec), streams=RandomStreams(1))
    digital = convert_to_digital_(copy.deepcopy(model))
    own = quantise_program(trace_program(digital, samples), mapping, tile_rows=32, tile_cols=32)
    networks = {"tiles": model, "program": QuantisedNetwork(quantise_analog(model, samples))}
    networks["another scale"] = QuantisedNetwork(own)
    found = {name: evaluate_accuracy(net, task.validation, task.metric) for name, net in networks.items()}
    assert abs(found["program"] - found["tiles"]) < 0.02, found
    assert found["another scale"] < found["tiles"] - 0.03, found


def test_score_stands_beside_those_of_the_run(mapped: tuple[Task, MappingResult], tmp_path: Path):
    task, result = mapped
    chips = result.results.validation.mean
    score = export_run(task, result.run.path, tmp_path / "program").score
    assert score is not None
    assert abs(score.program_score - chips) < 0.03
    assert score.chips_score == chips
    assert score.digital_score == result.results.baseline.validation_accuracy
    assert read_json(tmp_path / "program" / "manifest.json")["score"] == score.to_json()


def test_score_of_fewer_samples_is_compared_on_the_same_samples(mapped: tuple[Task, MappingResult], tmp_path: Path):
    task, result = mapped
    score = export_run(task, result.run.path, tmp_path / "program", n_scored=100).score
    assert score is not None
    assert score.n_samples == 100
    inputs, targets = draw(512, 2)
    right = (task.model.eval()(inputs[:100]).argmax(1) == targets[:100]).float().mean()
    assert score.digital_score == pytest.approx(float(right))


def test_lines_name_the_bound():
    score = ProgramScore(
        metric=ACCURACY,
        n_samples=2000,
        program_score=0.942,
        digital_score=0.978,
        chips_score=0.969,
        max_drop_pp=1.0,
    )
    assert score.lines() == (
        "accuracy of the program on 2000 validation samples: 94.20 %, drop 3.60 pp (bound 1.00 pp)",
        "accuracy of the run: digital 97.80 %, simulated chips 96.90 %",
        "warning: the drop of the program, 3.60 pp, exceeds the bound of the run, 1.00 pp",
    )
    within = score.replace(program_score=0.97, n_samples=500)
    assert within.is_within_bound
    assert within.lines()[0].startswith("accuracy of the program on 500 validation samples: 97.00 %")
    assert len(within.lines()) == 2


def test_lines_of_errors_have_their_unit():
    """A lower value of this metric is better, and its drop has its own unit."""
    rmse = root_mean_squared_error("mm")
    score = ProgramScore(
        metric=rmse, n_samples=64, program_score=1.3, digital_score=1.25, chips_score=1.26, max_drop_pp=0.04
    )
    assert score.program_drop_pp == pytest.approx(0.05)
    assert not score.is_within_bound
    assert (
        score.lines()[0] == "RMSE of the program on 64 validation samples: 1.300 mm, drop 0.0500 mm (bound 0.0400 mm)"
    )
    assert score.lines()[2].startswith("warning: the drop of the program, 0.0500 mm, exceeds")
