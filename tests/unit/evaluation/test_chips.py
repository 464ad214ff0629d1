"""The mean over chips: its interval, what a model without analog layers gives, and what cannot be estimated."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from lionheart.data import as_batches
from lionheart.errors import ConfigError, NumericsError
from lionheart.evaluation import estimate_mean, evaluate_over_chips
from lionheart.rng import RandomStreams


def test_mean_and_interval_are_students():
    scores = [0.8, 0.85, 0.9, 0.7]
    found = estimate_mean(scores, t_inference=5.0, confidence=0.9)
    expected = stats.t.interval(0.9, 3, loc=found.mean, scale=stats.sem(scores))
    assert (found.low, found.high) == pytest.approx(expected)
    assert (found.mean, found.std) == pytest.approx((0.8125, stats.tstd(scores)))
    assert (found.t_inference, found.n_chips, found.scores, found.n_samples) == (5.0, 4, tuple(scores), None)


def test_an_interval_holds_the_mean_as_often_as_it_says():
    generator, n, held = torch.Generator().manual_seed(0), 2_000, 0
    for _ in range(n):
        found = estimate_mean(torch.randn(5, generator=generator).tolist(), t_inference=0.0, confidence=0.8)
        held += found.low <= 0 <= found.high
    assert stats.binom.ppf(0.001, n, 0.8) <= held <= stats.binom.ppf(0.999, n, 0.8)


def test_one_chip_has_no_interval():
    found = estimate_mean([0.75], t_inference=0.0)
    assert (found.low, found.mean, found.high, found.std) == (0.75, 0.75, 0.75, 0.0)


def test_samples_are_counted_and_not_written():
    found = estimate_mean([0.5, 1.0], t_inference=0.0, samples=torch.tensor([0.0, 1.0, 1.0]))
    assert found.n_samples == 3
    assert "samples" not in found.to_json()


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_a_clear_error(wrong: float):
    with pytest.raises(NumericsError, match=f"mean score of a chip is {wrong}, expected a finite number") as caught:
        estimate_mean([0.5, wrong], t_inference=0.0)
    assert "NaN and infinity" in caught.value.hint


def test_no_chip_is_a_clear_error():
    with pytest.raises(ConfigError, match="got no scores"):
        estimate_mean([], t_inference=0.0)
    for options in ({"n_chips": 0, "times": [1.0]}, {"n_chips": 1, "times": []}):
        with pytest.raises(ConfigError, match=f"got {options['n_chips']} chips and {len(options['times'])} times"):
            evaluate_over_chips(nn.Linear(2, 2), as_batches([]), score, streams=RandomStreams(0), **options)


def score(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(dim=1) == targets).float()


def test_a_digital_model_is_the_same_on_every_chip_at_every_time():
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(2))
    batches = as_batches([(torch.eye(2), torch.tensor([0, 1])), (torch.eye(2)[:1], torch.tensor([1]))])
    found = evaluate_over_chips(model, batches, score, times=[5.0, 1.0], n_chips=3, streams=RandomStreams(0))
    assert [each.t_inference for each in found] == [5.0, 1.0]
    for each in found:
        assert each.scores == (pytest.approx(2 / 3),) * 3
        assert (each.mean, each.low, each.high) == pytest.approx((2 / 3,) * 3)
        assert (each.std, each.n_chips, each.n_samples) == (0.0, 3, 3)
        assert each.samples.tolist() == [1.0, 1.0, 0.0]
