"""Search strategies on a made-up network whose accuracy is a sum of made-up damages. No training, no physics."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
from fake_problem import BASELINE, FakeProblem
from hypothesis import given
from hypothesis import strategies as st

from lionheart.candidates import Candidate
from lionheart.errors import ConfigError
from lionheart.graph import LayerNode
from lionheart.mapping import LayerMapping, Placement
from lionheart.partition import partition_matrix
from lionheart.search import (
    STRATEGIES,
    Decision,
    SearchOutcome,
    SearchSpec,
    check_candidates,
    find_strategy,
    search_greedily,
)
from lionheart.search.registry import register_strategy


def make_candidates(n: int) -> list[Candidate]:
    nodes = [
        LayerNode(f"L{i}", "linear", rows=4, cols=4, groups=1, n_mvms=n - i, n_calls=1, n_inputs=4, n_outputs=4,
                  has_bias=True)
        for i in range(n)
    ]  # fmt: skip
    return [Candidate(node, partition_matrix(4, 4, 1, 8, 8)) for node in nodes]


def start_mapping(n: int) -> LayerMapping:
    """One projection more than there are candidates: `kept` is none and must stay digital."""
    return LayerMapping({**{f"L{i}": Placement.DIGITAL for i in range(n)}, "kept": Placement.DIGITAL})


def run(strategy, problem: FakeProblem, bound: float = 1.0):
    n = len(problem.damage_pp)
    return strategy(problem, make_candidates(n), start_mapping(n), max_drop_pp=bound)


# Multiples of 1/8 pp, and bounds between them: no drop lies on the bound, where the last bit would decide.
damages = st.lists(st.integers(-8, 40).map(lambda eighths: eighths / 8), max_size=9)
bounds = st.integers(0, 40).map(lambda eighths: eighths / 8 + 1 / 16)
budgets = st.one_of(st.just(10**6), st.integers(0, 9))

# ---------------------------------------------------------------------------------------------------------- the greedy


@given(damages, bounds, budgets)
def test_greedy_keeps_the_bound_and_tries_each_candidate_once(damage_pp, bound, n_affordable):
    problem = FakeProblem(damage_pp, n_affordable)
    result = run(search_greedily, problem, bound)
    n_tried = min(len(damage_pp), n_affordable)

    assert problem.log == [f"{verb} {i} L{i}" for i in range(n_tried) for verb in ("try", "settle")]
    analog: set[str] = set()
    for index, (decision, tried, settled) in enumerate(
        zip(result.decisions, problem.tried, problem.settled, strict=True)
    ):
        assert set(tried.analog) == analog | {f"L{index}"}  # what was accepted, and no rejected candidate again
        drop_pp = sum(damage_pp[int(name[1:])] for name in tried.analog)  # all of it: against the digital network
        assert decision.drop_pp == pytest.approx(drop_pp, abs=1e-9)
        assert decision.accepted == (drop_pp <= bound)
        if decision.accepted:
            analog.add(f"L{index}")
        assert settled[0] == decision
        assert set(settled[1].analog) == analog
    assert set(result.mapping.analog) == analog
    accepted = [decision for decision in result.decisions if decision.accepted]
    assert not accepted or accepted[-1].drop_pp <= bound


def test_the_drop_is_counted_from_the_baseline_not_from_the_last_trial():
    result = run(search_greedily, FakeProblem([0.6, 0.6, 0.3, 0.3]), bound=1.0)
    assert [d.drop_pp for d in result.decisions] == pytest.approx([0.6, 1.2, 0.9, 1.2])
    assert result.mapping.analog == ("L0", "L2")
    assert result.outcome is SearchOutcome.MAPPED


@pytest.mark.parametrize("bound", [0.1 * tenths for tenths in range(1, 51)])
def test_a_drop_of_exactly_the_bound_is_within_it(bound):
    # 100 * (0.9 - 0.89) is 1.0000000000000009: the last bit must not decide
    assert run(search_greedily, FakeProblem([bound]), bound=bound).mapping.analog == ("L0",)


def test_a_decision_tells_the_whole_trial():
    (decision,) = run(search_greedily, FakeProblem([0.5])).decisions
    assert decision.to_json() == {
        "index": 0, "fqn": "L0", "macs": 16, "accepted": True, "accuracy": {"mean": BASELINE - 0.005},
        "drop_pp": pytest.approx(0.5), "train": {"losses": [1.0], "n_steps": 4}, "elapsed_s": 0.5, "analog": ("L0",),
        "n_remeasured": 0, "limit_pp": pytest.approx(0.5),
    }  # fmt: skip
    assert Decision(**decision.to_json()) == decision


def test_an_accuracy_that_is_no_number_is_rejected():
    result = run(search_greedily, FakeProblem([float("nan")]))
    assert result.outcome is SearchOutcome.INFEASIBLE


# ----------------------------------------------------------------------------- the contract of every strategy

FORCED = ("all-analog", "first-last-digital")  # keep what they map, whatever it costs
KEEPING = sorted(set(STRATEGIES) - {*FORCED, "all-digital"})
LARGEST = {"exhaustive": 4}  # candidates in these tests, where fewer do: 15 mappings


@pytest.mark.parametrize("name", KEEPING)
class TestContract:
    """What any strategy owes that keeps the bound, whatever its order of trials."""

    @given(damage_pp=damages, bound=bounds, n_affordable=budgets)
    def test_result_is_within_the_bound(self, name, damage_pp, bound, n_affordable):
        damage_pp = damage_pp[: LARGEST.get(name)]
        problem = FakeProblem(damage_pp, n_affordable)
        result = run(find_strategy(name), problem, bound)
        assert list(result.mapping.placements) == list(start_mapping(len(damage_pp)).placements)
        assert not result.mapping.is_analog("kept")
        if result.mapping.analog:
            assert problem.drop_pp(result.mapping) <= bound
        assert problem.settled == [] or problem.settled[-1][1] == result.mapping
        assert [decision for decision, _ in problem.settled] == list(result.decisions)
        assert len(problem.tried) <= n_affordable

    @given(damage_pp=damages, bound=bounds, n_affordable=budgets)
    def test_replay_of_past_decisions_ends_the_same(self, name, damage_pp, bound, n_affordable):
        damage_pp = damage_pp[: LARGEST.get(name)]
        whole = FakeProblem(damage_pp, n_affordable)
        unbroken = run(find_strategy(name), whole, bound)
        for cut in range(len(unbroken.decisions) + 1):
            past = [Decision(**json.loads(json.dumps(each.to_json()))) for each in unbroken.decisions[:cut]]
            resumed = FakeProblem(damage_pp, n_affordable, past=past, trained=sum(p.train["n_steps"] for p in past))
            again = run(find_strategy(name), resumed, bound)
            assert (again.mapping, again.outcome) == (unbroken.mapping, unbroken.outcome)
            assert [each.to_json() for each in again.decisions[cut:]] == [
                each.to_json() for each in unbroken.decisions[cut:]
            ]
            assert resumed.log == whole.log[2 * cut :]  # nothing is tried or settled twice

    @given(damage_pp=damages.filter(len), bound=bounds)
    def test_budget_ends_it_with_the_best_so_far(self, name, damage_pp, bound):
        damage_pp = damage_pp[: LARGEST.get(name)]
        whole = run(find_strategy(name), FakeProblem(damage_pp), bound)
        for n_affordable in range(len(whole.decisions)):
            cut_short = run(find_strategy(name), FakeProblem(damage_pp, n_affordable), bound)
            assert cut_short.outcome is SearchOutcome.BUDGET
            assert len(cut_short.decisions) == n_affordable
        exactly_enough = run(find_strategy(name), FakeProblem(damage_pp, len(whole.decisions)), bound)
        assert exactly_enough == whole

    def test_infeasible_is_a_result(self, name):
        result = run(find_strategy(name), FakeProblem([5.0, 2.0, 1.5]))
        assert result.outcome is SearchOutcome.INFEASIBLE
        assert result.mapping == start_mapping(3)
        assert result.decisions
        assert not any(decision.accepted for decision in result.decisions)

    def test_nothing_to_try_is_infeasible(self, name):
        result = run(find_strategy(name), FakeProblem([]))
        assert (result.outcome, result.decisions) == (SearchOutcome.INFEASIBLE, ())


def test_a_replayed_decision_is_believed():
    """The journal decides, not a new evaluation: with the verdict reversed by hand the search goes on from that."""
    first = run(search_greedily, FakeProblem([0.5, 0.5])).decisions[0]
    reversed_ = replace(first, accepted=False, analog=None)
    assert run(search_greedily, FakeProblem([0.5, 0.5], past=[reversed_])).mapping.analog == ("L1",)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("all-digital", ()), ("all-analog", ("L0", "L1", "L2")), ("first-last-digital", ("L1", "L2"))],
)
def test_strategies_that_search_nothing(name, expected):
    # the network's last projection is `kept`, which is no candidate
    problem = FakeProblem([5.0, 2.0, 1.5])
    result = run(find_strategy(name), problem)
    assert result.mapping.analog == expected
    assert len(problem.tried) == bool(expected)


# ---------------------------------------------------------------------------------------------------- shared training


def test_without_training_the_largest_prefix_and_what_else_fits():
    # MACs fall from L0 to L4; the loss rises least for each MAC in L1, L3, L0, L4, L2
    problem = FakeProblem([0.6, 0.1, 9.0, 0.2, 0.3])
    result = run(find_strategy("training-free"), problem, bound=1.0)
    assert set(result.mapping.analog) == {"L0", "L1", "L3"}
    assert not any(decision.train["n_steps"] for decision in result.decisions)
    assert len(problem.tried) <= 3 + 2  # the prefix of five, then what is left


def test_drops_that_follow_the_rises_say_where_to_measure():
    problem = FakeProblem([0.1] * 40)
    assert len(run(find_strategy("training-free"), problem, bound=1.25).mapping.analog) == 12
    assert [len(mapping.analog) for mapping in problem.tried] == [21, 12, 13]  # bisection would take six


def test_a_line_far_from_the_truth_does_not_delay_the_end():
    """Only the last costs anything, and the rises do not tell: the middle is taken where the line closes too little."""
    problem = FakeProblem([0.0] * 39 + [9.0])
    problem.loss_increase = lambda fqns: dict.fromkeys(fqns, 0.1)
    assert len(run(find_strategy("training-free"), problem, bound=1.0).mapping.analog) == 39
    assert len(problem.tried) <= 12


def test_a_candidate_is_exchanged_for_one_with_more_macs():
    # the order is L1, L0, L2, and L1 with L0 is too much; L0 alone has more MACs than L1
    problem = FakeProblem([0.9, 0.3, 2.0])
    result = run(find_strategy("training-free"), problem)
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
    mapping = run(find_strategy("training-free"), problem, bound).mapping
    assert not mapping.analog or problem.drop_pp(mapping) <= bound
    assert len(problem.tried) <= 2 * len(damage_pp) + len(damage_pp) ** 2


def test_what_the_rises_say_is_too_much_is_not_tried():
    problem = FakeProblem([0.2, 0.3, 9.0, 9.0, 9.0])
    assert set(run(find_strategy("training-free"), problem).mapping.analog) == {"L0", "L1"}
    assert all({"L3", "L4"}.isdisjoint(mapping.analog) or len(mapping.analog) > 3 for mapping in problem.tried)


def test_one_training_serves_all_where_the_greedy_trains_for_each():
    damages_pp = [0.3] * 9 + [6.0]
    shared, greedy = FakeProblem(damages_pp, healing=0.5), FakeProblem(damages_pp, healing=0.5)
    found = run(find_strategy("shared"), shared, bound=1.6)
    reference = run(search_greedily, greedy, bound=1.6)
    assert set(found.mapping.analog) == {f"L{i}" for i in range(9)} >= set(reference.mapping.analog)
    assert shared.n_trainings <= 2 < greedy.n_trainings == 10


@given(damages, bounds)
def test_shared_never_maps_less_than_without_training(damage_pp, bound):
    def macs(name: str) -> int:
        n = len(damage_pp)
        mapping = run(find_strategy(name), FakeProblem(damage_pp, healing=0.5), bound).mapping
        return sum(c.node.macs for c in make_candidates(n) if mapping.is_analog(c.node.fqn))

    assert macs("shared") >= macs("training-free")


# ---------------------------------------------------------------------------------------------------- by the Hessian


def test_by_the_hessian_with_one_training_for_what_is_left():
    # as they are L1, L3, L0 fit; after the one training, which halves all damage, L4 does too, and L2 never
    problem = FakeProblem([0.3, 0.1, 9.0, 0.2, 1.1], healing=0.5)
    result = run(find_strategy("hessian"), problem, bound=1.0)
    assert set(result.mapping.analog) == {"L0", "L1", "L3", "L4"}
    assert problem.n_trainings == 1
    assert [bool(decision.train["n_steps"]) for decision in result.decisions].index(True) == len(result.decisions) - 1


@given(damages, bounds, budgets)
def test_by_the_hessian_trains_once_at_most(damage_pp, bound, n_affordable):
    problem = FakeProblem(damage_pp, n_affordable, healing=0.5)
    run(find_strategy("hessian"), problem, bound)
    assert problem.n_trainings <= 1
    assert len(problem.tried) <= 2 * len(damage_pp).bit_length() + 1


# ---------------------------------------------------------------------------------------------------------- exhaustive


def macs_of(mapping: LayerMapping, n: int) -> int:
    return sum(c.node.macs for c in make_candidates(n) if mapping.is_analog(c.node.fqn))


@given(st.lists(st.integers(-8, 40).map(lambda eighths: eighths / 8), max_size=6), bounds)
def test_exhaustive_finds_the_most_macs_of_all_mappings(damage_pp, bound):
    n = len(damage_pp)
    problem = FakeProblem(damage_pp)
    found = run(find_strategy("exhaustive"), problem, bound).mapping
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
    other = macs_of(run(find_strategy("training-free"), FakeProblem(damage_pp), bound).mapping, n)
    assert macs_of(run(find_strategy("exhaustive"), FakeProblem(damage_pp), bound).mapping, n) >= other


def test_exhaustive_refuses_large_networks_before_anything_is_tried():
    problem = FakeProblem([9.0] * 13)
    with pytest.raises(ConfigError, match="exhaustive tries every mapping and is for at most 12 candidates") as caught:
        run(find_strategy("exhaustive"), problem)
    assert "exclude" in caught.value.hint
    assert problem.log == []
    check_candidates("exhaustive", make_candidates(12))
    check_candidates("lionheart", make_candidates(99))


# --------------------------------------------------------------------------------------------------- names and settings


def test_unknown_strategy_suggests():
    with pytest.raises(ConfigError, match="search.strategy: got 'lionhart'") as caught:
        find_strategy("lionhart")
    assert "did you mean 'lionheart'" in caught.value.hint


def test_a_name_is_registered_once():
    before = dict(STRATEGIES)
    with pytest.raises(ConfigError, match="'lionheart' is registered twice"):
        register_strategy("lionheart")(search_greedily)
    assert before == STRATEGIES


@pytest.mark.parametrize("bound", [0, -1, 100, 200, float("nan"), float("inf"), "much"])
def test_impossible_bounds(bound):
    with pytest.raises(ConfigError, match="SearchSpec.max_drop_pp: got"):
        SearchSpec(max_drop_pp=bound)


def test_times_are_read_with_their_units():
    spec = SearchSpec(t_inference="1d", report_times=("1h", 5))
    assert (spec.t_inference, spec.report_times) == (86_400.0, (3_600.0, 5.0))
    with pytest.raises(ConfigError, match="got 'soon'"):
        SearchSpec(t_inference="soon")
