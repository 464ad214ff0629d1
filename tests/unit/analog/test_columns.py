"""Column calibration: two digital numbers a column undo what programming and drift do to all its outputs alike."""

from __future__ import annotations

import copy

import pytest
import torch
from one_batch import OneBatch
from torch import Tensor, nn

from lionheart.analog import (
    ColumnCalibration,
    analog_layers,
    calibrate_input_ranges_,
    clear_chip_,
    compile_model_,
    convert_to_analog_,
    drift_chip_,
    program_chip_,
    seed_noise_,
)
from lionheart.devices import TileSpec
from lionheart.errors import CalibrationWarning, ConfigError
from lionheart.evaluation import ChipEnsemble, evaluate_over_chips
from lionheart.graph import trace_graph
from lionheart.mapping import LayerMapping, Placement
from lionheart.rng import RandomStreams

DAY = 86_400.0


class Convs(nn.Module):
    """Convolution, rectifier, convolution, rectifier, linear layer with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.Conv2d(6, 5, 3, stride=2)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))


def analog_convs(calibration: str, **changes: object) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model, x = Convs().eval(), torch.randn(64, 3, 9, 9)
    tile = TileSpec.pcm(**{"column_calibration": calibration, "output_noise": 0.0, **changes})
    convert_to_analog_(model, LayerMapping(dict.fromkeys(("first", "second", "head"), Placement.ANALOG)), tile)
    calibrate_input_ranges_(model, lambda net: net(x))
    seed_noise_(model, torch.Generator().manual_seed(2))
    return model, x


def outputs_of(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    found = {}
    handles = [
        layer.register_forward_hook(lambda _module, _args, out, fqn=fqn: found.__setitem__(fqn, out))
        for fqn, layer in analog_layers(model).items()
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return found


def columns(out: Tensor) -> Tensor:
    return out.movedim(1, 0).flatten(1)


@pytest.mark.parametrize("calibration", ["offset", "affine"])
def test_each_column_gets_the_mean_and_spread_of_the_exact_weights(calibration: str):
    model, x = analog_convs(calibration)
    expected = outputs_of(model, x)
    calibrated = ColumnCalibration(model, lambda net: net(x))
    generator = torch.Generator().manual_seed(3)
    program_chip_(model, generator)
    drift_chip_(model, DAY, generator)
    before = outputs_of(model, x)
    calibrated.calibrate_()
    after = outputs_of(model, x)
    for fqn, exact in expected.items():
        wanted, found, raw = columns(exact), columns(after[fqn]), columns(before[fqn])
        scale = wanted.std()
        assert not torch.allclose(raw.mean(1), wanted.mean(1), atol=1e-3 * scale)  # there was something to correct
        assert torch.allclose(found.mean(1), wanted.mean(1), atol=1e-4 * scale)
        if calibration == "affine":
            assert torch.allclose(found.std(1), wanted.std(1), rtol=1e-3)
        else:
            assert not torch.allclose(found.std(1), wanted.std(1), rtol=1e-3)


def test_it_brings_outputs_for_other_inputs_closer():
    model, x = analog_convs("affine")
    other = torch.randn(256, 3, 9, 9, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        exact = model(other)
    calibrated, raw, corrected = ColumnCalibration(model, lambda net: net(x)), [], []
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        program_chip_(model, generator)
        drift_chip_(model, DAY, generator)
        with torch.no_grad():
            raw.append((model(other) - exact).square().mean())
            calibrated.calibrate_()
            corrected.append((model(other) - exact).square().mean())
    assert sum(corrected) < 0.5 * sum(raw)


def test_an_exact_chip_is_not_changed():
    model, x = analog_convs("affine")
    ideal = TileSpec.ideal().replace(column_calibration="affine")
    digital = Convs()
    digital.load_state_dict({k: v for k, v in model.state_dict().items() if "analog" not in k})
    convert_to_analog_(digital.eval(), LayerMapping({"first": Placement.ANALOG, "head": Placement.ANALOG}), ideal)
    calibrated = ColumnCalibration(digital, lambda net: net(x))
    with torch.no_grad():
        exact = digital(x)
        generator = torch.Generator().manual_seed(0)
        program_chip_(digital, generator)
        drift_chip_(digital, DAY, generator)
        calibrated.calibrate_()
        assert torch.allclose(digital(x), exact, atol=1e-5)


def test_a_correction_lasts_until_the_next_read():
    model, x = analog_convs("affine")
    calibrated, generator = ColumnCalibration(model, lambda net: net(x)), torch.Generator().manual_seed(3)
    layer = analog_layers(model)["first"]
    program_chip_(model, generator)
    drift_chip_(model, DAY, generator)
    calibrated.calibrate_()
    read = layer.take_read()
    assert read.correction is not None
    drift_chip_(model, 2 * DAY, generator)
    assert layer.take_read().correction is None
    layer.use_read_(read)
    assert layer.take_read().correction is read.correction
    clear_chip_(model)
    assert layer.take_read().correction is None


def test_calibrating_twice_is_calibrating_once():
    model, x = analog_convs("affine")
    calibrated, generator = ColumnCalibration(model, lambda net: net(x)), torch.Generator().manual_seed(3)
    program_chip_(model, generator)
    drift_chip_(model, DAY, generator)
    calibrated.calibrate_()
    once = outputs_of(model, x)
    calibrated.calibrate_()
    twice = outputs_of(model, x)
    assert all(torch.allclose(once[fqn], twice[fqn], atol=1e-4) for fqn in once)


def test_a_silent_column_gets_an_offset_and_no_gain():
    model, x = analog_convs("affine")
    layer = analog_layers(model)["first"]
    with torch.no_grad():
        layer.weight[2] = 0.0
    calibrated, generator = ColumnCalibration(model, lambda net: net(x)), torch.Generator().manual_seed(3)
    program_chip_(model, generator)
    drift_chip_(model, DAY, generator)
    calibrated.calibrate_()
    gain, offset = layer.take_read().correction
    assert gain[2] == 1
    assert torch.isfinite(gain).all()
    assert torch.isfinite(offset).all()


def test_the_mode_and_the_noise_of_the_model_are_left():
    model, x = analog_convs("offset")
    model.train()
    calibrated, generator = ColumnCalibration(model, lambda net: net(x)), torch.Generator().manual_seed(3)
    program_chip_(model, generator)
    drift_chip_(model, DAY, generator)
    calibrated.calibrate_()
    assert model.training
    assert not any(layer._forward_hooks for layer in analog_layers(model).values())


def test_recurrent_layers_are_corrected_by_all_their_steps():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model, x = nn.Sequential(nn.LSTM(6, 8, batch_first=True)).eval(), torch.randn(32, 7, 6)
    tile = TileSpec.pcm(column_calibration="affine", output_noise=0.0)
    graph = trace_graph(model, x[:1])
    convert_to_analog_(model, LayerMapping.from_analog(graph, graph.fqns), tile)
    calibrate_input_ranges_(model, lambda net: net(x))
    with torch.no_grad():
        exact = model(x)[0]
        calibrated, raw, corrected = ColumnCalibration(model, lambda net: net(x)), 0.0, 0.0
        for seed in range(6):
            generator = torch.Generator().manual_seed(seed)
            program_chip_(model, generator)
            drift_chip_(model, DAY, generator)
            raw += float((model(x)[0] - exact).square().mean())
            calibrated.calibrate_()
            corrected += float((model(x)[0] - exact).square().mean())
    assert corrected < raw


def test_a_chip_must_not_be_programmed_when_the_reference_is_taken():
    model, x = analog_convs("offset")
    generator = torch.Generator().manual_seed(3)
    program_chip_(model, generator)
    drift_chip_(model, DAY, generator)
    with pytest.raises(ConfigError, match="a chip is programmed"):
        ColumnCalibration(model, lambda net: net(x))


def test_a_layer_that_no_input_reaches_is_named_and_not_corrected():
    model, x = analog_convs("offset")
    with pytest.warns(CalibrationWarning, match="no input reached second, head, whose"):
        columns = ColumnCalibration(model, lambda net: net.first(x))
    program_chip_(model, torch.Generator().manual_seed(3))
    drift_chip_(model, DAY, torch.Generator().manual_seed(3))
    columns.calibrate_()
    assert model.first._correction is not None
    assert model.second._correction is None


# ------------------------------------------------------------------------------------------------------------ ensembles


def scores(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs[:, 0]


def test_an_ensemble_calibrates_each_chip_at_each_time():
    model, x = analog_convs("affine")
    streams, times = RandomStreams(5), [1.0, DAY]
    run = lambda net: net(x)  # noqa: E731
    ensemble = ChipEnsemble(copy.deepcopy(model), n_chips=2, times=times, streams=streams, run_calibration=run)
    found = ensemble.evaluate(OneBatch(x, torch.zeros(len(x))), scores).chips
    calibrated = ColumnCalibration(model, run)
    for chip in range(2):
        generator = streams.generator("chip", chip)
        program_chip_(model, generator)
        for index, time in enumerate(times):
            drift_chip_(model, time, generator)
            calibrated.calibrate_()
            with torch.no_grad():
                assert float(found[index, chip]) == pytest.approx(float(model(x)[:, 0].double().mean()), abs=1e-5)


def test_an_ensemble_compiled_or_in_chunks_gives_the_same():
    model, x = analog_convs("affine")
    run = lambda net: net(x)  # noqa: E731

    def evaluate(net: nn.Module, **rest: int) -> Tensor:
        ensemble = ChipEnsemble(net, n_chips=3, times=[DAY], streams=RandomStreams(5), run_calibration=run, **rest)
        return ensemble.evaluate(OneBatch(x, torch.zeros(len(x))), scores).chips

    plain = evaluate(copy.deepcopy(model))
    assert torch.equal(evaluate(copy.deepcopy(model), memory_bytes=1), plain)
    assert torch.allclose(evaluate(compile_model_(copy.deepcopy(model), backend="eager")), plain, atol=1e-5)


def test_an_ensemble_without_calibration_inputs_is_one_clear_error():
    model, x = analog_convs("affine")
    with pytest.raises(ConfigError, match="layer 'first': the tile has a column calibration"):
        evaluate_over_chips(
            model, OneBatch(x, torch.zeros(len(x))), scores, times=[DAY], n_chips=2, streams=RandomStreams(0)
        )
