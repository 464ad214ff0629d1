"""A real mapping, in small: the shipped ResNet8 on a slice of CIFAR-10."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lionheart.jobs import MapSettings, map_layers
from lionheart.report import report_run
from lionheart.search import SearchOutcome
from lionheart.tasks import Task, build_task

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*clipping the weights in training:lionheart.errors.CalibrationWarning"),
]

N_IMAGES = 500
TRIED = ("stack1.conv1", "stack3.conv2", "stack3.conv1", "fc")


def test_resnet8_on_a_slice_of_cifar10(tmp_path: Path):
    whole = build_task("cifar10/resnet8")
    task = Task(
        whole.model,
        whole.train,
        whole.validation.take(N_IMAGES),
        whole.test.take(N_IMAGES),
        name=whole.name,
    )
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    settings = MapSettings.from_json(
        {
            "search": {
                "max_drop_pp": 10.0,
                "n_chips": 2,
                "n_chips_final": 2,
                "report_times": [1.0, "1y"],
                "exclude": ["conv", "stack1.conv2", "stack2.*", "stack3.shortcut.*"],
            },
            "train": {"steps_per_epoch": 12, "max_epochs": 2, "learning_rate": 0.01},
        }
    )
    result = map_layers(task, settings, run_dir=tmp_path / "run")

    results = result.results
    assert result.outcome is SearchOutcome.MAPPED
    # MACs: 2.36 M, 2.36 M, 1.18 M and 640; of the first two the network's order decides
    assert [each.fqn for each in results.decisions] == list(TRIED)
    assert set(result.mapping.analog) <= set(TRIED)
    assert results.baseline.validation_accuracy > 0.8
    assert results.baseline.test_accuracy > 0.8
    # 20 samples' worth of slack for fresh chips, which did not decide
    assert -5 < results.validation_drop_pp < 10 + 4
    one_second, one_day, one_year = (each.mean for each in results.test_over_time)
    assert one_second > 0.7
    assert one_day > 0.7
    assert 0.5 < one_year <= one_second + 0.05  # far above chance, 0.1; drift does not help
    assert 0.15 < results.analog_mac_share < 0.5
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.model.state_dict().items())
    page = report_run(result.run.path).read_text(encoding="utf-8")
    assert "stack1.conv1" in page
