"""Names of built-in tasks and how each is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import nn

from lionheart.data import BatchSource, TensorBatches
from lionheart.errors import ArtifactError, ConfigError, suggest
from lionheart.files import cache_dir
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams
from lionheart.tasks import cifar, cifar100, decoder, fashion_mnist, minilm, mlperf_tiny, readers, text
from lionheart.tasks.alexnet import AlexNet
from lionheart.tasks.images import ImageSplits, crop_and_flip
from lionheart.tasks.lenet import LeNet5
from lionheart.tasks.mobilenet import MobileNet, MobileNetV2
from lionheart.tasks.resnet import ResNet8, ResNetCifar
from lionheart.tasks.spans import exact_match_scores, f1_scores, span_loss
from lionheart.tasks.task import ACCURACY, F1, PERPLEXITY, Measure, Task, accuracy_scores, cross_entropy
from lionheart.tasks.vgg import Vgg16
from lionheart.training import LossFunction, TrainSpec, load_weights

Metric = Callable[[Any, Any], torch.Tensor]
BuildData = Callable[..., tuple[BatchSource, BatchSource, BatchSource]]


@final
@dataclass(frozen=True)
class Pretrained:
    """A network whose weights others trained, in front of the part that a recipe trains.

    Args:
        build_model: Returns the whole network, given the trained part and a `Progress`; fetches the weights of the rest.
        build_data: Returns train, validation and test batches for the whole network.
        batch_size: Samples in a training batch of the whole network.
    """

    build_model: Callable[[nn.Module, Progress], nn.Module]
    build_data: BuildData
    batch_size: int


@final
@dataclass(frozen=True)
class Recipe:
    """How a built-in task is made and trained.

    Args:
        build_model: Returns what is trained, with fresh weights from a generator's seed: the network, or the part of it that
            comes after a pretrained one.
        build_data: Returns train, validation and test batches for it.
        train_spec: Settings that train it from scratch.
        batch_size: Samples in a training batch.
        pretrained: What is in front of the trained part and stays frozen while it is trained; None = nothing.
        load_published: Puts the weights that others published for this whole network into it; None = there are none. Training
            from scratch does not use them.
        input_shape: Of one sample, for networks that one tensor of zeros shows the way through; None = look at the data.
        loss: What training from scratch makes small, of outputs and targets.
        metric: Score of each sample.
        measure: What the scores mean.
        extra_metrics: Further metrics for the card of a training, by name; their scores are shares.
        half_weights: Whether weights are stored in float16.
    """

    build_model: Callable[[], nn.Module]
    build_data: BuildData
    train_spec: TrainSpec
    batch_size: int
    pretrained: Pretrained | None = None
    load_published: Callable[[nn.Module, Progress], None] | None = None
    input_shape: tuple[int, ...] | None = None
    loss: LossFunction = cross_entropy
    metric: Metric = accuracy_scores
    measure: Measure = ACCURACY
    extra_metrics: Mapping[str, Metric] = field(default_factory=dict)
    half_weights: bool = False


#: Images evaluated at once. Larger batches leave the processor's cache: 500 take twice as long for each image.
_EVALUATION_BATCH = 100


def _image_data(
    load: Callable[[Progress], ImageSplits],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    batch_size: int,
    progress: Progress,
) -> tuple[TensorBatches, TensorBatches, TensorBatches]:
    data = load(progress)
    shared: dict[str, Any] = {"mean": mean, "std": std}
    return (
        TensorBatches(*data.train, batch_size=batch_size, shuffle=True, augment=crop_and_flip, **shared),
        TensorBatches(*data.validation, batch_size=_EVALUATION_BATCH, **shared),
        TensorBatches(*data.test, batch_size=_EVALUATION_BATCH, **shared),
    )


def _one_cycle(n_epochs: int, learning_rate: float = 0.2) -> TrainSpec:
    """Return settings that train a network in few epochs: a rate that climbs to a high one, then falls with a cosine."""
    return TrainSpec(
        learning_rate=learning_rate,
        weight_decay=5e-4,
        schedule="one_cycle",
        max_epochs=n_epochs,
        patience=None,
        precision="auto",
    )


def _cosine(n_epochs: int, weight_decay: float) -> TrainSpec:
    """Return settings as published with deeper networks: a rate that falls with a cosine, momentum 0.9."""
    return TrainSpec(
        learning_rate=0.1,
        nesterov=False,
        weight_decay=weight_decay,
        schedule="cosine",
        max_epochs=n_epochs,
        patience=None,
        precision="auto",
    )


#: Share of the probability that `_smoothed_cross_entropy` spreads over the classes: of Szegedy et al., CVPR 2016, section 7.
_LABEL_SMOOTHING = 0.1


def _smoothed_cross_entropy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(outputs.float(), targets, label_smoothing=_LABEL_SMOOTHING)


#: How each network for CIFAR is built, given the number of classes, trained, and by which loss. ResNet32 and 56: rate, weight
#: decay and number of steps (64,000) of He et al., CVPR 2016, section 4.2. VGG-16, the MobileNets and AlexNet: rate and
#: decay of github.com/kuangliu/pytorch-cifar in one cycle, so that --epochs can be what a machine has time for; AlexNet, whose
#: linear layers are not normalised, takes a fifth of that rate.
_CIFAR_NETWORKS: Mapping[str, tuple[Callable[..., nn.Module], TrainSpec, LossFunction]] = {
    "resnet8": (ResNet8, _one_cycle(80), cross_entropy),
    "resnet20": (partial(ResNetCifar, 3), _one_cycle(30), cross_entropy),
    "resnet32": (partial(ResNetCifar, 5), _cosine(182, 1e-4), cross_entropy),
    "resnet56": (partial(ResNetCifar, 9), _cosine(182, 1e-4), cross_entropy),
    "vgg16": (Vgg16, _one_cycle(100, learning_rate=0.1), _smoothed_cross_entropy),
    "mobilenet": (MobileNet, _one_cycle(100, learning_rate=0.1), _smoothed_cross_entropy),
    "mobilenetv2": (MobileNetV2, _one_cycle(100, learning_rate=0.1), _smoothed_cross_entropy),
    "alexnet": (AlexNet, _one_cycle(100, learning_rate=0.02), _smoothed_cross_entropy),
}


#: Networks of millions of weights, whose files are half as long in float16.
_STORED_IN_HALF = frozenset({"vgg16", "mobilenet", "mobilenetv2", "alexnet"})


def _cifar_recipes(name: str, n_classes: int, build_data: BuildData) -> dict[str, Recipe]:
    return {
        f"{name}/{network}": Recipe(
            build_model=partial(build_model, n_classes=n_classes),
            build_data=build_data,
            train_spec=train_spec,
            batch_size=128,
            input_shape=(3, 32, 32),
            loss=loss,
            half_weights=network in _STORED_IN_HALF,
        )
        for network, (build_model, train_spec, loss) in _CIFAR_NETWORKS.items()
    }


def _fashion_recipe(build_model: Callable[[], nn.Module], train_spec: TrainSpec) -> Recipe:
    load = partial(_image_data, fashion_mnist.load_fashion_mnist, fashion_mnist.MEAN, fashion_mnist.STD)
    return Recipe(build_model, load, train_spec, batch_size=128, input_shape=(1, 32, 32))


RECIPES: dict[str, Recipe] = {
    **_cifar_recipes("cifar10", 10, partial(_image_data, cifar.load_cifar10, cifar.MEAN, cifar.STD)),
    "cifar10/resnet8-mlperf": Recipe(
        build_model=mlperf_tiny.MlperfResNet8,
        build_data=partial(_image_data, cifar.load_cifar10, mlperf_tiny.MEAN, mlperf_tiny.STD),
        train_spec=_one_cycle(80),
        batch_size=128,
        load_published=mlperf_tiny.load_resnet8,
        input_shape=(3, 32, 32),
    ),
    **_cifar_recipes("cifar100", 100, partial(_image_data, cifar100.load_cifar100, cifar100.MEAN, cifar100.STD)),
    "fashion-mnist/lenet5": _fashion_recipe(LeNet5, _one_cycle(12, learning_rate=0.05)),
    "fashion-mnist/resnet8": _fashion_recipe(partial(ResNet8, in_channels=1), _one_cycle(12)),
    "reviews/minilm": Recipe(
        build_model=minilm.build_head,
        build_data=minilm.build_features,
        batch_size=64,
        train_spec=TrainSpec(learning_rate=0.3, weight_decay=3e-3, max_epochs=20, patience=None),
        pretrained=Pretrained(build_model=minilm.build_classifier, build_data=minilm.build_sentences, batch_size=32),
    ),
    "squad/minilm": Recipe(
        build_model=readers.build_minilm_reader,
        build_data=readers.build_minilm_batches,
        batch_size=16,
        train_spec=TrainSpec(
            optimizer="adamw",
            learning_rate=1.5e-4,
            weight_decay=0.01,
            schedule="one_cycle",
            max_epochs=40,
            steps_per_epoch=100,
            patience=None,
            gradient_clip=1.0,
            precision="auto",
        ),
        loss=span_loss,
        metric=f1_scores,
        measure=F1,
        extra_metrics={"exact_match": exact_match_scores},
    ),
    "text/decoder": Recipe(
        build_model=decoder.build_decoder,
        build_data=text.build_batches,
        batch_size=16,
        train_spec=TrainSpec(
            optimizer="adamw",
            learning_rate=2e-3,
            weight_decay=0.05,
            schedule="one_cycle",
            max_epochs=10,
            steps_per_epoch=200,
            patience=None,
            gradient_clip=1.0,
            precision="auto",
        ),
        loss=decoder.token_loss,
        metric=decoder.token_scores,
        measure=PERPLEXITY,
        half_weights=True,
    ),
}


#: What follows ``NAME@`` is a Hugging Face model: a name on its hub, or a folder. NAME -> builder of the task around it.
MODEL_TASKS: dict[str, Callable[[str, Progress], Task]] = {
    "squad": readers.build_reader_task,
    "text": decoder.build_text_task,
}


def task_names() -> list[str]:
    """Return the names of the built-in tasks."""
    return sorted(RECIPES)


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a built-in task.

    Raises:
        ConfigError: There is no such task.
    """
    if name not in RECIPES:
        raise ConfigError(f"task: got {name!r}, expected a built-in task", hint=suggest(name, RECIPES, label="tasks"))
    return RECIPES[name]


def checkpoint_path(name: str) -> Path:
    """Return where the shipped weights of a built-in task lie."""
    return Path(
        str(resources.files("lionheart.tasks").joinpath("checkpoints", name.replace("/", "_") + ".safetensors"))
    )


def build_untrained(name: str, *, seed: int) -> nn.Module:
    """Return what the task's recipe trains with weights drawn from `seed`; the global random state is left as it was."""
    recipe = find_recipe(name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(RandomStreams(seed).derive_seed("weights"))
        return recipe.build_model().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def build_example(name: str) -> tuple[nn.Module, torch.Tensor] | None:
    """Return a built-in task's network with fresh weights and zeros for one sample; None if only its data shows the way.

    It takes neither weights nor data: enough for its structure.

    Raises:
        ConfigError: There is no such task.
    """
    shape = None if "@" in name else find_recipe(name).input_shape
    return None if shape is None else (build_untrained(name, seed=0).eval(), torch.zeros(1, *shape))


def find_weights(name: str) -> Path:
    """Return the weights of a built-in task: those in the package, else those in ``checkpoints`` in the user's cache.

    A task whose weights others published needs none of them.

    Raises:
        ArtifactError: There are none.
    """
    shipped = checkpoint_path(name)
    own = cache_dir() / "checkpoints" / (name.replace("/", "_") + ".safetensors")
    if shipped.exists():
        return shipped
    if own.exists():
        return own
    raise ArtifactError(
        f"{name}: it has no weights in the package, and there is no {own}",
        hint=f"train it: `lionheart train {name} --out {own}`; weights of your own go there too, "
        f"or in Python to build_task({name!r}, weights=...)",
    )


def build_task(name: str, *, weights: Path | None = None, progress: Progress = SILENT) -> Task:
    """Return a built-in task with its published or shipped weights, or with those of a file.

    Args:
        name: For example ``"cifar10/resnet8"``, see `task_names`; or ``NAME@MODEL`` with a name of `MODEL_TASKS` and a
            Hugging Face model by its name or folder.
        weights: A safetensors file written by ``lionheart train``; None takes those that others published for the network, else
            those of `find_weights`.
        progress: Where downloads show themselves.

    Raises:
        ConfigError: There is no such task, or it needs an extra that is not installed.
        ArtifactError: Data or weights cannot be had.
    """
    family, at, model_name = name.partition("@")
    if at:
        if family not in MODEL_TASKS:
            raise ConfigError(
                f"task: got {name!r}, expected NAME@MODEL", hint=suggest(family, MODEL_TASKS, label="names before @")
            )
        return MODEL_TASKS[family](model_name, progress)
    recipe = find_recipe(name)
    if weights is None and recipe.load_published is None:
        weights = find_weights(name)
    model = build_untrained(name, seed=0)
    if weights is not None:
        load_weights(weights, model)
    elif recipe.load_published is not None:
        recipe.load_published(model, progress)
    source: Recipe | Pretrained = recipe
    if recipe.pretrained is not None:
        source, model = recipe.pretrained, recipe.pretrained.build_model(model, progress)
    train, validation, test = source.build_data(batch_size=source.batch_size, progress=progress)
    return Task(
        model=model,
        train=train,
        validation=validation,
        test=test,
        metric=recipe.metric,
        loss=recipe.loss,
        name=name,
        measure=recipe.measure,
    )
