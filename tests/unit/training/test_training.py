"""A loop that can be killed and resumed exactly, and files that are whole or refused."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from kills import KilledError, kill_at
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from conftest import TinyData
from lionheart.data import LoaderBatches, TensorBatches, as_batches
from lionheart.errors import ArtifactError, ConfigError, NumericsError
from lionheart.evaluation import evaluate_accuracy
from lionheart.rng import RandomStreams
from lionheart.tasks.images.splits import crop_and_flip
from lionheart.tasks.task import accuracy_scores
from lionheart.training import (
    TrainHooks,
    TrainSession,
    TrainSpec,
    TrainTrace,
    build_optimizer,
    load_training_state,
    load_weights,
    save_training_state,
    save_weights,
    train,
)
from lionheart.training.distill import add_teacher_outputs, distillation_loss
from lionheart.training.loop import is_flat
from lionheart.training.schedule import learning_rate_at

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
STREAMS = RandomStreams(11)
SPEC = TrainSpec(learning_rate=0.05, weight_decay=1e-3, schedule="one_cycle", max_epochs=4, patience=None)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_batches(data: TinyData, **settings) -> TensorBatches:
    return TensorBatches(
        data.images, data.labels, mean=MEAN, std=STD, **{"batch_size": 16, "shuffle": True, **settings}
    )


def rebuild(net: nn.Module) -> nn.Module:
    """A network of the same shape with other weights, as a new process would have before it loads."""
    other = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    ).to(memory_format=torch.channels_last)
    assert not torch.equal(other[0].weight, net[0].weight)
    return other


def run(net: nn.Module, data: TinyData, spec: TrainSpec = SPEC, **settings) -> TrainTrace:
    """Train; `settings` are those of `TrainSession` and `TrainHooks`."""
    session = TrainSession(**{key: settings.pop(key) for key in ("checkpoint", "progress") if key in settings})
    batches, optimizer = tiny_batches(data, augment=crop_and_flip), build_optimizer(net, spec)
    hooks = TrainHooks(**settings)
    return train(net, batches, F.cross_entropy, spec, optimizer, streams=STREAMS, hooks=hooks, session=session)


def differing(one: nn.Module, other: nn.Module) -> list[str]:
    return [n for n, tensor in one.state_dict().items() if not torch.equal(tensor, other.state_dict()[n])]


# ------------------------------------------------------------------------------------------------------------ shapes


def test_constant_rate():
    spec = TrainSpec(learning_rate=0.3, schedule="constant")
    assert {learning_rate_at(spec, p / 10) for p in range(11)} == {0.3}


def test_cosine_rate():
    spec = TrainSpec(learning_rate=0.4, schedule="cosine")
    rates = [learning_rate_at(spec, p / 100) for p in range(101)]
    assert rates[0] == 0.4
    assert rates[50] == pytest.approx(0.2)
    assert rates[25] == pytest.approx(0.4 * (1 + 0.5**0.5) / 2)
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in pairwise(rates))


def test_one_cycle_rate():
    spec = TrainSpec(learning_rate=0.4, schedule="one_cycle")
    rates = [learning_rate_at(spec, p / 100) for p in range(101)]
    assert rates[0] == pytest.approx(0.04 * 0.4)  # never zero, so the first step moves
    assert rates[10] == pytest.approx(0.2)
    assert max(rates) == rates[20] == pytest.approx(0.4)
    assert rates[60] == pytest.approx(0.2)  # half-way down
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert all(a < b for a, b in pairwise(rates[1:21]))
    assert all(a > b for a, b in pairwise(rates[20:]))


def test_loop_sets_the_rate_of_every_step(tiny_net: nn.Module, tiny_data: TinyData):
    optimizer = build_optimizer(tiny_net, SPEC)
    rates = []
    train(
        tiny_net, tiny_batches(tiny_data), F.cross_entropy, SPEC, optimizer, streams=STREAMS,
        hooks=TrainHooks(after_step=lambda: rates.append({group["lr"] for group in optimizer.param_groups})),
    )  # fmt: skip
    assert rates == [{learning_rate_at(SPEC, step / 16)} for step in range(16)]


@pytest.mark.parametrize(
    ("losses", "patience", "flat"),
    [
        ([3, 2, 1], 1, False),
        ([3, 2, 2], 1, True),
        ([3, 2, 2.5], 2, False),  # the best of the last two is below what came before
        ([2, 2.5, 3], 2, True),
        ([2, 3], 2, False),
        ([1] * 50, None, False),
    ],
)
def test_is_flat(losses: list[float], patience: int | None, flat: bool):
    assert is_flat(losses, patience) == flat


def test_only_matrices_decay(tiny_net: nn.Module):
    tiny_net[4].bias.requires_grad_(False)
    optimizer = build_optimizer(tiny_net, TrainSpec(weight_decay=0.1))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {id(p): 0.1 if p.ndim > 1 else 0.0 for name, p in tiny_net.named_parameters() if name != "4.bias"}


# -------------------------------------------------------------------------------------------------------------- loop


def test_loss_falls_on_a_separable_problem(tiny_net: nn.Module, tiny_data: TinyData):
    batches = tiny_batches(tiny_data)
    spec = SPEC.replace(max_epochs=10)
    trace = train(tiny_net, batches, F.cross_entropy, spec, build_optimizer(tiny_net, spec), streams=STREAMS)
    assert trace.outcome == "cap"
    assert (len(trace.losses), trace.n_steps) == (10, 40)
    assert trace.losses[-1] < 0.1 * trace.losses[0]
    assert tiny_net.training
    assert evaluate_accuracy(tiny_net, tiny_batches(tiny_data, shuffle=False), accuracy_scores) == 1.0


def test_trace_holds_the_mean_loss_of_each_epoch(tiny_net: nn.Module, tiny_data: TinyData):
    losses = []

    def loss_function(outputs: Tensor, targets: Tensor) -> Tensor:
        loss = F.cross_entropy(outputs, targets)
        losses.append(loss.detach())
        return loss

    batches, spec = tiny_batches(tiny_data), SPEC.replace(max_epochs=2)
    trace = train(tiny_net, batches, loss_function, spec, build_optimizer(tiny_net, spec), streams=STREAMS)
    means = [float(torch.stack(losses[i : i + 4]).mean()) for i in (0, 4)]
    assert trace.losses == pytest.approx(means)


def test_stops_when_flat_within_patience(tiny_net: nn.Module, tiny_data: TinyData):
    # Each epoch's loss is scripted: it falls for three epochs and then stays where it is.
    script = iter([3.0, 2.0, 1.0, 1.0, 1.5, 1.0, 0.1])
    level = [0.0]

    def before_epoch(epoch: int) -> None:
        level[0] = next(script)

    spec = SPEC.replace(max_epochs=7, patience=3)
    trace = train(
        tiny_net, tiny_batches(tiny_data), lambda outputs, targets: 0 * outputs.sum() + level[0], spec,
        build_optimizer(tiny_net, spec), streams=STREAMS, hooks=TrainHooks(before_epoch),
    )  # fmt: skip
    assert (trace.outcome, trace.losses) == ("flat", (3.0, 2.0, 1.0, 1.0, 1.5, 1.0))


def test_budget_stops_after_an_epoch(tiny_net: nn.Module, tiny_data: TinyData):
    trace = run(tiny_net, tiny_data, should_stop=lambda trace: trace.n_steps >= 5)
    assert (trace.outcome, trace.n_steps) == ("budget", 8)


def test_steps_per_epoch_shortens_an_epoch(tiny_net: nn.Module, tiny_data: TinyData):
    assert run(tiny_net, tiny_data, SPEC.replace(steps_per_epoch=3)).n_steps == 3 * 4
    assert run(tiny_net, tiny_data, SPEC.replace(steps_per_epoch=99)).n_steps == 4 * 4


def test_gradient_clip_bounds_the_step(tiny_net: nn.Module, tiny_data: TinyData):
    before = [p.detach().clone() for p in tiny_net.parameters()]
    spec = TrainSpec(
        learning_rate=1.0, momentum=0, schedule="constant", max_epochs=1, steps_per_epoch=1, gradient_clip=1e-3
    )
    run(tiny_net, tiny_data, spec)
    moved = torch.cat([(p - b).flatten() for p, b in zip(tiny_net.parameters(), before, strict=True)])
    assert float(moved.detach().norm()) == pytest.approx(1e-3, rel=1e-2)


def test_same_seed_same_weights_other_seed_other_weights(tiny_net: nn.Module, tiny_data: TinyData):
    nets = [rebuild(tiny_net) for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        net.load_state_dict(tiny_net.state_dict())
        batches = tiny_batches(tiny_data, augment=crop_and_flip)
        train(net, batches, F.cross_entropy, SPEC, build_optimizer(net, SPEC), streams=RandomStreams(seed))
    assert differing(nets[0], nets[1]) == []
    assert differing(nets[0], nets[2])


def test_each_epoch_draws_its_own_named_order(tiny_net: nn.Module, tiny_data: TinyData):
    seen: list[Tensor] = []

    def loss_function(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(targets)
        return F.cross_entropy(outputs, targets)

    batches = tiny_batches(tiny_data)
    train(tiny_net, batches, loss_function, SPEC, build_optimizer(tiny_net, SPEC), streams=STREAMS)
    epochs = [torch.cat(seen[start : start + 4]).tolist() for start in range(0, 16, 4)]
    assert epochs == [
        [int(label) for _, labels in batches.epoch(STREAMS.generator("data", epoch)) for label in labels]
        for epoch in range(4)
    ]
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_training_leaves_the_global_random_state_alone(tiny_net: nn.Module, tiny_data: TinyData):
    before = torch.get_rng_state()
    run(tiny_net, tiny_data)
    assert torch.equal(torch.get_rng_state(), before)


def test_nan_loss_is_a_numerics_error(tiny_net: nn.Module, tiny_data: TinyData, tmp_path: Path):
    epochs: list[int] = []

    def loss_function(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum() * (float("nan") if epochs[-1] == 1 else 1e-3)

    spec, checkpoint = SPEC, tmp_path / "state"
    with pytest.raises(
        NumericsError, match="retraining fc: the mean training loss of epoch 2 is nan, expected a finite number"
    ) as caught:
        train(
            tiny_net, tiny_batches(tiny_data), loss_function, spec, build_optimizer(tiny_net, spec), streams=STREAMS,
            hooks=TrainHooks(epochs.append), session=TrainSession(checkpoint, label="retraining fc"),
        )  # fmt: skip
    assert "learning rate" in caught.value.hint
    stored = rebuild(tiny_net)
    assert len(load_training_state(checkpoint, stored, build_optimizer(stored, spec))["trace"]["losses"]) == 1
    assert all(torch.isfinite(p).all() for p in stored.parameters())  # the last good epoch is kept


def test_no_batch_is_a_config_error(tiny_net: nn.Module):
    # Cause: a loader that drops its only, incomplete batch ended in a division by zero.
    numbers = torch.arange(20)
    empty = DataLoader(TensorDataset(numbers.float(), numbers), batch_size=99, drop_last=True)
    with pytest.raises(ConfigError, match="contain no batch"):
        train(tiny_net, as_batches(empty), F.cross_entropy, SPEC, build_optimizer(tiny_net, SPEC), streams=STREAMS)


def test_bfloat16_computes_low_and_stores_high(tiny_net: nn.Module, tiny_data: TinyData):
    seen = set()

    def loss_function(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.add(outputs.dtype)
        return F.cross_entropy(outputs.float(), targets)

    spec = SPEC.replace(precision="bfloat16", max_epochs=1)
    train(tiny_net, tiny_batches(tiny_data), loss_function, spec, build_optimizer(tiny_net, spec), streams=STREAMS)
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in tiny_net.parameters()} == {torch.float32}


class RecordingProgress:
    def __init__(self):
        self.total, self.done = None, 0.0

    def note(self, text):
        pass

    def bar(self, text, total):
        self.total = total
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    def advance(self, steps=1):
        self.done += steps

    def describe(self, text):
        pass


# ------------------------------------------------------------------------------------------------- killed and resumed


@pytest.fixture
def unkilled(tiny_net: nn.Module, tiny_data: TinyData) -> tuple[nn.Module, TrainTrace]:
    net = rebuild(tiny_net)
    net.load_state_dict(tiny_net.state_dict())
    return net, run(net, tiny_data)


@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_killed_run_resumes_bit_by_bit(epoch: int, tiny_net, tiny_data: TinyData, unkilled, tmp_path: Path):
    reference, trace = unkilled
    start = {name: tensor.clone() for name, tensor in tiny_net.state_dict().items()}
    with pytest.raises(KilledError):
        run(tiny_net, tiny_data, before_epoch=kill_at(epoch), checkpoint=tmp_path / "state")
    resumed = rebuild(tiny_net)
    if epoch == 0:  # nothing was kept yet: the run begins anew
        resumed.load_state_dict(start)
    progress = RecordingProgress()
    again = run(resumed, tiny_data, checkpoint=tmp_path / "state", progress=progress)
    assert differing(resumed, reference) == []
    assert (again.losses, again.n_steps, again.outcome) == (trace.losses, trace.n_steps, "cap")
    assert (progress.total, progress.done) == (16, 16)


def test_run_killed_after_every_epoch_resumes_bit_by_bit(tiny_net, tiny_data: TinyData, unkilled, tmp_path: Path):
    reference, trace = unkilled
    net = tiny_net
    for epoch in (1, 2, 3):
        with pytest.raises(KilledError):
            run(net, tiny_data, before_epoch=kill_at(epoch), checkpoint=tmp_path / "state")
        net = rebuild(tiny_net)
    assert run(net, tiny_data, checkpoint=tmp_path / "state").losses == trace.losses
    assert differing(net, reference) == []


@pytest.mark.parametrize("n_epochs", [1, 2, 3])
def test_run_out_of_budget_goes_on_with_more(n_epochs: int, tiny_net, tiny_data: TinyData, unkilled, tmp_path: Path):
    # Cause: the outcome "budget" was kept in the checkpoint, so a resumed run never went on.
    reference, trace = unkilled
    first = run(tiny_net, tiny_data, should_stop=lambda t: len(t.losses) == n_epochs, checkpoint=tmp_path / "state")
    assert first.outcome == "budget"
    resumed = rebuild(tiny_net)
    assert run(resumed, tiny_data, checkpoint=tmp_path / "state").losses == trace.losses
    assert differing(resumed, reference) == []


def test_ended_run_stays_ended(tiny_net: nn.Module, tiny_data: TinyData, unkilled, tmp_path: Path):
    reference, _ = unkilled
    run(tiny_net, tiny_data, checkpoint=tmp_path / "state")
    resumed = rebuild(tiny_net)
    trace = run(resumed, tiny_data, checkpoint=tmp_path / "state", before_epoch=kill_at(4))
    assert (len(trace.losses), trace.outcome) == (4, "cap")
    assert differing(resumed, reference) == []


def test_spent_budget_stays_spent_on_resuming(tiny_net: nn.Module, tiny_data: TinyData, tmp_path: Path):
    settings = {"should_stop": lambda trace: trace.n_steps >= 5, "checkpoint": tmp_path / "state"}
    run(tiny_net, tiny_data, **settings)
    trace = run(rebuild(tiny_net), tiny_data, **settings)
    assert (trace.outcome, trace.n_steps) == ("budget", 8)


# ------------------------------------------------------------------------------------------------------------- state


def trained(net: nn.Module, data: TinyData) -> torch.optim.SGD:
    spec = SPEC.replace(max_epochs=1)
    optimizer = build_optimizer(net, spec)
    train(net, tiny_batches(data), F.cross_entropy, spec, optimizer, streams=STREAMS)
    return optimizer


def test_training_state_round_trip(tiny_net: nn.Module, tiny_data: TinyData, tmp_path: Path):
    optimizer = trained(tiny_net, tiny_data)
    save_training_state(tmp_path / "state", tiny_net, optimizer, {"epoch": 1, "loss": 0.1})
    other = rebuild(tiny_net)
    other_optimizer = build_optimizer(other, SPEC)
    assert load_training_state(tmp_path / "state", other, other_optimizer) == {"epoch": 1, "loss": 0.1}
    assert differing(tiny_net, other) == []
    assert int(other[1].num_batches_tracked) == 4  # buffers too
    for mine, theirs in zip(tiny_net.parameters(), other.parameters(), strict=True):
        momentum = optimizer.state[mine]["momentum_buffer"]
        assert momentum.abs().max() > 0
        assert torch.equal(momentum, other_optimizer.state[theirs]["momentum_buffer"])


def test_loaded_optimiser_still_moves_the_models_own_weights(tiny_net, tiny_data: TinyData, tmp_path: Path):
    save_training_state(tmp_path / "state", tiny_net, trained(tiny_net, tiny_data))
    other = rebuild(tiny_net)
    optimizer = build_optimizer(other, SPEC)
    load_training_state(tmp_path / "state", other, optimizer)
    own = {id(p) for p in other.parameters()}
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == own
    assert {id(p) for p in optimizer.state} == own


def test_weights_round_trip_with_metadata(tiny_net: nn.Module, tmp_path: Path):
    save_weights(tmp_path / "w.safetensors", tiny_net, {"task": "tiny", "seed": 3})
    other = rebuild(tiny_net)
    assert load_weights(tmp_path / "w.safetensors", other) == {"task": "tiny", "seed": 3}
    assert differing(tiny_net, other) == []
    assert other[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_tied_weights_can_be_saved(tmp_path: Path):
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    save_weights(tmp_path / "w", net)
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    other[1].weight = other[0].weight
    load_weights(tmp_path / "w", other)
    assert torch.equal(other[0].weight, net[0].weight)
    assert other[1].weight is other[0].weight


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"\x00" * 64])
def test_damaged_file_is_an_artifact_error(damage, tiny_net: nn.Module, tmp_path: Path):
    path = tmp_path / "state"
    optimizer = build_optimizer(tiny_net, SPEC)
    save_training_state(path, tiny_net, optimizer)
    path.write_bytes(damage(path.read_bytes()))
    before = {name: tensor.clone() for name, tensor in tiny_net.state_dict().items()}
    for load in (lambda: load_weights(path, tiny_net), lambda: load_training_state(path, tiny_net, optimizer)):
        with pytest.raises(ArtifactError, match="state: not a readable safetensors file"):
            load()
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_net.state_dict().items())


@pytest.mark.parametrize(
    "other",
    [nn.Sequential(nn.Conv2d(3, 5, 3)), nn.Sequential(nn.Linear(3, 4)), nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3))],
    ids=["shape", "kind", "name"],
)
def test_state_of_another_network_is_an_artifact_error(other: nn.Module, tmp_path: Path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    save_weights(tmp_path / "w", net)
    save_training_state(tmp_path / "s", net, build_optimizer(net, SPEC))
    with pytest.raises(ArtifactError, match="w: the weights do not match the model Sequential"):
        load_weights(tmp_path / "w", other)
    with pytest.raises(ArtifactError, match="s: the weights do not match the model Sequential"):
        load_training_state(tmp_path / "s", other, build_optimizer(other, SPEC))


def test_missing_file_is_an_artifact_error(tiny_net: nn.Module, tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such file"):
        load_weights(tmp_path / "none", tiny_net)


def test_full_disk_while_saving_weights_is_an_artifact_error(tmp_path: Path):
    # Cause: safetensors reports a failed write with an error of its own, which passed through as a bug.
    resource = pytest.importorskip("resource", reason="needs POSIX file size limits")
    path = tmp_path / "w"
    save_weights(path, nn.Linear(2, 2))
    old, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, limits[1]))
        with pytest.raises(ArtifactError, match="w: cannot be written"):
            save_weights(path, nn.Linear(100, 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["w"]


# -------------------------------------------------------------------------------------------------------- evaluation


def test_accuracy_is_the_mean_over_samples_not_batches():
    # 5 of 6 right: batches of 4 and 2 with 4 and 1 right would average to 0.75.
    pairs = [
        (F.one_hot(torch.tensor([0, 1, 2, 0]), 3).float(), torch.tensor([0, 1, 2, 0])),
        (F.one_hot(torch.tensor([1, 1]), 3).float(), torch.tensor([1, 2])),
    ]
    model = nn.Linear(3, 3, bias=False)
    model.weight.data = torch.eye(3)
    ticks = []
    assert evaluate_accuracy(
        model, as_batches(pairs), accuracy_scores, on_batch=lambda: ticks.append(1)
    ) == pytest.approx(5 / 6)
    assert ticks == [1, 1]


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_restores_every_modules_mode(training: bool, tiny_net: nn.Module, tiny_data: TinyData):
    # Cause: the whole model got the root's mode back, so a frozen batch norm thawed.
    tiny_net.train(training)
    tiny_net[1].train(not training)
    before = tiny_net[1].running_mean.clone()
    modes = []
    tiny_net[1].register_forward_hook(lambda module, *_: modes.append(module.training))
    evaluate_accuracy(tiny_net, tiny_batches(tiny_data), accuracy_scores)
    assert (tiny_net.training, tiny_net[0].training, tiny_net[1].training) == (training, training, not training)
    assert not any(modes)
    assert torch.equal(tiny_net[1].running_mean, before)


def test_evaluation_restores_the_mode_when_the_metric_fails(tiny_net: nn.Module, tiny_data: TinyData):
    tiny_net.train()
    with pytest.raises(ZeroDivisionError):
        evaluate_accuracy(tiny_net, tiny_batches(tiny_data), lambda outputs, targets: 1 / 0)
    assert tiny_net.training


# -------------------------------------------------------------------------------------------------------- distillation


def test_distillation_by_hand():
    spec = TrainSpec(distillation=0.25, temperature=2.0)
    student, teacher, labels = (
        torch.tensor([[2.0, 0.0], [0.0, 4.0]]),
        torch.tensor([[0.0, 2.0], [0.0, 4.0]]),
        torch.tensor([0, 1]),
    )
    p, q = torch.softmax(teacher / 2, 1), torch.softmax(student / 2, 1)
    divergence = 4 * (p * (p / q).log()).sum(1).mean()
    expected = 0.75 * F.cross_entropy(student, labels) + 0.25 * divergence
    loss = distillation_loss(F.cross_entropy, spec)(student, (labels, teacher))
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)


def test_a_student_that_equals_its_teacher_has_nothing_to_learn(tiny_net: nn.Module):
    spec, x, y = TrainSpec(distillation=1.0), torch.randn(8, 3, 4, 4), torch.zeros(8, dtype=torch.long)
    source = add_teacher_outputs(LoaderBatches([(x, y)]), tiny_net, spec)
    ((inputs, both),) = source.epoch(torch.Generator().manual_seed(0))
    assert len(source) == 1
    assert both[0] is y
    assert not both[1].requires_grad
    loss = distillation_loss(F.cross_entropy, spec)(tiny_net(inputs), both)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)


def test_a_teacher_without_logits_is_one_clear_error():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.linear(x), x

    source = add_teacher_outputs(
        LoaderBatches([(torch.ones(1, 2), torch.ones(1))]), Pair(), TrainSpec(distillation=0.5)
    )
    with pytest.raises(ConfigError, match="train.distillation: the teacher returns tuple"):
        next(source.epoch(torch.Generator()))
