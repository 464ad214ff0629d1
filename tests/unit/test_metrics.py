"""What a drop is, and when it keeps a bound: in one place for all who ask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionheart.metrics import drop_pp, is_within


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
