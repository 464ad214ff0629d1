"""Measure all 1,024 mappings of ResNet8 without retraining, then mappings near the front more precisely.

A stopped run is resumed.

Every mapping is measured on the first `--samples` validation samples and `--chips` chips at one day. Mappings whose
drop is within `--margin` of the best mapping with as many MACs are measured again on `--final-samples` samples and
`--final-chips` other chips.

With `--retrain` each mapping of the front is also retrained separately. With `--page` the front and the finished runs below
`--runs` are written as a table and a chart.

Run: python benchmarks/studies/resnet8_front.py --calibration affine --retrain --runs runs/resnet8 --page docs/results/resnet8_front.md
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lionheart.analog import analog_layers, calibrate_input_ranges_
from lionheart.data import call_model, take_samples
from lionheart.evaluation import evaluate_over_chips, score_samples
from lionheart.files import write_text
from lionheart.jobs import MapSettings, calibration_pass, drop_of, find_backend, map_layers, read_settings, resume_run
from lionheart.mapping import LayerMapping
from lionheart.record import Record
from lionheart.report import LinearScale, element
from lionheart.rng import RandomStreams
from lionheart.runs import Results, RunDirectory
from lionheart.scripts import RichProgress
from lionheart.tasks import build_task
from lionheart.units import format_elapsed

DAY = 86_400.0


class Measured(Record):
    """Measurement of a mapping.

    Args:
        stage: Stage of the measurement: all mappings, or mappings near the front.
        analog: Projections on tiles.
        mac_share: Share of the MACs on tiles, 0 to 1.
        drop_pp: Drop against the digital network [pp].
        error_pp: Standard error of the drop over chips and images [pp].
    """

    stage: str
    analog: tuple[str, ...]
    mac_share: float
    drop_pp: float
    error_pp: float


@dataclass(frozen=True)
class FoundMapping:
    """Result of a strategy.

    Args:
        strategy: Name of the strategy, with the differing settings of the run.
        bound: Largest drop [pp].
        seed: Root of all random streams.
        mac_share: Share of the MACs on tiles, 0 to 1.
        drop_pp: Drop on validation [pp].
        half_pp: Half width of the interval of the accuracy [pp].
        test_pp: Drop on test [pp].
        test: Accuracy on test, as text.
        search: Duration, as text.
        steps: Steps of training.
    """

    strategy: str
    bound: float
    seed: int
    mac_share: float
    drop_pp: float
    half_pp: float
    test_pp: float
    test: str
    search: str
    steps: int


class Bench:
    """Measures mappings of a task's network without retraining and stores the measurements in a file."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.task = build_task(args.task)
        self.tile = read_settings("quick", overrides={"tile": {"column_calibration": args.calibration}}).tile
        self.graph = self.task.trace()
        self.streams, self.path = RandomStreams(args.seed).scope("front"), args.out / f"{args.calibration}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        rows = [Measured.from_json(json.loads(line), str(self.path)) for line in lines]
        self.known = {(row.stage, row.analog): row for row in rows}
        inputs = next(iter(self.task.train_batches.epoch(self.streams.generator("inputs"))))[0]
        everything = self.convert(LayerMapping.from_analog(self.graph, self.graph.fqns))
        self.ranges = calibrate_input_ranges_(everything, lambda net: call_model(net, inputs), digitally=True)

    def convert(self, mapping: LayerMapping) -> nn.Module:
        """Return a copy of the network converted by a mapping."""
        return find_backend("lionheart").convert_(copy.deepcopy(self.task.model), mapping, self.tile)

    def measure(
        self, stage: str, analog: Sequence[str], n_samples: int, n_chips: int, reference: torch.Tensor
    ) -> Measured:
        """Return the measurement of a mapping."""
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
            run_calibration=calibration_pass(self.task),
        )
        drop = drop_of(estimate, reference, None, None)
        row = Measured(
            stage=stage,
            analog=tuple(analog),
            mac_share=mapping.analog_mac_share(self.graph),
            drop_pp=drop.drop_pp,
            error_pp=(drop.chip_error_pp**2 + drop.sample_error_pp**2) ** 0.5,
        )
        with self.path.open("a") as stream:
            stream.write(json.dumps(row.to_json()) + "\n")
        self.known[key] = row
        return row


def retrain(bench: Bench, analog: Sequence[str], args: argparse.Namespace) -> Results:
    """Return the results of a run that retrains with a given mapping; a finished run is read, not repeated."""
    names = [fqn for fqn in bench.graph.fqns if fqn in analog]
    path = args.out / f"retrained-{args.calibration}" / "+".join(names).replace(".", "-")
    if (path / "results.json").exists():
        return RunDirectory.open(path).results()
    if (path / "run.json").exists():
        return resume_run(bench.task, path, progress=RichProgress()).results
    search = {"strategy": "all-analog", "include": names, "n_chips_final": args.final_chips, "report_times": [DAY]}
    settings = read_settings(
        "quick", overrides={"tile": {"column_calibration": args.calibration}, "search": search, "": {"seed": args.seed}}
    )
    return map_layers(bench.task, settings, run_dir=path, progress=RichProgress()).results


def near_front(rows: Sequence[Measured], margin: float) -> list[Measured]:
    """Return the rows whose drop is within `margin` of the smallest drop among mappings with at least as many MACs."""
    best, chosen = float("inf"), []
    for row in sorted(rows, key=lambda each: -each.mac_share):
        best = min(best, row.drop_pp)
        if row.drop_pp <= best + margin:
            chosen.append(row)
    return chosen


def thin_front(rows: Sequence[Measured]) -> list[Measured]:
    """Return the non-dominated rows by decreasing MACs."""
    best, front = float("inf"), []
    for row in sorted(rows, key=lambda each: (-each.mac_share, each.drop_pp)):
        if row.drop_pp < best:
            best = row.drop_pp
            front.append(row)
    return front


def read_runs(folder: Path) -> list[FoundMapping]:
    """Return the results of the finished mapping runs below a folder, by strategy and bound."""
    found = []
    for path in sorted(folder.glob("**/results.json")):
        run = RunDirectory.open(path.parent)
        settings, results = MapSettings.from_json(run.description().settings), run.results()
        at = next(row for row in results.test_over_time if row.t_inference == results.t_inference)
        preset = ", robust" if settings.train.distillation > 0 else ""
        ranking = settings.search.ranking
        ranked = "" if ranking in ("macs", "objective") else f" by {ranking}"
        columns = settings.tile.column_calibration
        found.append(
            FoundMapping(
                strategy=settings.search.strategy
                + ranked
                + preset
                + (", columns not calibrated" if columns == "none" else ""),
                bound=settings.search.max_drop_pp,
                seed=settings.seed,
                mac_share=results.analog_mac_share,
                drop_pp=results.validation_drop_pp,
                half_pp=100 * (results.validation.high - results.validation.mean),
                test_pp=100 * (results.baseline.test_accuracy - at.mean),
                test=f"{100 * at.mean:.2f} [{100 * at.low:.2f}, {100 * at.high:.2f}]",
                search=format_elapsed(results.elapsed_s),
                steps=results.n_steps,
            )
        )
    return sorted(found, key=lambda row: (row.strategy, row.bound, row.seed))


def write_page(bench: Bench, runs: Sequence[FoundMapping], page: Path, args: argparse.Namespace) -> None:
    """Write the table and the chart next to it."""
    names = bench.graph.fqns
    near = [row for row in bench.known.values() if row.stage == "near"]
    everything = [row for row in bench.known.values() if row.stage == "all"]
    front = thin_front(near)
    chart = page.parent.parent / "images" / f"{page.stem}.svg"
    trained = {row.analog: retrain(bench, row.analog, args) for row in front if args.retrain and row.analog}
    write_text(chart, draw(everything, front, runs, trained.values()))
    lines = [
        f"# The exhaustive front of {args.task}, and strategies on it",
        "",
        f"All {len(everything):,} mappings at one day without retraining: {args.chips} chips and the first {args.samples} validation images each; the {len(near)} mappings whose drop was",
        f"within {args.margin:g} pp of the best mapping with as many MACs were measured again on {args.final_chips} other chips and {args.final_samples:,} images. Tile of the paper (PCM, 256 x 256), column calibration: {args.calibration}.",
        "Drops are means over chips against the digital network on the same images, with the standard error over chips and images.",
        "",
        f"![front](../images/{chart.name})",
        "",
        "*Retrained*: the same mapping after one retraining of at most 320 steps (preset `quick`), on all validation images and on test; the standard errors of the images are 0.2 to 0.3 pp.",
        "",
        "| MACs analog | drop [pp] | retrained: drop, validation [pp] | retrained: drop, test [pp] | stays digital |",
        "|---|---|---|---|---|",
    ]
    for row in front:
        digital = ", ".join(f"`{fqn}`" for fqn in names if fqn not in row.analog) or "nothing"
        if len(row.analog) == 0:
            digital = "everything"
        after = describe_retrained(trained.get(row.analog))
        lines.append(f"| {100 * row.mac_share:.1f} % | {row.drop_pp:.2f} ± {row.error_pp:.2f} | {after} | {digital} |")
    lines += [
        "",
        "Results of strategies. Drop on validation over fresh chips with the half width of its 95 % interval over chips; test was read once at the end.",
        "The mean over the deciding chips decides ([confidence levels](confidence_level.md)); times are from a shared machine. Untrained and without calibrated columns: "
        "[resnet8_front_uncalibrated.md](resnet8_front_uncalibrated.md); the greedy there: [resnet8_bounds.md](resnet8_bounds.md).",
        "",
        "| strategy | bound [pp] | MACs analog | drop, validation [pp] | test, 1 day [%] | drop, test [pp] | search | training steps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in runs:
        lines.append(
            f"| {row.strategy} | {row.bound:g} | {100 * row.mac_share:.1f} % | {row.drop_pp:.2f} ± {row.half_pp:.2f} "
            f"| {row.test} | {row.test_pp:.2f} | {row.search} | {row.steps} |"
        )
    write_text(page, "\n".join([*lines, ""]))


def describe_retrained(results: Results | None) -> str:
    """Return the two cells of a retrained mapping."""
    if results is None:
        return " | "
    at = next(row for row in results.test_over_time if row.t_inference == results.t_inference)
    return f"{results.validation_drop_pp:.2f} | {100 * (results.baseline.test_accuracy - at.mean):.2f}"


def draw(
    everything: Sequence[Measured], front: Sequence[Measured], runs: Sequence[FoundMapping], trained: Iterable[Results]
) -> str:
    """Return the chart of the drop over analog MACs: all mappings, the front, and the results of strategies."""
    x, y = LinearScale(0, 100, 60, 700), LinearScale(-1, 12, 20, 400)
    parts = [element("rect", x=0, y=0, width=940, height=450, fill="#fff")]
    for share in range(0, 101, 20):
        parts.append(_text(x(share), 425, f"{share} %", "middle"))
        parts.append(element("line", x1=x(share), x2=x(share), y1=20, y2=400, stroke="#eee"))
    for drop in range(0, 13, 2):
        parts.append(_text(52, y(drop) + 4, f"{drop} pp", "end"))
        parts.append(element("line", x1=60, x2=700, y1=y(drop), y2=y(drop), stroke="#eee"))
    parts.append(_text(380, 445, "analog share of the MACs", "middle"))
    for row in everything:
        if -1 <= row.drop_pp <= 12:
            parts.append(element("circle", cx=x(100 * row.mac_share), cy=y(row.drop_pp), r=1.6, fill="#bbb"))
    points = [(x(100 * row.mac_share), y(min(row.drop_pp, 12))) for row in front]
    parts.append(
        element(
            "polyline",
            points=" ".join(f"{a:.1f},{b:.1f}" for a, b in points),
            fill="none",
            stroke="#333",
            **{"stroke-width": "1.5"},
        )
    )
    for results in trained:
        a, b = x(100 * results.analog_mac_share), y(min(results.validation_drop_pp, 12))
        cross = f"M{a - 4:.1f},{b - 4:.1f}l8,8m0,-8l-8,8"
        parts.append(element("path", d=cross, stroke="#333", fill="none"))
    parts += [
        _text(730, 40, "all mappings, untrained", "start", "#999"),
        _text(730, 60, "front, measured again (× retrained)", "start"),
    ]
    colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b4c1e", "#999933"]
    for number, strategy in enumerate(dict.fromkeys(row.strategy for row in runs)):
        colour = colours[number % len(colours)]
        parts.append(_text(730, 80 + 20 * number, strategy, "start", colour))
        for row in runs:
            if row.strategy == strategy and row.mac_share > 0:
                parts.append(element("circle", cx=x(100 * row.mac_share), cy=y(min(row.drop_pp, 12)), r=5, fill=colour))
    size = {"viewBox": "0 0 940 450", "xmlns": "http://www.w3.org/2000/svg", "role": "img"}
    return str(element("svg", *parts, aria_label="Drop of accuracy over analog MACs", **size))


def _text(x: float, y: float, text: str, anchor: str, fill: str = "#333") -> str:
    style = {"text-anchor": anchor, "font-family": "sans-serif", "font-size": "12"}
    return element("text", text, x=x, y=y, fill=fill, **style)


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
    parser.add_argument("--retrain", action="store_true", help="retrain the mappings of the front")
    parser.add_argument("--runs", type=Path, default=None, help="folder of finished mapping runs")
    parser.add_argument("--page", type=Path, default=None, help="write the front and the runs there")
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
            bench.measure("near", row.analog, args.final_samples, args.final_chips, reference)
            bar.advance()
    if args.retrain:
        for row in thin_front([row for row in bench.known.values() if row.stage == "near"]):
            if row.analog:
                retrain(bench, row.analog, args)
    if args.page is not None:
        write_page(bench, [] if args.runs is None else read_runs(args.runs), args.page, args)


if __name__ == "__main__":
    main()
