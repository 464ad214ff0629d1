"""Run strategies side by side on one task and write one table. Runs that are finished are only read, stopped ones go on.

A strategy may name a ranking after a colon: lionheart:random, lionheart:hessian.

Run: python benchmarks/mapping.py --strategies lionheart shared training-free --bounds 1 2 5 --seeds 0 --page docs/results/strategies.md
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lionheart.files import write_text
from lionheart.runs import RunDirectory
from lionheart.units import format_elapsed

CONFIG = Path(__file__).with_name("resnet8_bounds.toml")
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
    """Map once, going on with a run that was stopped."""
    path = args.runs / f"{args.task.replace('/', '-')}-{strategy.replace(':', '-')}-{bound}pp-seed{seed}"
    if not (path / "results.json").exists():
        name, _, ranking = strategy.partition(":")
        fresh = [args.task, "--max-drop", bound, "--strategy", name, "--seed", str(seed)]
        fresh += ["--ranking", ranking] if ranking else []
        fresh += ["--config", str(args.config), "--out", str(path)]
        resumed = ["--resume", str(path)]
        command = [sys.executable, "-m", "lionheart", "map", *(resumed if (path / "run.json").exists() else fresh)]
        done = subprocess.run(command, check=False)  # noqa: S603  our own command
        if done.returncode not in (0, 3):
            raise SystemExit(done.returncode)
    return RunDirectory.open(path)


def describe(bound: str, strategy: str, seed: int, run: RunDirectory) -> str:
    """Return the row of a run."""
    results = run.read("results.json")
    at = next(row for row in results["test_over_time"] if row["t_inference"] == results["t_inference"])
    decisions = results["decisions"]
    trained = [decision for decision in decisions if decision["train"]["n_steps"]]
    cells = [
        bound,
        strategy,
        str(seed),
        f"{100 * results['analog_mac_share']:.1f} %",
        f"{100 * results['analog_weight_share']:.1f} %",
        f"{results['validation']['drop_pp']:.2f}",
        f"{100 * at['mean']:.2f} [{100 * at['low']:.2f}, {100 * at['high']:.2f}]",
        f"{100 * (results['baseline']['test_accuracy'] - at['mean']):.2f}",
        format_elapsed(results["elapsed_s"]),
        str(len(trained)),
        str(results["n_steps"]),
        str(count_evaluations(run, decisions)),
    ]
    return f"| {' | '.join(cells)} |"


def count_evaluations(run: RunDirectory, decisions: list[dict[str, Any]]) -> int:
    """Return how many chips were evaluated on the samples that decide, the measurement of sensitivity left out."""
    n_chips = run.description()["settings"]["search"]["n_chips"]
    return n_chips * sum(1 + decision.get("n_remeasured", 0) for decision in decisions)


def all_runs(args: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    yield from itertools.product(args.bounds, args.strategies, args.seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="cifar10/resnet8")
    parser.add_argument("--strategies", nargs="+", default=["lionheart", "shared", "training-free"])
    parser.add_argument("--bounds", nargs="+", default=["1", "2", "5"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--runs", type=Path, default=Path("runs/strategies"))
    parser.add_argument("--page", type=Path, default=None, help="write the table there instead of printing it")
    args = parser.parse_args()
    rows, environment = [], {}
    for bound, strategy, seed in all_runs(args):
        run = map_once(args, bound, strategy, seed)
        environment = run.description()["environment"]
        rows.append(describe(bound, strategy, seed, run))
    command = shlex.join(["python", "benchmarks/mapping.py", *sys.argv[1:]])
    page = "\n".join(
        [
            f"# Strategies on {args.task}",
            "",
            "Effort `quick`; accuracies are means over 20 fresh chips with their 95 % intervals; validation decided, test was read once at the end.",
            f"Made by `{command}` on {environment.get('cpu')}, {environment.get('threads')} thread(s), torch {environment.get('torch')}.",
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|---" * len(COLUMNS) + "|",
            *rows,
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
