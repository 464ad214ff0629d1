"""Devices that are known at some times only: defaults are limited to these times, other times are refused before a run exists.

`reram_wan2022`, known at 1 s, 1 day and 2 days, could not be used with the defaults: training noise asked for 80 s, or the
whole search ran and the final figures failed at one hour. A device measured for less than a year failed in the same way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from quadrants import build_task
from torch import nn

import lionheart
from lionheart.devices import DeviceSpec, ReadTimes, TileSpec
from lionheart.errors import ConfigError
from lionheart.experimental.pareto.job import find_pareto_front
from lionheart.jobs import MapSettings, evaluate_run, map_layers, profile_layers, resume_run
from lionheart.jobs.times import fit_times
from lionheart.progress import SilentProgress

pytestmark = pytest.mark.usefixtures("small_noise_pool")

HOUR, DAY = 3600.0, 86_400.0
WAN = DeviceSpec.reram_wan2022()


def samples(*times: float) -> DeviceSpec:
    """A device that was measured at the given times [s]."""
    quantiles = [[[g * 0.98, g, g * 1.02] for _ in times] for g in (0.0, 25.0)]
    return DeviceSpec(
        technology="samples", g_min=0.0, g_max=25.0, targets=(0.0, 25.0), times=times, quantiles=quantiles
    )


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def settings(device: DeviceSpec, search: dict[str, Any] | None = None, **changes: Any) -> MapSettings:
    """Settings of which all times are defaults."""
    return MapSettings.preset(
        max_drop_pp=50,
        tile={"rows": 32, "cols": 32, "device": device, **changes.pop("tile", {})},
        train={"max_epochs": 1, "steps_per_epoch": 3},
        platforms=(),
        **{"n_chips": 2, "n_chips_final": 2, "include": ("7",), **(search or {})},
        **changes,
    )


@pytest.mark.parametrize(
    ("device", "times"),
    [
        (WAN, [1.0, DAY]),
        (samples(1.0, DAY), [1.0, HOUR, DAY]),
        (samples(10.0, 2 * DAY), [1.0, HOUR, DAY]),
        (DeviceSpec.pcm(), [1.0, HOUR, DAY, 30 * DAY, 365 * DAY]),
    ],
)
def test_a_whole_run_with_default_times(device: DeviceSpec, times: list[float], tmp_path: Path):
    progress = Notes()
    result = map_layers(build_task(), settings(device), run_dir=tmp_path / "run", progress=progress)
    assert [point.t_inference for point in result.results.test_over_time] == times
    said = [note for note in progress.notes if "is known for" in note]
    assert len(said) == (len(times) < 5)
    assert ["limited_times"] * len(said) == [
        each.code for each in result.results.summary.cautions if each.code == "limited_times"
    ]
    progress.notes.clear()
    again = evaluate_run(build_task(), tmp_path / "run", n_chips=1, n_samples=16, progress=progress)
    assert [point.t_inference for point in again.accuracy_over_time] == times
    assert len([note for note in progress.notes if "are left out" in note]) == (len(times) < 5)
    (tmp_path / "run" / "results.json").unlink()
    resumed = resume_run(build_task(), tmp_path / "run").results  # its settings state all times, as if they were given
    assert [point.t_inference for point in resumed.test_over_time] == times


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        (settings(WAN, {"report_times": (1.0, HOUR)}), "search.report_times: got 1h"),
        (settings(WAN, {"report_times": (1.0, HOUR, DAY, 2_592_000.0, 31_536_000.0)}), "got 1h, 1mo, 1y"),
        (settings(WAN, {"t_inference": HOUR}), "search.t_inference: got 1h"),
        (settings(WAN, {"lifetime": DAY}), "search.lifetime: got 10s"),
        (settings(WAN, tile={"reprogram_after": DAY}), "search.t_inference: got 1d .chips reprogrammed every 1d"),
        (settings(samples(1.0, DAY), {"report_times": (2 * DAY,)}), "search.report_times: got 2d"),
        (settings(samples(1.0, HOUR)), "search.t_inference: got 1d"),
        (settings(samples(1.0, DAY), tile={"hwa": {"t_longest": 7 * DAY}}), "tile.hwa.t_longest: got 7d"),
    ],
)
def test_other_times_are_refused_before_a_folder_exists(chosen: MapSettings, name: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=name):
        map_layers(build_task(), chosen, run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_default_ages_of_training_are_limited():
    fitted, notes = fit_times(settings(samples(1.0, HOUR), {"t_inference": HOUR}))
    assert fitted.tile.hwa.t_longest == HOUR
    assert fitted.search.report_times == (1.0, HOUR)
    assert len(notes) == 2
    assert fit_times(MapSettings.from_json(fitted.to_json()), stored=True)[0] == fitted
    assert fit_times(settings(DeviceSpec.pcm())) == (settings(DeviceSpec.pcm()), [])


def test_a_copy_of_settings_still_knows_which_times_were_given():
    default = settings(WAN).replace(seed=3)
    default = default.replace(search=default.search.replace(n_chips=3))
    assert fit_times(default)[0].search.report_times == (1.0, DAY)
    given = default.replace(search=default.search.replace(report_times=(HOUR,)))
    with pytest.raises(ConfigError, match="report_times"):
        fit_times(given.replace(seed=4))


def test_a_chip_that_is_reprogrammed_is_never_older_than_its_interval():
    fitted, _ = fit_times(settings(samples(1.0, DAY), tile={"reprogram_after": DAY}))
    assert len(fitted.search.report_times) == 5


def test_a_profile_and_a_front(tmp_path: Path):
    chosen, task, progress = settings(samples(1.0, HOUR)), build_task(), Notes()
    profile = profile_layers(task, chosen, n_chips=1, n_samples=16, progress=progress)
    assert profile.times == (HOUR,)
    assert len(progress.notes) == 1
    with pytest.raises(ConfigError, match="times: got 1d"):
        profile_layers(task, chosen, times="1d")
    assert profile_layers(task, settings(WAN), n_chips=1, n_samples=16).times == (DAY,)
    with pytest.raises(ConfigError, match="search.t_inference: got 1d"):
        find_pareto_front(task, chosen, run_dir=tmp_path / "front")
    assert list(tmp_path.iterdir()) == []


def test_times_of_evaluate_run_are_checked(tmp_path: Path):
    task = build_task()
    map_layers(task, settings(WAN), run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match="times: got 1h, expected times at which the device 'reram_wan2022' is known"):
        evaluate_run(task, tmp_path / "run", times=["1s", "1h"])


def test_a_model_in_python(tmp_path: Path):
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    data = [(torch.randn(16, 8, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3)]
    lionheart.convert_to_analog_(model, TileSpec(device=samples(1.0, HOUR)), ["0"])
    lionheart.calibrate_(model, data)
    found = lionheart.evaluate(model, data, n_chips=1)
    assert [point.t_inference for point in found.accuracy_over_time] == [1.0]
    with pytest.raises(ConfigError, match="evaluate: times: got 1d"):
        lionheart.evaluate(model, data, ["1s", "1d"], n_chips=1)
    lionheart.program_(model)
    before = model(data[0][0])
    with pytest.raises(ConfigError, match="drift_: t_inference: got 2h"):
        lionheart.drift_(model, "2h")
    assert model[0].is_programmed
    assert before.shape == model(data[0][0]).shape


def test_the_first_read_is_at_a_known_time():
    model = nn.Sequential(nn.Linear(8, 6)).eval()
    device = WAN.replace(times=(60.0, DAY), noise=WAN.noise[:2])
    lionheart.convert_to_analog_(model, device)
    lionheart.calibrate_(model, [(torch.ones(2, 8), torch.zeros(2))])
    assert lionheart.program_(model).t_inference == 60.0


def test_training_draws_only_known_ages():
    model = nn.Sequential(nn.Linear(8, 6))
    tile = TileSpec(device=WAN, hwa={"weight_noise_kind": "device"})
    lionheart.convert_to_analog_(model, tile)
    lionheart.calibrate_(model, [(torch.ones(2, 8), torch.zeros(2))])
    for _ in range(8):  # before: "got t_inference=80.1 s"
        model.train()(torch.ones(2, 8))


def test_known_times():
    wan, short, free = WAN.read_times, ReadTimes(HOUR), ReadTimes()
    assert [t in wan for t in (1.0, 2.0, DAY)] == [True, False, True]
    assert [wan.find_nearest(t) for t in (0.0, 80.0, HOUR, 1e9)] == [1.0, 1.0, DAY, 2 * DAY]
    assert wan.find_nearest(1e9, at_most=HOUR) == 1.0
    assert (short.find_nearest(DAY), free.find_nearest(DAY), DAY in free) == (HOUR, DAY, True)
    assert [str(each) for each in (wan, short, free)] == ["1s, 1d, 2d", "at most 1h", "any time"]
