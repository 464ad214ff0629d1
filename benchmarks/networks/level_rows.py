"""Table of finished `lionheart map` runs that chose a read policy for each projection: docs/results/levels.md.

With run folders as arguments, what the table needs of each run is stored in docs/results/data/levels; then the page is written
from all that is stored.

Run: python benchmarks/networks/level_rows.py RUN...
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from lionheart import LayerMapping
from lionheart.record import read_record

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
STORED = RESULTS / "data" / "levels"
INTRODUCTION = """# Networks with a read policy for each projection

Runs of `lionheart map` with the strategies `levels` and `levels-training-free` ([how they choose](../how-to/levels.md)) on
CIFAR-10. Tiles are those of the paper, PCM of 256 x 256 with 8-bit converters, with calibrated columns. The test set was read
once, after the search, on chips that decided nothing. Drops are against the digital network on the same images, one day after
programming unless noted, with 95 % intervals over chips.

`python benchmarks/networks/level_rows.py RUN...` stores finished runs and writes this page. The data are in
[docs/results/data/levels](data/levels).
"""


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the content of a file of a run."""
    found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return found


def read_run(folder: Path) -> dict[str, Any]:
    """Return what the page needs of a finished run."""
    results, run, graph = (read_json(folder, f"{name}.json") for name in ("results", "run", "graph"))
    words = shlex.split(run["command"])
    words = [word for i, word in enumerate(words) if word != "--out" and (i == 0 or words[i - 1] != "--out")]
    summary = results["summary"]
    return {
        "task": run["task"],
        "seed": run["seed"],
        "strategy": run["settings"]["search"]["strategy"],
        "levels": len(run["settings"]["search"]["levels"]),
        "command": shlex.join(words),
        "baseline": results["baseline"],
        "summary": {key: summary[key] for key in ("max_drop_pp", "analog_mac_share", "validation", "test")},
        "mapping": results["mapping"],
        "n_steps": results["n_steps"],
        "guarantee": results["guarantee"],
        "search_s": results["elapsed_s"],
        "all_s": results["final_figures_s"],
        "macs": {row["fqn"]: row["macs"] for row in graph["projections"]},
        "platforms": [read_platform(each) for each in results["system"]],
    }


def read_platform(record: dict[str, Any]) -> dict[str, Any]:
    """Return time [s] and energy [J] of an inference on a platform, and the part that read policies add to one plain read."""
    policies = [row["policy"] for row in record["layers"] if row.get("policy")]
    return {
        "platform": record["platform"],
        "n_tiles": record["n_tiles"],
        **{
            key: {
                "digital": record["all_digital"][key],
                "mapped": record["mapped"][key],
                "policies": sum(policy[key] for policy in policies),
            }
            for key in ("latency_s", "energy_j")
        },
    }


def name_of(run: dict[str, Any]) -> str:
    """Return the file name of a stored run."""
    parts = (run["task"], f"{run['summary']['max_drop_pp']:g}", run["strategy"], str(run["levels"]), str(run["seed"]))
    return re.sub(r"[^\w.-]+", "_", "-".join(parts)) + ".json"


def label(run: dict[str, Any]) -> str:
    return f"{run['task']}, {run['summary']['max_drop_pp']:g} pp, seed {run['seed']}"


def describe_retraining(run: dict[str, Any]) -> str:
    return f"{run['n_steps']:,} steps" if run["n_steps"] else "none"


def show_drop(point: dict[str, Any]) -> str:
    return f"{point['drop_pp']:.2f} [{point['drop_low_pp']:.2f}, {point['drop_high_pp']:.2f}]"


def write_accuracy(run: dict[str, Any]) -> str:
    """Return the row of a run in the table of accuracies."""
    summary, mapping, confirmed = run["summary"], read_record(LayerMapping, run["mapping"], "mapping"), run["guarantee"]
    analog = [fqn for fqn in run["macs"] if mapping.is_analog(fqn)]
    macs = sum(run["macs"][fqn] for fqn in analog)
    reads = {fqn: mapping.policy_of(fqn).n_reads or 1 for fqn in analog}
    mean = sum(reads[fqn] * run["macs"][fqn] for fqn in analog) / macs
    year = [point for point in summary["test"]["over_time"] if point["t_inference"] > 3e7]
    cells = [
        label(run),
        describe_retraining(run),
        f"{100 * summary['analog_mac_share']:.1f} %",
        f"{len(analog)} of {len(run['macs'])}",
        f"{max(reads.values())}, {mean:.1f}",
        show_drop(summary["validation"]),
        show_drop(summary["test"]),
        show_drop(year[0]) if year else "",
        str(summary["test"]["n_chips"]),
        "" if confirmed is None else "yes" if confirmed["confirmed"] else "no",
        f"{run['search_s'] / 60:.0f}, {run['all_s'] / 60:.0f} min",
    ]
    return f"| {' | '.join(cells)} |"


def write_costs(run: dict[str, Any]) -> list[str]:
    """Return the rows of a run in the table of costs."""
    rows = []
    for each in run["platforms"]:
        time, energy = each["latency_s"], each["energy_j"]
        cells = [label(run), each["platform"], str(each["n_tiles"])]
        cells += [f"{1e3 * time[key]:.3g} ms" for key in ("digital", "mapped", "policies")]
        cells += [f"{1e3 * energy[key]:.3g} mJ" for key in ("digital", "mapped", "policies")]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def write_policies(run: dict[str, Any]) -> str:
    """Return the placements of a run: each read policy with the projections that have it."""
    mapping = read_record(LayerMapping, run["mapping"], "mapping")
    texts = {fqn: str(mapping.policy_of(fqn)) if mapping.is_analog(fqn) else "digital" for fqn in run["macs"]}
    counted = Counter(texts.values())
    groups = [
        f"{text}: {', '.join(f'`{fqn}`' for fqn in texts if texts[fqn] == text)}" for text, _ in counted.most_common()
    ]
    return "\n".join([f"- **{label(run)}**", *(f"    - {group}" for group in groups)])


def table(header: str, rows: list[str]) -> str:
    return "\n".join([header, "|---" * (header.count("|") - 1) + "|", *rows])


def write_page(runs: list[dict[str, Any]]) -> str:
    """Return the page of all stored runs."""
    accuracies = table(
        "| network, bound | retraining | MACs analog | projections | reads: most, mean | drop on validation [pp] | on test "
        "| on test, 1 year | chips | confirmed | search, all |",
        [write_accuracy(run) for run in runs],
    )
    costs = table(
        "| network, bound | platform | tiles | time, digital | mapped | of it for policies | energy, digital | mapped "
        "| of it for policies |",
        [row for run in runs for row in write_costs(run)],
    )
    commands = "\n".join(f"    {run['command']}" for run in runs)
    sections = [
        INTRODUCTION,
        "## Accuracy\n",
        accuracies,
        "\n*reads: most, mean*: the largest number of reads of a projection, and the mean over analog MACs. *confirmed*: whether the "
        "hold-out test of\nthe run confirmed the bound with 95 % probability. *search, all*: on one or two threads, next to other work.\n",
        "## Time and energy of one inference\n",
        costs,
        "\n*of it for policies*: what the read policies add to one plain read of each projection.\n",
        "## Read policies\n",
        "\n".join(write_policies(run) for run in runs),
        "\n## Commands\n",
        commands,
    ]
    return "\n".join(sections) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder of a finished run to store")
    args = parser.parse_args()
    STORED.mkdir(parents=True, exist_ok=True)
    for run in map(read_run, args.runs):
        (STORED / name_of(run)).write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    stored = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(STORED.glob("*.json"))]
    (RESULTS / "levels.md").write_text(write_page(stored), encoding="utf-8")


if __name__ == "__main__":
    main()
