"""Chip ensembles: the same chips as one by one, whatever the chunks; shared work is done once and stays right."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from lionheart.analog import analog_layers, convert_to_analog_, drift_chip_, program_chip_
from lionheart.devices import TileSpec
from lionheart.evaluation import ChipEnsemble, EnsembleScores, evaluate_over_chips
from lionheart.evaluation.prefix import find_prefix
from lionheart.mapping import LayerMapping, Placement
from lionheart.rng import RandomStreams

DAY = 86_400.0
TIMES = [0.0, 3600.0, DAY]


class Batches:
    """Three batches of images."""

    def __init__(self, n: int = 3) -> None:
        generator = torch.Generator().manual_seed(5)
        self.batches = [(torch.randn(4, 3, 8, 8, generator=generator), torch.zeros(4)) for _ in range(n)]

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.batches


class CountingNorm(nn.BatchNorm2d):
    n_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n_calls += 1
        return super().forward(x)


class Residual(nn.Module):
    """A digital stem, a branch around an analog layer, a stem output that is changed in place."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = CountingNorm(6)
        self.body = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 2)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        y = self.body(x)
        if self.in_place:
            x += y  # into the stem's own output
        else:
            x = x + y
        return self.head(x.relu().mean((2, 3)))


def mean_output(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.mean(dim=1)


def build(*, in_place: bool = False, all_analog: bool = False, tile: TileSpec | None = None) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = Residual(in_place).eval()
    names = ("stem", "body", "head") if all_analog else ("body",)
    convert_to_analog_(model, LayerMapping(dict.fromkeys(names, Placement.ANALOG)), tile or TileSpec.pcm())
    for layer in analog_layers(model).values():
        layer.analog_input_range.fill_(2.0)
    return model


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("all_analog", [False, True])
def test_equals_chips_one_by_one(in_place: bool, all_analog: bool):
    """With noise only in the weights: output noise is drawn per pass."""
    tile = TileSpec.pcm(output_noise=0.0)
    model, streams, batches = build(in_place=in_place, all_analog=all_analog, tile=tile), RandomStreams(7), Batches()
    got = ChipEnsemble(model, n_chips=3, times=TIMES, streams=streams).evaluate(batches, mean_output).chips
    for chip in range(3):
        generator = streams.generator("chip", chip)
        program_chip_(model, generator)
        for index, t in enumerate(TIMES):
            drift_chip_(model, t, generator)
            with torch.no_grad():
                expected = torch.cat([mean_output(model(x), y) for x, y in batches.batches]).double().mean()
            assert float(got[index, chip]) == pytest.approx(float(expected), rel=1e-6)
    assert len(set(got.flatten().tolist())) == 9


def test_chunks_change_nothing():
    batches, results = Batches(), []
    for memory in (1, 1 << 30):
        ensemble = ChipEnsemble(build(), n_chips=4, times=TIMES, streams=RandomStreams(1), memory_bytes=memory)
        assert ensemble.chips_per_chunk == (1 if memory == 1 else 4)
        results.append(ensemble.evaluate(batches, mean_output))
    assert torch.equal(results[0].chips, results[1].chips)
    assert torch.allclose(results[0].samples, results[1].samples, rtol=1e-12)
    assert torch.allclose(results[0].samples.mean(1), results[0].chips.mean(1))


@pytest.mark.parametrize("memory_bytes", [1 << 30, 1])
def test_an_evaluation_that_is_enough_leaves_out_the_rest(memory_bytes: int):
    """Asked after some shares of the batches; the samples so far have the scores that they have in the whole, chip by chip."""
    model, batches, seen = build(), Batches(20), []

    def ensemble() -> ChipEnsemble:
        return ChipEnsemble(model, n_chips=3, times=TIMES, streams=RandomStreams(1), memory_bytes=memory_bytes)

    def is_enough(scores: EnsembleScores) -> bool:
        seen.append(scores)
        return scores.samples.shape[1] >= 16

    whole, part = (
        ensemble().evaluate(batches, mean_output),
        ensemble().evaluate(batches, mean_output, is_enough=is_enough),
    )
    assert [scores.samples.shape for scores in seen] == [(len(TIMES), 8), (len(TIMES), 16)]
    assert part.samples.shape == (len(TIMES), 16)
    assert torch.allclose(part.samples, whole.samples[:, :16], atol=2e-3)
    assert torch.allclose(part.samples.mean(dim=1), part.chips.mean(dim=1))
    asked_in_vain = ensemble().evaluate(batches, mean_output, is_enough=lambda scores: False)
    assert asked_in_vain.samples.shape == whole.samples.shape
    if memory_bytes > 1:  # chips programmed anew begin their noise again
        assert torch.allclose(asked_in_vain.chips, whole.chips)
    assert torch.allclose(asked_in_vain.chips, whole.chips, atol=1e-3)


def test_memory_rule():
    weights = 6 * 6 * 9 * 4 * len(TIMES)  # bytes of one chip at all times
    ensemble = ChipEnsemble(
        build(), n_chips=10, times=TIMES, streams=RandomStreams(1), memory_bytes=3 * weights + weights // 2
    )
    assert ensemble.chips_per_chunk == 3


def test_the_digital_stem_runs_once_for_each_batch():
    model, batches = build(), Batches()
    ChipEnsemble(model, n_chips=5, times=TIMES, streams=RandomStreams(1)).evaluate(batches, mean_output)
    assert model.norm.n_calls == 1 + len(batches)  # one to find the stem
    assert "forward" not in model.stem.__dict__


def test_prefix_ends_at_the_first_analog_layer():
    model = build()
    x = Batches().batches[0][0]
    assert find_prefix(model, lambda: model(x)) == [model.stem, model.norm]
    everything = build(all_analog=True)
    assert find_prefix(everything, lambda: everything(x)) == []


def test_a_module_that_runs_twice_is_not_kept():
    stem = nn.Linear(4, 4)
    model = nn.Sequential(stem, nn.ReLU(), stem, nn.Linear(4, 2)).eval()
    convert_to_analog_(model, LayerMapping({"3": Placement.ANALOG}), TileSpec.ideal())
    assert find_prefix(model, lambda: model(torch.ones(1, 4))) == [model[1]]


def test_model_is_left_as_it_was():
    model = build()
    before, noises = copy.deepcopy(model.state_dict()), [layer.noise for layer in analog_layers(model).values()]
    model.train()
    ChipEnsemble(model, n_chips=2, times=[DAY], streams=RandomStreams(1)).evaluate(Batches(1), mean_output)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training
    assert not any(layer.is_programmed for layer in analog_layers(model).values())
    assert all(a.noise is b for a, b in zip(analog_layers(model).values(), noises, strict=True))


def test_an_interrupted_evaluation_leaves_no_trace():
    model = build()

    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ChipEnsemble(model, n_chips=2, times=[DAY], streams=RandomStreams(1)).evaluate(
            Batches(1), mean_output, on_pass=fail
        )
    assert "forward" not in model.stem.__dict__
    assert not any(layer.is_programmed for layer in analog_layers(model).values())


def test_spread_over_the_ensemble_is_the_spread_over_separate_programmings():
    n_chips, batches = 150, Batches(1)
    (together,) = evaluate_over_chips(
        build(), batches, mean_output, times=[DAY], n_chips=n_chips, streams=RandomStreams(11)
    )
    x, y = batches.batches[0]
    separate = []
    for seed in range(n_chips):
        model = build()
        generator = torch.Generator().manual_seed(50_000 + seed)
        program_chip_(model, generator)
        drift_chip_(model, DAY, generator)
        with torch.no_grad():
            separate.append(float(mean_output(model(x), y).mean()))
    assert stats.ks_2samp(together.scores, separate).pvalue > 0.01
    assert together.std == pytest.approx(np.std(separate, ddof=1), rel=4 / np.sqrt(2 * n_chips) * np.sqrt(2))
    # One chip read again and again spreads far less, and this test would tell.
    model = build()
    generator = torch.Generator().manual_seed(1)
    program_chip_(model, generator)
    repeated = []
    for _ in range(n_chips):
        drift_chip_(model, DAY, generator)
        with torch.no_grad():
            repeated.append(float(mean_output(model(x), y).mean()))
    assert np.std(repeated) < 0.8 * np.std(separate)
