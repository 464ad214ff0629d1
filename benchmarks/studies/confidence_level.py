"""How often accepted mappings exceed their bound with and without a confidence level: many searches on a small real task.

The task is CIFAR-10 at 8 x 8 pixels and a network of six linear layers. In each repetition the images that were not used in
training are split at random into deciding samples, held-out samples and test; chips are fresh. A bound is exceeded if
the mean drop over fresh chips on test is larger than the bound.

Run: python benchmarks/studies/confidence_level.py --repetitions 100
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from lionheart import MapSettings, Task, map_layers
from lionheart.rng import RandomStreams
from lionheart.scripts import RichProgress
from lionheart.search import SearchSpec
from lionheart.tasks import cross_entropy
from lionheart.tasks.images import load_cifar10

DAY = 86_400.0
N_DECIDE, N_HELD_OUT, BATCH = 1_000, 2_000, 500


def shrink(images: Tensor) -> Tensor:
    """Return the images ``(n, 192)`` at 8 x 8 pixels, approximately normalised."""
    return (F.avg_pool2d(images.float() / 255, 4).flatten(1) - 0.47) / 0.25


def train_network(images: Tensor, labels: Tensor, *, n_epochs: int = 12) -> nn.Module:
    """Train a network of six linear layers within seconds."""
    sizes = (192, 64, 64, 64, 64, 64, 10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        model = nn.Sequential(*layers[:-1])
    generator = RandomStreams(0).generator("promise", "order")
    n_steps = n_epochs * (len(images) // 256)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=n_steps)
    for _ in range(n_epochs):
        order = torch.randperm(len(images), generator=generator)
        for chosen in order[: len(images) // 256 * 256].split(256):
            optimizer.zero_grad()
            cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def deal(model: nn.Module, pool: tuple[Tensor, Tensor], train: tuple[Tensor, Tensor], seed: int) -> Task:
    """Return the task with the images outside the training set split at random by `seed`."""
    order = torch.randperm(len(pool[0]), generator=RandomStreams(seed).generator("promise", "deal"))
    splits = order.split([N_DECIDE + N_HELD_OUT, len(order) - N_DECIDE - N_HELD_OUT])
    validation, test = ([(pool[0][c], pool[1][c]) for c in split.split(BATCH)] for split in splits)
    first = [(train[0][:256], train[1][:256])]
    return Task(model=model, train=first, validation=validation, test=test, name="cifar10 at 8 x 8")


def choose_settings(seed: int, bound: float, promise: float | None) -> MapSettings:
    """Return the settings of a repetition."""
    search = {
        "max_drop_pp": bound,
        "confidence_level": promise,
        "strategy": "training-free",
        "n_chips": 6,
        "n_chips_final": 10,
        "validation_samples": N_DECIDE,
        "report_times": [DAY],
    }
    tile = MapSettings.preset("quick").tile  # one read, columns not calibrated
    return MapSettings(search=SearchSpec(**search), tile=tile, platforms=(), seed=seed)


def repeat(n: int, bound: float, promise: float | None, first_seed: int = 0) -> list[tuple[float, float]]:
    """Return for each repetition the test drop [pp] and the analog share of the MACs of the accepted mapping."""
    data = load_cifar10()
    train = shrink(data.train[0]), data.train[1]
    pool = (
        shrink(torch.cat([data.validation[0], data.test[0]])),
        torch.cat([data.validation[1], data.test[1]]),
    )
    model = train_network(*train)
    found = []
    with RichProgress().bar("promised" if promise else "not promised", n) as bar, tempfile.TemporaryDirectory() as tmp:
        for seed in range(first_seed, first_seed + n):
            task = deal(model, pool, train, seed)
            results = map_layers(
                task, choose_settings(seed, bound, promise), run_dir=Path(tmp) / f"{promise}-{seed}"
            ).results
            mean = results.test_over_time[0].mean
            found.append((100 * (results.baseline.test_accuracy - mean), results.analog_mac_share))
            bar.advance()
    return found


def count_broken(found: list[tuple[float, float]], bound: float) -> tuple[int, int]:
    """Return the number of mappings with analog projections, and how many of them exceed the bound."""
    mapped = [drop for drop, share in found if share > 0]
    return len(mapped), sum(drop > bound for drop in mapped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--bound", type=float, default=2.0)
    parser.add_argument("--promises", nargs="+", default=["none", "0.8", "0.95"])
    args = parser.parse_args()
    print(
        "| confidence level | mapped | bound exceeded on test | 95 % interval | mean analog MACs | mean drop on test [pp] |"
    )
    print("|---|---|---|---|---|---|")
    for text in args.promises:
        found = repeat(args.repetitions, args.bound, None if text == "none" else float(text))
        n, broken = count_broken(found, args.bound)
        interval = stats.binomtest(broken, args.repetitions).proportion_ci(0.95, "exact")
        share = sum(share for _, share in found) / len(found)
        drop = sum(drop for drop, _ in found) / len(found)
        print(
            f"| {text} | {n} of {args.repetitions} | {broken} | [{100 * interval.low:.1f}, {100 * interval.high:.1f}] % "
            f"| {100 * share:.1f} % | {drop:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
