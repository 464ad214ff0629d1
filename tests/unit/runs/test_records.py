"""What a run writes: derived figures, equality, and a schema in which everything is described."""

from __future__ import annotations

import pytest
import torch
from fake_problem import make_accuracy

from lionheart.jobs.profile import Change, ProfilePoint
from lionheart.mapping import LayerMapping, Placement
from lionheart.metrics import ACCURACY
from lionheart.record import Record
from lionheart.runs import Baseline, Evaluation, Results, RunDescription, SearchOutcome


def make_results(**changes: object) -> Results:
    plain = {
        "outcome": SearchOutcome.MAPPED, "metric": ACCURACY, "max_drop_pp": 1.0, "t_inference": 86_400.0,
        "confidence": 0.95, "mapping": LayerMapping({"a": Placement.ANALOG}), "analog_mac_share": 1.0,
        "analog_weight_share": 1.0, "n_tiles": 1, "baseline": Baseline(validation_accuracy=0.9),
        "validation": make_accuracy(0.89), "decisions": (),
    }  # fmt: skip
    return Results(**{**plain, **changes})


def test_the_drop_of_the_results_is_free_of_rounding_dust():
    results = make_results()
    assert results.validation_drop_pp == 1.0  # 100 * (0.9 - 0.89) is 1.0000000000000009
    assert results.to_json()["validation_drop_pp"] == 1.0
    assert results.replace(validation=make_accuracy(0.9)).validation_drop_pp == 0.0


def test_results_are_plain_data_and_back():
    results = make_results()
    assert results.to_json()["schema_version"] == 2
    assert Results.from_json(results.to_json(), "results.json") == results


def test_estimates_are_equal_if_they_say_the_same():
    """Comparing two that kept their samples raised an error, and one that was read back differed from what was written."""
    one, other = (make_accuracy(0.9, n_samples=2, samples=torch.tensor([0.8, 1.0])) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert make_accuracy(0.9, n_samples=2) == one
    assert one != one.replace(mean=0.8)
    assert one != one.replace(n_samples=3)
    assert one != "one"
    assert one.to_json().keys() == {
        "t_inference", "mean", "low", "high", "std", "n_chips", "scores", "n_samples",
    }  # fmt: skip


def test_points_of_a_profile_differ_in_their_drops_too():
    change = Change(mean=0.0, low=0.0, high=0.0)
    point = ProfilePoint(**make_accuracy(0.9).to_json(), drop_pp=1.0, drop_low_pp=1.0, drop_high_pp=1.0, change=change)
    assert point == point.replace()
    assert point != point.replace(drop_pp=2.0)
    assert point != make_accuracy(0.9)
    assert make_accuracy(0.9) != point


@pytest.mark.parametrize("kind", [Results, RunDescription, Evaluation])
def test_every_figure_is_described(kind: type[Record]):
    schema = kind.model_json_schema(mode="serialization")
    objects = [schema, *(each for each in schema.get("$defs", {}).values() if "properties" in each)]
    assert len(objects) > 1
    for each in objects:
        text, inherited = each["description"], ("latency_s", "energy_j", "time_breakdown_s", "energy_breakdown_j")
        missing = [name for name, field in each["properties"].items() if not field.get("description")]
        assert [name for name in missing if f"    {name}: " not in text and name not in inherited] == [], each["title"]
