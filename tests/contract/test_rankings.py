"""What every registered ranking owes: a worth for each candidate, the same for the same run, and no change to the network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import pytest
import torch
from quadrants import build_task, make_context, make_settings

from lionheart import registry
from lionheart.errors import ConfigError
from lionheart.jobs.objective import PRICED
from lionheart.jobs.ranking import RANKINGS, check_ranking, rank_for_run
from lionheart.search import Problem

FQNS = ("0", "3", "7")


class FakeProblem:
    """Knows how much each projection raises the loss, and who asked for which."""

    def __init__(self, rises: Sequence[float] = (0.3, 0.1, 0.2)) -> None:
        self.rises, self.asked = dict(zip(FQNS, rises, strict=True)), []

    def loss_increase(self, fqns: Sequence[str]) -> dict[str, float]:
        self.asked.append(tuple(fqns))
        return {fqn: self.rises[fqn] for fqn in fqns}

    expected_loss_increase = loss_increase


def settings_of(name: str, **search: object):
    return make_settings(search={"ranking": name, **search})


def ranked(name: str, problem: Problem | None = None, **search: object) -> list[str]:
    context = make_context(build_task(), settings_of(name, **search))
    return [each.node.fqn for each in rank_for_run(context, problem or FakeProblem())]


@pytest.mark.parametrize("name", RANKINGS)
class TestContract:
    def test_it_is_a_module_of_its_own_that_says_what_it_prefers(self, name):
        ranking = RANKINGS.find(name)
        assert ranking.__module__ == f"lionheart.jobs.rankings.{name.replace('-', '_')}"
        assert import_module(ranking.__module__).__doc__
        assert ranking.__doc__
        assert RANKINGS is registry.RANKINGS

    def test_it_is_checked_before_a_run(self, name):
        check_ranking(settings_of(name))
        without = make_settings(search={"ranking": name}, platforms=())
        if name in PRICED:
            with pytest.raises(ConfigError, match=f"ranking: got '{name}', which needs a platform"):
                check_ranking(without)
        else:
            check_ranking(without)

    def test_every_candidate_has_a_worth_and_they_compare(self, name):
        context = make_context(build_task(), settings_of(name))
        candidates = sorted(context.mappable, key=lambda each: -each.node.macs)
        worth = RANKINGS.find(name)(context, candidates, FakeProblem())
        assert set(worth) == set(FQNS)
        assert len(sorted(worth.values())) == len(FQNS)

    def test_an_order_has_each_candidate_once_and_repeats(self, name):
        order = ranked(name)
        assert sorted(order) == sorted(FQNS)
        assert ranked(name) == order

    @pytest.mark.parametrize("objective", ["macs", "weights", "time", "energy"])
    def test_what_is_excluded_is_not_ranked_and_the_rest_keeps_its_order(self, name, objective):
        order = ranked(name, objective=objective)
        assert ranked(name, objective=objective, exclude=["3"]) == [fqn for fqn in order if fqn != "3"]
        assert ranked(name, exclude=["*"]) == []

    def test_only_what_may_go_analog_is_measured_and_at_most_once(self, name):
        problem = FakeProblem()
        ranked(name, problem, exclude=["3"])
        assert [sorted(fqns) for fqns in problem.asked] in ([], [["0", "7"]])

    def test_the_network_and_the_global_random_state_stay_as_they_are(self, name):
        task, state = build_task(), torch.get_rng_state()
        before = {key: value.clone() for key, value in task.model.state_dict().items()}
        rank_for_run(make_context(task, settings_of(name)), FakeProblem())
        assert all(torch.equal(value, before[key]) for key, value in task.model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state)
