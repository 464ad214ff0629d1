"""After the search: cheaper corrections layer by layer, and the age up to which the bound is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from quadrants import build_task, make_settings
from torch import nn

from lionheart.analog import analog_layers, convert_to_analog_, drift_chip_, program_chip_, set_tiles_
from lionheart.devices import DeviceSpec, TileSpec
from lionheart.errors import ConfigError
from lionheart.jobs import evaluate_run, load_result, map_layers, resume_run
from lionheart.jobs.context import Context
from lionheart.jobs.post.compensation import AGES, find_refresh_interval, tune_compensation
from lionheart.mapping import LayerMapping, Placement
from lionheart.metrics import ACCURACY
from lionheart.progress import SILENT
from lionheart.report import report_run
from lionheart.runs import CompensationTrial, Drop, Journal, RunDirectory
from lionheart.units import parse_duration

pytestmark = pytest.mark.usefixtures("small_noise_pool")
RICH = {"column_calibration": "affine", "drift_compensation": "per_column", "input_range": "dynamic"}
LAYERS = tuple("abcdefg")


# ------------------------------------------------------------------------------------------------------- tiles of layers


def build() -> nn.Module:
    mapping = LayerMapping({"0": Placement.ANALOG, "2": Placement.ANALOG})
    return convert_to_analog_(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), mapping, TileSpec.pcm())


def test_one_layer_has_other_corrections():
    model = build()
    program_chip_(model, generator := torch.Generator().manual_seed(0))
    drift_chip_(model, 1.0, generator)
    cheaper = TileSpec.pcm(drift_compensation="none", input_range="dynamic")
    assert set_tiles_(model, {"2": cheaper}) is model
    layers = analog_layers(model)
    assert (layers["0"].tile, layers["2"].tile) == (TileSpec.pcm(), cheaper)
    assert (layers["0"].is_programmed, layers["2"].is_programmed) == (True, False)


@pytest.mark.parametrize(
    "tile", [TileSpec.pcm(rows=128), TileSpec.pcm(device=DeviceSpec.ideal()), TileSpec.pcm(input_range="learned")]
)
def test_crossbars_and_devices_do_not_change(tile: TileSpec):
    model = build()
    with pytest.raises(ConfigError, match="layer '2' differs .* expected changes in drift_compensation"):
        set_tiles_(model, {"0": TileSpec.pcm(drift_compensation="none"), "2": tile})
    assert analog_layers(model)["0"].tile == TileSpec.pcm()
    with pytest.raises(ConfigError, match="got '1', expected the name of an analog layer"):
        set_tiles_(model, {"1": tile})


# ------------------------------------------------------------------------------------------------------------ the search


class FakeProblem:
    """Needs the affine calibration in some layers and the per-column compensation in none; drops by age as told."""

    def __init__(self, needy: Sequence[str] = (), holds_until_s: float = 1e5, n_affordable: int = 10**6) -> None:
        self.needy, self.holds_until_s, self.n_affordable = needy, holds_until_s, n_affordable
        self.tiles: dict[str, TileSpec] = {}
        self.tried: list[Any] = []

    def use_tiles(self, tiles: dict[str, TileSpec]) -> None:
        self.tiles = dict(tiles)

    def measure_again(self, mapping: LayerMapping, path: Any, label: str, times: Sequence[float] | None = None) -> Drop:
        self.tried.append(path)
        if times is not None:
            drop = 0.5 if times[0] <= self.holds_until_s else 2.0
        else:
            drop = 0.5 + sum(self.tiles[fqn].column_calibration != "affine" for fqn in self.needy)
        return Drop(
            drop_pp=drop - 0.25,
            drop_ucb_pp=drop,
            chip_error_pp=0.1,
            sample_error_pp=0.1,
            confidence=None,
            chip_yield=None,
        )

    def is_out_of_budget(self) -> bool:
        return len(self.tried) >= self.n_affordable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


MAPPING = LayerMapping(dict.fromkeys(LAYERS, Placement.ANALOG))
GRAPH = SimpleNamespace(nodes=[SimpleNamespace(fqn=fqn, n_outputs=n) for n, fqn in enumerate(LAYERS)])


def make_context(path: Path, tile: TileSpec | None = None, **search: Any) -> Context:
    """Return the context of a job on a network that is only a graph."""
    search = {"tune_compensation": True, "refresh_interval": True, "max_drop_pp": 1.0, **search}
    settings = make_settings(search=search).replace(tile=tile or TileSpec.pcm(**RICH))
    return Context(SimpleNamespace(metric=ACCURACY), settings, GRAPH, (), Journal(path), SILENT)


def choose(problem: FakeProblem, path: Path, **options: Any) -> dict[str, dict[str, str]]:
    return tune_compensation(make_context(path, **options), problem, MAPPING)


def test_each_layer_gets_the_cheapest_that_is_enough(path: Path):
    problem = FakeProblem(needy=["b", "f"])
    found = choose(problem, path)
    poor = {"column_calibration": "none", "drift_compensation": "none", "input_range": "static"}
    needy = {"drift_compensation": "none", "input_range": "static"}
    assert found == {fqn: needy if fqn in "bf" else poor for fqn in LAYERS}
    assert problem.tiles["b"] == TileSpec.pcm(**{**RICH, **needy})
    assert next(iter(found)) == "g"  # most outputs first
    first = Journal(path).read("compensation 0", CompensationTrial)
    assert (first.setting, first.value, len(first.layers), first.accepted) == ("column_calibration", "none", 7, False)
    assert (first.drop_pp, first.drop_ucb_pp) == (2.25, 2.5)
    assert Journal(path).count("compensation") == len(problem.tried)


@pytest.mark.parametrize("cut", [0, 1, 3, 7])
def test_trials_made_before_a_stop_are_not_made_again(path: Path, cut: int):
    whole = FakeProblem(needy=["b", "f"])
    expected, n_all = choose(whole, path), len(whole.tried)
    lines = path.read_text().splitlines()
    assert len(lines) == n_all
    path.write_text("".join(f"{line}\n" for line in lines[:cut]))
    again = FakeProblem(needy=["b", "f"])
    assert choose(again, path) == expected
    assert again.tried == whole.tried[cut:]
    assert len(again.tried) == n_all - cut
    assert again.tiles == whole.tiles


def test_a_spent_budget_ends_it_with_what_is_known_to_be_enough(path: Path):
    """Past trials are replayed although the budget is spent."""
    problem = FakeProblem(needy=["b", "f"], n_affordable=2)
    found = choose(problem, path)
    assert len(problem.tried) == 2
    assert all(problem.tiles[fqn].column_calibration == "affine" for fqn in "bf")
    again = FakeProblem(needy=["b", "f"], n_affordable=0)
    assert choose(again, path) == found
    assert (again.tried, again.tiles) == ([], problem.tiles)


def test_nothing_cheaper_than_the_tile_is_nothing_to_choose(path: Path):
    problem = FakeProblem()
    assert choose(problem, path, tile=TileSpec.pcm(drift_compensation="none", input_range="learned")) == {}
    assert choose(problem, path, tune_compensation=False) == {}
    assert problem.tried == []


@pytest.mark.parametrize(
    ("holds_until", "expected"), [("1d", "1d"), ("10d", "7d"), ("1mo", "1mo"), ("20y", "10y"), ("1h", None)]
)
def test_the_age_up_to_which_the_bound_is_kept(path: Path, holds_until: str, expected: str | None):
    problem = FakeProblem(holds_until_s=parse_duration(holds_until))
    found = find_refresh_interval(make_context(path), problem, MAPPING)
    assert found.holds_until_s == (None if expected is None else parse_duration(expected))
    assert found.longest_s == parse_duration(AGES[-1])
    assert len(problem.tried) <= 4  # bisection over thirteen
    assert [row.age_s for row in found.measured] == sorted(row.age_s for row in found.measured)
    assert len(found.measured) == len(problem.tried)
    assert all(row.within == (row.age_s <= problem.holds_until_s) for row in found.measured)
    again = FakeProblem()
    assert find_refresh_interval(make_context(path), again, MAPPING) == found
    assert again.tried == []
    assert find_refresh_interval(make_context(path, refresh_interval=False), again, MAPPING) is None
    assert find_refresh_interval(make_context(path), again, LayerMapping({"a": Placement.DIGITAL})) is None


# -------------------------------------------------------------------------------------------------------------- in a run


def test_a_run_chooses_and_keeps_its_choice(tmp_path: Path):
    settings = make_settings(
        search={"tune_compensation": True, "refresh_interval": True, "max_drop_pp": 90.0, "strategy": "all-analog"},
        tile=RICH,
    )
    result = map_layers(build_task(), settings, run_dir=tmp_path / "run")
    results = result.results
    tiles = results.tiles
    assert set(tiles) == set(result.mapping.analog)
    assert all(
        row == {"column_calibration": "none", "drift_compensation": "none", "input_range": "static"}
        for row in tiles.values()
    )
    assert results.refresh.holds_until_s == results.refresh.longest_s
    loaded = load_result(build_task(), RunDirectory.open(result.run.path))
    assert {layer.tile.drift_compensation for layer in analog_layers(loaded.model).values()} == {"none"}
    search = settings.search
    evaluation = evaluate_run(
        build_task(),
        result.run.path,
        times=sorted({*search.report_times, search.t_inference}),
        n_chips=search.n_chips_final,
    )
    assert evaluation.accuracy_over_time == results.test_over_time
    assert resume_run(build_task(), result.run.path).results == results
    page = report_run(result.run.path).read_text()
    assert "fewer corrections than the tile" in page
    assert "Chips meet the bound" in page


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"search": {"tune_compensation": True}, "backend": "aihwkit"}, "tune_compensation"),
        ({"search": {"refresh_interval": True}, "tile": {"reprogram_after": 1e5}}, "reprogram_after"),
    ],
)
def test_what_cannot_be_combined(tmp_path: Path, changes: dict[str, Any], match: str):
    import lionheart.interop  # noqa: F401  makes its backends known

    if "backend" in changes:
        pytest.importorskip("aihwkit", reason="needs AIHWKIT")
    with pytest.raises(ConfigError, match=match):
        map_layers(build_task(), make_settings(**changes), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
