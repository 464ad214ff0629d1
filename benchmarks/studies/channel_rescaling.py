"""The drop of a network with all projections on tiles, without and with rescaled channels.

Nothing is retrained. The drop is that of the first validation samples, one day after programming, on tiles with calibrated columns
and one read. The chips are the same for all strengths.

Run: python benchmarks/studies/channel_rescaling.py cifar10/resnet8 text/decoder
"""

from __future__ import annotations

import argparse
import copy
import statistics
from dataclasses import replace
from typing import Any

import torch
from read_policies import measure_drops

from lionheart.analog import rescale_channels_
from lionheart.candidates import find_candidates
from lionheart.data import read_first
from lionheart.devices import TileSpec
from lionheart.mapping import LayerMapping, Placement
from lionheart.runs import ChannelRescaling
from lionheart.tasks import Task, build_task

STRENGTHS = (0.25, 0.5, 0.75)


def measure(
    task: Task, strength: float | None, n_samples: int, n_chips: int, seed: int
) -> tuple[list[float], ChannelRescaling | None]:
    """Return the drop of each chip against the digital network, and the rescaled channels."""
    tile, model = TileSpec.pcm(column_calibration="affine"), copy.deepcopy(task.model)
    inputs = read_first(task.train_batches, torch.Generator().manual_seed(seed))[0]
    found = None if strength is None else rescale_channels_(model, inputs, strength)
    fqns = [each.node.fqn for each in find_candidates(task.trace(), tile) if each.is_mappable]
    mapping = LayerMapping(dict.fromkeys(fqns, Placement.ANALOG))
    return measure_drops(replace(task, model=model), mapping, tile, n_samples, n_chips, seed), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+", help="for example cifar10/resnet8")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--chips", type=int, default=2)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument(
        "--strengths", type=float, nargs="+", default=STRENGTHS, help="strengths; none is measured first"
    )
    args = parser.parse_args()
    print("| network | strength | drop | each chip | projections rescaled | largest spread before and after |")
    print("|---|---|---|---|---|---|")
    for name in args.tasks:
        task = build_task(name)
        for strength in (None, *args.strengths):
            drops, found = measure(task, strength, args.samples, args.chips, args.seed)
            folded = () if found is None else found.folded
            n_rescaled = len({consumer for each in folded for consumer in each.consumers})
            spreads = [max((spread(each) for each in folded), default=1.0) for spread in (_before, _after)]
            cells = [
                name,
                "none" if strength is None else f"{strength:g}",
                f"{statistics.fmean(drops):.2f} {task.metric.drop_unit}",
                ", ".join(f"{drop:.2f}" for drop in drops),
                str(n_rescaled),
                " and ".join(f"{spread:.1f}" for spread in spreads) if folded else "-",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


def _before(channels: Any) -> float:
    return float(channels.spread_before)


def _after(channels: Any) -> float:
    return float(channels.spread_after)


if __name__ == "__main__":
    main()
