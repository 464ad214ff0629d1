"""Search strategies on a made-up network whose accuracy is a sum of made-up damages. No training, no physics."""

from __future__ import annotations

import itertools

import pytest
from fake_problem import (
    BASELINE,
    FakeProblem,
    as_read_back,
    bounds,
    budgets,
    damages,
    make_accuracy,
    make_candidates,
    run,
    start_mapping,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lionheart.errors import ConfigError
from lionheart.mapping import LayerMapping
from lionheart.metrics import drop_pp
from lionheart.runs import TrainTrace
from lionheart.search import STRATEGIES, SearchLoop, SearchOutcome, SearchSpec, check_candidates, register_strategy
from lionheart.search.objective import on_tiles

# ---------------------------------------------------------------------------------------------------------- the greedy


@given(damages, bounds, budgets)
def test_greedy_keeps_the_bound_and_tries_each_candidate_once(damage_pp, bound, n_affordable):
    problem = FakeProblem(damage_pp, n_affordable)
    result = run("lionheart", problem, bound)
    n_tried = min(len(damage_pp), n_affordable)

    assert [line for line in problem.log if line.startswith("try")] == [f"try {i} L{i}" for i in range(n_tried)]
    assert len(problem.log) == 2 * n_tried  # each is committed or rolled back before the next
    verbs = {True: "commit", False: "rollback"}
    assert problem.log[1::2] == [f"{verbs[each.accepted]} {each.index} {each.fqn}" for each in result.decisions]
    analog: set[str] = set()
    for index, (decision, tried, settled) in enumerate(
        zip(result.decisions, problem.tried, problem.settled, strict=True)
    ):
        assert set(tried.analog) == analog | {f"L{index}"}  # what was accepted, and no rejected candidate again
        expected_pp = sum(damage_pp[int(name[1:])] for name in tried.analog)  # all of it: against the digital network
        assert decision.drop_pp == pytest.approx(expected_pp, abs=1e-9)
        assert decision.accepted == (expected_pp <= bound)
        if decision.accepted:
            analog.add(f"L{index}")
        assert settled[0] == decision
        assert set(settled[1].analog) == analog
    assert set(result.mapping.analog) == analog
    accepted = [decision for decision in result.decisions if decision.accepted]
    assert not accepted or accepted[-1].drop_pp <= bound


def test_the_drop_is_counted_from_the_baseline_not_from_the_last_trial():
    result = run("lionheart", FakeProblem([0.6, 0.6, 0.3, 0.3]), bound=1.0)
    assert [d.drop_pp for d in result.decisions] == pytest.approx([0.6, 1.2, 0.9, 1.2])
    assert result.mapping.analog == ("L0", "L2")
    assert result.outcome is SearchOutcome.MAPPED


@pytest.mark.parametrize("bound", [0.1 * tenths for tenths in range(1, 51)])
def test_a_drop_of_exactly_the_bound_is_within_it(bound):
    # 100 * (0.9 - 0.89) is 1.0000000000000009: the last bit must not decide
    measured = drop_pp(BASELINE, BASELINE - bound / 100)
    assert run("lionheart", FakeProblem([measured]), bound=bound).mapping.analog == ("L0",)
    assert run("lionheart", FakeProblem([measured + 1e-6]), bound=bound).mapping.analog == ()


def test_a_decision_tells_the_whole_trial():
    (decision,) = run("lionheart", FakeProblem([0.5], doubt_pp=0.25)).decisions
    assert decision.to_json() == {
        "index": 0, "fqn": "L0", "macs": 16, "accepted": True,
        "accuracy": make_accuracy(BASELINE - 0.005).to_json(), "drop_pp": 0.5, "drop_ucb_pp": 0.75,
        "train": TrainTrace(losses=(1.0,), n_steps=4).to_json(), "elapsed_s": 0.5,
        "analog": ["L0"], "policies": {}, "n_remeasured": 0, "note": "",
    }  # fmt: skip
    assert as_read_back([decision]) == [decision]


def test_a_mapping_of_a_step_with_several_is_the_last_measured():
    """Too much together, enough for the smaller one: the step's figures are that mapping's, its times add up."""
    problem = FakeProblem([0.75, 0.75])
    loop = SearchLoop(problem, make_candidates(2), start_mapping(2), max_drop_pp=1.0)
    small, large = (on_tiles(loop.start, names) for names in (["L0"], ["L0", "L1"]))
    assert loop.attempt(large, "both", macs=28, smaller=[small])
    (decision,) = loop.decisions
    assert (decision.analog, loop.mapping) == (("L0",), small)
    assert (decision.drop_pp, decision.n_remeasured, decision.elapsed_s) == (0.75, 1, 0.5 + 0.25)
    assert loop.last_drop_ucb_pp == 0.75
    assert problem.tried == [large]  # the other was measured with the weights of this trial
    assert problem.settled == [(decision, small)]


def test_what_is_held_against_the_bound_is_the_limit_of_the_drop():
    assert run("lionheart", FakeProblem([0.5], doubt_pp=0.75)).outcome is SearchOutcome.INFEASIBLE


def test_a_drop_that_is_no_number_is_never_kept():
    problem = FakeProblem([0.5, float("nan")])
    with pytest.raises(ValidationError, match="finite number"):
        run("lionheart", problem)
    assert [decision.fqn for decision, _ in problem.settled] == ["L0"]


def test_a_replayed_decision_is_believed():
    """The journal decides, not a new evaluation: with the verdict reversed by hand the search goes on from that."""
    first = run("lionheart", FakeProblem([0.5, 0.5])).decisions[0]
    reversed_ = first.replace(accepted=False, analog=None)
    assert run("lionheart", FakeProblem([0.5, 0.5], past=[reversed_])).mapping.analog == ("L1",)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("all-digital", ()), ("all-analog", ("L0", "L1", "L2")), ("first-last-digital", ("L1", "L2"))],
)
def test_strategies_that_search_nothing(name, expected):
    # the network's last projection is `kept`, which is no candidate
    problem = FakeProblem([5.0, 2.0, 1.5])
    result = run(name, problem)
    assert result.mapping.analog == expected
    assert len(problem.tried) == bool(expected)


# ---------------------------------------------------------------------------------------------------- shared training


def test_without_training_the_largest_prefix_and_what_else_fits():
    # MACs fall from L0 to L4; the loss rises least for each MAC in L1, L3, L0, L4, L2
    problem = FakeProblem([0.6, 0.1, 9.0, 0.2, 0.3])
    result = run("training-free", problem, bound=1.0)
    assert set(result.mapping.analog) == {"L0", "L1", "L3"}
    assert not any(decision.train.n_steps for decision in result.decisions)
    assert len(problem.tried) <= 3 + 2  # the prefix of five, then what is left


def test_drops_that_follow_the_rises_say_where_to_measure():
    problem = FakeProblem([0.1] * 40)
    assert len(run("training-free", problem, bound=1.25).mapping.analog) == 12
    assert [len(mapping.analog) for mapping in problem.tried] == [21, 12, 13]  # bisection would take six


def test_a_line_far_from_the_truth_does_not_delay_the_end():
    """Only the last costs anything, and the rises do not tell: the middle is taken where the line closes too little."""
    problem = FakeProblem([0.0] * 39 + [9.0])
    problem.loss_increase = lambda fqns: dict.fromkeys(fqns, 0.1)
    assert len(run("training-free", problem, bound=1.0).mapping.analog) == 39
    assert len(problem.tried) <= 12


def test_a_candidate_is_exchanged_for_one_with_more_macs():
    # the order is L1, L0, L2, and L1 with L0 is too much; L0 alone has more MACs than L1
    problem = FakeProblem([0.9, 0.3, 2.0])
    result = run("training-free", problem)
    assert result.mapping.analog == ("L0",)
    assert result.decisions[-1].fqn == "L0 for L1, not retrained"


@given(damages, bounds, st.data())
def test_rises_that_tell_nothing_of_the_drops(damage_pp, bound, data):
    """Sensitivities may be equal, or the wrong way round: the bound is kept, and the search ends."""
    problem = FakeProblem(damage_pp)
    rises = data.draw(
        st.lists(st.sampled_from([-0.1, 0.0, 0.1, 0.2]), min_size=len(damage_pp), max_size=len(damage_pp))
    )
    problem.loss_increase = lambda fqns: {fqn: rises[int(fqn[1:])] for fqn in fqns}
    mapping = run("training-free", problem, bound).mapping
    assert not mapping.analog or problem.drop_pp(mapping) <= bound
    assert len(problem.tried) <= 2 * len(damage_pp) + len(damage_pp) ** 2


def test_what_the_rises_say_is_too_much_is_not_tried():
    problem = FakeProblem([0.2, 0.3, 9.0, 9.0, 9.0])
    assert set(run("training-free", problem).mapping.analog) == {"L0", "L1"}
    assert all({"L3", "L4"}.isdisjoint(mapping.analog) or len(mapping.analog) > 3 for mapping in problem.tried)


def test_one_training_serves_all_where_the_greedy_trains_for_each():
    damages_pp = [0.3] * 9 + [6.0]
    shared, greedy = FakeProblem(damages_pp, healing=0.5), FakeProblem(damages_pp, healing=0.5)
    found = run("shared", shared, bound=1.6)
    reference = run("lionheart", greedy, bound=1.6)
    assert set(found.mapping.analog) == {f"L{i}" for i in range(9)} >= set(reference.mapping.analog)
    assert shared.n_trainings <= 2 < greedy.n_trainings == 10


@given(damages, bounds)
def test_shared_never_maps_less_than_without_training(damage_pp, bound):
    def macs(name: str) -> int:
        n = len(damage_pp)
        mapping = run(name, FakeProblem(damage_pp, healing=0.5), bound).mapping
        return sum(c.node.macs for c in make_candidates(n) if mapping.is_analog(c.node.fqn))

    assert macs("shared") >= macs("training-free")


# ---------------------------------------------------------------------------------------------------- by the Hessian


def test_by_the_hessian_with_one_training_for_what_is_left():
    # as they are L1, L3, L0 fit; after the one training, which halves all damage, L4 does too, and L2 never
    problem = FakeProblem([0.3, 0.1, 9.0, 0.2, 1.1], healing=0.5)
    result = run("hessian", problem, bound=1.0)
    assert set(result.mapping.analog) == {"L0", "L1", "L3", "L4"}
    assert problem.n_trainings == 1
    assert [bool(decision.train.n_steps) for decision in result.decisions].index(True) == len(result.decisions) - 1


@given(damages, bounds, budgets)
def test_by_the_hessian_trains_once_at_most(damage_pp, bound, n_affordable):
    problem = FakeProblem(damage_pp, n_affordable, healing=0.5)
    run("hessian", problem, bound)
    assert problem.n_trainings <= 1
    assert len(problem.tried) <= 2 * len(damage_pp).bit_length() + 1


# ---------------------------------------------------------------------------------------------------------- exhaustive


def macs_of(mapping: LayerMapping, n: int) -> int:
    return sum(c.node.macs for c in make_candidates(n) if mapping.is_analog(c.node.fqn))


@given(st.lists(st.integers(-8, 40).map(lambda eighths: eighths / 8), max_size=6), bounds)
def test_exhaustive_finds_the_most_macs_of_all_mappings(damage_pp, bound):
    n = len(damage_pp)
    problem = FakeProblem(damage_pp)
    found = run("exhaustive", problem, bound).mapping
    sizes = [macs_of(mapping, n) for mapping in problem.tried]
    assert sizes == sorted(sizes, reverse=True)
    assert len({mapping.analog for mapping in problem.tried}) == len(problem.tried) <= 2**n - 1
    assert problem.n_trainings == 0
    names = [f"L{i}" for i in range(n)]
    every = itertools.chain.from_iterable(itertools.combinations(range(n), size) for size in range(1, n + 1))
    within = [chosen for chosen in every if sum(damage_pp[i] for i in chosen) <= bound]
    best = max((sum(make_candidates(n)[i].node.macs for i in chosen) for chosen in within), default=0)
    assert macs_of(found, n) == best
    assert set(found.analog) <= set(names)


@given(damages.map(lambda each: each[:6]), bounds)
def test_exhaustive_is_the_ceiling_of_training_free(damage_pp, bound):
    n = len(damage_pp)
    other = macs_of(run("training-free", FakeProblem(damage_pp), bound).mapping, n)
    assert macs_of(run("exhaustive", FakeProblem(damage_pp), bound).mapping, n) >= other


def test_exhaustive_refuses_large_networks_before_anything_is_tried():
    problem = FakeProblem([9.0] * 13)
    with pytest.raises(ConfigError, match="'exhaustive' accepts at most 12 layers that may become analog") as caught:
        run("exhaustive", problem)
    assert "exclude" in caught.value.hint
    assert problem.log == []
    check_candidates("exhaustive", make_candidates(12))
    check_candidates("lionheart", make_candidates(99))


# --------------------------------------------------------------------------------------------------- names and settings


def test_unknown_strategy_suggests():
    with pytest.raises(ConfigError, match="search.strategy: got 'lionhart'") as caught:
        STRATEGIES.find("lionhart")
    assert "did you mean 'lionheart'" in caught.value.hint


def test_a_name_is_registered_once():
    before = STRATEGIES.items()
    with pytest.raises(ConfigError, match="'lionheart' is already registered"):
        register_strategy("lionheart")(lambda loop: None)
    assert STRATEGIES.items() == before


@pytest.mark.parametrize("bound", [0, -1, 100, 200, float("nan"), float("inf"), "much"])
def test_impossible_bounds(bound):
    with pytest.raises(ConfigError, match="SearchSpec.max_drop_pp: got"):
        SearchSpec(max_drop_pp=bound)


def test_times_are_read_with_their_units():
    spec = SearchSpec(t_inference="1d", report_times=("1h", 5))
    assert (spec.t_inference, spec.report_times) == (86_400.0, (3_600.0, 5.0))
    with pytest.raises(ConfigError, match="got 'soon'"):
        SearchSpec(t_inference="soon")
