"""A task small enough to map in a blink: which quadrant of an 8x8 picture is bright. Two convolutions and a linear layer."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lionheart.candidates import find_candidates
from lionheart.data import TensorBatches
from lionheart.jobs import MapSettings
from lionheart.jobs.context import Context
from lionheart.progress import SILENT
from lionheart.rng import RandomStreams
from lionheart.runs import Journal
from lionheart.tasks import Task, cross_entropy
from lionheart.training import TrainSpec, build_optimizer, train

BATCH = 32
SAMPLES = {"train": 256, "validation": 128, "test": 96}

#: Tried in the order of their weights, layer 3 is kept, layer 7 is undone (see `trained_weights`) and layer 0 is kept.
SETTINGS = {
    "search": {
        "max_drop_pp": 20.0,
        "ranking": "weights",
        "n_chips": 2,
        "n_chips_final": 2,
        "report_times": [1.0, 3600.0],
    },
    "tile": {"rows": 32, "cols": 32, "output_noise": 0.9},
    "train": {"max_epochs": 2, "steps_per_epoch": 4, "learning_rate": 0.01},
}


def draw_pictures(split: str) -> tuple[Tensor, Tensor]:
    """Return uint8 pictures ``(n, 3, 8, 8)`` of noise with one brighter quadrant, and its number."""
    generator = torch.Generator().manual_seed(len(split))
    labels = torch.arange(SAMPLES[split]) % 4
    pictures = torch.randint(0, 150, (SAMPLES[split], 3, 8, 8), generator=generator, dtype=torch.uint8)
    for label in range(4):
        top, left = 4 * (label // 2), 4 * (label % 2)
        pictures[labels == label, :, top : top + 4, left : left + 4] += 28
    return pictures, labels


def make_batches(split: str) -> TensorBatches:
    return TensorBatches(
        *draw_pictures(split), batch_size=BATCH, mean=(0.5,) * 3, std=(0.25,) * 3, shuffle=split == "train"
    )


def build_net() -> nn.Sequential:
    """Layers 0, 3 and 7 are projections of 27x8, 72x8 and 128x4; on 32x32 tiles the latter two are split."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Flatten(), nn.Linear(128, 4),
        )  # fmt: skip
    return net.to(memory_format=torch.channels_last)


@functools.cache
def trained_weights() -> dict[str, Tensor]:
    """Train; then make layer 7 unfit for tiles: a weight that never sees an input sets the scale of its columns.

    Channel 0 of layer 4 is dead, so the digital network does not notice, but a tile's output noise grows with the scale.
    """
    net, spec = build_net(), TrainSpec(learning_rate=0.05, max_epochs=4, patience=None)
    with torch.no_grad():
        net[4].bias[0] = -100.0
    train(net, make_batches("train"), cross_entropy, spec, build_optimizer(net, spec), streams=RandomStreams(0))
    with torch.no_grad():
        net[7].weight[:, 0] = 30 * net[7].weight.abs().max()
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def build_task(name: str = "quadrants") -> Task:
    net = build_net().eval()
    net.load_state_dict(trained_weights())
    return Task(net, make_batches("train"), make_batches("validation"), make_batches("test"), name=name)


def build_loader_task() -> Task:
    """The same data through PyTorch's own loaders."""
    loaders = {}
    for split in SAMPLES:
        pictures, labels = draw_pictures(split)
        data = TensorDataset((pictures.float() / 255 - 0.5) / 0.25, labels)
        loaders[split] = DataLoader(data, batch_size=BATCH, shuffle=split == "train", drop_last=split == "train")
    net = build_net()
    net.load_state_dict(trained_weights())
    return Task(net, **loaders, name="quadrants with loaders")


def make_context(task: Task, settings: MapSettings | None = None, journal: Journal | None = None) -> Context:
    """Return what the parts of a job on a task share; nothing is written without a journal."""
    settings, graph = settings or make_settings(), task.trace()
    search = settings.search
    candidates = find_candidates(graph, settings.tile, include=search.include, exclude=search.exclude)
    return Context(task, settings, graph, tuple(candidates), journal or Journal(None), SILENT)


def make_settings(**changes: dict | int | tuple) -> MapSettings:
    """Return small settings; a group of `changes` is merged into its group."""
    merged = {group: {**values, **changes.pop(group, {})} for group, values in SETTINGS.items()}
    return MapSettings.from_json({**merged, **changes})
