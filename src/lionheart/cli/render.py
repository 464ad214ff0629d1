"""Tables that several commands print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lionheart.cli.console import make_table, stderr
from lionheart.units import format_count, format_duration, format_si

if TYPE_CHECKING:
    from lionheart.metrics import Metric
    from lionheart.runs import Accuracy
    from lionheart.runs.costs import SystemRecord


def show_accuracy(points: Sequence[Accuracy], title: str, confidence: float, metric: Metric) -> None:
    """Print a table with the task's metric and its confidence interval at each time after programming.

    Args:
        points: Scores over chips, one object for each time.
        title: Title of the table.
        confidence: Coverage probability of the intervals.
        metric: Metric of the task.
    """
    table = make_table(
        title, "time", metric.name, f"{100 * confidence:g} % interval", "std. dev.", "worst chip", "chips",
        right=(metric.name, "std. dev.", "worst chip", "chips"),
    )  # fmt: skip
    for point in points:
        table.add_row(
            format_duration(point.t_inference),
            metric.format_value(point.mean),
            metric.format_interval(point.low, point.high).replace("[", r"\["),
            f"± {metric.format_drop(100 * point.std)}",
            metric.format_value(min(point.scores)),
            str(point.n_chips),
        )
    stderr.print(table)
    if metric.rises_with_drop:
        stderr.print(metric.explain_drop(), markup=False)


def show_system(estimates: Sequence[SystemRecord]) -> None:
    """Print latency and energy of one inference of the all-digital and the mapped network on each platform."""
    table = make_table(
        "latency and energy of one inference",
        "platform", "digital", "mapped", "faster", "digital ", "mapped ", "saving", "tiles",
        right=("digital", "mapped", "faster", "digital ", "mapped ", "saving", "tiles"),
    )  # fmt: skip
    for row in estimates:
        table.add_row(
            row.platform,
            format_si(row.all_digital.latency_s, "s"),
            format_si(row.mapped.latency_s, "s"),
            f"{row.speedup:.2f}×",
            format_si(row.all_digital.energy_j, "J"),
            format_si(row.mapped.energy_j, "J"),
            f"{row.energy_gain:.2f}×",
            str(row.n_tiles),
        )
    stderr.print(table)
    for row in estimates:
        for line in _describe_programming(row):
            stderr.print(line, markup=False)


def _describe_programming(row: SystemRecord) -> list[str]:
    """Return lines of text on missing tiles and on the cost of programming, if `row` contains these results."""
    lines, cost = [], row.programming
    if row.tiles_missing:
        lines.append(
            f"{row.platform} has {row.tiles_missing} tile{'' if row.tiles_missing == 1 else 's'} too few for this mapping"
        )
    if cost is not None and cost.n_devices:
        text = cost.reason_unknown
        if cost.time_s is not None and cost.energy_j is not None:
            after = cost.break_even_energy
            paid = (
                "the mapping saves no energy"
                if after is None
                else f"repaid by the energy saved in {format_count(after)} inferences"
            )
            text = f"{format_si(cost.time_s, 's')}, {format_si(cost.energy_j, 'J')}; {paid}"
        lines.append(f"programming the tiles once, {row.platform}: {text}")
    return lines
