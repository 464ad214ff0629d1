"""Layers on several cores: who runs what, the closed form against the simulation, and tiles that cores share."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from benchmark_scripts import load_benchmark
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from paths import ROOT
from zoo import ZOO

from lionheart.errors import ConfigError
from lionheart.graph import DigitalOp, LayerGraph, LayerNode, trace_graph
from lionheart.mapping import LayerMapping
from lionheart.partition import partition_matrix
from lionheart.system import (
    Cost,
    Schedule,
    Stage,
    Step,
    WorkKind,
    assign_cores,
    estimate_pipeline,
    estimate_programming,
    estimate_system,
    list_layer_work,
    load_platform,
    plan_stages,
    share_cache,
    simulate_pipeline,
)
from lionheart.system.allocation import fit_tiles

HIGH = load_platform("alpine-high-power")
TILE, DIGITAL = WorkKind.TILE, WorkKind.DIGITAL
ROUND = HIGH.replace(clock_hz=1e9, handover_cycles=1000, dram_bandwidth_bytes_per_s=8e9)  # a handover is 1 us


def linear(fqn: str, rows: int, cols: int, n_mvms: int = 1) -> LayerNode:
    return LayerNode(fqn, "linear", rows, cols, 1, n_mvms, 1, rows * n_mvms, cols * n_mvms, has_bias=True)


def chain(*names: str, edges: tuple[tuple[str, str], ...] = ()) -> LayerGraph:
    return LayerGraph(tuple(linear(name, 8, 8) for name in names), (), edges)


def stage(name: str, *steps: tuple[WorkKind, float, tuple[int, ...]], n_handovers: int = 0) -> Stage:
    made = tuple(Step(name, kind, us * 1e-6, crossbars) for kind, us, crossbars in steps)
    return Stage(name, Cost({"work": sum(s.duration_s for s in made)}), n_handovers=n_handovers, steps=made)


def by_core(schedule: Schedule) -> dict[int, list[tuple[float, float]]]:
    found: dict[int, list[tuple[float, float]]] = {}
    for event in schedule.events:
        found.setdefault(event.core, []).append((event.start_s, event.end_s))
    return {core: sorted(times) for core, times in found.items()}


# --- which core runs what ---


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(1, 9), st.integers(0, 12), st.data())
def test_no_other_stages_have_a_faster_slowest_one(
    times: list[int], n: int, handover: int, data: st.DataObject
) -> None:
    names = [f"l{i}" for i in range(len(times))]
    loops = data.draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=2))
    place = {name: index for index, name in enumerate(names)}
    graph, costs = (
        chain(*names, edges=tuple(loops)),
        {f: Cost({"w": float(t)}) for f, t in zip(names, times, strict=True)},
    )
    cores = assign_cores(graph, costs, n, handover_s=handover)
    assert list(itertools.chain.from_iterable(cores)) == names
    assert 1 <= len(cores) <= n
    assert all(cores)

    def slowest(layers: list[list[str]]) -> float:
        return max(sum(costs[fqn].latency_s for fqn in each) for each in layers) + handover * (len(layers) > 1)

    best = float("inf")
    allowed = [
        cut for cut in range(1, len(names)) if not any(place[reader] < cut <= place[maker] for maker, reader in loops)
    ]
    for n_cuts in range(min(n, len(names))):
        for cuts in itertools.combinations(allowed, n_cuts):
            ends = [0, *cuts, len(names)]
            best = min(best, slowest([names[a:b] for a, b in itertools.pairwise(ends)]))
    assert slowest([list(each) for each in cores]) == best
    for maker, reader in loops:
        if place[reader] < place[maker]:
            assert any({maker, reader} <= set(each) for each in cores)


def test_cores_that_do_not_help_stay_unused() -> None:
    costs = {"a": Cost({"w": 6.0}), "b": Cost({"w": 2.0}), "c": Cost({"w": 2.0})}
    assert assign_cores(chain("a", "b", "c"), costs, 3) == (("a",), ("b", "c"))
    assert assign_cores(chain("a", "b", "c"), costs, 3, handover_s=4.0) == (("a", "b", "c"),)
    with pytest.raises(ConfigError, match="cores: got 0"):
        assign_cores(chain("a"), costs, 0)


@pytest.mark.parametrize("name", ZOO)
def test_the_work_of_layers_is_all_there_is(name: str) -> None:
    graph = trace_graph(ZOO[name].build(), ZOO[name].inputs)
    analog = [node.fqn for node in graph.nodes if not node.unsupported_reason]
    estimate = estimate_system(graph, LayerMapping.from_analog(graph, analog), HIGH)
    for mapped, total in ((True, estimate.mapped), (False, estimate.all_digital)):
        work = list_layer_work(graph, estimate, mapped=mapped)
        assert list(work) == list(graph.fqns)
        assert sum(each.cost.latency_s for each in work.values()) == pytest.approx(total.latency_s)
        assert sum(each.cost.energy_j for each in work.values()) == pytest.approx(total.energy_j)
        for each in work.values():
            assert sum(step.duration_s for step in each.steps) == pytest.approx(each.cost.latency_s)
    (only,) = plan_stages(graph, LayerMapping.from_analog(graph, analog), HIGH, 1)
    assert only.cost.latency_s == pytest.approx(estimate.mapped.latency_s)


def test_input_and_output_are_read_and_written_at_the_ends() -> None:
    ops = (
        DigitalOp("relu", 1, 4, 4),
        DigitalOp("relu", 1, 8, 8, scheduled_after="a"),
        DigitalOp("tanh", 1, 5, 5, scheduled_after="b"),
    )
    graph = LayerGraph((linear("a", 30, 8), linear("b", 8, 10)), ops)
    platform = HIGH.replace(io_cycles_per_element=100)
    estimate = estimate_system(graph, LayerMapping.from_analog(graph, ["b"]), platform)
    work = list_layer_work(graph, estimate)
    assert [step.kind for step in work["a"].steps] == ["network io", "other ops", "digital", "other ops"]
    assert [step.kind for step in work["b"].steps] == ["tile support", "tile", "other ops", "network io"]
    assert work["a"].steps[0].duration_s == pytest.approx(30 * 100 / platform.clock_hz)
    assert work["b"].steps[-1].duration_s == pytest.approx(10 * 100 / platform.clock_hz)


def test_a_layer_shares_the_cache_with_the_largest_of_each_other_core() -> None:
    # 64 kB each, read twice; 160 kB hold two at a time but not three
    graph = LayerGraph(tuple(linear(name, 256, 256, 2) for name in "abc"), ())
    platform = HIGH.replace(llc_bytes=163_840, l1_bytes=1024)
    estimate = estimate_system(graph, LayerMapping.all_digital(graph), platform)
    alone = share_cache(estimate, graph, platform, [graph.fqns])
    two = share_cache(estimate, graph, platform, [("a", "b"), ("c",)])
    three = share_cache(estimate, graph, platform, [("a",), ("b",), ("c",)])
    assert alone.layers == estimate.layers
    assert two.mapped.dram_bytes == pytest.approx(alone.mapped.dram_bytes)
    assert three.mapped.dram_bytes > two.mapped.dram_bytes
    together = estimate_system(graph, LayerMapping.all_digital(graph), platform, concurrent=graph.fqns)
    assert three.layers == together.layers


# --- the closed form is the simulation without shared crossbars ---

PARTS = st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=0, max_size=3)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(PARTS, st.integers(0, 2), st.integers(1, 2)), min_size=1, max_size=4),
    st.integers(1, 6),
    st.sampled_from([None, 1, 2]),
    st.integers(0, 10**5),
)
def test_closed_form_equals_simulation(
    shapes: list[tuple[list[tuple[int, bool]], int, int]], n: int, slots: int | None, dram: int
) -> None:
    stages = []
    for number, (parts, n_handovers, n_cores) in enumerate(shapes):
        steps = [(TILE if tile else DIGITAL, us, (number,) if tile else ()) for us, tile in parts]
        made = stage(f"s{number}", *steps, n_handovers=n_handovers)
        cost = replace(made.cost, energy={"core_active": 1e-6 * number}, dram_bytes=float(dram))
        stages.append(replace(made, n_cores=n_cores, cost=cost))
    expected = estimate_pipeline(stages, ROUND, n)
    got = simulate_pipeline(stages, ROUND, n, queue_slots=slots)
    assert got.total_s == pytest.approx(expected.total_s)
    assert got.energy == pytest.approx(expected.energy)
    if n * sum(s.cost.dram_bytes * s.n_cores for s in stages) / 8e9 <= got.total_s * (1 - 1e-9) and n > 1:
        assert (got.latency_s, got.interval_s) == pytest.approx((expected.latency_s, expected.interval_s))
    busy = sum(s.cost.latency_s * s.n_cores for s in stages) * n
    assert sum(got.utilisation) * got.total_s == pytest.approx(busy * max(1.0, _slowdown(stages, n, got)))


def _slowdown(stages: list[Stage], n: int, got: Schedule) -> float:
    free = simulate_pipeline([replace(s, cost=replace(s.cost, dram_bytes=0.0)) for s in stages], ROUND, n)
    return got.total_s / free.total_s if free.total_s else 1.0


def test_a_schedule_by_hand() -> None:
    # a: 3 us, b: 1 us of digital work and 4 us on a tile; a handover of 1 us each. Two inferences:
    # a 0-3, 3-4 hand over; a 4-7, 7-8. b 4-5-9, 9-10; then 10-11-15, 15-16
    run = simulate_pipeline([stage("a", (DIGITAL, 3, ()), n_handovers=1),
                             stage("b", (DIGITAL, 1, ()), (TILE, 4, (0,)), n_handovers=1)], ROUND, 2)  # fmt: skip
    found = [
        (e.core, e.inference, e.layer, str(e.kind), round(e.start_s * 1e6), round(e.end_s * 1e6)) for e in run.events
    ]
    assert found == [
        (0, 0, "a", "digital", 0, 3), (0, 0, "a", "handover", 3, 4), (0, 1, "a", "digital", 4, 7),
        (1, 0, "b", "digital", 4, 5), (1, 0, "b", "tile", 5, 9), (0, 1, "a", "handover", 7, 8),
        (1, 0, "b", "handover", 9, 10), (1, 1, "b", "digital", 10, 11), (1, 1, "b", "tile", 11, 15),
        (1, 1, "b", "handover", 15, 16),
    ]  # fmt: skip
    assert (run.latency_s, run.interval_s, run.total_s) == pytest.approx((10e-6, 6e-6, 16e-6))
    assert run.utilisation == pytest.approx((6 / 16, 10 / 16))


# --- shared crossbars ---


def test_two_layers_in_one_crossbar_by_hand() -> None:
    # each 1 us digital and 3 us in the crossbar: apart every 4 us, sharing it every 6 us, when it is busy all the time
    def run(second: int, n: int) -> Schedule:
        first = stage("a", (DIGITAL, 1, ()), (TILE, 3, (0,)))
        return simulate_pipeline([first, stage("b", (DIGITAL, 1, ()), (TILE, 3, (second,)))], ROUND, n)

    apart, shared = run(1, 20).finished_s, run(0, 20).finished_s
    assert apart[10] - apart[9] == pytest.approx(4e-6)
    assert shared[10] - shared[9] == pytest.approx(6e-6)
    assert run(0, 1).total_s == pytest.approx(8e-6)


STEPS = st.lists(st.tuples(st.integers(0, 20), st.lists(st.integers(0, 4), max_size=2, unique=True)), max_size=4)


@settings(deadline=None, max_examples=200)
@given(st.lists(STEPS, min_size=1, max_size=4), st.integers(1, 5), st.sampled_from([None, 1, 3]), st.data())
def test_fewer_crossbars_are_never_faster(
    shapes: list[list[tuple[int, list[int]]]], n: int, slots: int | None, data: st.DataObject
) -> None:
    def run(rename: dict[int, int]) -> Schedule:
        stages = []
        for number, parts in enumerate(shapes):
            steps = [(TILE, us, tuple({rename[c] for c in crossbars})) for us, crossbars in parts]
            stages.append(stage(f"s{number}", *steps, n_handovers=1))
        return simulate_pipeline(stages, ROUND, n, queue_slots=slots)

    merged = {number: number for number in range(5)}
    before = run(merged)
    assume(before.total_s > 0)
    for left in range(4, 0, -1):
        gone, into = data.draw(st.permutations(sorted(set(merged.values()))))[:2]
        merged = {number: into if place == gone else place for number, place in merged.items()}
        after = run(merged)
        assert len(set(merged.values())) == left
        assert after.total_s >= before.total_s - 1e-12
        assert len(after.events) == len(before.events)
        before = after
    for times in by_core(before).values():
        assert all(end <= start + 1e-12 for (_, end), (start, _) in itertools.pairwise(times))


def test_a_crossbar_serves_one_layer_at_a_time() -> None:
    graph = LayerGraph(tuple(linear(name, 100, 100, 50) for name in "abcd"), ())
    tiles = {fqn: partition_matrix(100, 100, 1, 256, 256) for fqn in graph.fqns}
    mapping = LayerMapping.from_analog(graph, graph.fqns)
    fit = fit_tiles(tiles, 2)
    assert fit.n_crossbars < 4
    stages = plan_stages(graph, mapping, HIGH, 4, tiles, fit=fit)
    run = simulate_pipeline(stages, HIGH, 6, queue_slots=1)
    uses: dict[int, list[tuple[float, float]]] = {}
    for event in run.events:
        if event.kind is TILE:
            for crossbar in fit.crossbars[event.layer]:
                uses.setdefault(crossbar, []).append((event.start_s, event.end_s))
    for times in uses.values():
        assert all(end <= start + 1e-15 for (_, end), (start, _) in itertools.pairwise(sorted(times)))
    free = simulate_pipeline(plan_stages(graph, mapping, HIGH, 4, tiles), HIGH, 6, queue_slots=1)
    assert run.total_s >= free.total_s


def test_programming_again_is_paid_for_in_each_inference() -> None:
    graph = LayerGraph((linear("a", 256, 256), linear("b", 256, 128)), ())
    tiles = {node.fqn: partition_matrix(node.rows, node.cols, 1, 256, 256) for node in graph.nodes}
    mapping = LayerMapping.from_analog(graph, graph.fqns)
    fit = fit_tiles(tiles, 1, packed=False, reprogram=True)
    (one,) = plan_stages(graph, mapping, HIGH, 1, tiles, fit=fit)
    (free,) = plan_stages(graph, mapping, HIGH, 1, tiles)
    once = estimate_programming(tiles, HIGH)
    assert one.cost.latency_s - free.cost.latency_s == pytest.approx(once.duration_s)
    spent = sum(
        one.cost.energy[name] - free.cost.energy.get(name, 0.0) for name in ("programming", "core_wait", "dram")
    )
    assert spent == pytest.approx(once.energy_j - once.energy["llc_leakage"])
    assert one.cost.dram_bytes - free.cost.dram_bytes == 256 * 384
    assert [step.kind for step in one.steps if step.layer == "b"][:3] == ["tile support", "program", "tile"]
    run = simulate_pipeline(plan_stages(graph, mapping, HIGH, 2, tiles, fit=fit), HIGH, 3)
    programs = sorted((e.layer, e.inference) for e in run.events if e.kind is WorkKind.PROGRAM)
    assert programs == [(fqn, n) for fqn in "ab" for n in range(3)]
    spans = sorted((e.start_s, e.end_s, e.layer) for e in run.events if e.kind in (WorkKind.PROGRAM, TILE))
    assert [layer for *_, layer in spans[::2]] == [layer for *_, layer in spans[1::2]]  # nobody programs in between
    assert all(end <= start + 1e-12 for (_, end, _), (start, _, _) in itertools.pairwise(spans))
    with pytest.raises(ConfigError, match="reprogram: no number for pcm at hand"):
        plan_stages(graph, mapping, HIGH.replace(programming={}), 1, tiles, fit=fit)


def test_pipelines_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="expected at most the 8 of"):
        plan_stages(chain("a"), LayerMapping.all_digital(chain("a")), HIGH, 9)
    with pytest.raises(ConfigError, match="queue_slots: got 0, expected at least 1"):
        simulate_pipeline([Stage("a", Cost())], HIGH, queue_slots=0)
    with pytest.raises(ConfigError, match="expected at least one of each"):
        simulate_pipeline([], HIGH)


def test_a_recurrent_network_of_ones_own_stays_on_one_core() -> None:
    class Loop(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = (torch.nn.Linear(16, 16) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(3):
                x = self.second(torch.relu(self.first(x)))
            return self.head(x)

    graph = trace_graph(Loop(), torch.ones(1, 16))
    costs = dict.fromkeys(graph.fqns, Cost({"w": 1.0}))
    assert assign_cores(graph, costs, 3) == (("first", "second"), ("head",))


def test_the_table_of_the_docs_is_current() -> None:
    module = load_benchmark("papers/cores")
    assert module.table() in (ROOT / "docs" / "concepts" / "system-cost.md").read_text(encoding="utf-8"), (
        "run: python benchmarks/papers/cores.py --page"
    )
