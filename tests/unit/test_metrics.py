"""What a drop is, and when it keeps a bound: in one place for all who ask."""

from __future__ import annotations

import math
import re
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lionheart.errors import ArtifactError, ConfigError
from lionheart.metrics import (
    ACCURACY,
    F1,
    MAE,
    PERPLEXITY,
    RMSE,
    Bound,
    Metric,
    accuracy_scores,
    corpus_f1,
    drop_pp,
    is_within,
    macro_f1,
    mean_iou,
    parse_bound,
    read_bound,
    root_mean_squared_error,
    token_accuracy,
    token_perplexity,
)
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
    with pytest.raises(ConfigError, match=r"Metric\.kind: got 'odd'.*'share', 'perplexity' or 'plain'"):
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


# ------------------------------------------------------------------------------------------- unit, direction and scope

KELVIN = root_mean_squared_error("K")
SCORE = Metric("R2", kind="plain")
ERROR_RATE = Metric("error rate", higher_is_better=False)


@pytest.mark.parametrize(
    ("metric", "mean", "value", "interval", "drop"),
    [
        # before, a negative RMSE was the only way to say that lower is better, and was shown as "-228.61 %"
        (KELVIN, 2.28612, "2.286 K", "[2.250, 2.300]", "+0.100 K"),
        (RMSE, 0.0123, "0.01230", "[2.250, 2.300]", "+0.100 RMSE"),
        (MAE, 12345.6, "1.235e+04", "[2.250, 2.300]", "+0.100 MAE"),
        (SCORE, -0.5, "-0.5000", "[2.250, 2.300]", "+0.100 R2"),
        (Metric("BLEU", kind="plain"), 31.2, "31.20", "[2.250, 2.300]", "+0.100 BLEU"),
        (ERROR_RATE, 0.05, "5.00 %", "[225.00, 230.00]", "+0.10 pp"),
        (Metric("MAPE", unit="%", kind="plain"), 12.5, "12.50 %", "[2.250, 2.300]", "+0.100 %"),
    ],
)
def test_values_and_drops_are_in_the_unit_of_the_metric(
    metric: Metric, mean: float, value: str, interval: str, drop: str
):
    assert metric.format_value(mean) == value
    assert metric.format_interval(2.25, 2.3) == interval
    assert metric.format_drop(0.1, sign=True) == drop
    assert metric.mean_of(metric.value_of(mean)) == mean
    assert read_record(Metric, write_record(metric), "here") == metric


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_a_drop_is_positive_where_the_quality_falls_in_either_direction(baseline: float, mean: float):
    for metric in (KELVIN, SCORE, ERROR_RATE, ACCURACY, PERPLEXITY):
        falls = mean > baseline if metric in (KELVIN, ERROR_RATE) else mean < baseline
        assert (metric.drop(baseline, mean) > 0) == falls == (metric.rank(mean) < metric.rank(baseline))
    assert KELVIN.drop(baseline, mean) == mean - baseline
    assert ACCURACY.drop(baseline, mean) == drop_pp(baseline, mean)  # to the bit
    for metric in (KELVIN, SCORE, ERROR_RATE):
        assert metric.drop(baseline, metric.score_after(baseline, 2.0)) == pytest.approx(2.0)
    assert KELVIN.worst([baseline, mean]) == max(baseline, mean)
    low, high = sorted((baseline, mean))
    assert KELVIN.drops_between(0.0, low, high) == (low, high)
    assert ACCURACY.drops_between(0.0, low, high) == (-100 * high, -100 * low)


def test_files_have_no_new_keys_for_shares_and_perplexity():
    for metric in (ACCURACY, F1, PERPLEXITY):
        assert set(write_record(metric)) == {"name", "drop_unit", "kind"}
    assert write_record(KELVIN) == {
        "name": "RMSE",
        "drop_unit": "K",
        "kind": "plain",
        "unit": "K",
        "higher_is_better": False,
        "scope": "set",
    }


def test_a_metric_with_another_unit_has_drops_in_this_unit():
    assert replace(RMSE, unit="K") == KELVIN
    assert replace(ACCURACY, unit="mm").drop_unit == "mm"
    assert replace(F1, name="micro F1").drop_unit == "F1 points"


def test_the_explanation_says_the_direction():
    assert "Lower values are better" in KELVIN.explain_drop()
    assert "Higher values are better" in SCORE.explain_drop()
    assert ERROR_RATE.explain_drop().startswith("Analog error rate minus digital error rate, in percentage points")
    assert not PERPLEXITY.higher_is_better
    assert ACCURACY.higher_is_better


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "perplexity", "higher_is_better": True}, "a perplexity has no unit and is better if it is lower"),
        ({"kind": "perplexity", "unit": "K"}, "a perplexity has no unit"),
        ({"finish": sum}, "got finish with scope='sample'"),
        ({"scope": "set", "compute": sum}, "got scope='set' without finish"),
        ({"scope": "batch"}, "scope"),
    ],
)
def test_contradicting_arguments_are_refused(arguments: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Metric("own", **arguments)


def test_a_tolerance_is_small_against_a_small_bound():
    """Before, a drop of 1e-9 was within any bound."""
    assert not is_within(1.1e-12, 1e-12)
    assert is_within(1e-12, 1e-12)


@pytest.mark.parametrize("found", [None, "much", torch.ones(2), [1.0]])
def test_finish_gives_one_number(found: Any):
    metric = Metric("own", scope="set", compute=lambda y, t: y, finish=lambda statistics: found)
    with pytest.raises(ConfigError, match="finish: got .* expected one number for the whole set"):
        metric.score_set(torch.ones(3, 1))


# -------------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    ("given", "amount", "unit"),
    [
        (2, 2.0, ""),
        ("2", 2.0, ""),
        ("1e-3 mm", 1e-3, "mm"),
        ("0.123456789012 mm", 0.123456789012, "mm"),
        ("2%", 2.0, "%"),
        ("2%rel", 2.0, "% rel"),
        (" 2.5 % relative ", 2.5, "% rel"),
        ("3 F1 points", 3.0, "F1 points"),
    ],
)
def test_a_bound_is_a_number_with_or_without_a_unit(given: Any, amount: float, unit: str):
    assert parse_bound(given) == Bound(amount, unit)
    assert parse_bound(read_bound(given)) == Bound(amount, unit)  # as settings store it


@pytest.mark.parametrize(
    "given", ["", "rel", "-1", "0 K", "nan", "inf", "1e999", None, True, [1], "1" * 5000, 10**400, float("nan")]
)
def test_what_is_no_bound_is_one_short_error(given: Any):
    with pytest.raises(ConfigError) as caught:
        parse_bound(given)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("metric", "given", "digital", "expected"),
    [
        (KELVIN, "2 %", 1.5, 0.03),
        (Metric("loss", kind="plain", higher_is_better=False), "10 % rel", -4.0, 0.4),
        (KELVIN, "150 %", 2.0, 3.0),
        (ACCURACY, "2 % rel", 0.85, 1.7),
        (ERROR_RATE, "50 % rel", 0.04, 2.0),
        (PERPLEXITY, "2 %", -3.5, 100 * math.log(1.02)),
    ],
)
def test_a_relative_bound_is_a_share_of_the_digital_value(metric: Metric, given: str, digital: float, expected: float):
    bound = parse_bound(given)
    assert bound.is_relative(metric, "here")
    drop = bound.to_drop(metric, digital, "here")
    assert drop == pytest.approx(expected)
    value = metric.value_of(metric.score_after(digital, drop))
    assert abs(value / metric.value_of(digital) - 1) == pytest.approx(bound.amount / 100)


@pytest.mark.parametrize(
    ("metric", "given", "message"),
    [
        (ACCURACY, "2 %", "write '2 pp' for a difference of values, or '2 % rel'"),
        (Metric("MAPE", unit="%", kind="plain"), "2 %", "write 2 for a difference of values, or '2 % rel'"),
        (KELVIN, "2 pp", "a drop of the RMSE has the unit 'K'"),
        (KELVIN, "2 k", "a drop of the RMSE has the unit 'K'"),
        (ACCURACY, "2 mm", "a drop of the accuracy has the unit 'pp'"),
        (ACCURACY, "100 % rel", "expected less than 100 %"),
    ],
)
def test_a_bound_in_a_wrong_or_unclear_unit_is_refused(metric: Metric, given: str, message: str):
    with pytest.raises(ConfigError) as caught:
        parse_bound(given).is_relative(metric, "here")
    assert message in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize("digital", [0.0, math.nan, math.inf])
def test_nothing_is_relative_to_zero(digital: float):
    with pytest.raises(ConfigError, match="got the relative bound '2 %'"):
        parse_bound("2 %").to_drop(KELVIN, digital, "here")


# ------------------------------------------------------------------------------------------------------- ready metrics


def logits(*classes: Any, n: int = 3) -> Tensor:
    return nn.functional.one_hot(torch.tensor(classes), n).float()


def score(metric: Metric, *batches: tuple[Tensor, Tensor]) -> float:
    parts = [metric(outputs, targets) for outputs, targets in batches]
    for part, (_, targets) in zip(parts, batches, strict=True):
        assert len(part) == len(targets)
    return metric.score_set(torch.cat(parts).double())


def test_errors_of_a_regression():
    outputs, targets = (
        torch.tensor([[1.0, 3.0], [0.0, 0.0], [4.0, 0.0]]),
        torch.tensor([[0.0, 0.0], [0.0, 4.0], [0, 0]]),
    )
    for cut in (1, 2):  # however the set is divided into batches
        batches = [(outputs[:cut], targets[:cut]), (outputs[cut:], targets[cut:])]
        assert score(RMSE, *batches) == pytest.approx(math.sqrt((1 + 9 + 16 + 16) / 6))
        assert score(MAE, *batches) == pytest.approx(12 / 6)
    assert score(MAE, (torch.ones(3, 1), torch.zeros(3))) == 1.0  # outputs with a last dimension of one
    with pytest.raises(ConfigError, match="expected equal shapes"):
        RMSE(torch.ones(3, 2), torch.zeros(3))  # would broadcast
    with pytest.raises(ConfigError, match="expected equal shapes"):
        MAE(torch.ones(3, 1), torch.zeros(1, 3))


def test_intersection_over_union_of_the_set():
    found, wanted = (
        torch.tensor([[[0, 0], [1, 1]], [[1, 1], [1, 1]]]),
        torch.tensor([[[0, 1], [1, 1]], [[0, 1], [1, -100]]]),
    )
    outputs = nn.functional.one_hot(found, 3).movedim(-1, 1).float()
    # class 0: 1 of 3, class 1: 4 of 6; class 2 does not occur
    assert score(mean_iou(3), (outputs, wanted)) == pytest.approx((1 / 3 + 4 / 6) / 2)
    assert score(mean_iou(3), (outputs[:1], wanted[:1]), (outputs[1:], wanted[1:])) == pytest.approx(
        (1 / 3 + 4 / 6) / 2
    )


def test_f1_scores_of_the_set():
    outputs, targets = logits([0, 1, 1, 0], [2, 2, 0, 0]), torch.tensor([[0, 1, 2, 1], [2, 0, 0, -100]])
    # class: true, found, wanted; 0: 2, 3, 3 (one is ignored); 1: 1, 2, 2; 2: 1, 2, 2
    assert score(macro_f1(3), (outputs, targets)) == pytest.approx((4 / 6 + 2 / 4 + 2 / 4) / 3)
    assert score(corpus_f1(3), (outputs, targets)) == pytest.approx(2 * 2 / (4 + 4))
    rare = score(corpus_f1(), (logits(1, 0, 1, 0, n=2), torch.tensor([1, 1, 0, 0])))
    assert rare == pytest.approx(0.5)
    assert score(corpus_f1(), (logits(0, 0, n=2), torch.tensor([0, 0]))) == 0.0  # nothing found, nothing wanted


def test_tokens_count_once_and_sentences_are_the_samples():
    """Before, 2,000 tokens of 200 sentences were 2,000 samples."""
    outputs, targets = logits([0, 1, 1, 0], [2, 2, 0, 0]), torch.tensor([[0, 1, 2, 1], [2, -100, -100, -100]])
    assert score(token_accuracy(), (outputs, targets)) == pytest.approx(3 / 5)
    assert accuracy_scores(outputs, targets).tolist() == [0.5, 1.0]
    assert accuracy_scores(logits(0, 1), torch.tensor([0, 2])).tolist() == [1.0, 0.0]
    mean = score(token_perplexity(), (torch.zeros(2, 4, 3), targets))
    assert PERPLEXITY.value_of(mean) == pytest.approx(3.0)
    losses = nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())
    assert score(token_perplexity(), (outputs, targets)) == pytest.approx(-float(losses))


@pytest.mark.parametrize(
    ("metric", "outputs", "targets"),
    [
        (macro_f1(2), logits(0, 1, 2), torch.tensor([0, 1, 1])),
        (macro_f1(3), logits(0, 1, 2), torch.tensor([0, 1, 5])),
        (macro_f1(3), logits(0, 1, 2), torch.tensor([0, 1, -1])),
        (mean_iou(3), logits(0, 1, 2), torch.tensor([[0], [1], [1]])),
    ],
)
def test_classes_outside_the_range_are_refused(metric: Metric, outputs: Tensor, targets: Tensor):
    with pytest.raises(ConfigError, match="expected"):
        metric(outputs, targets)


@pytest.mark.parametrize("make", [mean_iou, macro_f1, corpus_f1])
@pytest.mark.parametrize("n_classes", [1, 0, -3, 2.0, True, "3", None])
def test_a_number_of_classes_is_checked(make: Any, n_classes: Any):
    with pytest.raises(ConfigError, match="n_classes: got"):
        make(n_classes)


def test_an_own_metric_may_need_all_outputs_at_once():
    """The area under the ROC curve has no statistics but the outputs themselves."""

    def finish(statistics: Tensor) -> Tensor:
        found, wanted = statistics.T
        return (found[wanted == 1, None] > found[None, wanted == 0]).double().mean()

    auc = Metric("AUC", scope="set", compute=lambda y, t: torch.stack([y, t.float()], 1), finish=finish)
    assert (
        score(auc, (torch.tensor([0.1, 0.9, 0.4]), torch.tensor([0, 1, 1])), (torch.tensor([0.5]), torch.tensor([0])))
        == 0.75
    )
    assert auc.format_value(0.75) == "75.00 %"
