"""The public functions: every form of data, times and names; readable results; one error for whatever is wrong."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from quadrants import build_net, build_task, make_batches, make_settings, trained_weights
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import lionheart
from lionheart import LayerMapping, TileSpec, analog, trace_graph
from lionheart.analog import AnalogLayer, analog_layers
from lionheart.deprecated import DeprecatedNameWarning
from lionheart.devices import DeviceSpec
from lionheart.errors import ArtifactError, ConfigError, LionHeartError
from lionheart.evaluation import evaluate_accuracy, evaluate_over_chips
from lionheart.jobs import MappingResult
from lionheart.metrics import ACCURACY
from lionheart.rng import RandomStreams
from lionheart.system import estimate_system, load_platform

pytestmark = pytest.mark.usefixtures("small_noise_pool")
TILE = TileSpec(rows=32, cols=32)
X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def make_net() -> nn.Sequential:
    net = build_net()
    net.load_state_dict(trained_weights())
    return net


def pairs() -> list[tuple[Tensor, Tensor]]:
    return list(make_batches("test").epoch(torch.Generator()))


def as_loader() -> DataLoader[Any]:
    images, labels = (torch.cat(parts) for parts in zip(*pairs(), strict=True))
    return DataLoader(TensorDataset(images, labels), batch_size=32)


def calibrated(**settings: Any) -> nn.Sequential:
    net = make_net()
    lionheart.convert_to_analog_(net, TILE.replace(**settings))
    lionheart.calibrate_(net, pairs())
    return net


@pytest.fixture(scope="module")
def net() -> nn.Sequential:
    return calibrated()


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> MappingResult:
    return lionheart.map_layers(build_task(), make_settings(), run_dir=tmp_path_factory.mktemp("runs") / "run")


def assert_readable(result: Any) -> None:
    lines = str(result).splitlines()
    assert 0 < len(lines) <= 25
    assert max(map(len, lines)) <= 80
    assert result._repr_html_().startswith("<div>")
    assert "object at 0x" not in str(result)


# ----------------------------------------------------------------------------------------------------------- evaluate


def test_evaluate_gives_what_the_packages_give(net: nn.Module):
    found = lionheart.evaluate(net, pairs(), times=["1s", "1d"], n_chips=3, seed=5)
    direct = evaluate_over_chips(
        net, make_batches("test"), ACCURACY, times=[1, 86_400], n_chips=3, streams=RandomStreams(5).scope("test")
    )
    assert [point.scores for point in found.accuracy_over_time] == [point.scores for point in direct]
    assert [point.t_inference for point in found.accuracy_over_time] == [1.0, 86_400.0]
    assert (found.n_samples, found.n_chips, found.seed) == (96, 3, 5)
    assert_readable(found)


@pytest.mark.parametrize("data", [pairs, as_loader, lambda: make_batches("test"), lambda: tuple(pairs())])
@pytest.mark.parametrize("times", ["1d", 86_400, ["1d"], (86_400.0,), iter(["24h"])])
def test_every_form_of_data_and_times_gives_the_same(net: nn.Module, data: Callable[[], Any], times: Any):
    [point] = lionheart.evaluate(
        net, data(), times if not hasattr(times, "__next__") else ["24h"], 2
    ).accuracy_over_time
    [expected] = lionheart.evaluate(net, make_batches("test"), ["1d"], 2).accuracy_over_time
    assert point == expected


def test_a_digital_model_gives_its_one_accuracy():
    found = lionheart.evaluate(make_net(), pairs(), times=["1s", "1d"], n_chips=7)
    [point] = found.accuracy_over_time
    assert point.mean == evaluate_accuracy(make_net(), make_batches("test"), ACCURACY)
    assert found.n_chips == 0
    assert "digital" in str(found)
    assert_readable(found)


def test_a_metric_of_ones_own_is_named(net: nn.Module):
    def top_two(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.topk(2).indices == targets[:, None]).any(dim=1).float()

    found = lionheart.evaluate(net, pairs(), "1d", 2, metric=top_two)
    assert "top two" in str(found)


def test_column_calibration_takes_its_data():
    net = calibrated(column_calibration="affine")
    with pytest.raises(ConfigError, match="column calibration"):
        lionheart.evaluate(net, pairs(), "1d", 2)
    assert_readable(lionheart.evaluate(net, pairs(), "1d", 2, calibration=as_loader()))


# --------------------------------------------------------------------------------------- convert, calibrate, program, drift


@pytest.mark.parametrize(
    ("choice", "analog"),
    [
        ({}, ("0", "3", "7")),
        ({"layers": "all"}, ("0", "3", "7")),
        ({"layers": "7"}, ("7",)),
        ({"layers": ["0", "3"]}, ("0", "3")),
        ({"layers": "type:conv*"}, ("0", "3")),
        ({"layers": "re:[37]"}, ("3", "7")),
        ({"exclude": ["0"]}, ("3", "7")),
        ({"exclude": "type:linear"}, ("0", "3")),
        ({"layers": ["type:conv2d"], "exclude": ["3"]}, ("0",)),
    ],
)
def test_layers_are_chosen_by_rules(choice: dict[str, Any], analog: tuple[str, ...]):
    net = make_net()
    record = lionheart.convert_to_analog_(net, TILE, **choice)
    assert record.mapping.analog == analog
    assert tuple(analog_layers(net)) == analog
    assert set(record.by_choice) == {"0", "3", "7"} - set(analog)
    assert_readable(record)


@pytest.mark.parametrize(
    ("tile", "technology"),
    [
        (None, "pcm"),
        ("pcm", "pcm"),
        ("reram_cmo", "reram_cmo"),
        (DeviceSpec.reram_wan2022(), "reram_wan2022"),
        (TILE, "pcm"),
    ],
)
def test_a_tile_is_a_name_a_device_or_a_spec(tile: Any, technology: str):
    net = make_net()
    record = lionheart.convert_to_analog_(net, tile)
    assert {layer.tile.device.technology for layer in analog_layers(net).values()} == {technology}
    assert technology in str(record)


def test_the_ideal_tile_computes_what_the_digital_network_does():
    net, digital = make_net().eval(), make_net().eval()
    lionheart.convert_to_analog_(net, "ideal")
    assert torch.allclose(net(X), digital(X), atol=1e-5)
    assert not any("layers without" in line for line in str(lionheart.convert_to_analog_(net, "ideal")).splitlines())


class Mixed(nn.Module):
    """An embedding, a weight of its own, a parametrised layer, and a layer that can go analog."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 4)
        self.mix = nn.Parameter(torch.eye(4))
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.head = nn.Linear(4, 2)
        self.spare = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.normed(self.words(x) @ self.mix))


def test_what_cannot_go_analog_is_reported_with_its_reason():
    record = lionheart.convert_to_analog_(Mixed(), TILE)
    assert set(record.unsupported) == {"words", "mix", "normed"}
    assert record.mapping.analog == ("head", "spare")
    assert "parametrised" in record.unsupported["normed"]
    for name in record.unsupported:
        assert name in str(record)
    assert_readable(record)


def test_a_trace_also_reports_what_did_not_run():
    record = lionheart.convert_to_analog_(Mixed(), TILE, example_inputs=torch.zeros(1, 3, dtype=torch.long))
    assert record.mapping.analog == ("head",)
    assert record.unsupported["spare"] == "did not run on the example inputs"


def test_a_named_layer_that_cannot_go_analog_is_reported_next_to_others():
    record = lionheart.convert_to_analog_(Mixed(), TILE, ["words", "head"])
    assert list(record.unsupported) == ["words"]
    assert record.mapping.analog == ("head",)
    with pytest.raises(
        ConfigError, match="none of the selected layers of Mixed can run on tiles: words: layer type unknown: Embedding"
    ):
        lionheart.convert_to_analog_(Mixed(), TILE, ["words"])


def test_long_networks_are_summarised():
    net = nn.Sequential(*[nn.Linear(8, 8) for _ in range(60)])
    record = lionheart.convert_to_analog_(net, TILE)
    assert re.search(r"\n\.\.\. \d+ more", str(record))
    for result in (
        record,
        lionheart.calibrate_(net, [(torch.randn(4, 8), None)]),
        lionheart.program_(net),
        lionheart.estimate_cost(net, example_inputs=torch.randn(1, 8)),
    ):
        assert_readable(result)


def test_the_way_back_is_exact():
    net, before = make_net(), {name: tensor.clone() for name, tensor in make_net().state_dict().items()}
    lionheart.convert_to_analog_(net, TILE)
    record = lionheart.convert_to_digital_(net)
    assert not analog_layers(net)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert record.mapping.analog == ()
    assert_readable(record)


def test_calibration_gives_ranges_of_all_or_of_chosen_layers():
    net = make_net()
    lionheart.convert_to_analog_(net, TILE)
    assert list(lionheart.calibrate_(net, as_loader(), "type:conv*").ranges) == ["0", "3"]
    record = lionheart.calibrate_(net, pairs())
    assert list(record.ranges) == ["0", "3", "7"]
    ranges = {fqn: float(layer.analog_input_range) for fqn, layer in analog_layers(net).items()}
    assert ranges == pytest.approx(record.ranges)
    assert_readable(record)
    lionheart.convert_to_digital_(net)
    lionheart.convert_to_analog_(net, TILE.replace(input_range="dynamic"))
    assert lionheart.calibrate_(net, pairs()).dynamic == ("0", "3", "7")


def test_a_seed_has_one_chip_and_it_drifts():
    net = calibrated(output_noise=0.0).eval()
    assert_readable(lionheart.program_(net, seed=1))
    first = net(X)
    lionheart.program_(net, seed=2)
    assert not torch.equal(net(X), first)
    lionheart.program_(net, seed=1)
    assert torch.equal(net(X), first)
    record = lionheart.drift_(net, "1d")
    assert record.t_inference == 86_400.0
    assert_readable(record)
    aged = net(X)
    assert not torch.equal(aged, first)
    lionheart.drift_(net, 86_400)
    assert torch.equal(net(X), aged)
    assert "training mode" in str(lionheart.program_(net.train()))


def test_the_old_order_of_arguments_works_with_a_warning():
    net, mapping = make_net(), LayerMapping({"0": "digital", "3": "analog", "7": "digital"})
    with pytest.warns(DeprecatedNameWarning, match=re.escape("convert_to_analog_(model, tile, mapping)")):
        returned = lionheart.convert_to_analog_(net, mapping, TILE)
    assert returned is net
    assert isinstance(net[3], AnalogLayer)
    other = make_net()
    assert lionheart.convert_to_analog_(other, TILE, mapping).mapping == mapping


# --------------------------------------------------------------------------------------------------------------- cost


def test_cost_is_that_of_the_estimate():
    graph = lionheart.trace_graph(make_net(), X)
    mapping = LayerMapping.from_analog(graph, ["3", "7"])
    expected = estimate_system(graph, mapping, load_platform("hermes"))
    for found in (
        lionheart.estimate_cost(graph, mapping, "hermes"),
        lionheart.estimate_cost(make_net(), ["3", "7"], load_platform("hermes"), example_inputs=X),
        lionheart.estimate_cost(make_net(), ["3", "type:linear"], "hermes", example_inputs=pairs()),
        lionheart.estimate_cost(make_net(), mapping, "hermes", example_inputs=as_loader()),
    ):
        assert found == expected
        assert_readable(found)
    assert lionheart.estimate_cost(graph, "none").n_tiles == 0
    assert lionheart.estimate_cost(graph, "all") == lionheart.estimate_cost(graph)


def test_a_converted_model_brings_its_mapping_and_its_tiles():
    net = make_net()
    lionheart.convert_to_analog_(net, TILE, ["7"])
    found = lionheart.estimate_cost(net, example_inputs=X)
    assert {row.fqn: row.n_tiles for row in found.layers} == {"0": 0, "3": 0, "7": 4}
    assert isinstance(net[7], AnalogLayer)
    assert lionheart.estimate_cost(net, "all", example_inputs=X, tile=TILE).n_tiles == 1 + 3 + 4


def test_a_platform_may_be_a_file(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "hermes"\n[clock_hz]\nvalue = 2e9\nunit = "Hz"\nsource = "a wish"\nkind = "assumed"\n')
    for platform in (path, str(path)):
        assert lionheart.estimate_cost(make_net(), "all", platform, example_inputs=X).clock_hz == 2e9


def test_what_cannot_go_analog_is_noted_in_a_cost():
    model, x = Mixed(), torch.zeros(1, 3, dtype=torch.long)
    nn.utils.parametrize.remove_parametrizations(model.normed, "weight")
    found = lionheart.estimate_cost(model, example_inputs=x, platform="lionheart")
    assert any("mix" in note for note in found.notes)
    assert {row.fqn for row in found.layers if row.n_tiles} == {"normed", "head"}


def test_the_old_name_of_the_estimate_works_with_a_warning():
    with pytest.warns(DeprecatedNameWarning, match=r"lionheart\.estimate_system is now lionheart\.estimate_cost"):
        assert lionheart.estimate_system is estimate_system
    assert "estimate_system" not in lionheart.__all__


# --------------------------------------------------------------------------------------------------------- map and load


def test_without_settings_the_preset_of_the_command_line_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr("lionheart.jobs.map_layers", lambda task, settings, **rest: seen.append(settings))
    task = build_task()
    lionheart.map_layers(task)
    lionheart.map_layers(task, max_drop_pp=2, preset="paper", seed=3, train={"max_epochs": 1})
    lionheart.map_layers(task, make_settings(), backend="aihwkit")
    assert seen[0] == lionheart.MapSettings.preset("fast")
    assert seen[1] == lionheart.MapSettings.preset("paper", max_drop_pp=2, seed=3, train={"max_epochs": 1})
    assert seen[2] == make_settings().replace(backend="aihwkit")


def test_a_run_is_printed_and_opened_with_the_network_alone(mapped: MappingResult):
    assert_readable(mapped)
    assert_readable(mapped.results)
    with torch.no_grad():
        other = build_net()  # other weights
    loaded = lionheart.load_run(str(mapped.run.path), other)
    assert not loaded.model.training
    assert loaded.mapping == mapped.mapping
    assert tuple(analog_layers(loaded.model)) == mapped.mapping.analog
    assert not analog_layers(other)
    assert str(loaded) == str(mapped)
    same = [
        torch.equal(one, two) for one, two in zip(loaded.model.parameters(), mapped.model.parameters(), strict=True)
    ]
    assert all(same)
    times = [point.t_inference for point in mapped.results.test_over_time]
    again = lionheart.evaluate(loaded.model, make_batches("test"), times, n_chips=2)
    assert [p.scores for p in again.accuracy_over_time] == [p.scores for p in mapped.results.test_over_time]


# ------------------------------------------------------------------------------------------------------------- errors


class EmptyStream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


def broken_metric(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs[:, 99]


WRONG: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "no model": (lambda net: lionheart.evaluate("resnet", pairs()), r"evaluate: model: got str, expected a torch.nn.Module"),
    "no parameters": (lambda net: lionheart.evaluate(nn.ReLU(), pairs()), "without parameters"),
    "no data": (lambda net: lionheart.evaluate(net, []), "evaluate: data: got no batches"),
    "a number as data": (lambda net: lionheart.evaluate(net, 5), "evaluate: data: got int"),
    "a generator": (lambda net: lionheart.evaluate(net, (p for p in pairs())), "evaluate: data: got generator"),
    "a data set": (lambda net: lionheart.evaluate(net, as_loader().dataset), "got the data set TensorDataset"),
    "a task as data": (lambda net: lionheart.evaluate(net, build_task()), "got a Task, expected batches"),
    "empty stream": (lambda net: lionheart.evaluate(net, DataLoader(EmptyStream())), "got no batches"),
    "one pair": (lambda net: lionheart.evaluate(net, pairs()[0]), "a batch of type Tensor"),
    "wrong shape": (
        lambda net: lionheart.evaluate(net, [(torch.zeros(2, 5), torch.zeros(2))], "1d", 1),
        r"Sequential failed on the first batch, inputs \(2, 5\) float32: RuntimeError",
    ),
    "wrong shape, digital": (
        lambda net: lionheart.evaluate(make_net(), [(torch.zeros(2, 5), torch.zeros(2))]),
        r"Sequential failed on the first batch, inputs \(2, 5\) float32: RuntimeError",
    ),
    "wrong shape in calibration": (
        lambda net: lionheart.calibrate_(net, [(torch.zeros(2, 5), None)]),
        r"calibrate_: Sequential failed on the first batch, inputs \(2, 5\)",
    ),
    "targets as columns": (
        lambda net: lionheart.evaluate(net, [(x, y[:, None]) for x, y in pairs()], "1d", 1),
        r"metric: accuracy_scores: got outputs \(32, 4\) and targets \(32, 1\), which do not fit",
    ),
    "a mean as score": (
        lambda net: lionheart.evaluate(net, pairs(), "1d", 1, metric=nn.functional.cross_entropy),
        r"expected one score for each sample, shape \(32,\)",
    ),
    "a broken metric": (
        lambda net: lionheart.evaluate(net, pairs(), "1d", 1, metric=broken_metric),
        r"the metric failed on outputs \(32, 4\) float32 and targets \(32,\) int64: IndexError",
    ),
    "no metric": (lambda net: lionheart.evaluate(net, pairs(), metric=3), "evaluate: metric: got int"),
    "negative time": (lambda net: lionheart.evaluate(net, pairs(), [-1]), "evaluate: times: duration: got -1"),
    "unknown unit": (lambda net: lionheart.evaluate(net, pairs(), "1 fortnight"), "got '1 fortnight'"),
    "time None": (lambda net: lionheart.evaluate(net, pairs(), [None]), "got None, expected a duration"),
    "no time": (lambda net: lionheart.evaluate(net, pairs(), []), "times: got no duration"),
    "times of a wrong type": (lambda net: lionheart.evaluate(net, pairs(), object()), "times: got object"),
    "no chips": (lambda net: lionheart.evaluate(net, pairs(), n_chips=0), r"n_chips: got 0, expected .* >= 1"),
    "half a chip": (lambda net: lionheart.evaluate(net, pairs(), n_chips=1.5), "n_chips: got 1.5"),
    "a text as seed": (lambda net: lionheart.evaluate(net, pairs(), seed="a"), "seed: got 'a'"),
    "not converted": (lambda net: lionheart.calibrate_(make_net(), pairs()), "calibrate_: Sequential has no analog layers"),
    "not converted, program": (lambda net: lionheart.program_(make_net()), "program_: Sequential has no analog layers"),
    "not converted, drift": (lambda net: lionheart.drift_(make_net(), "1d"), "drift_: Sequential has no analog layers"),
    "not programmed": (
        lambda net: lionheart.drift_(net, "1d"), "drift_: layer '0' is not programmed, expected a programmed model"
    ),
    "negative drift": (lambda net: lionheart.drift_(programmed(), -1), "drift_: t_inference: duration: got -1"),
    "wrong layer name": (
        lambda net: lionheart.calibrate_(net, pairs(), ["70"]),
        r"'70' matches no projection \(weight matrix\) of the network\n.*did you mean '7'",
    ),
    "wrong device": (
        lambda net: lionheart.convert_to_analog_(make_net(), "pmc"),
        "got 'pmc', expected the name of a device\n.*did you mean 'pcm'",
    ),
    "device of a wrong type": (lambda net: lionheart.convert_to_analog_(make_net(), 3), "tile: got int"),
    "wrong rule": (
        lambda net: lionheart.convert_to_analog_(make_net(), TILE, ["conv*"]), r"layers: 'conv\*' matches no projection"
    ),
    "wrong type": (
        lambda net: lionheart.convert_to_analog_(make_net(), TILE, "type:conv3d"), "did you mean 'type:conv2d'"
    ),
    "no layers": (lambda net: lionheart.convert_to_analog_(make_net(), TILE, []), "layers: got an empty list"),
    "layers of a wrong type": (lambda net: lionheart.convert_to_analog_(make_net(), TILE, 3), "layers: got int"),
    "wrong exclusion": (lambda net: lionheart.convert_to_analog_(make_net(), TILE, exclude=[7]), "exclude: got list"),
    "no weights": (lambda net: lionheart.convert_to_analog_(nn.BatchNorm2d(3), TILE), "has no weight matrix"),
    "a single layer": (lambda net: lionheart.convert_to_analog_(nn.Linear(3, 3), TILE), "the model itself is the layer"),
    "wrong platform": (
        lambda net: lionheart.estimate_cost(net, "all", "hermse", example_inputs=X), "did you mean 'hermes'"
    ),
    "platform of a wrong type": (lambda net: lionheart.estimate_cost(net, "all", 3, example_inputs=X), "platform: got int"),
    "no example inputs": (
        lambda net: lionheart.estimate_cost(net), "example_inputs: got None, expected the inputs of one inference"
    ),
    "many example inputs": (
        lambda net: lionheart.estimate_cost(net, example_inputs=pairs()[0][0]), r"got 32 samples, shape \(32, 3, 8, 8\)"
    ),
    "wrong mapping": (lambda net: lionheart.estimate_cost(net, ["8"], example_inputs=X), "mapping: '8' matches no projection"),
    "cost of nothing": (lambda net: lionheart.estimate_cost(3), "got int, expected a torch.nn.Module or a LayerGraph"),
    "no task": (lambda net: lionheart.map_layers(net), "map_layers: task: got Sequential, expected Task"),
    "wrong preset": (lambda net: lionheart.map_layers(build_task(), preset="quik"), "did you mean 'quick'"),
    "wrong setting": (lambda net: lionheart.map_layers(build_task(), max_drop_p=1), "did you mean 'max_drop_pp'"),
    "two sources of settings": (
        lambda net: lionheart.map_layers(build_task(), make_settings(), max_drop_pp=1), "got settings together with max_drop_pp"
    ),
    "settings of a wrong type": (lambda net: lionheart.map_layers(build_task(), "quick"), "settings: got str"),
    "no model to load": (lambda net: lionheart.load_run("runs/none", "net"), "load_run: model: got str"),
}  # fmt: skip


def programmed() -> nn.Module:
    net = calibrated()
    lionheart.program_(net)
    return net


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_error_that_says_what_to_do(net: nn.Module, name: str):
    call, message = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        call(net)
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("call", [lambda net: lionheart.evaluate(net, pairs()), lionheart.program_])
def test_an_uncalibrated_model_is_refused(call: Callable[[nn.Module], Any]):
    net = make_net()
    lionheart.convert_to_analog_(net, TILE)
    with pytest.raises(
        ConfigError, match="layer '0' has no input range \\(3 such layers in total\\), expected a calibrated model"
    ):
        call(net)


def test_a_run_of_another_network_is_refused(mapped: MappingResult, tmp_path: Path):
    for other in (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())):
        with pytest.raises(ArtifactError):
            lionheart.load_run(mapped.run.path, other)
    with pytest.raises(ArtifactError, match=r"run\.json is missing"):
        lionheart.load_run(tmp_path, build_net())


def test_a_fault_of_ours_is_not_hidden(net: nn.Module, monkeypatch: pytest.MonkeyPatch):
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a fault")

    monkeypatch.setattr("lionheart.evaluation.evaluate_over_chips", fail)
    with pytest.raises(RuntimeError, match="a fault") as caught:
        lionheart.evaluate(net, pairs())
    assert not isinstance(caught.value, LionHeartError)


def test_models_are_left_as_they_were(net: nn.Module):
    before = copy.deepcopy(net.state_dict())
    lionheart.evaluate(net, pairs(), "1d", 1)
    lionheart.estimate_cost(net, example_inputs=X)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


# ----------------------------------------------------------------------------------- functions below the public ones


def test_functions_of_packages_take_names_and_durations_too():
    """`drift_chip_(model, "1d", generator)` was a TypeError, and a name of a platform an AttributeError."""
    model, inputs = make_net(), X
    graph = trace_graph(model, inputs)
    mapping = LayerMapping.from_analog(graph, graph.fqns)
    named = estimate_system(graph, mapping, "alpine-high-power")
    assert named == estimate_system(graph, mapping, load_platform("alpine-high-power"))
    analog.convert_to_analog_(model, mapping, TILE)
    analog.calibrate_input_ranges_(model, lambda net: net(inputs))
    outputs = []
    for time in ("1d", 86_400, 86_400.0):
        analog.seed_noise_(model, torch.Generator().manual_seed(2))
        analog.program_chip_(model, torch.Generator().manual_seed(0))
        analog.drift_chip_(model, time, torch.Generator().manual_seed(1))
        outputs.append(model.eval()(inputs))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, ok: analog.drift_chip_(net, None, ok), "drift: t_inference: got NoneType"),
        (lambda net, ok: analog.drift_chip_(net, "1 fortnight", ok), "duration: got '1 fortnight'"),
        (lambda net, ok: analog.drift_chip_(net, -1, ok), "duration: got -1"),
        (lambda net, ok: analog.drift_chip_(net, 1.0, 0), "drift: generator: got int"),
        (lambda net, ok: analog.program_chip_(net, 0), "program: generator: got int"),
        (lambda net, ok: analog.calibrate_input_ranges_(net, torch.zeros(1)), "calibration: run: got Tensor"),
        (lambda net, ok: analog.convert_to_analog_(net, {"0": "analog"}, TILE), "mapping: got dict"),
        (lambda net, ok: analog.convert_to_analog_(net, LayerMapping({}), "pcm"), "convert: tile: got str"),
        (lambda net, ok: LayerMapping.load("text"), "text: no such file"),
    ],
)
def test_wrong_arguments_of_functions_of_packages_are_one_error(call: Callable[..., Any], message: str):
    """Each was an error of PyTorch or Python; `program_chip_` left a part of the layers programmed."""
    with pytest.raises(LionHeartError, match=re.escape(message)):
        call(make_net(), torch.Generator())
