"""Measure all 1,024 mappings of ResNet8 without retraining, then those near the front better; a stopped run goes on.

Every mapping is measured on the first `--samples` validation samples and `--chips` chips at one day. Those whose drop is within
`--margin` of the best with as many MACs are measured again on `--final-samples` samples and `--final-chips` other chips.

Run: python benchmarks/resnet8_front.py --out runs/front
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lionheart.analog import analog_layers, calibrate_input_ranges_
from lionheart.cli.console import RichProgress
from lionheart.evaluation import evaluate_over_chips, score_samples
from lionheart.graph import trace_graph
from lionheart.mapping import LayerMapping
from lionheart.rng import RandomStreams
from lionheart.tasks import build_task
from lionheart.training.batches import call_model
from lionheart.workflow import read_settings
from lionheart.workflow.backend import find_backend
from lionheart.workflow.problem import drop_of
from lionheart.workflow.samples import calibration_pass, take_samples

DAY = 86_400.0


class Bench:
    """Measures mappings of a task's network with its own weights; what was measured is in a file."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.task = build_task(args.task)
        self.tile = read_settings("quick", overrides={"tile": {"column_calibration": args.calibration}}).tile
        self.graph = trace_graph(self.task.model, self.task.example_inputs())
        self.streams, self.path = RandomStreams(args.seed).scope("front"), args.out / f"{args.calibration}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.known = {(row["stage"], tuple(row["analog"])): row for row in self.rows}
        inputs = next(iter(self.task.train_batches.epoch(self.streams.generator("inputs"))))[0]
        everything = self.convert(LayerMapping.from_analog(self.graph, self.graph.fqns))
        self.ranges = calibrate_input_ranges_(everything, lambda net: call_model(net, inputs), digitally=True)

    def convert(self, mapping: LayerMapping) -> nn.Module:
        """Return a copy of the network with a mapping."""
        return find_backend("lionheart").convert_(copy.deepcopy(self.task.model), mapping, self.tile)

    def measure(self, stage: str, analog: Sequence[str], n_samples: int, n_chips: int, reference: torch.Tensor) -> Any:
        """Return a mapping's row."""
        key = (stage, tuple(analog))
        if key in self.known:
            return self.known[key]
        mapping = LayerMapping.from_analog(self.graph, analog)
        model = self.convert(mapping)
        for fqn, layer in analog_layers(model).items():
            layer.analog_input_range.fill_(self.ranges[fqn])
        (estimate,) = evaluate_over_chips(
            model,
            take_samples(self.task.validation, n_samples),
            self.task.metric,
            times=[DAY],
            n_chips=n_chips,
            streams=self.streams.scope(stage),
            run_calibration=calibration_pass(self.task, torch.device("cpu")),
        )
        drop = drop_of(estimate, reference, None, None)
        row = {
            "stage": stage,
            "analog": list(analog),
            "mac_share": mapping.analog_mac_share(self.graph),
            "drop_pp": drop.drop_pp,
            "error_pp": (drop.chip_error_pp**2 + drop.sample_error_pp**2) ** 0.5,
        }
        with self.path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        self.known[key] = row
        return row


def near_front(rows: Sequence[dict[str, Any]], margin: float) -> list[dict[str, Any]]:
    """Return the rows whose drop is within `margin` of the least drop among mappings with as many MACs or more."""
    best, chosen = float("inf"), []
    for row in sorted(rows, key=lambda each: -each["mac_share"]):
        best = min(best, row["drop_pp"])
        if row["drop_pp"] <= best + margin:
            chosen.append(row)
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="cifar10/resnet8")
    parser.add_argument("--out", type=Path, default=Path("runs/front"))
    parser.add_argument("--calibration", default="none", help="of columns: none, offset, affine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--chips", type=int, default=2)
    parser.add_argument("--margin", type=float, default=1.0)
    parser.add_argument("--final-samples", type=int, default=2_500)
    parser.add_argument("--final-chips", type=int, default=4)
    args = parser.parse_args()
    bench, progress = Bench(args), RichProgress()
    names = bench.graph.fqns
    sets = [each for size in range(len(names) + 1) for each in itertools.combinations(names, size)]
    reference = score_samples(
        bench.task.model, take_samples(bench.task.validation, args.final_samples), bench.task.metric
    )
    rows = []
    with progress.bar("all mappings", len(sets)) as bar:
        for analog in sets:
            rows.append(bench.measure("all", analog, args.samples, args.chips, reference[: args.samples]))
            bar.advance()
    chosen = near_front(rows, args.margin)
    with progress.bar("near the front", len(chosen)) as bar:
        for row in chosen:
            bench.measure("near", row["analog"], args.final_samples, args.final_chips, reference)
            bar.advance()


if __name__ == "__main__":
    main()
