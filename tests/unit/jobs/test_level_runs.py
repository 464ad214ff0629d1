"""Whole runs of the strategies that choose read policies: their records, resumes, and what is loaded from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from quadrants import build_task, make_context, make_settings
from torch import nn

from lionheart.analog import analog_layers, convert_to_analog_
from lionheart.copies import copy_model
from lionheart.devices import ReadPolicy, TileSpec
from lionheart.errors import ConfigError
from lionheart.jobs import estimate_run, evaluate_run, load_result, map_layers, resume_run
from lionheart.jobs.problem import MappingProblem
from lionheart.mapping import LayerMapping, Placement
from lionheart.report import report_run
from lionheart.runs import RunDescription, RunDirectory

pytestmark = pytest.mark.usefixtures("small_noise_pool")
TWO = ReadPolicy(n_reads=2)


def make_level_settings(strategy: str = "levels-training-free", **search: object):
    return make_settings(search={"strategy": strategy, "max_drop_pp": 40.0, "levels": (TWO,), **search})


def test_a_run_keeps_its_policies(tmp_path: Path):
    task = build_task()
    found = map_layers(task, make_level_settings(), run_dir=tmp_path / "run")
    assert found.mapping.analog
    assert found.mapping.policies == dict.fromkeys(found.mapping.analog, TWO)
    assert all(layer.tile.n_reads == 2 for layer in analog_layers(found.model).values())
    again = load_result(build_task(), RunDirectory.open(tmp_path / "run"))
    assert again.mapping == found.mapping
    assert all(layer.tile.n_reads == 2 for layer in analog_layers(again.model).values())
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert stored["mapping"]["policies"][found.mapping.analog[0]]["n_reads"] == 2
    assert "2 reads" in report_run(tmp_path / "run").read_text()
    assert evaluate_run(task, tmp_path / "run", n_chips=2, times="1d").accuracy_over_time


def test_a_stopped_run_ends_as_an_unbroken_one(tmp_path: Path):
    levels = (ReadPolicy(), TWO, ReadPolicy(n_reads=4, row_copies=4))
    settings = make_level_settings("levels", levels=levels, max_drop_pp=3.0)
    whole = map_layers(build_task(), settings, run_dir=tmp_path / "whole")
    lines = (tmp_path / "whole" / "journal.jsonl").read_text().splitlines(keepends=True)
    cut = next(number for number, line in enumerate(lines) if '"levels"' in line) + 2
    map_layers(build_task(), settings, run_dir=tmp_path / "cut")
    for name in ("results.json", "weights.safetensors", "mapping.json", "report.html"):
        (tmp_path / "cut" / name).unlink(missing_ok=True)
    (tmp_path / "cut" / "journal.jsonl").write_text("".join(lines[:cut]))
    resumed = resume_run(build_task(), tmp_path / "cut")
    assert resumed.mapping == whole.mapping
    assert [each.policies for each in resumed.results.decisions] == [each.policies for each in whole.results.decisions]


def test_a_changed_policy_makes_the_layer_anew():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    weight = model[0].weight
    both = LayerMapping({"0": Placement.ANALOG, "2": Placement.ANALOG})
    convert_to_analog_(model, both.with_policies({"0": TWO}), TileSpec.pcm())
    first = analog_layers(model)
    assert (first["0"].tile.n_reads, first["2"].tile.n_reads) == (2, 1)
    convert_to_analog_(model, both.with_policies({"0": TWO, "2": TWO}), TileSpec.pcm())
    second = analog_layers(model)
    assert second["0"] is first["0"]
    assert second["2"] is not first["2"]
    assert second["2"].tile.n_reads == 2
    convert_to_analog_(model, both, TileSpec.pcm())
    assert analog_layers(model)["0"].tile.n_reads == 1
    assert model[0].weight is weight


def test_policies_of_one_attention_layer_may_differ():
    model = nn.ModuleDict({"a": nn.MultiheadAttention(8, 2, batch_first=True)})
    names = [f"a.in_proj.{each}" for each in "qkv"]
    mapping = LayerMapping(dict.fromkeys(names, Placement.ANALOG)).with_policies({names[0]: TWO})
    layers = analog_layers(convert_to_analog_(model, mapping, TileSpec.pcm()))
    assert {fqn: layer.tile.n_reads for fqn, layer in layers.items()} == dict(zip(names, (2, 1, 1), strict=True))
    kept = layers[names[1]]
    layers = analog_layers(convert_to_analog_(model, mapping.with_policies({names[0]: ReadPolicy()}), TileSpec.pcm()))
    assert [layers[name].tile.n_reads for name in names] == [1, 1, 1]
    assert layers[names[1]] is kept


def test_a_run_is_priced_with_its_policies(tmp_path: Path):
    """On a platform of which each read takes time, the same mapping with more reads takes longer."""
    times = []
    for level in (ReadPolicy(), ReadPolicy(n_reads=8)):
        settings = make_level_settings(levels=(level,), exclude=("7",)).replace(platforms=("alpine-high-power",))
        found = map_layers(build_task(), settings, run_dir=tmp_path / str(level.n_reads))
        assert found.mapping.analog == ("0", "3")
        [system] = found.results.system
        again = estimate_run(tmp_path / str(level.n_reads), ["alpine-high-power"])
        assert again[0].mapped.latency_s == system.mapped.latency_s
        times.append(system.mapped.latency_s)
    assert times[1] > times[0]


def test_a_search_for_time_prices_the_policies(tmp_path: Path):
    """Reads whose time exceeds what tiles save leave the projections digital."""
    settings = make_level_settings(levels=(ReadPolicy(n_reads=1024),), objective="time")
    found = map_layers(build_task(), settings.replace(platforms=("alpine-high-power",)), run_dir=tmp_path / "run")
    assert found.mapping.analog == ()


def test_a_backend_that_knows_no_policy_refuses_levels(tmp_path: Path):
    pytest.importorskip("aihwkit")
    import lionheart.interop  # noqa: F401  registers the backend

    settings = make_level_settings(levels=(ReadPolicy(row_copies=4),)).replace(backend="aihwkit")
    with pytest.raises(ConfigError, match="row_copies"):
        map_layers(build_task(), settings, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("input_range", ["sample", "dynamic"])
def test_a_policy_of_the_input_range_acts(input_range: str, tmp_path: Path):
    level = ReadPolicy(input_range=input_range)
    found = map_layers(build_task(), make_level_settings(levels=(level,)), run_dir=tmp_path / "run")
    assert found.mapping.analog
    assert {layer.tile.input_range for layer in analog_layers(found.model).values()} == {input_range}


def test_a_changed_input_range_is_followed():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    both = LayerMapping({"0": Placement.ANALOG, "2": Placement.ANALOG})
    for expected in ("static", "sample", "static"):
        level = ReadPolicy(input_range=expected)
        convert_to_analog_(model, both.with_policies({"0": level}), TileSpec.pcm())
        assert analog_layers(model)["0"].tile.input_range == expected


def test_corrections_after_the_search_keep_the_policy_of_each_mapping(tmp_path: Path):
    """A hold-out test may choose other policies after cheaper corrections were chosen."""
    settings = make_level_settings(levels=(TWO,))
    settings = settings.replace(tile=settings.tile.replace(column_calibration="affine", input_range="dynamic"))
    task, run = build_task(), RunDirectory.create(tmp_path / "run", RunDescription(task="x", seed=0, settings={}))
    problem = MappingProblem(make_context(task, settings), copy_model(task.model), run)
    both = LayerMapping({"0": Placement.ANALOG, "3": Placement.ANALOG, "7": Placement.DIGITAL})
    cheaper = settings.tile.replace(column_calibration="none", input_range="static")
    problem.use_tiles({"0": TWO.apply(cheaper), "3": TWO.apply(cheaper)})
    problem.restore(both.with_policies({"0": ReadPolicy(n_reads=8), "3": TWO}))
    layers = analog_layers(problem.model)
    assert {fqn: layer.tile.n_reads for fqn, layer in layers.items()} == {"0": 8, "3": 2}
    assert {layer.tile.column_calibration for layer in layers.values()} == {"none"}
    assert {layer.tile.input_range for layer in layers.values()} == {"static"}
