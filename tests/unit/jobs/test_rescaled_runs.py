"""Jobs on a network with rescaled channels: the same figures of the digital network, resumed, loaded and evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from quadrants import build_task, make_settings

from lionheart.copies import copy_model
from lionheart.errors import ArtifactError, ConfigError
from lionheart.experimental.pareto.job import find_pareto_front
from lionheart.jobs import evaluate_run, load_run, map_layers, profile_layers, resume_run
from lionheart.jobs.rescaling import rescale_task
from lionheart.progress import SILENT
from lionheart.report import report_run
from lionheart.runs import Journal
from lionheart.tasks import Task

#: Both projections that fit on tiles are analog.
ALL = {"strategy": "all-analog", "max_drop_pp": 99.0, "include": ("0", "3")}

pytestmark = pytest.mark.usefixtures("small_noise_pool")


def build_uneven_task() -> Task:
    """A task whose second projection reads one channel that is 64 times as large as in the task of the other tests."""
    task = build_task()
    with torch.no_grad():
        task.model[1].weight[2] *= 64
        task.model[1].bias[2] *= 64
        task.model[3].weight[:, 2] /= 64
    return task


def rescaled(**search: Any):
    return make_settings(search={"channel_rescaling": 0.5, **search})


def test_a_run_is_mapped_loaded_and_evaluated_with_the_rescaled_network(tmp_path: Path):
    task = build_uneven_task()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    found = map_layers(task, rescaled(**ALL), run_dir=tmp_path / "run")
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
    record = found.results.rescaling
    assert record is not None
    assert [(each.producer, each.consumers) for each in record.folded] == [("1", ("3",)), ("4", ("7",))]
    assert record.left == {"0": "its inputs are inputs of the network"}
    plain = map_layers(task, make_settings(search=ALL), run_dir=tmp_path / "plain")
    assert found.results.baseline == plain.results.baseline
    assert plain.results.rescaling is None
    assert found.results.validation.mean > plain.results.validation.mean
    assert "rescaling" not in json.loads(plain.run.file("results.json").read_text())
    sentence = "Channels of 2 layers rescaled for 2 projections, strength 0.5; 1 projections left as they were."
    assert sentence in found.results.summary.remarks
    page = report_run(tmp_path / "run").read_text()
    assert sentence in page
    assert "inputs rescaled" in page
    loaded = load_run(tmp_path / "run", build_uneven_task().model)
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[name]), name
    times = [each.t_inference for each in found.results.test_over_time]
    evaluation = evaluate_run(build_uneven_task(), tmp_path / "run", n_chips=2, times=times)
    assert evaluation.accuracy_over_time == found.results.test_over_time


def test_a_stopped_run_ends_as_an_unbroken_one(tmp_path: Path):
    whole = map_layers(build_uneven_task(), rescaled(), run_dir=tmp_path / "whole")
    map_layers(build_uneven_task(), rescaled(), run_dir=tmp_path / "cut")
    lines = (tmp_path / "whole" / "journal.jsonl").read_text().splitlines(keepends=True)
    cut = next(number for number, line in enumerate(lines) if '"rescaling"' in line) + 1
    for name in ("results.json", "weights.safetensors", "mapping.json"):
        (tmp_path / "cut" / name).unlink()
    (tmp_path / "cut" / "journal.jsonl").write_text("".join(lines[:cut]))
    resumed = resume_run(build_uneven_task(), tmp_path / "cut")
    assert resumed.mapping == whole.mapping
    assert resumed.results.rescaling == whole.results.rescaling
    assert resumed.results.validation.scores == whole.results.validation.scores
    assert [each.drop_pp for each in resumed.results.decisions] == [each.drop_pp for each in whole.results.decisions]
    weights = [each.run.file("weights.safetensors").read_bytes() for each in (whole, resumed)]
    assert weights[0] == weights[1]


def test_a_resumed_job_uses_the_factors_of_its_journal(tmp_path: Path):
    task, settings = build_uneven_task(), rescaled()
    journal = Journal(tmp_path / "journal.jsonl")
    first, found = rescale_task(task, settings, journal, SILENT)
    other = settings.replace(seed=settings.seed + 1)  # another first batch, hence other maxima
    again, stored = rescale_task(task, other, Journal(tmp_path / "journal.jsonl"), SILENT)
    assert stored == found
    weights = again.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in first.model.state_dict().items())


def test_profile_and_front_see_the_rescaled_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    task = build_uneven_task()
    out = tmp_path / "profile.json"
    arguments = {"times": [1.0], "n_chips": 2, "n_samples": 64}
    found = profile_layers(task, rescaled(), out=out, **arguments)
    plain = profile_layers(task, make_settings(), **arguments)
    assert found.channel_rescaling == 0.5
    assert found.digital == plain.digital
    scores, others = ({row.fqn: row.over_time[0].scores for row in each.projections} for each in (found, plain))
    assert scores["0"] == others["0"]  # nothing before it can be rescaled
    assert sum(scores["3"]) > sum(others["3"])
    with pytest.raises(ArtifactError, match="another value of 'channel_rescaling'"):
        profile_layers(task, make_settings(), out=out, **arguments)
    pytest.importorskip("optuna")
    seen = []

    def note(model, *args, **kwargs):
        seen.append(model.state_dict()["1.weight"].clone())
        return real(model, *args, **kwargs)

    import lionheart.experimental.pareto.work as work

    real = work.evaluate_over_chips
    monkeypatch.setattr(work, "evaluate_over_chips", note)
    settings = rescaled().replace(pareto={"n_trials": 2})
    find_pareto_front(task, settings, run_dir=tmp_path / "front")
    expected = rescale_task(task, settings, Journal(None), SILENT)[0].model.state_dict()["1.weight"]
    assert seen
    assert all(torch.equal(each, expected) for each in seen)
    assert not torch.equal(expected, copy_model(task.model).state_dict()["1.weight"])


@pytest.mark.parametrize("strength", [-0.5, 1.5])
def test_a_strength_out_of_range_is_refused(strength: float):
    with pytest.raises(ConfigError, match="channel_rescaling"):
        rescaled(channel_rescaling=strength)
