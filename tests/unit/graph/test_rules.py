"""Rules that choose projections: bounded in time and length."""

from __future__ import annotations

import resource

import pytest
from torch import nn, ones

from lionheart.candidates import find_candidates
from lionheart.devices import TileSpec
from lionheart.errors import ConfigError
from lionheart.graph import LayerGraph, trace_graph

TILE = TileSpec.ideal(16, 16)


def processor_time() -> float:
    """Return the processor time of this process and of the processes that it has started [s]; a busy machine does not count."""
    used = (resource.getrusage(each) for each in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


@pytest.fixture(scope="module")
def graph() -> LayerGraph:
    model = nn.Sequential()
    model.add_module("a" * 60 + "b", nn.Linear(4, 4))
    model.add_module("layer1", nn.Linear(4, 4))
    return trace_graph(model, ones(1, 4))


@pytest.mark.parametrize("rule", ["re:(a+)+$", "re:(a|a)*$", "re:(a*)*c", "re:(.*a){30}$", "re:^(\\w+\\s?)*$!"])
def test_an_expression_that_takes_for_ever_is_refused(graph: LayerGraph, rule: str):
    start = processor_time()
    with pytest.raises(ConfigError, match=r"takes longer than 2 s|matches no projection"):
        find_candidates(graph, TILE, exclude=[rule])
    assert processor_time() - start < 5


@pytest.mark.parametrize("rule", ["re:(a+)+b$", "re:^a{10,70}b?$", "re:a.*b", "re:a"])
def test_expressions_with_several_repetitions_work(graph: LayerGraph, rule: str):
    found = find_candidates(graph, TILE, exclude=[rule])
    assert [each.by_choice for each in found] == [True, rule == "re:a"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("re:" + "(" * 490 + ")" * 490, "nested too deeply|matches no projection|is not a valid regular expression"),
        ("re:(", "is not a valid regular expression"),
        ("re:a{99999999999999999999}", "is not a valid regular expression"),
        ("re:" + "a?" * 5_000, "a rule of 10,003 characters, expected at most 1,000"),
        ("x" * 100_000, "a rule of 100,000 characters"),
    ],
    ids=["deep", "open", "large", "long", "long name"],
)
def test_bad_expressions_are_one_short_error(graph: LayerGraph, rule: str, message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        find_candidates(graph, TILE, include=[rule])
    assert len(str(caught.value)) < 500
