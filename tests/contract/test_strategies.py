"""What every registered search strategy owes: a mapping it can account for, the bound, the budget, and exact replay."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from importlib import import_module

import numpy as np
import pytest
from fake_problem import (
    FakeProblem,
    as_read_back,
    bounds,
    budgets,
    damages,
    make_candidates,
    run,
    search,
    start_mapping,
    steps_of,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint

from lionheart import registry
from lionheart.search import STRATEGIES, Decision, Objective, SearchOutcome, count_digital, levels

FORCED = ("all-analog", "first-last-digital")  # keep what they map, whatever it costs
KEEPING = sorted(set(STRATEGIES) - {*FORCED, "all-digital"})
LARGEST = {"exhaustive": 4, "levels": 5, "levels-training-free": 5}  # candidates in these tests, where fewer do


@pytest.fixture(scope="module", autouse=True)
def solved_once() -> Iterator[None]:
    """Each integer program is solved once, since replays ask for the same ones; tests/unit/search checks solutions."""
    solve, known = levels._solve, {}

    def solve_once(costs: np.ndarray, constraints: Sequence[LinearConstraint], bounds: Bounds) -> np.ndarray:
        arrays = [costs, bounds.lb, bounds.ub, *itertools.chain(*((each.A, each.lb, each.ub) for each in constraints))]
        key = tuple((np.shape(each), np.asarray(each, dtype=float).tobytes()) for each in arrays)
        if key not in known:
            known[key] = solve(costs, constraints, bounds)
        return known[key].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levels, "_solve", solve_once)
        yield


def cut(name: str, damage_pp: list[float]) -> list[float]:
    return damage_pp[: LARGEST.get(name)]


@pytest.mark.parametrize("name", STRATEGIES)
class TestEvery:
    """What any strategy owes, also one that only forces a mapping."""

    def test_it_is_a_module_of_its_own_that_says_what_it_does(self, name):
        strategy = STRATEGIES.find(name)
        module = import_module(strategy.search.__module__)
        assert module.__name__.startswith("lionheart.search.strategies.")
        assert module.__doc__
        assert strategy.search.__doc__
        others = [each for each in STRATEGIES if each != name]
        assert all(STRATEGIES.find(each).search.__module__ != module.__name__ for each in others)
        assert STRATEGIES is registry.STRATEGIES

    @given(damage_pp=damages, bound=bounds, n_affordable=budgets)
    def test_the_decisions_account_for_the_mapping(self, name, damage_pp, bound, n_affordable):
        damage_pp = cut(name, damage_pp)
        problem = FakeProblem(damage_pp, n_affordable)
        result = run(name, problem, bound)
        assert list(result.mapping.placements) == list(start_mapping(len(damage_pp)).placements)
        assert not result.mapping.is_analog("kept")
        assert len(problem.tried) <= n_affordable
        assert [decision for decision, _ in problem.settled] == list(result.decisions)
        assert [each.index for each in result.decisions] == list(range(len(result.decisions)))
        holds = start_mapping(len(damage_pp))
        for decision, mapping in problem.settled:
            if decision.accepted:
                assert decision.analog == mapping.analog
                holds = mapping
            else:
                assert decision.analog is None
            assert mapping == holds  # a rollback returns to the mapping before
        assert result.mapping == holds
        outcome = SearchOutcome.MAPPED if holds.analog else SearchOutcome.INFEASIBLE
        assert result.outcome in (outcome, SearchOutcome.BUDGET)

    @given(damage_pp=damages, bound=bounds, n_affordable=budgets)
    def test_replay_of_past_decisions_ends_the_same(self, name, damage_pp, bound, n_affordable):
        damage_pp = cut(name, damage_pp)
        whole = FakeProblem(damage_pp, n_affordable)
        unbroken = run(name, whole, bound)
        for number in range(len(unbroken.decisions) + 1):
            past = [Decision(**json.loads(json.dumps(each.to_json()))) for each in unbroken.decisions[:number]]
            assert past == as_read_back(unbroken.decisions[:number])
            resumed = FakeProblem(damage_pp, n_affordable, past=past, trained=steps_of(past))
            again = run(name, resumed, bound)
            assert again == unbroken
            assert resumed.log == whole.log[2 * number :]  # nothing is tried, kept or undone twice

    @given(damage_pp=damages.filter(len), bound=bounds)
    def test_budget_ends_it_with_the_best_so_far(self, name, damage_pp, bound):
        damage_pp = cut(name, damage_pp)
        whole = run(name, FakeProblem(damage_pp), bound)
        for n_affordable in range(len(whole.decisions)):
            cut_short = run(name, FakeProblem(damage_pp, n_affordable), bound)
            assert cut_short.outcome is SearchOutcome.BUDGET
            assert cut_short.decisions == whole.decisions[:n_affordable]
        exactly_enough = run(name, FakeProblem(damage_pp, len(whole.decisions)), bound)
        assert exactly_enough == whole

    @given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.integers(0, 8))
    def test_nothing_is_tried_that_does_not_fit(self, name, n_tiles, max_tiles):
        n_tiles = cut(name, n_tiles)
        candidates = make_candidates(len(n_tiles), n_tiles)
        sizes = {each.node.fqn: each.partition.n_tiles for each in candidates}
        assert list(sizes.values()) == n_tiles
        worth = {each.node.fqn: each.node.macs for each in candidates}
        objective = Objective(count_digital(worth), sizes, max_tiles=max_tiles)
        problem = FakeProblem([0.25] * len(n_tiles), healing=0.5)
        result = search(name, problem, candidates, start_mapping(len(n_tiles)), max_drop_pp=0.8, objective=objective)
        for mapping in [*problem.tried, *(mapping for _, mapping in problem.settled), result.mapping]:
            assert sum(sizes[fqn] for fqn in mapping.analog) <= max_tiles
        assert all(not result.mapping.is_analog(fqn) for fqn in result.notes)

    def test_nothing_to_try_is_infeasible(self, name):
        problem = FakeProblem([])
        result = run(name, problem)
        assert (result.outcome, result.decisions, problem.log) == (SearchOutcome.INFEASIBLE, (), [])

    @given(damage_pp=damages, bound=bounds)
    def test_early_stop_is_asked_for_as_it_was_registered(self, name, damage_pp, bound):
        asked = []

        class Watched(FakeProblem):
            def try_mapping(self, *args, early_stop, **kwargs):
                asked.append(early_stop)
                return super().try_mapping(*args, early_stop=early_stop, **kwargs)

            def remeasure(self, *args, early_stop, **kwargs):
                asked.append(early_stop)
                return super().remeasure(*args, early_stop=early_stop, **kwargs)

        run(name, Watched(cut(name, damage_pp), healing=0.5), bound)
        assert set(asked) <= {STRATEGIES.find(name).early_stop}


@pytest.mark.parametrize("name", KEEPING)
class TestKeeping:
    """What any strategy owes that keeps the bound, whatever its order of trials."""

    @given(damage_pp=damages, bound=bounds, n_affordable=budgets)
    def test_result_is_within_the_bound(self, name, damage_pp, bound, n_affordable):
        problem = FakeProblem(cut(name, damage_pp), n_affordable)
        result = run(name, problem, bound)
        if result.mapping.analog:
            assert problem.drop_pp(result.mapping) <= bound
        assert all(each.drop_ucb_pp <= bound for each in result.decisions if each.accepted)

    def test_infeasible_is_a_result(self, name):
        result = run(name, FakeProblem([20.0, 8.0, 6.0]))
        assert result.outcome is SearchOutcome.INFEASIBLE
        assert result.mapping == start_mapping(3)
        assert result.decisions
        assert not any(decision.accepted for decision in result.decisions)

    def test_what_costs_nothing_goes_analog(self, name):
        assert run(name, FakeProblem([0.0] * 4)).mapping.analog == ("L0", "L1", "L2", "L3")

    def test_the_limit_of_the_drop_counts_not_the_drop(self, name):
        for damage_pp in itertools.product((0.25, 0.5), repeat=2):
            assert run(name, FakeProblem(damage_pp, doubt_pp=1.0)).mapping.analog == ()
