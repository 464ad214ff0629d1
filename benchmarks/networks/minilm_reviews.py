"""MiniLM with published weights on sentences of movie reviews: accuracy over chips, all or half analog.

Each mapping is measured as converted and after a short hardware-aware retraining with the settings in minilm_reviews.toml.
Finished steps are kept in --out and only read, so a stopped run is resumed. Prints a Markdown table.

Run: python benchmarks/networks/minilm_reviews.py
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import nn

from lionheart import LayerGraph, LayerMapping, MapSettings, Task, build_task, convert_to_analog_, convert_to_digital_
from lionheart.analog import calibrate_input_ranges_, clip_weights_, seed_noise_
from lionheart.candidates import find_candidates, rank_candidates
from lionheart.data import BatchSource, call_model, take_samples
from lionheart.evaluation import evaluate_accuracy, evaluate_over_chips
from lionheart.files import read_json, write_json
from lionheart.jobs import read_settings
from lionheart.record import read_record, write_record
from lionheart.rng import RandomStreams
from lionheart.runs import Accuracy, TrainTrace, describe_environment
from lionheart.training import TrainHooks, build_optimizer, load_weights, save_weights, train
from lionheart.units import format_duration

CONFIG = Path(__file__).with_suffix(".toml")
T = TypeVar("T")
TIMES = (1.0, 3_600.0, 86_400.0)

SHARES = {"digital": 0.0, "half analog": 0.5, "all analog": 1.0}


@dataclass(frozen=True)
class Measured:
    """Accuracies of one network.

    Args:
        digital: Accuracy of the network computed digitally.
        over_time: Accuracy over chips at each time; empty without analog projections.
    """

    digital: float
    over_time: tuple[Accuracy, ...]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        name: Name of the mapping.
        n_analog: Projections on tiles.
        mac_share: Share of the MACs on tiles, 0 to 1.
        measured: Accuracies of the network.
        retraining_s: Duration of the retraining [s]; None without retraining.
    """

    name: str
    n_analog: int
    mac_share: float
    measured: Measured
    retraining_s: float | None = None


@dataclass
class Bench:
    """Settings and functions shared by all steps."""

    task: Task
    graph: LayerGraph
    samples: BatchSource
    settings: MapSettings
    streams: RandomStreams
    n_chips: int
    out: Path
    stop_at: float

    def once(self, name: str, kind: type[T], work: Callable[[], T]) -> T:
        """Return the stored result of a step, or compute and store it."""
        path = self.out / f"{name.replace(' ', '-')}.json"
        if not path.exists():
            if time.perf_counter() > self.stop_at:
                raise SystemExit("the time limit is reached; run the same command again to continue")
            print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
            write_json(path, write_record(work()))
        return read_record(kind, read_json(path), str(path))

    def choose(self, share: float) -> LayerMapping:
        """Return the mapping with this share of the projections analog, rounded up, by decreasing MACs."""
        ranked = rank_candidates(find_candidates(self.graph, self.settings.tile))
        chosen = ranked[: math.ceil(share * len(ranked))]
        return LayerMapping.from_analog(self.graph, [candidate.node.fqn for candidate in chosen])

    def convert(self, mapping: LayerMapping) -> nn.Module:
        """Return a copy of the network on tiles, with input ranges calibrated on one training batch."""
        model = convert_to_analog_(copy.deepcopy(self.task.model), mapping, self.settings.tile)
        inputs, _ = next(iter(self.task.train_batches.epoch(self.streams.generator("calibration"))))
        seed_noise_(model, self.streams.generator("calibration", "noise"))
        calibrate_input_ranges_(model, lambda net: call_model(net, inputs))
        return model

    def retrain(self, model: nn.Module, weights: Path) -> TrainTrace:
        """Retrain all weights with the tile's HWA noise, or without noise if no projection is analog."""
        streams = self.streams.scope("retraining")
        found = train(
            model,
            self.task.train_batches,
            self.task.loss,
            self.settings.train,
            build_optimizer(model, self.settings.train),
            streams=streams,
            hooks=TrainHooks(
                before_epoch=lambda epoch: seed_noise_(model, streams.generator("noise", epoch)),
                after_step=lambda: clip_weights_(model),
            ),
        )
        save_weights(weights, model)
        return found

    def measure(self, model: nn.Module, name: str) -> Measured:
        """Return the accuracy of the network computed digitally, and over chips at each time."""
        plain = convert_to_digital_(copy.deepcopy(model))
        digital = self.once(name, float, lambda: evaluate_accuracy(plain, self.samples, self.task.metric))

        def over_chips(t_inference: float) -> Accuracy:
            streams = self.streams.scope("chips")
            (estimate,) = evaluate_over_chips(
                model, self.samples, self.task.metric, times=[t_inference], n_chips=self.n_chips, streams=streams
            )
            return estimate

        times = TIMES if name.startswith(("half", "all")) else ()
        return Measured(
            digital,
            tuple(self.once(f"{name} {format_duration(t)}", Accuracy, lambda t=t: over_chips(t)) for t in times),
        )

    def rows(self, name: str) -> list[Row]:
        """Return the rows of one mapping: as converted, and retrained."""
        mapping = self.choose(SHARES[name])
        n_analog, mac_share = len(mapping.analog), mapping.analog_mac_share(self.graph)
        model = self.convert(mapping)
        before = Row(name, n_analog, mac_share, self.measure(model, name))
        weights = self.out / f"{name.replace(' ', '-')}-retrained.safetensors"
        trace = self.once(f"{name} retraining", TrainTrace, lambda: self.retrain(model, weights))
        load_weights(weights, model)
        after = Row(name, n_analog, mac_share, self.measure(model, f"{name} retrained"), trace.elapsed_s)
        return [before, after]


def write_row(row: Row) -> str:
    """Write a row of the table."""
    cells = [row.name, f"{row.n_analog}", f"{100 * row.mac_share:.0f} %"]
    cells.append("no" if row.retraining_s is None else f"{row.retraining_s / 60:.1f} min")
    cells.append(f"{100 * row.measured.digital:.2f}")
    over_time = [
        f"{100 * at.mean:.2f} [{100 * at.low:.2f}, {100 * at.high:.2f}], ± {100 * at.std:.2f}"
        for at in row.measured.over_time
    ]
    cells += over_time or [""] * len(TIMES)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/results/minilm_reviews"))
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--samples", type=int, help="first sentences of the split; default: all")
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no new step after this time [min]")
    args = parser.parse_args()
    settings = read_settings("quick", CONFIG)
    asked = {"split": args.split, "samples": args.samples, "chips": args.chips, "seed": args.seed}
    asked |= {"tile": settings.tile.to_json(), "train": settings.train.to_json()}
    begun = args.out / "settings.json"
    if begun.exists() and read_json(begun) != asked:
        raise SystemExit(f"{args.out} holds a run with other settings; choose another --out")
    write_json(begun, asked)
    task = build_task("reviews/minilm")
    bench = Bench(
        task=task,
        graph=task.trace(),
        samples=take_samples(getattr(task, args.split), args.samples),
        settings=settings,
        streams=RandomStreams(args.seed),
        n_chips=args.chips,
        out=args.out,
        stop_at=time.perf_counter() + 60 * args.minutes,
    )
    rows = [row for name in SHARES for row in bench.rows(name)]
    environment = describe_environment(task.device)
    command = (
        f"python benchmarks/networks/minilm_reviews.py --split {args.split} --chips {args.chips} --seed {args.seed}"
    )
    command += f" --samples {args.samples}" if args.samples else ""
    print(f"`{command}`, ", end="")
    print(f"{environment.cpu}, {environment.threads} thread(s), torch {environment.torch}:\n")
    times = " | ".join(format_duration(t) for t in TIMES)
    print(f"| network | projections analog | MACs analog | retrained | computed digitally | {times} |")
    print(f"|{'---|' * (5 + len(TIMES))}")
    print("\n".join(map(write_row, rows)))


if __name__ == "__main__":
    main()
