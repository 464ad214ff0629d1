"""Models with analog layers under `torch.compile`: the same numbers, fresh noise, no compilation for every chip."""

import copy
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from lionheart.analog import (
    analog_layers,
    compile_model_,
    convert_to_analog_,
    drift_chip_,
    program_chip_,
    seed_noise_,
    uncompile_,
)
from lionheart.devices import HWASpec, TileSpec
from lionheart.evaluation import ChipEnsemble
from lionheart.jobs.measurement.compiling import compiling
from lionheart.mapping import LayerMapping, Placement
from lionheart.rng import RandomStreams

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"),
    pytest.mark.filterwarnings("default"),  # the compiler's own
]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Residual(nn.Module):
    """Two convolutions around a norm with a way past them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.norm(self.first(x)))) + x)


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (lambda: nn.Sequential(Residual(), nn.Flatten(), nn.Linear(8 * 36, 5)), (4, 8, 6, 6)),
    "linear": (lambda: nn.Sequential(nn.Linear(96, 40), nn.GELU(), nn.Linear(40, 12, bias=False)), (16, 96)),
}


def on_tiles(name: str, tile: TileSpec) -> tuple[nn.Module, Tensor]:
    build, shape = NETS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = build()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(6))
    fqns = [fqn for fqn, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    convert_to_analog_(model, LayerMapping(dict.fromkeys(fqns, Placement.ANALOG)), tile)
    for layer in analog_layers(model).values():
        layer.analog_input_range.data.fill_(2.0)
    return model, x


def step(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the outputs and gradients of one pass from a fixed seed."""
    seed_noise_(model, torch.Generator().manual_seed(3))
    model.zero_grad()
    out = model(x)
    out.square().mean().backward()
    return {"outputs": out.detach(), **{n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert (value - other[name]).norm() <= tolerance * value.norm() + 1e-7, name


QUIET = TileSpec.pcm(rows=40, output_noise=0.0, hwa=HWASpec(weight_noise=0.0))
NOISY = TileSpec.pcm(rows=40, hwa=HWASpec(weight_noise=0.1, drop_connect=0.1))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("name", "input_range", "backend"),
    [
        ("convolutions", "static", "inductor"),
        ("convolutions", "learned", "aot_eager"),
        ("linear", "static", "aot_eager"),
        ("linear", "learned", "inductor"),
    ],
)
def test_without_noise_outputs_and_gradients_are_those_of_eager_code(
    name: str, input_range: str, backend: str, training: bool
):
    model, x = on_tiles(name, QUIET.replace(input_range=input_range))
    model.train(training)
    twin = copy.deepcopy(model)
    plain, compiled = step(model, x), step(compile_model_(twin, backend=backend), x)
    assert len(plain) > 3
    assert_close(plain, compiled, 0.02)  # a code or two rounded to the other side


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_with_noise_compiled_code_draws_what_the_same_pass_draws_uncompiled(name: str, training: bool):
    model, x = on_tiles(name, NOISY)
    model.train(training)
    if not training:
        program_chip_(model, torch.Generator().manual_seed(1))
        drift_chip_(model, 3600.0, torch.Generator().manual_seed(2))
    twin = copy.deepcopy(model)
    plain, compiled = step(compile_model_(model, backend="eager"), x), step(compile_model_(twin), x)
    assert_close(plain, compiled, 0.02)
    seed_noise_(twin, torch.Generator().manual_seed(4))
    assert (twin(x) - compiled["outputs"]).norm() > 0.02 * compiled["outputs"].norm()  # and not always the same


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_read_policies_are_compiled(name: str, training: bool):
    policy = {"n_reads": 4, "row_copies": 2, "column_copies": 2, "device_pairs": 2, "digital_weights": 3}
    model, x = on_tiles(name, NOISY.replace(rows=200, input_range="sample", **policy))
    model.train(training)
    if not training:
        program_chip_(model, torch.Generator().manual_seed(1))
        drift_chip_(model, 3600.0, torch.Generator().manual_seed(2))
    twin = copy.deepcopy(model)
    plain, compiled = (
        step(compile_model_(model, backend="eager"), x),
        step(compile_model_(twin, backend="aot_eager"), x),
    )
    assert len(plain) > 3
    assert_close(plain, compiled, 0.02)


@pytest.mark.parametrize("kind", ["programming", "device"])
def test_noise_that_programs_devices_is_fresh_in_every_compiled_step(kind: str):
    model, x = on_tiles("linear", QUIET.replace(hwa=HWASpec(weight_noise_kind=kind)))
    compile_model_(model.train(), backend="eager")
    with torch.no_grad():
        outputs = torch.stack([model(x) for _ in range(4)])
    assert (outputs.std(dim=0) > 0).double().mean() > 0.6  # codes of 8 bits: some stay
    assert all(layer._step_weights is None for layer in analog_layers(model).values())


def test_layers_of_one_pass_do_not_share_their_noise():
    model, _ = on_tiles("convolutions", TileSpec.pcm())
    source = next(iter(analog_layers(model).values())).noise
    source.begin_pass()
    drawn = [source.normal(torch.Size((8, 36))) for _ in range(20)]
    begins = sorted(each.storage_offset() for each in drawn)
    assert min(second - first for first, second in itertools.pairwise(begins)) >= 8 * 36
    again = source.normal(torch.Size((8, 36)))
    source.begin_pass()
    assert not torch.equal(drawn[0], source.normal(torch.Size((8, 36))))
    assert not torch.equal(drawn[-1], again)


def test_chips_and_times_of_an_ensemble_are_compiled_once():
    model, x = on_tiles("linear", NOISY)
    n_graphs = 0

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        nonlocal n_graphs
        n_graphs += 1
        return graph.forward

    ensemble = ChipEnsemble(model, n_chips=3, times=[1.0, 3600.0], streams=RandomStreams(0))
    plain = ensemble.evaluate(Batches(x), lambda outputs, targets: outputs[:, 0]).chips.tolist()
    compile_model_(model, backend=count)
    compiled = ensemble.evaluate(Batches(x), lambda outputs, targets: outputs[:, 0]).chips.tolist()
    assert n_graphs == 1
    assert torch.allclose(torch.tensor(plain), torch.tensor(compiled), atol=0.1)
    assert torch.tensor(compiled).flatten().unique().numel() == 6


class Batches:
    """Two batches of the same inputs."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return 2

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.x, self.x
        yield self.x, self.x


def test_other_shapes_run_eagerly_and_a_copy_is_not_compiled():
    model, x = on_tiles("linear", QUIET)
    calls = 0

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        def run(*args: Tensor) -> object:
            nonlocal calls
            calls += 1
            return graph.forward(*args)

        return run

    compile_model_(model.eval(), backend=count)
    with torch.no_grad():
        whole, part, copied = model(x), model(x[:3]), copy.deepcopy(model)(x)
        assert calls == 1
        assert torch.allclose(whole[:3], part, atol=1e-5)
        assert torch.allclose(whole, copied, atol=1e-5)
        uncompile_(model)(x)
    assert calls == 1


def test_a_plain_torch_compile_by_the_user_is_right_too():
    model, x = on_tiles("convolutions", QUIET)
    twin = copy.deepcopy(model)
    plain, compiled = step(model.train(), x), step(twin.train(), x)
    assert_close(plain, compiled, 1e-6)
    whole = torch.compile(twin, backend="aot_eager")
    assert_close(plain, {**step_of(whole, twin, x)}, 0.02)


def step_of(compiled: Callable[..., Tensor], model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    out = compiled(x)
    out.square().mean().backward()
    return {"outputs": out.detach(), **{n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}}


def test_compiled_passes_run_under_autocast():
    model, x = on_tiles("linear", QUIET)
    twin = compile_model_(copy.deepcopy(model), backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        plain, compiled = model.train()(x), twin.train()(x)
        compiled.float().square().mean().backward()
    assert compiled.dtype == torch.bfloat16
    assert (plain - compiled).float().norm() < 0.05 * plain.float().norm()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in twin.parameters())


def test_only_enough_passes_are_compiled():
    model, _ = on_tiles("linear", QUIET)
    for n_passes, enabled, expected in [(10_000, True, True), (10, True, False), (10_000, False, False)]:
        with compiling(model, n_passes, enabled=enabled):
            assert (model._compiled_call_impl is not None) == expected
        assert model._compiled_call_impl is None
    with pytest.raises(KeyError), compiling(model, 10_000, enabled=True):
        raise KeyError
    assert model._compiled_call_impl is None


def test_undecided_long_passes_are_compiled_where_a_compiler_is_installed(monkeypatch, tmp_path: Path):
    model, _ = on_tiles("linear", QUIET)
    for n_passes, n_macs, expected in [(1_000, 3e12, True), (1_000, 1e12, False), (10, 3e12, False)]:
        with compiling(model, n_passes, enabled=None, n_macs=n_macs):
            assert (model._compiled_call_impl is not None) == expected
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with compiling(model, 1_000, enabled=None, n_macs=3e12):
        assert model._compiled_call_impl is None
    with compiling(nn.Linear(2, 2), 1_000, enabled=None, n_macs=3e12):
        assert model._compiled_call_impl is None


def test_a_network_runs_eagerly_if_the_compiler_fails(monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise TorchDynamoException("no such instruction\nmore")

    model, x = on_tiles("linear", QUIET)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    expected = model(x)
    with compiling(model, 1_000, enabled=None, n_macs=3e12):
        with pytest.warns(UserWarning, match="torch.compile failed, so the network runs eagerly: no such instruction$"):
            assert torch.equal(model(x), expected)
        assert torch.equal(model(x), expected)
    with compiling(model, 1_000, enabled=True), pytest.raises(TorchDynamoException):
        model(x)
