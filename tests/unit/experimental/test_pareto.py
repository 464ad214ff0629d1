"""The front of accuracy against cost: the true one where trials suffice, the same for a seed, and after any kill or Ctrl-C."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from paths import SUPPORT
from quadrants import build_task, make_settings
from typer.testing import CliRunner, Result

import lionheart.experimental.pareto.work
from lionheart.cli import app
from lionheart.errors import ArtifactError, ConfigError
from lionheart.experimental.pareto.files import read_front
from lionheart.experimental.pareto.front import best_within, nested_prefixes, non_dominated
from lionheart.experimental.pareto.job import find_pareto_front, resume_pareto_front
from lionheart.experimental.pareto.page import report_front
from lionheart.experimental.pareto.records import FrontResults, MeasuredMapping
from lionheart.experimental.pareto.search import FrontProblem, hide_password, open_storage, search_front
from lionheart.files import read_json
from lionheart.graph import LayerGraph
from lionheart.jobs import evaluate_run, map_layers, resume_run
from lionheart.mapping import LayerMapping, Placement
from lionheart.rng import RandomStreams
from lionheart.runs import Accuracy, RunDescription, RunDirectory
from lionheart.system import estimate_system, load_platform

pytestmark = pytest.mark.usefixtures("small_noise_pool")

NAMES = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
COSTS = dict(zip(NAMES, (8.0, 5.0, 5.0, 3.0, 7.0, 1.0, 2.0, 6.0, 4.0, 9.0), strict=True))  # of a digital projection
DAMAGES = dict(zip(NAMES, (0.02, 0.03, 0.01, 0.005, 0.3, 0.0, 0.04, 0.02, 0.11, 0.01), strict=True))


def make_accuracy(mean: float) -> Accuracy:
    """Return what one made-up chip would give."""
    return Accuracy(t_inference=1.0, mean=mean, low=mean, high=mean, std=0.0, n_chips=1, scores=(mean,))


def make_measured(number: int, mapping: LayerMapping, mean: float, cost: float) -> MeasuredMapping:
    return MeasuredMapping(number=number, mapping=mapping, accuracy=make_accuracy(mean), cost=cost, elapsed_s=0.0)


class KilledError(BaseException):
    """Stands for a kill: nothing in the library may catch it."""


class Net:
    """A made-up network whose accuracy is a product, so damages do not simply add up; it counts and can be killed."""

    def __init__(self, n: int, kill_at: int | None = None, stop: type[BaseException] = KilledError) -> None:
        self.names, self.kill_at, self.stop = NAMES[:n], kill_at, stop
        self.start = LayerMapping(dict.fromkeys(self.names, Placement.DIGITAL))
        self.evaluated: list[tuple[str, ...]] = []
        self.kept: list[MeasuredMapping] = []

    def evaluate(self, mapping: LayerMapping) -> Accuracy:
        if len(self.kept) == self.kill_at:
            raise self.stop
        self.evaluated.append(mapping.analog)
        mean = 0.9
        for name in mapping.analog:
            mean *= 1 - DAMAGES[name]
        return make_accuracy(mean * (0.9 if {"a", "c"} <= set(mapping.analog) else 1.0))

    def cost(self, mapping: LayerMapping) -> float:
        return sum(COSTS[name] for name in self.names if not mapping.is_analog(name))

    def measure_all(self) -> list[MeasuredMapping]:
        choices = [
            LayerMapping(dict(zip(self.names, places, strict=True)))
            for places in itertools.product(Placement, repeat=len(self.names))
        ]
        return [make_measured(i, m, self.evaluate(m).mean, self.cost(m)) for i, m in enumerate(choices)]

    def search(self, url: str, n_trials: int, *, seed: int = 0, past: tuple[MeasuredMapping, ...] = ()) -> list[Any]:
        order = sorted(self.names, key=lambda name: DAMAGES[name] / COSTS[name])
        seeds = [
            LayerMapping({n: Placement.ANALOG if n in prefix else Placement.DIGITAL for n in self.names})
            for prefix in nested_prefixes(order, max(2, n_trials // 2))
        ]
        with open_storage(url) as storage:
            problem = FrontProblem(
                candidates=self.names,
                start=self.start,
                evaluate=self.evaluate,
                cost=self.cost,
                keep=self.kept.append,
                seeds=seeds,
                n_trials=n_trials,
            )
            return search_front(problem, streams=RandomStreams(seed), storage=storage, study_name="study", past=past)


def asked(measured: list[MeasuredMapping] | tuple[MeasuredMapping, ...]) -> list[tuple[Any, ...]]:
    return [(each.number, each.mapping.analog, each.mean, each.cost) for each in measured]


IN_MEMORY = "sqlite:///:memory:"


def in_file(folder: Path, name: str = "study.db") -> str:
    return f"sqlite:///{folder / name}"


# ----------------------------------------------------------------------------------------------------------- the front


def beats(one: MeasuredMapping, other: MeasuredMapping) -> bool:
    """Return whether one dominates the other, by the definition."""
    as_good = one.mean >= other.mean and one.cost <= other.cost
    return as_good and (one.mean > other.mean or one.cost < other.cost)


@pytest.mark.parametrize("n", [1, 4, 6])
def test_the_front_is_what_nothing_beats(n: int):
    measured = Net(n).measure_all()
    expected = {m.number for m in measured if not any(beats(other, m) for other in measured)}
    front = non_dominated(measured)
    assert {m.number for m in front} == expected
    assert [m.cost for m in front] == sorted(m.cost for m in front)


def test_equal_mappings_are_both_on_the_front():
    start = Net(1).start
    rows = [make_measured(i, start, mean, 1.0) for i, mean in enumerate((0.5, 0.7, 0.7))]
    assert [m.number for m in non_dominated(rows)] == [1, 2]
    assert non_dominated([]) == []


def test_the_best_within_a_bound():
    start = Net(1).start
    pairs = [(0.90, 9.0), (0.89, 5.0), (0.88, 3.0), (0.60, 1.0)]
    rows = [make_measured(i, start, mean, cost) for i, (mean, cost) in enumerate(pairs)]
    found = [best_within(rows, 0.90, bound) for bound in (0.5, 1.0, 2.5, 90.0)]
    assert [each.number for each in found if each] == [0, 1, 2, 3]  # a drop of exactly the bound is within it
    assert best_within(rows[3:], 0.90, 5.0) is None


@pytest.mark.parametrize(
    ("most", "lengths"), [(1, [0]), (2, [0, 4]), (3, [0, 2, 4]), (5, [0, 1, 2, 3, 4]), (50, [0, 1, 2, 3, 4])]
)
def test_prefixes(most: int, lengths: list[int]):
    assert [len(prefix) for prefix in nested_prefixes("abcd", most)] == lengths


# ---------------------------------------------------------------------------------------------------------- the search


def test_all_mappings_of_a_small_network_are_found():
    net = Net(4)
    found = net.search(IN_MEMORY, 1_000)
    assert len(net.evaluated) == len(set(net.evaluated)) == len(found) == 16  # none twice
    expected = {m.mapping.analog for m in non_dominated(Net(4).measure_all())}
    assert {m.mapping.analog for m in non_dominated(found)} == expected


def test_seeds_come_first_and_are_the_parents():
    net = Net(10)
    found = net.search(IN_MEMORY, 60)
    order = sorted(net.names, key=lambda name: DAMAGES[name] / COSTS[name])
    assert [set(m.mapping.analog) for m in found[:11]] == [set(order[:length]) for length in range(11)]
    assert len(found) == 60
    # children of good parents, not random mappings: 60 of 1024 find nearly the whole true front
    truth = non_dominated(Net(10).measure_all())
    near = [any(m.cost <= t.cost and m.mean >= t.mean - 0.01 for m in found) for t in truth if t.mean > 0.75]
    assert sum(near) >= 0.8 * len(near)


def test_the_seed_decides():
    runs = [Net(6).search(IN_MEMORY, 20, seed=seed) for seed in (3, 3, 4)]
    assert asked(runs[0]) == asked(runs[1])
    assert asked(runs[0]) != asked(runs[2])


@pytest.mark.parametrize("lost", [False, True], ids=["study kept", "study lost"])
@pytest.mark.parametrize("stop", [KilledError, KeyboardInterrupt])
def test_stopped_and_resumed_asks_for_the_same(lost: bool, stop: type[BaseException], tmp_path: Path):
    unbroken = Net(5).search(IN_MEMORY, 20)
    past: list[MeasuredMapping] = []
    for number, kill_at in enumerate((0, 2, 5, 8)):
        net = Net(5, kill_at, stop)
        with pytest.raises(stop):
            net.search(in_file(tmp_path, f"{number}.db" if lost else "killed.db"), 20, past=tuple(past))
        past += net.kept
    net = Net(5)
    url = IN_MEMORY if lost else in_file(tmp_path, "killed.db")
    assert asked(net.search(url, 20, past=tuple(past))) == asked(unbroken)
    assert len(past) + len(net.evaluated) == 20


@pytest.mark.parametrize(
    "method", ["_set_trial_param", "set_trial_state_values", "_create_new_trial", "set_trial_system_attr"]
)
def test_killed_inside_optuna(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Between any two writes of the storage: also half-enqueued seeds and half-drawn trials are taken up again."""
    from optuna.storages import RDBStorage

    unbroken = Net(3).search(IN_MEMORY, 8)
    real, url = getattr(RDBStorage, method), in_file(tmp_path)
    past: list[MeasuredMapping] = []
    kills = 0
    for allowed in itertools.cycle((7, 2, 11)):
        calls = itertools.count()

        def watched(*args: Any, calls: Any = calls, allowed: int = allowed, **kwargs: Any) -> Any:
            if next(calls) >= allowed:
                raise KilledError
            return real(*args, **kwargs)

        net = Net(3)
        with monkeypatch.context() as patch:
            patch.setattr(RDBStorage, method, watched)
            try:
                found = net.search(url, 8, past=tuple(past))
                break
            except KilledError:
                kills += 1
        past += net.kept
        assert kills < 100
    assert kills
    assert asked(found) == asked(unbroken)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "Could not parse"),
        ("nosuch://host/base", "nosuch"),
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
    ],
)
def test_a_bad_storage(url: str, message: str):
    with pytest.raises(ConfigError, match="storage: .* cannot be opened") as caught, open_storage(url):
        pass
    assert message in caught.value.message
    assert caught.value.hint


def test_passwords_are_hidden():
    assert hide_password("--storage postgresql://me:s3cr:et@host/base --x 1") == (
        "--storage postgresql://me:***@host/base --x 1"
    )
    assert hide_password("postgresql://host/b?user=me&password=s3cret") == "postgresql://host/b?user=me&password=***"
    assert hide_password("sqlite:////tmp/a.db") == "sqlite:////tmp/a.db"


# ------------------------------------------------------------------------------------------------------------- the job

BOUNDS = {"pareto": {"n_trials": 30, "bounds_pp": [0.5, 2.0, 90.0]}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 8 mappings of the quadrants network; tests must leave the folder as it is."""
    path = tmp_path_factory.mktemp("pareto") / "run"
    find_pareto_front(build_task(), make_settings(**BOUNDS), run_dir=path)
    return path


def timeless(data: Any) -> Any:
    """Return plain data without what a clock measured."""
    if isinstance(data, FrontResults):
        return timeless(data.to_json())
    if isinstance(data, Mapping):
        return {key: timeless(value) for key, value in data.items() if key != "elapsed_s"}
    return [timeless(item) for item in data] if isinstance(data, list) else data


def read(path: Path) -> FrontResults:
    return read_front(RunDirectory(path))


def test_the_results(finished: Path):
    results = read(finished)
    rows = results.rows
    assert results.complete
    assert len(rows) == len(results.mappings) == 8
    by_cost = sorted(rows.values(), key=lambda row: row.cost)
    assert results.front == tuple(row.number for row in by_cost if row.on_front)
    everything, nothing = (next(row for row in rows.values() if row.n_analog == n) for n in (3, 0))
    assert nothing.drop_pp == 0.0
    assert nothing.cost == 23_552  # MACs, see test_workflow
    assert everything.cost == 0
    assert (everything.analog_mac_share, everything.n_tiles) == (1.0, 1 + 3 + 4)
    for row in rows.values():
        assert row.accuracy.t_inference == 86_400.0
        assert row.cost == pytest.approx((1 - row.analog_mac_share) * 23_552)
        assert row.drop_pp == pytest.approx(100 * (results.baseline.decision - row.accuracy.mean))
        assert (row.fresh is not None) == row.on_front  # measured again, once
        assert row.latency_s > 0
        assert row.energy_j > 0
        beaten = [
            other
            for other in rows.values()
            if other.cost <= row.cost
            and other.drop_pp <= row.drop_pp
            and (other.cost, other.drop_pp) != (row.cost, row.drop_pp)
        ]
        assert row.on_front == (not beaten)
    assert everything.fresh.accuracy.scores != everything.accuracy.scores
    events = [entry["event"] for entry in RunDirectory(finished).journal.events()]
    measured = [name for name in events if name.startswith("measured")]
    fresh = [name for name in events if name.startswith("fresh")]
    assert (len(set(measured)), len(set(fresh))) == (8, len(results.front))
    assert len(events) == len(set(events))  # nothing twice
    assert events[-1] == "finished"


def test_a_mapping_for_each_bound(finished: Path):
    results = read(finished)
    rows = results.rows
    assert [bound.file for bound in results.bounds] == [f"mapping-{b}pp.json" for b in ("0.5", "2", "90")]
    for bound in results.bounds:
        row = rows[bound.number]
        assert LayerMapping.load(finished / bound.file) == row.mapping
        assert row.drop_pp <= bound.max_drop_pp
        assert row.fresh.drop_pp <= bound.max_drop_pp
        assert bound.is_confirmed
        within = [other for other in rows.values() if other.drop_pp <= bound.max_drop_pp]
        assert rows[bound.first_choice].cost == min(other.cost for other in within)
        confirmed = [other for other in within if other.on_front and other.fresh.drop_pp <= bound.max_drop_pp]
        assert row.cost == min(other.cost for other in confirmed)
    assert results.bounds[2].number == results.front[0]


def test_a_bound_needs_both_measurements(finished: Path, tmp_path: Path):
    """The first choice falls through on fresh chips: the next member of the front takes its place."""
    shutil.copytree(finished, tmp_path / "run")
    whole = read(finished)
    chosen = whole.bounds[2].number
    key = f"fresh {','.join(whole.rows[chosen].mapping.analog)}"
    events = [json.loads(line) for line in (finished / "journal.jsonl").read_text().splitlines()]
    lines = [json.dumps(spoil(event, key)) for event in events if event["event"] != "finished"]
    (tmp_path / "run" / "journal.jsonl").write_text("\n".join(lines) + "\n")
    bound = resume_pareto_front(build_task(), tmp_path / "run").results.bounds[2]
    assert bound.first_choice == chosen
    assert bound.number == whole.front[1]
    assert bound.is_confirmed


def spoil(event: dict[str, Any], key: str) -> dict[str, Any]:
    """Return an event, that of `key` with a mean of zero."""
    return {**event, "value": {**event["value"], "mean": 0.0}} if event["event"] == key else event


def test_a_front_of_version_1_opens(finished: Path, tmp_path: Path):
    shutil.copytree(finished, tmp_path / "run")
    path, whole = tmp_path / "run" / "pareto.json", read(finished)
    data = read_json(path)
    data |= {"schema_version": 1, "measure": data.pop("metric")}
    for row in data["mappings"]:
        if row["fresh"] is not None:
            row["fresh"] = {**row["fresh"]["accuracy"], "drop_pp": row["fresh"]["drop_pp"]}
    path.write_text(json.dumps(data))
    assert read(tmp_path / "run") == whole
    page = (finished / "pareto.html") if (finished / "pareto.html").exists() else report_front(finished)
    assert report_front(tmp_path / "run").read_text() == page.read_text()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"front": [77]}, "'front' or 'bounds' contains trial 77"),
        ({"mappings": 3}, r"mappings: got 3, expected a list"),
        ({"objective": "speed"}, "objective: got 'speed'"),
        ({"schema_version": 9}, "schema_version: got 9"),
    ],
)
def test_a_damaged_front(damage: dict[str, Any], message: str, finished: Path, tmp_path: Path):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "pareto.json"
    path.write_text(json.dumps(read_json(path) | damage))
    with pytest.raises(ArtifactError, match=message):
        report_front(tmp_path / "run")


@pytest.mark.parametrize(("objective", "key"), [("time", "latency_s"), ("energy", "energy_j")])
def test_time_and_energy(objective: str, key: str, tmp_path: Path):
    settings = make_settings(pareto={"objective": objective}, platforms=("alpine-low-power",))
    result = find_pareto_front(build_task(), settings, run_dir=tmp_path / "run")
    for row in result.results.mappings:
        assert row.cost == getattr(row, key)
    graph = RunDirectory(tmp_path / "run").read("graph.json", LayerGraph)
    digital = next(row for row in result.results.mappings if row.n_analog == 0)
    estimate = estimate_system(graph, LayerMapping.all_digital(graph), load_platform("alpine-low-power"))
    assert getattr(digital, key) == getattr(estimate.all_digital, key)
    found = result.mapping_within(5.0)
    assert found is not None
    assert found == LayerMapping.load(tmp_path / "run" / "mapping-5pp.json")
    with pytest.raises(ConfigError, match="got 3 pp"):
        result.mapping_within(3.0)


def test_time_without_a_platform(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"pareto\.objective: got 'time', which needs a platform"):
        find_pareto_front(
            build_task(), make_settings(pareto={"objective": "time"}, platforms=()), run_dir=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()
    result = find_pareto_front(
        build_task(), make_settings(pareto={"n_trials": 2}, platforms=()), run_dir=tmp_path / "run"
    )
    assert [row.energy_j for row in result.results.mappings] == [None, None]
    assert report_front(tmp_path / "run").exists()


class Stopper:
    """Raises in the middle of the n-th measurement over chips, that of the sensitivity not counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_at: int, stop: type[BaseException]) -> None:
        real = lionheart.experimental.pareto.work.evaluate_over_chips
        self.n_calls = 0

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.n_calls += 1
            found = real(*args, **kwargs)
            if self.n_calls == stop_at:
                raise stop
            return found

        monkeypatch.setattr(lionheart.experimental.pareto.work, "evaluate_over_chips", watched)


@pytest.mark.parametrize("stop_at", [1, 4, 9])
def test_killed_and_resumed_is_the_same(stop_at: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        Stopper(patch, stop_at, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            find_pareto_front(build_task(), make_settings(**BOUNDS), run_dir=tmp_path / "run")
    partial = read(tmp_path / "run")
    assert not partial.complete
    assert len(partial.mappings) == min(stop_at - 1, 8)
    for bound in partial.bounds:
        assert (bound.file is None) == (stop_at == 1)
        assert bound.file is None or bound.is_confirmed or stop_at < 10
    with monkeypatch.context() as patch:
        counter = Stopper(patch, 10**6, KeyboardInterrupt)
        resumed = resume_pareto_front(build_task(), tmp_path / "run")
    whole = read(finished)
    assert timeless(resumed.results) == timeless(whole)
    assert counter.n_calls == 8 + len(whole.front) - (stop_at - 1)  # nothing is measured again


def test_a_finished_run_is_loaded(finished: Path, monkeypatch: pytest.MonkeyPatch):
    counter = Stopper(monkeypatch, 1, KilledError)
    assert resume_pareto_front(build_task(), finished).results == read(finished)
    assert counter.n_calls == 0


def test_another_verbs_run(finished: Path, tmp_path: Path):
    for work in (
        lambda: resume_run(build_task(), finished),
        lambda: evaluate_run(build_task(), finished, times=[1.0]),
    ):
        with pytest.raises(ArtifactError, match="a run of `lionheart pareto`, expected a run of `lionheart map`"):
            work()
    map_layers(build_task(), make_settings(search={"strategy": "all-digital"}), run_dir=tmp_path / "mapped")
    with pytest.raises(ArtifactError, match="a run of `lionheart map`, expected a run of `lionheart pareto`"):
        resume_pareto_front(build_task(), tmp_path / "mapped")


def test_a_bad_storage_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be opened"):
        find_pareto_front(build_task(), make_settings(), storage="nonsense", run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_storage_elsewhere(finished: Path, tmp_path: Path):
    result = find_pareto_front(
        build_task(), make_settings(**BOUNDS), storage=in_file(tmp_path), run_dir=tmp_path / "run"
    )
    assert (tmp_path / "study.db").exists()
    assert not (tmp_path / "run" / "study.db").exists()
    assert timeless(result.results) == timeless(read(finished))


def test_a_storage_that_fails_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage

    def fail(*args: Any, **kwargs: Any) -> None:
        raise StorageInternalError("the server went away")

    with monkeypatch.context() as patch:
        patch.setattr(RDBStorage, "_set_trial_param", fail)
        with pytest.raises(ArtifactError, match="the server went away") as caught:
            find_pareto_front(build_task(), make_settings(**BOUNDS), run_dir=tmp_path / "run")
    assert "--resume" in caught.value.hint
    assert len(resume_pareto_front(build_task(), tmp_path / "run").results.mappings) == 8


# ----------------------------------------------------------------------------------------------------- the command line

FLAGS = ("--set", "n_trials=5", "--set", "n_chips=2", "--set", "n_chips_final=2", "--bounds", "2,90")


def pareto_command(*arguments: str | Path) -> Result:
    """Run the command line at a width of 80 characters."""
    return CliRunner().invoke(app, ["pareto", *map(str, arguments)], env={"COLUMNS": "80", "TERM": "dumb"})


def test_for_people_and_programs(tmp_path: Path):
    result = pareto_command("quadrants:build_task", *FLAGS, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "Pareto front of accuracy against macs" in result.stderr
    assert "mapping-2pp.json" in result.stderr
    inside = [line for line in result.stderr.splitlines() if "run:" not in line and "page:" not in line]
    assert max(map(len, inside)) <= 80
    again = pareto_command("quadrants:build_task", "--resume", tmp_path / "run", "--json")
    data = json.loads(again.stdout)
    assert len(data["mappings"]) == 5
    page = Path(data["report"]).read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert page.count('class="mean"') <= len(data["front"])
    assert "http" not in page.replace("http-equiv", "")


def test_ctrl_c_shows_the_front_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        Stopper(patch, 3, KeyboardInterrupt)
        result = pareto_command("quadrants:build_task", *FLAGS, "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert "2 mappings were evaluated" in " ".join(result.stderr.split())
    assert "before the search was stopped" in " ".join(result.stderr.split())
    assert (
        f"Stopped. To continue the run: lionheart pareto quadrants:build_task --resume {tmp_path / 'run'}"
        in result.stderr
    )
    assert (tmp_path / "run" / "pareto.html").exists()
    assert pareto_command("quadrants:build_task", "--resume", tmp_path / "run").exit_code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_a_process(number: int, finished: Path, tmp_path: Path):
    """A real one, somewhere in the search; what is resumed equals what nobody stopped."""
    script = "import lionheart.analog.convert as c; c.POOL_SIZE = 1 << 14\nfrom lionheart.cli import main; main()"
    source = Path(lionheart.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(SUPPORT)])}
    (tmp_path / "settings.toml").write_text(
        "[pareto]\nn_trials = 30\nbounds_pp = [0.5, 2.0, 90.0]\n[search]\nmax_drop_pp = 20.0\nranking = 'weights'\n"
        "n_chips = 2\nn_chips_final = 2\nreport_times = [1.0, 3600.0]\nvalidation_samples = 128\n"
        "[tile]\nrows = 32\ncols = 32\noutput_noise = 0.9\n"
    )
    preset = ("--preset", "quick")
    arguments = (
        "pareto",
        "quadrants:build_task",
        *preset,
        "--config",
        tmp_path / "settings.toml",
        "--out",
        tmp_path / "run",
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], env=environment, stderr=subprocess.PIPE, text=True
    )
    journal = tmp_path / "run" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (journal.exists() and journal.read_text().count('"measured ') >= 2):
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    run = RunDirectory(tmp_path / "run")
    if number == signal.SIGINT and not any(entry["event"] == "finished" for entry in run.journal.events()):
        assert process.returncode == 130, errors
        assert len(read(run.path).mappings) >= 2
    resumed, whole = resume_pareto_front(build_task(), run.path).results, read(finished)
    assert [(row.number, row.mapping) for row in resumed.mappings] == [
        (row.number, row.mapping) for row in whole.mappings
    ]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["quadrants:build_task", "--storage", "nonsense"], "storage: nonsense cannot be opened", "postgresql://"),
        (
            ["quadrants:build_task", "--objective", "speed"],
            "pareto.objective: got 'speed'",
            "possible values: energy, macs, time, weights",
        ),
        (
            ["quadrants:build_task", "--bounds", "a bit"],
            "pareto.bounds.0: got 'a bit', expected a number",
            "give a number",
        ),
        (
            ["quadrants:build_task", "--bounds", "0"],
            "pareto.bounds.0: got '0', expected a finite number",
            "give a number",
        ),
        (["quadrants:build_task", "--set", "n_trials=0"], "pareto.n_trials: got 0", "mappings to evaluate"),
        ([], "pareto: got no task", "lionheart pareto cifar10/resnet8"),
        (["--resume", "runs/x", "--set", "n_trials=9"], "a resumed run keeps its settings", "--storage"),
    ],
)
def test_bad_flags(arguments: list[str], message: str, hint: str, tmp_path: Path):
    out = [] if "--resume" in arguments else ["--out", tmp_path / "run"]
    result = pareto_command(*arguments, *out)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert message in result.stderr
    assert hint in result.stderr
    assert result.stderr.count("error: ") == 1
    assert not (tmp_path / "run").exists()


def test_a_password_is_not_written_down(tmp_path: Path):
    run = RunDirectory.create(
        tmp_path / "run",
        RunDescription(task="x", seed=0, settings={}, job="pareto", storage="postgresql://me:***@host/base"),
    )
    with pytest.raises(ConfigError, match="unless it is given again"):
        resume_pareto_front(build_task(), run.path)


def test_optuna_is_imported_only_where_it_is_used():
    code = (
        "import sys, lionheart.cli.app, lionheart.jobs, lionheart.search, lionheart.report\n"
        "print(sorted({'optuna', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "lionheart.experimental.pareto.search")
    result = pareto_command("quadrants:build_task", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "optuna is not installed" in result.stderr
    assert "pip install 'lionheart-aimc[pareto]'" in result.stderr
    assert not (tmp_path / "run").exists()
