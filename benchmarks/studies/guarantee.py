"""How often complete default searches end with a mapping that breaks its bound: with and without a guarantee.

The task is that of `confidence_level.py`: CIFAR-10 at 8 x 8 pixels and a network of six linear layers, which is the same in all
searches. In each search the 15,000 images that were not used in training are split at random: 5,000 are validation samples, and
10,000 are test. A bound is broken if the mean drop over fresh chips on test is larger than the bound.

Run: python benchmarks/studies/guarantee.py --repetitions 100
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from confidence_level import DAY, shrink, train_network
from scipy import stats
from torch import Tensor, nn

from lionheart import MapSettings, Task, map_layers
from lionheart.data import IndexedBatches
from lionheart.rng import RandomStreams
from lionheart.tasks.images import load_cifar10

N_VALIDATION, BATCH, TRAIN_BATCH = 5_000, 1_000, 256
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"guarantee": None},
    "confidence_level 0.95": {"confidence_level": 0.95},
    "guarantee 0.95": {"guarantee": 0.95},
}


def deal(model: nn.Module, pool: tuple[Tensor, Tensor], train: tuple[Tensor, Tensor], seed: int) -> Task:
    """Return the task with the images outside the training set split at random by `seed`."""
    order = torch.randperm(len(pool[0]), generator=RandomStreams(seed).generator("promise", "deal"))
    splits = order.split([N_VALIDATION, len(order) - N_VALIDATION])
    validation, test = (batch(pool[0][split], pool[1][split]) for split in splits)
    steps = list(zip(train[0].split(TRAIN_BATCH), train[1].split(TRAIN_BATCH), strict=True))
    return Task(model=model, train=steps[:-1], validation=validation, test=test, name="cifar10 at 8 x 8")


def batch(images: Tensor, labels: Tensor) -> IndexedBatches:
    """Return a source of batches that can be split at any sample."""
    return IndexedBatches(len(images), lambda numbers, _: (images[numbers], labels[numbers]), batch_size=BATCH)


def choose_settings(preset: str, variant: str, bound: float, seed: int, strategy: str | None) -> MapSettings:
    """Return the settings of a preset, with the guarantee of a variant and another strategy if one is given."""
    chosen = {} if strategy is None else {"strategy": strategy}
    return MapSettings.preset(
        preset, max_drop_pp=bound, report_times=[DAY], seed=seed, platforms=[], **VARIANTS[variant], **chosen
    )


def measure(task: Task, settings: MapSettings, run_dir: Path) -> dict[str, Any]:
    """Return the drop on test [pp], the analog share of the MACs and the duration [s] of one search."""
    begin = time.perf_counter()
    results = map_layers(task, settings, run_dir=run_dir).results
    point, digital = results.test_over_time[0], results.baseline.test_accuracy
    found = results.guarantee
    return {
        "drop_pp": results.metric.report_drop(digital, point.mean),
        "chip_error_pp": 100 * point.std / math.sqrt(point.n_chips),
        "share": results.analog_mac_share,
        "tests": len(results.holdout_tests),
        "confirmed": None if found is None else found.confirmed,
        "seconds": time.perf_counter() - begin,
    }


def write_row(variant: str, rows: Sequence[dict[str, Any]], bound: float) -> str:
    """Return a row of the table."""
    n, shares = len(rows), [100 * row["share"] for row in rows]
    mapped = [row for row in rows if row["share"] > 0]
    broken = sum(row["drop_pp"] > bound for row in mapped)
    interval = stats.binomtest(broken, n).proportion_ci(0.95, "exact")
    half = stats.t.ppf(0.975, n - 1) * statistics.stdev(shares) / math.sqrt(n)
    drop, seconds = (statistics.fmean(row[key] for row in rows) for key in ("drop_pp", "seconds"))
    return (
        f"| {variant} | {len(mapped)} of {n} | {broken} | [{100 * interval.low:.1f}, {100 * interval.high:.1f}] % | "
        f"{statistics.fmean(shares):.1f} ± {half:.1f} % | {drop:.2f} | {seconds:.1f} s |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--bound", type=float, default=2.0)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--strategy", help="another strategy than that of the preset, such as training-free")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument(
        "--out", type=Path, help="file to which each search is appended; searches in it are not repeated"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load_cifar10()
    train = shrink(data.train[0]), data.train[1]
    pool = shrink(torch.cat([data.validation[0], data.test[0]])), torch.cat([data.validation[1], data.test[1]])
    model = train_network(*train)
    lines = args.out.read_text().splitlines() if args.out is not None and args.out.exists() else []
    known = {(row["seed"], row["variant"]): row for row in map(json.loads, lines)}
    rows: dict[str, list[dict[str, Any]]] = {variant: [] for variant in args.variants}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.first_seed, args.first_seed + args.repetitions):
            task = deal(model, pool, train, seed)
            for variant in args.variants:
                row = known.get((seed, variant))
                if row is None:
                    settings = choose_settings(args.preset, variant, args.bound, seed, args.strategy)
                    row = measure(task, settings, Path(folder) / f"{seed}-{variant}")
                    if args.out is not None:
                        with args.out.open("a") as file:
                            file.write(json.dumps({"seed": seed, "variant": variant, **row}) + "\n")
                rows[variant].append(row)
    print(
        "| bound confirmed by | mapped | broken on test | 95 % interval | mean analog MACs | mean drop on test [pp] | search |"
    )
    print("|---|---|---|---|---|---|---|")
    for variant in args.variants:
        print(write_row(variant, rows[variant], args.bound), flush=True)


if __name__ == "__main__":
    main()
