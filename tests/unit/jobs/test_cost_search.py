"""Costs of many mappings: equal to the estimate, exact over any number of changes, lawful; and searches by them."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from fake_problem import FakeProblem, as_read_back, search, steps_of
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import SUPPORT
from quadrants import build_task, make_settings
from typer.testing import CliRunner

from lionheart.candidates import Candidate, find_candidates
from lionheart.cli import app
from lionheart.devices import ReadPolicy
from lionheart.errors import ConfigError
from lionheart.experimental.pareto.job import find_pareto_front
from lionheart.graph import DigitalOp, LayerGraph, LayerNode, trace_graph
from lionheart.jobs import MapSettings, map_layers, resume_run
from lionheart.jobs.context import Context
from lionheart.jobs.objective import make_objective
from lionheart.mapping import LayerMapping, Placement
from lionheart.partition import partition_matrix
from lionheart.progress import SILENT
from lionheart.report import report_run
from lionheart.runs import Journal
from lionheart.search import STRATEGIES, Objective, SearchLoop, SearchSpec, count_digital
from lionheart.search.objective import on_tiles
from lionheart.system import SystemModel, estimate_system, load_platform

HIGH, LOW = load_platform("alpine-high-power"), load_platform("alpine-low-power")
SMALL_CACHE = HIGH.replace(llc_bytes=65_536, l1_bytes=4_096, tile_rows=64, tile_cols=48)
PLATFORMS = [HIGH, LOW, SMALL_CACHE]

# ------------------------------------------------------------------------------------------------------- random networks


@st.composite
def graphs(draw: Any) -> LayerGraph:
    """Draw a network of linear layers and convolutions, small and large against the caches."""
    nodes = []
    for number in range(draw(st.integers(1, 7))):
        rows, cols = draw(st.integers(1, 700)), draw(st.integers(1, 700))
        n_mvms, groups = draw(st.sampled_from([1, 1, 2, 7, 64, 400])), draw(st.sampled_from([1, 1, 1, 3]))
        kind = draw(st.sampled_from(["linear", "conv2d"]))
        n_inputs = draw(st.integers(1, rows * groups * n_mvms))
        nodes.append(
            LayerNode(
                f"L{number}", kind, rows, cols, groups, n_mvms, 1, n_inputs, cols * groups * n_mvms, draw(st.booleans())
            )
        )
    ops = (DigitalOp("relu", 1, 500, 500), DigitalOp("matmul", 1, 300, 600, macs=9_000))
    return LayerGraph(tuple(nodes), ops[: draw(st.integers(0, 2))])


def subsets(graph: LayerGraph) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(graph.fqns), unique=True)


def assert_equal_cost(cost: Any, estimate: Any) -> None:
    assert cost.latency_s == pytest.approx(estimate.mapped.latency_s, rel=1e-12)
    assert cost.energy_j == pytest.approx(estimate.mapped.energy_j, rel=1e-12)
    assert cost.n_tiles == estimate.n_tiles


# --------------------------------------------------------------------------------------------- the model is the estimate


@settings(deadline=None)
@given(st.data())
def test_the_model_is_the_estimate(data: st.DataObject):
    """For any mapping, with several cores' shared cache and with the memory controller; the breakdown too."""
    graph, platform = data.draw(graphs()), data.draw(st.sampled_from(PLATFORMS))
    options: dict[str, Any] = {
        "count_memory_controller": data.draw(st.booleans()),
        "concurrent": data.draw(subsets(graph)),
    }
    model = SystemModel(graph, platform, **options)
    for _ in range(3):
        mapping = LayerMapping.from_analog(graph, data.draw(subsets(graph)))
        estimate = estimate_system(graph, mapping, platform, **options)
        assert_equal_cost(model.cost(mapping), estimate)
        breakdown = model.breakdown(mapping)
        for got, expected in ((breakdown.time_s, estimate.mapped.time_s), (breakdown.energy, estimate.mapped.energy)):
            kept = {name: value for name, value in got.items() if value}
            assert kept == pytest.approx(dict(expected), rel=1e-9)
        assert breakdown.dram_bytes == pytest.approx(estimate.mapped.dram_bytes, rel=1e-9)


@settings(deadline=None)
@given(st.data())
def test_changes_are_the_estimate_of_the_changed_mapping(data: st.DataObject):
    graph, platform = data.draw(graphs()), data.draw(st.sampled_from(PLATFORMS))
    model = SystemModel(graph, platform)
    tracker = model.track(LayerMapping.from_analog(graph, data.draw(subsets(graph))))
    for _ in range(4):
        moved = data.draw(subsets(graph))
        before, wanted = tracker.cost, tracker.analog ^ set(moved)
        expected = model.cost(LayerMapping.from_analog(graph, wanted))
        assert tracker.with_change(*moved) == expected  # to the bit
        assert tracker.cost == before
        assert tracker.change(*moved) == tracker.cost == expected
        assert tracker.analog == wanted
    assert_equal_cost(tracker.cost, estimate_system(graph, LayerMapping.from_analog(graph, tracker.analog), platform))


def many_layers(n: int) -> LayerGraph:
    draw = random.Random(5)  # noqa: S311  no secret
    nodes = []
    for i in range(n):
        rows, cols, n_mvms = draw.randrange(1, 900), draw.randrange(1, 900), draw.choice([1, 3, 128])
        nodes.append(LayerNode(f"L{i}", "linear", rows, cols, 1, n_mvms, 1, rows * n_mvms, cols * n_mvms, True))
    return LayerGraph(tuple(nodes), ())


def test_a_long_chain_of_changes_leaves_nothing_behind():
    graph, draw = many_layers(60), random.Random(3)  # noqa: S311  no secret
    model = SystemModel(graph, HIGH)
    tracker = model.track(LayerMapping.all_digital(graph))
    for _ in range(20_000):
        tracker.change(draw.choice(graph.fqns))
    mapping = LayerMapping.from_analog(graph, tracker.analog)
    assert tracker.cost == model.cost(mapping)
    assert_equal_cost(tracker.cost, estimate_system(graph, mapping, HIGH))
    assert tracker.change(*tracker.analog) == model.cost(LayerMapping.all_digital(graph))


def test_what_has_no_tiles_cannot_move():
    graph = many_layers(3)
    partitions = {"L1": partition_matrix(graph["L1"].rows, graph["L1"].cols, 1, 256, 256)}
    model = SystemModel(graph, HIGH, partitions)
    tracker = model.track(LayerMapping.from_analog(graph, ["L1"]))
    before = tracker.cost
    with pytest.raises(ConfigError, match="'L0' is analog but has no tiles"):
        tracker.change("L1", "L0")
    assert (tracker.cost, tracker.analog) == (before, {"L1"})
    with pytest.raises(ConfigError, match="got 'L9'"):
        tracker.with_change("L9")
    with pytest.raises(ConfigError, match="no placement for 'L1', 'L2'"):
        model.cost(LayerMapping({"L0": Placement.DIGITAL}))


# ------------------------------------------------------------------------------------------------------------------ laws


def tile_energy(model: SystemModel, graph: LayerGraph, analog: Any) -> float:
    energy = model.breakdown(LayerMapping.from_analog(graph, analog)).energy
    return sum(joules for name, joules in energy.items() if name.startswith("tile_"))


@settings(deadline=None)
@given(st.data())
def test_more_mvms_on_tiles_cost_more_tile_energy(data: st.DataObject):
    graph, platform = data.draw(graphs()), data.draw(st.sampled_from(PLATFORMS))
    analog = data.draw(subsets(graph))
    model = SystemModel(graph, platform)
    tile = tile_energy(model, graph, analog)
    assert (tile > 0) == bool(analog)
    for fqn in set(graph.fqns) - set(analog):  # one more projection
        assert tile_energy(model, graph, [*analog, fqn]) > tile
    for fqn in analog:  # one more product of a projection
        nodes = [LayerNode(**{**vars(n), "n_mvms": n.n_mvms + (n.fqn == fqn)}) for n in graph.nodes]
        longer = SystemModel(LayerGraph(tuple(nodes), graph.other_ops), platform)
        assert tile_energy(longer, graph, analog) > tile


@settings(deadline=None)
@given(st.data())
def test_half_the_clock_is_never_faster(data: st.DataObject):
    graph, platform = data.draw(graphs()), data.draw(st.sampled_from(PLATFORMS))
    mapping = LayerMapping.from_analog(graph, data.draw(subsets(graph)))
    slow = SystemModel(graph, platform.replace(clock_hz=platform.clock_hz / 2)).cost(mapping)
    assert slow.latency_s >= SystemModel(graph, platform).cost(mapping).latency_s


@settings(deadline=None)
@given(st.data())
def test_the_parts_add_up(data: st.DataObject):
    """Of components, and where all weights fit in the cache also of projections: each saves the same in any company."""
    graph, platform = data.draw(graphs()), data.draw(st.sampled_from(PLATFORMS))
    model = SystemModel(graph, platform)
    mapping = LayerMapping.from_analog(graph, data.draw(subsets(graph)))
    cost, parts = model.cost(mapping), model.breakdown(mapping)
    assert math.fsum(parts.time_s.values()) == pytest.approx(cost.latency_s, rel=1e-12)
    assert math.fsum(parts.energy.values()) == pytest.approx(cost.energy_j, rel=1e-12)
    assert min([*parts.time_s.values(), *parts.energy.values()]) >= 0
    roomy = SystemModel(graph, platform.replace(llc_bytes=10**9))
    start = roomy.track(LayerMapping.all_digital(graph))
    saved = [start.cost.energy_j - start.with_change(fqn).energy_j for fqn in mapping.analog]
    together = start.cost.energy_j - roomy.cost(mapping).energy_j
    assert math.fsum(saved) == pytest.approx(together, rel=1e-9, abs=1e-12 * start.cost.energy_j)


@settings(deadline=None)
@given(st.data())
def test_no_tiles_is_all_digital(data: st.DataObject):
    graph, platform = data.draw(graphs()), data.draw(st.sampled_from(PLATFORMS))
    model, mapping = SystemModel(graph, platform), LayerMapping.from_analog(graph, data.draw(subsets(graph)))
    digital = estimate_system(graph, mapping, platform).all_digital
    assert (model.cost(mapping).n_tiles == 0) == (not mapping.analog)
    nothing = model.cost(LayerMapping.all_digital(graph))
    assert (nothing.latency_s, nothing.energy_j) == pytest.approx((digital.latency_s, digital.energy_j), rel=1e-12)
    assert tile_energy(model, graph, []) == 0


# ------------------------------------------------------------------------------------------------ searches on toy networks

SEARCHING = sorted(set(STRATEGIES) - {"all-digital", "all-analog", "first-last-digital"})


def objective_of(graph: LayerGraph, candidates: Sequence[Candidate], settings: MapSettings) -> Objective:
    """Return the objective of a job on a network that is only a graph."""
    return make_objective(Context(None, settings, graph, tuple(candidates), Journal(None), SILENT))


class Toy:
    """A network of `n` layers of random sizes, some of which cost more on tiles; its damages are random too."""

    def __init__(self, seed: int, n: int, *, objective: str = "energy", max_tiles: int | None = None) -> None:
        draw = random.Random(seed)  # noqa: S311  no secret
        self.nodes = []
        for i in range(n):
            rows, cols, n_mvms = draw.choice([2, 40, 300]), draw.choice([1, 64, 500]), draw.choice([1, 8, 64])
            self.nodes.append(
                LayerNode(f"L{i}", "linear", rows, cols, 1, n_mvms, 1, rows * n_mvms, cols * n_mvms, True)
            )
        self.graph = LayerGraph(tuple(self.nodes), ())
        self.candidates = [Candidate(node, partition_matrix(node.rows, node.cols, 1, 64, 64)) for node in self.nodes]
        self.damage_pp = [draw.randrange(0, 12) / 8 for _ in range(n)]
        search = {"objective": objective, "max_tiles": max_tiles}
        self.settings = make_settings(search=search, platforms=("alpine-low-power",))
        self.objective = objective_of(self.graph, self.candidates, self.settings)
        self.start = LayerMapping.all_digital(self.graph)

    def search(self, name: str, bound: float = 1.5 + 1 / 16, **changes: Any) -> tuple[Any, FakeProblem]:
        problem = FakeProblem(self.damage_pp, healing=0.5, **changes)
        ranked = sorted(self.candidates, key=lambda each: -self.gain(each))
        return search(name, problem, ranked, self.start, max_drop_pp=bound, objective=self.objective), problem

    def gain(self, each: Candidate) -> float:
        return self.objective.gains(self.start, [each.node.fqn])[each.node.fqn]

    def n_tiles(self, mapping: LayerMapping) -> int:
        return sum(each.partition.n_tiles for each in self.candidates if mapping.is_analog(each.node.fqn))


@pytest.mark.parametrize(("objective", "cost"), [("time", "latency_s"), ("energy", "energy_j")])
def test_the_objective_has_the_price_of_each_projections_tile(objective: str, cost: str):
    toy = Toy(0, 8, objective=objective)
    context = Context(None, toy.settings, toy.graph, tuple(toy.candidates), Journal(None), SILENT)
    usual, reads, made = toy.settings.tile, toy.settings.tile.replace(n_reads=16), make_objective(context)
    start = on_tiles(toy.start, ["L3"])
    plain = made.cost(start)
    priced = made.cost(start.with_policies({"L3": ReadPolicy(n_reads=16)}))
    model = SystemModel(toy.graph, LOW, context.partitions, tile=usual)
    added = getattr(model.analog_cost("L3", reads), cost) - getattr(model.analog_cost("L3"), cost)
    assert added > 0
    assert priced - plain == pytest.approx(added)


@pytest.mark.parametrize("name", SEARCHING)
@pytest.mark.parametrize("objective", ["macs", "weights", "time", "energy"])
def test_every_mapping_tried_fits_and_none_holds_what_costs_more(name: str, objective: str):
    n_noted = 0
    for seed, max_tiles in itertools.product(range(8), (None, 0, 3, 20, 60)):
        toy = Toy(seed, 4 if name == "exhaustive" else 8, objective=objective, max_tiles=max_tiles)
        result, problem = toy.search(name)
        for mapping in [*problem.tried, result.mapping]:
            assert max_tiles is None or toy.n_tiles(mapping) <= max_tiles
            if objective in ("time", "energy"):
                cost, after = toy.objective.cost(mapping), toy.objective.price(mapping)
                assert all(after(fqn) > cost for fqn in mapping.analog)
        for fqn, note in result.notes.items():
            assert not result.mapping.is_analog(fqn)
            needs = toy.n_tiles(LayerMapping.from_analog(toy.graph, [fqn, *result.mapping.analog]))
            if "more on tiles" in note:
                assert toy.objective.price(result.mapping)(fqn) >= toy.objective.cost(result.mapping)
            else:
                assert f"of {max_tiles} left" in note
                assert needs > max_tiles
        n_noted += len(result.notes)
        if max_tiles == 0:
            assert result.mapping == toy.start
            assert problem.tried == []
    assert n_noted


@pytest.mark.parametrize("name", SEARCHING)
def test_killed_and_resumed_is_the_same(name: str):
    for seed in range(6):
        toy = Toy(seed, 4 if name == "exhaustive" else 7, max_tiles=30)
        whole, _ = toy.search(name)
        for cut in range(len(whole.decisions) + 1):
            past = as_read_back(whole.decisions[:cut])
            again, _ = toy.search(name, past=past, trained=steps_of(past))
            assert again == whole


def test_the_search_saves_what_it_is_told_to():
    """L0 has the most MACs, L1 the most weights; both alone break the bound together."""
    nodes = [
        LayerNode("L0", "linear", 64, 64, 1, 100, 1, 6400, 6400, True),
        LayerNode("L1", "linear", 640, 64, 1, 1, 1, 640, 64, True),
    ]
    candidates = [Candidate(node, partition_matrix(node.rows, node.cols, 1, 64, 64)) for node in nodes]
    graph = LayerGraph(tuple(nodes), ())
    found = {}
    for objective in ("macs", "weights"):
        made = objective_of(graph, candidates, make_settings(search={"objective": objective}))
        for name in SEARCHING:
            ranked = candidates if objective == "macs" else candidates[::-1]
            start, levels = LayerMapping.all_digital(graph), (ReadPolicy(),)
            result = search(name, FakeProblem([0.8, 0.8]), ranked, start, objective=made, levels=levels)
            found.setdefault(objective, set()).add(result.mapping.analog)
    assert found == {"macs": {("L0",)}, "weights": {("L1",)}}


def test_with_few_tiles_what_gains_most_for_each_is_taken():
    """All of six equal layers are within the bound but one of four times the tiles gains less for each."""
    nodes = [LayerNode(f"L{i}", "linear", 64, 64, 1, 10, 1, 640, 640, True) for i in range(6)]
    nodes[0] = LayerNode("L0", "linear", 256, 64, 1, 5, 1, 1280, 320, True)  # most MACs, 4 tiles
    candidates = [Candidate(node, partition_matrix(node.rows, node.cols, 1, 64, 64)) for node in nodes]
    graph = LayerGraph(tuple(nodes), ())
    objective, start = (
        objective_of(graph, candidates, make_settings(search={"max_tiles": 5})),
        LayerMapping.all_digital(graph),
    )
    result = search("training-free", FakeProblem([0.1] * 6), candidates, start, max_drop_pp=5.0, objective=objective)
    assert result.mapping.analog == ("L1", "L2", "L3", "L4", "L5")
    assert result.notes == {"L0": "needs 4 tiles, 0 of 5 left"}
    greedy = search("lionheart", FakeProblem([0.1] * 6), candidates, start, max_drop_pp=5.0, objective=objective)
    assert greedy.mapping.analog == ("L0", "L1")  # the paper's order, as long as it fits
    assert greedy.notes["L2"] == "needs 1 tile, 0 of 5 left"


def test_the_trace_says_what_was_passed_over():
    price = count_digital({"L0": 5, "L1": 3, "L2": -2, "L3": 1})
    objective = Objective(
        price, {"L0": 2, "L1": 4, "L2": 1, "L3": 1}, max_tiles=4, may_lose=True, show=lambda c: f"{c} J"
    )
    nodes = [LayerNode(f"L{i}", "linear", 8, 8, 1, 1, 1, 8, 8, True) for i in range(4)]
    candidates = [Candidate(node, partition_matrix(8, 8, 1, 8, 8)) for node in nodes]
    start = LayerMapping.all_digital(LayerGraph(tuple(nodes), ()))
    result = search("lionheart", FakeProblem([0.1] * 4), candidates, start, objective=objective)
    assert [(each.fqn, each.note) for each in result.decisions] == [
        ("L0", ""),
        ("L3", "passed over: L1 needs 4 tiles, 2 of 4 left; passed over: L2 would cost 2 J more on tiles"),
    ]
    assert result.notes == {"L1": "needs 4 tiles, 1 of 4 left", "L2": "would cost 2 J more on tiles"}


def test_a_strategy_that_forgets_the_tiles_is_stopped():
    toy = Toy(0, 3, max_tiles=1)
    loop = SearchLoop(FakeProblem([0.1] * 3), toy.candidates, toy.start, max_drop_pp=1.0, objective=toy.objective)
    everything = LayerMapping.from_analog(toy.graph, toy.graph.fqns)
    with pytest.raises(ConfigError, match="the strategy tried a mapping that needs .* expected at most 1"):
        loop.attempt(everything, "everything", macs=0)
    with pytest.raises(ConfigError, match="the strategy tried a mapping that needs .* expected at most 1"):
        loop.attempt(toy.start, "nothing", macs=0, smaller=[everything])
    assert loop.decisions == []


def test_baselines_fill_the_tiles():
    toy = Toy(2, 8, max_tiles=20)
    for name in ("all-analog", "first-last-digital"):
        result, problem = toy.search(name)
        assert 0 < toy.n_tiles(result.mapping) <= 20
        assert problem.tried == [result.mapping]
        assert result.decisions[0].note


@given(st.lists(st.integers(0, 9), max_size=7), st.integers(0, 30))
def test_sets_that_fit_are_counted(n_tiles: list[int], max_tiles: int):
    names = {f"L{i}": size for i, size in enumerate(n_tiles)}
    objective = Objective(count_digital({}), names, max_tiles=max_tiles)
    every = itertools.chain.from_iterable(itertools.combinations(names, size) for size in range(len(names) + 1))
    assert objective.count_fitting(names) == sum(objective.fits(chosen) for chosen in every)
    packed = objective.pack(list(names), dict.fromkeys(names, 1.0))
    assert objective.fits(packed)


# The steps of these searches before there were objectives: sensitivity in MACs, no limit.
BEFORE = {
    "lionheart": ["L0 +", "L1 +", "L2 +", "L3 -", "L4 -", "L5 +"],
    "training-free": [
        "first 4 of 6, not retrained -",
        "first 3 of 6, not retrained +",
        "L1 for L2, not retrained -",
    ],
    "shared": [
        "first 4 of 6, not retrained -",
        "first 3 of 6, not retrained +",
        "L1 for L2, not retrained -",
        "3 more of 6, retrained together +",
        "L3, not retrained -",
        "L4, not retrained -",
        "2 more of 6, retrained together -",
        "1 more of 6, retrained together -",
    ],
    "hessian": ["first 4 of 6, not retrained -", "first 3 of 6, not retrained +", "3 more of 6, retrained together +"],
}


@pytest.mark.parametrize("name", sorted(BEFORE))
def test_by_default_nothing_has_changed(name: str):
    damages = [0.5, 0.75, 0.25, 1.0, 0.625, 0.125]
    nodes = [LayerNode(f"L{i}", "linear", 4, 4, 1, 6 - i, 1, 4, 4, True) for i in range(6)]
    candidates = [Candidate(node, partition_matrix(4, 4, 1, 8, 8)) for node in nodes]
    graph = LayerGraph(tuple(nodes), ())
    for objective in (None, objective_of(graph, candidates, make_settings())):
        problem = FakeProblem(damages, healing=0.6)
        result = search(name, problem, candidates, LayerMapping.all_digital(graph), objective=objective)
        assert [f"{each.fqn} {'+' if each.accepted else '-'}" for each in result.decisions] == BEFORE[name]
        assert result.notes == {}
        assert not any(each.note for each in result.decisions)


# ------------------------------------------------------------------------------------------------------------- whole runs


def write_slow_platform(path: Path) -> str:
    """Write the low-power platform with a core that multiplies 50 times more slowly in convolutions."""
    slow = '[conv_macs_per_cycle]\nvalue = 0.015\nunit = "MAC/cycle"\nsource = "made up"\nkind = "assumed"\n'
    path.write_text(f"{platform_file('alpine-low-power')}\n{slow}")
    return str(path)


def platform_file(name: str) -> str:
    return (files("lionheart.system") / "platforms" / f"{name}.toml").read_text()


@pytest.mark.usefixtures("small_noise_pool")
@pytest.mark.parametrize("strategy", ["lionheart", "training-free"])
def test_a_run_by_energy_on_few_tiles(strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # layers 0, 3 and 7 take 1, 3 and 4 tiles of 32x32; on a core that multiplies slowly the first two save energy
    platform = write_slow_platform(tmp_path / "slow.toml")
    search = {"objective": "energy", "max_tiles": 4, "strategy": strategy, "ranking": "objective"}
    settings = make_settings(search=search, platforms=(platform,))
    result = map_layers(build_task(), settings, run_dir=tmp_path / "run")
    results = result.results
    assert (results.objective, results.max_tiles) == ("energy", 4)
    assert results.n_tiles <= 4
    graph = trace_graph(build_task().model, build_task().example_inputs())
    partitions = {each.node.fqn: each.partition for each in find_candidates(graph, settings.tile)}
    model = SystemModel(graph, load_platform(platform), partitions, tile=settings.tile)
    assert result.mapping.analog
    assert results.notes
    tracker = model.track(result.mapping)
    for fqn in result.mapping.analog:
        assert tracker.with_change(fqn).energy_j > tracker.cost.energy_j
    assert results.system[0].mapped.energy_j == pytest.approx(tracker.cost.energy_j, rel=1e-12)
    page = report_run(tmp_path / "run").read_text()
    assert "minimised the energy of one inference" in page
    assert f"{results.n_tiles} of 4" in page.replace("\xa0", " ")
    for note in results.notes.values():
        assert note.split(",")[0] in page.replace("\xa0", " ")

    def kill(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        for name in ("commit", "rollback"):
            patch.setattr(f"lionheart.jobs.problem.MappingProblem.{name}", kill)
        with pytest.raises(KeyboardInterrupt):
            map_layers(build_task(), settings, run_dir=tmp_path / "killed")
    resumed = resume_run(build_task(), tmp_path / "killed")
    assert resumed.mapping == result.mapping
    assert resumed.results.notes == results.notes


@pytest.mark.usefixtures("small_noise_pool")
def test_a_front_on_few_tiles(tmp_path: Path):
    settings = make_settings(search={"max_tiles": 4}, pareto={"objective": "energy", "n_trials": 30})
    results = find_pareto_front(build_task(), settings, run_dir=tmp_path / "run").results
    assert results.max_tiles == 4
    found = {row.mapping.analog for row in results.mappings}
    assert found == {(), ("0",), ("3",), ("0", "3"), ("7",)}  # every set that fits, and the search ends
    assert all(row.n_tiles <= 4 for row in results.mappings)


@pytest.mark.usefixtures("small_noise_pool")
def test_the_command_line(tmp_path: Path):
    config = tmp_path / "small.toml"
    config.write_text(
        "[search]\nmax_drop_pp = 50.0\nn_chips = 2\nn_chips_final = 2\nreport_times = [1.0]\n[tile]\nrows = 32\ncols = 32\n"
    )
    words = ["map", f"{SUPPORT / 'quadrants.py'}:build_task", "--config", str(config), "--json"]
    words += ["--set", "search.strategy=training-free", "--set", "search.objective=weights", "--set", "max_tiles=3"]
    words += ["--set", "platforms=alpine-low-power", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    results = json.loads(done.stdout)
    assert (results["objective"], results["max_tiles"], results["n_tiles"]) == ("weights", 3, 3)
    assert results["notes"] == {"0": "needs 1 tile, 0 of 3 left", "7": "needs 4 tiles, 0 of 3 left"}
    assert [row["platform"] for row in results["system"]] == ["alpine-low-power"]
    assert "3 of 3 tiles" in CliRunner().invoke(app, ["map", "--trust-task", "--resume", str(tmp_path / "run")]).stderr
    refused = CliRunner().invoke(app, ["map", "--resume", str(tmp_path / "run"), "--set", "search.max_tiles=2"])
    assert (refused.exit_code, "keeps its settings" in refused.stderr) == (2, True)


def test_settings():
    assert (SearchSpec().objective, SearchSpec().max_tiles) == ("macs", None)
    for wrong in ({"max_tiles": -1}, {"objective": "joules"}):
        with pytest.raises(ConfigError, match="SearchSpec"):
            SearchSpec(**wrong)
    with pytest.raises(ConfigError, match=r"search\.objective: got 'energy', which needs a platform"):
        map_layers(build_task(), make_settings(search={"objective": "energy"}, platforms=()))
