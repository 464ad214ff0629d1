"""Renders docs/results/networks from measured rows and published numbers; nothing is measured here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results_data import Figure, Published, PublishedResult, RowData, data_path, read_published, read_row
from results_plan import Row, slug

from lionheart.files import write_text
from lionheart.units import format_count, format_duration, format_elapsed, format_si

NOT_PRINTED = "not printed"
_Z = 1.96  # half width of a 95 % interval of a normal distribution, in standard deviations


def render_pages(plan: Sequence[Row], data_folder: Path, pages: Path, published: Path) -> list[Path]:
    """Write the page of each network with data, and the overview of all networks; return the written files."""
    printed = read_published(published)
    written, found = [], {}
    for task in dict.fromkeys(row.task for row in plan):
        rows = [row for row in plan if row.task == task]
        found[task] = [read_row(path) for row in rows if (path := data_path(data_folder, row)).exists()]
        if found[task]:
            done = {each.name for each in found[task]}
            missing = [row.name for row in rows if row.name not in done]
            written.append(pages / f"{slug(task)}.md")
            write_text(written[-1], render_network(task, found[task], missing, printed))
    written.append(pages / "README.md")
    write_text(written[-1], render_overview(found, printed))
    return written


# ------------------------------------------------------------------------------------------------------ one network


def render_network(task: str, rows: Sequence[RowData], missing: Sequence[str], printed: Published) -> str:
    """Return the page of a network."""
    first = rows[0]
    seeds = ", ".join(str(seed) for seed in sorted({each.row.seed for each in rows}))
    presets = ", ".join(dict.fromkeys(f"`{each.row.preset}`" for each in rows))
    at = ", ".join(dict.fromkeys(format_duration(each.row.at) for each in rows))
    excluded = list(dict.fromkeys(f"`{rule}`" for each in rows for rule in each.row.exclude))
    lines = [
        f"# {task} on tiles",
        "",
        f"Float: {_percent(first.baseline.validation_accuracy)} % on validation, "
        f"{_percent(first.baseline.test_accuracy)} % on test. {first.n_projections} projections, "
        f"{format_count(first.macs)}MACs an inference. Bound at {at} after programming, preset {presets}, seed {seeds}.",
        "Accuracies are means over fresh chips with their 95 % intervals over chips; a drop is against the digital network on "
        "the same images.",
        "Decisions use validation; test was read once after the search. *training-free* does not retrain; the preset `robust` "
        "calibrates "
        "columns on each chip ([reason and cost](../../adr/0016-column-calibration.md)).",
        *([f"Kept digital by choice: {', '.join(excluded)}."] if excluded else []),
        "",
        f"Each row has a command, for example `{first.command}` (with `AGAIN=1` also for a measured row); the same "
        f"search without the tables is `{first.map_command}`. The data are in [docs/results/data](../data/{slug(task)}).",
        *([f"Not measured yet: {', '.join(f'`{name}`' for name in missing)}."] if missing else []),
        *([printed.more[task]] if task in printed.more else []),
        "",
        "## Mappings",
        "",
        *_mapping_table(rows),
        "",
        *_image_note(rows),
        "",
        "## Test accuracy over time [%], with the standard deviation over chips",
        "",
        *_time_table(rows),
        "",
        "## Time and energy of one inference against all-digital",
        "",
        *_cost_table(rows),
        "",
        "## Projections that stayed digital within the search",
        "",
        *_table(["bound [pp]", "strategy", "digital"], [[*_label(each), _names(each.digital)] for each in rows]),
        "",
        *_published_section(task, printed),
        "## Environment",
        "",
        *dict.fromkeys(f"- {_environment(each)}" for each in rows),
        "",
    ]
    return "\n".join(lines)


def _mapping_table(rows: Sequence[RowData]) -> list[str]:
    columns = [
        "bound [pp]",
        "strategy",
        "MACs analog",
        "weights analog",
        "projections",
        "tiles",
        "drop, validation [pp]",
    ]
    columns += [
        "test [%]",
        "drop, test [pp]",
        "chips",
        "images",
        "retrained, digital [%]",
        "steps",
        "search",
        "figures",
    ]
    with_excluded = any(each.excluded for each in rows)
    if with_excluded:
        columns.insert(3, "of the candidates' MACs")
    lines = []
    for each in rows:
        cells = [*_label(each), _share(each.analog_mac_share)]
        cells += [_share(each.analog_mac_share_of_candidates)] if with_excluded else []
        n_analog = each.n_candidates - len(each.digital)
        cells += [_share(each.analog_weight_share), f"{n_analog} of {each.n_candidates}", str(each.n_tiles)]
        cells += [f"{each.validation.drop_pp:.2f}", _interval(each.test), f"{each.test.drop_pp:.2f}"]
        cells += [str(each.test.n_chips), f"{each.test.n_samples:,}"]
        cells += [_percent(each.retrained_digital_accuracy) if each.n_steps else "", f"{each.n_steps:,}"]
        lines.append([*cells, format_elapsed(each.search_s), format_elapsed(each.figures_s)])
    return _table(columns, lines)


def _image_note(rows: Sequence[RowData]) -> list[str]:
    n_samples = sorted({each.validation.n_samples for each in rows})
    images = " or ".join(f"{n:,}" for n in n_samples)
    widest = max(_sampling_pp(each.test) for each in rows)
    return [
        f"Drops on validation are measured on the first {images} images and on chips that were not used in decisions. A bound "
        "holds for the "
        "mean over the chips and images of the decisions; other chips and images may "
        "exceed it by some tenths ([confidence levels]"
        "(../confidence_level.md)). The "
        f"intervals cover chips only; the number of images adds an uncertainty of up to {widest:.1f} pp to the accuracy, "
        "less to a drop. "
        "*figures*: time of the accuracy measurements; bit-identical mappings share them, and searches share the "
        "measured sensitivities.",
    ]


def _time_table(rows: Sequence[RowData]) -> list[str]:
    times = list(dict.fromkeys(at.t_inference for each in rows for at in each.test_over_time))
    columns = ["bound [pp]", "strategy", "digital, same images", *map(format_duration, times), "chips", "images"]
    lines = []
    for each in rows:
        at = {point.t_inference: point for point in each.test_over_time}
        first = each.test_over_time[0]
        cells = [f"{_interval(at[t])}, ± {100 * at[t].std:.2f}" if t in at else "" for t in times]
        lines.append(
            [
                *_label(each),
                _percent(first.digital_accuracy),
                *cells,
                str(first.n_chips),
                f"{first.n_samples:,}",
            ]
        )
    return _table(columns, lines)


def _cost_table(rows: Sequence[RowData]) -> list[str]:
    columns = [
        "bound [pp]",
        "strategy",
        "platform",
        "time",
        "all-digital",
        "faster",
        "energy",
        "all-digital",
        "less energy",
    ]
    lines = [
        [
            *_label(each),
            cost.platform,
            format_si(cost.mapped.latency_s, "s"),
            format_si(cost.all_digital.latency_s, "s"),
            f"{cost.speedup:.2f}×",
            format_si(cost.mapped.energy_j, "J"),
            format_si(cost.all_digital.energy_j, "J"),
            f"{cost.energy_gain:.2f}×",
        ]
        for each in rows
        for cost in each.system
    ]
    return _table(columns, lines)


def _published_section(task: str, printed: Published) -> list[str]:
    results = [each for each in printed.results if each.task == task]
    if not results:
        return []
    return [
        "## Published",
        "",
        "The published results use other float networks and no column calibration.",
        "",
        *_table(
            ["source", "method", "float [%]", "MACs analog [%]", "accuracy [%]", "drop [pp]", ""],
            map(_printed, results),
        ),
        "",
        *_sources(results, printed),
        "",
    ]


# ---------------------------------------------------------------------------------------------------------- overview


def render_overview(found: Mapping[str, Sequence[RowData]], printed: Published) -> str:
    """Return the overview page of all networks: published and measured results."""
    columns = ["network", "from", "method", "float [%]", "MACs analog [%]", "accuracy [%]", "drop [pp]", "note"]
    lines = []
    for task, rows in found.items():
        name = f"[{task}]({slug(task)}.md)" if rows else task
        lines += [[name, *_printed(each)] for each in printed.results if each.task == task]
        lines += [[name, *_ours(each)] for each in rows]
        if not rows:
            lines.append([name, "here", "", "", "", "", "", "not measured yet"])
    used = [each for each in printed.results if each.task in found]
    return "\n".join(
        [
            "# Published and measured here",
            "",
            "Test accuracy of mapped networks. *here*: mean over fresh chips with its 95 % interval, one day after programming "
            "unless noted, with columns calibrated on each chip, which the published results do not use; drops are against the "
            "digital network on the same images. The drop of a published result is the printed float accuracy minus the printed "
            "accuracy. Float networks differ, so drops are more comparable than accuracies. Each network's page has the other times, time "
            "and energy, and the commands.",
            "",
            *_table(columns, lines),
            "",
            *_sources(used, printed),
            "",
            "`make results` measures the missing rows of [benchmarks/networks/results.toml](../../../benchmarks/networks/results.toml), "
            "`make results RENDER=1` rewrites these pages from the data.",
            "",
        ]
    )


def _ours(each: RowData) -> list[str]:
    row, test = each.row, each.test
    note = [] if row.at == 86_400.0 else [f"at {format_duration(row.at)}"]
    note += [f"{', '.join(f'`{rule}`' for rule in row.exclude)} digital"] if row.exclude else []
    note += ["no projection within the bound"] if each.outcome == "infeasible" else []
    drop, macs = f"{test.drop_pp:.2f}", f"{100 * each.analog_mac_share:.1f}"
    method = f"{row.strategy}, bound {row.bound:g} pp"
    return ["here", method, _percent(test.digital_accuracy), macs, _interval(test), drop, "; ".join(note)]


def _printed(each: PublishedResult) -> list[str]:
    """Return the cells of a published result, with "not printed" for missing values."""
    full, mapped = each.float_accuracy, each.accuracy
    cells = [NOT_PRINTED if value is None else f"{value:g}" for value in (full, each.analog_macs, mapped)]
    drop = "" if full is None or mapped is None else f"{full - mapped:.2f}"
    return [f"{each.source}", each.method, *cells, drop, each.note]


def _sources(results: Sequence[PublishedResult], printed: Published) -> list[str]:
    return [
        f"- *{name}*: {text}" for name, text in printed.sources.items() if name in {each.source for each in results}
    ]


# ------------------------------------------------------------------------------------------------------------- cells


def _label(each: RowData) -> tuple[str, str]:
    return f"{each.row.bound:g}", each.row.strategy


def _names(fqns: Sequence[str]) -> str:
    return ", ".join(f"`{fqn}`" for fqn in fqns) or "none"


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(each: Figure) -> str:
    return f"{_percent(each.mean)} [{_percent(each.low)}, {_percent(each.high)}]"


def _sampling_pp(each: Figure) -> float:
    """Return the half width of the 95 % interval of an accuracy due to the number of images [pp]."""
    return 100 * _Z * math.sqrt(each.mean * (1 - each.mean) / each.n_samples)


def _environment(each: RowData) -> str:
    found = each.environment
    parts = [found.cpu, f"{found.threads} thread(s)", found.gpu, f"torch {found.torch}"]
    return ", ".join(str(part) for part in (*parts, f"lionheart {found.lionheart}") if part)


def _table(columns: Sequence[str], lines: Any) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *(f"| {' | '.join(cells)} |" for cells in lines)]
