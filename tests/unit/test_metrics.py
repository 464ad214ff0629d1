"""What a drop is, and when it keeps a bound: in one place for all who ask."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionheart.errors import ArtifactError, ConfigError
from lionheart.metrics import ACCURACY, F1, PERPLEXITY, Metric, drop_pp, is_within
from lionheart.record import read_record, write_record


@given(st.floats(-10, 1), st.floats(-10, 1))
def test_a_drop_is_positive_where_something_is_lost(baseline: float, mean: float):
    assert drop_pp(baseline, mean) == 100 * (baseline - mean)  # to the bit
    assert (drop_pp(baseline, mean) > 0) == (mean < baseline)


@pytest.mark.parametrize("bound", [0.1 * tenths for tenths in range(1, 51)])
def test_a_drop_of_exactly_the_bound_keeps_it_whatever_the_last_bit_says(bound: float):
    drop = drop_pp(0.9, 0.9 - bound / 100)
    assert drop == pytest.approx(bound)
    assert is_within(drop, bound)
    assert not is_within(bound + 1e-6, bound)


def test_rounding_would_decide_without_the_tolerance():
    assert drop_pp(0.9, 0.89) > 1.0
    assert is_within(drop_pp(0.9, 0.89), 1.0)


def test_what_is_no_number_keeps_no_bound():
    assert not is_within(float("nan"), 1.0)
    assert not is_within(float("inf"), 1.0)
    assert is_within(float("-inf"), 1.0)


# ------------------------------------------------------------------------------------------------------------- measures


@pytest.mark.parametrize(
    ("measure", "mean", "low", "high", "value", "interval", "drop"),
    [
        (ACCURACY, 0.8512, 0.846, 0.856, "85.12 %", "[84.60, 85.60]", "+0.53 pp"),
        (F1, 0.8512, 0.846, 0.856, "85.12 %", "[84.60, 85.60]", "+0.53 F1 points"),
        (PERPLEXITY, -3.5, -3.6, -3.4, "33.12", "[29.96, 36.60]", "+0.53 log-%"),
        (PERPLEXITY, -0.03, -0.04, -0.02, "1.030", "[1.020, 1.041]", "+0.53 log-%"),
        (PERPLEXITY, -20.0, -800.0, -20.0, "4.85e+08", "[4.85e+08, inf]", "+0.53 log-%"),
    ],
)
def test_a_measure_writes_means_and_drops(
    measure: Metric, mean: float, low: float, high: float, value: str, interval: str, drop: str
):
    assert measure.format_value(mean) == value
    assert measure.format_interval(low, high) == interval
    assert measure.format_drop(0.53, sign=True) == drop
    assert measure.mean_of(measure.value_of(mean)) == pytest.approx(mean)
    assert read_record(Metric, write_record(measure), "here") == measure
    assert measure.drop_unit in measure.explain_drop()


def test_results_without_a_measure_are_of_accuracy():
    assert read_record(Metric, {}, "results") == ACCURACY == Metric()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("F1", "results: got a str"),
        ({"name": 1}, "results.name: got 1, expected a text"),
        ({"name": "F1", "drop_unit": "points", "kind": "odd"}, "results.kind: got 'odd', expected one of"),
    ],
)
def test_a_damaged_measure_is_named(data: object, message: str):
    with pytest.raises(ArtifactError, match=message):
        read_record(Metric, data, "results")


def test_a_measure_is_checked_and_never_changed():
    with pytest.raises(ConfigError, match=r"Metric\.kind: got 'odd'.*'share' or 'perplexity'"):
        Metric("F1", "F1 points", "odd")
    with pytest.raises(FrozenInstanceError):
        F1.name = "other"


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.96, 1.03, "[96.00, 100.00]"),
        (-0.02, 0.05, "[0.00, 5.00]"),
        (-0.5, 1.5, "[0.00, 100.00]"),
        (0.2, 0.3, "[20.00, 30.00]"),
    ],
)
def test_intervals_of_shares_end_at_100_percent(low: float, high: float, shown: str):
    """The interval of a mean over chips is symmetric, so it reached beyond 100 %."""
    assert ACCURACY.format_interval(low, high) == shown
    assert F1.format_interval(low, high) == shown
