"""Tables of results: which rows there are, a row measured as the commands would, stopped and resumed, pages from data alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from benchmark_scripts import load_benchmark
from paths import ROOT

from lionheart.errors import ArtifactError, ConfigError
from lionheart.files import read_json, write_json
from lionheart.jobs import map_layers, read_settings
from lionheart.progress import SILENT
from lionheart.runs import RunDescription, RunDirectory
from lionheart.tasks import task_names

TASK = f"{ROOT}/tests/support/quadrants.py:build_task"
CONFIG = """
[search]
n_chips = 2
[tile]
rows = 32
cols = 32
output_noise = 0.9
"""
PLAN = """
[defaults]
bounds = [20, 21]
at = "1d"
preset = "quick"
chips = 3
times = ["1s", "1d", "1y"]
test_images = 64
time_images = 50
config = "{config}"
[[rows]]
task = "{task}"
"""


@pytest.fixture(scope="module")
def benchmarks() -> SimpleNamespace:
    modules = {name: load_benchmark(f"networks/results_{name}") for name in ("pages", "plan", "data", "rows")}
    return SimpleNamespace(main=load_benchmark("networks/results"), **modules)


def make_row(plan: ModuleType, **changes: Any) -> Any:
    return plan.Row(**{"task": "cifar10/resnet8", "bound": 1, "times": ["1s", "1d"], **changes})


# --------------------------------------------------------------------------------------------------------------- rows


def test_shipped_rows_and_published_numbers_fit_together(benchmarks: SimpleNamespace):
    rows = benchmarks.plan.read_plan(ROOT / "benchmarks/networks/results.toml")
    tasks = {row.task for row in rows}
    assert tasks <= set(task_names())
    for task in tasks:  # the paper's thresholds, times and chips
        plain = [row for row in rows if row.task == task and row.strategy == "training-free"]
        assert [row.bound for row in plain] == [0.5, 1, 3, 5, 10]
        assert {row.times for row in plain} == {(1.0, 3600.0, 86_400.0, 2_592_000.0, 31_536_000.0)}
        assert {row.chips for row in plain} == {20}
    printed = benchmarks.data.read_published(ROOT / "benchmarks/networks/published.toml").results
    assert {each.task for each in printed} == tasks


def test_a_row_says_its_name_and_its_search(benchmarks: SimpleNamespace):
    row = make_row(benchmarks.plan, bound=0.5, strategy="shared", seed=3, exclude=["*.depthwise"])
    assert (row.name, row.stem) == ("cifar10/resnet8@0.5:shared", "0.5-shared")
    assert row.map_command() == (
        "lionheart map cifar10/resnet8 --max-drop 0.5 --at 1d --preset robust --seed 3 "
        "--set search.strategy=shared --set 'search.exclude=*.depthwise' --set search.n_chips_final=20"
    )
    settings = row.settings()
    assert (settings.seed, settings.search.max_drop_pp, settings.search.exclude) == (3, 0.5, ("*.depthwise",))
    assert settings.tile.column_calibration == "affine"
    assert make_row(benchmarks.plan).name == "cifar10/resnet8@1"


def test_rows_are_chosen_by_name_or_network(benchmarks: SimpleNamespace):
    rows = [make_row(benchmarks.plan, task=task, bound=bound) for task in ("a/x", "b/x", "b/y") for bound in (1, 5)]

    def names(*args: Any) -> list[str]:
        return [row.name for row in benchmarks.plan.select_rows(rows, *args)]

    assert names() == ["a/x@1", "a/x@5", "b/x@1", "b/x@5", "b/y@1", "b/y@5"]
    assert names(["b/y@5", "a/x@1", "b/y@5"]) == ["b/y@5", "a/x@1"]
    assert names([], "y") == ["b/y@1", "b/y@5"]
    assert names([], "x") == ["a/x@1", "a/x@5", "b/x@1", "b/x@5"]
    assert names(["b/y@5", "a/x@1"], "a/x") == ["a/x@1"]


def test_an_unknown_row_or_network_is_named(benchmarks: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    rows = [make_row(benchmarks.plan)]
    with pytest.raises(ConfigError, match="row: got 'cifar10/resnet8@2'") as caught:
        benchmarks.plan.select_rows(rows, ["cifar10/resnet8@2"])
    assert "did you mean 'cifar10/resnet8@1'?" in caught.value.hint
    with pytest.raises(ConfigError, match="network: got 'resnet9'"):
        benchmarks.plan.select_rows(rows, [], "resnet9")
    monkeypatch.setattr(sys, "argv", ["results.py", "cifar10/resnet8@2"])
    with pytest.raises(SystemExit) as ended:
        benchmarks.main.main()
    assert ended.value.code == 2
    assert "row: got 'cifar10/resnet8@2'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[defaults]\n", "got no rows"),
        ("[other]\n[[rows]]\n", "got other"),
        ('[[rows]]\ntask = "a"\n', "bounds: got None"),
        ('[[rows]]\ntask = "a"\nbounds = []\ntimes = ["1s"]\n', r"bounds: got \[\]"),
        ('[[rows]]\ntask = "a"\nbounds = [1, 1]\ntimes = ["1s"]\n', "a@1: got two such rows"),
        ('[[rows]]\ntask = "a"\nbounds = [1]\ntimes = []\n', "Row.times"),
        ('[[rows]]\ntask = "a"\nbounds = [1]\ntimes = ["1s"]\nchip = 3\n', "Row.chip: unknown setting"),
        ('[[rows]]\ntask = "a"\nbounds = [1]\ntimes = ["1s"]\ntime_images = "some"\n', "Row.time_images"),
        ("[[rows]\n", "not readable as TOML"),
    ],
)
def test_a_faulty_plan_is_refused(text: str, error: str, benchmarks: SimpleNamespace, tmp_path: Path):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises((ConfigError, ArtifactError), match=error):
        benchmarks.plan.read_plan(path)


# -------------------------------------------------------------------------------------------------------------- pages


def make_data(row: Any, **changes: Any) -> dict[str, Any]:
    """Data of a row, by hand: 4 projections of which one is left out and one stays digital."""
    at = {"low": 0.86, "high": 0.88, "std": 0.005, "n_chips": 20}
    over_time = [
        {
            "t_inference": t,
            "mean": mean,
            **at,
            "n_samples": 1_000,
            "digital_accuracy": 0.89,
            "drop_pp": 100 * (0.89 - mean),
        }
        for t, mean in ((1.0, 0.88), (86_400.0, 0.87))
    ]
    cost = {"platform": "alpine-high-power", "speedup": 2.0, "energy_gain": 1.5, "n_tiles": 3}
    cost |= {"all_digital": {"latency_s": 2e-3, "energy_j": 3e-3}, "mapped": {"latency_s": 1e-3, "energy_j": 2e-3}}
    data = {
        "schema_version": 1,
        "name": row.name,
        "row": row.to_json(),
        "command": f"make results ROW={row.name}",
        "map_command": row.map_command(),
        "outcome": "mapped",
        "analog_mac_share": 0.8,
        "analog_mac_share_of_candidates": 0.9,
        "analog_weight_share": 0.7,
        "macs": 12_500_000,
        "n_projections": 4,
        "n_candidates": 3,
        "n_tiles": 3,
        "digital": ["fc"],
        "excluded": ["block.depthwise"],
        "baseline": {"validation_accuracy": 0.8778, "test_accuracy": 0.8793},
        "retrained_digital_accuracy": 0.8793,
        "n_steps": 0,
        "validation": {**over_time[1], "drop_pp": 0.93},
        "test": {**over_time[1], "n_samples": 10_000, "digital_accuracy": 0.8793, "drop_pp": 0.93},
        "test_over_time": over_time,
        "system": [cost],
        "search_s": 61.0,
        "figures_s": 3_600.0,
        "environment": {"lionheart": "0.1.0", "torch": "2.0", "cpu": "a processor", "threads": 1, "gpu": None},
    }
    return data | changes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Published numbers and a plan of two rows of one network and one of another."""
    (tmp_path / "plan.toml").write_text(
        '[defaults]\ntimes = ["1s", "1d"]\nbounds = [1]\n[[rows]]\ntask = "cifar10/resnet8"\nbounds = [1, 5]\n'
        'exclude = ["*.depthwise"]\n[[rows]]\ntask = "cifar10/alexnet"\n'
    )
    (tmp_path / "published.toml").write_text(
        '[sources]\nBook = "A book, page 7"\nOther = "unused"\n[[results]]\ntask = "cifar10/alexnet"\nsource = "Book"\n'
        'method = "theirs"\nfloat_accuracy = 91.29\n[[results]]\ntask = "cifar10/resnet8"\nsource = "Book"\nmethod = "greedy"\n'
        'float_accuracy = 90.5\nanalog_macs = 85.63\naccuracy = 88.25\nnote = "nearly"\n'
    )
    return tmp_path


def arguments(folder: Path, *rows: str, **changes: Any) -> argparse.Namespace:
    given: dict[str, Any] = {"rows": rows, "network": None, "again": False, "render": False, "device": None}
    given |= {name: folder / name for name in ("runs", "data", "pages")}
    given |= {name: folder / f"{name}.toml" for name in ("plan", "published")}
    return argparse.Namespace(**{**given, **changes})


def cells_of(page: str, start: str) -> list[list[str]]:
    """Return the cells of the lines of a page that begin so."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith(start)]


def test_pages_are_rendered_from_data_alone(benchmarks: SimpleNamespace, folder: Path):
    row = benchmarks.plan.read_plan(folder / "plan.toml")[0]
    write_json(benchmarks.data.data_path(folder / "data", row), make_data(row))
    assert benchmarks.main.run(arguments(folder, render=True), SILENT) == 0
    assert sorted(path.name for path in (folder / "pages").iterdir()) == ["README.md", "cifar10_resnet8.md"]
    page = (folder / "pages/cifar10_resnet8.md").read_text()
    mapping, over_time, cost, digital = cells_of(page, "| 1 |")
    assert mapping == [
        *("1", "training-free", "80.0 %", "90.0 %", "70.0 %", "2 of 3", "3", "0.93", "87.00 [86.00, 88.00]", "0.93"),
        *("20", "10,000", "", "0", "1 min 01 s", "1 h 00 min"),
    ]
    assert over_time == [
        *("1", "training-free", "89.00", "88.00 [86.00, 88.00], ± 0.50", "87.00 [86.00, 88.00], ± 0.50", "20", "1,000")
    ]
    assert cost[2:] == ["alpine-high-power", "1.00 ms", "2.00 ms", "2.00×", "2.00 mJ", "3.00 mJ", "1.50×"]
    assert digital == ["1", "training-free", "`fc`"]
    assert "Float: 87.78 % on validation, 87.93 % on test." in page
    assert "Not measured yet: `cifar10/resnet8@5`." in page
    assert "`make results ROW=cifar10/resnet8@1`" in page
    assert "| Book | greedy | 90.5 | 85.63 | 88.25 | 2.25 | nearly |" in page
    overview = (folder / "pages/README.md").read_text()
    name = "[cifar10/resnet8](cifar10_resnet8.md)"
    assert f"| {name} | here | training-free, bound 1 pp | 87.93 | 80.0 | 87.00 [86.00, 88.00] | 0.93 |" in overview
    assert "| cifar10/alexnet | Book | theirs | 91.29 | not printed | not printed |  |  |" in overview
    assert "| cifar10/alexnet | here |  |  |  |  |  | not measured yet |" in overview
    assert "A book, page 7" in overview
    assert "unused" not in overview


def test_a_retrained_row_shows_its_digital_accuracy(benchmarks: SimpleNamespace, folder: Path):
    row = make_row(benchmarks.plan, strategy="shared")
    data = make_data(row, n_steps=1_920, retrained_digital_accuracy=0.8653, digital=[], excluded=[])
    read = benchmarks.data.RowData.from_json(data, "row")
    page = benchmarks.pages.render_network("cifar10/resnet8", [read], [], benchmarks.data.Published(sources={}))
    mapping, *_, digital = cells_of(page, "| 1 |")
    assert mapping[-4:] == ["86.53", "1,920", "1 min 01 s", "1 h 00 min"]
    assert "90.0 %" not in mapping  # without exclusions the candidates are all projections
    assert digital[-1] == "none"


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"test": None}])
def test_damaged_data_are_named(change: dict[str, Any], benchmarks: SimpleNamespace, tmp_path: Path):
    data = make_data(make_row(benchmarks.plan)) | change
    write_json(tmp_path / "1.json", {key: value for key, value in data.items() if value is not None})
    with pytest.raises(ArtifactError, match=rf"1\.json\.{next(iter(change))}: ") as caught:
        benchmarks.data.read_row(tmp_path / "1.json")
    assert "AGAIN=1" in caught.value.hint


def test_a_published_number_has_a_source(benchmarks: SimpleNamespace, folder: Path):
    path = folder / "published.toml"
    path.write_text(path.read_text().replace('source = "Book"', 'source = "Rumour"', 1))
    with pytest.raises(ConfigError, match="cifar10/alexnet, theirs: got no known source"):
        benchmarks.data.read_published(path)


def test_shipped_pages_are_those_of_the_shipped_data(benchmarks: SimpleNamespace, tmp_path: Path):
    plan = benchmarks.plan.read_plan(ROOT / "benchmarks/networks/results.toml")
    shipped = ROOT / "docs/results"
    written = benchmarks.pages.render_pages(
        plan, shipped / "data", tmp_path, ROOT / "benchmarks/networks/published.toml"
    )
    for path in written:
        assert (shipped / "networks" / path.name).read_text() == path.read_text(), "run: make results RENDER=1"


def test_data_of_other_settings_are_measured_again(benchmarks: SimpleNamespace, folder: Path):
    rows = benchmarks.plan.read_plan(folder / "plan.toml")
    for row in rows[:2]:
        write_json(benchmarks.data.data_path(folder / "data", row), make_data(row))
    changed = [rows[0].replace(chips=5), *rows[1:]]
    assert benchmarks.main.find_missing(changed, folder / "data", SILENT) == [changed[0], rows[2]]


# ---------------------------------------------------------------------------------------------------------- measuring


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A plan of two bounds of a tiny task that lead to one mapping."""
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "plan.toml").write_text(PLAN.format(config=tmp_path / "config.toml", task=TASK))
    (tmp_path / "published.toml").write_text("results = []\n[sources]\n")
    return tmp_path


def data_of(folder: Path) -> list[dict[str, Any]]:
    return [read_json(path) for path in sorted((folder / "data").glob("*/*.json"))]


def timeless(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in ("search_s", "figures_s")}


@pytest.mark.usefixtures("small_noise_pool")
def test_rows_are_those_of_the_commands_and_share_work(
    benchmarks: SimpleNamespace, tiny: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append((kwargs["split"], kwargs["n_samples"], len(kwargs["times"])))
        return evaluate(*args, **kwargs)

    evaluate = benchmarks.rows.evaluate_run
    monkeypatch.setattr(benchmarks.rows, "evaluate_run", counted)
    assert benchmarks.main.run(arguments(tiny), SILENT) == 0
    first, second = data_of(tiny)
    assert [first["row"]["bound"], second["row"]["bound"]] == [20, 21]
    assert first["digital"] == second["digital"]
    assert len(first["digital"]) == 1
    assert calls == [("validation", None, 1), ("test", 50, 3), ("test", 64, 1)]  # once for both rows
    assert first["test_over_time"] == second["test_over_time"]
    measured = [
        next(event for event in RunDirectory.open(path).journal.events() if event["event"] == "sensitivity")
        for path in sorted((tiny / "runs").iterdir())
    ]
    assert "measured_in" not in measured[0]
    assert measured[1]["measured_in"].endswith("-20")

    # The same by map alone, whose own figures are of all test images.
    task = benchmarks.main.load_task(TASK, SILENT)
    search = {"max_drop_pp": 21, "strategy": "training-free", "n_chips_final": 3, "report_times": ["1d"]}
    mapped = map_layers(
        task, read_settings("quick", tiny / "config.toml", {"search": search}), run_dir=tiny / "alone"
    ).results
    assert second["analog_mac_share"] == mapped.analog_mac_share
    assert second["validation"]["mean"] == mapped.validation.mean
    assert second["validation"]["drop_pp"] == pytest.approx(mapped.validation_drop_pp)
    [first_run, _] = sorted((tiny / "runs").iterdir())
    everything = evaluate(task, first_run, times=[86_400.0], n_chips=3).accuracy_over_time
    assert [each.scores for each in everything] == [each.scores for each in mapped.test_over_time]
    assert [at["n_samples"] for at in second["test_over_time"]] == [50, 50, 50]
    assert second["test"]["n_samples"] == 64
    assert second["test"]["digital_accuracy"] == pytest.approx(
        float(benchmarks.rows.evaluate_accuracy(task.model, task.test.take(64), task.metric))
    )
    assert [each["platform"] for each in second["system"]] == ["alpine-high-power", "alpine-low-power"]

    calls.clear()
    assert benchmarks.main.run(arguments(tiny), SILENT) == 0  # all is done
    assert calls == []
    page = next(path for path in (tiny / "pages").iterdir() if path.name != "README.md").read_text()
    assert len(cells_of(page, "| 20 |")) == len(cells_of(page, "| 21 |")) == 5  # two platforms


@pytest.mark.usefixtures("small_noise_pool")
def test_a_stopped_row_goes_on_to_the_same(
    benchmarks: SimpleNamespace, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    row = f"{TASK}@20"
    assert benchmarks.main.run(arguments(tiny, row, runs=tiny / "whole", data=tiny / "unbroken"), SILENT) == 0
    [path] = (tiny / "unbroken").glob("*/*.json")
    expected, evaluate, resume = read_json(path), benchmarks.rows.evaluate_run, benchmarks.rows.resume_run
    calls: list[str] = []

    def stop(name: str, work: Any, at: int) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if calls.count(name) == at:
                raise KeyboardInterrupt
            return work(*args, **kwargs)

        return run

    argv = [f"--{name}={tiny / name}" for name in ("runs", "data", "pages")]
    argv += [f"--{name}={tiny / name}.toml" for name in ("plan", "published")]
    monkeypatch.setattr(sys, "argv", ["results.py", row, *argv])
    monkeypatch.setattr(benchmarks.rows, "resume_run", stop("search", resume, 1))
    monkeypatch.setattr(benchmarks.rows, "evaluate_run", stop("figures", evaluate, 2))
    codes = []
    for _ in range(3):
        with pytest.raises(SystemExit) as ended:
            benchmarks.main.main()
        codes.append(ended.value.code)
    assert codes == [130, 130, 0]
    assert "The same command continues." in capsys.readouterr().err
    assert calls == ["search", "search", "figures", "figures", "figures", "figures"]  # the first figures were kept
    assert timeless(data_of(tiny)[0]) == timeless(expected)

    again = arguments(tiny, row, again=True)
    assert benchmarks.main.run(again, SILENT) == 0
    assert timeless(data_of(tiny)[0]) == timeless(expected)
    assert [path.parent.parent.name for path in (tiny / "runs").glob("*/*/run.json")] == ["again"]
    [again_path] = (tiny / "data").glob("*/*.json")
    whole = benchmarks.data.read_row(path)
    assert "differ by 0 pp at most" in benchmarks.main.compare_rows(whole, benchmarks.data.read_row(again_path))
    assert benchmarks.main.compare_rows(whole, whole.replace(digital=("0",))).startswith("another mapping than before")


@pytest.mark.usefixtures("small_noise_pool")
def test_a_network_without_weights_does_not_stop_the_others(
    benchmarks: SimpleNamespace, tiny: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LIONHEART_CACHE", str(tiny / "cache"))
    plan = PLAN.format(config=tiny / "config.toml", task="cifar10/vgg16").replace("[20, 21]", "[20]")
    (tiny / "plan.toml").write_text(f'{plan}[[rows]]\ntask = "{TASK}"\n')
    notes: list[str] = []
    progress = SimpleNamespace(note=notes.append, bar=SILENT.bar)
    assert benchmarks.main.run(arguments(tiny), progress) == 2
    assert [data["row"]["task"] for data in data_of(tiny)] == [TASK]
    assert notes[-1].startswith(
        "error: not measured: cifar10/vgg16: cifar10/vgg16: the package contains no trained weights"
    )


def test_a_run_of_other_settings_is_not_gone_on_with(benchmarks: SimpleNamespace, tiny: Path):
    row = benchmarks.plan.read_plan(tiny / "plan.toml")[0]
    task = benchmarks.main.load_task(TASK, SILENT)
    path = tiny / "runs" / f"{benchmarks.plan.slug(TASK)}-20"
    RunDirectory.create(path, RunDescription(task=TASK, seed=1, settings=row.replace(seed=1).settings().to_json()))
    with pytest.raises(ArtifactError, match="a run with other settings than row"):
        benchmarks.rows.Bench(task, tiny / "runs", SILENT).measure(row)
