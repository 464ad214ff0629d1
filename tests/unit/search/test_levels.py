"""The choice of a read policy for each projection: the integer program against enumeration, and the searches with it."""

from __future__ import annotations

import itertools
import math

import pytest
from fake_problem import LEVELS, FakeProblem, make_candidates, search, start_mapping
from hypothesis import given
from hypothesis import strategies as st

from lionheart.devices import ReadPolicy
from lionheart.mapping import LayerMapping, Placement
from lionheart.search import STRATEGIES, Objective, SearchLoop, count_digital
from lionheart.search.levels import LevelPlans, LevelShrink
from lionheart.search.objective import on_tiles

rises = st.lists(st.integers(0, 20).map(lambda eighths: eighths / 8), min_size=1, max_size=4)


def make_loop(damage_pp: list[float], n_tiles: list[int] | None = None, max_tiles: int | None = None) -> SearchLoop:
    candidates = make_candidates(len(damage_pp), n_tiles)
    sizes = {each.node.fqn: each.partition.n_tiles for each in candidates}
    worth = {each.node.fqn: each.node.macs for each in candidates}
    objective = Objective(count_digital(worth), sizes, max_tiles=max_tiles)
    start = start_mapping(len(damage_pp))
    return SearchLoop(FakeProblem(damage_pp), candidates, start, max_drop_pp=1.0, objective=objective, levels=LEVELS)


def reads_of(loop: SearchLoop, mapping: LayerMapping) -> int:
    return sum(
        each.node.macs * (mapping.policy_of(each.node.fqn).n_reads or 1)
        for each in loop.candidates
        if mapping.is_analog(each.node.fqn)
    )


def enumerate_mappings(loop: SearchLoop) -> list[LayerMapping]:
    """Return every mapping of the candidates that fits on the tiles."""
    fqns, found = [each.node.fqn for each in loop.candidates], []
    for chosen in itertools.product((None, *LEVELS), repeat=len(fqns)):
        analog = {fqn: level for fqn, level in zip(fqns, chosen, strict=True) if level is not None}
        if loop.objective.fits(analog):
            found.append(on_tiles(loop.start, analog).with_policies(analog))
    return found


class TestPlans:
    @given(damage=rises, limit=st.integers(0, 40).map(lambda eighths: eighths / 8 + 1 / 64))
    def test_least_cost_then_fewest_reads_as_enumeration_finds(self, damage: list[float], limit: float):
        loop = make_loop(damage)
        plans = LevelPlans(loop, loop.level_increases())
        found = plans.find(limit)
        allowed = [each for each in enumerate_mappings(loop) if plans.sum_of(each) <= limit]
        best = min((loop.objective.cost(each), reads_of(loop, each)) for each in allowed)
        assert plans.sum_of(found) <= limit
        assert (loop.objective.cost(found), reads_of(loop, found)) == best

    @given(
        damage=st.lists(st.integers(0, 8).map(float), min_size=3, max_size=3),
        n_tiles=st.lists(st.integers(1, 3), min_size=3, max_size=3),
        max_tiles=st.integers(0, 9),
    )
    def test_the_tiles_suffice(self, damage: list[float], n_tiles: list[int], max_tiles: int):
        loop = make_loop(damage, n_tiles, max_tiles)
        plans = LevelPlans(loop, loop.level_increases())
        found = plans.find(5.0)
        allowed = [each for each in enumerate_mappings(loop) if plans.sum_of(each) <= 5.0]
        assert loop.objective.fits(found.analog)
        assert loop.objective.cost(found) == min(loop.objective.cost(each) for each in allowed)

    def test_sums_of_all_projections(self):
        loop = make_loop([4.0, 8.0])
        plans = LevelPlans(loop, loop.level_increases())
        assert (plans.least_sum, plans.largest_sum) == (3.0, 12.0)
        assert plans.find(12.0).policies == {}
        assert plans.find(3.0).policies == {"L0": ReadPolicy(n_reads=4), "L1": ReadPolicy(n_reads=4)}
        assert plans.find(0.0).analog == ()

    def test_a_decrease_of_the_loss_is_no_credit(self):
        loop = make_loop([-4.0, 2.0])
        plans = LevelPlans(loop, loop.level_increases())
        assert plans.sum_of(plans.find(0.5)) == 0.5
        assert plans.find(0.4).analog == ("L0",)


class TestSearch:
    def test_reads_are_bought_where_they_keep_the_bound(self):
        problem = FakeProblem([1.0, 0.5, 0.25])
        result = search("levels-training-free", problem, make_candidates(3), start_mapping(3), max_drop_pp=1.0)
        assert result.mapping.analog == ("L0", "L1", "L2")
        assert problem.drop_pp(result.mapping) <= 1.0
        assert result.mapping.policies  # 1.75 pp without any
        loop = make_loop([1.0, 0.5, 0.25])
        assert reads_of(loop, result.mapping) <= 1.5 * min(
            reads_of(loop, each)
            for each in enumerate_mappings(loop)
            if len(each.analog) == 3 and problem.drop_pp(each) <= 1.0
        )

    def test_no_reads_are_bought_that_are_not_needed(self):
        problem = FakeProblem([0.125, 0.125])
        result = search("levels-training-free", problem, make_candidates(2), start_mapping(2), max_drop_pp=1.0)
        assert result.mapping.analog == ("L0", "L1")
        assert result.mapping.policies == {}

    def test_what_no_policy_saves_stays_digital(self):
        problem = FakeProblem([40.0, 0.5])
        result = search("levels-training-free", problem, make_candidates(2), start_mapping(2), max_drop_pp=1.0)
        assert result.mapping.analog == ("L1",)

    def test_one_retraining_brings_more_to_tiles(self):
        problem = FakeProblem([8.0, 1.0, 1.0], healing=0.25)
        result = search("levels", problem, make_candidates(3), start_mapping(3), max_drop_pp=1.0)
        assert result.mapping.analog == ("L0", "L1", "L2")
        assert problem.n_trainings == 1
        assert problem.drop_pp(result.mapping, trained=problem.trained) <= 1.0

    def test_a_retraining_that_does_not_help_changes_nothing(self):
        problem = FakeProblem([40.0, 0.5], healing=1.0)
        result = search("levels", problem, make_candidates(2), start_mapping(2), max_drop_pp=1.0)
        assert problem.n_trainings == 1
        assert result.mapping.analog == ("L1",)
        assert problem.trained == 0

    @given(damage=st.lists(st.integers(0, 40).map(lambda n: n / 8), min_size=1, max_size=6))
    def test_as_many_macs_as_the_search_without_policies(self, damage: list[float]):
        """With drops that add up, few measurements come close to the best mapping with one read for all."""
        n = len(damage)
        levels = search("levels-training-free", FakeProblem(damage), make_candidates(n), start_mapping(n))
        loop = make_loop(damage)
        plain = [each for each in enumerate_plain(loop) if loop._problem.drop_pp(each) <= 1.0]
        least = min(loop.objective.cost(each) for each in plain)
        assert loop.objective.cost(levels.mapping) <= least + 0.25 * loop.objective.cost(loop.start)


class TestShrink:
    def test_an_excess_is_bought_back_with_reads_before_a_projection_is_given_up(self):
        loop = make_loop([0.5, 0.5])
        plans = LevelPlans(loop, loop.level_increases())
        shrink = LevelShrink(plans, slope=1.0)
        smaller = shrink(plans.find(1.0), 0.25)
        assert smaller is not None
        assert smaller.analog == ("L0", "L1")
        assert smaller.policies
        assert plans.sum_of(smaller) <= 0.75

    def test_an_excess_above_the_drop_leaves_mappings_between_everything_and_nothing(self):
        """A drop that the samples made too large once left a few projections, whatever a better policy of one would do."""
        loop = make_loop([0.5, 0.5])
        plans = LevelPlans(loop, loop.level_increases())
        shrink, whole = LevelShrink(plans, slope=1.0), plans.find(1.0)
        found = [shrink(whole, excess) for excess in (0.5, 1.0, 1.5, 100.0)]
        sums = [plans.sum_of(each) for each in found if each is not None]
        assert found[-1] is None
        assert len(sums) == 3
        assert sums == sorted(sums, reverse=True)
        assert sums[1] <= math.exp(-1.0)

    def test_a_search_leaves_its_own_way_to_smaller_mappings(self):
        loop = make_loop([1.0, 0.5, 0.25])
        STRATEGIES.find("levels-training-free").search(loop)
        assert loop.shrink is not None
        smaller = loop.shrink(loop.mapping, 0.25)
        assert smaller is not None
        assert loop.cost_of(smaller) > loop.cost_of(loop.mapping)


def enumerate_plain(loop: SearchLoop) -> list[LayerMapping]:
    fqns = [each.node.fqn for each in loop.candidates]
    sets = itertools.chain.from_iterable(itertools.combinations(fqns, n) for n in range(len(fqns) + 1))
    return [on_tiles(loop.start, each) for each in sets]


class TestMapping:
    def test_policies_are_written_and_read(self, tmp_path):
        mapping = LayerMapping({"a": Placement.ANALOG, "b": Placement.ANALOG}, policies={"b": ReadPolicy(n_reads=4)})
        mapping.save(tmp_path / "m.json")
        assert LayerMapping.load(tmp_path / "m.json") == mapping

    def test_a_digital_projection_has_no_policy(self):
        mapping = LayerMapping({"a": Placement.ANALOG}, policies={"a": ReadPolicy(n_reads=4)})
        assert mapping.with_placement("a", Placement.DIGITAL).policies == {}

    def test_a_policy_that_changes_nothing_is_left_out(self):
        assert LayerMapping({"a": Placement.ANALOG}, policies={"a": ReadPolicy()}).policies == {}

    @pytest.mark.parametrize(
        ("policy", "words"),
        [
            (ReadPolicy(), "as the tile"),
            (ReadPolicy(n_reads=4, row_copies=9), "4 reads, rows up to x9"),
            (ReadPolicy(digital_weights=1, input_range="sample"), "1 weights digital, sample range"),
        ],
    )
    def test_words(self, policy: ReadPolicy, words: str):
        assert str(policy) == words
