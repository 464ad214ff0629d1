"""The drop of a network with all projections on tiles, for several read policies, and what they cost.

Every projection has the same policy, and nothing is retrained. The drop is that of the first validation images, one day after
programming, on tiles with calibrated columns.

Run: python benchmarks/studies/read_policies.py cifar10/resnet8
"""

from __future__ import annotations

import argparse
import copy
import statistics
from typing import Any

import torch
from torch import nn

from lionheart.analog import calibrate_input_ranges_, convert_to_analog_
from lionheart.data import call_model, read_first, take_samples
from lionheart.devices import ReadPolicy, TileSpec
from lionheart.evaluation import evaluate_accuracy, evaluate_over_chips
from lionheart.mapping import LayerMapping, Placement
from lionheart.partition import partition_graph
from lionheart.rng import RandomStreams
from lionheart.system import estimate_system, load_platform
from lionheart.tasks import Task, build_task

DAY = 86_400.0
PLATFORMS = ("alpine-high-power", "alpine-neon")
ROWS = ReadPolicy(row_copies=256)
POLICIES = (
    ReadPolicy(),
    ROWS,
    ROWS.replace(n_reads=4),
    ROWS.replace(column_copies=4),
    ROWS.replace(column_copies=4, n_reads=4),
    ROWS.replace(column_copies=16),
    ROWS.replace(column_copies=16, n_reads=4, device_pairs=2),
)


def measure_drops(
    task: Task, mapping: LayerMapping, tile: TileSpec, n_samples: int, n_chips: int, seed: int
) -> list[float]:
    """Return the drop of each chip against the digital network, in the unit of the metric's drop (pp for an accuracy)."""
    samples = take_samples(task.validation, n_samples)
    digital = evaluate_accuracy(task.model, samples, task.metric)
    model = convert_to_analog_(copy.deepcopy(task.model), mapping, tile)
    inputs = read_first(task.train_batches, torch.Generator().manual_seed(seed))[0]

    def run(net: nn.Module) -> Any:
        return call_model(net, inputs)

    calibrate_input_ranges_(model, run, digitally=True, warn_of_clipping=False)
    [found] = evaluate_over_chips(
        model,
        samples,
        task.metric,
        times=[DAY],
        n_chips=n_chips,
        streams=RandomStreams(seed),
        run_calibration=run,
    )
    return [task.metric.drop(digital, score) for score in found.scores]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", help="for example cifar10/resnet8")
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--chips", type=int, default=4)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    task, tile = build_task(args.task), TileSpec.pcm(column_calibration="affine")
    graph = task.trace()
    everything = LayerMapping(dict.fromkeys(graph.fqns, Placement.ANALOG))
    partitions = partition_graph(graph, tile)
    print(f"| read policy | drop [pp] | each chip | {' | '.join(PLATFORMS)} |")
    print("|---|---|---|" + "---|" * len(PLATFORMS))
    for policy in POLICIES:
        mapping = everything.with_policies(dict.fromkeys(graph.fqns, policy))
        drops = measure_drops(task, mapping, tile, args.samples, args.chips, args.seed)
        times = [
            estimate_system(graph, mapping, load_platform(name), partitions, tile=tile).summary().mapped.latency_s
            for name in PLATFORMS
        ]
        cells = [str(policy), f"{statistics.fmean(drops):.2f}", ", ".join(f"{drop:.2f}" for drop in drops)]
        print(f"| {' | '.join([*cells, *(f'{1e3 * time:.2f} ms' for time in times)])} |", flush=True)


if __name__ == "__main__":
    main()
