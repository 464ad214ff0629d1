"""The profile of a network: each projection measured alone, kept after each, and written as a table too."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
import quadrants
import torch
from metrics_tasks import build_measured

from lionheart import TileSpec
from lionheart.errors import ArtifactError, ConfigError
from lionheart.files import read_json, write_json
from lionheart.jobs import profile_layers
from lionheart.jobs.profile import Profile, write_profile
from lionheart.metrics import ACCURACY, PERPLEXITY
from lionheart.tasks import Task


def profile(task: Task, **changes: Any) -> Profile:
    settings = quadrants.make_settings(tile={"output_noise": 0.04})
    return profile_layers(task, settings, **{"times": [1.0, 3600.0], "n_chips": 3, "n_samples": 64, **changes})


def test_each_projection_is_measured_alone(tmp_path: Path):
    task = build_measured(ACCURACY)
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    found = profile(task, out=tmp_path / "p.json")
    assert {row.fqn for row in found.projections} == {"0", "3", "7"}
    drops = [row.over_time[0].drop_pp for row in found.projections]
    assert drops == sorted(drops, reverse=True)
    assert found.projections[0].fqn == "7"  # made unfit for tiles
    for row in found.projections:
        for each in row.over_time:
            assert each.drop_pp == pytest.approx(100 * (found.digital - each.mean))
            assert each.change.mean == pytest.approx(each.mean - found.digital)
            assert each.drop_low_pp <= each.drop_pp <= each.drop_high_pp
            assert len(each.scores) == 3
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.model.state_dict().items())
    assert Profile.from_json(read_json(tmp_path / "p.json"), "p.json") == found
    lines = list(csv.DictReader(io.StringIO((tmp_path / "p.csv").read_text())))
    assert len(lines) == 6
    assert float(lines[0]["drop"]) == pytest.approx(drops[0])


def test_on_an_ideal_tile_nothing_is_lost():
    task = build_measured(PERPLEXITY)
    found = profile_layers(
        task, quadrants.make_settings().replace(tile=TileSpec.ideal()), times=[0.0], n_chips=2, n_samples=32
    )
    assert [row.over_time[0].change.mean for row in found.projections] == pytest.approx([0, 0, 0], abs=1e-4)


def test_a_stopped_profile_goes_on_to_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    task, out = build_measured(PERPLEXITY), tmp_path / "p.json"
    whole = profile(task)
    n_written = 0

    def stop(*args: Any) -> None:
        nonlocal n_written
        write_profile(*args)
        n_written += 1
        if n_written == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("lionheart.jobs.profile.write_profile", stop)
    with pytest.raises(KeyboardInterrupt):
        profile(task, out=out)
    half = Profile.from_json(read_json(out), str(out))
    assert (half.complete, len(half.projections)) == (False, 1)
    assert profile(task, out=out) == whole
    assert n_written == 1 + 2 + 1  # the first is not measured again, and the whole is written at the end
    with pytest.raises(ArtifactError, match="was measured with another value of 'n_chips'"):
        profile(task, out=out, n_chips=2)
    write_json(out, {"other": 1})
    with pytest.raises(ArtifactError, match="not a sensitivity profile"):
        profile(task, out=out)


def test_a_profile_of_version_1_is_read(tmp_path: Path):
    """It was refused: its tile had a version of its own, and what the scores mean was called a measure."""
    out = tmp_path / "p.json"
    found = profile(build_measured(ACCURACY), out=out)
    data = read_json(out)
    data["measure"] = data.pop("metric")
    data["tile"]["schema_version"] = 1
    write_json(out, data)
    assert profile(build_measured(ACCURACY), out=out) == found


def test_a_profile_needs_chips_and_times():
    task = build_measured(ACCURACY)
    with pytest.raises(ConfigError, match="n_chips: got 0"):
        profile(task, n_chips=0)
    with pytest.raises(ConfigError, match="times: got no duration"):
        profile(task, times=[])
