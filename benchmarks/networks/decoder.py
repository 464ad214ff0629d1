"""A GPT-2-class decoder on tiles: the rise of perplexity of each projection alone, and mappings within bounds of perplexity.

Profiles ``text/decoder`` on the tile of decoder_tile.toml right after programming, and on the default PCM tile after a second and
a day; then maps it without retraining within 2 and 5 log-%. Finished steps are kept in --out and only read, so a
stopped run is resumed. Prints the tables of docs/results/decoder.md.

Run: python benchmarks/networks/decoder.py
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from lionheart import Task, build_task
from lionheart.jobs import Change, Profile, map_layers, profile_layers, read_settings, resume_run
from lionheart.metrics import PERPLEXITY
from lionheart.runs import Results, RunDirectory, describe_environment
from lionheart.units import format_duration, format_elapsed, format_si

TILE = Path(__file__).with_name("decoder_tile.toml")
PROFILES = {"as published": (TILE, (0.0,)), "PCM": (None, (1.0, 86_400.0))}
BOUNDS = (2.0, 5.0)
_DAY, _MONTH = 86_400.0, 2_592_000.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/decoder"), help="folder for the results of each step")
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--samples", type=int, default=32, help="sequences of validation and of test")
    parser.add_argument("--bounds", type=float, nargs="*", default=list(BOUNDS), help="in log-percent")
    arguments = parser.parse_args()
    task = build_task("text/decoder")
    some = {split: getattr(task, split).take(arguments.samples) for split in ("validation", "test")}
    task = dataclasses.replace(task, **some)
    environment = describe_environment(task.device)
    print(
        f"`python benchmarks/networks/decoder.py --chips {arguments.chips} --samples {arguments.samples}`, {environment.cpu}, "
        f"{environment.threads} thread(s), torch {environment.torch}\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    profiles = {}
    for name, (config, times) in PROFILES.items():
        out = arguments.out / f"profile-{name.replace(' ', '-')}.json"
        settings = read_settings("quick", config)
        profiles[name] = profile_layers(task, settings, times=times, n_chips=arguments.chips, out=out)
        print(f"profile {name}: {format_elapsed(time.perf_counter() - begin)} so far", flush=True)
    show_profiles(profiles)
    show_mappings([run_mapping(task, bound, arguments.chips, arguments.out) for bound in arguments.bounds])
    print(f"\n{format_elapsed(time.perf_counter() - begin)} in this call")


def run_mapping(task: Task, bound: float, n_chips: int, out: Path) -> Results:
    """Map within a bound on the default tile after a day, or read the finished mapping."""
    path = out / f"map-{bound:g}"
    if (path / "results.json").exists():
        return RunDirectory.open(path).results()
    if (path / "run.json").exists():
        return resume_run(task, path).results
    search = {
        "max_drop_pp": bound,
        "strategy": "training-free",
        "n_chips_final": n_chips,
        "report_times": (1.0, _DAY, _MONTH),
    }
    return map_layers(task, read_settings("quick", overrides={"search": search}), run_dir=path).results


def show_profiles(profiles: dict[str, Profile]) -> None:
    """Print the rise of perplexity for each projection, ordered by sensitivity on the first tile."""
    columns = [(name, i, t) for name, data in profiles.items() for i, t in enumerate(data.times)]
    print(
        "\n| projection | rows x cols | " + " | ".join(f"{name}, {format_duration(t)}" for name, _, t in columns) + " |"
    )
    print("|---|---|" + "---|" * len(columns))
    rows = {name: {row.fqn: row for row in data.projections} for name, data in profiles.items()}
    for fqn, row in next(iter(rows.values())).items():
        cells = [_write_change(rows[name][fqn].over_time[i].change) for name, i, _ in columns]
        print(f"| {fqn.removeprefix('lm.')} | {row.rows} x {row.cols} | {' | '.join(cells)} |")
    digital = next(iter(profiles.values())).digital
    print(f"\nDigital perplexity on these sequences: {PERPLEXITY.format_value(digital)}")


def _write_change(change: Change) -> str:
    return f"{change.mean:+.2f} [{change.low:+.2f}, {change.high:+.2f}]"


def show_mappings(found: Sequence[Results]) -> None:
    """Print the digital projections, the test perplexity over time, and ALPINE's time and energy, for each bound."""
    for results in found:
        placements = results.mapping.placements
        digital = [fqn.removeprefix("lm.") for fqn in placements if not results.mapping.is_analog(fqn)]
        baseline, validation = results.baseline, results.validation
        print(
            f"\nBound {results.max_drop_pp:g} log-%: {len(placements) - len(digital)} of {len(placements)} projections, "
            f"{100 * results.analog_mac_share:.1f} % of the MACs, on {results.n_tiles} tiles; digital: "
            f"{', '.join(digital) or 'none'}. Validation {PERPLEXITY.format_value(validation.mean)}, drop "
            f"{PERPLEXITY.format_drop(results.validation_drop_pp)}; search {format_elapsed(results.elapsed_s)}.\n"
        )
        print("| after | test perplexity | interval | drop |\n|---|---|---|---|")
        print(f"| digital | {PERPLEXITY.format_value(baseline.test_accuracy)} | | |")
        for each in results.test_over_time:
            drop = 100 * (baseline.test_accuracy - each.mean)
            interval = PERPLEXITY.format_interval(each.low, each.high)
            value, after = PERPLEXITY.format_value(each.mean), format_duration(each.t_inference)
            print(f"| {after} | {value} | {interval} | {PERPLEXITY.format_drop(drop, sign=True)} |")
        print("\n| platform | digital | mapped | faster | digital | mapped | saving |\n|---|---|---|---|---|---|---|")
        for row in results.system:
            whole, mapped = row.all_digital, row.mapped
            latency = f"{format_si(whole.latency_s, 's')} | {format_si(mapped.latency_s, 's')} | {row.speedup:.2f}x"
            energy = f"{format_si(whole.energy_j, 'J')} | {format_si(mapped.energy_j, 'J')} | {row.energy_gain:.2f}x"
            print(f"| {row.platform} | {latency} | {energy} |")


if __name__ == "__main__":
    main()
