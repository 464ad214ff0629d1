"""Rankings: each on a small network whose order is known, and the measurements behind them against exact values."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from quadrants import build_task, make_context, make_settings
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from zoo import ZOO

from lionheart.candidates import find_candidates
from lionheart.devices import TileSpec
from lionheart.errors import ConfigError, UnsupportedLayerError
from lionheart.graph import trace_graph
from lionheart.jobs import map_layers, resume_run
from lionheart.jobs.measurement.hessian import Curvature, estimate_traces, measure_curvature, squared_errors
from lionheart.jobs.measurement.sensitivity import measure_loss_increase, tells_classes
from lionheart.jobs.ranking import RANKINGS, check_ranking, rank_for_run, register_ranking
from lionheart.mapping import LayerMapping
from lionheart.rng import RandomStreams
from lionheart.system import estimate_system, load_platform
from lionheart.tasks import Task
from lionheart.tasks.images.networks.resnet import ResNet8

STREAMS = RandomStreams(0)


def squares(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Half the squared error: quadratic in the weights of a linear model."""
    return 0.5 * (outputs - targets).square().sum(dim=-1).mean()


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def estimate(model: nn.Module, x: Any, y: Any, fqns: Sequence[str], n_vectors: int = 64, loss: Any = squares):
    batches = Task(model, [(x, y)], [(x, y)], [(x, y)]).validation
    return estimate_traces(model, batches, loss, fqns, STREAMS, n_vectors=n_vectors)


# ------------------------------------------------------------------------------------------------------ Hessian's trace


def test_trace_of_a_linear_model():
    """The Hessian of half the squared error is E[x x'] for each output: its trace is 5 outputs times E[|x|^2]."""
    x, y = draw(40, 3), draw(40, 5, seed=1)
    model = nn.Sequential(nn.Linear(3, 5))
    exact = 5 * float(x.square().sum(dim=1).mean())
    # the variance of one vector is 2 * 5 * sum of squares beside the diagonal of E[x x']
    second = x.T @ x / len(x)
    beside = second - second.diag().diag()
    spread = float((2 * 5 * beside.square().sum()).sqrt()) / 400**0.5
    assert estimate(model, x, y, ["0"], 400)["0"] == pytest.approx(exact, abs=4 * spread)
    assert spread < 0.02 * exact


def test_trace_is_exact_where_the_hessian_is_diagonal():
    """One input of the layer is on at a time: E[x x'] is diagonal, and one vector of signs is enough."""
    x, y = torch.eye(3).repeat(4, 1) * 2, draw(12, 5)
    assert estimate(nn.Sequential(nn.Linear(3, 5)), x, y, ["0"], 1)["0"] == pytest.approx(5 * 4, rel=1e-5)


def test_batches_count_by_their_size():
    model, x, y = nn.Sequential(nn.Linear(3, 1)), torch.eye(3), torch.zeros(3, 1)
    task = Task(model, [], [(x, y), (3 * x[:1], y[:1])], [])
    found = estimate_traces(model, task.validation, squares, ["0"], STREAMS, n_vectors=1)
    assert found["0"] == pytest.approx((3 * 1 + 1 * 9) / 4)


@pytest.mark.parametrize("frozen", [False, True])
def test_trace_of_two_layers_agrees_with_the_full_hessian(frozen: bool):
    torch.manual_seed(0)
    model, x, y = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), draw(16, 3), draw(16, 2, seed=1)
    model.requires_grad_(not frozen)
    exact = {}
    for fqn in ("0", "2"):

        def loss(weight: torch.Tensor, name: str = f"{fqn}.weight") -> torch.Tensor:
            return squares(torch.func.functional_call(model, {name: weight}, (x,)), y)

        weight = model.get_submodule(fqn).weight.detach()
        exact[fqn] = float(torch.autograd.functional.hessian(loss, weight).reshape(weight.numel(), -1).trace())
    found = estimate(model, x, y, ["0", "2"], 2000)
    assert found == pytest.approx(exact, rel=0.1)
    assert all(parameter.requires_grad is not frozen for parameter in model.parameters())  # the model is not changed
    assert model.training


class Attending(nn.Module):
    """Attention whose q, k and v are one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0].mean(dim=1)


def test_parts_of_a_packed_parameter_have_traces_of_their_own():
    torch.manual_seed(0)
    model, x, y = Attending(), draw(8, 5, 4), draw(8, 4, seed=1)
    names = ["attention.in_proj.q", "attention.in_proj.k", "attention.in_proj.v", "attention.out_proj"]

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return squares(torch.func.functional_call(model, {"attention.in_proj_weight": weight}, (x,)), y)

    packed = model.attention.in_proj_weight.detach()
    with sdpa_kernel(SDPBackend.MATH):  # the fused product has no second derivative
        diagonal = torch.autograd.functional.hessian(loss, packed).reshape(48, 48).diag().view(3, 16).sum(dim=1)
    found = estimate(model, x, y, names, 1500)
    assert [found[name] for name in names[:3]] == pytest.approx(diagonal.tolist(), rel=0.2, abs=0.01)
    assert found[names[3]] > 0


class Twice(nn.Module):
    """One weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x) + self.second(2 * x)


def test_a_shared_weight_counts_with_all_its_uses():
    x, y = torch.eye(3), torch.zeros(3, 3)
    found = estimate(Twice(), x, y, ["first"], 1)
    assert found["first"] == pytest.approx(3 * 9)  # (x + 2x): nine times that of one use


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_are_differentiated_twice(kind: type[nn.Module]):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = kind(3, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rnn(x)[0][:, -1]

    found = estimate(Net(), draw(6, 5, 3), draw(6, 4), ["rnn.ih_l0", "rnn.hh_l0"], 4)
    assert set(found) == {"rnn.ih_l0", "rnn.hh_l0"}


@pytest.mark.parametrize("name", ZOO)
def test_every_projection_that_may_go_analog_has_a_trace_and_an_error(name: str):
    """Packed, shared, transposed, grouped, inputs first: what is found by its kind is found here; the rest is no candidate."""
    model, inputs = ZOO[name].build(), ZOO[name].inputs
    candidates = [each for each in find_candidates(trace_graph(model, inputs), TileSpec()) if each.is_mappable]
    assert all(each.node.layer_type != "functional" for each in candidates)
    fqns = [each.node.fqn for each in candidates]

    def loss(outputs: Any, targets: Any) -> torch.Tensor:
        tensors = [each for each in pytree.tree_leaves(outputs) if isinstance(each, torch.Tensor)]
        return sum(each.square().sum() for each in tensors)

    found = estimate(model, inputs, torch.zeros(1), fqns, 2, loss=loss)
    assert list(found) == fqns
    assert any(found.values()) or not found
    assert all(error > 0 for error in squared_errors(model, fqns, TileSpec(), 1.0, STREAMS).values())


class Once(torch.autograd.Function):
    """Has a gradient, which has none."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


class NotTwice(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Once.apply(super().forward(x))


def test_what_has_no_hessian_is_one_clear_error():
    x, y = draw(4, 3), draw(4, 2)
    with pytest.raises(UnsupportedLayerError, match="cannot be differentiated twice") as caught:
        estimate(NotTwice(nn.Linear(3, 2)), x, y, ["0"], 1)
    assert "sensitivity" in caught.value.hint
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    with pytest.raises(UnsupportedLayerError, match="0: the weight is computed"):
        estimate(normed, x, y, ["0"], 1)
    with pytest.raises(ConfigError, match="no projection '1'"):
        estimate(nn.Sequential(nn.Linear(3, 2)), x, y, ["1"], 1)


def test_a_linear_loss_has_no_curvature():
    found = estimate(nn.Sequential(nn.Linear(3, 2)), draw(4, 3), draw(4, 2), ["0"], 2, loss=lambda a, b: a.mean())
    assert found == {"0": 0.0}


# --------------------------------------------------------------------------------------------- errors on chips, the rise


def test_squared_errors_follow_the_scale_of_the_weights():
    """A tile's errors are relative to the largest weight of each column: twice the weights, four times the squared error."""
    small = nn.Sequential(nn.Linear(24, 16), nn.Linear(16, 24))
    large = copy.deepcopy(small)
    with torch.no_grad():
        large[0].weight *= 2
    tile = TileSpec(rows=8, cols=8)
    errors = [squared_errors(model, ["0", "1"], tile, 86_400.0, STREAMS) for model in (small, large)]
    assert errors[1]["0"] == pytest.approx(4 * errors[0]["0"], rel=1e-4)
    assert errors[1]["1"] == pytest.approx(errors[0]["1"], rel=1e-4)
    assert errors[0]["0"] > 0
    ideal = squared_errors(small, ["0", "1"], TileSpec.ideal(), 0.0, STREAMS)
    assert ideal == pytest.approx({"0": 0.0, "1": 0.0}, abs=1e-12)


def test_the_expected_rise_is_the_rise_of_a_quadratic_loss():
    """For a linear model the second order is all there is: chips' mean loss rises by what is expected of random errors."""
    x, y = draw(64, 24), draw(64, 16, seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(24, 16))
    model[0].bias.data = (y - x @ model[0].weight.detach().T).mean(dim=0)
    settings = make_settings(search={"t_inference": 1.0}, tile={"rows": 32, "cols": 32})
    task = Task(model, [(x, y)], [(x, y)], [(x, y)], loss=squares)
    found = measure_curvature(make_context(task, settings), task.validation, ["0"])["0"]
    sigma = found.squared_error**0.5
    rises = []
    for seed in range(300):
        noisy = model[0].weight.detach() + sigma * draw(16, 24, seed=seed)
        rises.append(float(squares(x @ noisy.T + model[0].bias.detach(), y) - squares(model(x).detach(), y)))
    assert found.expected_loss_increase == pytest.approx(sum(rises) / len(rises), rel=0.15)
    assert found.to_json()["expected_loss_increase"] == found.expected_loss_increase  # written for the report
    assert Curvature(trace=-1.0, squared_error=1.0).expected_loss_increase == 0.0


def sensitivity(task: Task, tile: TileSpec) -> dict[str, float]:
    fqns = ["0", "3", "7"] if task.name == "quadrants" else ["0"]
    return measure_loss_increase(make_context(task, make_settings().replace(tile=tile)), task.validation, fqns)


def test_sensitivity_of_a_classifier_is_a_divergence():
    """Never negative, nothing on exact tiles, more with more noise: it needs no luck with signs."""
    task = build_task()
    assert tells_classes(task, task.validation)
    assert max(abs(rise) for rise in sensitivity(task, TileSpec.ideal(32, 32)).values()) < 1e-6
    little, much = (sensitivity(task, TileSpec.ideal(32, 32).replace(output_noise=noise)) for noise in (0.01, 0.5))
    assert all(0 < little[fqn] < much[fqn] for fqn in little)


def test_sensitivity_of_a_regression_is_the_rise_of_its_loss():
    x, y = draw(64, 24), draw(64, 16, seed=1)
    task = Task(nn.Sequential(nn.Linear(24, 16)), [(x, y)], [(x, y)], [(x, y)], loss=squares)
    assert not tells_classes(task, task.validation)
    with torch.no_grad():
        task.model[0].weight.copy_(torch.linalg.lstsq(x, y).solution.T)
        task.model[0].bias.zero_()
    assert sensitivity(task, TileSpec.pcm(output_noise=0.1))["0"] > 0


# ------------------------------------------------------------------------------------------------------------- rankings


def ranked(by: str, problem: Any = None, **changes: Any) -> list[str]:
    settings = make_settings(search={"ranking": by, **changes.pop("search", {})}, **changes)
    return [each.node.fqn for each in rank_for_run(make_context(build_task(), settings), problem)]


def test_macs_and_weights_are_as_before():
    assert ranked("macs") == ["0", "3", "7"]
    assert ranked("weights") == ["3", "7", "0"]


def test_the_ranking_follows_the_objective_unless_told_otherwise():
    assert ranked("objective") == ranked("macs")
    assert ranked("objective", search={"objective": "weights"}) == ranked("weights")
    assert ranked("macs", search={"objective": "weights"}) == ranked("macs")


def test_the_largest_norm_of_a_neuron_comes_last():
    task = build_task()
    with torch.no_grad():
        for number, fqn in enumerate(("7", "0", "3"), start=1):
            weight = task.model[int(fqn)].weight
            weight.zero_()
            weight[-1, 0, ...] = number / weight[-1, 0].numel() ** 0.5  # one neuron of norm `number`
    settings = make_settings(search={"ranking": "neuron-norm"})
    assert [each.node.fqn for each in rank_for_run(make_context(task, settings), None)] == ["7", "0", "3"]


class Shaped(nn.Module):
    """Linear layers ``0``, ``1``, ... each of which sees its own input so many times."""

    def __init__(self, shapes: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        self.shapes = shapes
        self.layers = nn.ModuleList(nn.Linear(rows, cols, bias=False) for rows, cols, _ in shapes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = [
            layer(x[:, :1].expand(-1, n_mvms * rows).reshape(-1, n_mvms, rows)).sum(dim=(1, 2))
            for layer, (rows, _, n_mvms) in zip(self.layers, self.shapes, strict=True)
        ]
        return torch.stack(outputs, dim=1)


def ranked_shapes(by: str, shapes: Sequence[tuple[int, int, int]], exclude: Sequence[str] = ()) -> list[int]:
    x = torch.zeros(1, 1)
    task = Task(Shaped(shapes), [(x, x)], [(x, x)], [(x, x)])
    settings = make_settings(search={"ranking": by, "exclude": [f"layers.{each}" for each in exclude]})
    return [int(each.node.fqn.rpartition(".")[2]) for each in rank_for_run(make_context(task, settings), None)]


def test_ranking_by_macs_and_by_weights_differ():
    shapes = [(20, 20, 1), (4, 4, 100)]
    assert ranked_shapes("macs", shapes) == [1, 0]
    assert ranked_shapes("weights", shapes) == [0, 1]


@hypothesis.settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans()), min_size=1, max_size=8),
    st.sampled_from(["macs", "weights"]),
)
def test_ranking_is_stable_and_leaves_out_the_refused(shapes: list[tuple[int, int, bool]], by: str):
    """Of equal ones that which comes first in the network is tried first."""
    refused = [str(index) for index, (*_, keep) in enumerate(shapes) if not keep]
    order = ranked_shapes(by, [(rows, rows, n_mvms) for rows, n_mvms, _ in shapes], refused)
    assert set(order) == {index for index, (*_, keep) in enumerate(shapes) if keep}
    sizes = [rows * rows * (n_mvms if by == "macs" else 1) for rows, n_mvms, _ in shapes]
    assert order == sorted(order, key=lambda index: (-sizes[index], index))


def test_resnet8_ranking():
    x = torch.zeros(1, 3, 32, 32)
    task = Task(ResNet8(), [(x, x)], [(x, x)], [(x, x)])
    order = [
        each.node.fqn for each in rank_for_run(make_context(task, make_settings(search={"ranking": "macs"})), None)
    ]
    # Four layers tie at 2,359,296 MACs and keep the network's order; the linear layer has the fewest MACs.
    assert order[:4] == ["stack1.conv1", "stack1.conv2", "stack2.conv2", "stack3.conv2"]
    assert order[-1] == "fc"


def test_random_follows_the_seed():
    orders = [tuple(ranked("random", seed=seed)) for seed in range(40)]
    assert orders == [tuple(ranked("random", seed=seed)) for seed in range(40)]
    assert len(set(orders)) == 6  # all orders of three come up
    for seed, order in enumerate(orders):  # whether another is excluded does not change the order of two
        assert ranked("random", seed=seed, search={"exclude": ["3"]}) == [fqn for fqn in order if fqn != "3"]


@pytest.mark.parametrize("platforms", [("alpine-high-power",), ("alpine-low-power", "alpine-high-power")])
@pytest.mark.parametrize(("by", "amount"), [("time", "latency_s"), ("energy", "energy_j")])
def test_savings_are_differences_of_estimates_on_the_first_platform(by: str, amount: str, platforms: tuple[str, ...]):
    task = build_task()
    graph, platform = trace_graph(task.model, task.example_inputs()), load_platform(platforms[0])
    partitions = {each.node.fqn: each.partition for each in find_candidates(graph, make_settings().tile)}
    saved = {}
    for fqn in graph.fqns:
        digital = estimate_system(graph, LayerMapping.all_digital(graph), platform)
        mapped = estimate_system(graph, LayerMapping.from_analog(graph, [fqn]), platform, partitions)
        saved[fqn] = getattr(digital.mapped, amount) - getattr(mapped.mapped, amount)
    order = ranked(by, platforms=platforms)
    assert order == sorted(saved, key=lambda fqn: -saved[fqn])
    assert len(set(saved.values())) == 3


def test_what_costs_time_comes_last():
    """A single output needs a whole tile's 100 ns for next to no work."""
    model = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 1), nn.Linear(1, 1))
    x, y = torch.randn(1, 256), torch.zeros(1, 1)
    settings = make_settings(search={"ranking": "time"}).replace(tile=TileSpec())
    context = make_context(Task(model, [(x, y)], [(x, y)], [(x, y)]), settings)
    graph, fqns = context.graph, [each.node.fqn for each in rank_for_run(context, None)]
    platform = load_platform(settings.platforms[0])
    last = estimate_system(graph, LayerMapping.from_analog(graph, fqns[-1:]), platform)
    assert fqns[0] == "0"
    assert last.mapped.latency_s > last.all_digital.latency_s


def test_measured_rankings_divide_by_macs():
    """MACs are 13,824, 9,216 and 512."""
    rises = {"0": 0.5, "3": 0.1, "7": 0.001}
    asked = []

    def measure(fqns: Sequence[str]) -> dict[str, float]:
        asked.append(sorted(fqns))
        return rises

    problem = SimpleNamespace(loss_increase=measure, expected_loss_increase=measure)
    assert ranked("sensitivity", problem) == ranked("hessian", problem) == ["7", "3", "0"]
    rises.update({"7": 0.01})
    assert ranked("sensitivity", problem) == ["3", "7", "0"]
    rises.update({"0": -3.0, "3": 0.0, "7": -1e-9})  # no rise at all: the most MACs first
    assert ranked("sensitivity", problem) == ["0", "3", "7"]
    assert asked == [["0", "3", "7"]] * 4


def test_rankings_that_cannot_be():
    with pytest.raises(ConfigError, match="ranking: got 'hesian'") as caught:
        check_ranking(make_settings(search={"ranking": "hesian"}))
    assert "did you mean 'hessian'" in caught.value.hint
    for by in ("time", "energy"):
        with pytest.raises(ConfigError, match=f"ranking: got '{by}', which needs a platform"):
            check_ranking(make_settings(search={"ranking": by}, platforms=()))
    for name in ("macs", "random"):
        with pytest.raises(ConfigError, match=f"'{name}' is already registered"):
            register_ranking(name)(RANKINGS.find("random"))


@pytest.mark.usefixtures("small_noise_pool")
@pytest.mark.parametrize(
    ("by", "step", "kind"), [("sensitivity", "sensitivity", float), ("hessian", "curvature", Curvature)]
)
def test_a_measured_order_is_measured_once_and_resumed(
    by: str, step: str, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = make_settings(search={"ranking": by})
    whole = map_layers(build_task(), settings, run_dir=tmp_path / "whole")
    measured = whole.run.journal.read(step, dict[str, kind])
    assert set(measured) == {"0", "3", "7"}
    decisions_s = sum(each.elapsed_s for each in whole.results.decisions)
    assert whole.results.elapsed_s == pytest.approx(decisions_s + whole.run.journal.elapsed_s(step))
    assert whole.run.journal.elapsed_s(step) > 0

    class KilledError(BaseException):
        pass

    def kill(*args: Any, **kwargs: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        for name in ("commit", "rollback"):
            patch.setattr(f"lionheart.jobs.problem.MappingProblem.{name}", kill)
        with pytest.raises(KilledError):
            map_layers(build_task(), settings, run_dir=tmp_path / "killed")
    resumed = resume_run(build_task(), tmp_path / "killed")
    assert [each.fqn for each in resumed.results.decisions] == [each.fqn for each in whole.results.decisions]
    assert resumed.mapping == whole.mapping
    assert [event["event"] for event in resumed.run.journal.events()].count(step) == 1
    assert resumed.run.journal.read(step, dict[str, kind]) == measured
