"""Measure rows of the tables of results and write docs/results/networks; finished rows are kept, a stopped row is resumed.

The rows are in benchmarks/networks/results.toml, published numbers in benchmarks/networks/published.toml. Each row's data go to
docs/results/data/NETWORK/BOUND.json, its search to a folder below runs/results.

Run: make results                              all missing rows
     make results ROW=cifar10/resnet20@1       one row
     make results NETWORK=resnet20 AGAIN=1     all rows of a network, including finished rows; prints differences
     make results NETWORK=vgg16 DEVICE=cuda    on a GPU
     make results RENDER=1                     rewrites the pages from the data, without measurements
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from results_data import RowData, data_path, read_row
from results_pages import render_pages
from results_plan import Row, read_plan, select_rows
from results_rows import Bench

from lionheart.errors import LionHeartError
from lionheart.files import write_json
from lionheart.progress import Progress
from lionheart.scripts import EXIT_BAD_INPUT, EXIT_DONE, EXIT_INTERRUPTED, RichProgress, load_task

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "docs" / "results"


def find_missing(rows: Sequence[Row], data: Path, progress: Progress) -> list[Row]:
    """Return the rows without data, and the rows measured with other settings."""
    missing = []
    for row in rows:
        path = data_path(data, row)
        if not path.exists():
            missing.append(row)
        elif read_row(path).row != row:
            progress.note(f"{row.name}: its data were measured with other settings; the row is measured again")
            missing.append(row)
    return missing


def measure_rows(rows: Sequence[Row], args: argparse.Namespace, plan: Sequence[Row], progress: Progress) -> list[str]:
    """Measure rows, write data and pages after each row, and return the faults of rows that failed."""
    faults: list[str] = []
    numbers = {row.name: number for number, row in enumerate(rows, start=1)}
    for task_name, group in itertools.groupby(rows, key=lambda row: row.task):
        try:
            task = load_task(task_name, progress, args.device)
        except LionHeartError as error:  # missing weights of one network do not stop the others
            faults.append(f"{task_name}: {error}")
            continue
        bench = Bench(task, args.runs / "again" if args.again else args.runs, progress)
        for row in group:
            progress.note(f"row {numbers[row.name]} of {len(rows)}: {row.name}")
            try:
                found = bench.measure(row)
            except LionHeartError as error:
                faults.append(f"{row.name}: {error}")
                continue
            path = data_path(args.data, row)
            if path.exists():
                progress.note(f"{row.name}: {compare_rows(read_row(path), found)}")
            write_json(path, found.to_json())
            render_pages(plan, args.data, args.pages, args.published)
    return faults


def compare_rows(before: RowData, now: RowData) -> str:
    """Return the differences between old and new data of a row in words."""
    if before.digital != now.digital:
        return f"another mapping than before: digital were {list(before.digital)}, are {list(now.digital)}"
    old, new = ({at.t_inference: at.mean for at in each.test_over_time} for each in (before, now))
    largest = max((100 * abs(new[t] - old[t]) for t in new if t in old), default=0.0)
    return f"the same mapping as before; mean accuracies over time differ by {largest:.2g} pp at most"


def run(args: argparse.Namespace, progress: Progress) -> int:
    """Execute the command line arguments and return the exit code."""
    plan = read_plan(args.plan)
    rows = select_rows(plan, args.rows, args.network)
    faults: list[str] = []
    if not args.render:
        wanted = rows if args.again else find_missing(rows, args.data, progress)
        progress.note(
            f"{len(wanted)} of {len(rows)} rows to measure" + ("" if wanted else "; AGAIN=1 measures them again")
        )
        faults = measure_rows(wanted, args, plan, progress)
    for path in render_pages(plan, args.data, args.pages, args.published):
        progress.note(f"wrote {path}")
    for fault in faults:
        progress.note(f"error: not measured: {fault}")
    return EXIT_BAD_INPUT if faults else EXIT_DONE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="TASK@BOUND or TASK@BOUND:STRATEGY; none = all")
    parser.add_argument("--network", help="only rows of this task, by its name or the last part of it")
    parser.add_argument(
        "--again",
        action="store_true",
        help="also measure finished rows, in RUNS/again; remove this folder to repeat them once more",
    )
    parser.add_argument("--render", action="store_true", help="write the pages from the data, measure nothing")
    parser.add_argument("--device", help="cpu, cuda or auto, as for lionheart map")
    parser.add_argument("--plan", type=Path, default=HERE / "results.toml")
    parser.add_argument("--published", type=Path, default=HERE / "published.toml")
    parser.add_argument("--runs", type=Path, default=Path("runs/results"))
    parser.add_argument("--data", type=Path, default=RESULTS / "data")
    parser.add_argument("--pages", type=Path, default=RESULTS / "networks")
    args = parser.parse_args()
    progress = RichProgress()
    try:
        code = run(args, progress)
    except LionHeartError as error:
        progress.note(f"error: {error}")
        code = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        progress.note("stopped. The same command continues.")
        code = EXIT_INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
