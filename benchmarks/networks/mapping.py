"""Run several strategies on one task and write one table. Finished runs are only read, stopped runs are resumed.

A strategy may have a ranking after a colon, and after an @ a settings file instead of that of --config:
lionheart:random, training-free@benchmarks/networks/resnet_ours.toml. For each bound and seed strategies run one after the other.

Run: python benchmarks/networks/mapping.py --strategies lionheart training-free@benchmarks/networks/resnet_ours.toml --bounds 2 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from lionheart.candidates import GraphRecord
from lionheart.data import count_samples
from lionheart.files import write_text
from lionheart.jobs import MapSettings, read_settings
from lionheart.progress import SILENT
from lionheart.runs import Decision, RunDirectory
from lionheart.scripts import load_task
from lionheart.units import format_elapsed

CONFIG = Path(__file__).parents[1] / "studies" / "resnet8_bounds.toml"
COLUMNS = (
    "bound [pp]",
    "strategy",
    "seed",
    "MACs analog",
    "weights analog",
    "validation drop, 1 day [pp]",
    "test, 1 day [%]",
    "test drop [pp]",
    "search",
    "retrainings",
    "training steps",
    "chip evaluations",
)


def map_once(args: argparse.Namespace, bound: str, strategy: str, seed: int) -> RunDirectory:
    """Map once; a stopped run is resumed."""
    searched, _, config = strategy.partition("@")
    label = f"{searched}-{Path(config).stem}" if config else searched
    path = args.runs / f"{args.task.replace('/', '-')}-{label.replace(':', '-')}-{bound}pp-seed{seed}"
    if not (path / "results.json").exists():
        name, _, ranking = searched.partition(":")
        fresh = [
            args.task,
            "--max-drop",
            bound,
            "--set",
            f"search.strategy={name}",
            "--seed",
            str(seed),
            "--preset",
            args.preset,
        ]
        fresh += ["--set", f"search.ranking={ranking}"] if ranking else []
        fresh += ["--config", config or str(args.config), "--out", str(path)]
        resumed = [args.task, "--resume", str(path)]
        command = [sys.executable, "-m", "lionheart", "map", *(resumed if (path / "run.json").exists() else fresh)]
        done = subprocess.run(command, check=False)  # noqa: S603  our own command
        if done.returncode not in (0, 3):
            raise SystemExit(done.returncode)
    return RunDirectory.open(path)


def describe(bound: str, strategy: str, seed: int, run: RunDirectory) -> str:
    """Return the row of a run."""
    results = run.results()
    at = next(row for row in results.test_over_time if row.t_inference == results.t_inference)
    trained = [decision for decision in results.decisions if decision.train.n_steps]
    cells = [
        bound,
        strategy,
        str(seed),
        f"{100 * results.analog_mac_share:.1f} %",
        f"{100 * results.analog_weight_share:.1f} %",
        f"{results.validation_drop_pp:.2f}",
        f"{100 * at.mean:.2f} [{100 * at.low:.2f}, {100 * at.high:.2f}]",
        f"{100 * (results.baseline.test_accuracy - at.mean):.2f}",
        format_elapsed(results.elapsed_s),
        str(len(trained)),
        str(results.n_steps),
        str(count_evaluations(run, results.decisions)),
    ]
    return f"| {' | '.join(cells)} |"


def count_evaluations(run: RunDirectory, decisions: Sequence[Decision]) -> int:
    """Return the number of chips evaluated on the deciding samples, without the sensitivity measurement."""
    n_chips = MapSettings.from_json(run.description().settings).search.n_chips
    return n_chips * sum(1 + decision.n_remeasured for decision in decisions)


def describe_reference(run: RunDirectory) -> str:
    """Return the work of the reference algorithm on the network of a run, by its own protocol."""
    candidates = [each for each in run.read("graph.json", GraphRecord).candidates if each.mappable]
    paper = read_settings("paper")
    task = load_task(run.description().task, SILENT)
    n, n_steps = len(candidates), len(task.train_batches)
    fewest, most = (paper.train.patience or 0) + 1, paper.train.max_epochs
    return (
        f"The reference algorithm's own protocol on this network: {n} retrainings of {fewest} to {most} epochs of {n_steps} steps, "
        f"{n * fewest * n_steps:,} to {n * most * n_steps:,} steps in all, and {n * paper.search.n_chips} evaluations of a chip on "
        f"{count_samples(task.validation):,} validation samples."
    )


def all_runs(args: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    for bound, seed, strategy in itertools.product(args.bounds, args.seeds, args.strategies):
        yield bound, strategy, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="cifar10/resnet8")
    parser.add_argument("--strategies", nargs="+", default=["lionheart", "shared", "training-free"])
    parser.add_argument("--bounds", nargs="+", default=["1", "2", "5"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--runs", type=Path, default=Path("runs/strategies"))
    parser.add_argument("--page", type=Path, default=None, help="write the table to this file instead of printing it")
    args = parser.parse_args()
    rows, machine = [], ""
    for bound, strategy, seed in all_runs(args):
        run = map_once(args, bound, strategy, seed)
        description = run.description()
        environment = description.environment
        if environment is not None:
            machine = f"{environment.cpu}, {environment.threads} thread(s), torch {environment.torch}"
        rows.append(describe(bound, strategy, seed, run))
    command = shlex.join(["python", "benchmarks/networks/mapping.py", *sys.argv[1:]])
    page = "\n".join(
        [
            f"# Strategies on {args.task}",
            "",
            f"Preset `{args.preset}`; accuracies are means over {MapSettings.from_json(description.settings).search.n_chips_final} fresh chips with their "
            "95 % intervals over chips; decisions use validation, test was read once at the end.",
            f"Made by `{command}` on {machine}.",
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|---" * len(COLUMNS) + "|",
            *rows,
            "",
            describe_reference(run),
            "",
        ]
    )
    if args.page is None:
        print(page)
    else:
        write_text(args.page, page)
        print(f"wrote {args.page}")


if __name__ == "__main__":
    main()
